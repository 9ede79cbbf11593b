"""Before a machine is there: a fault of our own ends the engine, and "too fast" surely had no effect."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from launcher import engine
from launcher.errors import Exit, TooFast, usage
from launcher.models import Order, State
from launcher.runstate import exit_status
from tests.sim.house import House


def test_an_engine_that_cannot_even_begin_ends() -> None:
    house = House(3)
    house.weather.clear()
    world = house.open(0.0)

    def broken(choice: int) -> Any:
        raise ValueError("no such provider")

    world.provider = broken
    with pytest.raises(ValueError, match="no such provider"):
        engine.drive(world, {"pid": 1})
    assert world.state.attempts == ()


class Hurried:
    """A provider that says "too fast" to the first call that creates."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.refused = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, order: Order) -> Any:
        if not self.refused:
            self.refused += 1
            raise TooFast("asked too often", wait_s=2.0)
        return self._inner.create(order)


def test_too_fast_is_asked_again_at_once_and_not_past_the_listing_lag() -> None:
    house = next(h for s in range(50) if (h := House(s)).scenario.targets == ("cloud",))
    house.weather.clear()
    world = house.open(0.0)
    hurried = Hurried(world.provider(0))
    world.provider = lambda choice: hurried
    engine.drive(world, {"pid": 1})
    [asked, created] = [f.at for f in world.journal.facts if f.kind in ("create-asked", "created")][:2]
    assert hurried.refused == 1 and len(house.machines) >= 1
    assert 2 <= (created - asked).total_seconds() < 40  # a wait of the simulator's may jump so far
    assert world.state.attempts[0].instance is not None


def test_what_only_the_user_can_bring_is_asked_for_on_no_second_machine() -> None:
    """Nor is the first one kept for results: no trainer was ever ordered there."""
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("pods", "pods"))
    house.weather.clear()
    world = house.open(0.0)

    def missing(refs: Any) -> Any:
        raise usage("secret-missing", "the secret TOKEN is to come from $TOKEN, which is not set")

    world.secrets = missing
    state = engine.drive(world, {"pid": 1})
    [attempt] = state.attempts
    assert attempt.over is not None and "$TOKEN" in attempt.over
    assert len(house.machines) == 1 and house.machines[0].boots == 1 and not house.machines[0].asleep
    assert state.ended is State.FAILED and exit_status(state, State.FAILED) is Exit.USAGE


def test_whoever_asks_for_a_day_of_patience_is_passed_over() -> None:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("cloud", "cloud"))
    house.weather.clear()
    world = house.open(0.0)
    inner = world.provider(0)

    class Busy(Hurried):
        def create(self, order: Order) -> Any:
            if order.offer.id == "cloud:0":
                raise TooFast("asked too often", wait_s=86400.0)
            return self._inner.create(order)

    busy = Busy(inner)
    world.provider = lambda choice: busy
    state = engine.drive(world, {"pid": 1})
    [created] = [f.at for f in world.journal.facts if f.kind == "created"][:1]
    assert (created - state.attempts[0].asked_at).total_seconds() < 1200


@pytest.mark.parametrize(("told", "counts"), [("0", "0.69"), ("0.004", "0.69"), ("0.35", "0.35")])
def test_a_price_that_is_not_told_yet_makes_no_machine_cheap(told: str, counts: str) -> None:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("cloud",))
    house.weather.clear()
    world = house.open(0.0)
    [choice] = world.plan.choices
    dear = replace(choice, offer=replace(choice.offer, disk_usd_per_hour=Decimal("0.004")))
    world.plan = replace(world.plan, choices=(dear,))
    inner = world.provider(0)

    class Young(Hurried):
        def create(self, order: Order) -> Any:
            return replace(self._inner.create(order), usd_per_hour=Decimal(told))

    young = Young(inner)
    world.provider = lambda choice: young
    assert engine.drive(world, {"pid": 1}).attempts[0].usd_per_hour == Decimal(counts)
