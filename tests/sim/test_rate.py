"""How quick the simulator is: a campaign that nobody can wait for finds nothing."""

from __future__ import annotations

from tests.sim.report import campaign

CHUNK, CHUNKS = 150, 4
SEEDS_PER_SECOND = 150


def test_a_core_runs_enough_seeds_a_second() -> None:
    """By the best stretch: a neighbour on the same core is no fault of the simulator."""
    rates = [rate for n in range(CHUNKS) for rate in campaign(range(n * CHUNK, (n + 1) * CHUNK)).rates]
    assert max(rates) >= SEEDS_PER_SECOND
