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
from launcher.models import Access, Json, Resource, ResourceState
from launcher.providers.base import Provider
from launcher.remote.base import Host
from launcher.runstate import Attempt
from launcher.ssh.errors import KeyMismatch
from launcher.steps import causes, pinning, sight, wake
from launcher.steps.causes import Cause
from launcher.world import World

SPOKEN = 1 << 18
SAME_S = 5.0  # for another boot's first words
ARMED_S = 2.0  # after the agent is there
LISTEN_S = 3.0  # between two looks at what a machine says that cannot be reached yet


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
    seen = _Seen(listened=w.clock.now().timestamp())
    while w.clock.now() < ready_by and not seen.stranger:
        w.tick()
        try:
            if _settled(w, a, provider, seen) or _hopeless(w, provider, seen):
                return
        except KeyChanged as e:
            _stranger(w, a, e.reason)
            return
        except ProviderError:
            w.wait(1)
            continue
        if not seen.stranger:
            w.wait(max(w.pace_s / 5, provider.traits.look_s))
    if seen.doubt is not None:
        _stranger(w, a, seen.doubt)
        return
    _late(w, a, provider, seen)


def _settled(w: World, a: Attempt, provider: Provider, seen: _Seen) -> bool:
    """One look: True once it is known what becomes of it."""
    try:
        resource = provider.get(a.instance or "")
    except Gone:
        resource = None
    if resource is None or resource.state is ResourceState.ENDED:
        if not sight.vanished(provider, w, a):
            return False
        why = _last_words(w, a, "the machine ended while it booted")
        w.about(a, "over", why=why, blame=not _left_alone(w, a))
        return True
    if sight.pauses(provider) and resource.state is ResourceState.STOPPED:
        return _rests(w, a, provider)
    return resource.state is ResourceState.RUNNING and _reached(w, provider, resource, seen)


def _hopeless(w: World, provider: Provider, seen: _Seen) -> bool:
    """What it says of itself, or the platform of it, may show that waiting longer is paid for in vain."""
    now = w.clock.now().timestamp()
    if seen.delivered or now < seen.listened + LISTEN_S:
        return False
    seen.listened = now
    return _shows_why(w, w.attempt(), provider)


def _shows_why(w: World, a: Attempt, provider: Provider) -> bool:
    if not provider.traits.bills or a.instance is None:
        return False
    try:
        cause = causes.of(provider.console(a.instance))
    except ProviderError:
        return False
    if cause is None or not cause.certain:
        return False
    _fails(w, a, cause.words, Exit.PROVIDER, everywhere=cause.everywhere)
    return True


def _late(w: World, a: Attempt, provider: Provider, seen: _Seen) -> None:
    if not _shows_why(w, a, provider):
        why = _last_words(w, a, f"the machine was not reachable in time: {seen.stage}")
        _fails(w, a, why, Exit.UNREACHABLE)


def _fails(w: World, a: Attempt, why: str, exit: Exit, *, everywhere: bool = False) -> None:
    if a.woken:
        wake.gives_up(w, a, why)
    else:
        w.about(a, "over", why=why, blame=True, exit=int(exit), everywhere=everywhere)


def _rests(w: World, a: Attempt, provider: Provider) -> bool:
    """It is stopped: to be started if results are to be read from it, else it failed before it was of use."""
    if not a.woken:
        why = _last_words(w, a, "the machine stopped while it booted")
        w.about(a, "over", why=why, blame=not _left_alone(w, a))
        return True
    if sight.outlived(provider, w, a):  # nobody lived to read it when it was awake: another time, another end
        if not wake.wake(w, a):
            w.about(a, "over", why="the machine sleeps, and was not read", blame=False)
        return True
    refused = wake.start_again(w, a, provider)
    if refused is not None:
        wake.is_refused(w, a, refused)
    return refused is not None


@dataclass
class _Seen:
    """What this step learnt of the machine so far."""

    delivered: str | None = None  # the boot that has the agent
    since: float = 0.0
    doubt: str | None = None  # who answers is not whom the console told of
    stranger: bool = False  # and no later word can mend it
    stage: str = "it never came up"  # how far it was
    listened: float = 0.0  # to what it says; at once there is nothing to hear


def _reached(w: World, provider: Provider, resource: Resource, seen: _Seen) -> bool:
    """One look at a machine that runs: believed, brought the agent, armed."""
    a, access = w.attempt(), resource.access
    if access is None:
        seen.stage = "it runs, and no way to it was ever told"
        return False
    announced = access.host_key == "announce"
    try:
        access = pinning.trusted(w, a, provider, resource, again=seen.doubt is not None)
        if access is not None and seen.delivered != resource.boot:
            seen.delivered = resource.boot if _deliver(w, a, access) else None
            seen.since, seen.doubt = w.clock.now().timestamp(), None
    except KeyMismatch as e:
        # Announced: an earlier boot's words, or a port that is somebody else's by now. It may tell more.
        seen.doubt, seen.stranger = str(e), not announced
        w.drop_hosts()
        return False
    except ProviderError:  # its console cannot be read now
        return False
    if access is None:
        seen.stage = "it runs, and never said by which key it is known"
        return False
    seen.stage = "it runs, and nobody answers there" if seen.delivered is None else "its agent did not report"
    return seen.delivered is not None and _armed_soon(w, a, access, seen)


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
    """What is known to be bad, else what the machine printed last, says more than that it is gone."""
    try:
        console = w.provider(a.choice).console(a.instance or "").strip()
    except ProviderError:
        return why
    cause: Cause | None = causes.of(console)
    if cause is not None:
        return f"{why}; {cause.words}"
    return f"{why}; it printed: {console.splitlines()[-1][:200]}" if console else why


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


def _armed_soon(w: World, a: Attempt, access: Access, seen: _Seen) -> bool:
    """Once it has the agent only the machine itself has news: nobody else is asked meanwhile."""
    until = w.clock.now().timestamp() + ARMED_S
    while not (armed := _armed(w, a, access, seen)) and w.clock.now().timestamp() < until:
        w.wait(w.pace_s / 5)
    return armed


def _armed(w: World, a: Attempt, access: Access, seen: _Seen) -> bool:
    try:
        events = list(parse_events(_spoken(w.host(a, access)).split(b"\n")[:-1]))
    except NoFile:
        return False
    except HostError:
        w.drop_hosts()
        return False
    hellos = [at for at, e in enumerate(events) if e["ev"] == "hello" and e.get("token") == a.token]
    if not hellos or _is_over(w, events[hellos[-1]], a, seen):
        return False
    hello, said = events[hellos[-1]], events[hellos[-1] :]
    armed = next((e for e in said if e["ev"] == "armed"), None)
    if armed is None:
        return False
    layers = [str(layer) for layer in armed["layers"]]
    w.about(a, "connected", boot=str(hello["boot"]), access=dump(access), layers=layers)
    return True


def _is_over(w: World, hello: Json, a: Attempt, seen: _Seen) -> bool:
    """The boot that spoke last is the one that is over. Where no other speaks for a while, it goes on: only
    the provider tells of another boot."""
    return hello["boot"] == a.was and w.clock.now().timestamp() < seen.since + SAME_S


def _spoken(host: Host) -> bytes:
    """All of it: the newest boot's first words may stand far behind."""
    data = b""
    while True:
        chunk = host.read("events.jsonl", len(data), SPOKEN)
        data += chunk
        if len(chunk) < SPOKEN:
            return data
