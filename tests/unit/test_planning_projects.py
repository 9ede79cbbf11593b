"""What a plan makes of a project of one's own: its command, output, inputs and code; and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher import jobs
from launcher.errors import Exit, LauncherError
from launcher.models import RuntimeKind
from launcher.settings import Settings
from tests.unit.nobodys import open_folder, somebody
from tests.unit.planned import decided, project, refused, small_place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return small_place(tmp_path)


def test_a_project_of_ones_own_runs_in_the_callers_environment_here(place: Path) -> None:
    folder = project(place)
    (folder / "requirements.txt").write_text("numpy\n")
    plan = decided(place, None, ("python", "train.py"), project=str(folder), output="out/best").plan
    assert (plan.run, plan.label, plan.trainer, plan.project) == (
        "my-project-abcd",
        "my-project",
        None,
        str(folder),
    )
    assert (plan.job.argv, plan.job.output, plan.job.push) == (("python", "train.py"), "out/best", None)
    assert (plan.choices[0].runtime.requirements, plan.choices[0].runtime.prepare_s) == (None, 0)
    wanted = decided(
        place,
        None,
        ("python", "train.py"),
        project=str(folder),
        requirements="requirements.txt",
        setup="make deps",
    ).plan.choices[0]
    assert (wanted.runtime.requirements, wanted.runtime.setup) == ("requirements.txt", ("make", "deps"))


def test_elsewhere_its_own_description_is_used(place: Path) -> None:
    folder = project(place)
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (folder / "requirements.txt").write_text("numpy\n")
    others = decided(place, None, ("python", "train.py"), project=str(folder)).others
    assert {choice.runtime.requirements for choice in others} == {"requirements.txt"}
    bare = decided(place, None, ("python", "train.py"), project=str(folder), no_image=True).others
    assert {choice.runtime.kind for choice in bare} == {RuntimeKind.ENV}


@pytest.mark.parametrize(
    ("words", "flags", "code"),
    [
        ((), {}, "command-missing"),
        (("",), {}, "command-missing"),
        (("python", "x"), {"project": "/nowhere/at/all"}, "project-missing"),
        (("python", "x"), {"output": "/etc"}, "bad-setting"),
        (("python", "x"), {"output": "../out"}, "bad-setting"),
        (("python", "x"), {"output": "."}, "output-outside"),
        (("python", "x"), {"output": "link/out"}, "output-outside"),
        (("python", "x"), {"output": "train.py"}, "output-outside"),
        (("python", "x"), {"requirements": "none.txt"}, "requirements-missing"),
        (("python", "x"), {"inputs": ("data=/nowhere/at/all",)}, "input-missing"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    place: Path, words: tuple[str, ...], flags: dict[str, object], code: str
) -> None:
    folder = project(place)
    (folder / "link").symlink_to("/tmp")
    error = refused(place, None, words, **{"project": str(folder), **flags})
    assert (error.code, error.exit) == (code, Exit.USAGE)


def test_a_file_is_no_project_and_a_trainer_is_not_run_in_one(place: Path) -> None:
    folder = project(place)
    assert refused(place, None, ("x",), project=str(folder / "train.py")).code == "project-missing"
    assert refused(place, "tiny", ("x",), project=str(folder)).code == "trainer-and-project"


def test_a_broken_requirement_set_is_said_with_its_file(place: Path) -> None:
    folder = project(place)
    (folder / "pyproject.toml").write_text("[[[")
    error = refused(place, None, ("x",), project=str(folder), requirements="pyproject.toml", on=("here",))
    assert (error.code, error.exit) == ("env-unreadable", Exit.USAGE)


def test_inputs_are_brought_by_digest_and_size(place: Path) -> None:
    folder = project(place)
    data = place.parent / "data"
    data.mkdir()
    (data / "a.csv").write_text("1\n")
    flags: dict[str, Any] = {"project": str(folder), "inputs": (f"season={data}",)}
    (one,) = decided(place, None, ("x",), **flags).plan.job.inputs
    assert (one.name, one.path, one.size, len(one.digest)) == ("season", str(data), 2, 64)
    (data / "a.csv").write_text("2\n")
    (other,) = decided(place, None, ("x",), **flags).plan.job.inputs
    assert other.digest != one.digest


def git(folder: Path, *argv: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *who, *argv], check=True, capture_output=True)


def test_the_state_of_the_code_is_kept(place: Path) -> None:
    folder = project(place)
    assert jobs.code_of(folder) == ()
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    clean = dict(jobs.code_of(folder))
    assert (len(clean["commit"]), clean["dirty"]) == (40, "no")
    (folder / "train.py").write_text("print(2)\n")
    assert dict(jobs.code_of(folder)) == {**clean, "dirty": "yes"}


def test_a_paid_command_that_names_an_ignored_path_is_warned_of(place: Path) -> None:
    folder = project(place)
    git(folder, "init")
    (folder / ".gitignore").write_text("data/\n")
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("1\n")
    words = ("python", "train.py", "--data=data/a.csv", "data/b.csv", "\0")
    flags: dict[str, Any] = {"project": str(folder), "on": ("runpod",), "gpu": ("RTX 4090",), "max_cost": "5"}
    texts = decided(place, None, words, **flags).warnings
    assert (
        "the command names data/a.csv, which git ignores: without --input data/a.csv it stays here" in texts
    )
    covered = {**flags, "inputs": (str(folder / "data"),)}
    assert not any("git ignores" in text for text in decided(place, None, words, **covered).warnings)
    assert not any("git ignores" in t for t in decided(place, None, words, project=str(folder)).warnings)


def test_what_cannot_be_looked_at_is_no_mistake_of_ours(place: Path) -> None:
    long = "x" * 300  # no system takes such a name
    own, command = str(project(place)), ("python", "x")
    for said, code in (
        ({"project": str(place / long)}, "project-missing"),
        ({"project": own, "inputs": (f"data={place / long}",)}, "input-missing"),
        ({"project": own, "requirements": long}, "requirements-missing"),
    ):
        assert refused(place, None, command, **said).code == code, said


def test_a_project_behind_a_closed_folder_is_told_as_that() -> None:
    with open_folder() as root, somebody(root):
        (root / "closed" / "mine").mkdir(parents=True)
        (root / "closed").chmod(0)
        try:
            with pytest.raises(LauncherError, match="cannot be looked at") as told:
                jobs.of_project(root / "closed" / "mine", ("true",), Settings({}), digests=False)
        finally:
            (root / "closed").chmod(0o700)
        assert told.value.code == "project-missing"
