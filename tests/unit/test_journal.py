"""A journal keeps every whole line, repairs only its tail, and refuses what it would have to guess."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import journal
from launcher.errors import Exit, LauncherError
from launcher.files import Disk
from launcher.journal import Journal
from launcher.models import Fact
from tests.unit.journals import stories

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
KEPT = Path(stories.__file__).parent
REAL = (KEPT / "v1-happy.jsonl").read_bytes()
FACTS = journal.read(REAL).facts

words = st.text(st.characters(codec="utf-8"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
keys = st.sampled_from(["attempt", "why", "n", "path", "size"])


def refused(data: bytes) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        journal.read(data)
    assert caught.value.code == "journal-corrupt"
    return caught.value


def spans(data: bytes) -> list[tuple[int, int]]:
    """Where each line begins and ends."""
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    return list(zip([0, *ends], ends, strict=False))


SPANS = spans(REAL)


class Memory(Disk):
    """One file that is just bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def exists(self, path: Path) -> bool:
        return True

    def read(self, path: Path) -> bytes:
        return self.data

    def append(self, path: Path, data: bytes, *, sync: bool) -> None:
        self.data += data

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        self.data = data

    def cut(self, path: Path, size: int) -> None:
        self.data = self.data[:size]


class Quick(Disk):
    """The real one, but it does not wait for the platter."""

    def append(self, path: Path, data: bytes, *, sync: bool) -> None:
        super().append(path, data, sync=False)

    def cut(self, path: Path, size: int) -> None:
        os.truncate(path, size)


