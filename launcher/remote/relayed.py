"""The client's side of a relay in a container: a Pipe over an engine's attached stream, or another way in.

What comes loses that way's frames and then the relay's own; what goes gets the relay's. Frames bytes,
nothing else: it knows neither engines nor what is spoken over it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from launcher.errors import HostError, HostUnreachable
from launcher.remote.base import Pipe
from launcher.remote.channel import Framing
from launcher.remote.frames import EngineFrames

_HEAD = 4
_PIECE = 1 << 18
_TAIL = 2000


class Relayed:
    def __init__(
        self,
        stream: Pipe,
        let_go: Callable[[], object],
        port: int,
        patience_s: float,
        frames: Framing | None = None,
    ) -> None:
        self._stream = stream
        self._let_go = let_go
        self._frames = frames or EngineFrames()
        self._raw = bytearray()  # of the relay: pieces with their heads
        self._left = 0  # of the piece that is being taken
        self._ended = False
        try:
            self._greeted(port, patience_s)
        except BaseException:
            self.close()
            raise

    def _greeted(self, port: int, patience_s: float) -> None:
        self._stream.settimeout(patience_s)
        try:
            while not self._raw and self._more():
                pass
            if self._raw[:1] == b"+":
                del self._raw[:1]
                self._stream.settimeout(None)
                return
            while self._more():
                pass
        except TimeoutError as why:
            raise HostUnreachable(f"the container did not answer within {patience_s:g} s") from why
        except OSError as why:
            raise HostUnreachable(f"the way into the container broke: {why}") from why
        said = self._raw[1:].decode("utf-8", "replace")
        if self._raw[:1] == b"-":
            raise HostError(f"nothing listens on port {port} of the host: {said[:_TAIL]}")
        complaint = (self._raw + self._frames.complaint).decode("utf-8", "replace").strip()
        raise HostUnreachable(f"no helper program in the container: {complaint[:_TAIL]}")

    def recv(self, count: int, /) -> bytes:
        while not self._ended:
            if self._left == 0 and len(self._raw) >= _HEAD:
                self._left = int.from_bytes(self._raw[:_HEAD], "big")
                del self._raw[:_HEAD]
                self._ended = self._left == 0
            elif self._left and self._raw:
                taken = bytes(self._raw[: min(count, self._left)])
                del self._raw[: len(taken)]
                self._left -= len(taken)
                return taken
            elif not self._more():
                raise ConnectionResetError("the way into the container ended in the middle")
        return b""

    def send(self, data: bytes | memoryview, /) -> int:
        """As a whole: a frame cut short would be read as another one."""
        piece = bytes(data[:_PIECE])
        self._whole(len(piece).to_bytes(_HEAD, "big") + piece if piece else b"")
        return len(piece)

    def settimeout(self, seconds: float | None, /) -> None:
        self._stream.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        if how == socket.SHUT_WR:
            self._whole(bytes(_HEAD))
        else:
            self._stream.shutdown(how)

    def close(self) -> None:
        self._stream.close()
        self._let_go()

    def _more(self) -> bool:
        """False at the engine's end of the stream."""
        data = self._stream.recv(_PIECE)
        self._raw += self._frames.words(data)
        return bool(data)

    def _whole(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.send(view) :]
