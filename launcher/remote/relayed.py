"""The client's side of a relay in a container: a Pipe over an engine's attached stream.

Takes the engine's frames off what comes (8 bytes of head before every piece) and puts the relay's own
around what goes. Frames bytes, nothing else: it knows neither engines nor what is spoken over it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from launcher.errors import HostError, HostUnreachable
from launcher.remote.base import Pipe

_STDOUT, _HEAD = 1, 8
_PIECE = 1 << 18
_TAIL = 2000


class Relayed:
    def __init__(self, stream: Pipe, let_go: Callable[[], object], port: int, patience_s: float) -> None:
        self._stream = stream
        self._let_go = let_go
        self._raw = bytearray()
        self._out = bytearray()
        self._err = b""
        try:
            self._greeted(port, patience_s)
        except BaseException:
            self.close()
            raise

    def _greeted(self, port: int, patience_s: float) -> None:
        self._stream.settimeout(patience_s)
        try:
            said = self.recv(_PIECE)
            if said[:1] == b"+":
                self._out[:0] = said[1:]
                self._stream.settimeout(None)
                return
        except TimeoutError as why:
            raise HostUnreachable(f"the container did not answer within {patience_s:g} s") from why
        except OSError as why:
            raise HostUnreachable(f"the way into the container broke: {why}") from why
        if said[:1] == b"-":
            reason = said[1:].decode("utf-8", "replace")
            raise HostError(f"nothing listens on port {port} of the host: {reason}")
        complaint = (said + self._err).decode("utf-8", "replace").strip()
        raise HostUnreachable(f"no helper program in the container: {complaint[:_TAIL]}")

    def recv(self, count: int, /) -> bytes:
        while not self._out:
            data = self._stream.recv(_PIECE)
            if not data:
                return b""
            self._raw += data
            self._unframe()
        taken = bytes(self._out[:count])
        del self._out[:count]
        return taken

    def send(self, data: bytes | memoryview, /) -> int:
        """As a whole: a frame cut short would be read as another one."""
        piece = bytes(data[:_PIECE])
        self._whole(len(piece).to_bytes(4, "big") + piece if piece else b"")
        return len(piece)

    def settimeout(self, seconds: float | None, /) -> None:
        self._stream.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        if how == socket.SHUT_WR:
            self._whole(bytes(4))
        else:
            self._stream.shutdown(how)

    def close(self) -> None:
        self._stream.close()
        self._let_go()

    def _whole(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.send(view) :]

    def _unframe(self) -> None:
        while len(self._raw) >= _HEAD:
            size = int.from_bytes(self._raw[4:_HEAD], "big")
            if len(self._raw) < _HEAD + size:
                return
            piece = self._raw[_HEAD : _HEAD + size]
            if self._raw[0] == _STDOUT:
                self._out += piece
            else:
                self._err = (self._err + piece)[-_TAIL:]
            del self._raw[: _HEAD + size]
