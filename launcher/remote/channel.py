"""The client's side of a channel to a courier: one request, one reply, each with a deadline.

It takes bytes off a pipe and keeps time; it knows neither engines nor files. A channel that broke or was
left in the middle of a message (a deadline, a stop) is closed for good: the next one starts with a new
courier. Whoever answers is not believed: no answer is longer than what was asked for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from launcher.errors import HostUnreachable
from launcher.remote.base import Pipe, Tick

SLICE_S = 0.25  # how long a wait may last before tick() is due
PIECE = 1 << 18
GULP = 8 << 20  # of a stream: what lies ready is taken in few, large bites
TAIL = 2000
LONGEST_HEAD = 1 << 20

_Got = TypeVar("_Got")


class Broken(HostUnreachable):
    """The other end is gone; a new channel may do."""


class Framing(Protocol):
    """How the courier's own words are told from the rest of what a pipe delivers."""

    def words(self, data: bytes) -> bytes:
        """What of its stdout is complete by now."""

    @property
    def complaint(self) -> bytes:
        """The end of what it said on stderr."""


class Wire:
    """Bytes over a pipe, each wait with a deadline and a tick."""

    def __init__(self, pipe: Pipe, framing: Framing, whose: str) -> None:
        self._pipe = pipe
        self._framing = framing
        self._ready = bytearray()  # its stdout, frames taken off
        self._ticked = time.monotonic()
        self.whose = whose  # "the container", "the host"

    @property
    def ready(self) -> bytes:
        return bytes(self._ready)

    def close(self) -> None:
        self._pipe.close()

    def send(self, data: bytes, until: float, tick: Tick | None) -> None:
        view = memoryview(data)
        while view:
            view = view[self._waiting(partial(self._pipe.send, view[:PIECE]), until, tick) :]

    def exactly(self, count: int, until: float, tick: Tick | None) -> bytes:
        while len(self._ready) < count:
            self._more(until, tick, PIECE)
        return self._taken(count)

    def some(self, most: int, until: float, tick: Tick | None) -> bytes:
        """What is there, at least one byte and at most `most`."""
        while not self._ready:
            if data := self._come(until, tick, min(most, GULP)):
                return data
        return self._taken(most)

    def line(self, most: int, until: float, tick: Tick | None) -> bytes | None:
        """Up to the next newline, without it; None when none comes within `most` bytes."""
        while (end := self._ready.find(b"\n", 0, most)) < 0:
            if len(self._ready) >= most:
                return None
            self._more(until, tick, PIECE)
        return self._taken(end + 1)[:-1]

    def _taken(self, most: int) -> bytes:
        with memoryview(self._ready) as view:
            taken = bytes(view[:most])
        del self._ready[:most]
        return taken

    def _more(self, until: float, tick: Tick | None, most: int) -> None:
        self._ready += self._come(until, tick, most)

    def _come(self, until: float, tick: Tick | None, most: int) -> bytes:
        data = self._waiting(partial(self._pipe.recv, most), until, tick)
        if not data:
            said = harmless(self._framing.complaint)
            raise Broken(f"the helper program in {self.whose} ended" + (said and f": {said}"))
        return self._framing.words(data)

    def _waiting(self, step: Callable[[], _Got], until: float, tick: Tick | None) -> _Got:
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise HostUnreachable(f"{self.whose} did not answer in time")
            pause = SLICE_S
            if tick is not None:
                if time.monotonic() - self._ticked >= SLICE_S:
                    self._ticked = time.monotonic()
                    tick()
                pause = max(0.01, self._ticked + SLICE_S - time.monotonic())  # a whole one were too late
            self._pipe.settimeout(min(left, pause))
            try:
                return step()
            except TimeoutError:
                continue
            except OSError as why:
                raise Broken(f"the way to {self.whose} broke: {why}") from why


class Channel:
    """Speaks to one courier. `read_only`: why nothing can be changed by it, where that is so."""

    def __init__(self, wire: Wire, let_go: Callable[[], object], read_only: str | None = None) -> None:
        self._wire = wire
        self._let_go = let_go
        self.read_only = read_only
        self.open = True
        self.busy = False  # in the middle of a call, whose tick() may want another

    def call(
        self, ask: dict[str, Any], payload: bytes, *, timeout: float, tick: Tick | None = None, most: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """One round trip with at most `most` bytes in the answer. Whatever interrupts it, tick() included,
        closes the channel."""
        sys.audit("launcher.remote.call", ask["verb"], ask.get("path"))  # as Python tells of opened files
        until = time.monotonic() + timeout
        self.busy = True
        finished = False
        try:
            self._wire.send(message(ask, payload), until, tick)
            answer = self._answer(until, tick, most)
            finished = True
            return answer
        finally:
            self.busy = False
            if not finished:
                self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._wire.close()
            self._let_go()

    def _answer(self, until: float, tick: Tick | None, most: int) -> tuple[dict[str, Any], bytes]:
        wire = self._wire
        first = wire.exactly(4, until, tick)
        size = int.from_bytes(first, "big")
        if size > LONGEST_HEAD:  # not a courier that speaks: what did instead says why
            raise HostUnreachable(f"no helper program in {wire.whose}: {harmless(first + wire.ready)}")
        reply = _head(wire.exactly(size, until, tick))
        count = reply.get("size") if reply is not None else None
        if reply is None or not isinstance(count, int) or not 0 <= count <= most:
            raise HostUnreachable(f"the helper program in {wire.whose} answers what was not asked")
        return reply, wire.exactly(count, until, tick)


def message(ask: dict[str, Any], payload: bytes = b"") -> bytes:
    head = json.dumps(dict(ask, size=len(payload))).encode()
    return len(head).to_bytes(4, "big") + head + payload


def harmless(said: bytes) -> str:
    """Another machine's words in one line that no terminal obeys."""
    text = said[-TAIL:].decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def _head(data: bytes) -> dict[str, Any] | None:
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None
