"""What is known of a machine, and what counts as proof. A silent network proves nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from launcher.errors import Gone, ProviderError
from launcher.models import Resource, ResourceState
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.world import World


def alive(provider: Provider, world: World, a: Attempt) -> tuple[Resource, ...]:
    """What the provider lists of this attempt that has not ended."""
    listed = provider.list(world.plan.run)
    return tuple(r for r in listed if r.token == a.token and r.state is not ResourceState.ENDED)


def found(provider: Provider, world: World, a: Attempt) -> Resource | None:
    """The attempt's instance by its label, however it came to be."""
    return next((r for r in alive(provider, world, a) if r.kind == "instance"), None)


def gap_s(provider: Provider) -> float:
    """Between two looks that prove an absence. Where the listing is the truth itself (this machine, a local
    engine) a moment is enough; elsewhere ten seconds."""
    return 10.0 if provider.traits.listing_lag_s > 0 else 0.2


def visible_by(provider: Provider, world: World, a: Attempt) -> float:
    """From when on "not listed" means something. Of a machine that was reached, always: it is no new one
    that may still be hidden. Else once the listing's lag is over since create was answered, or since it was
    asked and may have run for 30 s. What an earlier process asked for counts from our own start, since its
    clock and ours may differ."""
    lag = provider.traits.listing_lag_s
    if not lag or a.met:
        return a.asked_at.timestamp()
    if a.created_at is not None:
        return a.created_at.timestamp() + lag
    return max(a.asked_at, world.opened).timestamp() + lag + 30


def proof_at(provider: Provider, world: World, a: Attempt) -> datetime:
    """When its absence can be proved at the earliest, should it be gone at once."""
    now = world.clock.now()
    waits = max(0.0, visible_by(provider, world, a) - now.timestamp()) + gap_s(provider)
    return now + timedelta(seconds=waits)


def computes(provider: Provider, a: Attempt) -> bool:
    """One look. That it does not is no proof: see vanished."""
    if a.instance is None:
        return False
    try:
        state = provider.get(a.instance).state
    except Gone:
        return False
    return state is not ResourceState.ENDED and not (state is ResourceState.STOPPED and pauses(provider))


def instance_ended(provider: Provider, a: Attempt) -> bool:
    """One look. Not proof: see surely_gone."""
    if a.instance is None:
        return True
    try:
        return provider.get(a.instance).state is ResourceState.ENDED
    except Gone:
        return True


def pauses(provider: Provider) -> bool:
    """Its machines can be stopped, and what they hold stays."""
    return "pause" in provider.traits.verbs


def stopped(provider: Provider, a: Attempt) -> Resource | None:
    """The machine, if it rests on its disk: that is the provider's own positive word."""
    if a.instance is None or not pauses(provider):
        return None
    try:
        resource = provider.get(a.instance)
    except Gone:
        return None
    return resource if resource.state is ResourceState.STOPPED else None


def surely_gone(provider: Provider, world: World, a: Attempt) -> bool:
    """The provider says ended and lists no instance of it, twice, apart, past the listing lag."""
    gap, by = gap_s(provider), visible_by(provider, world, a)
    if world.clock.now().timestamp() + gap < by:
        return False  # nothing that is seen now proves it
    looked = 0.0
    for look in (1, 2):
        looked = world.clock.now().timestamp()  # the answer is as old as the question
        if not instance_ended(provider, a) or found(provider, world, a) is not None:
            return False
        if look == 1:
            world.wait(gap)
    return looked >= by


def vanished(provider: Provider, world: World, a: Attempt) -> bool:
    """It computes no more: it is gone, or it rests. No answer means "not known"."""
    try:
        if computes(provider, a):
            return False
        return stopped(provider, a) is not None or surely_gone(provider, world, a)
    except ProviderError:
        return False


def absent(provider: Provider, world: World, a: Attempt) -> bool:
    """Like surely_gone, but no answer means "not known". What rests on its disk is not absent."""
    try:
        return surely_gone(provider, world, a)
    except ProviderError:
        return False


def outlived(provider: Provider, world: World, a: Attempt) -> bool:
    """Past its end of life and its overrun: whoever was to end it there has not."""
    return world.clock.now() > a.d + timedelta(seconds=provider.traits.overrun_s)


def billed_until(provider: Provider, world: World, a: Attempt) -> datetime:
    """For a machine that was not seen alive any more: it ended itself by D and its overrun, or before now."""
    return min(world.clock.now(), a.d + timedelta(seconds=provider.traits.overrun_s))
