"""Which offers of a target are tried, and why none is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from launcher import guard
from launcher.errors import Exit, LauncherError
from launcher.models import Need, Refusal
from launcher.plan import Target, Way, Wishes, make
from tests.unit.test_plan import CLOUD, HERE, NOW, READY, ask, offer, refusal, rented, targets_of


def test_a_price_above_the_highest_is_refused_with_both_figures() -> None:
    decision = make(ask("cloud", need=Need(max_price=Decimal(1))), NOW)
    assert [choice.offer.gpu for choice in decision.plan.choices] == ["RTX 4090"]
    assert Refusal("cloud:A40", "A40 costs $1.29/h on demand, above $1.00") in decision.plan.refused


def test_the_highest_price_speaks_of_one_gpu_without_disks() -> None:
    two = replace(offer("cloud", "1.38", "RTX 4090", "0.50"), gpu_count=2)
    target = Target("cloud", (Way(two, READY),), bills=True)
    assert make(ask("cloud", offered=(target,), need=Need(max_price=Decimal("0.69"))), NOW).plan.choices
    spot = Target("cloud", (Way(replace(two, spot=True), READY),), bills=True)
    with pytest.raises(LauncherError) as caught:
        make(ask("cloud", offered=(spot,), need=Need(max_price=Decimal("0.685"))), NOW)
    assert caught.value.message == "RTX 4090 costs $0.69/h as spot, above $0.685"


def test_nothing_left_is_an_error_with_all_reasons() -> None:
    none = tuple(Target(name, (), (Refusal(name, "no price"),), bills=True) for name in ("cloud", "sky"))
    with pytest.raises(LauncherError) as caught:
        make(ask("cloud", "sky", offered=none), NOW)
    assert refusal(caught) == ("no-offer", Exit.NO_OFFER)
    assert caught.value.message == "cloud or sky has no offer for this need"
    assert caught.value.details == ("cloud: no price", "sky: no price")
    assert caught.value.hint == "plan x --gpu any-24gb"


def test_a_highest_price_below_every_offer_is_answered_with_the_one_that_would_do() -> None:
    smaller = offer("cloud", "0.30", "A5000")
    cloud = replace(CLOUD, no_bids="nobody bids here", instead=(smaller,))
    empty = Target("sky", (), (Refusal("sky", "no price is known"),), bills=True)
    dear = ask("cloud", "sky", offered=(cloud, empty), need=Need(max_price=Decimal("0.5")))
    with pytest.raises(LauncherError) as caught:
        make(dear, NOW)
    assert refusal(caught) == ("no-offer", Exit.NO_OFFER)
    assert caught.value.message == "RTX 4090 costs $0.69/h on demand, above $0.50; nobody bids here"
    assert caught.value.hint == "plan x --on cloud --gpu 'RTX 4090' --max-price 0.69"
    assert caught.value.details == (
        "At or below $0.50 there: A5000 at $0.30/h.",
        "cloud:A40: A40 costs $1.29/h on demand, above $0.50",
        "sky: no price is known",
    )
    theirs = replace(dear, trainer=None, need=replace(dear.need, gpus=("A40",)), wishes=Wishes(max_time_s=60))
    with pytest.raises(LauncherError) as caught:
        make(theirs, NOW)
    assert str(caught.value.hint).endswith("--max-price 0.69 --max-time 1m -- python -m trainers.x")


NO_KEY = LauncherError("no-key", "cloud: there is no key", exit=Exit.KEYS)


def test_what_cannot_be_asked_shows_known_prices_and_is_not_run() -> None:
    listed = replace(CLOUD, fault=NO_KEY)
    decision = make(ask("cloud", offered=(HERE, listed)), NOW)
    assert decision.plan.choices == () and decision.paid
    assert [choice.offer.target for choice in decision.others] == ["cloud", "cloud", "here"]
    with pytest.raises(LauncherError) as caught:
        decision.require()
    assert caught.value is NO_KEY
    with pytest.raises(LauncherError) as caught:
        make(ask("cloud", offered=(listed,), need=Need(max_price=Decimal("0.5"))), NOW)
    assert "That price is from test: cloud: there is no key." in caught.value.details
    assert refusal(caught) == ("no-offer", Exit.NO_OFFER)


def test_beside_one_that_can_be_run_on_it_is_passed_over() -> None:
    listed = replace(CLOUD, fault=NO_KEY)
    decision = make(ask("cloud", "here", offered=(HERE, listed)), NOW)
    assert targets_of(decision) == ["here"] and not decision.paid
    assert decision.problem is None
    assert decision.warnings == ("cloud is passed over: cloud: there is no key",)
    assert make(ask("cloud", "sky"), NOW).paid


def test_nothing_here_still_shows_what_can_be_rented() -> None:
    nothing = Target("here", (), (Refusal("here", "there is no GPU"),), here=True)
    decision = make(ask(offered=(nothing, CLOUD), need=Need(gpus=("RTX 4090",))), NOW)
    assert decision.plan.choices == ()
    assert [choice.offer.target for choice in decision.others] == ["cloud", "cloud"]
    with pytest.raises(LauncherError) as caught:
        decision.require()
    assert refusal(caught) == ("no-offer", Exit.NO_OFFER)


def test_a_target_that_does_not_answer_says_so_only_when_nothing_else_is_left() -> None:
    fault = LauncherError("target-unreachable", "box cannot be used", exit=Exit.UNREACHABLE)
    silent = Target("box", (), (Refusal("box", "no answer"),), fault=fault)
    with pytest.raises(LauncherError) as caught:
        make(ask("box", offered=(silent, HERE)), NOW)
    assert caught.value is fault
    decision = make(ask("box", "here", offered=(silent, HERE)), NOW)
    assert targets_of(decision) == ["here"]
    assert Refusal("box", "no answer") in decision.plan.refused


def test_of_a_large_market_the_cheapest_are_tried_and_the_rest_is_shown() -> None:
    market = rented("cloud", *((f"G{n}", f"{n}.00") for n in range(1, 13)))
    decision = make(ask("cloud", "here", offered=(HERE, market)), NOW)
    assert [choice.offer.gpu for choice in decision.plan.choices] == [None, *(f"G{n}" for n in range(1, 9))]
    assert [choice.offer.gpu for choice in decision.others] == [f"G{n}" for n in range(9, 13)]
    limits = decision.plan.limits
    assert limits.max_cost == guard.smallest_ceiling(Decimal("8.01"), limits, 60), "not that of the dearest"


def test_a_fallback_to_on_demand_is_told() -> None:
    wish = Need(spot=True)
    assert make(ask("cloud", need=wish), NOW).warnings == (
        "RTX 4090 is on demand: none is offered as spot for less",
    )
    spot = replace(CLOUD, ways=tuple(replace(w, offer=replace(w.offer, spot=True)) for w in CLOUD.ways))
    assert make(ask("cloud", offered=(spot,), need=wish), NOW).warnings == ()
    assert make(ask("here", need=wish), NOW).warnings == ()
