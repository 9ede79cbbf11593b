"""A terminal that moves: log lines flow by above a few lines that are drawn again in place.

When the stream is no terminal the moving lines become one plain line a minute.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from launcher.escapes import ESCAPES

PLAIN_EVERY_S = 60.0
MAX_LINE = 64 * 1024
_BIDI = dict.fromkeys((*range(8234, 8239), *range(8294, 8298), 8206, 8207))


def harmless(text: str) -> str:
    """A line from elsewhere, unable to move the cursor, rename the window or reorder what is read."""
    text = ESCAPES.sub("", text[:MAX_LINE]).translate(_BIDI)
    return "".join(c if c == "\t" or (c >= " " and not "\x7f" <= c < "\xa0") else "·" for c in text)


def _cut(line: str, width: int) -> str:
    """Colours take no room; a line that is too wide loses them with its end."""
    bare = ESCAPES.sub("", line)
    return line if len(bare) <= width else bare[:width]


class Lines:
    """Bytes to whole lines, whatever the cut. A progress bar's carriage returns leave the last state."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [self._clean(line) for line in whole]

    @property
    def held(self) -> int:
        """Bytes of a line that has no end yet."""
        return len(self._rest)

    def flush(self) -> list[str]:
        rest, self._rest = self._rest, b""
        return [self._clean(rest)] if rest else []

    @staticmethod
    def _clean(line: bytes) -> str:
        return harmless(line.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode("utf-8", "replace"))


class Block:
    """The lines that are drawn again in place, at the bottom, on stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = stream or sys.stderr
        self.moving = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn: list[str] = []
        self._plain_at = -PLAIN_EVERY_S

    @property
    def width(self) -> int:
        import shutil

        return shutil.get_terminal_size().columns - 1

    def above(self, texts: Sequence[str], stream: TextIO) -> None:
        """Lines that stay, over the block. `stream` may be stdout: the block steps aside for it."""
        if not texts:
            return
        drawn = self._drawn
        self.clear()
        stream.write("\n".join(texts) + "\n")
        stream.flush()
        self._draw(drawn)

    def update(self, lines: list[str], plain: str) -> None:
        if self.moving:
            if lines != self._drawn:
                self.clear()
                self._draw(lines)
        elif (now := time.monotonic()) - self._plain_at >= PLAIN_EVERY_S:
            self._plain_at = now
            self._out.write(plain + "\n")
            self._out.flush()

    def clear(self) -> None:
        if self._drawn:
            self._out.write("\r" + "\x1b[A" * (len(self._drawn) - 1) + "\x1b[J")
            self._out.flush()
            self._drawn = []

    def _draw(self, lines: list[str]) -> None:
        if self.moving and lines:
            self._out.write("\n".join(_cut(line, self.width) for line in lines))
            self._out.flush()
            self._drawn = lines
