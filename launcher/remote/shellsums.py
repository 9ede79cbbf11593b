"""Sizes and digests of files where there is nothing but a shell: sh, find, wc, sha256sum.

The names are asked for once; then sessions hash a few files each, however long that takes, and say meanwhile
that they live. Knows its scripts, nothing of how a connection is made.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from launcher.errors import Corrupt, HostError
from launcher.remote.base import Digests, Tick
from launcher.remote.channel import GULP, Broken, harmless
from launcher.remote.couriered import ANSWER_S, MOST_OUTPUT
from launcher.remote.digests import order, understood
from launcher.remote.sessions import Opened

BEAT_S = 5  # within which one that hashes says that it lives
SUMS = 100  # files in one session
LONGEST_SUM = 200
LOW = "renice -n 5 -p $$ >/dev/null 2>&1\n"  # it gives way to what is trained there
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-")

# ROOT FOLDER: all that is no folder, or may not be looked into, each behind a mark and in front of a NUL; one
# NUL more is the end.
_NAMES = r"""
top "$1"; into "$2"
find . -exec sh -c 'for n; do k=-
if [ -L "$n" ]; then :; elif [ -d "$n" ]; then [ ! -r "$n" ] || [ ! -x "$n" ] || continue
elif [ -f "$n" ]; then k=f; fi
printf "%s%s\\0" $k "$n"; done' sh {} +
printf "\\0"
"""
# ROOT FOLDER; on stdin: names. A line for each, and an empty one now and then.
_SUMS = f"""
top "$1"; into "$2"
(while sleep {BEAT_S} >/dev/null 2>&1; do echo; done) </dev/null 2>/dev/null & beat=$!
one() {{
  n=$(printf '%b.' "$1"); n=${{n%.}}
  size=$(wc -c <"./$n") && sum=$(sha256sum <"./$n") && echo "$((size)) ${{sum%% *}}"
}}
while read -r name && [ -n "$name" ]; do one "$name" 2>/dev/null || echo -; done
kill $beat
"""


class ShellSums:
    def __init__(self, root: str, opened: Opened, begin: str, nothing: tuple[int, ...]) -> None:
        """`begin`: the words that all scripts begin with, which end with one of `nothing` where the folder is
        not there."""
        self._root = root
        self._opened = opened
        self._begin = begin
        self._nothing = nothing
        self._names: dict[str, list[str]] = {}  # what lies below a folder, marked, while it is gone through

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        if base not in self._names or not after:
            self._names[base] = self._below(base, tick)
        names = self._names[base]
        first = bisect_right(names, order(after), key=_place) if after else 0
        some = names[first : first + SUMS]
        sums = self._summed(base, [name[1:] for name in some if name.startswith("f")], tick)
        rows = [(name[1:], *(next(sums) if name.startswith("f") else (None, None))) for name in some]
        over = first + SUMS >= len(names)
        if over:
            del self._names[base]
        return understood({"over": over}, json.dumps(rows).encode(), after)

    def _below(self, base: str, tick: Tick) -> list[str]:
        words = ["sh", "-c", LOW + self._begin + _NAMES, "sh", self._root, base]
        session, _ = self._opened(words, _in(ANSWER_S), tick)
        out = bytearray()
        try:
            while True:
                if len(out) > MOST_OUTPUT:
                    raise HostError(f"{base} holds more names than are listened to: {MOST_OUTPUT >> 20} MiB")
                try:
                    out += session.wire.some(GULP, _in(ANSWER_S), tick)
                except Broken:  # its end; whether it was the connection's too is told by the status
                    break
            status = session.status(_in(ANSWER_S), tick)
        finally:
            session.close()
        if status in self._nothing:
            return []
        if not out.endswith(b"\0\0") and out != b"\0":
            raise HostError(f"the host does not list {base} to the end: {harmless(session.complaint)}")
        found = (name.decode("utf-8", "surrogateescape") for name in bytes(out[:-1]).split(b"\0")[:-1])
        return sorted((name[0] + (name[3:] or ".") for name in found), key=_place)  # without the "./"

    def _summed(self, base: str, names: Sequence[str], tick: Tick) -> Iterator[tuple[int | None, str | None]]:
        if not names:
            return
        words = ["sh", "-c", LOW + self._begin + _SUMS, "sh", self._root, base]
        ahead = b"".join(coded(name) + b"\n" for name in names) + b"\n"
        session, _ = self._opened(words, _in(ANSWER_S), tick, ahead=ahead)
        try:
            for name in names:
                line: bytes | None = b""
                while not line:
                    line = session.wire.line(LONGEST_SUM, _in(ANSWER_S), tick)
                    if line is None:
                        raise Corrupt(f"the sum of {name!r} was to come, and the host sends something else")
                size, _, sha256 = line.partition(b" ")
                told = size.isdigit() and len(size) < 20
                yield (int(size), sha256.decode("ascii", "replace")) if told else (None, None)
        finally:
            session.close()


def coded(name: str) -> bytes:
    """For `read` and `printf %b`, which give back the bytes."""
    data = name.encode("utf-8", "surrogateescape")
    return b"".join(bytes([c]) if c in _PLAIN else b"\\0%03o" % c for c in data)


def _place(marked: str) -> list[bytes]:
    return order(marked[1:])


def _in(seconds: float) -> float:
    return time.monotonic() + seconds
