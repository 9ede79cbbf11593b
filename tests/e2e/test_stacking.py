"""The stacking trainer in an environment of its own: its results, its end halfway, its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from launcher.agent.envs import Order, make
from launcher.agent.reqset import read
from trainers.stacking.command import arguments

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "trainers" / "stacking"
EXPECTED: dict[str, Any] = json.loads((TRAINER / "expected.json").read_text())
TASKS = ("classifier", "up", "down", "high")
# What would change a training, and what would make every start of it compile the learners anew.
NOT_PASSED = ("LAUNCHER_", "DEVICE", "USE_GPU", "RETRAINING_", "PYTHONDONTWRITEBYTECODE")


def trainer(python: str, *argv: str, **environ: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED)}
    return subprocess.Popen(
        [python, "-m", "trainers.stacking", *argv],
        cwd=ROOT, env=kept | environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def train(python: str, *argv: str, status: int = 0, **environ: str) -> str:
    with trainer(python, *argv, **environ) as running:
        said, _ = running.communicate(timeout=110)
    assert running.returncode == status, said
    return said


def held(path: Path) -> Any:
    return json.loads(path.read_text())


# what needs no environment


def test_the_recipe_and_the_command_line_say_the_same() -> None:
    recipe = YAML(typ="safe").load((TRAINER / "trainer.yaml").read_text())
    flags = arguments()
    for name, wanted in recipe["args"].items():
        dashed = f"--{name.replace('_', '-')}"
        assert vars(flags.read([]))[name] == wanted.get("default")
        for choice in wanted.get("choices", ()):
            assert vars(flags.read([dashed, choice]))[name] == choice
        for bound, beyond in (("min", -1), ("max", 1)):
            if bound not in wanted:
                continue
            assert vars(flags.read([dashed, str(wanted[bound])]))[name] == wanted[bound]
            with pytest.raises(SystemExit):
                flags.read([dashed, str(wanted[bound] + beyond)])
    for path in recipe["push"]:
        assert (ROOT / path).exists()
    assert recipe["seed"] == EXPECTED["seed"]


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--round", "3"], {}, "did you mean --rounds"),
        ([], {}, "--output DIR"),
        (["--output", "x"], {"LAUNCHER_SEED": "seven"}, "LAUNCHER_SEED=seven"),
        (["--output", "x", "--target", "won"], {}, "say with --task"),
        (["--output", "x", "--data", "no.csv"], {}, "--data no.csv: there is no such file"),
        (["--output", "x", "--folds", "1"], {}, "1 is not between 2 and 50"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_heavy_is_loaded(
    argv: list[str], environ: dict[str, str], words: str
) -> None:
    assert words in train(sys.executable, *argv, status=2, **environ)  # which has no learner at all


# in its own environment


@pytest.fixture(scope="module")
def python() -> str:
    """Kept between test runs: an environment is named by what is in it."""
    wanted = read(TRAINER / "requirements.txt", None)
    return make(Order(wanted, sys.executable, ROOT / "build" / "test-envs"), print).python


@pytest.fixture(scope="module")
def undisturbed(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    train(python, "--output", str(output), *EXPECTED["arguments"])
    return output


@pytest.mark.need("network")
@pytest.mark.slow
def test_the_sample_gives_what_is_expected(undisturbed: Path) -> None:
    result = held(undisturbed / "result.json")
    for name, expected in EXPECTED["metrics"].items():
        assert result["metrics"][name] == pytest.approx(expected["value"], abs=expected["within"])
    assert result["device"]["used"] == "cpu"
    line = "XGBoost on cpu (no GPU seen), LightGBM on cpu (no OpenCL device), forest and ridge on cpu"
    assert line in (undisturbed / "training.log").read_text()
    for task in TASKS:
        for name, learner in result["learners"][task].items():
            assert name == "stack" or learner["in_stack"] is not None
