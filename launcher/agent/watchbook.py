"""Which checkpoints are worth announcing: pure bookkeeping over what looks at the folder found.

A checkpoint is one direct child of the folder. It is complete when it is marked so, when it stood still
in two looks far enough apart while the trainer lived, or when the trainer left it behind and ended well.
Looking is cheap and rare: once a round, and a few times more while something new is still being written.
"""

from __future__ import annotations

from math import inf

from .protocol import Action, Event, HashCheckpoint, Hashed, ScanCheckpoints, Seen

STILL_S = 5.0  # two looks this far apart must agree
FOLLOW_UPS = 3  # further looks per round at things that keep changing


class Watchbook:
    def __init__(self, now: float, every_s: float) -> None:
        self._every = every_s
        self._round_at = now + every_s
        self._look_at = self._round_at
        self._follow_ups = 0
        self._asked = 0  # looks whose answer is still to come
        self._ended: float | None = None  # when the trainer was gone: nothing changes any more
        self._ended_well = False
        self._since: dict[str, tuple[str, float]] = {}  # name -> fingerprint, first seen so
        self._announced: dict[str, tuple[str, bool]] = {}
        self._pending: dict[str, tuple[str, bool]] = {}  # being hashed -> fingerprint, complete

    @property
    def busy(self) -> bool:
        return bool(self._asked or self._pending)

    def next_at(self) -> float:
        return inf if self._asked or self._ended is not None else self._look_at

    def due(self, now: float) -> list[Action]:
        if now < self.next_at():
            return []
        if now >= self._round_at:
            self._round_at = now + self._every
            self._follow_ups = 0
        self._asked += 1
        return [ScanCheckpoints()]

    def close(self, ended: float, ended_well: bool) -> list[Action]:
        """The last look, after the trainer and all its children are gone."""
        self._ended, self._ended_well = ended, ended_well
        self._asked += 1
        return [ScanCheckpoints()]

    def seen(self, now: float, found: tuple[Seen, ...]) -> list[Action]:
        self._asked = max(0, self._asked - 1)
        if self._asked:
            return []  # an older look: the last one is still to come
        self._since = {one.name: self._first_seen(now, one) for one in found}
        self._plan(now, any(not self._is_complete(now, one) for one in found))
        return [action for one in found for action in self._wanted(now, one)]

    def hashed(self, answer: Hashed) -> Event | None:
        """The announcement, unless the thing changed while it was hashed."""
        pending = self._pending.get(answer.name)
        if pending is None or pending[0] != answer.fingerprint:
            return None
        del self._pending[answer.name]
        if answer.files is None:
            return None
        self._announced[answer.name] = pending
        files = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in answer.files]
        return {
            "ev": "checkpoint",
            "name": answer.name,
            "files": files,
            "complete": pending[1],
            "written": answer.written,  # several are hashed at once: the order of announcements says nothing
        }

    def _first_seen(self, now: float, one: Seen) -> tuple[str, float]:
        before = self._since.get(one.name)
        return before if before is not None and before[0] == one.fingerprint else (one.fingerprint, now)

    def _is_complete(self, now: float, one: Seen) -> bool:
        # after the trainer's end everything stands still: that proves nothing any more
        until = now if self._ended is None else self._ended
        ended_well = self._ended is not None and self._ended_well
        return one.marked or ended_well or until - self._since[one.name][1] >= STILL_S

    def _wanted(self, now: float, one: Seen) -> list[Action]:
        complete = self._is_complete(now, one)
        if not complete and self._ended is None:
            return []  # it will be better at a later look
        news = (one.fingerprint, complete)
        known = (self._announced.get(one.name), self._pending.get(one.name))
        if news in known or (one.fingerprint, True) in known:
            return []
        self._pending[one.name] = news
        return [HashCheckpoint(one.name, one.fingerprint)]

    def _plan(self, now: float, unsettled: bool) -> None:
        self._look_at = self._round_at
        if unsettled and self._follow_ups < FOLLOW_UPS:
            self._follow_ups += 1
            self._look_at = min(self._round_at, now + STILL_S)
