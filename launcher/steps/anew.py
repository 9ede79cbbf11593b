"""A machine that began anew while it was ours: its container was started again, or its agent.

uses: an attempt that was connected
produces: rebooted (with the boot that is over): it is met, brought what it lacks and started again; what lies
on the disk that outlives a boot is still there, the newest checkpoint too
"""

from __future__ import annotations

from launcher.errors import Gone, ProviderError
from launcher.models import ResourceState
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.steps.link import link
from launcher.world import World

REMEMBERED = ("prepare", "granted", "stop-sent", "connect")  # of the boot that is over


def seen(w: World, a: Attempt, provider: Provider) -> bool:
    """Its agent said so, or the provider tells of another boot than the one that is pinned."""
    if a.boot is None or a.woken:
        return False
    return link(w, a).began_anew or _other_boot(a, provider)


def _other_boot(a: Attempt, provider: Provider) -> bool:
    if a.instance is None or a.pinned is None:
        return False
    try:
        now = provider.get(a.instance)
    except (Gone, ProviderError):
        return False
    running = now.state is ResourceState.RUNNING and now.boot is not None
    return running and now.boot != a.pinned[0]


def follow(w: World, a: Attempt, provider: Provider) -> bool:
    """True = it did, and is to be met again."""
    if not seen(w, a, provider):
        return False
    w.drop_hosts()
    for key in [k for k in w.memory if k == "granted" or _of(a, k)]:
        del w.memory[key]
    w.about(a, "rebooted", was=a.boot)
    return True


def _of(a: Attempt, key: str) -> bool:
    name, _, rest = key.partition(":")
    return name in REMEMBERED and rest.split(":")[0] == str(a.n)
