"""A sweep: one undisturbed run names its boundaries, then a run for each of them is killed there and resumed.

What a killed and resumed run leaves is compared with what the undisturbed one left.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash import left_alone
from tests.crash.life import Life, Target, interpreter

DECISIVE = ("send POST", "send DELETE", "ask create", "ask terminate", "rename partial ", "rename project/")
LEAST_BOOT_LIMIT_S = 15
WORKERS = 3  # a run waits more than it computes


@dataclass(frozen=True)
class Report:
    target: str
    boundaries: tuple[str, ...]
    swept: int
    kills: int
    nested: int  # killed again while it recovered
    missed: tuple[str, ...]  # boundaries that the run did not come by a second time
    faults: tuple[str, ...]
    seconds: float

    def line(self) -> str:
        return (
            f"{self.target}: {len(self.boundaries)} boundaries, {self.swept} swept, {self.kills} kills "
            f"({self.nested} while recovering), {len(self.faults)} faults, {self.seconds:.1f} s"
        )


class Sweep:
    def __init__(self, place: Path, target: Target) -> None:
        self._place = place
        self._target = target
        place.mkdir(parents=True, exist_ok=True)
        self._python = interpreter(place / "python")
        began = time.monotonic()
        with self._life("undisturbed") as life:
            assert life.begin(), life.told()
            self._took_s = time.monotonic() - began
            assert not life.faults(), (life.faults(), life.told())
            self._undisturbed = life.left()
            self.boundaries = tuple(life.boundaries())

    @contextmanager
    def _life(self, name: str) -> Iterator[Life]:
        run = f"{self._target.name[0]}{os.getpid()}-{name}"
        life = Life(self._place / name, self._python, self._target, run)
        try:
            yield life
        finally:
            life.clean()

    def sample(self, count: int, seed: int) -> list[int]:
        """What makes, starts or ends something, and what is renamed into place, then others by chance."""
        must = [n for n, name in enumerate(self.boundaries) if name.startswith(DECISIVE)]
        others = [n for n in range(len(self.boundaries)) if n not in must]
        return sorted(must + random.Random(seed).sample(others, count - len(must)))

    def run(self, chosen: Sequence[int] | None = None) -> Report:
        """Killed and resumed."""
        return self._swept(self._target.name, chosen, self._one)

    def abandon(self, chosen: Sequence[int] | None = None) -> Report:
        """Killed, and nobody comes until all that bills has ended itself."""
        return self._swept(f"{self._target.name}, left alone", chosen, self._abandoned)

    def _swept(
        self, name: str, chosen: Sequence[int] | None, one: Callable[[int], tuple[int, list[str]]]
    ) -> Report:
        began = time.monotonic()
        numbers = list(range(len(self.boundaries)) if chosen is None else chosen)
        with ThreadPoolExecutor(WORKERS) as workers:
            results = list(workers.map(one, numbers))
        return Report(
            name,
            self.boundaries,
            len(numbers),
            sum(kills for kills, _ in results),
            sum(kills > 1 for kills, _ in results),
            tuple(self.boundaries[n] for n, (kills, _) in zip(numbers, results, strict=True) if not kills),
            tuple(fault for _, faults in results for fault in faults),
            time.monotonic() - began,
        )

    def _abandoned(self, number: int) -> tuple[int, list[str]]:
        boundary = self.boundaries[number]
        with self._life(f"a{number}") as life:
            life.options = ("--hold", "2s")
            # Nobody has to wait long for its guard, which is yet no quicker than a whole run takes here
            # with others beside it: it is to end machines that are left alone, and none that is used.
            life.boot_limit_s = max(LEAST_BOOT_LIMIT_S, round(2 * self._took_s))
            try:
                over = life.begin(boundary)
                faults = [] if over else left_alone.faults(life, self._undisturbed)
            except (AssertionError, OSError, ValueError, LookupError) as e:
                faults = [f"{type(e).__name__}: {e}"]
            told = [f"left at {boundary!r}: {'; '.join(faults)}\n{life.told()}"] if faults else []
            return len(life.kills), told

    def _one(self, number: int) -> tuple[int, list[str]]:
        """Kill there, in every third case once more while it recovers; every second torn line is mended."""
        boundary = self.boundaries[number]
        with self._life(f"b{number}") as life:
            try:
                over = life.begin(boundary)
                if not over and "append run/journal" in boundary and number % 2:
                    life.tear()
                if not over and number % 3 == 0:
                    over = life.resume(f"#{2 + number * 7 % 29}")
                if not over:
                    assert life.resume(), "a resume ended without an answer"
                faults = life.faults(self._undisturbed)
            except (AssertionError, OSError, ValueError, LookupError) as e:
                faults = [f"{type(e).__name__}: {e}"]
            told = [f"at {boundary!r}: {'; '.join(faults)}\n{life.told()}"] if faults else []
            return len(life.kills), told
