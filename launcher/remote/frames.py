"""How an engine tells a program's stdout and stderr apart: 8 bytes of head before every piece of a stream."""

from __future__ import annotations

_STDOUT, _STDERR, _HEAD = 1, 2, 8
_TAIL = 2000


class EngineFrames:
    def __init__(self) -> None:
        self._raw = bytearray()
        self.complaint = b""  # the end of stderr

    def words(self, data: bytes) -> bytes:
        """What of stdout came with this, frames taken off."""
        raw, out, at = self._raw, bytearray(), 0
        raw += data
        while len(raw) - at >= _HEAD:
            size = int.from_bytes(raw[at + 4 : at + _HEAD], "big")
            if len(raw) - at < _HEAD + size:
                break
            piece = raw[at + _HEAD : at + _HEAD + size]
            if raw[at] == _STDOUT:
                out += piece
            elif raw[at] == _STDERR:
                self.complaint = (self.complaint + piece)[-_TAIL:]
            at += _HEAD + size
        del raw[:at]
        return bytes(out)
