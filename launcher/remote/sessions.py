"""A command under way on a host, as bytes: past what its login shell prints, its stderr kept apart.

Knows one connection's sessions, nothing of what is spoken over them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from launcher.errors import HostUnreachable
from launcher.remote.base import Tick
from launcher.remote.channel import GULP, SLICE_S, TAIL, Broken, Wire
from launcher.ssh.connection import Connection
from launcher.ssh.ending import LEAVE_S, let_go
from launcher.ssh.errors import as_of_a_socket
from launcher.ssh.quoting import line

if TYPE_CHECKING:
    from launcher.ssh import Channel

# What a command says first, on a line of its own: before it, a login shell may have talked.
ARRIVED = "launcher-arrived "
JUNK = 64 << 10
FLOOD = 32 << 20


class Session:
    """A pipe and its framing at once. Stderr is taken off as it comes: it shares the window of stdout."""

    def __init__(self, channel: Channel, keep: int = TAIL) -> None:
        self._channel = channel
        self._keep = keep
        self.complaint = b""  # the end of its stderr
        self._floods = 0
        self.wire = Wire(self, self, "the host")

    def recv(self, count: int, /) -> bytes:
        try:
            with as_of_a_socket():
                return self._channel.recv(count)
        finally:
            if self._channel.recv_stderr_ready():
                self._complained(self._channel.recv_stderr(GULP))

    def _complained(self, data: bytes) -> None:
        self.complaint = (self.complaint + data)[-self._keep :]
        self._floods += len(data)
        if self._floods > FLOOD + self._keep:
            raise HostUnreachable("the host says more on its stderr than can be meant")

    def send(self, data: bytes | memoryview, /) -> int:
        with as_of_a_socket():
            return self._channel.send(bytes(data))

    def settimeout(self, seconds: float | None, /) -> None:
        self._channel.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        with as_of_a_socket():
            self._channel.shutdown(how)

    def close(self) -> None:
        """Its command is let end by itself, if it does so soon."""
        channel = self._channel
        with suppress(OSError):  # it has ended, or the connection has
            self.no_more()
        until = time.monotonic() + LEAVE_S
        while not (channel.exit_status_ready() or channel.closed) and time.monotonic() < until:
            channel.status_event.wait(LEAVE_S)
        let_go(channel)

    def words(self, data: bytes) -> bytes:
        return data  # stdout comes by itself

    def no_more(self) -> None:
        self.shutdown(socket.SHUT_WR)

    def status(self, until: float, tick: Tick) -> int:
        """How it ended, once its output has."""
        while not self._channel.exit_status_ready():
            tick()
            if self._channel.closed or time.monotonic() >= until:
                raise HostUnreachable("the connection broke before the command's end was told")
            self._channel.status_event.wait(SLICE_S)
        return int(self._channel.recv_exit_status())


class Opened(Protocol):
    """A command under way, and what it said behind its first word."""

    def __call__(
        self, argv: Sequence[str], until: float, tick: Tick, *, keep: int = TAIL, ahead: bytes = b""
    ) -> tuple[Session, str]: ...


def opened(
    connection: Connection,
    argv: Sequence[str],
    until: float,
    tick: Tick,
    *,
    keep: int = TAIL,
    ahead: bytes = b"",
) -> tuple[Session, str]:
    """`ahead` travels along with the command: a round trip less."""
    timeout = max(0.1, until - time.monotonic())
    session = Session(connection.open_session(line(argv), timeout=timeout, tick=tick), keep)
    try:
        with suppress(Broken):  # it has ended already; what it said before tells why
            session.wire.send(ahead, until, tick)
        return session, _greeting(session.wire, until, tick)
    except BaseException:
        session.close()
        raise


def _greeting(wire: Wire, until: float, tick: Tick) -> str:
    seen = 0
    while seen < JUNK:
        said = wire.line(JUNK, until, tick)
        if said is None:
            break
        seen += len(said) + 1
        if said.startswith(ARRIVED.rstrip().encode()):
            return said[len(ARRIVED) :].decode("utf-8", "replace")
    raise HostUnreachable("the host's login shell prints without an end")
