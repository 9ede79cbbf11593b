"""Following what the trainer writes about itself: the newest value of each metric, the step, and NaN.

One line is {ts, step, split, name, value}. Torn, foreign and half-written lines are passed over.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

READ_BYTES = 1 << 20
LINE_BYTES = 1 << 16
NAMES = 200


class Tail:
    """New whole lines of a file that grows, is replaced, or does not exist yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = -1
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # not there yet
            return []
        try:
            facts = os.fstat(file)
            if facts.st_ino != self._inode or facts.st_size < self._offset:
                self._inode, self._offset, self._rest = facts.st_ino, 0, b""
            data = os.pread(file, READ_BYTES, self._offset)
        except OSError:  # a folder or a pipe of that name
            return []
        finally:
            os.close(file)
        self._offset += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= LINE_BYTES else b""
        return lines


class Metrics:
    def __init__(self, paths: list[str]) -> None:
        self._tails = [Tail(path) for path in dict.fromkeys(paths)]
        self._said: set[str] = set()
        self.step: int | float | None = None
        self.values: dict[str, float | None] = {}
        self.lines = 0

    def read(self) -> list[tuple[str, str]]:
        """Take in what is new; warnings about values that are no numbers, one per metric."""
        warnings: list[tuple[str, str]] = []
        for tail in self._tails:
            for line in tail.lines():
                self.lines += 1
                self._take(line, warnings)
        return warnings

    def _take(self, line: bytes, warnings: list[tuple[str, str]]) -> None:
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):  # torn, or another program's words
            return
        if not isinstance(row, dict) or not isinstance(row.get("name"), str) or "value" not in row:
            return
        split = row.get("split")
        name = row["name"] if split in (None, "", "train") else f"{split}/{row['name']}"
        value, step = _number(row["value"]), _number(row.get("step"))
        if row["value"] is None and row.get("nan") is True:  # how our trainers say it
            value = math.nan
        if step is not None and math.isfinite(step):
            self.step = step
        if value is None or (name not in self.values and len(self.values) >= NAMES):
            return
        finite = math.isfinite(value)
        self.values[name] = value if finite else None
        if not finite and name not in self._said:
            self._said.add(name)
            warnings.append(("nan-metric", f"{name} is {value} at step {self.step}"))


def _number(value: Any) -> int | float | None:
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        return float(value)  # how writers of strict JSON say it
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, float) or abs(value) < 1 << 63 else None
