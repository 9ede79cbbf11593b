"""Which output files may come home while the trainer still runs: pure bookkeeping over looks at the folder.

A file is announced once it stood still in two looks far enough apart, and taken back when it is gone. One
that changes after it was announced must stand still for longer each time: a file that is written anew
every few minutes is not sent every few minutes. Nothing is promised by it: what counts is the sealed list.
"""

from __future__ import annotations

from math import inf

from .protocol import Action, Event, Hashed, HashOutput, ScanOutput, Seen

STILL_S = 5.0  # two looks this far apart must agree
MOST = 5000  # announcements in all: what is left over comes at the end
MOST_DOUBLINGS = 20


class Outbook:
    def __init__(self, now: float, every_s: float) -> None:
        self._every = every_s
        self._round_at = self._look_at = now + every_s
        self._looking = self._followed = self._over = False
        self._since: dict[str, tuple[str, float]] = {}  # name -> fingerprint, first seen so
        self._told: dict[str, str] = {}  # what was announced and is there, by its fingerprint then
        self._changes: dict[str, int] = {}  # how many of its announcements were outdated by now
        self._stale: set[str] = set()  # announced, and changed since
        self._count = 0
        self._queue: list[Seen] = []
        self._hashing: Seen | None = None

    def next_at(self) -> float:
        return inf if self._looking or self._over else self._look_at

    def due(self, now: float) -> list[Action]:
        if now < self.next_at():
            return []
        if now >= self._round_at:
            self._round_at, self._followed = now + self._every, False
        self._looking = True
        return [ScanOutput()]

    def close(self) -> None:
        """The trainer is gone: the sealed list tells the rest."""
        self._over = True

    def seen(self, now: float, found: tuple[Seen, ...]) -> tuple[list[Event], list[Action]]:
        self._looking = False
        if self._over:
            return [], []
        gone = sorted(self._told.keys() - {one.name for one in found})
        for name in gone:
            del self._told[name]
            self._stale.discard(name)
        self._since = {one.name: self._first_seen(now, one) for one in found}
        news = [one for one in found if self._told.get(one.name) != one.fingerprint]
        self._queue = [
            one
            for one in news
            if one != self._hashing and now - self._since[one.name][1] >= self._still_s(one.name)
        ]
        self._plan(now, any(self._since[one.name][1] == now for one in news))
        return [{"ev": "output", "path": name, "gone": True} for name in gone], self._next()

    def hashed(self, answer: Hashed) -> tuple[list[Event], list[Action]]:
        asked, self._hashing = self._hashing, None
        if asked is None or self._over:
            return [], []
        events: list[Event] = []
        if answer.files is not None and (answer.name, answer.fingerprint) == (asked.name, asked.fingerprint):
            self._told[asked.name] = asked.fingerprint
            self._stale.discard(asked.name)
            self._count += 1
            events = [
                {"ev": "output", "path": f.path, "size": f.size, "sha256": f.sha256} for f in answer.files
            ]
        return events, self._next()

    def _first_seen(self, now: float, one: Seen) -> tuple[str, float]:
        before = self._since.get(one.name)
        if before is not None and before[0] == one.fingerprint:
            return before
        if one.name in self._told and one.name not in self._stale:
            self._stale.add(one.name)
            self._changes[one.name] = self._changes.get(one.name, 0) + 1
        return one.fingerprint, now

    def _still_s(self, name: str) -> float:
        changes = self._changes.get(name, 0)
        return STILL_S if not changes else self._every * 2.0 ** min(changes, MOST_DOUBLINGS)

    def _next(self) -> list[Action]:
        """One at a time: whoever trains there has the machine."""
        if self._hashing is not None or not self._queue or self._count >= MOST:
            return []
        self._hashing = self._queue.pop(0)
        return [HashOutput(self._hashing.name, self._hashing.fingerprint)]

    def _plan(self, now: float, fresh: bool) -> None:
        """Something new is looked at once more, as soon as that can tell; else the next round will do."""
        self._look_at = self._round_at
        if fresh and not self._followed:
            self._followed = True
            self._look_at = min(self._round_at, now + STILL_S)
