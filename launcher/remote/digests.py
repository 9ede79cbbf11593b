"""What a far side says of files and their digests: not believed further than that it may be asked for.

Knows the courier's rows, no channel and no run.
"""

from __future__ import annotations

import json

from launcher.errors import Corrupt
from launcher.models import Json
from launcher.remote.base import Digests, Listed
from launcher.remote.fetching import name_fault

SECONDS = 1.0  # of hashing for one answer


def understood(reply: Json, rows: bytes, after: str | None) -> Digests:
    """The courier's answer. Names only rise, so that whoever goes on behind the last one comes to an end."""
    try:
        found = json.loads(rows)
        told = [(str(name), size, sha256) for name, size, sha256 in found]
        files = [Listed(name, int(size), str(sha256)) for name, size, sha256 in told if size is not None]
    except (ValueError, TypeError, OverflowError, RecursionError) as why:
        raise Corrupt(f"the host's list is none: {why!r}") from why
    left_out = tuple(name for name, size, _ in told if size is None)
    last = after
    for name, _, _ in told:
        fault = None if name == "." else name_fault(name, controls=True)
        if fault is None and last is not None and order(name) <= order(last):
            fault = "it is out of order"
        if fault is not None:
            raise Corrupt(f"the host lists {name!r}, and {fault}")
        last = name
    return Digests(tuple(files), left_out, None if reply.get("over") is True else last or "")


def order(name: str) -> list[bytes]:
    try:
        return name.encode("utf-8", "surrogateescape").split(b"/")
    except UnicodeEncodeError as why:
        raise Corrupt(f"the host lists {name!r}, and it is no name") from why
