"""A run on a machine of one's own, over a line that nothing goes through, or from a laptop asleep."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.e2e.hosted import HostedPerson, lets_go
from tests.e2e.noisy import RUN, noisy
from tests.e2e.person import until
from tests.hosts.boxes import Box, sshd_container

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

SEED = 20
PS_S = 5.5


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    """Its sshd drops whoever was silent for two seconds."""
    with sshd_container("openssh") as box:
        drops = "ClientAliveInterval 1\\nClientAliveCountMax 2\\n"
        box.sh(f"printf '{drops}' >>/etc/ssh/sshd_config && kill -HUP 1")
        yield box


def test_ps_asks_a_silent_host_no_longer_than_a_person_waits(holder: HostedPerson, box: Box) -> None:
    with box.relay() as relay, noisy(holder, box, relay) as run:
        relay.half_open()
        for engine in ("living", "killed"):
            if engine == "killed":
                os.kill(holder.engine(RUN), signal.SIGKILL)
            began = time.monotonic()
            said = holder.types("ps")
            took = time.monotonic() - began
            assert "could not ask ssh:far what runs there" in said.stdout, said.stdout
            assert took < PS_S, f"{took:.1f} s with a {engine} engine"
            print(f"ps with a silent host, {engine} engine: {took:.1f} s")
        relay.half_open(False)
        lets_go(box)
        run.must_be_whole(holder.types("resume", RUN, "--json", timeout=120))
        holder.leaves_nothing(box)


@contextmanager
def asleep(holder: HostedPerson, name: str) -> Iterator[None]:
    """What a laptop that was closed does to the engine on it."""
    pid = holder.engine(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_laptop_that_slept_goes_on_where_it_was(holder: HostedPerson, box: Box) -> None:
    """For longer than the host keeps a connection that does not answer."""
    with box.relay() as relay, noisy(holder, box, relay) as run:
        with asleep(holder, RUN):
            until(lambda: not box.sh("pgrep -f '^sshd: dev'; true").split(), "the host drops it")
        run.hears_more()
        run.must_be_whole(run.ends())
        holder.leaves_nothing(box)


def test_a_laptop_that_slept_past_the_boot_limit_asks_for_another(holder: HostedPerson, box: Box) -> None:
    """While it sent the project: nobody renewed the machine's lease of life, so that ended itself."""
    holder.writes("says.py", "print('says', flush=True)\n")
    (holder.project / "large").write_bytes(random.Random(SEED).randbytes(2 << 20))
    with box.relay(bytes_per_s=200e3) as relay:
        holder.knows("far", replace(box, route=box.through(relay)))
        words = ("run", "--project", ".", "--on", "ssh:far", "--name", "slept", "--json")
        begun = holder.begins(*words, "--", "python3", "says.py", LAUNCHER_BOOT_LIMIT="3s")
        holder.waits_for("slept", "connected")
        with asleep(holder, "slept"):
            until(lambda: not box.sh("pgrep -u dev -f agent.pyz; true").split(), "the agent leaves")
        for line in relay.lines.values():
            line.bytes_per_s = None
        _, told = begun.communicate(timeout=60)
    assert begun.returncode == 0, told
    assert len([fact for fact in holder.facts("slept") if fact["kind"] == "created"]) == 2
    holder.leaves_nothing(box)
