"""A socket that notices when the other side has fallen silent.

A dead radio link, a sleeping host or a gateway that forgot us sends no error: it sends nothing. So whoever
was silent for a while is asked, over SSH itself, and who does not answer is gone. The library calls `recv`
and `send` with a short timeout again and again, which is where silence is seen: no further thread. It asks
for every packet twice, a few bytes first; what lies ready is taken in one go. Knows nothing of what is sent.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

ASK_AFTER_S = 5.0
DEAD_AFTER_S = 15.0  # unanswered for so long: 20 s in all, 30 are promised
GULP = 256 << 10


class Socket(Protocol):
    """A real one, or a channel through a jump host."""

    def recv(self, count: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class FellSilent(OSError):
    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, f"no answer for {DEAD_AFTER_S:g} s: the line is dead")


class Pulse:
    """`ask` makes the other side answer something; it is called from within `recv`, and must not wait.
    `hello` is sent at once: when the library says it, as its first words, the answer is on its way."""

    def __init__(self, stream: Socket, hello: bytes = b"") -> None:
        self._stream = stream
        self._hello = hello
        if hello:
            stream.send(hello)
        self._taken = b""  # of the stream, and how much of it was asked for
        self._at = 0
        self._heard = time.monotonic()
        self._asked: float | None = None  # the first question that nothing was heard since
        self._shut = False
        self.ask: Callable[[], None] | None = None

    @property
    def _closed(self) -> bool:  # the library looks at it by the name that sockets have for it
        return self._shut

    def recv(self, count: int) -> bytes:
        if self._at == len(self._taken):
            try:
                self._taken = self._stream.recv(GULP)
            except TimeoutError:
                self._listen()
                raise
            self._at = 0
            self._heard = time.monotonic()
            self._asked = None
        data = self._taken[self._at : self._at + count]
        self._at += len(data)
        return data

    def send(self, data: bytes) -> int:
        if self._hello and data == self._hello:
            self._hello = b""
            return len(data)
        try:
            return self._stream.send(data)
        except TimeoutError:  # nobody takes what is sent: as good as a question
            self._await_answer()
            raise

    def settimeout(self, seconds: float | None) -> None:
        self._stream.settimeout(seconds)

    def close(self) -> None:
        """Whoever waits in `recv` wakes up."""
        self._shut = True
        with suppress(OSError, EOFError):
            self._stream.shutdown(socket.SHUT_RDWR)
        with suppress(OSError, EOFError):
            self._stream.close()

    def _listen(self) -> None:
        if self._asked is not None:
            self._await_answer()
        elif self.ask is not None and time.monotonic() - self._heard >= ASK_AFTER_S:
            self._asked = time.monotonic()
            self.ask()

    def _await_answer(self) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked >= DEAD_AFTER_S:
            raise FellSilent
