"""The disk keeps its promises: whole or not at all, taken places refused, a lock dies with its holder."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher import files
from launcher.files import Disk

disk = Disk()


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size`: the kernel refuses, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    quiet = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, quiet)


def test_write_replaces_the_whole_file_with_its_mode(tmp_path: Path) -> None:
    disk.write(tmp_path / "a", b"one")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    disk.write(tmp_path / "a", b"two", 0o700)  # whatever a umask takes from others
    assert disk.read(tmp_path / "a") == b"two"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert disk.names(tmp_path) == ("a",)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    disk.write(tmp_path / "a", b"old")
    with full_after(1000), pytest.raises(OSError, match="File too large"):
        disk.write(tmp_path / "a", b"x" * 5000)
    assert disk.read(tmp_path / "a") == b"old"
    assert disk.names(tmp_path) == ("a",)


def test_a_write_whose_rename_fails_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        disk.write(tmp_path / "a", b"x")
    assert disk.names(tmp_path) == ("a",)


def test_what_a_killed_writer_left_beside_goes_with_the_next_write(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, living, young, other = (
        tmp_path / name
        for name in (f".a.{gone.pid}.new", f".a.{os.getppid()}.new", ".a.4194399.new", f".b.{gone.pid}.new")
    )
    for path in (left, living, young, other):
        path.write_bytes(b"half")
    for path in (left, living, other):
        os.utime(path, (1, 1))
    disk.write(tmp_path / "a", b"whole")
    assert disk.names(tmp_path) == tuple(sorted(["a", living.name, young.name, other.name]))
    os.utime(young, (1, 1))
    disk.note(tmp_path / "a", b"again")
    assert disk.names(tmp_path) == tuple(sorted(["a", living.name, other.name]))


def test_append_adds_and_says_when_not_all_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk.append(path, b"one\n", sync=True)
    disk.append(path, b"two\n", sync=False)
    assert disk.read(path) == b"one\ntwo\n"
    with full_after(10), pytest.raises(OSError, match="File too large"):
        disk.append(path, b"three\n", sync=True)
    disk.cut(path, 8)
    assert disk.read(path) == b"one\ntwo\n"
    assert disk.size(path) == 8


def test_a_look_at_what_is_not_there(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert disk.size(nothing) == 0
    assert disk.names(nothing) == ()
    assert not disk.exists(nothing)
    with pytest.raises(FileNotFoundError):
        disk.read(nothing)
    nothing.symlink_to("nowhere")
    assert disk.exists(nothing), "a dangling link takes the place too"
    (tmp_path / "file").touch()
    assert disk.names(tmp_path / "file") == ()


@pytest.mark.parametrize("taken", ["file", "folder", "full folder", "dangling link"])
def test_move_refuses_a_taken_place(tmp_path: Path, taken: str) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    source.mkdir()
    (source / "f").write_bytes(b"mine")
    if taken == "file":
        to.write_bytes(b"theirs")
    elif taken == "dangling link":
        to.symlink_to("nowhere")
    else:
        to.mkdir()
    if taken == "full folder":
        (to / "g").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        disk.move(source, to)
    assert disk.names(source) == ("f",)
    assert disk.names(to) == (("g",) if taken == "full folder" else ())


def test_move_takes_a_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_bytes(b"x")
    disk.sync_tree(tmp_path / "a")
    disk.move(tmp_path / "a", tmp_path / "c")
    assert disk.names(tmp_path) == ("c",)
    assert disk.read(tmp_path / "c" / "b" / "f") == b"x"


def test_sync_follows_no_link_and_misses_nothing_silently(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.sync_tree(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(os.devnull)
    with pytest.raises(OSError, match="symbolic links"):
        disk.sync_tree(tmp_path)


def test_a_folder_is_made_with_its_parents_and_twice_is_silent(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    disk.make_folder(inner)
    disk.make_folder(inner)
    assert inner.is_dir()
    assert inner.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_is_not_made_over_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError):
        disk.make_folder(tmp_path / place)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_remove_takes_trees_and_links_but_not_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").touch()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("tree", "link", "never was"):
        disk.remove(tmp_path / name)
    assert disk.names(tmp_path) == ("kept",)
    assert disk.names(tmp_path / "kept") == ("f",)


HOLDER = """
import sys
from pathlib import Path
from launcher.files import Disk
held = Disk().lock(Path(sys.argv[1]), "held by the test's child")
print("held" if held else "refused", flush=True)
sys.stdin.read()
"""


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.held(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert disk.lock(path, "me") is None
        assert files.held(path)
        assert path.read_text() == "held by the test's child"
        holder.kill()
    assert not files.held(path)
    mine = disk.lock(path, "me")
    assert mine is not None
    assert path.read_text() == "me"
    assert disk.lock(path, "me again") is None, "not twice by one process either"
    mine.release()
    again = disk.lock(path, "again")
    assert again is not None
    again.release()


def test_who_could_not_write_its_name_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with full_after(0), pytest.raises(OSError, match="File too large"):
        disk.lock(path, "me")
    assert not files.held(path)
