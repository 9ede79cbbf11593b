"""Many seeds, one report: how fast, how long in virtual time, which faults were met and in which steps."""

from __future__ import annotations

import gc
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.sim.campaign import Outcome, run
from tests.sim.weather import CLASSES, PAIRS


@dataclass
class Report:
    seeds: int = 0
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    events: list[int] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    broken: list[Outcome] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # seeds a second, of each stretch

    @property
    def per_second(self) -> float:
        return self.seeds / self.cpu_s if self.cpu_s else 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        self.events.append(outcome.events)
        self.faults.append(outcome.faults)
        self.met.update(outcome.met)
        self.pairs.update(outcome.pairs)
        self.states[outcome.state] += 1
        self.digests.append(outcome.digest)
        if outcome.violation is not None:
            self.broken.append(outcome)

    def join(self, stretch: Report) -> None:
        for name in ("seeds", "cpu_s", "virtual_s", "events", "faults", "broken", "digests", "rates"):
            setattr(self, name, getattr(self, name) + getattr(stretch, name))
        for counter in ("met", "pairs", "states"):
            getattr(self, counter).update(getattr(stretch, counter))

    def unreached(self) -> list[tuple[str, str]]:
        """Declared pairs of step and fault that no seed came by."""
        return [
            (step, fault) for fault, steps in PAIRS.items() for step in steps if not self.pairs[step, fault]
        ]

    def lines(self) -> list[str]:
        declared = sum(len(steps) for steps in PAIRS.values())
        years = self.virtual_s / (365.25 * 86400)
        return [
            f"{self.seeds} seeds in {self.cpu_s:.1f} s of one core: {self.per_second:.0f} seeds/s",
            f"{self.virtual_s / 3600:.0f} h of virtual time ({years:.2f} years)",
            f"events of a seed: least {min(self.events)}, median {statistics.median(self.events):.0f}",
            f"faults met by a seed: median {statistics.median(self.faults):.0f}, most {max(self.faults)}",
            f"ends: {', '.join(f'{state} {n}' for state, n in sorted(self.states.items()))}",
            "faults met: " + ", ".join(f"{name} {self.met[name]}" for name in CLASSES),
            (
                f"pairs of step and fault: {declared - len(self.unreached())} of {declared} declared, "
                f"{len(self.pairs)} reached in all"
            ),
            *(f"not reached: {fault} in {step}" for step, fault in self.unreached()),
            *(f"seed {o.seed} broke a promise: {o.violation}" for o in self.broken),
        ]


def campaign(seeds: Iterable[int]) -> Report:
    report, begun = Report(), time.process_time()
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)  # each seed is a heap of small records that refer to each other
    for seed in seeds:
        report.add(run(seed))
    gc.set_threshold(*before)
    report.cpu_s = time.process_time() - begun
    report.rates.append(report.per_second)
    return report
