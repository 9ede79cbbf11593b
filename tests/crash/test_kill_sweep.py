"""SIGKILL at every boundary of a run, then `resume`: the same results, nothing twice, nothing left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.life import Target
from tests.crash.sweep import Sweep

HELD = json.loads((Path(__file__).parent / "boundaries.json").read_text())
LATE_ONES = 3  # boundaries that a slower or quicker run may pass by


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_local_run_killed_at_each_boundary_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    report = Sweep(tmp_path / "sweep", Target("local")).run()
    print(report.line())
    assert not report.faults, "\n\n".join(report.faults)
    assert len(report.boundaries) >= HELD["local"], report.boundaries
    assert len(report.missed) <= LATE_ONES, report.missed
    assert report.nested >= 10
