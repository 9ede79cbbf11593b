"""What only a person can mend: the engine leaves, says why, and gives nothing up. A host of the user's own
that stays away or shows another key, and a provider that does not take our key any more.

uses: what the host or the provider answers, or that it does not
produces: halted (this engine leaves; the next one looks anew), or connected (the same machine, by the address
and the key that are known now)
"""

from __future__ import annotations

from datetime import timedelta

from launcher import guard
from launcher.attempt import UNHEARD
from launcher.codec import dump
from launcher.errors import AuthRefused, Exit, Gone, HostUnreachable, KeyChanged, ProviderError
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.ssh.errors import KeyMismatch
from launcher.steps import sight
from launcher.world import World

CHANGED = "host-key-changed"
UNREACHABLE = "host-unreachable"
REFUSED = "key-refused"
UNFOUND = "machine-unknown"
KEY_PATIENCE_S = 20.0  # a provider that refuses a good key for a moment is known to happen
UNFOUND_S = 10.0  # then who waits is told what is waited for
PATIENCE_S = 600.0  # past the end of its life: a laptop that wakes up needs a moment for its network


def halt(w: World, code: str, why: str, exit: Exit = Exit.UNREACHABLE) -> None:
    w.drop_hosts()
    w.record("halted", code=code, why=why, exit=int(exit))


def by_key(w: World, a: Attempt, heard: ProviderError | None) -> bool:
    """Nothing was heard for a while but that our key is refused: to go on asking with it ends nothing, and
    stands in the way of whoever has another. `heard`: None = an answer."""
    key = f"refused:{a.n}"
    if not isinstance(heard, AuthRefused):
        w.memory.pop(key, None)
        return False
    now = w.clock.now().timestamp()
    if now - w.memory.setdefault(key, now) <= KEY_PATIENCE_S:
        return False
    itself = "; the machine itself was told to end" if told_itself(a) in w.memory else ""
    halt(w, REFUSED, f"{heard.reason}{itself}", Exit.KEYS)
    return True


def told_itself(a: Attempt) -> str:
    """Where it is remembered that the machine has taken the order to end."""
    return f"told-itself:{a.n}"


def unfound(w: World, a: Attempt, provider: Provider, why: ProviderError | None) -> bool:
    """A machine was asked for, the answer was lost, and nobody can look whether it was made. It is told, and
    once one that was made must have ended itself the engine leaves; the next one looks anew. `why`: None = it
    could be looked for."""
    if not provider.traits.bills:
        return False
    halted, key = by_key(w, a, why), f"unfound:{a.n}"
    if halted or why is None:
        w.memory.pop(key, None)
        return halted
    now = w.clock.now()
    began = w.memory.setdefault(key, now)
    if now >= began + timedelta(seconds=UNFOUND_S) and a.noticed != UNFOUND:
        known = f"{why.reason}; whether a machine was made is not known"
        told = f"{known}: it is looked for until one that was made has ended itself"
        w.about(a, "noticed", code=UNFOUND, message=told)
    ended = guard.ends_unmet(a.asked_at, w.plan.limits, a.d) + timedelta(seconds=provider.traits.overrun_s)
    if now < max(ended, began + timedelta(seconds=KEY_PATIENCE_S)):
        return False
    halt(w, UNFOUND, why.reason, Exit.MAYBE_BILLING)
    return True


def is_elsewhere(w: World, a: Attempt, provider: Provider, why: Exception) -> bool:
    """Nobody answered where a host was last seen, or somebody with another key. Whether that is settled: a
    person has said meanwhile at which address and by which key it is known now, or, since a key that nobody
    believes mends nothing, the engine leaves. Of a rented machine its console may still tell more."""
    if a.access is None or a.access.host_key != "known" or a.instance is None:
        return False
    if not isinstance(why, HostUnreachable):
        return False
    try:
        access = provider.get(a.instance).access
    except KeyChanged as e:
        halt(w, CHANGED, e.reason)
        return True
    except (Gone, ProviderError):
        return False
    if access is not None and access.route != a.access.route:
        w.about(a, "connected", boot=a.boot, access=dump(access), layers=list(a.armed))
        return True
    if isinstance(why, KeyMismatch):
        halt(w, CHANGED, str(why))
        return True
    return False


def out_of_reach(w: World, a: Attempt, provider: Provider, unheard: str | None) -> bool:
    """It has ended, or must have, and nobody answers there, where its results lie: they are not given up.
    After a while the engine leaves; whoever comes back looks again."""
    if unheard is None or not _on_own_host(provider):
        return False
    if _patience_is_over(w, a):
        halt(w, UNREACHABLE, unheard)
    return True


def tell_unheard(w: World, a: Attempt, provider: Provider, why: ProviderError) -> None:
    """Once: whoever asked for its end need not wait for somebody who does not answer, or refuses to."""
    refused = isinstance(why, AuthRefused)
    if (refused or _on_own_host(provider)) and w.attempt().noticed != UNHEARD:
        after = f" for {KEY_PATIENCE_S:.0f} s more" if refused else " until it answers"
        w.about(a, "noticed", code=UNHEARD, message=f"{why.reason}; its end is asked for{after}")


def ended_itself(w: World, a: Attempt, provider: Provider, why: ProviderError) -> bool:
    """Past its end of life the guard over there has ended it, whether or not somebody can look. One who stays
    away may come back in a moment; of another key that cannot be said."""
    if not _on_own_host(provider) or not sight.outlived(provider, w, a):
        return False
    return _patience_is_over(w, a) or isinstance(why, KeyChanged)


def _patience_is_over(w: World, a: Attempt) -> bool:
    now = w.clock.now().timestamp()
    return bool(now - w.memory.setdefault(f"unheard:{a.n}", now) > PATIENCE_S)


def _on_own_host(provider: Provider) -> bool:
    traits = provider.traits
    return traits.boots == "machine" and traits.keeps_output and not traits.bills
