"""The library's transport, whose end is always told in its own words, and whose login takes one round trip.

Whatever breaks its thread is handed to the caller as it is: after a torn line that is another library's
InvalidTag, after a hostile message a ValueError. For everybody above these are one thing: the line broke.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from paramiko import Message, Transport
from paramiko.auth_handler import AuthHandler
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout
from paramiko.ssh_exception import SSHException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paramiko import PKey

    from launcher.ssh.pulse import Pulse


WINDOW = 64 << 20  # ours to grant: it is what lets a pull fill a long link
PACKET = 256 << 10
ON_A_CHANNEL = range(93, 101)  # messages that name one: RFC 4254, 9
CLOSE = 97


class Line(Transport):
    rtt_s = 0.0  # by an answer that the host does not have to think about

    def __init__(self, below: Pulse) -> None:
        super().__init__(below, default_window_size=WINDOW, default_max_packet_size=PACKET)  # type: ignore[arg-type]  # the stubs want a socket; a Pulse has all that is used of one
        self._ended: set[int] = set()  # channels that were closed from here, by the host's numbers

    def _send_message(self, data: Message) -> None:
        """What one thread was about to say on a channel that another closed meanwhile is not said: a host
        that is told of a channel it has forgotten breaks the connection. One message at a time comes here."""
        head = data.packet.getbuffer()[:5].tobytes()
        if head[0] in ON_A_CHANNEL:
            channel = int.from_bytes(head[1:], "big")
            if channel in self._ended:
                return
            if head[0] == CLOSE:
                self._ended.add(channel)
        super()._send_message(data)  # type: ignore[misc]  # not public, so the stubs leave it out

    def _parse_channel_open_success(self, m: Message) -> None:
        _, number = m.get_int(), m.get_int()
        self._ended.discard(number)  # hosts use one again
        m.rewind()
        super()._parse_channel_open_success(m)  # type: ignore[misc]  # not public, so the stubs leave it out

    def get_exception(self) -> Exception | None:
        fault = super().get_exception()
        if fault is None or isinstance(fault, (SSHException, EOFError, OSError)):
            return fault
        broken = SSHException(f"what came over the line makes no sense ({type(fault).__name__})")
        broken.__cause__ = fault
        return broken

    def let_in(self, user: str, key: PKey) -> Sequence[str]:
        """As the library's auth_publickey, but for the handler."""
        answered = threading.Event()
        self.auth_handler = asking = _Asking(self, key)
        asking.auth_publickey(user, key, answered)
        try:
            return asking.wait_for_response(answered)
        finally:
            self.rtt_s = asking.answered_s


class _Asking(AuthHandler):
    """Shows the key along with the question whether it may be shown: a host that has proved who it is may be
    told at once (RFC 4253, 10). For RSA the answer is waited for: which signatures a host takes comes before
    it, and nothing says how long before."""

    def __init__(self, line: Line, key: PKey) -> None:
        super().__init__(line)
        self.answered_s = 0.0
        self._at_once = "rsa" not in key.get_name()
        self._asked = 0.0

    def _request_auth(self) -> None:
        self._asked = time.monotonic()
        super()._request_auth()  # type: ignore[misc]  # not public, so the stubs leave it out
        if self._at_once:
            super()._parse_service_accept(_accepted())  # type: ignore[misc]  # not public, so the stubs leave it out

    def _parse_service_accept(self, m: Message) -> None:
        self.answered_s = time.monotonic() - self._asked
        if not self._at_once:
            super()._parse_service_accept(m)  # type: ignore[misc]  # not public, so the stubs leave it out


def _accepted() -> Message:
    said = Message()
    said.add_string("ssh-userauth")
    said.rewind()
    return said


class Pieces(BufferedPipe):  # type: ignore[type-arg]  # only the stubs take one
    """What came over a channel, in the pieces it came in. The library's own copies each byte four times,
    which is what a fetch over a quick line mostly does."""

    _lock: threading.Lock  # of the library's, which the stubs leave out
    _cv: threading.Condition
    _event: threading.Event | None
    _closed: bool

    def __init__(self) -> None:
        super().__init__()
        self._pieces: deque[bytes] = deque()

    def feed(self, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        with self._lock:
            if self._event is not None:
                self._event.set()
            if data:
                self._pieces.append(data)
            self._cv.notify_all()

    def read_ready(self) -> bool:
        return bool(self._pieces)

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        with self._lock:
            if not self._cv.wait_for(lambda: self._pieces or self._closed, timeout):
                raise PipeTimeout
            return self._taken(nbytes)

    def empty(self) -> bytes:
        with self._lock:
            return self._taken(len(self))

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def _taken(self, most: int) -> bytes:
        taken: list[bytes] = []
        while self._pieces and most > 0:
            piece = self._pieces.popleft()
            if len(piece) > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            taken.append(piece)
            most -= len(piece)
        if not self._pieces and self._event is not None and not self._closed:
            self._event.clear()
        return taken[0] if len(taken) == 1 else b"".join(taken)
