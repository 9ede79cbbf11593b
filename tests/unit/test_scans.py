"""An unchanged file is not read again, and a changed one always is."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from launcher import pushset
from launcher.models import Job
from launcher.scans import Scans

OLD_S = 100.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    return path


def grown_old(scans: Scans) -> Scans:
    """Made as if it had begun later: a file's change time cannot be set back."""
    scans._began_ns = time.time_ns() + int(OLD_S * 1e9)
    return scans


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(scans: Scans, path: Path) -> str:
    return scans.sha256(str(path), path.stat())


def forged(store: Path) -> None:
    """Another digest in what is kept: who believes it has not read the file."""
    text = store.read_text()
    store.write_text(text.replace(sha(b"one"), "f" * 64))


def test_what_looks_the_same_is_not_read_again(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "scans" / "k.json"
    first = grown_old(Scans(store))
    assert digest(first, file) == sha(b"one")
    first.keep()
    forged(store)
    assert digest(Scans(store), file) == "f" * 64


@pytest.mark.parametrize("change", ["content", "same size and time", "mode", "another inode"])
def test_what_looks_different_is_read(tmp_path: Path, file: Path, change: str) -> None:
    store, info = tmp_path / "scans" / "k.json", file.stat()
    first = grown_old(Scans(store))
    digest(first, file)
    first.keep()
    forged(store)
    if change == "mode":
        file.chmod(0o700)
    elif change == "another inode":
        (tmp_path / "g").write_bytes(b"one")
        os.rename(tmp_path / "g", file)
    else:
        file.write_bytes(b"two" if change == "same size and time" else b"longer")
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert digest(Scans(store), file) == sha(file.read_bytes())


def test_a_file_as_young_as_the_look_is_not_believed(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "scans" / "k.json"
    scans = Scans(store)
    digest(scans, file)
    scans.keep()
    assert not store.exists() or sha(b"one") not in store.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"form": 1, "files": [["x", 1]]}',
        '{"form": 1, "files": {"x": 1}}',
        '{"form": 2, "files": []}',
    ],
)
def test_a_store_that_is_none_of_ours_costs_a_read(tmp_path: Path, file: Path, text: str) -> None:
    store = tmp_path / "k.json"
    store.write_text(text)
    assert digest(Scans(store), file) == sha(b"one")


def test_gathering_twice_gives_the_same_trees(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / "lib").mkdir(parents=True)
    for name in ("a.py", "lib/b.py"):
        (root / name).write_text(name)
    job = Job(argv=("true",), folder=str(root))
    trees = [pushset.gather(job, tmp_path / "scans").project for _ in range(2)]
    assert trees[0] == trees[1] == pushset.gather(job).project
