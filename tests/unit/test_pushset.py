"""What travels to the machine, by name and by digest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import jobs, pushset, settings
from launcher.cli import run
from launcher.errors import LauncherError
from launcher.models import Input, Job
from tests.unit.nobodys import open_folder, somebody
from tests.unit.planned import Market, decided


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "p"
    for name in (
        "train.py",
        "lib/a.py",
        "models/v1/m",
        "lib/models/net.py",
        ".venv/x",
        "lib/__pycache__/a.pyc",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


def test_without_git_a_pruned_walk(project: Path) -> None:
    assert pushset.names(project) == ["lib/a.py", "lib/models/net.py", "train.py"]


def test_git_decides_where_there_is_git(project: Path) -> None:
    (project / ".gitignore").write_text("*.log\n")
    git(project, "init", "-q")
    git(project, "add", "train.py", ".gitignore")
    git(project, "commit", "-qm", "x")
    (project / "out.log").write_text("")
    (project / "new.py").write_text("")
    assert set(pushset.names(project)) == {
        ".gitignore",
        "train.py",
        "new.py",
        "lib/a.py",
        "lib/models/net.py",
    }


def test_what_git_knows_but_is_deleted_stays_away(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", "train.py", "lib/a.py")
    git(project, "commit", "-qm", "x")
    (project / "lib/a.py").unlink()
    assert "lib/a.py" not in pushset.names(project)


def test_names_that_git_would_quote_are_whole(project: Path) -> None:
    git(project, "init", "-q")
    strange = ["훈련.py", 'qu"ote.py', "new\nline.py", " lead", "-rf"]
    for name in strange:
        (project / name).write_text("")
    git(project, "add", "--", *strange)
    assert set(strange) <= set(pushset.names(project))


def test_launcherignore_with_and_without_git(project: Path) -> None:
    (project / ".launcherignore").write_text("lib/\n!lib/a.py\n*.md\n")
    (project / "notes.md").write_text("")
    without = pushset.names(project)
    git(project, "init", "-q")
    assert "notes.md" not in without and "train.py" in without
    assert pushset.names(project) == without


def test_a_secret_file_by_its_common_name_stays_at_home(project: Path) -> None:
    (project / ".env").write_text("TOKEN=x")
    git(project, "init", "-q")
    git(project, "add", "-f", ".env")
    assert ".env" not in pushset.names(project)


def job(root: Path, *inputs: Input) -> Job:
    return Job(argv=("true",), folder=str(root), inputs=inputs)


def test_the_digest_is_of_names_modes_and_contents(project: Path) -> None:
    first = pushset.gather(job(project)).project.digest
    os.utime(project / "train.py", (1, 1))
    assert pushset.gather(job(project)).project.digest == first
    (project / "train.py").chmod(0o755)
    mode = pushset.gather(job(project)).project.digest
    (project / "train.py").write_text("other")
    content = pushset.gather(job(project)).project.digest
    (project / "train.py").rename(project / "t.py")
    name = pushset.gather(job(project)).project.digest
    assert len({first, mode, content, name}) == 4


def test_links_travel_as_links(project: Path) -> None:
    (project / "link").symlink_to("train.py")
    sent = {s.to: s for s in pushset.gather(job(project)).project.files}
    assert sent["link"].link == "train.py" and sent["link"].source is None


def test_links_to_folders_travel_without_git_too(project: Path) -> None:
    (project / "shared").symlink_to("lib")
    (project / "round").symlink_to("/")
    without = pushset.names(project)
    git(project, "init", "-q")
    assert pushset.names(project) == without and {"shared", "round"} <= set(without)


def test_submodules_and_repositories_inside_bring_their_files(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("code.py", "out.log", ".gitignore"):
        (other / name).write_text("*.log\n")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(project, "init", "-q")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub")
    git(project, "clone", "-q", str(other), "inside")
    (project / "sub" / "new.py").write_text("")
    (project / "bare").mkdir()
    found = set(pushset.names(project))
    assert {"sub/code.py", "sub/.gitignore", "sub/new.py", "inside/code.py"} <= found
    assert not {"sub/out.log", "inside/out.log", "sub", "inside", "sub/.git"} & found


def test_a_submodule_that_is_not_checked_out_is_an_empty_folder(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "x")
    git(project, "init", "-q")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "other"), "sub")
    git(project, "commit", "-qm", "x")
    git(project, "submodule", "deinit", "-q", "-f", "sub")
    assert "sub" in pushset.names(project)


def test_pipes_stay_at_home(project: Path) -> None:
    os.mkfifo(project / "pipe")
    assert "pipe" not in pushset.names(project)


def test_a_project_is_known_by_its_folder_and_counted(project: Path) -> None:
    found = pushset.gather(job(project)).project
    (project / "train.py").write_text("changed!")
    again = pushset.gather(job(project)).project
    assert found.key == again.key and found.digest != again.digest
    assert found.size == sum(len(n) for n in ("train.py", "lib/a.py", "lib/models/net.py"))


def test_a_trainer_brings_only_its_own_folders(project: Path) -> None:
    only = Job(argv=("true",), folder=str(project), push=("lib", "train.py"))
    names = {s.to for s in pushset.gather(only).project.files}
    assert names == {"lib/a.py", "lib/models/net.py", "train.py"}


def test_inputs_by_name_and_without(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "x").write_text("1")
    (data / "y").write_text("2")
    given = (
        Input("NAMED", str(data), "d", 1),
        Input(None, str(data / "y"), "d", 1),
        Input("ONE", str(data / "y"), "d", 1),
    )
    inputs = pushset.gather(job(project, *given)).inputs
    assert all(tree.data for _, tree in inputs)
    sent = {f"{folder}/{s.to}": s.mode for folder, tree in inputs for s in tree.files}
    assert sent == {"input/NAMED/deep/x": 0o444, "input/NAMED/y": 0o444, "input/y": 0o444, "input/ONE": 0o444}


def test_an_input_that_went_away_is_said(project: Path) -> None:
    with pytest.raises(LauncherError, match="not there any more"):
        pushset.gather(job(project, Input("A", str(project / "gone"), "d", 1)))


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A project of somebody who may not read all of it."""
    with open_folder() as root:
        for file in ("train.py", "old/kept.py", "data/pg/base", "seen/.git-is-silent", "secret.bin"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
        yield root
        for path in (root / "old", root / "data/pg"):
            path.chmod(0o700)


@pytest.mark.parametrize("with_git", [False, True])
def test_what_may_not_be_read_is_told_before_anything_is_rented(
    nobodys: Path, with_git: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("HOME", str(nobodys))
    with somebody(nobodys):
        if with_git:
            git(nobodys, "init", "-q")
            git(nobodys, "add", "old")
        assert pushset.outlook(job(nobodys)).files == 5
        for path in (nobodys / "old", nobodys / "data/pg", nobodys / "secret.bin"):
            path.chmod(0)
        with pytest.raises(LauncherError, match=r"data/pg, old, secret\.bin; let them be read") as refused:
            pushset.outlook(job(nobodys))
        assert refused.value.code == "project-unreadable"
        with pytest.raises(LauncherError, match="data/pg, old"):  # that it was closed only now makes no odds
            pushset.gather(job(nobodys))
        (nobodys / ".launcherignore").write_text("/old/\n/data/pg/\nsecret.bin\n")
        assert pushset.outlook(job(nobodys)).files == 3


PAID: dict[str, Any] = {"on": ("runpod",), "gpu": ("RTX 4090",), "max_cost": "2", "yes": True}


@pytest.mark.parametrize(("flags", "how"), [(PAID, "yes"), ({}, "free")])
def test_neither_a_yes_given_beforehand_nor_a_free_machine_is_one_to_what_may_not_be_read(
    nobodys: Path, tmp_path: Path, flags: dict[str, Any], how: str
) -> None:
    given: dict[str, Any] = {"project": str(nobodys), "output": "out", **flags}
    decision = decided(tmp_path, None, ("true",), market=Market(RTX_4090="0.5"), **given)
    said = settings.resolve(flags, cwd=tmp_path, environ={}, user_file=None)
    assert run._consent(decision.plan, decision, said).how == how
    with somebody(nobodys):
        (nobodys / "old").chmod(0)
        with pytest.raises(LauncherError, match="may not be read: old"):
            run._consent(decision.plan, decision, said)


def with_input(root: Path, part: str, digests: bool) -> Job:
    """What a plan, or with `digests` a run, makes of `--input`."""
    said = settings.resolve({"inputs": (f"D={root / part}",)}, cwd=root, environ={}, user_file=None)
    return jobs.of_project(root / "seen", ("true",), said, digests=digests)


@pytest.mark.parametrize("digests", [False, True])
def test_what_may_not_be_read_of_an_input_is_told_before_anything_is_sent(
    nobodys: Path, digests: bool
) -> None:
    with somebody(nobodys):
        (nobodys / "seen/alias").symlink_to(nobodys / "old/kept.py")
        sizes = [with_input(nobodys, part, digests).inputs[0].size for part in ("", "old", "seen/alias")]
        assert sizes == [71, 11, 11], "each file holds its own name, and a link what it leads to"
        before = with_input(nobodys, "", digests)
        for path in (nobodys / "old", nobodys / "data/pg", nobodys / "secret.bin"):
            path.chmod(0)
        told = {
            "": r"these may not be read: data/pg, old, secret\.bin and 1 more",
            "data": "these may not be read: pg",
            "old": "/old may not be read",
            "old/kept.py": "/kept.py may not be read",
            "secret.bin": "/secret.bin may not be read",
        }
        for part, words in told.items():
            with pytest.raises(LauncherError, match=words) as refused:
                with_input(nobodys, part, digests)
            assert refused.value.code == "input-unreadable"
        with pytest.raises(LauncherError, match="data/pg, old"):  # it was closed only later
            pushset.gather(before)
