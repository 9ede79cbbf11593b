"""The lines of `ps`: of runs that are over from what their engine wrote down at the end, of the others from
their plan and journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from launcher.codec import dump, load
from launcher.errors import LauncherError
from launcher.files import Disk
from launcher.models import Json
from launcher.report import documents
from launcher.report.view import RunView
from launcher.store import Home, RunFolder


@dataclass(frozen=True)
class Line:
    row: Json  # as `ps --json` has it
    seconds: float | None  # the trainer's time
    bills: bool
    view: RunView | None = None  # of a run that is not over


def of(view: RunView, now: datetime) -> Line:
    return Line(documents.row(view, now), view.seconds(now), view.offer.bills, view)


def write_down(folder: RunFolder, now: datetime) -> None:
    """By the engine, once the run is over."""
    line = of(RunView(folder), now)
    body = {"row": line.row, "seconds": line.seconds, "bills": line.bills}
    Disk().write(folder.listed, json.dumps(dump(body)).encode())


def lines(home: Home, now: datetime, damaged: Callable[[str, LauncherError], None]) -> list[Line]:
    """Every run, oldest first. One that cannot be read is told of and hides no other."""
    found: list[Line] = []
    for name in home.names():
        try:
            found.append(_kept(home.run(name)) or of(RunView(home.run(name)), now))
        except LauncherError as e:
            damaged(name, e)
    return found


def _kept(folder: RunFolder) -> Line | None:
    try:
        return load(Line, json.loads(folder.listed.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not over, or from another launcher: the journal tells it
