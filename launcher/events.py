"""The agent's event lines as they came home. Words only: no disk, no run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from launcher.codec import foreign_json
from launcher.models import Json


def parse_events(lines: Iterable[bytes]) -> Iterator[Json]:
    """A torn or foreign line is passed over: the agent's file is data from another machine."""
    for line in lines:
        try:
            value = foreign_json(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("ev"), str):
            yield value
