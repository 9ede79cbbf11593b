"""A machine that was stopped while its results may wait on it: what it costs, and what is done to read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from launcher.models import State
from launcher.runstate import Step, next_step, shown
from tests.unit.journals.stories import Story, begin, choice, plan

HOUR = timedelta(hours=1)


def rented() -> Story:
    return begin(plan(choice("rented", "0.69")))


def asleep(story: Story) -> Story:
    return story("end-asked", attempt=1)(
        "gone",
        attempt=1,
        evidence="stopped, twice by its own id",
        kept=True,
        asleep=True,
        storage_usd_per_hour=Decimal("0.01"),
        billed_until=story.now,
    )


def woken(story: Story) -> Story:
    return story("woken", attempt=1, deadline=story.now + HOUR)


def test_results_that_may_lie_on_it_are_wanted() -> None:
    sleeping = asleep(rented().started())
    assert sleeping.state.wants_pull
    assert next_step(sleeping.state) is Step.CONNECT


def test_one_on_which_no_trainer_began_is_given_up() -> None:
    created = rented().created().connected()
    assert not asleep(created).state.wants_pull


def test_once_awake_it_is_reached_before_it_is_looked_at() -> None:
    awake = woken(asleep(rented().started()))
    assert next_step(awake.state) is Step.CONNECT
    assert next_step(awake.connected().state) is Step.WATCH


def test_what_it_had_sealed_is_fetched_once_it_is_reached() -> None:
    awake = woken(asleep(rented().started().sealed()))
    assert next_step(awake.state) is Step.CONNECT
    assert next_step(awake.connected().state) is Step.PULL


def test_awake_and_nothing_wanted_any_more_it_is_let_go() -> None:
    awake = woken(asleep(rented().started().sealed()))
    assert next_step(awake("discarded").state) is Step.RELEASE


def test_computing_and_sleeping_are_paid_apart() -> None:
    sleeping = asleep(rented().started())
    attempt = sleeping.state.attempts[0]
    assert attempt.billed_until is not None
    ran = attempt.billed_until - attempt.asked_at
    until = attempt.billed_until + 10 * HOUR
    expected = Decimal("0.69") * Decimal(ran.total_seconds()) / 3600 + Decimal("0.01") * 10
    assert abs(sleeping.state.spent(until) - expected) < Decimal("0.001")


def test_what_others_cost_is_told_without_it() -> None:
    state = asleep(rented().started()).state
    (only,) = state.attempts
    assert state.spent_besides(only, only.asked_at + HOUR) == 0
    two = replace(state, attempts=(only, replace(only, n=2)))
    assert two.spent_besides(only, only.asked_at + HOUR) == only.cost(only.asked_at + HOUR)


def test_one_that_is_given_up_and_does_not_go_may_still_be_billing() -> None:
    sleeping = asleep(rented().started().sealed())
    late = sleeping.now + HOUR
    assert shown(sleeping.state, engine_alive=True, now=late) is State.PULLING
    assert shown(sleeping.state, engine_alive=False, now=late) is State.WAITING
    given_up = sleeping("stop", id="r1", now=True)("discarded")
    assert shown(given_up.state, engine_alive=True, now=late) is not State.MAYBE_BILLING, "nobody was asked"
    given_up("end-asked", attempt=1)
    for alive in (True, False):
        assert shown(given_up.state, engine_alive=alive, now=given_up.now + HOUR) is State.MAYBE_BILLING
    gone = given_up("gone", attempt=1, evidence="twice not listed", kept=False)
    assert shown(gone.state, engine_alive=True, now=late) is not State.MAYBE_BILLING
