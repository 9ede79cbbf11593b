"""The decision is what the user asked for, within what the user allowed, and says why it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import guard
from launcher.errors import Exit, LauncherError
from launcher.models import DeviceWish, Job, Need, Offer, Range, Refusal, Runtime, RuntimeKind
from launcher.plan import Ask, Decision, Past, Target, Way, Wishes, make, requires_gpu

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ENV = Runtime(RuntimeKind.ENV, None, "your own environment")
READY = Runtime(RuntimeKind.IMAGE, "sha256:1", "the image is here", image="x:1")
UNBUILT = Runtime(RuntimeKind.IMAGE, None, "the image is built first", image="x:1", prepare_s=120)
JOB = Job(argv=("python", "-m", "trainers.x"), folder="/p", push=("trainers/x",))
HOURS = (
    ("cpu", Range(Decimal(2), Decimal(4), Decimal(8))),
    ("gpu", Range(Decimal("0.5"), Decimal(1), Decimal(2))),
)


def offer(
    target: str, usd_per_hour: str = "0", gpu: str | None = None, disk: str = "0", name: str = ""
) -> Offer:
    rate = Decimal(usd_per_hour) + Decimal(disk)
    return Offer(
        id=f"{target}:{name or gpu or 'here'}",
        target=target,
        provider=target,
        instance_type=name or None,
        gpu=gpu,
        gpu_count=1 if gpu else 0,
        vram_gb=Decimal(24) if gpu else None,
        usd_per_hour=rate,
        price_source="test",
        price_as_of=NOW,
        storage_usd_per_day=Decimal("0.07") if rate else Decimal(0),
        boot_s=60 if rate else 0,
        bills=rate > 0,
        disk_usd_per_hour=Decimal(disk),
    )


def rented(name: str, *priced: tuple[str, str], runnable: bool = True) -> Target:
    ways = tuple(Way(offer(name, price, gpu, "0.01"), READY, overrun_s=60) for gpu, price in priced)
    return Target(name, ways, bills=True, runnable=runnable)


HERE = Target("here", (Way(offer("here"), ENV),), here=True)
BOX = Target("box", (Way(offer("box"), UNBUILT),))
CLOUD = rented("cloud", ("RTX 4090", "0.69"), ("A40", "1.29"))
SKY = rented("sky", ("A10G", "1.00"))


def ask(*targets: str, offered: tuple[Target, ...] = (HERE, BOX, CLOUD, SKY), **more: Any) -> Ask:
    base = Ask(
        run="x-abcd",
        label="x",
        trainer="x",
        project="/p",
        job=JOB,
        need=Need(),
        offered=offered,
        bounds=HOURS,
    )
    return replace(base, targets=targets, **more)


def own(*targets: str, **more: Any) -> Ask:
    return replace(ask(*targets, **more), trainer=None, bounds=())


def targets_of(decision: Decision) -> list[str]:
    return [choice.offer.target for choice in decision.plan.choices]


def refusal(caught: pytest.ExceptionInfo[LauncherError]) -> tuple[str, Exit]:
    return caught.value.code, caught.value.exit


# --- which target --------------------------------------------------------------------------------


def test_without_a_target_this_machine_is_used_and_nothing_can_cost_anything() -> None:
    decision = make(ask(), NOW)
    assert targets_of(decision) == ["here"]
    assert decision.plan.limits.max_cost is None
    assert not any(choice.offer.bills for choice in decision.require().choices)


def test_without_a_target_the_image_is_used_when_it_is_here() -> None:
    ready = Target("box", (Way(offer("box"), READY),))
    assert targets_of(make(ask(offered=(HERE, ready, CLOUD)), NOW)) == ["box"]
    assert targets_of(make(ask(offered=(CLOUD, HERE)), NOW)) == ["here"], "a ready image that costs money"


def test_without_this_machine_any_free_target_will_do() -> None:
    assert targets_of(make(ask(offered=(BOX, CLOUD)), NOW)) == ["box"]


def test_the_others_follow_for_comparison_cheapest_first() -> None:
    decision = make(ask("cloud"), NOW)
    assert [choice.offer.id for choice in decision.plan.choices] == ["cloud:RTX 4090", "cloud:A40"]
    assert [choice.offer.target for choice in decision.others] == ["here", "box", "sky"]
    likely = [choice.estimate.usd.likely for choice in decision.others]
    assert likely == sorted(likely)


def test_several_targets_cheapest_first_whatever_their_order() -> None:
    assert targets_of(make(ask("sky", "cloud"), NOW)) == ["cloud", "sky", "cloud"]
    assert targets_of(make(ask("cloud", "sky"), NOW)) == ["cloud", "sky", "cloud"]


def test_what_costs_the_same_is_tried_in_the_users_order() -> None:
    assert targets_of(make(ask("box", "here"), NOW)) == ["box", "here"]
    assert targets_of(make(ask("here", "box"), NOW)) == ["here", "box"]
    assert targets_of(make(ask("here", "here"), NOW)) == ["here"], "a target named twice is one"


def test_a_target_that_this_build_cannot_use_shows_its_prices_and_is_not_run() -> None:
    later = replace(CLOUD, runnable=False)
    decision = make(ask("cloud", offered=(HERE, later)), NOW)
    assert decision.plan.choices == ()
    assert [choice.offer.id for choice in decision.others] == ["cloud:RTX 4090", "cloud:A40", "here:here"]
    assert decision.ends_by is None
    with pytest.raises(LauncherError) as caught:
        decision.require()
    assert refusal(caught) == ("target-not-available", Exit.USAGE)


# --- time ----------------------------------------------------------------------------------------


def test_time_is_what_the_user_says() -> None:
    limits = make(ask("cloud", wishes=Wishes(max_time_s=1800)), NOW).plan.limits
    assert (limits.max_time_s, limits.salvage_s) == (1800, 180)


def test_time_is_twice_the_high_estimate_or_the_recipes_bound() -> None:
    assert make(ask("cloud"), NOW).plan.limits.max_time_s == 4 * 3600
    assert make(ask("cloud", bound_s=5 * 3600), NOW).plan.limits.max_time_s == 5 * 3600
    assert make(ask("cloud", bound_s=600), NOW).plan.limits.max_time_s == 4 * 3600
    assert make(ask(), NOW).plan.limits.max_time_s == 16 * 3600
    slow = (("cpu", Range(Decimal(5), Decimal(9), Decimal(20))),)
    assert make(ask(bounds=slow), NOW).plan.limits.max_time_s == 24 * 3600, "a day at the most"


def test_of_a_project_of_ones_own_nobody_knows_the_length() -> None:
    decision = make(own(), NOW)
    assert decision.plan.limits.max_time_s == 24 * 3600
    assert not decision.plan.choices[0].estimate.known


def test_past_runs_on_the_same_device_are_the_estimate() -> None:
    pasts = (Past("x", "RTX 4090", Decimal(600), JOB.argv), Past("x", "A40", Decimal(900), JOB.argv))
    decision = make(ask("cloud", pasts=pasts), NOW)
    first = decision.plan.choices[0].estimate
    (training,) = [line for line in first.lines if line.name == "training"]
    assert training.hours.likely == Decimal("0.166667")
    assert decision.plan.limits.max_time_s == 2880, "twice the slowest foreseen: 900 s + 60 %"


def test_a_job_for_the_processor_is_judged_by_the_processor() -> None:
    decision = make(ask("cloud", job=replace(JOB, device=DeviceWish.CPU)), NOW)
    (training,) = [line for line in decision.plan.choices[0].estimate.lines if line.name == "training"]
    assert training.hours.likely == 4


def test_without_a_bound_for_gpus_the_processors_is_taken() -> None:
    decision = make(ask("cloud", bounds=HOURS[:1]), NOW)
    assert decision.plan.choices[0].estimate.known
    assert decision.plan.limits.max_time_s == 16 * 3600


def test_too_little_time_is_said() -> None:
    (text,) = make(ask(wishes=Wishes(max_time_s=600)), NOW).warnings
    assert text == "the trainer is likely to need 240 min and is stopped after 10m"
    assert make(ask(), NOW).warnings == ()


# --- money ---------------------------------------------------------------------------------------


def test_without_a_ceiling_the_worst_case_of_the_dearest_choice_is_the_ceiling() -> None:
    decision = make(ask("cloud"), NOW)
    limits = decision.plan.limits
    assert limits.max_cost == guard.smallest_ceiling(Decimal("1.30"), limits, 60)
    for choice in decision.plan.choices:
        assert guard.may_ask(Decimal(0), choice.offer.usd_per_hour, limits, 60, limits.max_cost)
    assert decision.ends_by == NOW + timedelta(seconds=guard.span_s(limits))


def test_a_ceiling_that_is_too_small_is_refused_with_the_smallest_that_fits() -> None:
    wishes = Wishes(max_time_s=3600, max_cost=Decimal("0.50"))
    with pytest.raises(LauncherError) as caught:
        make(ask("cloud", wishes=wishes), NOW)
    assert refusal(caught) == ("ceiling-too-small", Exit.LIMIT)
    assert "RTX 4090 on cloud at $0.70/h: the smallest ceiling that does is $0.96" in caught.value.message
    assert caught.value.details == (
        "It must cover 15m to start, 1h to train, 6m to save, 1m until it is surely gone.",
    )
    assert caught.value.hint == "plan x --on cloud --max-cost 0.96 --max-time 1h"
    fits = make(ask("cloud", wishes=replace(wishes, max_cost=Decimal("0.96"))), NOW)
    assert [choice.offer.gpu for choice in fits.plan.choices] == ["RTX 4090"]
    with pytest.raises(LauncherError):
        make(ask("cloud", wishes=replace(wishes, max_cost=Decimal("0.95"))), NOW)


def test_an_offer_that_the_ceiling_does_not_cover_is_refused_by_name() -> None:
    wishes = Wishes(max_time_s=3600, max_cost=Decimal(1))
    refused = make(ask("cloud", wishes=wishes), NOW).plan.refused
    assert Refusal("cloud:A40", "needs a ceiling of at least $1.78, above $1.00") in refused


def test_a_free_machine_needs_no_ceiling() -> None:
    decision = make(ask("cloud", "here", wishes=Wishes(max_cost=Decimal("0.01"))), NOW)
    assert targets_of(decision) == ["here"]
    only = make(ask("here", wishes=Wishes(max_cost=Decimal("0.01"))), NOW)
    assert only.plan.limits.max_time_s == 16 * 3600, "money does not shorten what costs nothing"


def test_our_own_time_is_shortened_to_what_the_ceiling_pays_but_never_below_the_high_estimate() -> None:
    limits = make(ask("cloud", wishes=Wishes(max_cost=Decimal("2.20"))), NOW).plan.limits
    assert 2 * 3600 <= limits.max_time_s < 4 * 3600
    assert guard.may_ask(Decimal(0), Decimal("0.70"), limits, 60, Decimal("2.20"))
    longer = replace(
        limits, max_time_s=limits.max_time_s + 1, salvage_s=guard.salvage_s(limits.max_time_s + 1)
    )
    assert not guard.may_ask(Decimal(0), Decimal("0.70"), longer, 60, Decimal("2.20")), (
        "not a second is given away"
    )
    with pytest.raises(LauncherError) as caught:
        make(ask("cloud", wishes=Wishes(max_cost=Decimal("1.50"))), NOW)
    assert refusal(caught) == ("ceiling-too-small", Exit.LIMIT)


def test_a_project_under_a_ceiling_runs_as_long_as_the_ceiling_pays() -> None:
    limits = make(
        own("cloud", need=Need(gpus=("RTX 4090",)), wishes=Wishes(max_cost=Decimal("0.50"))), NOW
    ).plan.limits
    assert guard.may_ask(Decimal(0), Decimal("0.70"), limits, 60, Decimal("0.50"))
    assert 60 <= limits.max_time_s < 3600


@given(st.integers(1, 86400), st.decimals(min_value=0, max_value=40, places=2))
def test_every_choice_is_covered_by_the_ceiling(max_time_s: int, ceiling: Decimal) -> None:
    wishes = Wishes(max_time_s=max_time_s, max_cost=ceiling)
    try:
        decision = make(ask("cloud", "sky", wishes=wishes), NOW)
    except LauncherError as e:
        refused = e
    else:
        covered(decision, ceiling)
        return
    assert refused.code == "ceiling-too-small"
    smallest = Decimal(str(refused.hint).partition("--max-cost ")[2].split()[0])
    assert smallest > ceiling
    covered(make(ask("cloud", "sky", wishes=replace(wishes, max_cost=smallest)), NOW), smallest)


def covered(decision: Decision, ceiling: Decimal) -> None:
    assert decision.plan.choices
    limits = decision.plan.limits
    assert limits.max_cost == ceiling
    for choice in decision.plan.choices:
        assert guard.may_ask(Decimal(0), choice.offer.usd_per_hour, limits, 60, ceiling)


def test_yes_on_a_paid_target_needs_a_ceiling() -> None:
    with pytest.raises(LauncherError) as caught:
        make(ask("here", "cloud", yes=True), NOW)
    assert refusal(caught) == ("yes-needs-ceiling", Exit.USAGE)
    assert make(ask("cloud", yes=True, wishes=Wishes(max_cost=Decimal(20))), NOW).plan.choices
    assert make(ask("here", yes=True), NOW).plan.choices


def test_a_project_on_a_paid_target_needs_a_gpu_and_a_limit() -> None:
    with pytest.raises(LauncherError) as caught:
        make(own("cloud", wishes=Wishes(max_cost=Decimal(1))), NOW)
    assert refusal(caught) == ("project-needs-gpu", Exit.USAGE)
    gpu = Need(gpus=("RTX 4090",))
    with pytest.raises(LauncherError) as caught:
        make(own("cloud", need=gpu), NOW)
    assert refusal(caught) == ("project-needs-limit", Exit.USAGE)
    assert caught.value.hint == (
        "plan --project /p --on cloud --gpu 'RTX 4090' --max-cost 1 -- python -m trainers.x"
    )
    assert make(own("cloud", need=gpu, wishes=Wishes(max_time_s=600)), NOW).plan.choices
    assert make(own("here"), NOW).plan.choices


def test_a_folder_with_spaces_is_quoted_in_what_is_to_be_pasted() -> None:
    with pytest.raises(LauncherError) as caught:
        make(own("cloud", project="/my it's/p"), NOW)
    typed = r"plan --project '/my it'\''s/p' --on cloud --gpu any-24gb --max-cost 1"
    assert caught.value.hint == f"{typed} -- python -m trainers.x"
    with pytest.raises(LauncherError) as caught:
        make(own("cloud", job=replace(JOB, output="my out")), NOW)
    assert "--project /p --output 'my out' --on cloud" in str(caught.value.hint)


# --- the plan itself -----------------------------------------------------------------------------


def test_a_paid_gpu_must_be_used_unless_a_cpu_will_do() -> None:
    plan = make(ask("cloud"), NOW).plan
    assert plan.job.require_gpu
    assert requires_gpu(plan, plan.choices[0].offer)
    relaxed = make(ask("cloud", allow_cpu=True), NOW).plan
    assert not relaxed.job.require_gpu
    assert not requires_gpu(relaxed, relaxed.choices[0].offer)
    mixed = make(ask("cloud", "here"), NOW).plan
    assert not mixed.job.require_gpu
    assert [requires_gpu(mixed, choice.offer) for choice in mixed.choices] == [False, True, True]
    wanted = make(ask("here", job=replace(JOB, require_gpu=True)), NOW).plan
    assert requires_gpu(wanted, wanted.choices[0].offer)


def test_the_plan_keeps_what_was_asked() -> None:
    plan = make(
        ask("here", version="v1", profile="p.yaml", settings=(("a", "1"),), code=(("commit", "c"),)), NOW
    ).plan
    assert (plan.run, plan.label, plan.trainer, plan.project) == ("x-abcd", "x", "x", "/p")
    assert (plan.version, plan.profile, plan.settings, plan.code) == (
        "v1",
        "p.yaml",
        (("a", "1"),),
        (("commit", "c"),),
    )
    assert plan.created_at == NOW
    assert plan.consent is None, "nobody was asked yet"


def test_where_results_wait_what_can_be_lost_and_who_ends_it_is_said() -> None:
    waits = "results wait there until they are pulled"
    assert make(ask("here"), NOW).notes == (("pull", f"here: {waits}"),)
    assert make(ask("box", "here"), NOW).notes == (("pull", f"box, here: {waits}"),), "once for both"
    later = replace(CLOUD, runnable=False)
    passed = make(ask("here", "cloud", offered=(HERE, later)), NOW)
    assert passed.notes == (("pull", f"here: {waits}"),), "what is not tried keeps nothing"
    lost = ("lost", "with a lost machine goes what came after the last fetched checkpoint (every 5m)")
    assert make(ask("cloud"), NOW).notes == (
        ("pull", "cloud: results wait there at $0.07 a day until they are pulled"),
        lost,
    )
    volume = replace(ask("cloud"), need=replace(ask("cloud").need, network_volume="v1"))
    [kept, *_] = make(volume, NOW).notes
    assert kept == ("pull", "cloud: results that were not pulled stay on the network volume v1")
    lossy = replace(SKY, keeps_output=False, layers=("one", "another"))
    assert make(ask("sky", offered=(lossy,)), NOW).notes == (
        ("pull", "sky: results that were not pulled are lost when the machine ends"),
        lost,
        ("guard", "it is ended by one, else another; doctor finds what is left"),
    )


def test_the_same_ask_gives_the_same_decision() -> None:
    assert make(ask("cloud", "sky"), NOW) == make(ask("cloud", "sky"), NOW)
