"""A version that is seen is complete: whatever fails on the way, and whoever finishes at the same moment."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import artifacts
from launcher.artifacts import Fault
from launcher.errors import Corrupt
from launcher.files import Disk
from launcher.remote.base import Listed
from launcher.store import Versions
from tests.unit.journals import stories

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
FILES = {"model.txt": b"weights", "results/metrics.jsonl": b"{}\n", "results/한글 name": b""}


class Trouble(Disk):
    """The real disk, with something that happens right before the n-th change of it."""

    def __init__(self, at: int, happens: Callable[[], None]) -> None:
        self.left = at
        self.happens = happens

    def _change(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.happens()

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        self._change()
        super().write(path, data, mode)

    def sync_tree(self, path: Path) -> None:
        self._change()
        super().sync_tree(path)

    def move(self, source: Path, to: Path) -> None:
        self._change()
        super().move(source, to)

    def make_folder(self, path: Path, *, private: bool = True) -> None:
        self._change()
        super().make_folder(path, private=private)

    def remove(self, path: Path) -> None:
        self._change()
        super().remove(path)


class NoSpace(OSError):
    pass


def full() -> None:
    raise NoSpace(errno.ENOSPC, "No space left on device")


def listed(path: str, data: bytes) -> Listed:
    return Listed(path, len(data), hashlib.sha256(data).hexdigest())


def sealed(*paths: str) -> tuple[bytes, str]:
    data = json.dumps({"files": [{"path": p, "size": 1, "sha256": "0" * 64} for p in paths]}).encode()
    return data, hashlib.sha256(data).hexdigest()


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


def gather(versions: Versions, run: str, files: dict[str, bytes]) -> tuple[Listed, ...]:
    """What a pull leaves in staging."""
    for path, data in files.items():
        place = versions.partial(run) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return tuple(listed(path, data) for path, data in files.items())


def complete(versions: Versions, run: str = "r1", disk: Disk | None = None, digest: str = "d1") -> str:
    """From staging to a version, as the pull does it."""
    disk = disk or Disk()
    files = tuple(listed(path, data) for path, data in FILES.items())
    partial = versions.partial(run)
    artifacts.drop_unlisted(disk, partial, files)
    own = artifacts.add_own(disk, partial, {"log": b"hello\n", "plan.json": b"{}"})
    body = artifacts.manifest((*files, *own), {"run": run, "sealed": digest, "instance": "i1"})
    return artifacts.finish(disk, versions, partial, lambda k: "v" if k == 1 else f"v-{k}", body)


def seen(versions: Versions) -> list[str]:
    """The versions a person sees."""
    return sorted(p.name for p in versions.root.iterdir() if not p.name.startswith("."))


# --- the sealed list -------------------------------------------------------------------------------


def test_a_sealed_list_is_read() -> None:
    data, digest = sealed("a", "b/c")
    assert artifacts.parse_sealed(data, digest) == (Listed("a", 1, "0" * 64), Listed("b/c", 1, "0" * 64))


def test_another_list_than_announced_is_not_believed() -> None:
    data, _ = sealed("a")
    with pytest.raises(Corrupt, match="not the one that was announced"):
        artifacts.parse_sealed(data, "0" * 64)


@pytest.mark.parametrize("name", ["manifest.json", ".launcher", ".launcher/log"])
def test_reserved_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(Corrupt, match=f"holds {name}, a name that is reserved"):
        artifacts.parse_sealed(*sealed("a", name))


@pytest.mark.parametrize("name", ["results/manifest.json", ".launcherx/a", "a/.launcher"])
def test_names_that_only_look_reserved_are_fine(name: str) -> None:
    assert artifacts.parse_sealed(*sealed(name))[0].path == name


ENDLESS = b'{"files": [{"path": "a", "size": 1e999, "sha256": ""}]}'


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"files": [1]}', b'{"files": [{"path": "a"}]}', ENDLESS, b"[" * 100_000],
)
def test_a_list_that_is_none_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt, match="sealed list is none"):
        artifacts.parse_sealed(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(("output", "lies"), [(None, "output"), ("out/best", "project/d/out/best")])
def test_the_output_lies_in_the_pushed_project_when_the_job_names_it(output: str | None, lies: str) -> None:
    assert artifacts.output_of(stories.plan(output=output), "d") == lies


# --- one rename ------------------------------------------------------------------------------------


def test_a_version_is_the_output_our_files_and_a_manifest(versions: Versions) -> None:
    gather(versions, "r1", FILES)
    assert complete(versions) == "v"
    folder = versions.version("v")
    here = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert here == {*FILES, ".launcher/log", ".launcher/plan.json", "manifest.json"}
    assert artifacts.verify(folder) == ()
    assert not versions.partial("r1").exists()
    found = artifacts.read_manifest(Disk(), versions, "v")
    assert (found["schema"], found["run"], found["sealed"]) == (1, "r1", "d1")
    assert [f["path"] for f in found["files"]] == sorted([*FILES, ".launcher/log", ".launcher/plan.json"])


def test_taken_names_are_passed_over_whoever_took_them(versions: Versions) -> None:
    versions.version("v").mkdir(parents=True)
    versions.version("v-2").symlink_to("nowhere")
    versions.version("v-3").write_bytes(b"a file of somebody's")
    gather(versions, "r1", FILES)
    assert complete(versions) == "v-4"
    assert versions.version("v-3").read_bytes() == b"a file of somebody's"
    assert os.listdir(versions.version("v")) == []


@pytest.mark.parametrize("at", range(1, 6))
def test_two_runs_that_finish_together_under_one_name_both_stand(versions: Versions, at: int) -> None:
    """The other one is done between our look and our rename, at each of our steps."""
    for run in ("ours", "other"):
        gather(versions, run, FILES)
    names: list[str] = []
    disk = Trouble(at, lambda: names.append(complete(versions, "other")))
    names.append(complete(versions, "ours", disk))
    assert sorted(names) == ["v", "v-2"]
    for name, run in zip(names, ("other", "ours"), strict=True):
        assert artifacts.verify(versions.version(name)) == ()
        assert artifacts.read_manifest(Disk(), versions, name)["run"] == run


def test_a_full_disk_at_any_moment_shows_no_version_and_the_next_try_makes_one(versions: Versions) -> None:
    gather(versions, "r1", FILES)
    for at in range(1, 20):
        disk = Trouble(at, full)
        with suppress(NoSpace):
            assert complete(versions, "r1", disk) == "v"
            break
        assert seen(versions) == []
    assert at > 5, "every change of the disk was refused once"
    assert seen(versions) == ["v"]
    assert artifacts.verify(versions.version("v")) == ()


def test_what_a_half_done_pull_of_another_list_left_is_not_part_of_the_version(versions: Versions) -> None:
    left = {
        "old.bin": b"x",
        "results/old": b"x",
        "old/deep/f": b"x",
        ".launcher/old": b"x",
        "manifest.json": b"{}",
    }
    gather(versions, "r1", {**FILES, **left})
    (versions.partial("r1") / "results" / "link").symlink_to("/")
    complete(versions)
    assert artifacts.verify(versions.version("v")) == ()
    assert not (versions.version("v") / "old").exists()


def test_a_staging_that_is_gone_is_an_error_and_no_version(versions: Versions) -> None:
    versions.root.mkdir()
    with pytest.raises(FileNotFoundError):
        artifacts.finish(Disk(), versions, versions.partial("r1"), str, b"{}")
    assert seen(versions) == []


def test_a_thousand_taken_names_are_enough(versions: Versions) -> None:
    versions.version("v").mkdir(parents=True)
    gather(versions, "r1", FILES)
    with pytest.raises(FileExistsError, match="thousand"):
        artifacts.finish(Disk(), versions, versions.partial("r1"), lambda k: "v", b"{}")


# --- finding and pointing --------------------------------------------------------------------------


def test_a_version_is_found_again_by_its_run_and_its_sealed_list(versions: Versions) -> None:
    disk = Disk()
    assert artifacts.version_of(disk, versions, "r1", "d1", "i1") is None
    for run, digest in (("r1", "d1"), ("r1", "d2"), ("r2", "d1")):
        gather(versions, run, FILES)
        complete(versions, run, digest=digest)
    gather(versions, "r3", FILES)
    (versions.root / "stranger").mkdir()
    (versions.root / "broken").mkdir()
    versions.manifest("broken").write_text("{")
    artifacts.point_latest(disk, versions, "v", "r1", NOON)
    assert artifacts.version_of(disk, versions, "r1", "d1", "i1") == "v"
    assert artifacts.version_of(disk, versions, "r1", "d2", "i1") == "v-2"
    assert artifacts.version_of(disk, versions, "r2", "d1", "i1") == "v-3"
    assert artifacts.version_of(disk, versions, "r3", "d1", "i1") is None


@pytest.mark.parametrize("content", [None, "", "[]", '"v"', "\udcff"])
def test_a_manifest_that_is_none_reads_as_empty(versions: Versions, content: str | None) -> None:
    versions.version("v").mkdir(parents=True)
    if content is not None:
        versions.manifest("v").write_bytes(content.encode(errors="surrogateescape"))
    assert artifacts.read_manifest(Disk(), versions, "v") == {}


def test_latest_points_to_one_version_and_is_replaced_whole(versions: Versions) -> None:
    disk = Disk()
    versions.root.mkdir()
    assert artifacts.latest(disk, versions) is None
    for name in ("v", "v-2"):
        artifacts.point_latest(disk, versions, name, "r1", NOON)
        assert artifacts.latest(disk, versions) == name
    assert json.loads(versions.latest.read_text()) == {
        "version": "v-2",
        "run": "r1",
        "at": "2026-03-04T12:00:00Z",
    }
    assert os.listdir(versions.root) == ["latest.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_broken_pointer_points_nowhere(versions: Versions, content: str) -> None:
    versions.root.mkdir()
    versions.latest.write_text(content)
    assert artifacts.latest(Disk(), versions) is None


# --- verify ----------------------------------------------------------------------------------------


@pytest.fixture
def version(versions: Versions) -> Path:
    gather(versions, "r1", FILES)
    return versions.version(complete(versions))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def fill(version: Path, data: bytes) -> None:
    (version / "model.txt").write_bytes(data)


def pipe_instead(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link_instead(file: Path) -> None:
    copy = file.with_name("copy")
    file.rename(copy)
    file.symlink_to(copy)


def link_to_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.symlink_to("elsewhere")


EXTRA = "is not in the manifest"
OTHER = "has other contents"

FAULTS: list[tuple[str, Callable[[Path], object], list[Fault]]] = [
    ("a flipped bit", lambda v: flip(v / "model.txt"), [Fault("model.txt", OTHER)]),
    ("a flipped bit of ours", lambda v: flip(v / ".launcher/log"), [Fault(".launcher/log", OTHER)]),
    ("longer", lambda v: fill(v, b"weightsX"), [Fault("model.txt", "has 8 bytes instead of 7")]),
    ("cut off", lambda v: fill(v, b""), [Fault("model.txt", "has 0 bytes instead of 7")]),
    ("missing", lambda v: (v / "model.txt").unlink(), [Fault("model.txt", "is missing")]),
    ("an extra file", lambda v: (v / "results/new").touch(), [Fault("results/new", EXTRA)]),
    ("an extra link", lambda v: (v / "new").symlink_to("/"), [Fault("new", EXTRA)]),
    ("an extra pipe", lambda v: os.mkfifo(v / "new"), [Fault("new", EXTRA)]),
    (
        "a link instead of the file",
        lambda v: link_instead(v / "model.txt"),
        [Fault("copy", EXTRA), Fault("model.txt", "is not a plain file")],
    ),
    (
        "a pipe instead of the file",
        lambda v: pipe_instead(v / "model.txt"),
        [Fault("model.txt", "is not a plain file")],
    ),
    (
        "a link instead of the folder",
        lambda v: link_to_folder(v / ".launcher/log"),
        [
            Fault(".launcher", EXTRA),
            Fault("elsewhere/log", EXTRA),
            Fault("elsewhere/plan.json", EXTRA),
            Fault(".launcher/log", "is missing"),
            Fault(".launcher/plan.json", "is missing"),
        ],
    ),
]


@pytest.mark.parametrize(("damage", "faults"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_verify_finds(version: Path, damage: Callable[[Path], object], faults: list[Fault]) -> None:
    damage(version)
    assert list(artifacts.verify(version)) == faults


@pytest.mark.parametrize(
    "body",
    [None, b"", b"[]", b"{}", b'{"files": 1}', b'{"files": [{"path": "a"}]}', b'{"files": ["a"]}', b"\xff"],
)
def test_a_version_without_a_readable_manifest_is_one_fault(version: Path, body: bytes | None) -> None:
    (version / "manifest.json").unlink()
    if body is not None:
        (version / "manifest.json").write_bytes(body)
    (fault,) = artifacts.verify(version)
    assert fault.path == "manifest.json" and fault.what.startswith("cannot be read")


def test_a_manifest_cannot_vouch_for_files_outside(version: Path) -> None:
    (version.parent / "outside").write_bytes(b"x")
    entry = listed("../outside", b"x")
    (version / "manifest.json").write_bytes(artifacts.manifest((entry,), {}))
    assert Fault("../outside", "is missing") in artifacts.verify(version)


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.dictionaries(names, st.binary(max_size=20), max_size=5))
def test_a_manifest_lists_every_file_whatever_its_name(files: dict[str, bytes]) -> None:
    entries = tuple(listed(path, data) for path, data in files.items())
    body = json.loads(artifacts.manifest(entries, {"usd": 0.5}))
    assert {f["path"]: Listed(**f) for f in body["files"]} == {f.path: f for f in entries}
    assert body["usd"] == 0.5
