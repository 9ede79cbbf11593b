"""SIGKILL at every boundary of a run, then `resume`: the same results, nothing twice, nothing left.

Here: every boundary of a local run, and of a docker run those that make or end something and a sample of
the others. All of both: bench/crash_sweep.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.life import Target, rented
from tests.crash.sweep import Report, Sweep
from tests.emulators.runpod.emulation import with_pods
from tests.engines.base import base_image
from tests.hosts.boxes import HOME, sshd_container

HELD = json.loads((Path(__file__).parent / "boundaries.json").read_text())
LATE_ONES = 3  # boundaries that a slower or quicker run may pass by
DOCKER_SAMPLE, SSH_SAMPLE, RENTED_SAMPLE, SEED = 20, 14, 20, 20


def judge(report: Report, nested: int) -> None:
    print(report.line())
    assert not report.faults, "\n\n".join(report.faults)
    assert len(report.boundaries) >= HELD[report.target.partition(",")[0]], report.boundaries
    assert len(report.missed) <= LATE_ONES, report.missed
    assert report.nested >= nested


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_local_run_killed_at_each_boundary_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    judge(Sweep(tmp_path / "sweep", Target("local", ("--on", "local"))).run(), nested=10)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.need("docker")
def test_a_docker_run_killed_at_boundaries_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", Target("docker", ("--on", "docker", "--image", base_image())))
    judge(sweep.run(sweep.sample(DOCKER_SAMPLE, SEED)), nested=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.need("docker")
def test_a_run_on_an_own_host_killed_at_boundaries_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    with sshd_container("openssh") as box:
        sweep = Sweep(tmp_path / "sweep", Target("ssh", ("--on", "ssh:ssh"), host=box.route))
        judge(sweep.run(sweep.sample(SSH_SAMPLE, SEED)), nested=1)
        assert box.sh(f"ls {HOME}/.launcher/runs").split() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.need("docker")
def test_a_rented_run_killed_at_boundaries_is_resumed_or_ends_by_itself(tmp_path: Path) -> None:
    """One half is resumed to the same end; of the other, left alone, no GPU bills past its end of life, and
    what was trained can still be fetched."""
    with with_pods() as emulation:
        sweep = Sweep(tmp_path / "sweep", rented(emulation))
        chosen = sweep.sample(RENTED_SAMPLE, SEED)
        judge(sweep.run(chosen[::2]), nested=1)
        judge(sweep.abandon(chosen[1::2]), nested=0)
        assert emulation.cloud.ledger.billing() == []
