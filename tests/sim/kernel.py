"""One thread, one heap of what falls due, one source of chance: the time in which everything happens.

Every effect of the program passes `point`, where its process may be killed, and `spend`, which lets time
pass and delivers what falls due meanwhile. `Clock.wait` jumps over stretches in which nothing happens.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
EPOCH_S = EPOCH.timestamp()
MOST_EFFECTS = 20_000  # a run that needs more goes in circles


class Killed(BaseException):
    """kill -9: no `except Exception` and no clean-up of the program may see to it."""


class Violation(BaseException):
    """A promise was broken: nobody on the way may take it for a fault of his own and go on."""


class Sim:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.t = 0.0
        self.effects = 0
        self.left = -1  # points until the process is killed; below zero: never
        self.appends_left = -1
        self.stopped_s = 0.0  # the process is suspended for so long at its next effect
        self.patience_s = 20.0  # how far a wait may jump when nothing happens
        self.latency_s = 0.05
        self.trace: list[tuple[object, ...]] = []
        self.client_dead = False
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._seq = 0
        self._quiet = False

    # --- time --------------------------------------------------------------------------------

    def at(self, t: float, do: Callable[[], None]) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (max(t, self.t), self._seq, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.t + seconds, do)

    def advance(self, seconds: float, *, until_something: bool = False) -> None:
        """Let time pass and deliver what falls due, perhaps only until there is something to be seen."""
        target, heap, before = self.t + seconds, self._heap, len(self.trace)
        while heap and heap[0][0] <= target:
            at, _, do = heapq.heappop(heap)
            self.t = max(self.t, at)
            do()
            if until_something and len(self.trace) > before:
                return
        self.t = max(self.t, target)

    def run_dry(self, limit_s: float) -> None:
        """Let everything happen that will happen by itself."""
        end = self.t + limit_s
        while self._heap and self._heap[0][0] <= end:
            self.advance(self._heap[0][0] - self.t)

    # --- effects -----------------------------------------------------------------------------

    def point(self) -> None:
        """Between two instructions of the program: here it may die."""
        if self.left > 0:
            self.left -= 1
            if self.left == 0:
                self.left = -1
                raise Killed

    def tears(self) -> bool:
        """Whether this append is the one in whose midst the process dies."""
        self.appends_left -= 1
        return self.appends_left == 0

    @property
    def dies_next(self) -> bool:
        return self.left == 1

    def spend(self, share: float = 1.0) -> None:
        self.effects += 1
        if self.effects > MOST_EFFECTS:
            raise Violation("the run goes in circles")
        if self.stopped_s:
            self.stopped_s, pause = 0.0, self.stopped_s
            self.advance(pause)
        before = len(self.trace)
        self.advance(self.latency_s * share * (0.5 + self.rng.random()))
        self._quiet = self._quiet and len(self.trace) == before

    @property
    def events(self) -> int:
        return len(self.trace)

    def note(self, *what: object) -> None:
        self.trace.append((round(self.t, 3), *what))

    def digest(self) -> str:
        return f"{zlib.crc32(repr(self.trace).encode()):08x}"


class Clock:
    """The process's own clock: `offset_s` is how wrong its wall time is."""

    def __init__(self, sim: Sim, offset_s: float = 0.0, *, jumps: bool = True) -> None:
        self._sim = sim
        self._jumps = jumps
        self._offset_s = offset_s
        self._last: tuple[float, datetime] = (-1.0, EPOCH)

    def now(self) -> datetime:
        sim = self._sim
        if self._last[0] != sim.t:
            self._last = (sim.t, EPOCH + timedelta(seconds=sim.t + self._offset_s))
        return self._last[1]

    def wait(self, seconds: float) -> None:
        sim = self._sim
        sim.point()
        before = len(sim.trace)
        if self._jumps and sim._quiet and seconds <= 5:
            sim.advance(max(seconds, sim.patience_s), until_something=True)
        else:
            sim.advance(seconds)
        sim._quiet = len(sim.trace) == before
        sim.spend(0.1)
