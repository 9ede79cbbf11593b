"""What kind of run a seed is: the plan, who rents out and how, and what is in store for machines."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal

from launcher import guard
from launcher.models import (
    Choice,
    Consent,
    Estimate,
    Job,
    Limits,
    Offer,
    Plan,
    Range,
    Runtime,
    RuntimeKind,
    Traits,
)
from tests.sim.kernel import EPOCH
from tests.sim.misfortune import Fate
from tests.sim.trainer import Manners
from tests.sim.weather import Weather

CLOUD = Traits(boots="image", bills=True, listing_lag_s=60.0, overrun_s=60, billing_step_s=1)
TOKENS = Traits(boots="image", bills=True, listing_lag_s=10.0, overrun_s=60, token_idempotent=True)
ENGINE = Traits(boots="image", bills=False, token_idempotent=True, keeps_output=True, overrun_s=5)
PODS = Traits(
    boots="image",
    bills=True,
    listing_lag_s=30.0,
    keeps_output=True,
    overrun_s=60,
    verbs=frozenset({"pause", "unpause"}),
)
HERE = Traits(boots="here", bills=False, token_idempotent=True, keeps_output=True, overrun_s=5)
LAB = Traits(boots="machine", bills=False, token_idempotent=True, keeps_output=True, overrun_s=15)
TRAITS = {"cloud": CLOUD, "tokens": TOKENS, "engine": ENGINE, "here": HERE, "pods": PODS, "lab": LAB}
RATES = {"cloud": "0.69", "tokens": "1.20", "engine": "0", "here": "0", "pods": "0.79", "lab": "0"}
AFTER_SEAL = ("instance-death", "agent-death", "preemption")
TARGETS = (
    ("cloud",),
    ("cloud",),
    ("tokens",),
    ("engine",),
    ("engine",),
    ("here",),
    ("cloud", "tokens", "cloud"),
    ("cloud", "cloud"),
    ("tokens", "engine"),
    ("pods",),
    ("pods", "pods"),
)
# Hosts of the user's own: a campaign of theirs, so that the seeds of the others stay what they are.
OWN = (("lab",), ("tokens", "lab"))
_NONE = Range(Decimal(0), Decimal(0), Decimal(0))
_ESTIMATE = Estimate((), _NONE, _NONE)


def _choice(i: int, target: str) -> Choice:
    offer = Offer(
        id=f"{target}:{i}",
        target=target,
        provider=target,
        usd_per_hour=Decimal(RATES[target]),
        price_source="simulated",
        bills=TRAITS[target].bills,
    )
    return Choice(offer, Runtime(RuntimeKind.IMAGE, None, "simulated"), _ESTIMATE)


_PLAIN: dict[tuple[str, ...], tuple[Choice, ...]] = {
    targets: tuple(_choice(i, t) for i, t in enumerate(targets)) for targets in (*TARGETS, *OWN)
}
_JOB = Job(argv=("python", "train.py"), folder="/p")
_SETUP = Runtime(RuntimeKind.IMAGE, None, "simulated", setup=("make it",))


@dataclass(frozen=True)
class Scenario:
    targets: tuple[str, ...]
    plan: Plan
    trains_s: float
    push_files: int


def draw(rng: random.Random, among: tuple[tuple[str, ...], ...] = TARGETS) -> Scenario:
    targets = rng.choice(among)
    t = rng.choice((120, 300, 600))
    limits = Limits(
        max_time_s=t,
        salvage_s=guard.salvage_s(t),
        boot_limit_s=rng.choice((90, 180, 300)),
        ready_within_s=rng.choice((60, 120)),
        hold_s=rng.choice((60, 300)),
        keep_s=rng.choice((0, 0, 0, 30)),
        idle_s=rng.choice((None, None, 60)),
        checkpoint_every_s=rng.choice((30, 120)),
    )
    choices = _PLAIN[targets]
    if rng.random() < 0.3:
        choices = tuple(replace(c, runtime=_SETUP) for c in choices)
    paid = [c.offer.usd_per_hour for c in choices if c.offer.bills]
    ceiling = Decimal(0)
    if paid:
        least = guard.smallest_ceiling(max(paid), limits, 60)
        ceiling = least * rng.choice((Decimal(1), Decimal("1.3"), Decimal(3)))
    limits = replace(limits, max_cost=ceiling if paid else None)
    plan = Plan(
        run="sim-aaaa",
        label="sim",
        trainer="sim",
        project="/p",
        created_at=EPOCH,
        job=_JOB,
        limits=limits,
        choices=choices,
        consent=Consent(ceiling, EPOCH, "yes" if paid else "free"),
        version=rng.choice((None, None, "mine")),
    )
    return Scenario(targets, plan, t * rng.uniform(0.1, 1.3), rng.choice((1, 3)))


def fate(rng: random.Random, weather: Weather, scenario: Scenario) -> Fate:
    limits = scenario.plan.limits
    boot_s = rng.uniform(0.5, 20)
    if weather.strikes("slow-boot", 2):
        boot_s = rng.uniform(0.5, 1.5) * limits.ready_within_s
    never = weather.strikes("never-boots")
    life = limits.max_time_s * 1.2 + boot_s
    hang = weather.drawn("trainer-hangs", 2)
    manners = Manners(
        seconds=scenario.trains_s,
        exit_code=1 if weather.drawn("trainer-fails", 2) else 0,
        ignores_term=weather.drawn("ignores-term", 3),
        hangs=hang,
        nan=weather.drawn("nan", 2),
        term_s=rng.choice((0.5, 3.0)),
        line_s=rng.choice((5.0, 20.0)),
        checkpoint_s=rng.choice((40.0, 90.0)),
        setup_exit=1 if weather.drawn("setup-fails") else 0,
        rewrites_s=rng.uniform(20, 200) if weather.drawn("output-rewritten", 3) else None,
        removes_s=rng.uniform(20, 200) if weather.drawn("output-removed", 3) else None,
    )
    return Fate(
        boot_s=boot_s,
        never_boots=never,
        dies_s=rng.uniform(0, life) if weather.drawn("instance-death") else None,
        agent_dies_s=rng.uniform(boot_s, life) if weather.drawn("agent-death") else None,
        preempted_s=rng.uniform(boot_s, life) if weather.drawn("preemption") else None,
        full_s=rng.uniform(0, life) if weather.drawn("host-disk-full", 3) else None,
        after_seal=next((f for f in AFTER_SEAL if weather.drawn(f, 0.7)), None),
        notice_s=rng.choice((0.0, 0.0, 30.0, 120.0)),
        manners=manners,
    )
