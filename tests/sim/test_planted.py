"""The simulator finds what it is for: each planted bug, within a thousand seeds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTED = sorted((Path(__file__).parent / "planted").glob("*.patch"))
SEEDS = 1000
LEAST = 10


def test_there_are_enough_of_them() -> None:
    assert len(PLANTED) >= LEAST


@pytest.mark.parametrize("patch", PLANTED, ids=[patch.stem for patch in PLANTED])
def test_a_planted_bug_is_found(patch: Path, tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "launcher", tmp_path / "launcher", ignore=leave)
    shutil.copytree(ROOT / "tests" / "sim", tmp_path / "tests" / "sim", ignore=leave)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),  # no repository around it may have a say
    }
    applied = subprocess.run(
        ["git", "apply", str(patch)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert applied.returncode == 0, f"{patch.name} no longer fits the program: {applied.stderr}"
    hunt = subprocess.run(
        [sys.executable, "-m", "tests.sim.hunt", str(SEEDS)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert hunt.returncode == 0, hunt.stderr
    answer = json.loads(hunt.stdout)
    assert Path(answer["program"]).is_relative_to(tmp_path), "another program was run"
    assert answer["seed"] is not None, f"{SEEDS} seeds did not find {patch.stem}"
    print(f"{patch.stem}: seed {answer['seed']}: {answer['violation']}")
