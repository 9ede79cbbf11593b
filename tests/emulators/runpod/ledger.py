"""Who bills since when: every pod's stretches of money per hour, to the second.

Knows rates and moments, neither pods' states nor HTTP. `most_at_once` counts pods that billed a GPU at the
same time, over all of history.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

ZERO = Decimal(0)
HOUR_S = 3600


@dataclass
class Stretch:
    pod: str
    gpu: Decimal  # USD per hour
    disk: Decimal
    began: datetime
    ended: datetime | None = None

    def seconds(self, first: datetime, last: datetime) -> Decimal:
        begin, end = max(self.began, first), min(self.ended or last, last)
        return max(ZERO, Decimal((end - begin) // timedelta(microseconds=1)) / 1_000_000)


class Ledger:
    def __init__(self) -> None:
        self.stretches: list[Stretch] = []

    def change(self, pod: str, gpu: Decimal, disk: Decimal, now: datetime) -> None:
        """From now on the pod costs that; nothing at all ends it."""
        last = next((s for s in reversed(self.stretches) if s.pod == pod and s.ended is None), None)
        if last is not None:
            if (last.gpu, last.disk) == (gpu, disk):
                return
            last.ended = now
        if gpu or disk:
            self.stretches.append(Stretch(pod, gpu, disk, now))

    def billing_a_gpu(self) -> list[str]:
        return [s.pod for s in self.stretches if s.ended is None and s.gpu]

    def billing(self) -> list[str]:
        return [s.pod for s in self.stretches if s.ended is None]

    def amounts(self, pod: str | None, first: datetime, last: datetime) -> dict[str, tuple[Decimal, Decimal]]:
        """(GPU, disk) in USD by pod."""
        found: dict[str, tuple[Decimal, Decimal]] = {}
        for s in self.stretches:
            seconds = s.seconds(first, last)
            if seconds and pod in (None, s.pod):
                gpu, disk = found.get(s.pod, (ZERO, ZERO))
                found[s.pod] = (gpu + s.gpu * seconds / HOUR_S, disk + s.disk * seconds / HOUR_S)
        return found

    def gpu_seconds(self) -> Decimal:
        """Of all that is over."""
        return sum((s.seconds(s.began, s.ended) for s in self.stretches if s.gpu and s.ended), ZERO)

    def most_at_once(self, pods: Collection[str] | None = None) -> int:
        """Pods, all or of these, that billed a GPU at the same moment, at the worst of times."""
        counted = [s for s in self.stretches if s.gpu and (pods is None or s.pod in pods)]
        edges = [(s.began, 1) for s in counted]
        edges += [(s.ended, -1) for s in counted if s.ended is not None]
        running = worst = 0
        for _, step in sorted(edges):  # at the same moment ends come before beginnings
            running += step
            worst = max(worst, running)
        return worst
