"""Many files in one stream, read as if they were read one by one.

The far side sends file after file in the order that was asked for, each behind a line of a word and a size.
What a reader wants besides (a file whose beginning here turned out to be wrong) is read singly. Nothing
that comes is believed: no piece is longer than what was asked for, no line longer than a line.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from launcher.errors import Corrupt, HostError, HostUnreachable, NoFile
from launcher.remote.base import Tick
from launcher.remote.channel import Wire, harmless
from launcher.remote.fetching import Read, Rest

SILENCE_S = 30  # how long nothing at all may come
_LONGEST_LINE = 64


class Feed:
    """`opened` starts the stream of these files; `read` reads any single piece."""

    def __init__(
        self,
        opened: Callable[[Sequence[Rest]], Wire],
        read: Read,
        tick: Tick,
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._opened = opened
        self._silence_s = silence_s
        self._single = read
        self._tick = tick
        self._wire: Wire | None = None
        self._rests: deque[Rest] = deque()
        self._source = ""  # the file that is coming,
        self._at = 0  # where its next byte belongs,
        self._left = 0  # and how many still come

    def ahead(self, rests: Sequence[Rest]) -> None:
        if rests:
            self._wire = self._opened(rests)
            self._rests.extend(rests)

    def read(self, path: str, offset: int, limit: int) -> bytes:
        if self._rests and (path, offset) == (self._rests[0].source, self._rests[0].offset):
            self._next_file()
        elif (path, offset) != (self._source, self._at):
            return self._single(path, offset, limit)
        if not self._left:
            return b""
        data = self._line.some(min(limit, self._left), self._until(), self._tick)
        self._at += len(data)
        self._left -= len(data)
        return data

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    @property
    def _line(self) -> Wire:
        assert self._wire is not None  # where something is to come, a stream was opened
        return self._wire

    def _until(self) -> float:
        return time.monotonic() + self._silence_s

    def _next_file(self) -> None:
        if self._left:
            raise HostUnreachable("the stream of files was left in the middle of one")
        rest = self._rests.popleft()
        line = self._line.line(_LONGEST_LINE, self._until(), self._tick)
        word, _, count = (line or b"").partition(b" ")
        if line is None or not count.isdigit() or len(count) > 18:
            shown = harmless(line if line is not None else self._line.ready[:_LONGEST_LINE])
            raise Corrupt(f"{rest.source!r} was to come, and the host sends something else: {shown!r}")
        if word != b"ok":
            raise _refusal(word, rest.source)
        if int(count) > rest.size:
            raise Corrupt(f"{rest.source!r} is longer than the {rest.offset + rest.size} bytes announced")
        self._source, self._at, self._left = rest.source, rest.offset, int(count)


def _refusal(word: bytes, source: str) -> HostError:
    if word == b"gone":
        return NoFile(f"{source!r} is not there")
    if word == b"link":
        return Corrupt(f"{source!r} is a link or lies behind one")
    if word == b"odd":
        return Corrupt(f"{source!r} is no plain file")
    return HostError(f"the host cannot open {source!r}")
