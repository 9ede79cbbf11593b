"""Announced files come home whole or not at all, and no name leads out of the staging folder."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.errors import Corrupt, NoFile, Stopped
from launcher.files import refusal
from launcher.remote.base import Listed
from launcher.remote.fetching import fetch, name_fault

CHUNK = 10


class Source:
    """A host's files in memory; counts what is read of them."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.calls: list[tuple[str, int, int]] = []

    def read(self, path: str, offset: int, limit: int) -> bytes:
        self.calls.append((path, offset, limit))
        if path not in self.files:
            raise NoFile(path)
        return self.files[path][offset : offset + limit]


def listed(path: str, data: bytes) -> Listed:
    return Listed(path, len(data), sha256(data).hexdigest())


def bring(source: Source, listing: list[Listed], to: Path, tick: Callable[[], None] = lambda: None) -> None:
    fetch(source.read, ".", listing, to, tick, chunk=CHUNK)


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK], ids=lambda size: f"{size} bytes"
)
@pytest.mark.parametrize("had", [0, 1, CHUNK, 2 * CHUNK])
def test_any_beginning_is_gone_on_from_and_only_the_rest_is_read(tmp_path: Path, size: int, had: int) -> None:
    data = os.urandom(size)
    had = min(had, size)
    if had:
        (tmp_path / "f").write_bytes(data[:had])
    source = Source(f=data)
    bring(source, [listed("f", data)], tmp_path)
    assert (tmp_path / "f").read_bytes() == data
    assert all(offset >= had for _, offset, _ in source.calls)
    if had == size > 0:
        assert source.calls == []


