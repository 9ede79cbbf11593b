"""The keys that a host shows, looked at without believing any: nobody logs in, nothing of ours is sent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from launcher.errors import HostUnreachable
from launcher.models import Route
from launcher.ssh.connection import shown_key
from launcher.ssh.errors import fingerprint

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


def shown(way: Route, kind: str | None = None) -> str:
    """The key of that kind, else the one that is shown by itself. Raises HostUnreachable; KeyMismatch when it
    is a jump host that is not who we know."""
    return shown_key(replace(way, pins=(kind,) if kind else ()))


def with_fingerprint(way: Route, wanted: str) -> tuple[str | None, tuple[str, ...]]:
    """The key there that has this fingerprint, if one has, and those that were seen."""
    seen = [shown(way)]
    for kind in KINDS:
        if fingerprint(seen[-1]) == wanted.rstrip("="):
            return seen[-1], tuple(seen)
        with suppress(HostUnreachable):  # it has no such key
            seen.append(shown(way, kind))
    return (seen[-1] if fingerprint(seen[-1]) == wanted.rstrip("=") else None), tuple(dict.fromkeys(seen))
