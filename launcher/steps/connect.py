"""Reach the machine, bring the agent, and believe it only when it is armed.

uses: created
produces: connected (with the layers that guard the machine), or over
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from launcher.codec import dump
from launcher.errors import Exit, Gone, HostError, KeyChanged, NoFile, ProviderError
from launcher.events import parse_events
from launcher.models import Access, Resource, ResourceState
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.ssh.errors import KeyMismatch
from launcher.steps import pinning, sight, wake
from launcher.world import World


def connect(w: World) -> None:
    a = w.attempt()
    assert a.instance is not None
    if a.asleep:
        if wake.wake(w, a):
            _until_armed(w, w.attempt())
        return
    _until_armed(w, a)


def _until_armed(w: World, a: Attempt) -> None:
    assert a.instance is not None
    provider = w.provider(a.choice)
    # Counted from our own first look: while no engine lived, a machine had nobody to be reachable for.
    began = w.memory.setdefault(f"connect:{a.n}:{a.deadline}", w.clock.now())
    ready_by = began + timedelta(seconds=w.plan.limits.ready_within_s)
    seen = _Seen()
    while w.clock.now() < ready_by and not seen.stranger:
        w.tick()
        try:
            resource = provider.get(a.instance)
        except Gone:
            resource = None
        except KeyChanged as e:
            _stranger(w, a, e.reason)
            return
        except ProviderError:
            w.wait(1)
            continue
        if resource is None or resource.state is ResourceState.ENDED:
            if sight.vanished(provider, w, a):
                why = _last_words(w, a, "the machine ended while it booted")
                w.about(a, "over", why=why, blame=not _left_alone(w, a))
                return
        elif sight.pauses(provider) and resource.state is ResourceState.STOPPED:
            if _rests(w, a, provider):
                return
        elif resource.state is ResourceState.RUNNING and _reached(w, provider, resource, seen):
            return
        if not seen.stranger:
            w.wait(max(w.pace_s / 5, provider.traits.look_s))
    if seen.doubt is not None:
        _stranger(w, a, seen.doubt)
        return
    _late(w, a)


def _late(w: World, a: Attempt) -> None:
    why = _last_words(w, a, "the machine was not reachable in time")
    if a.woken:
        wake.gives_up(w, a, why)
    else:
        w.about(a, "over", why=why, blame=True, exit=int(Exit.UNREACHABLE))


def _rests(w: World, a: Attempt, provider: Provider) -> bool:
    """It is stopped: to be started if results are to be read from it, else it failed before it was of use."""
    if not a.woken:
        why = _last_words(w, a, "the machine stopped while it booted")
        w.about(a, "over", why=why, blame=not _left_alone(w, a))
        return True
    refused = wake.start_again(w, a, provider)
    if refused is not None:
        wake.gives_up(w, a, refused)
    return refused is not None


@dataclass
class _Seen:
    """What this step learnt of the machine so far."""

    delivered: str | None = None  # the boot that has the agent
    doubt: str | None = None  # who answers is not whom the console told of
    stranger: bool = False  # and no later word can mend it


def _reached(w: World, provider: Provider, resource: Resource, seen: _Seen) -> bool:
    """One look at a machine that runs: believed, brought the agent, armed."""
    a, access = w.attempt(), resource.access
    if access is None:
        return False
    announced = access.host_key == "announce"
    try:
        access = pinning.trusted(w, a, provider, resource, again=seen.doubt is not None)
        if access is not None and seen.delivered != resource.boot:
            seen.delivered = resource.boot if _deliver(w, a, access) else None
            seen.doubt = None
    except KeyMismatch as e:
        # Announced: an earlier boot's words, or a port that is somebody else's by now. It may tell more.
        seen.doubt, seen.stranger = str(e), not announced
        w.drop_hosts()
        return False
    except ProviderError:  # its console cannot be read now
        return False
    return access is not None and seen.delivered is not None and _armed(w, a, access)


def _stranger(w: World, a: Attempt, why: str) -> None:
    """Who answers is not who we know, and knocking again changes nothing."""
    if a.woken:
        wake.gives_up(w, a, why)
        return
    w.about(a, "over", why=why, blame=True, exit=int(Exit.UNREACHABLE), code=KeyChanged.__name__)


def _left_alone(w: World, a: Attempt) -> bool:
    """Its boot limit is over: no engine lived to bring the agent, which is no fault of the offer."""
    return w.clock.now() > a.asked_at + timedelta(seconds=w.plan.limits.boot_limit_s)


def _last_words(w: World, a: Attempt, why: str) -> str:
    """What the machine printed last says more than that it is gone."""
    try:
        lines = w.provider(a.choice).console(a.instance or "").strip().splitlines()
    except ProviderError:
        return why
    return f"{why}; it printed: {lines[-1][:200]}" if lines else why


def _deliver(w: World, a: Attempt, access: Access) -> bool:
    """The agent, unless it is there: its first event is the proof."""
    try:
        host = w.host(a, access)
        try:
            host.read("events.jsonl", 0, 1)
        except NoFile:
            host.write("agent.pyz", w.parts.agent)
    except KeyMismatch:
        raise
    except HostError:
        w.drop_hosts()
        return False
    return True


def _armed(w: World, a: Attempt, access: Access) -> bool:
    try:
        lines = w.host(a, access).read("events.jsonl", 0, 1 << 16).split(b"\n")[:-1]
    except NoFile:
        return False
    except HostError:
        w.drop_hosts()
        return False
    events = list(parse_events(lines))
    hello = next((e for e in events if e["ev"] == "hello" and e.get("token") == a.token), None)
    armed = next((e for e in events if e["ev"] == "armed"), None)
    if hello is None or armed is None:
        return False
    layers = [str(layer) for layer in armed["layers"]]
    w.about(a, "connected", boot=str(hello["boot"]), access=dump(access), layers=layers)
    return True
