"""Ask for one machine, exactly once.

uses: the plan's choices, what is spent, the owner id
produces: create-asked (before the call), then created or not-created; or halted: what came of it is not seen
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from launcher import guard, plan, runstate
from launcher.codec import dump
from launcher.errors import ProviderError, TooFast, Unreachable
from launcher.models import DeviceWish, Json, Order, Resource, ResourceState
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.steps import halting, sight
from launcher.world import World

NOT_HEARD_S = 60.0  # a line that is cut for a moment ends no run


def provision(w: World) -> None:
    a = w.state.attempt
    fresh = a is None or not a.open
    if fresh and not _ask(w):
        return
    a = w.attempt()
    provider = w.provider(a.choice)
    if not fresh and not provider.traits.token_idempotent:
        _look(w, a, provider)
        return
    if _late(w, a):
        w.about(a, "over", why="no answer to create in time", blame=True)
        return
    _create(w, a, provider, fresh)


def _ask(w: World) -> bool:
    """The intent, on disk before the call: whatever happens next, the token is known."""
    choice = runstate.next_choice(w.state)
    assert choice is not None
    offer = w.plan.choices[choice].offer
    limits, now = w.plan.limits, w.clock.now()
    spent = w.state.spent(now)
    traits = w.provider(choice).traits
    overrun, step = traits.overrun_s, traits.billing_step_s
    ceiling = w.ceiling() or Decimal(0)
    if offer.bills and not guard.may_ask(spent, offer.usd_per_hour, limits, overrun, ceiling, step):
        # Refused by our own guard: nothing was asked for, so the attempt is born gone.
        n = len(w.state.attempts) + 1
        _record_asked(w, n, choice, now, offer.usd_per_hour)
        w.record("not-created", attempt=n, reason="budget", blame=True)
        return False
    left = ceiling - spent if offer.bills else None
    ends_at = guard.ends_at_create(now, limits, offer.usd_per_hour, left, overrun, step)
    _record_asked(w, len(w.state.attempts) + 1, choice, ends_at, offer.usd_per_hour)
    return True


def _record_asked(w: World, n: int, choice: int, ends_at: datetime, rate: Decimal) -> None:
    w.record("create-asked", attempt=n, token=w.token(), choice=choice, ends_at=ends_at, usd_per_hour=rate)


def _late(w: World, a: Attempt) -> bool:
    return w.clock.now() > a.asked_at + timedelta(seconds=w.plan.limits.ready_within_s)


def _look(w: World, a: Attempt, provider: Provider, *, refused: ProviderError | None = None) -> None:
    """We do not know what became of the call: look by label, and only a proved absence counts as no."""
    try:
        resource = sight.found(provider, w, a)
        halting.unfound(w, a, provider, None)
        if resource is not None:
            _adopt(w, a, resource)
        elif sight.surely_gone(provider, w, a):
            until = sight.billed_until(provider, w, a)
            told = _refusal(refused) if refused else {"reason": "the provider lists nothing of it"}
            w.about(a, "not-created", **{"blame": False, **told}, sure=False, billed_until=until)
        else:
            w.wait(1)
    except ProviderError as e:
        if not halting.unfound(w, a, provider, e):
            w.wait(5)


def order(w: World, a: Attempt) -> Order:
    choice = w.plan.choices[a.choice]
    limits = w.plan.limits
    return Order(
        run=w.plan.run,
        attempt=a.n,
        token=a.token,
        owner=w.owner,
        offer=choice.offer,
        runtime=choice.runtime,
        need=w.plan.need,
        ends_at=a.ends_at,
        ends_in_s=max(1, int((a.ends_at - w.clock.now()).total_seconds())),
        boot_limit_s=limits.boot_limit_s,
        hold_s=limits.hold_s,
        folder=str(w.attempt_folder(a).spool),
        boot_guard=w.parts.boot_guard,
        require_gpu=plan.requires_gpu(w.plan, choice.offer),
        wants_gpu=w.plan.job.device is not DeviceWish.CPU,
        public_keys=(w.run_key()[1],) if w.provider(a.choice).traits.wants_key else (),
    )


def _create(w: World, a: Attempt, provider: Provider, fresh: bool) -> None:
    try:
        resource = _asked_for(w, a, provider)
    except ProviderError as e:
        if e.surely_no_effect and not fresh:
            # It says nothing of the call before, whose answer was lost.
            _look(w, a, provider, refused=e)
        elif e.surely_no_effect:
            w.about(a, "not-created", **_refusal(e))
        elif isinstance(e, Unreachable) and _is_near(provider):
            # An engine on this machine that does not answer: say so now instead of trying for minutes.
            w.about(a, "over", why=e.reason, blame=True, exit=int(e.exit))
        else:
            w.wait(1)
        return
    _adopt(w, a, resource)


def _refusal(e: ProviderError) -> Json:
    whole = {"everywhere": True} if e.everywhere else {}
    return {"reason": e.reason, "blame": True, "exit": int(e.exit), "code": type(e).__name__, **whole}


def _asked_for(w: World, a: Attempt, provider: Provider) -> Resource:
    """Asked too often, or not heard at all, surely had no effect and may be asked again as it was."""
    until = w.clock.now() + timedelta(seconds=NOT_HEARD_S)
    while True:
        try:
            return provider.create(order(w, a))
        except TooFast as e:
            if _late(w, a):
                e.surely_no_effect = True
                raise
            w.wait(min(e.wait_s, float(w.plan.limits.ready_within_s)))  # it may ask for a day
        except Unreachable as e:
            if not (e.surely_no_effect and provider.traits.bills):
                raise
            if w.clock.now() > until:
                e.everywhere = True
                raise
            w.wait(2)


def _is_near(provider: Provider) -> bool:
    return not provider.traits.bills and provider.traits.boots != "machine"


def _rate(w: World, a: Attempt, resource: Resource) -> Decimal:
    """What it returned counts, also where that is less. No more than its disks cost is no price yet of what
    bills: to believe it would be to spend the ceiling several times over."""
    offer = w.plan.choices[a.choice].offer
    untold = offer.bills and resource.usd_per_hour <= offer.disk_usd_per_hour
    return a.usd_per_hour if untold else resource.usd_per_hour


def _adopt(w: World, a: Attempt, resource: Resource) -> None:
    rate = _rate(w, a, resource)
    w.about(
        a,
        "created",
        instance=resource.id,
        usd_per_hour=rate,
        access=dump(resource.access) if resource.access else None,
    )
    if rate > a.usd_per_hour * Decimal("1.01"):
        why = f"price: ${rate}/h was returned, ${a.usd_per_hour}/h was agreed to"
        w.about(a, "over", why=why, blame=True)
    elif resource.state is ResourceState.ENDED:
        w.about(a, "over", why="the machine had already ended", blame=False)
