"""The bounds of a run: additive, monotone, never negative, and every rounding goes against us."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from launcher import guard
from launcher.models import Limits

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)

rates = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(150), places=4)
dollars = st.decimals(min_value=Decimal(0), max_value=Decimal(500), places=2)
seconds = st.integers(min_value=0, max_value=200_000)
steps = st.sampled_from([1, 60, 3600])
overruns = st.integers(min_value=0, max_value=600)
limits = st.builds(
    lambda boot, work: Limits(max_time_s=work, salvage_s=guard.salvage_s(work), boot_limit_s=boot),
    st.integers(min_value=1, max_value=3600),
    st.integers(min_value=1, max_value=86_400),
)


@pytest.mark.parametrize(
    ("work", "salvage"),
    [(1, 20), (90, 20), (200, 20), (201, 21), (1800, 180), (7200, 720), (9000, 900), (86_400, 900)],
)
def test_salvage_is_a_tenth_between_20_seconds_and_15_minutes(work: int, salvage: int) -> None:
    assert guard.salvage_s(work) == salvage


def test_worst_cost_is_boot_limit_and_work_and_salvage_and_overrun() -> None:
    bounds = Limits(max_time_s=3600, salvage_s=360, boot_limit_s=900)
    assert guard.worst_cost(Decimal("0.69"), bounds, 60) == Decimal("0.943000")
    assert guard.smallest_ceiling(Decimal("0.69"), bounds, 60) == Decimal("0.95")
    assert guard.may_ask(Decimal(0), Decimal("0.69"), bounds, 60, Decimal("0.943"))
    assert not guard.may_ask(Decimal("0.01"), Decimal("0.69"), bounds, 60, Decimal("0.95"))


def test_a_machine_that_bills_whole_minutes_is_counted_in_whole_minutes() -> None:
    end = NOON + timedelta(seconds=61)
    assert guard.spent(Decimal("3.60"), NOON, end, 60) == Decimal("0.12")
    assert guard.spent(Decimal("3.60"), NOON, end) == Decimal("0.061")
    assert guard.worst_cost(Decimal("3.6"), Limits(60, 20, boot_limit_s=1), 0, 60) == Decimal("0.12")


def test_without_a_budget_the_end_is_boot_limit_and_work_and_salvage() -> None:
    bounds = Limits(max_time_s=3600, salvage_s=360, boot_limit_s=900)
    whole = NOON + timedelta(seconds=4860)
    assert guard.ends_at_create(NOON, bounds, Decimal("0.69"), None) == whole
    assert guard.ends_at_create(NOON, bounds, Decimal("0.69"), Decimal(50)) == whole
    assert guard.ends_at_create(NOON, bounds, Decimal(0), Decimal(0)) == whole, "nothing bills here"


def test_a_budget_cuts_the_end_and_covers_the_overrun() -> None:
    bounds = Limits(max_time_s=36_000, salvage_s=900, boot_limit_s=900)
    cut = guard.ends_at_create(NOON, bounds, Decimal("0.60"), Decimal("0.60"), overrun_s=60)
    assert cut == NOON + timedelta(seconds=3540)


def test_started_replaces_the_end_but_not_beyond_what_is_paid() -> None:
    bounds = Limits(max_time_s=3600, salvage_s=360)
    assert guard.ends_at_start(NOON, bounds) == NOON + timedelta(seconds=3960)
    cut = NOON + timedelta(seconds=1000)
    assert guard.ends_at_start(NOON, bounds, cut) == cut
    assert guard.limits_at_start(NOON, bounds, None) == bounds
    assert guard.limits_at_start(NOON, bounds, cut) == replace(bounds, max_time_s=640)
    assert guard.limits_at_start(NOON, bounds, NOON + timedelta(seconds=100)) == replace(
        bounds, max_time_s=0, salvage_s=100
    )
    late = guard.limits_at_start(NOON, bounds, NOON - timedelta(seconds=5))
    assert (late.max_time_s, late.salvage_s) == (0, 0)


def test_a_machine_that_nobody_met_ends_by_its_boot_limit_after_it_came_up_at_the_latest_or_by_d() -> None:
    bounds = Limits(60, 20, boot_limit_s=900, ready_within_s=600)
    far = NOON + timedelta(hours=9)
    assert guard.ends_unmet(NOON, bounds, far) == NOON + timedelta(seconds=1500)
    assert guard.ends_unmet(NOON, bounds, NOON + timedelta(seconds=30)) == NOON + timedelta(seconds=30)


def test_a_clock_that_went_backwards_bills_nothing() -> None:
    assert guard.spent(Decimal(9), NOON, NOON - timedelta(hours=1)) == 0


@given(rates, seconds, seconds, steps)
def test_spent_is_additive_and_parts_never_cost_less_than_the_whole(
    rate: Decimal, first: int, second: int, step: int
) -> None:
    middle = NOON + timedelta(seconds=first)
    end = middle + timedelta(seconds=second)
    parts = guard.spent(rate, NOON, middle, step) + guard.spent(rate, middle, end, step)
    whole = guard.spent(rate, NOON, end, step)
    assert whole <= parts
    assert parts - whole <= guard.money(rate, Decimal(step)) + 2 * guard.MICRO


@given(rates, rates, seconds, seconds, steps)
def test_spent_grows_with_time_and_rate_and_is_never_negative(
    rate: Decimal, dearer: Decimal, first: int, second: int, step: int
) -> None:
    short, long = sorted((NOON + timedelta(seconds=first), NOON + timedelta(seconds=second)))
    low, high = sorted((rate, dearer))
    assert 0 <= guard.spent(low, NOON, short, step) <= guard.spent(low, NOON, long, step)
    assert guard.spent(low, NOON, long, step) <= guard.spent(high, NOON, long, step)


@given(rates, seconds, steps)
def test_a_bill_is_rounded_up(rate: Decimal, lived: int, step: int) -> None:
    billed = guard.spent(rate, NOON, NOON + timedelta(seconds=lived), step)
    assert billed * 3600 >= rate * lived
    assert billed == billed.quantize(guard.MICRO)


@given(rates, limits, overruns, steps)
def test_the_smallest_ceiling_admits_the_attempt_and_a_cent_less_does_not(
    rate: Decimal, bounds: Limits, overrun: int, step: int
) -> None:
    ceiling = guard.smallest_ceiling(rate, bounds, overrun, step)
    assert ceiling == ceiling.quantize(guard.CENT)
    assert guard.may_ask(Decimal(0), rate, bounds, overrun, ceiling, step)
    assert not guard.may_ask(Decimal(0), rate, bounds, overrun, ceiling - guard.CENT, step)


@given(rates, limits, overruns, dollars, dollars, steps)
def test_spent_and_committed_never_exceed_the_ceiling(
    rate: Decimal, bounds: Limits, overrun: int, spent: Decimal, ceiling: Decimal, step: int
) -> None:
    assume(guard.may_ask(spent, rate, bounds, overrun, ceiling, step))
    end = guard.ends_at_create(NOON, bounds, rate, ceiling - spent, overrun, step)
    assert end == NOON + timedelta(seconds=guard.span_s(bounds)), "an admitted attempt is not cut"
    assert spent + guard.spent(rate, NOON, end + timedelta(seconds=overrun), step) <= ceiling


@given(rates, limits, overruns, dollars, steps)
def test_the_cut_is_the_last_moment_that_is_paid(
    rate: Decimal, bounds: Limits, overrun: int, left: Decimal, step: int
) -> None:
    end = guard.ends_at_create(NOON, bounds, rate, left, overrun, step)
    assert NOON <= end <= NOON + timedelta(seconds=guard.span_s(bounds))
    lived = timedelta(seconds=overrun)
    if end > NOON:
        assert guard.spent(rate, NOON, end + lived, step) <= left
    if end < NOON + timedelta(seconds=guard.span_s(bounds)):
        assert guard.spent(rate, NOON, end + lived + timedelta(seconds=1), step) > left


@given(limits, limits, rates, overruns)
def test_longer_limits_never_cost_less(one: Limits, other: Limits, rate: Decimal, overrun: int) -> None:
    short, long = sorted((one, other), key=guard.span_s)
    assert guard.worst_cost(rate, short, overrun) <= guard.worst_cost(rate, long, overrun)


@given(limits, seconds)
def test_limits_at_start_always_fit_before_the_cut(bounds: Limits, room: int) -> None:
    cut = NOON + timedelta(seconds=room)
    fitted = guard.limits_at_start(NOON, bounds, cut)
    assert fitted.max_time_s >= 0 and fitted.salvage_s >= 0
    assert guard.ends_at_start(NOON, fitted) <= cut
    assert guard.ends_at_start(NOON, fitted) == guard.ends_at_start(NOON, bounds, cut)
