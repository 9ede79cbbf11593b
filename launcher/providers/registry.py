"""Which providers there are, by dotted name: nothing of one is imported until it is asked for.

A provider is named in its own file and here, nowhere else.
"""

from __future__ import annotations

from importlib import import_module

from launcher.errors import usage
from launcher.providers.base import Provider

MODULES = {
    "local": "launcher.providers.local",
    "docker": "launcher.providers.docker",
}

# Known, priced by the catalogue for comparison, and not rented on by this build.
PRICED_ONLY = ("runpod", "aws")


def names() -> tuple[str, ...]:
    return tuple(MODULES)


def load(name: str) -> Provider:
    """The provider, made by its module's `make()`."""
    if name not in MODULES:
        from difflib import get_close_matches

        near = get_close_matches(name, MODULES, n=1)
        raise usage(
            "unknown-target",
            f"there is no target {name!r}" + (f", did you mean {near[0]!r}?" if near else ""),
            hint=f"plan --on {near[0] if near else 'local'}",
        )
    provider: Provider = import_module(MODULES[name]).make()
    return provider
