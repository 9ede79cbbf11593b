"""How quick the simulator is: a campaign that nobody can wait for finds nothing."""

from __future__ import annotations

import pytest

from tests.cores import speed
from tests.sim.report import campaign

pytestmark = pytest.mark.alone
CHUNK, CHUNKS = 100, 6
SEEDS_PER_SECOND = 150


def test_a_core_runs_enough_seeds_a_second() -> None:
    """Against what the core can do at that moment, by the best stretch: a slow or a shared one is no fault of
    the simulator."""
    best = 0.0
    for n in range(CHUNKS):
        core = speed()
        [rate] = campaign(range(n * CHUNK, (n + 1) * CHUNK)).rates
        best = max(best, rate / core)
        print(f"{rate:.0f} seeds/s on a core of {core:.2f}")
    assert best >= SEEDS_PER_SECOND
