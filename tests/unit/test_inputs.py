"""An input's files: links among them stand for what they lead to, and the digest is of what arrives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher import inputs, jobs, pushset, settings
from launcher.agent.reqset import tree_digest
from launcher.errors import LauncherError
from launcher.models import Job


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name.rpartition("/")[2])
    return root


def names(source: Path) -> list[str]:
    return [file.name for file in inputs.files(source)]


def digest(source: Path) -> str:
    return inputs.digest(source, inputs.files(source))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the data really are."""
    return made(tmp_path / "disk", "train/a", "train/deep/b", "more/c")


@pytest.fixture
def linked(tmp_path: Path, disk: Path) -> Path:
    """What is handed over: of the disk's folders only links, one of them in a folder that is a link."""
    root = made(tmp_path / "linked", "own")
    (root / "train").symlink_to("../disk/train")
    (root / "alias").symlink_to("own")
    (disk / "train/more").symlink_to(disk / "more")
    return root


def job(project: Path, source: Path, *, digests: bool = True) -> Job:
    said = settings.resolve({"inputs": (f"D={source}",)}, cwd=project, environ={}, user_file=None)
    return jobs.of_project(project, ("true",), said, digests=digests)


def test_a_link_to_a_folder_stands_for_what_lies_there(tmp_path: Path, linked: Path) -> None:
    assert names(linked) == ["alias", "own", "train/a", "train/deep/b", "train/more/c"]
    project = made(tmp_path / "p", "train.py")
    planned, meant = job(project, linked, digests=False), job(project, linked)
    assert planned.inputs[0].size == meant.inputs[0].size == 9
    ((folder, tree),) = pushset.gather(meant).inputs
    assert folder == "input/D"
    held = {file.to: Path(file.source).read_text() for file in tree.files if file.source is not None}
    assert held == {"alias": "own", "own": "own", "train/a": "a", "train/deep/b": "b", "train/more/c": "c"}


def test_the_same_content_has_the_same_digest_however_it_lies_there(tmp_path: Path, linked: Path) -> None:
    plain = made(tmp_path / "plain", "own", "train/a", "train/deep/b", "train/more/c")
    (plain / "alias").write_text("own")
    (tmp_path / "alias").symlink_to("linked")
    assert digest(linked) == digest(plain) == digest(tmp_path / "alias")
    (plain / "train/more/c").write_text("d")
    assert digest(linked) != digest(plain)


def test_a_digest_is_the_one_that_versions_have_had_so_far(tmp_path: Path) -> None:
    plain = made(tmp_path / "plain", "b", "a/z", "a/b/c", "a.b/c", "a-", "é", "a/.git/x")
    for source in (plain, plain / "b"):
        assert digest(source) == tree_digest(source)


def test_a_folder_that_two_links_lead_to_is_there_twice(tmp_path: Path, disk: Path) -> None:
    root = tmp_path / "twice"
    root.mkdir()
    for name in ("x", "y"):
        (root / name).symlink_to(disk / "more")
    (disk / "more/sibling").symlink_to(disk / "train")
    assert names(root) == [
        *("x/c", "x/sibling/a", "x/sibling/deep/b"),
        *("y/c", "y/sibling/a", "y/sibling/deep/b"),
    ]


NOWHERE = "are links that lead nowhere"
LOOP = "are links to a folder that they lie in"


@pytest.mark.parametrize(
    ("at", "to", "what"),
    [
        ("train/again", ".", LOOP),
        ("train/deep/up", "..", LOOP),
        ("above", "..", LOOP),
        ("all", "/", LOOP),
        ("dead", "nowhere", NOWHERE),
        ("itself", "itself", NOWHERE),
        ("through", "more/c/x", NOWHERE),
    ],
)
@pytest.mark.parametrize("digests", [False, True])
def test_a_link_without_an_end_is_told_by_its_name(
    tmp_path: Path, disk: Path, at: str, to: str, what: str, digests: bool
) -> None:
    """By a plan, and by a run before it has a machine."""
    before = job(made(tmp_path / "p", "train.py"), disk)
    (disk / at).symlink_to(to)
    with pytest.raises(LauncherError) as refused:
        job(tmp_path / "p", disk, digests=digests)
    assert refused.value.code == "input-unreadable"
    assert refused.value.message.startswith(f"of the input {disk} these {what}: {at} (")
    with pytest.raises(LauncherError, match=f"{what}: {at}"):  # made only after the plan
        pushset.gather(before)


def test_two_links_that_lead_to_each_other_are_a_loop(disk: Path) -> None:
    (disk / "train/there").symlink_to(disk / "more")
    (disk / "more/back").symlink_to(disk / "train")
    with pytest.raises(LauncherError, match=f"{LOOP}: there/back "):
        inputs.files(disk / "train")


def test_all_that_is_wrong_is_told_at_once(disk: Path) -> None:
    for name in ("d1", "d2", "d3", "d4"):
        (disk / name).symlink_to("gone")
    (disk / "loop").symlink_to(".")
    with pytest.raises(LauncherError) as refused:
        inputs.files(disk)
    assert refused.value.message == (
        f"of the input {disk} these are links that lead nowhere: d1, d2, d3 and 1 more (mend or remove them)"
        "; these are links to a folder that they lie in: loop (remove them)"
    )


def test_what_never_travels_does_not_by_a_link_either(disk: Path) -> None:
    (disk / ".venv").symlink_to("gone")
    (disk / "node_modules").symlink_to("more")
    assert names(disk) == ["more/c", "train/a", "train/deep/b"]
    os.mkfifo(disk / "pipe")
    (disk / "to-pipe").symlink_to("pipe")
    assert names(disk) == ["more/c", "train/a", "train/deep/b"]
