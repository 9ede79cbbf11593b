"""A run on a machine of one's own, over a line that breaks again and again, or falls silent without a word.

Mostly waiting, and with much patience: it may run beside others.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosted import HostedPerson, left_in
from tests.e2e.noisy import RUN, followed, noisy
from tests.hosts.boxes import Box, sshd_container
from tests.hosts.breaking import NOTICED_S, Breaker, awaited

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

SEED, BREAKS = 20, 12  # a hundred: bench/disconnects.py


@pytest.fixture
def person(tmp_path: Path) -> Iterator[HostedPerson]:
    someone = HostedPerson(tmp_path)
    yield someone
    someone.cleans_up()


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Iterator[Box]:
    shared.sh("rm -f /tmp/go")
    yield shared
    assert left_in(shared) == []


def test_a_log_over_a_line_that_breaks_again_and_again_is_whole(person: HostedPerson, box: Box) -> None:
    with box.relay() as relay, noisy(person, box, relay) as run:
        breaker = Breaker(relay, run.heard, random.Random(SEED))
        with followed(person) as seen:
            breaker.strikes(BREAKS)
            ended = run.ends()
        lines = run.must_be_whole(ended, seen.read_bytes())
        print(f"{BREAKS} breaks {dict(breaker.struck)}, {lines} lines, slowest {breaker.slowest_s}")
        assert len([fact for fact in person.facts(RUN) if fact["kind"] == "created"]) == 1
        person.leaves_nothing(box)


def test_a_line_that_fell_silent_is_noticed_and_the_view_says_so(person: HostedPerson, box: Box) -> None:
    with box.relay() as relay, noisy(person, box, relay) as run, person.terminal("watch", RUN) as screen:
        screen.sees("step 0")
        before, began = relay.connections, time.monotonic()
        relay.fall_silent()
        screen.sees(r"ssh:far .*not heard")
        awaited(lambda: relay.connections > before, "it is noticed", NOTICED_S)
        print(f"noticed after {time.monotonic() - began:.1f} s")
        run.hears_more()
        run.must_be_whole(run.ends())
        assert screen.ends() == 0
        person.leaves_nothing(box)
