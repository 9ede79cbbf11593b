"""A far side that lies in what it lists or streams: each lie is refused with the file's name, nothing lies
outside of staging, nothing is left of the file, and no more is in memory or on the terminal than is meant.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.errors import Corrupt, HostError, HostUnreachable, NoFile
from launcher.remote.base import Listed
from launcher.remote.channel import Wire
from launcher.remote.fetching import Rest, fetch
from launcher.remote.streaming import Feed

BODY = b"what was promised"
ESCAPES = b"\x1b]0;owned\x07\x1b[2J"


class Words:
    """A framing that frames nothing."""

    complaint = ESCAPES

    def words(self, data: bytes) -> bytes:
        return data


class Far:
    """What the other side sends once it is asked for files."""

    def __init__(self, said: Iterator[bytes]) -> None:
        self.said = said
        self.asked: Sequence[Rest] = ()

    def opened(self, rests: Sequence[Rest]) -> Wire:
        self.asked = rests
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._say, args=(theirs,), daemon=True).start()
        return Wire(ours, Words(), "the host")

    def _say(self, theirs: socket.socket) -> None:
        with suppress(OSError), theirs as line:  # nobody listens any more
            for data in self.said:
                line.sendall(data)


def listed(path: str, data: bytes = BODY) -> Listed:
    return Listed(path, len(data), sha256(data).hexdigest())


def never(path: str, offset: int, limit: int) -> bytes:
    raise AssertionError(f"{path} was read singly")


def bring(
    staging: Path, said: Iterator[bytes], listing: Sequence[Listed], silence_s: float = 20
) -> Sequence[Rest]:
    far = Far(said)
    feed = Feed(far.opened, never, lambda: None, silence_s=silence_s)
    try:
        fetch(feed.read, "output", listing, staging, lambda: None, ahead=feed.ahead)
    finally:
        feed.close()
    return far.asked


def ok(data: bytes, count: int | None = None) -> bytes:
    return b"ok %d\n" % (len(data) if count is None else count) + data


def archive(member: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, size
    return info


# An archive is what other tools would unpack; here it is bytes at the wrong place.
ARCHIVES = {
    "a link out": member("weights", tarfile.SYMTYPE, "/etc/passwd"),
    "a link through long paths": member("d/" * 60 + "weights", tarfile.SYMTYPE, "../" * 61 + "etc"),
    "a hard link out": member("weights", tarfile.LNKTYPE, "/etc/passwd"),
    "an absolute name": member("/tmp/owned", size=9),
    "a name that climbs": member("../owned", size=9),
    "a device": member("weights", tarfile.CHRTYPE),
    "a pipe": member("weights", tarfile.FIFOTYPE),
    "a sparse file": member("weights", tarfile.GNUTYPE_SPARSE),
    "an unknown kind": member("weights", b"Z"),
}


def sent(data: bytes) -> Iterator[bytes]:
    return iter([data])


STREAMS: dict[str, Callable[[], Iterator[bytes]]] = {
    "one byte too long": lambda: iter([ok(BODY + b"!")]),
    "endlessly long": lambda: iter([ok(BODY, 10**17)]),
    "a size of too many digits": lambda: iter([b"ok " + b"9" * 40 + b"\n"]),
    "a negative size": lambda: iter([b"ok -5\n" + BODY]),
    "a size that is none": lambda: iter([b"ok 0x11\n" + BODY]),
    "one byte too short": lambda: iter([ok(BODY[:-1]), ok(BODY)]),
    "nothing of it": lambda: iter([ok(b"")]),
    "other bytes": lambda: iter([ok(BODY[::-1])]),
    "a link": lambda: iter([b"link 0\n"]),
    "a pipe or a device": lambda: iter([b"odd 0\n"]),
    "data behind a refusal": lambda: iter([b"link 17\n" + BODY]),
    "an unknown word": lambda: iter([b"fine 17\n" + BODY]),
    "no first line": lambda: iter([BODY + b"\n"]),
    "an endless line": lambda: itertools.repeat(b"A" * 65536),
    "endless escapes": lambda: itertools.repeat(ESCAPES * 4096),
    "endless newlines": lambda: itertools.repeat(b"\n" * 65536),
    **{f"an archive with {name}": partial(sent, archive(m)) for name, m in ARCHIVES.items()},
}


@pytest.mark.parametrize("lie", STREAMS)
def test_a_lie_in_the_stream_is_refused_by_name_and_leaves_nothing_of_it(tmp_path: Path, lie: str) -> None:
    staging = tmp_path / "staging"
    said = itertools.chain([ok(b"first")], STREAMS[lie]())
    tracemalloc.start()
    try:
        with pytest.raises((Corrupt, HostError)) as refused:
            bring(staging, said, [listed("a", b"first"), listed("weights"), listed("z")])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "weights" in str(refused.value)
    assert str(refused.value).isprintable()
    assert sorted(os.listdir(tmp_path)) == ["staging"]
    assert {p.name: p.read_bytes() for p in staging.iterdir()} == {"a": b"first"}
    assert most < 64 << 20


@pytest.mark.parametrize("at", range(0, len(ok(BODY)), 3))
def test_an_end_at_any_byte_keeps_the_beginning_and_is_told_as_a_broken_way(tmp_path: Path, at: int) -> None:
    with pytest.raises(HostUnreachable) as broken:
        bring(tmp_path, iter([ok(BODY)[:at]]), [listed("weights")])
    assert str(broken.value).isprintable()  # what it said on stderr is in there
    had = at - len(b"ok 17\n")
    left = tmp_path / "weights"
    assert left.read_bytes() == BODY[:had] if had > 0 else not left.exists()
    asked = bring(tmp_path, iter([ok(BODY[max(had, 0) :])]), [listed("weights")])
    assert asked == [Rest("output/weights", max(had, 0), len(BODY) - max(had, 0))]
    assert left.read_bytes() == BODY


def test_silence_has_an_end(tmp_path: Path) -> None:
    held = threading.Event()

    def said() -> Iterator[bytes]:
        yield ok(BODY)[:9]
        held.wait(20)

    try:
        with pytest.raises(HostUnreachable, match="in time"):
            bring(tmp_path, said(), [listed("weights")], silence_s=0.3)
    finally:
        held.set()


def test_what_follows_the_last_file_is_not_looked_at(tmp_path: Path) -> None:
    bring(tmp_path, itertools.chain([ok(BODY)], itertools.repeat(ESCAPES)), [listed("weights")])
    assert (tmp_path / "weights").read_bytes() == BODY


def test_a_missing_file_is_no_lie(tmp_path: Path) -> None:
    with pytest.raises(NoFile, match="weights"):
        bring(tmp_path, iter([b"gone 0\n"]), [listed("weights")])
    assert list(tmp_path.iterdir()) == []


LISTINGS = {
    "an absolute name": [listed("/etc/cron.d/owned")],
    "a name that climbs": [listed("a/../../owned")],
    "a name with an empty part": [listed("a//b")],
    "an empty name": [listed("")],
    "a NUL": [listed("a\0b")],
    "escapes": [listed(ESCAPES.decode())],
    "a line break": [listed("a\n[launcher] all is well")],
    "a right-to-left override by C1": [listed("a\x9b31m")],
    "bytes that are no text": [listed("a\udcff")],
    "a name twice": [listed("a"), listed("a")],
    "a file that is a folder": [listed("a"), listed("a/b")],
    "a negative size": [Listed("a", -1, "0" * 64)],
    "a size beyond all numbers": [Listed("a", 10**400, "0" * 64)],
    "more than any disk holds": [Listed("a", 1 << 62, "0" * 64)],
    "many that no disk holds together": [Listed(f"a{i}", 1 << 50, "0" * 64) for i in range(64)],
    "a sum that is none": [Listed("a", 1, ESCAPES.decode())],
}


@pytest.mark.parametrize("lie", LISTINGS)
def test_a_listing_that_lies_asks_for_nothing_and_brings_nothing(tmp_path: Path, lie: str) -> None:
    staging = tmp_path / "staging"
    with pytest.raises((Corrupt, OSError)) as refused:
        bring(staging, itertools.repeat(ok(BODY)), [*LISTINGS[lie], listed("good")])
    assert str(refused.value).isprintable()
    assert not staging.exists() or list(staging.iterdir()) == []
