"""A machine that answers with another key than the known one is not talked to, and given up at once."""

from __future__ import annotations

import pytest

from launcher import engine
from launcher.errors import Exit
from launcher.models import Access, State
from launcher.remote.base import Host
from launcher.runstate import exit_status, outcome
from launcher.ssh.errors import KeyMismatch
from tests.sim.house import House


@pytest.mark.parametrize("seed", [1, 4, 7, 9])  # houses with one machine to choose
def test_it_is_knocked_at_once_and_the_attempt_ends_with_its_words(seed: int) -> None:
    house = House(seed)
    house.calm()
    world = house.open(0.0)
    assert len(world.plan.choices) == 1
    knocks: list[Access] = []

    def strangers(access: Access) -> Host:
        knocks.append(access)
        raise KeyMismatch("lab", 22, "ssh-ed25519 AAAA", known=True)

    world.open_host = strangers
    state = engine.drive(world, {"pid": 1})
    [attempt] = state.attempts
    assert len(knocks) == 1
    assert attempt.over is not None and "not the pinned one" in attempt.over
    assert (attempt.fault, attempt.blame, attempt.open) == ("KeyChanged", True, False)
    assert outcome(state) is State.FAILED and exit_status(state, State.FAILED) is Exit.UNREACHABLE
