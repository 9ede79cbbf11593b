"""Low, likely, high: the total is the sum of its lines, and what was seen widens honestly."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.estimate import Past, estimate, trainer_hours
from launcher.models import Limits, Need, Offer, Range, Runtime, RuntimeKind

ENV = Runtime(RuntimeKind.ENV, None, "test")
LIMITS = Limits(max_time_s=7200, salvage_s=720)


def offer(usd: str = "0.70", disk: str = "0.01", boot_s: int = 60) -> Offer:
    return Offer(
        id="cloud:X",
        target="cloud",
        provider="cloud",
        gpu="X",
        gpu_count=1,
        vram_gb=Decimal(24),
        usd_per_hour=Decimal(usd),
        price_source="test",
        boot_s=boot_s,
        bills=True,
        disk_usd_per_hour=Decimal(disk),
    )


def hours(low: str, likely: str, high: str) -> Range:
    return Range(Decimal(low), Decimal(likely), Decimal(high))


amounts = st.decimals(min_value=0, max_value=48, places=4)
ranges = st.lists(amounts, min_size=3, max_size=3).map(sorted).map(lambda three: Range(*three))
offers = st.builds(
    lambda compute, disk, boot: offer(str(compute + disk), str(disk), boot),
    st.decimals(min_value=0, max_value=100, places=5),
    st.decimals(min_value=0, max_value=2, places=5),
    st.integers(0, 900),
)
limits = st.integers(1, 86400).map(lambda work: Limits(work, min(900, max(20, work // 10))))


def test_start_up_environment_training_results_and_disk_are_lines() -> None:
    forecast = estimate(
        offer(), Runtime(RuntimeKind.ENV, None, "", prepare_s=120), hours("0.5", "1", "1.5"), Need(), LIMITS
    )
    assert [line.name for line in forecast.lines] == [
        "start-up",
        "environment",
        "training",
        "results",
        "disk 10 GB",
    ]
    by_name = {line.name: line for line in forecast.lines}
    assert by_name["training"].usd.likely == Decimal("0.69")
    assert by_name["start-up"].hours.likely == Decimal("0.016667")
    assert by_name["results"].hours.high == Decimal("0.2")
    assert by_name["disk 10 GB"].hours.high == 0
    assert forecast.known


def test_an_image_is_called_an_image() -> None:
    """Also that of a template, whose name nobody here knows."""
    for name in ("trainer:1", None):
        image = Runtime(RuntimeKind.IMAGE, None, "", image=name, prepare_s=60)
        assert "image" in [line.name for line in estimate(offer(), image, None, Need(), LIMITS).lines]


@given(offers, ranges, limits, st.integers(0, 900))
def test_the_total_is_exactly_the_sum_of_the_lines(o: Offer, r: Range, bound: Limits, prepare_s: int) -> None:
    runtime = Runtime(RuntimeKind.ENV, None, "", prepare_s=prepare_s)
    forecast = estimate(o, runtime, r, Need(), bound)
    for part in (f.name for f in fields(Range)):
        assert getattr(forecast.hours, part) == sum(getattr(line.hours, part) for line in forecast.lines)
        assert getattr(forecast.usd, part) == sum(getattr(line.usd, part) for line in forecast.lines)
    for line in forecast.lines:
        assert 0 <= line.hours.low <= line.hours.likely <= line.hours.high
        assert 0 <= line.usd.low <= line.usd.likely <= line.usd.high


@given(offers, ranges, limits)
def test_the_bill_is_never_understated(o: Offer, r: Range, bound: Limits) -> None:
    forecast = estimate(o, ENV, r, Need(), bound)
    assert forecast.usd.likely >= forecast.hours.likely * o.usd_per_hour


@given(offers, ranges, limits)
def test_training_never_lasts_longer_than_it_may(o: Offer, r: Range, bound: Limits) -> None:
    (training,) = [line for line in estimate(o, ENV, r, Need(), bound).lines if line.name == "training"]
    assert training.hours.high * 3600 <= bound.max_time_s + Decimal("0.01")


def test_what_nobody_can_tell_is_all_of_the_time_there_is() -> None:
    forecast = estimate(offer(), ENV, None, Need(), LIMITS)
    assert not forecast.known
    (training,) = [line for line in forecast.lines if line.name == "training"]
    assert training.hours == Range(Decimal(0), Decimal(2), Decimal(2))


BOUND = hours("1", "2", "3")
ARGV = ("python", "-m", "trainers.x")


def past(seconds: int, trainer: str = "x", device: str = "cpu", argv: tuple[str, ...] = ARGV) -> Past:
    return Past(trainer, device, Decimal(seconds), argv)


def test_without_a_past_the_recipe_is_believed() -> None:
    assert trainer_hours([], "x", "cpu", ARGV, BOUND) == BOUND
    assert trainer_hours([past(9, trainer="y"), past(9, device="T4")], "x", "cpu", ARGV, BOUND) == BOUND
    assert trainer_hours([], "x", "cpu", ARGV, None) is None


def test_the_median_of_past_runs_is_likely_and_the_margin_shrinks_with_their_number() -> None:
    one = trainer_hours([past(3600)], "x", "cpu", ARGV, BOUND)
    assert one == hours("0.7", "1", "1.6")
    four = trainer_hours([past(3600), past(3600), past(7200), past(7200)], "x", "cpu", ARGV, BOUND)
    assert four == hours("0.85", "1.5", "2.6")
    many = trainer_hours([past(3600)] * 400, "x", "cpu", ARGV, BOUND)
    assert many == hours("0.9", "1", "1.1"), "some margin always stays"


def test_runs_with_the_same_arguments_say_more() -> None:
    other = (*ARGV, "--epochs", "500")
    pasts = [past(3600), past(36_000, argv=other)]
    same = trainer_hours(pasts, "x", "cpu", other, BOUND)
    assert same is not None
    assert same.likely == 10
    nearest = trainer_hours(pasts, "x", "cpu", (*ARGV, "--epochs", "7"), BOUND)
    assert nearest is not None
    assert nearest.likely == Decimal("5.5")


def test_another_command_of_a_project_says_nothing() -> None:
    assert trainer_hours([past(3600)], "x", "cpu", ("make", "all"), None) is None


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_what_was_seen_lies_within_the_forecast(seen: list[int]) -> None:
    forecast = trainer_hours([past(seconds) for seconds in seen], "x", "cpu", ARGV, BOUND)
    assert forecast is not None
    assert 0 <= forecast.low <= forecast.likely <= forecast.high
    assert forecast.low * 3600 <= min(seen) + 1
    assert max(seen) <= forecast.high * 3600


@pytest.mark.parametrize("disk", ["0", "0.05"])
def test_disk_is_a_line_of_its_own(disk: str) -> None:
    forecast = estimate(offer("0.70", disk), ENV, BOUND, Need(disk_gb=50), LIMITS)
    assert forecast.lines[-1].name == "disk 50 GB"
    assert (forecast.lines[-1].usd.likely > 0) == (disk != "0")