class Full(Quick):
    """A disk that takes `room` bytes and then no more; `cut` fails as often as it is told to."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.stuck = 0

    def append(self, path: Path, data: bytes, *, sync: bool) -> None:
        taken = data[: self.room]
        self.room -= len(taken)
        if taken:
            super().append(path, taken, sync=sync)
        if len(taken) < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def cut(self, path: Path, size: int) -> None:
        if self.stuck:
            self.stuck -= 1
            raise OSError(errno.EIO, "Input/output error")
        super().cut(path, size)


@pytest.mark.parametrize("tail", [b"", b"\0\0\0\0", b"\0" * 40 + b"\n"], ids=["cut", "zeros", "hole"])
def test_cut_at_every_byte_every_whole_line_is_kept_and_so_is_the_next(tail: bytes) -> None:
    for cut in range(len(REAL) + 1):
        disk = Memory(REAL[:cut] + tail)
        kept = FACTS[: sum(end <= cut for _, end in SPANS)]
        cut_and_go_on(disk, Path("journal"), kept)


def test_cut_at_every_byte_of_the_last_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for cut in range(SPANS[-3][0], len(REAL) + 1):
        path.write_bytes(REAL[:cut])
        cut_and_go_on(Quick(), path, FACTS[: sum(end <= cut for _, end in SPANS)])


def cut_and_go_on(disk: Disk, path: Path, kept: tuple[Fact, ...]) -> None:
    """Open, append, open: `kept` and the new line, and not a byte besides."""
    book = Journal(disk, path)
    assert tuple(book.facts) == kept
    new = book.append("new", NOON, before=len(kept))
    again = journal.read(disk.read(path))
    assert again.facts == (*kept, new)
    assert again.good == len(disk.read(path))


def test_a_line_that_was_ended_but_is_not_what_was_written_is_refused() -> None:
    """A torn append never has its end without its beginning, but for a hole that reads as zeros."""
    ends = {end for _, end in SPANS}
    for cut in range(len(REAL)):
        if cut + 1 not in ends:
            refused(REAL[:cut] + b"\n")


def test_any_flipped_bit_in_the_middle_is_refused_with_its_place() -> None:
    lines = SPANS
    for at in range(lines[-1][0]):
        begin = next(b for b, e in lines if b <= at < e)
        error = refused(REAL[:at] + bytes([REAL[at] ^ 4]) + REAL[at + 1 :])
        assert f"at byte {begin}:" in error.message
        assert error.exit is Exit.PROVIDER
        assert "unknown" in error.billed


def test_a_damaged_last_line_is_no_torn_tail() -> None:
    """It was acted upon: cutting it would forget a machine."""
    begin, end = SPANS[-1]
    for at in range(begin, end - 1):
        assert f"at byte {begin}:" in refused(REAL[:at] + b"~" + REAL[at + 1 :]).message


def test_refusing_changes_nothing_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    damaged = REAL[:30] + b"~" + REAL[31:]
    path.write_bytes(damaged)
    with pytest.raises(LauncherError):
        Journal(Disk(), path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("gone", range(len(FACTS) - 1))
def test_a_line_taken_out_is_seen(gone: int) -> None:
    begin, end = SPANS[gone]
    assert f"at byte {begin}:" in refused(REAL[:begin] + REAL[end:]).message


@pytest.mark.parametrize("first", range(len(FACTS) - 1))
def test_two_lines_swapped_are_seen(first: int) -> None:
    (a, b), (_, c) = SPANS[first : first + 2]
    refused(REAL[:a] + REAL[b:c] + REAL[a:b] + REAL[c:])


def test_a_line_written_twice_is_seen() -> None:
    a, b = SPANS[2]
    refused(REAL[:b] + REAL[a:b] + REAL[b:])


def test_a_journal_can_be_read_on_from_where_a_reading_ended() -> None:
    middle = SPANS[4][1]
    first = journal.read(REAL[:middle])
    rest = journal.read(REAL[first.good :], first.crc)
    assert (*first.facts, *rest.facts) == FACTS


happenings = st.tuples(keys, st.dictionaries(keys, values, max_size=3), st.datetimes(timezones=st.just(UTC)))


@settings(max_examples=60, deadline=None)
@given(st.lists(happenings, max_size=4))
def test_what_is_encoded_is_read_back(facts: list[tuple[str, dict[str, object], datetime]]) -> None:
    data, crc = b"", 0
    for kind, extra, at in facts:
        line, crc = journal.encode(Fact(kind, at, extra), crc)
        assert line.count(b"\n") == 1 and b"\0" not in line
        data += line
    reading = journal.read(data)
    assert [(f.kind, f.data, f.at) for f in reading.facts] == facts
    assert (reading.good, reading.crc) == (len(data), crc)


def test_what_is_in_memory_is_what_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(Disk(), path)
    fact = book.append("created", NOON, usd_per_hour=Decimal("0.690"), ends_at=NOON, names=("a", "b"))
    assert fact.data == {
        "usd_per_hour": "0.690",
        "ends_at": "2026-03-04T12:00:00.000000Z",
        "names": ["a", "b"],
    }
    assert book.facts == [fact] == Journal(Disk(), path).facts
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_disk_that_fills_at_any_byte_leaves_a_sound_journal(tmp_path: Path, stuck: int) -> None:
    line, _ = journal.encode(Fact("second", NOON, {"n": 2}), journal.read(b"").crc)
    for taken in range(len(line)):
        path = tmp_path / f"{taken}.jsonl"
        Journal(Quick(), path).append("first", NOON)
        disk = Full(taken)
        book = Journal(disk, path)
        disk.stuck = stuck
        with pytest.raises(OSError, match="No space left"):
            book.append("second", NOON, n=2)
        assert [f.kind for f in book.facts] == ["first"]
        if not stuck:
            assert [f.kind for f in journal.read(path.read_bytes()).facts] == ["first"]
        disk.room = 10_000
        book.append("third", NOON + timedelta(seconds=1))
        assert [f.kind for f in journal.read(path.read_bytes()).facts] == ["first", "third"]


def test_a_disk_that_was_full_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    disk = Full(0)
    book = Journal(disk, path)
    with pytest.raises(OSError, match="No space left"):
        book.append("first", NOON)
    assert path.read_bytes() == b""
    disk.room = 10_000
    book.append("first", NOON)
    assert [f.kind for f in Journal(Disk(), path).facts] == ["first"]


def test_while_the_tail_cannot_be_mended_nothing_is_written_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(Disk(), path).append("first", NOON)
    disk = Full(5)
    book = Journal(disk, path)
    disk.stuck = 2
    before = path.stat().st_size
    with pytest.raises(OSError, match="No space left"):
        book.append("second", NOON)
    disk.room = 10_000
    with pytest.raises(OSError, match="Input/output"):
        book.append("second", NOON)
    assert path.stat().st_size == before + 5
    book.append("second", NOON)
    assert [f.kind for f in Journal(Disk(), path).facts] == ["first", "second"]


def test_a_name_that_is_no_text_is_kept_as_it_is(tmp_path: Path) -> None:
    """A checkpoint may be called by any bytes; who writes that down must not be what ends its run."""
    book = Journal(Disk(), tmp_path / "journal.jsonl")
    name = os.fsdecode(b"mod\xe9le-1")
    assert book.append("checkpoint", NOON, name=name).data["name"] == name
    assert Journal(Disk(), tmp_path / "journal.jsonl").facts[0].data["name"] == name
