"""The decision: which offers are tried, in which order, within which limits, and what that costs.

Pure: everything it weighs is in the Ask, the moment is handed in. It knows no provider by name; what a
target can do and whether this build can use it is said by whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from launcher import guard, refusals
from launcher.ask import Ask, Decision, Target, Way, Wishes
from launcher.estimate import HOUR_S, Past, estimate, trainer_hours
from launcher.guard import usd
from launcher.models import (
    Choice,
    DeviceWish,
    Estimate,
    Job,
    Limits,
    Need,
    Offer,
    Plan,
    Range,
    Refusal,
    RuntimeKind,
)
from launcher.values import written_duration

__all__ = ["Ask", "Decision", "Past", "Target", "Way", "Wishes", "make", "requires_gpu"]

CPU = "cpu"
ANY_GPU = "gpu"
TRY_S = 600  # the least T by default of a project whose length was seen once
FREE_TRY_S = 3600  # the same where nothing bills
MOST_TRIED = 8  # rented machines that one run may try, the cheapest; the rest of a market is shown
LEAST_TIME_S = 60  # the shortest T that is chosen for a job of unknown length


def make(ask: Ask, now: datetime) -> Decision:
    asked = _asked(ask)
    if paid := [target.name for target in asked if target.bills]:
        refusals.careless(ask, paid[0])
    ways, refused = _affordable_per_hour(asked, ask.need)
    problem = None
    if not ways:
        problem = refusals.nothing(ask, asked, refused)
        if ask.targets:
            raise problem
    usable = _cheapest([(target, way) for target, way in ways if target.ready])
    if ways and not usable:
        problem = refusals.blocked(ask, ways[0][0])
    limits, kept, dear = _limits(ask, usable or ways)
    others, also_refused = _comparison(ask, asked)
    tried = [way for target, way in kept if target.ready]
    unused = [way for target, way in ways if usable and (target, way) not in usable]
    unused += [way for target, way in kept if not target.ready]
    choices = _ordered(_choice(ask, way, limits) for way in tried)
    others = (*_ordered(_choice(ask, way, limits) for way in unused), *others)
    plan = Plan(
        run=ask.run,
        label=ask.label,
        trainer=ask.trainer,
        project=ask.project,
        created_at=now,
        job=_job(ask, choices),
        limits=limits,
        choices=choices,
        refused=(*refused, *dear, *also_refused),
        version=ask.version,
        profile=ask.profile,
        settings=ask.settings,
        code=ask.code,
        allow_cpu=ask.allow_cpu,
        need=ask.need,
    )
    ends_by = _ends_by(plan, tried, now)
    warnings = (*_passed_over(ask, asked, plan), *_no_spot(plan), *_too_short(ask, plan))
    costs = any(target.bills for target in asked if target.ready or not choices)
    return Decision(plan, others, ends_by, problem, tuple(_notes(asked, plan)), warnings, costs)


def requires_gpu(plan: Plan, offer: Offer) -> bool:
    """A GPU that is paid for must be used, unless the user said that a CPU will do."""
    return plan.job.require_gpu or (offer.bills and offer.gpu is not None and not plan.allow_cpu)


# --- which targets -------------------------------------------------------------------------------


def _asked(ask: Ask) -> tuple[Target, ...]:
    """The user's targets in the user's order; without one, this machine: in the trainer's image when that
    is already here, else as a process."""
    if ask.targets:
        by_name = {target.name: target for target in ask.offered}
        return tuple(by_name[name] for name in dict.fromkeys(ask.targets))
    free = [target for target in ask.offered if target.runnable and not target.bills]
    ready = [target for target in free if any(_image_is_here(way) for way in target.ways)]
    return tuple((ready or [target for target in free if target.here] or free)[:1])


def _image_is_here(way: Way) -> bool:
    return way.runtime.kind is not RuntimeKind.ENV and way.runtime.prepare_s == 0


def _affordable_per_hour(
    targets: Iterable[Target], need: Need
) -> tuple[list[tuple[Target, Way]], tuple[Refusal, ...]]:
    """The ways whose price per GPU-hour the user accepts, and what is refused with its reason."""
    kept: list[tuple[Target, Way]] = []
    refused: list[Refusal] = []
    for target in targets:
        refused += target.refused
        for way in target.ways:
            if need.max_price is not None and refusals.per_gpu(way.offer) > need.max_price:
                refused.append(refusals.too_dear(way.offer, need.max_price))
            else:
                kept.append((target, way))
    return kept, tuple(refused)


def _cheapest(ways: Sequence[tuple[Target, Way]]) -> list[tuple[Target, Way]]:
    """Without those that a run would hardly come to: the dearest of them would set its ceiling."""
    rates = sorted(way.offer.usd_per_hour for _, way in ways if way.offer.bills)
    highest = rates[:MOST_TRIED][-1] if rates else Decimal(0)
    return [(target, way) for target, way in ways if not way.offer.bills or way.offer.usd_per_hour <= highest]


def _comparison(ask: Ask, asked: Sequence[Target]) -> tuple[tuple[Choice, ...], tuple[Refusal, ...]]:
    """What else there is; why a target that nobody named has nothing is told where none was named."""
    rest = [target for target in ask.offered if target not in asked]
    ways, refused = _affordable_per_hour(rest, ask.need)
    choices = _ordered(_choice(ask, way, _with_time(ask, _default_time_s(ask, [way]))) for _, way in ways)
    return choices, () if ask.targets else refused


# --- limits --------------------------------------------------------------------------------------


def _limits(
    ask: Ask, ways: list[tuple[Target, Way]]
) -> tuple[Limits, list[tuple[Target, Way]], tuple[Refusal, ...]]:
    """T and what follows from it, the ways that the ceiling covers, and those that it does not."""
    time_s = _default_time_s(ask, [way for _, way in ways])
    ceiling = ask.wishes.max_cost
    paid = [way for _, way in ways if way.offer.bills]
    if ceiling is None:
        limits = _with_time(ask, time_s)
        worst = [
            guard.smallest_ceiling(w.offer.usd_per_hour, limits, w.overrun_s, w.billing_step_s) for w in paid
        ]
        return replace(limits, max_cost=max(worst, default=None)), ways, ()
    least = {id(way): _with_time(ask, _least_time_s(ask, way, time_s)) for way in paid}
    needed = {
        id(w): guard.smallest_ceiling(w.offer.usd_per_hour, least[id(w)], w.overrun_s, w.billing_step_s)
        for w in paid
    }
    dear = [way for way in paid if needed[id(way)] > ceiling]
    kept = [(target, way) for target, way in ways if way not in dear]
    if dear and not kept:
        cheapest = min(dear, key=lambda way: needed[id(way)])
        raise refusals.too_small(ask, cheapest, least[id(cheapest)], needed[id(cheapest)], ceiling)
    for way in paid:
        if way not in dear:
            time_s = min(time_s, _longest_time_s(ask, way, time_s, ceiling))
    refused = tuple(
        Refusal(way.offer.id, f"needs a ceiling of at least ${usd(needed[id(way)])}, above ${usd(ceiling)}")
        for way in dear
    )
    return replace(_with_time(ask, time_s), max_cost=ceiling), kept, refused


def _default_time_s(ask: Ask, ways: Sequence[Way]) -> int:
    """T: what the user says, else twice the high estimate and never less than the recipe's own bound
    (other arguments than in past runs may need it), a day at the most. A project without a bound gets a
    floor: its last run may have been a quick try."""
    if ask.wishes.max_time_s is not None:
        return ask.wishes.max_time_s
    foreseen = [hours.high for way in ways if (hours := _hours(ask, way)) is not None]
    floor_s = ask.bound_s or (TRY_S if any(way.offer.bills for way in ways) else FREE_TRY_S)
    time_s = max(_in_seconds(2 * max(foreseen)), floor_s) if foreseen else ask.bound_s
    return min(time_s or guard.MAX_TIME_S, guard.MAX_TIME_S)


def _least_time_s(ask: Ask, way: Way, time_s: int) -> int:
    """How far a ceiling may shorten T: a T that the user set not at all, ours down to the high estimate."""
    if ask.wishes.max_time_s is not None:
        return time_s
    hours = _hours(ask, way)
    return min(time_s, LEAST_TIME_S if hours is None else max(1, _in_seconds(hours.high)))


def _longest_time_s(ask: Ask, way: Way, time_s: int, ceiling: Decimal) -> int:
    """The longest T up to `time_s` that the ceiling pays for."""
    fits, tried = 1, time_s
    while fits < tried:
        middle = (fits + tried + 1) // 2
        limits = _with_time(ask, middle)
        rate, overrun = way.offer.usd_per_hour, way.overrun_s
        if guard.may_ask(Decimal(0), rate, limits, overrun, ceiling, way.billing_step_s):
            fits = middle
        else:
            tried = middle - 1
    return fits


def _with_time(ask: Ask, time_s: int) -> Limits:
    wishes = ask.wishes
    return Limits(
        max_time_s=time_s,
        salvage_s=guard.salvage_s(time_s),
        boot_limit_s=wishes.boot_limit_s,
        ready_within_s=wishes.ready_within_s,
        hold_s=wishes.hold_s,
        keep_s=wishes.keep_s,
        idle_s=wishes.idle_s,
        checkpoint_every_s=wishes.checkpoint_every_s,
        max_cost=wishes.max_cost,
        max_attempts=wishes.max_attempts,
    )


def _ends_by(plan: Plan, tried: Sequence[Way], now: datetime) -> datetime | None:
    """When the chosen machine is gone at the latest."""
    for way in tried:
        if plan.choices and way.offer == plan.choices[0].offer:
            rate, limits = way.offer.usd_per_hour, plan.limits
            ceiling = limits.max_cost if way.offer.bills else None
            return guard.ends_at_create(now, limits, rate, ceiling, way.overrun_s, way.billing_step_s)
    return None


# --- choices -------------------------------------------------------------------------------------


def _choice(ask: Ask, way: Way, limits: Limits) -> Choice:
    forecast: Estimate = estimate(way.offer, way.runtime, _hours(ask, way), ask.need, limits)
    return Choice(way.offer, way.runtime, forecast)


def _hours(ask: Ask, way: Way) -> Range | None:
    bounds = dict(ask.bounds)
    gpu = None if ask.job.device is DeviceWish.CPU else way.offer.gpu
    device = gpu or CPU
    bound = bounds.get(device) or (bounds.get(ANY_GPU) if gpu else None) or bounds.get(CPU)
    return trainer_hours(ask.pasts, ask.label, device, ask.job.argv, bound)


def _ordered(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """Cheapest first; what costs the same stays in the order in which it came."""
    return tuple(sorted(choices, key=lambda choice: choice.estimate.usd.likely))


def _job(ask: Ask, choices: Sequence[Choice]) -> Job:
    """Require-gpu for all when every machine that may be tried is paid for its GPU; where free and paid
    ones are mixed, requires_gpu says it for each."""
    paid_gpu = [choice.offer.bills and choice.offer.gpu is not None for choice in choices]
    if choices and all(paid_gpu) and not ask.allow_cpu:
        return replace(ask.job, require_gpu=True)
    return ask.job


# --- words ---------------------------------------------------------------------------------------


def _in_seconds(hours: Decimal) -> int:
    return int((hours * HOUR_S).to_integral_value(ROUND_CEILING))


def _notes(asked: Sequence[Target], plan: Plan) -> Iterator[tuple[str, str]]:
    """Of the targets that may be tried: until when results wait and what that costs, what can be lost, and
    who ends what bills."""
    told: dict[str, list[str]] = {}
    tried = {choice.offer.target for choice in plan.choices}
    targets = [target for target in asked if target.name in tried]
    for target in targets:
        told.setdefault(_unfetched(target, plan), []).append(target.name)
    for what, names in told.items():
        yield "pull", f"{', '.join(names)}: {what}"
    if any(target.bills for target in targets):
        every = written_duration(plan.limits.checkpoint_every_s)
        yield "lost", f"with a lost machine goes what came after the last fetched checkpoint (every {every})"
    for target in targets:
        if target.layers:
            yield "guard", f"it is ended by {', else '.join(target.layers)}; doctor finds what is left"


def _unfetched(target: Target, plan: Plan) -> str:
    volume = plan.need.network_volume
    if target.bills and volume is not None:
        return f"results that were not pulled stay on the network volume {volume}"
    if not target.keeps_output:
        return "results that were not pulled are lost when the machine ends"
    ways = (choice.offer for choice in plan.choices if choice.offer.target == target.name)
    storage = max((offer.storage_usd_per_day for offer in ways), default=Decimal(0))
    cost = f" at ${usd(storage)} a day" if storage else ""
    return f"results wait there{cost} until they are pulled"


def _passed_over(ask: Ask, asked: Sequence[Target], plan: Plan) -> Iterator[str]:
    """Targets that the user named, whose prices are known and that cannot be run on, where another can."""
    for target in asked:
        if plan.choices and target.ways and not target.ready:
            yield f"{target.name} is passed over: {refusals.blocked(ask, target).message}"


def _no_spot(plan: Plan) -> Iterator[str]:
    """Who would rather have it for less is told where that is not to be had."""
    rented = [choice.offer for choice in plan.choices if choice.offer.bills]
    if plan.need.spot and rented and not rented[0].spot:
        yield f"{rented[0].gpu or rented[0].target} is on demand: none is offered as spot for less"


def _too_short(ask: Ask, plan: Plan) -> tuple[str, ...]:
    """A T that is likely to cut the training short."""
    for choice in plan.choices[:1]:
        hours = _hours(ask, Way(choice.offer, choice.runtime))
        if hours is not None and hours.likely * HOUR_S > plan.limits.max_time_s:
            minutes = -(-_in_seconds(hours.likely) // 60)
            after = written_duration(plan.limits.max_time_s)
            return (f"the trainer is likely to need {minutes} min and is stopped after {after}",)
    return ()
