"""The engine and its steps under every weather, on virtual time: 5,000 whole runs keep every promise."""

from __future__ import annotations

import pytest

from tests.sim.campaign import LEAST_EVENTS, run
from tests.sim.report import Report, campaign
from tests.sim.scenario import OWN
from tests.sim.weather import CLASSES

SEEDS, OWN_SEEDS = 5000, 400
CHUNK = 250
# Whichever test comes first makes the report of all seeds: half a minute on an ordinary core of one's own.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def report() -> Report:
    whole = Report()
    for first in range(0, SEEDS, CHUNK):
        whole.join(campaign(range(first, first + CHUNK)))
    print("\n".join(whole.lines()))
    return whole


def test_every_seed_keeps_every_promise(report: Report) -> None:
    assert report.seeds == SEEDS
    assert [(o.seed, o.violation) for o in report.broken] == []


def test_hosts_of_ones_own_keep_every_promise() -> None:
    assert [(o.seed, o.violation) for o in (run(seed, OWN) for seed in range(OWN_SEEDS)) if o.violation] == []


def test_a_seed_is_a_whole_run_that_meets_faults(report: Report) -> None:
    assert min(report.events) >= LEAST_EVENTS
    assert sorted(report.faults)[SEEDS // 2] >= 3
    assert set(report.states) == {"done", "failed", "limit", "stopped"}


def test_every_class_of_fault_is_met_and_every_declared_pair_of_step_and_fault(report: Report) -> None:
    assert [name for name in CLASSES if not report.met[name]] == []
    assert report.unreached() == []


def test_a_seed_replays_byte_for_byte() -> None:
    first, again = (campaign(range(40)) for _ in range(2))
    assert first.digests == again.digests
    assert len(set(first.digests)) == 40


def test_a_seed_is_told_by_its_trace_alone() -> None:
    one, other = run(3), run(3)
    assert one.trace == other.trace
    assert (one.met, one.pairs, one.state) == (other.met, other.pairs, other.state)
