"""What is declared, what is pinned and what is shipped agree."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if not line.startswith("#")]
    assert all(matches), "every line is one exact version: no host, no option, no hash"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def closure(wanted: list[str]) -> dict[str, set[str]]:
    """Every distribution that the wanted ones bring, with the ranges asked of it; what is installed tells."""
    ranges: dict[str, set[str]] = {}
    ahead = [(Requirement(text), "") for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while ahead:
        asked, extra = ahead.pop()
        if asked.marker and not asked.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(asked.name)
        ranges.setdefault(name, set()).add(str(asked.specifier))
        if (name, frozenset(asked.extras)) in seen:
            continue
        seen.add((name, frozenset(asked.extras)))
        try:
            below = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of [dev], which a newcomer does not install: its pin is held against its range alone
        ahead += [(Requirement(text), one) for text in below for one in ("", *asked.extras)]
    return ranges


def declared() -> list[str]:
    extras = project()["optional-dependencies"]
    return [*project()["dependencies"], *(line for lines in extras.values() for line in lines)]


def test_every_library_that_can_come_in_is_pinned_within_its_range() -> None:
    pinned = pins()
    for name, ranges in closure(declared()).items():
        assert name in pinned, f"{name} comes in without an exact version"
        for text in ranges:
            assert Requirement(f"{name}{text}").specifier.contains(pinned[name], prereleases=True), name


def test_what_runs_here_is_what_is_pinned() -> None:
    pinned = pins()
    extras = project()["optional-dependencies"]
    for name in closure([*project()["dependencies"], *extras["docker"], *extras["test"]]):
        assert importlib.metadata.version(name) == pinned[name]


def test_core_stays_small() -> None:
    assert len(closure(project()["dependencies"])) <= 25


@pytest.mark.slow
@pytest.mark.need("network")
def test_the_wheel_brings_trainers_images_and_profiles(tmp_path: Path) -> None:
    if shutil.which("uv"):
        command = ["uv", "build", "--wheel", "--out-dir"]
    else:
        command = [sys.executable, "-I", "-m", "pip", "wheel", "--no-deps", "--wheel-dir"]
    done = subprocess.run([*command, tmp_path, "."], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("launcher-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name.split("/")[2] for name in names if name.startswith("launcher/shipped/")}
    assert shipped == {"trainers", "images", "profiles", "docs"}
    assert "launcher/shipped/trainers/quickstart/trainer.yaml" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"launcher"}
    assert not [name for name in names if "__pycache__" in name]
