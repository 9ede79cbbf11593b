"""One far program over an SSH channel: what it says and is told, with a deadline on silence.

Its standard error is kept, bounded, for the words of a refusal. Knows no protocol.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from launcher.errors import HostDiskFull, HostError, HostUnreachable
from launcher.remote.base import Tick
from launcher.ssh.connection import Connection
from launcher.ssh.ending import let_go

if TYPE_CHECKING:
    from launcher.ssh import Channel

SLICE_S = 0.2
SILENCE_S = 600.0  # a host may have much to do between two words; a dead line is noticed by the connection
PARTING_S = 2.0
MOST_WORDS = 16 << 10
PIECE = 1 << 20
LINE = 4096


class Ended(HostUnreachable):
    """The program or the line to it ended before it said what was awaited."""


class Talk:
    """`command`: what is started for it, or a channel on which something is under way already."""

    def __init__(self, connection: Connection, command: bytes | Channel, tick: Tick) -> None:
        self._connection = connection
        self._tick = tick
        self._ticked = 0.0
        self._heard = bytearray()
        self._words = bytearray()
        self._channel = connection.open_session(command) if isinstance(command, bytes) else command
        self._channel.settimeout(SLICE_S)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        let_go(self._channel)

    @property
    def words(self) -> str:
        """What it said on standard error."""
        return self._words.decode("utf-8", "replace").strip()

    @property
    def cut(self) -> bool:
        """The line itself is gone, and with it what the far side would have said."""
        return not self._connection.alive

    def tick(self) -> None:
        """As often as was promised, not as often as there is a packet."""
        now = time.monotonic()
        if now - self._ticked >= SLICE_S:
            self._ticked = now
            self._tick()

    def hear_out(self) -> None:
        """What is still said until its end."""
        try:
            while True:
                self._listen()
        except Ended:
            return

    def part(self) -> None:
        """Wait for it to be gone, a little."""
        self.hear_out()
        until = time.monotonic() + PARTING_S
        while not self._channel.closed and time.monotonic() < until:
            self.tick()
            self._channel.status_event.wait(0.01)
            if self._channel.exit_status_ready():
                return

    def line(self) -> bytes:
        while (end := self._heard.find(b"\n")) < 0:
            if len(self._heard) > LINE:
                raise HostError("the host's answer is none of ours")
            self._listen()
        return self._taken(end + 1)[:-1]

    def exactly(self, count: int) -> bytes:
        while len(self._heard) < count:
            self._listen()
        return self._taken(count)

    def lines_now(self) -> list[bytes]:
        """The whole lines that are here, without waiting."""
        self._take_in()
        end = self._heard.rfind(b"\n") + 1
        return self._taken(end).splitlines() if end else []

    def send(self, data: bytes) -> None:
        """All of it; ends early by Ended when the far side has stopped listening."""
        at, since = 0, time.monotonic()
        packet = self._channel.out_max_packet_size  # more than one is not taken at once anyway
        while at < len(data):
            self.tick()
            with _told(self._connection):
                if self._channel.closed or self._channel.exit_status_ready():
                    self._take_in()
                    raise Ended("the host stopped listening")
                try:
                    sent = self._channel.send(data[at : at + packet])
                except TimeoutError:
                    sent = 0
            if sent:
                at, since = at + sent, time.monotonic()
            elif time.monotonic() - since > SILENCE_S:
                raise HostUnreachable("the host takes nothing any more")

    def end(self) -> None:
        """Nothing more comes from us."""
        with _told(self._connection):
            self._channel.shutdown_write()

    def _taken(self, count: int) -> bytes:
        data = bytes(self._heard[:count])
        del self._heard[:count]
        return data

    def _listen(self) -> None:
        """At least one more byte."""
        since, had = time.monotonic(), len(self._heard)
        while True:
            self.tick()
            self._take_in()
            if len(self._heard) > had:
                return
            if self._channel.eof_received or self._channel.closed or not self._connection.alive:
                self._take_in()
                if len(self._heard) == had:
                    raise Ended("the line broke or the far program ended")
                return
            with _told(self._connection), suppress(TimeoutError):
                self._heard += self._channel.recv(PIECE)
            if time.monotonic() - since > SILENCE_S:
                raise HostUnreachable("the host has fallen silent")

    def _take_in(self) -> None:
        with _told(self._connection):
            while self._channel.recv_ready():
                self._heard += self._channel.recv(PIECE)
            while self._channel.recv_stderr_ready():
                self._words += self._channel.recv_stderr(PIECE)[: max(0, MOST_WORDS - len(self._words))]


def refusal(why: str, words: str) -> HostError:
    """What the far side could not do, sorted by what it is for us."""
    both = f"{why} {words}"
    if "No space left" in both or "uota exceeded" in both:
        return HostDiskFull(why if "No space left" in why else f"{why}: no space left on device")
    if "Read-only file system" in words:
        return HostError(f"{why}: it is read-only")
    last = words.splitlines()[-1] if words else ""
    return HostError(f"{why}: {last}" if last else why)


@contextmanager
def _told(connection: Connection) -> Iterator[None]:
    """A broken way in the words of hosts."""
    try:
        yield
    except TimeoutError:
        raise
    except (EOFError, OSError) as e:
        raise Ended(f"the connection broke: {e}") from e
