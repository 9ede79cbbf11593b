"""A host of the user's own that stays away, or is no longer who it was: nothing there is given up unseen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import engine
from launcher.cli import ending
from launcher.errors import AuthRefused, Exit, KeyChanged, ProviderError, Unreachable
from launcher.models import State, Traits
from launcher.runstate import exit_status, may_try_again, next_step, shown
from launcher.steps.halting import KEY_PATIENCE_S, PATIENCE_S
from launcher.store import RunFolder
from tests.sim.house import House
from tests.unit.journals.stories import begin, choice, plan
from tests.unit.test_lines import told

OWN = Traits(boots="machine", bills=False, token_idempotent=True, keeps_output=True, overrun_s=15)
ALONE = 9  # a house whose one machine is free and keeps its output


class Away:
    """A provider whose host answers nobody, or with another key, from a fact of the run on."""

    def __init__(
        self, inner: Any, house: House, since: str, error: ProviderError | None, traits: Traits = OWN
    ) -> None:
        self._inner, self._house, self._since, self.error = inner, house, since, error
        self.name, self.traits = inner.name, traits

    def _is_away(self) -> bool:
        assert self._house.world is not None
        told = {fact.kind for fact in self._house.world.journal.facts}
        return self.error is not None and self._since in told

    def __getattr__(self, verb: str) -> Any:
        def ask(*words: Any) -> Any:
            if self._is_away():
                for line in self._house.lines.values():
                    line.cut_until = float("inf")
                assert self.error is not None
                raise self.error
            return getattr(self._inner, verb)(*words)

        return ask


def house_with(error: ProviderError, since: str) -> tuple[House, Away]:
    house = House(ALONE)
    house.calm()
    world = house.open(0.0)
    assert world.plan.choices[0].offer.bills is False and len(world.plan.choices) == 1
    away = Away(world.provider(0), house, since, error)
    world.provider = lambda _: away
    return house, away


def comes_back(house: House, away: Away) -> Any:
    away.error = None
    house.calm()
    world = house.open(0.0)
    world.provider = lambda _: away
    return engine.drive(world, {"pid": 2})


def test_results_of_a_host_that_was_away_past_its_end_are_fetched_once_it_is_back() -> None:
    house, away = house_with(Unreachable("lab does not answer"), "started")
    assert house.world is not None
    state = engine.drive(house.world, {"pid": 1})
    assert state.halted is not None and state.halted.code == "host-unreachable"
    assert state.ended is None and state.attempt is not None and state.attempt.open
    late = (house.true_clock.now() - state.attempt.d).total_seconds()
    assert PATIENCE_S <= late < PATIENCE_S + 300
    assert (
        exit_status(state, shown(state, engine_alive=False, now=house.true_clock.now())) is Exit.UNREACHABLE
    )
    assert comes_back(house, away).ended is State.DONE


def test_a_machine_whose_end_nobody_could_see_counts_as_ended_past_its_deadline() -> None:
    """Its results are here: whoever cannot look any more need not ask for ever."""
    house, _ = house_with(Unreachable("lab does not answer"), "receipt")
    assert house.world is not None
    state = engine.drive(house.world, {"pid": 1})
    assert state.ended is State.DONE and state.attempt is not None and state.attempt.gone_at is not None
    assert (state.attempt.gone_at - state.attempt.d).total_seconds() < PATIENCE_S + 300


def test_another_key_ends_the_asking_at_once_and_gives_nothing_up() -> None:
    house, away = house_with(KeyChanged("lab shows another key"), "started")
    assert house.world is not None
    state = engine.drive(house.world, {"pid": 1})
    assert state.halted is not None and (state.halted.code, state.halted.exit) == ("host-key-changed", 6)
    assert state.attempt is not None and (state.attempt.open, state.attempt.over) == (True, None)
    assert comes_back(house, away).ended is State.DONE


def test_another_key_on_the_way_out_is_said_instead_of_asked_again() -> None:
    house, _ = house_with(KeyChanged("lab shows another key"), "receipt")
    assert house.world is not None
    state = engine.drive(house.world, {"pid": 1})
    assert state.halted is not None and state.attempt is not None and state.attempt.open


def test_a_halted_run_waits_for_the_next_engine() -> None:
    story = begin().started()("halted", code="host-key-changed", why="lab shows another key", exit=6)
    assert next_step(story.state) is None and story.state.ended is None
    assert next_step(story("engine", pid=2).state) is not None


@pytest.mark.parametrize(("rate", "goes_on"), [("0", False), ("0.69", True)])
def test_only_a_host_of_ones_own_with_another_key_is_not_passed_over(rate: str, goes_on: bool) -> None:
    two = plan(choice("lab", rate), choice("other", "0"))
    story = begin(replace(two)).asked()(
        "not-created", attempt=1, reason="k", blame=True, exit=6, code="KeyChanged"
    )
    assert may_try_again(story.state) is goes_on


@pytest.mark.parametrize(
    ("target", "code", "exit", "hint"),
    [
        ("ssh:lab", "host-key-changed", 6, "host check lab"),
        ("rented", "key-refused", 3, "resume quickstart-abcd"),
        ("rented", "output-stays", 5, "resume quickstart-abcd"),
    ],
)
def test_the_page_says_once_how_it_goes_on(
    tmp_path: Path, target: str, code: str, exit: int, hint: str
) -> None:
    story = begin(plan(choice(target, "0"))).started()("halted", code=code, why="no", exit=exit)
    page = ending.trouble(told(RunFolder(tmp_path / "quickstart-abcd"), story), State.INTERRUPTED)
    assert page is not None and page.hint == hint
    assert " ".join((page.message, *page.details, hint)).count("resume quickstart-abcd") == 1, page.details
    assert any("another key first" in one for one in page.details) is (exit == 3)


RENTS = 3  # a house whose first machine bills


def rented_with(error: ProviderError, since: str) -> tuple[House, Away]:
    house = House(RENTS)
    house.calm()
    world = house.open(0.0)
    assert world.plan.choices[0].offer.bills
    inner = world.provider(0)
    away = Away(inner, house, since, error, inner.traits)
    world.provider = lambda _: away
    return house, away


def test_a_provider_that_takes_our_key_no_more_is_not_asked_for_ever() -> None:
    """An engine keeps the key that it was begun with: whoever has a new one begins another."""
    house, away = rented_with(AuthRefused("it does not accept this key"), "receipt")
    assert house.world is not None
    state = engine.drive(house.world, {"pid": 1})
    assert state.halted is not None and (state.halted.code, state.halted.exit) == ("key-refused", 3)
    assert state.halted.why == "it does not accept this key"
    a, now = state.attempt, house.true_clock.now()
    assert a is not None and a.open and a.end_asked_at is not None and a.noticed == "unheard"
    assert KEY_PATIENCE_S < (now - a.end_asked_at).total_seconds() < 3 * KEY_PATIENCE_S
    told = shown(state, engine_alive=False, now=now)
    assert exit_status(state, told) is Exit.MAYBE_BILLING
    end = comes_back(house, away)
    assert end.ended is not None and end.attempt is not None and not end.attempt.open
