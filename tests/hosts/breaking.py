"""A line that breaks again and again, in ways and at moments that a seed decides.

Each break is waited for: somebody must have noticed and come back, and what he then hears must be new. Knows
the relay and a number that grows with what came through; not what comes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.hosts.relay import Relay

NOTICED_S = 30.0  # a dead line is found within that, and so long it may stay dead
BACK_S = 45.0
# What a dead line costs is time: a few of them are enough among a hundred.
QUICK = {"cut": 4, "cut_within": 4, "refused": 3, "swallowed": 3}
ALL = {**QUICK, "torn": 2, "silent": 1}


@dataclass
class Breaker:
    relay: Relay
    heard: Callable[[], int]
    chance: random.Random
    kinds: Mapping[str, int] = field(default_factory=lambda: QUICK)
    struck: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)

    def strikes(self, count: int) -> None:
        for _ in range(count):
            time.sleep(self.chance.uniform(0, 0.4))  # at no particular moment
            self.strike(self.chance.choices(list(self.kinds), list(self.kinds.values()))[0])

    def strike(self, kind: str) -> float:
        """How long nothing came."""
        before, began = self.relay.connections, time.monotonic()
        getattr(self, f"_{kind}")()
        awaited(lambda: self.relay.connections > before, f"{kind}: somebody comes again", NOTICED_S)
        self.relay.half_open(False)
        size = self.heard()
        awaited(lambda: self.heard() > size, f"{kind}: something new is heard", BACK_S)
        took = time.monotonic() - began
        self.struck[kind] += 1
        self.slowest_s[kind] = round(max(took, self.slowest_s.get(kind, 0.0)), 1)
        return took

    def _cut(self) -> None:
        self.relay.cut()

    def _cut_within(self) -> None:
        """In the middle of a message."""
        self.relay.cut_after(self.chance.randrange(1, 6000))

    def _refused(self) -> None:
        """Nobody gets in for a few tries."""
        before, tries = self.relay.connections, self.chance.randrange(1, 4)
        self.relay.refuse()
        self.relay.cut()
        try:
            awaited(lambda: self.relay.connections >= before + tries, f"{tries} tries", NOTICED_S)
        finally:
            self.relay.refuse(False)

    def _swallowed(self) -> None:
        """Some of it is lost, then the line breaks."""
        self.relay.half_open()
        time.sleep(self.chance.uniform(0.02, 0.5))  # the fault itself, and the next one
        self.relay.cut()
        self.relay.half_open(False)

    def _torn(self) -> None:
        """A piece is lost in the middle, and what follows comes."""
        self.relay.half_open()
        time.sleep(self.chance.uniform(0.3, 0.8))
        self.relay.half_open(False)

    def _silent(self) -> None:
        """Nobody is told anything; who comes anew is carried."""
        self.relay.fall_silent()


def awaited(seen: Callable[[], object], what: str, patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while not seen():
        assert time.monotonic() < end, f"{what}: not within {patience_s:g} s"
        time.sleep(0.02)
