"""A machine was asked for, the answer was lost, and nobody can look whether it was made: it is looked for
until one that was made has ended itself, and then a person is told what may bill and what to type.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import engine
from launcher.cli import ending
from launcher.errors import AuthRefused, Exit, ProviderError, Unreachable
from launcher.models import Order, State
from launcher.report import lines
from launcher.runstate import RunState, exit_status, shown
from launcher.steps.halting import KEY_PATIENCE_S
from launcher.store import RunFolder
from tests.sim.house import RUN, House
from tests.unit.journals.stories import begin, choice, plan
from tests.unit.test_lines import told

DOWN = Unreachable("no answer from the cloud")
REFUSED = AuthRefused("the cloud does not accept this key")


class Deaf:
    """A provider that may hear the first call to create, answers nothing, and shows no list."""

    def __init__(self, inner: Any, why: ProviderError, *, hears: bool) -> None:
        self._inner, self._why, self._hears = inner, why, hears
        self.asked = 0  # for the list
        self.lists_again = False
        self.meanwhile: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, order: Order) -> Any:
        if not self.lists_again:
            if self._hears:
                self._inner.create(order)
            self.meanwhile()
            raise DOWN
        return self._inner.create(order)

    def list(self, run_id: str | None = None) -> Any:
        if not self.lists_again:
            self.asked += 1
            raise self._why
        return self._inner.list(run_id)


def lost(why: ProviderError = DOWN, *, hears: bool = False) -> tuple[House, Deaf]:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("pods",))
    house.weather.clear()
    return house, Deaf(house.open(0.0).provider(0), why, hears=hears)


def drive(house: House, deaf: Deaf) -> RunState:
    world = house.open(0.0)
    world.provider = lambda _: deaf
    return engine.drive(world, {"pid": 1})


@pytest.mark.parametrize("hears", [False, True])
def test_it_is_not_looked_for_without_end(hears: bool) -> None:
    house, deaf = lost(hears=hears)
    state = drive(house, deaf)
    assert state.halted is not None
    assert (state.halted.code, state.halted.exit) == ("machine-unknown", Exit.MAYBE_BILLING)
    [a] = state.attempts
    limits, now = state.plan.limits, house.true_clock.now()
    assert a.open and a.instance is None and a.noticed == "machine-unknown"
    assert len(house.machines) == hears and deaf.asked > 10
    past = (now - a.asked_at).total_seconds() - limits.ready_within_s - limits.boot_limit_s
    assert deaf.traits.overrun_s <= past < deaf.traits.overrun_s + 60
    assert not any(m.alive for m in house.machines)
    assert shown(state, engine_alive=False, now=now) is State.MAYBE_BILLING
    assert exit_status(state, State.MAYBE_BILLING) is Exit.MAYBE_BILLING
    deaf.lists_again = True
    state = drive(house, deaf)
    assert state.ended is State.DONE and len(state.attempts) == 2


def test_whoever_comes_back_later_looks_only_for_a_moment() -> None:
    house, deaf = lost()
    drive(house, deaf)
    left = house.true_clock.now()
    state = drive(house, deaf)
    assert state.halted is not None and state.halted.code == "machine-unknown" and len(state.attempts) == 1
    assert KEY_PATIENCE_S <= (house.true_clock.now() - left).total_seconds() < 120


def test_a_key_that_is_not_taken_meanwhile_ends_the_look_soon() -> None:
    house, deaf = lost(REFUSED)
    state = drive(house, deaf)
    assert state.halted is not None and (state.halted.code, state.halted.exit) == ("key-refused", 3)
    [a] = state.attempts
    now = house.true_clock.now()
    assert KEY_PATIENCE_S <= (now - a.asked_at).total_seconds() < 90
    assert exit_status(state, shown(state, engine_alive=False, now=now)) is Exit.MAYBE_BILLING


def test_a_stop_meanwhile_makes_it_an_end_that_is_asked_for() -> None:
    house, deaf = lost(REFUSED)
    deaf.meanwhile = lambda: house.files.put(RUN.requests / "r1.json", b'{"verb": "stop", "now": true}')
    state = drive(house, deaf)
    [a] = state.attempts
    assert a.end_asked_at is not None and state.halted is not None and state.halted.code == "key-refused"
    deaf.lists_again = True
    assert drive(house, deaf).ended is State.STOPPED


def test_the_page_says_what_may_bill_and_what_to_type(tmp_path: Path) -> None:
    story = begin(plan(choice("rented", "0.69"))).asked()
    story("halted", code="machine-unknown", why="no answer from the cloud", exit=9)
    view = told(RunFolder(tmp_path / "quickstart-abcd"), story)
    fault = ending.trouble(view, State.MAYBE_BILLING)
    assert fault is not None and (fault.code, fault.exit) == ("machine-unknown", Exit.MAYBE_BILLING)
    assert fault.message.startswith(
        "a machine was asked for, and whether it was made is not known; no answer"
    )
    assert fault.billed.startswith("perhaps a machine at $0.69/h, whose own guard ends it by ")
    assert fault.hint == "resume quickstart-abcd"
    assert lines.attention(view, story.now, "./launch") == (
        "quickstart-abcd: may still be billing (no answer from the cloud); "
        "look again: ./launch resume quickstart-abcd"
    )
