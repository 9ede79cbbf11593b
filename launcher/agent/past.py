"""What an earlier life of this spool began and did not finish, by its own events: pure.

A trainer that has ended, and whose output nobody came to seal before the machine stopped: the disk was full,
or its end of life came first. What it made is as good as any, so the next life seals it. One that was taken
away in the middle is not meant: it goes on from its checkpoint instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from .protocol import BadCommand, Event, Unsealed, inside


def unsealed(events: Iterable[Event]) -> Unsealed | None:
    found: Unsealed | None = None
    place: str | None = None
    for event in events:
        kind = event.get("ev")
        if kind == "started":
            place, found = _place(event), None
        elif kind == "exited" and place is not None:
            why = event.get("why")
            found = Unsealed(place, _number(event, "exit_code"), _number(event, "signal"), _text(why))
        elif kind == "sealed":
            place = found = None
    return None if found is None or found.why == "preempted" else found


def _place(event: Event) -> str | None:
    """None: an older agent, which did not say."""
    try:
        return inside(event, "output", "") or None
    except BadCommand:
        return None


def _number(event: Event, key: str) -> int | None:
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
