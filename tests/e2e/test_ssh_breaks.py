"""A run on a machine of one's own, over a line that breaks again and again, or falls silent without a word.

Mostly waiting, and with much patience: it may run beside others.
"""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.hosted import HostedPerson
from tests.e2e.noisy import RUN, followed, noisy
from tests.hosts.boxes import Box
from tests.hosts.breaking import NOTICED_S, Breaker, awaited

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

SEED, BREAKS = 20, 12  # a hundred: bench/disconnects.py


def test_a_log_over_a_line_that_breaks_again_and_again_is_whole(holder: HostedPerson, box: Box) -> None:
    with box.relay() as relay, noisy(holder, box, relay) as run:
        breaker = Breaker(relay, run.heard, random.Random(SEED))
        with followed(holder) as seen:
            breaker.strikes(BREAKS)
            ended = run.ends()
        lines = run.must_be_whole(ended, seen.read_bytes())
        print(f"{BREAKS} breaks {dict(breaker.struck)}, {lines} lines, slowest {breaker.slowest_s}")
        assert len([fact for fact in holder.facts(RUN) if fact["kind"] == "created"]) == 1
        holder.leaves_nothing(box)


def test_a_line_that_fell_silent_is_noticed_and_the_view_says_so(holder: HostedPerson, box: Box) -> None:
    with box.relay() as relay, noisy(holder, box, relay) as run, holder.terminal("watch", RUN) as screen:
        screen.sees("step 0")
        before, began = relay.connections, time.monotonic()
        relay.fall_silent()
        screen.sees(r"ssh:far .*not heard")
        awaited(lambda: relay.connections > before, "it is noticed", NOTICED_S)
        print(f"noticed after {time.monotonic() - began:.1f} s")
        run.hears_more()
        run.must_be_whole(run.ends())
        assert screen.ends() == 0
        holder.leaves_nothing(box)
