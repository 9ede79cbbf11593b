"""Which providers there are, by dotted name: nothing of one is imported until it is asked for.

A provider is named in its own file and here, nowhere else. Some are one target, called like them; others have
places of the user's own, and their targets are called KIND:PLACE.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from launcher.errors import usage
from launcher.providers.base import Provider
from launcher.values import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.hostwords import HostWish
    from launcher.remote.base import Tick
    from launcher.store import Home

MODULES = {
    "local": "launcher.providers.local",
    "docker": "launcher.providers.docker",
    "runpod": "launcher.providers.runpod",
}
PLACED = {
    "ssh": "launcher.providers.ssh",
}
ANY = "any"  # KIND:any is every place of that kind

# Known, priced by the catalogue for comparison, and not rented on by this build.
PRICED_ONLY = ("aws",)


def targets(home: Home) -> tuple[str, ...]:
    """Every target that can be run on: those for everybody, then the user's places."""
    return (*MODULES, *(name for kind in PLACED for name in places(kind, home)))


def places(kind: str, home: Home) -> tuple[str, ...]:
    found: tuple[str, ...] = import_module(PLACED[kind]).places(home)
    return tuple(f"{kind}:{place}" for place in found)


def is_place(target: str) -> bool:
    return target.partition(":")[0] in PLACED


def meant(target: str, home: Home) -> tuple[str, ...]:
    """The places that a word of --on means: one, found wherever places can be named, or every one there is.
    Raises for whoever named one that nobody knows."""
    kind, _, place = target.partition(":")
    if place != ANY:
        import_module(PLACED[kind]).meet(home, place)
        return (target,)
    every = places(kind, home)
    if not every:
        import_module(PLACED[kind]).meet(home, ANY)  # says how one becomes known
    return every


def settle(home: Home, wishes: Mapping[str, HostWish], origin: Callable[[str], str]) -> None:
    """The hosts that a profile describes become known."""
    if wishes:
        import_module(PLACED["ssh"]).settle(home, wishes, origin)


def load(name: str, home: Home | None = None, tick: Tick = lambda: None) -> Provider:
    """The provider, made by its module's `make()`; one with places is made for the one that is named, and
    lets `tick` in while a place does not answer."""
    kind, _, place = name.partition(":")
    if kind in PLACED and place and home is not None:
        placed: Provider = import_module(PLACED[kind]).make(home, place, tick)
        return placed
    if name not in MODULES:
        near = did_you_mean(name, MODULES)
        raise usage("unknown-target", f"there is no target '{name}'{near}", hint="plan")
    provider: Provider = import_module(MODULES[name]).make()
    return provider
