"""Showing a transfer: a bar on a terminal, a plain line each ten seconds in a log, an event per second where
a program listens.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from launcher.cli import show
from launcher.cli.live import Block, harmless
from launcher.report import moving
from launcher.report.view import RunView
from launcher.transfers import Transfer

PLAIN_EVERY_S = 10.0
EVENT_EVERY_S = 1.0
WORTH_S = 1.0  # what is over sooner needs no words in a log
FULL, EMPTY = "━", "╺"
CYAN, YELLOW, DIM = "36", "33", "2"


class Travel:
    """`events`: whoever reads stderr is a program."""

    def __init__(self, view: RunView, block: Block, *, events: bool = False) -> None:
        self._view, self._block, self._events = view, block, events
        self._said_at: datetime | None = None

    def lines(self, now: datetime) -> list[str]:
        """What is to be drawn; where nothing is drawn it is said, when it is time."""
        t = moving.now_of(self._view)
        if t is None:
            self._said_at = None
        elif self._block.moving:
            return [drawn(t, now, self._block.width)]
        elif (now - t.since).total_seconds() >= WORTH_S:
            self._say(t, now)
        return []

    def _say(self, t: Transfer, now: datetime) -> None:
        every = EVENT_EVERY_S if self._events else PLAIN_EVERY_S
        if self._said_at is not None and abs((now - self._said_at).total_seconds()) < every:
            return
        self._said_at = now
        if self._events:
            told = {"event": "transfer", "run": self._view.plan.run, **(moving.document(t, now) or {})}
            self._block.above([json.dumps(told)], sys.stderr)
        else:
            self._block.above([f"· {harmless(moving.line(t, now))}"], sys.stderr)


def drawn(t: Transfer, now: datetime, width: int) -> str:
    before, filled, empty, after = moving.bar(t, now, width)
    before, after = harmless(before), harmless(after)
    if not filled + empty:
        return before
    colour = YELLOW if t.stalled_s(now) is not None else CYAN
    full, rest = show.tinted(FULL * filled, sys.stderr, colour), show.tinted(EMPTY * empty, sys.stderr, DIM)
    return f"{before} {full}{rest} {after}"
