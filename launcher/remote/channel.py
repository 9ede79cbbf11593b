"""The client's side of a channel to a courier: one request, one reply, each with a deadline.

It frames bytes and keeps time; it knows neither engines nor files. A channel that broke or was left in
the middle of a message (a deadline, a stop) is closed for good: the next one starts with a new courier.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from launcher.errors import HostUnreachable
from launcher.remote.base import Pipe, Tick

SLICE_S = 0.25  # how long a wait may last before tick() is due

_STDOUT, _STDERR = 1, 2
_TAIL = 2000
_PIECE = 1 << 18
_LONGEST_HEAD = 1 << 20

_Got = TypeVar("_Got")


class Broken(HostUnreachable):
    """The other end is gone; a new channel may do."""


class Channel:
    """Speaks to a courier through an engine's attached stream (8 bytes of head before every piece)."""

    def __init__(self, pipe: Pipe, let_go: Callable[[], object]) -> None:
        self._pipe = pipe
        self._let_go = let_go
        self._out = bytearray()  # the courier's stdout, frames taken off
        self._raw = bytearray()
        self._err = b""  # what it complained about
        self.open = True

    def call(
        self, ask: dict[str, Any], payload: bytes, *, timeout: float, tick: Tick | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """One round trip. Whatever interrupts it, tick() included, closes the channel."""
        sys.audit("launcher.remote.call", ask["verb"], ask.get("path"))  # as Python tells of opened files
        until = time.monotonic() + timeout
        head = json.dumps(dict(ask, size=len(payload))).encode()
        finished = False
        try:
            self._send(len(head).to_bytes(4, "big") + head + payload, until, tick)
            first = self._receive(4, until, tick)
            size = int.from_bytes(first, "big")
            if size > _LONGEST_HEAD:  # not a courier that speaks: the engine says why it did not start
                said = (first + bytes(self._out)).decode("utf-8", "replace").strip()
                raise HostUnreachable(f"no helper program in the container: {said[:_TAIL]}")
            reply: dict[str, Any] = json.loads(self._receive(size, until, tick))
            data = self._receive(reply["size"], until, tick)
            finished = True
            return reply, data
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._pipe.close()
            self._let_go()

    def _send(self, data: bytes, until: float, tick: Tick | None) -> None:
        view = memoryview(data)
        while view:
            view = view[self._waiting(partial(self._pipe.send, view[:_PIECE]), until, tick) :]

    def _receive(self, count: int, until: float, tick: Tick | None) -> bytes:
        while len(self._out) < count:
            data = self._waiting(partial(self._pipe.recv, _PIECE), until, tick)
            if not data:
                complaint = self._err.decode("utf-8", "replace").strip()
                raise Broken("the helper program in the container ended" + (complaint and f": {complaint}"))
            self._raw += data
            self._unframe()
        taken = bytes(self._out[:count])
        del self._out[:count]
        return taken

    def _unframe(self) -> None:
        while len(self._raw) >= 8:
            size = int.from_bytes(self._raw[4:8], "big")
            if len(self._raw) < 8 + size:
                return
            if self._raw[0] == _STDOUT:
                self._out += self._raw[8 : 8 + size]
            elif self._raw[0] == _STDERR:
                self._err = (self._err + self._raw[8 : 8 + size])[-_TAIL:]
            del self._raw[: 8 + size]

    def _waiting(self, step: Callable[[], _Got], until: float, tick: Tick | None) -> _Got:
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise HostUnreachable("the container did not answer in time")
            self._pipe.settimeout(min(left, SLICE_S))
            try:
                return step()
            except TimeoutError:
                if tick is not None:
                    tick()
            except OSError as why:
                raise Broken(f"the way to the container broke: {why}") from why