def test_a_base_is_where_the_names_begin(tmp_path: Path) -> None:
    source = Source(**{"output/a/b": b"1"})
    fetch(source.read, "output", [listed("a/b", b"1")], tmp_path / "new" / "staging", lambda: None)
    assert (tmp_path / "new" / "staging" / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("left", [b"XXXXX", b"0123X", b"0123456789X too long"])
def test_a_wrong_beginning_is_read_again_from_the_start(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "f").write_bytes(left)
    bring(Source(f=b"0123456789"), [listed("f", b"0123456789")], tmp_path)
    assert (tmp_path / "f").read_bytes() == b"0123456789"


@pytest.mark.parametrize("there", [b"", b"short", b"0123456789 and more", b"9876543210"])
@pytest.mark.parametrize("left", [None, b"01234", b"zzz"])
def test_other_than_announced_is_corrupt_and_leaves_nothing(
    tmp_path: Path, there: bytes, left: bytes | None
) -> None:
    if left is not None:
        (tmp_path / "f").write_bytes(left)
    with pytest.raises(Corrupt):
        bring(Source(f=there), [listed("f", b"0123456789")], tmp_path)
    assert not (tmp_path / "f").exists()


def test_a_missing_file_is_told_as_such_and_the_others_stay(tmp_path: Path) -> None:
    with pytest.raises(NoFile):
        bring(Source(a=b"1"), [listed("a", b"1"), listed("b", b"2")], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_a_stop_at_any_tick_loses_nothing(tmp_path: Path, stop_at: int) -> None:
    files = {"a": os.urandom(35), "b": b"", "c": os.urandom(12)}
    listing = [listed(name, data) for name, data in files.items()]
    ticks = [0]

    def tick() -> None:
        ticks[0] += 1
        if ticks[0] == stop_at:
            raise Stopped("enough")

    source = Source(**files)
    try:
        bring(source, listing, tmp_path, tick)
    except Stopped:
        bring(source, listing, tmp_path)
    else:
        assert ticks[0] < stop_at
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    begun = [(path, offset) for path, offset, _ in source.calls if files[path]]
    assert len(set(begun)) == len(begun)


BAD_NAMES = [
    "",
    "/etc/passwd",
    "../out",
    "a/../../out",
    "a//b",
    "a/",
    ".",
    "..",
    "a/./b",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "a\x7fb",
    "a\x85b",
    "a\udcffb",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_listing_with_a_bad_name_brings_nothing_at_all(tmp_path: Path, name: str) -> None:
    staging = tmp_path / "staging"
    with pytest.raises(Corrupt):
        bring(Source(good=b"1", **{name: b"1"}), [listed("good", b"1"), listed(name, b"1")], staging)
    assert list(tmp_path.iterdir()) == []


def test_our_own_names_may_hold_what_our_disk_holds() -> None:
    assert name_fault("a\nb", controls=True) is None
    assert name_fault("a\udcffb", controls=True) is None
    assert name_fault("../a", controls=True) is not None
    assert name_fault("a\0b", controls=True) is not None
    assert name_fault("훈련 결과/a b") is None


@pytest.mark.parametrize(
    "listing",
    [
        [listed("a", b"1"), listed("a", b"1")],
        [listed("a", b"1"), listed("a/b", b"1")],
        [listed("a/b/c", b"1"), listed("a/b", b"1")],
        [Listed("a", -1, "0" * 64)],
        [Listed("a", 1, "0" * 63)],
        [Listed("a", 1, "A" * 64)],
    ],
    ids=["twice", "file and folder", "folder and file", "negative", "short hash", "loud hash"],
)
def test_a_listing_that_cannot_be_honest_brings_nothing(tmp_path: Path, listing: list[Listed]) -> None:
    with pytest.raises(Corrupt):
        bring(Source(**{one.path: b"1" for one in listing}), listing, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    outside, staging = tmp_path / "outside", tmp_path / "staging"
    outside.mkdir()
    staging.mkdir()
    (staging / "a").symlink_to(outside)
    with pytest.raises(Corrupt):
        bring(Source(**{"a/b": b"1"}), [listed("a/b", b"1")], staging)
    assert list(outside.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(Corrupt):
        bring(Source(**{"a/b": b"1"}), [listed("a/b", b"1")], tmp_path)


def test_what_this_machine_refuses_is_not_the_host_s_fault(tmp_path: Path) -> None:
    name = "x" * 300
    with pytest.raises(OSError, match="too long"):
        bring(Source(**{f"{name}/b": b"1"}), [listed(f"{name}/b", b"1")], tmp_path)


def test_a_listing_larger_than_the_disk_is_refused_with_what_the_disk_has(tmp_path: Path) -> None:
    far_too_large = Listed("large", 10**15, sha256(b"").hexdigest())
    with pytest.raises(OSError, match="No space left on device") as caught:
        bring(source := Source(large=b"x"), [far_too_large], tmp_path)
    told = refusal(caught.value)
    assert told.startswith(f"{tmp_path}: No space left on device for 1000000000.0 MB of results: ")
    assert re.search(r": [\d.]+ MB are free, of which 16 MiB stay free$", told), told
    assert source.calls == []


def test_a_folder_that_cannot_be_opened_now_is_gone_on_with_later(tmp_path: Path) -> None:
    source, listing = Source(**{"a/b": b"1"}), [listed("a/b", b"1")]
    probe = os.open(tmp_path, os.O_RDONLY)
    os.close(probe)
    had = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 2, had[1]))  # staging and its copy, and no more
    try:
        with pytest.raises(OSError, match="Too many open files"):
            bring(source, listing, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, had)
    bring(source, listing, tmp_path)
    assert (tmp_path / "a" / "b").read_bytes() == b"1"


def test_a_folder_in_place_of_a_file_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(Corrupt):
        bring(Source(a=b"1"), [listed("a", b"1")], tmp_path)


def test_a_link_or_a_shared_file_in_place_of_a_file_gives_way(tmp_path: Path) -> None:
    outside, staging = tmp_path / "outside", tmp_path / "staging"
    outside.write_bytes(b"mine")
    staging.mkdir()
    (staging / "link").symlink_to(outside)
    os.link(outside, staging / "shared")
    os.mkfifo(staging / "pipe")
    names = ("link", "shared", "pipe")
    bring(Source(**dict.fromkeys(names, b"new")), [listed(name, b"new") for name in names], staging)
    assert outside.read_bytes() == b"mine"
    for name in names:
        assert (staging / name).read_bytes() == b"new" and not (staging / name).is_symlink()
