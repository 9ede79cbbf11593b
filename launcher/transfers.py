"""How far a transfer is: a note in the run's folder, written by the engine and read by whoever watches.

It is no fact: nothing depends on it, it is not synced, and once its engine is gone it means nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from launcher.codec import foreign_json, iso, load
from launcher.files import Files

EVERY_S = 0.2  # between two notes
RATE_S = 5.0  # the rate is that of the last seconds
LEAST_S = 0.5  # below, a rate is chance
STALLED_S = 3.0  # without a byte for so long


@dataclass(frozen=True)
class Transfer:
    what: str  # push, pull or checkpoint
    part: str  # which of them, in words
    done: int
    total: int
    rate: float | None  # bytes per second
    since: datetime
    at: datetime  # when the last byte was known to have moved
    engine: int  # which of the run's engines wrote it

    def stalled_s(self, now: datetime) -> float | None:
        """For how long nothing has moved, once that is longer than a breath."""
        still = (now - self.at).total_seconds()
        return round(still, 1) if still >= STALLED_S and self.done < self.total else None

    def rate_now(self, now: datetime) -> float | None:
        return 0.0 if self.stalled_s(now) is not None else self.rate

    def eta_s(self, now: datetime) -> float | None:
        rate = self.rate_now(now)
        return round(max(0, self.total - self.done) / rate, 1) if rate else None


def read(path: Path, engine: int) -> Transfer | None:
    """What this engine of the run is transferring. What another one left behind is no answer."""
    try:
        found = load(Transfer, foreign_json(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.engine == engine else None


class Told:
    """Takes every word about progress and writes a few of them down."""

    def __init__(
        self, files: Files, path: Path, now: Callable[[], datetime], engine: int, what: str, part: str
    ) -> None:
        self._files, self._path, self._now = files, path, now
        self._engine, self._what, self.part = engine, what, part
        self._moved = begins = now()
        self._began = iso(begins)
        self._sizes = (0, 0)
        self._seen: deque[tuple[datetime, int]] = deque([(begins, 0)])
        self._write(begins)

    def __call__(self, done: int, total: int) -> None:
        now = self._now()
        if (done, total) != self._sizes:
            self._sizes, self._moved = (done, total), now
        if abs((now - self._written).total_seconds()) >= EVERY_S:
            self._write(now)

    def over(self) -> None:
        with suppress(OSError):
            self._files.remove(self._path)

    def _rate(self, now: datetime) -> float | None:
        done, seen = self._sizes[0], self._seen
        while len(seen) > 1 and (now - seen[1][0]).total_seconds() >= RATE_S:
            seen.popleft()
        first, before = seen[0]
        seen.append((now, done))
        seconds = (now - first).total_seconds()
        return round(max(0, done - before) / seconds, 1) if seconds >= LEAST_S else None

    def _write(self, now: datetime) -> None:
        self._written = now
        note = {
            "what": self._what,
            "part": self.part,
            "done": self._sizes[0],
            "total": self._sizes[1],
            "rate": self._rate(now),
            "since": self._began,
            "at": iso(self._moved),
            "engine": self._engine,
        }
        with suppress(OSError):  # a full disk costs the view, not the transfer
            self._files.note(self._path, json.dumps(note).encode())
