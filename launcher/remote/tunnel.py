"""A port of this machine's loopback that leads to a port of a host's.

Each connection is carried by two threads, one for each direction, so a slow reader holds up its own
connection and no other. One side's "no more from me" is passed on and the other side may still talk.
Knows hosts by one function and nothing of what is spoken.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from launcher.errors import HostError
from launcher.remote.base import Pipe

HERE = "127.0.0.1"
PIECE = 1 << 16
WAITING = 128  # connections that may queue before they are taken
LEAVE_S = 5.0


class Tunnel:
    """Open from its making until `close`; may be used as a context."""

    def __init__(self, connect: Callable[[], Pipe], port: int = 0) -> None:
        """Raises OSError when the port here is taken."""
        self._connect = connect
        self._door = socket.create_server((HERE, port), backlog=WAITING)
        self._door.setblocking(False)
        self.port: int = self._door.getsockname()[1]
        self._bell, self._ear = socket.socketpair()
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.troubles: deque[str] = deque(maxlen=100)  # why a connection was not led on; for whoever shows it
        self._thread = threading.Thread(target=self._accept, name=f"tunnel {self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lines(self) -> int:
        """Connections that are being carried."""
        with self._lock:
            return len(self._lines)

    def close(self) -> None:
        """No connection is taken or carried any more, and no thread of it is left."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            lines = list(self._lines)
        self._bell.send(b".")
        for line in lines:
            line.cut()
        until = time.monotonic() + LEAVE_S  # what still waits for a way to be opened is left behind
        self._thread.join(LEAVE_S)
        for line in lines:
            line.join(max(0.0, until - time.monotonic()))
        for end in (self._bell, self._ear, self._door):
            end.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as eyes:
            eyes.register(self._door, selectors.EVENT_READ)
            eyes.register(self._ear, selectors.EVENT_READ)
            while self._ear not in [key.fileobj for key, _ in eyes.select()]:
                with suppress(BlockingIOError, ConnectionAbortedError):  # the caller thought better of it
                    self._take(self._door.accept()[0])

    def _take(self, caller: socket.socket) -> None:
        line = _Line(caller, self._connect, self._over)
        with self._lock:
            if self._closed:
                caller.close()
                return
            self._lines.add(line)
            line.start()

    def _over(self, line: _Line, trouble: str | None) -> None:
        if trouble is not None:
            self.troubles.append(trouble)
        with self._lock:
            self._lines.discard(line)


class _Line:
    """One connection: the caller here, and a pipe to the host once it is made."""

    def __init__(
        self,
        caller: socket.socket,
        connect: Callable[[], Pipe],
        over: Callable[[_Line, str | None], None],
    ) -> None:
        caller.setblocking(True)
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._caller = caller
        self._connect = connect
        self._over = over
        self._far: Pipe | None = None
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="tunnel line", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def cut(self) -> None:
        """Wakes whoever waits for a byte; closing alone would not."""
        self._cut.set()
        _end(self._caller)
        if self._far is not None:
            _end(self._far)

    def _carry(self) -> None:
        trouble: str | None = None
        try:
            far = self._far = self._connect()
            far.settimeout(None)
            if not self._cut.is_set():
                back = threading.Thread(target=self._flow, args=(far, self._caller), daemon=True)
                back.start()
                self._flow(self._caller, far)
                back.join()
            far.close()
        except HostError as why:
            trouble = str(why)
        finally:
            self._caller.close()
            self._over(self, trouble)

    def _flow(self, source: Pipe, to: Pipe) -> None:
        """All that comes, at the pace at which it is taken. A break ends both directions."""
        try:
            while data := source.recv(PIECE):
                view = memoryview(data)
                while view:
                    view = view[to.send(view) :]
            to.shutdown(socket.SHUT_WR)
        except OSError:
            _end(source)
            _end(to)


def _end(pipe: Pipe) -> None:
    with suppress(OSError, EOFError):  # it is gone already
        pipe.shutdown(socket.SHUT_RDWR)
