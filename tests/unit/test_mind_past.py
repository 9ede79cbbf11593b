"""What an earlier life left to be sealed, and what the next one makes of it."""

from __future__ import annotations

import pytest

from launcher.agent.past import unsealed
from launcher.agent.protocol import Event, Leave, Seal, SealFailed, Signal, Unsealed
from tests.unit.mind_bench import SEALED, Bench

LEFT = Unsealed("project/ab/out", 3, None, "limit")
STARTED: Event = {"ev": "started", "pid": 7, "argv0": "train", "output": "project/ab/out"}
EXITED: Event = {"ev": "exited", "exit_code": 3, "signal": None, "why": "limit"}
SEAL: Event = {"ev": "sealed", "digest": "d"}


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ((), None),
        ((STARTED,), None),
        ((STARTED, EXITED), LEFT),
        ((STARTED, EXITED, {"ev": "ending", "why": "deadline"}, {"ev": "hello"}), LEFT),
        ((STARTED, EXITED, SEAL), None),
        ((STARTED, {**EXITED, "why": "preempted"}), None),  # it goes on from its checkpoint
        ((STARTED, EXITED, STARTED), None),
        (({"ev": "started", "pid": 7}, EXITED), None),  # an older agent's words
        (({**STARTED, "output": "../.."}, EXITED), None),
        (({**STARTED, "output": 5}, EXITED), None),
        ((EXITED,), None),
        (
            (STARTED, {"ev": "exited", "exit_code": None, "signal": 9, "why": None}),
            Unsealed("project/ab/out", None, 9, None),
        ),
    ],
)
def test_what_is_left(events: tuple[Event, ...], left: Unsealed | None) -> None:
    assert unsealed(events) == left


def test_it_is_sealed_at_once_with_the_end_that_it_had() -> None:
    b = Bench(unsealed=LEFT)
    assert b.wake(0) == [Seal("project/ab/out")]
    assert b.last("armed")["seals"] is True
    b.wake(1, sealed=SealFailed("no room"))
    assert b.wake(6) == [Seal("project/ab/out")]
    b.wake(7, sealed=SEALED)
    sealed = b.last("sealed")
    assert (sealed["exit_code"], sealed["why"]) == (3, "limit")
    b.say(8, "receipt", digest=SEALED.digest)
    assert b.last("ending")["why"] == "receipt"


def test_nothing_is_started_beside_it() -> None:
    b = Bench(unsealed=LEFT)
    b.wake(0)
    assert b.say(1, "start", job={"argv": ["train"]}) == []
    assert b.say(2, "prepare", argv=["pip"]) == []


def test_only_the_boot_limit_bounds_it() -> None:
    b = Bench(unsealed=LEFT, boot_limit=50)
    b.wake(0)
    assert b.wake(50) == [Signal("kill"), Leave("boot-limit")]


def test_who_has_nothing_to_seal_says_nothing_of_it() -> None:
    b = Bench()
    assert b.wake(0) == [] and "seals" not in b.last("armed")
