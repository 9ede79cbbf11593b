"""pull: results that wait, or the newest checkpoints of a live run, now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click

from launcher.cli import show
from launcher.cli.here import ask_machine, json_option, run_argument, the_run
from launcher.cli.live import harmless
from launcher.cli.stop import ask_engine, follow_to_end
from launcher.models import State
from launcher.report import documents, moving
from launcher.report.view import RunView

SETTLE_S = 3.0
HEARD_S = 1.0
SHOWN = 20


@click.command("pull")
@run_argument
@json_option
def command(run: str | None, as_json: bool) -> None:
    """Fetch again: waiting results become a version; a live run's checkpoints come now."""
    view = the_run(run)
    ask_machine(view, datetime.now(UTC))
    asked = view.state.wants_pull or (view.state.ended is None and not view.engine_alive)
    if asked:
        # Nobody drives it: an engine is started, which takes what has been sealed meanwhile.
        alive = _seen_alive(datetime.now(UTC))
        ask_engine(view, "pull")
        if not _settles(view, alive):
            follow_to_end(view, as_json=as_json, until=alive)
    if view.shown(datetime.now(UTC)) is State.RUNNING:
        ask_engine(view, "pull")
        if as_json:
            show.json(documents.run(view, datetime.now(UTC)))
        else:
            print(f"{view.plan.run}: complete checkpoints come to {view.folder.checkpoints}/")
            _here(view)
        return
    if not asked and view.state.ended is not None:
        print(f"{view.plan.run}: nothing waits to be fetched", file=sys.stderr)
    follow_to_end(the_run(view.plan.run), as_json=as_json)  # by its facts alone, without what was just seen


def _here(view: RunView) -> None:
    """What of the output is at home already."""
    found = moving.arrived(view)
    if found is None:
        print("output comes home as soon as it stands still, and as a version at the end")
        return
    print(f"output at home before the end, {found.words}, in {found.folder}/")
    for path, size in found.files[:SHOWN]:
        print(f"  {moving.size(size):>9}  {harmless(path)}")
    if len(found.files) > SHOWN:
        print(f"  and {len(found.files) - SHOWN} more")


def _seen_alive(asked: datetime) -> Callable[[RunView, State], bool]:
    """Whether the engine that was just started has heard the trainer's machine, for long enough to know that
    its trainer still runs. One that sleeps is silent, and until that is seen its run looks as if it ran."""
    first: list[datetime] = []

    def seen(view: RunView, state: State) -> bool:
        now = datetime.now(UTC)
        unheard_s = view.unheard_s(now)
        if unheard_s is not None and unheard_s < (now - asked).total_seconds():
            first.append(now)
        known = bool(first) and (now - first[0]).total_seconds() >= HEARD_S
        return known and state is State.RUNNING and not view.told_of_end()

    return seen


def _settles(view: RunView, alive: Callable[[RunView, State], bool]) -> bool:
    """Within a moment it is known whether the trainer still runs."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        view.refresh()
        state = view.shown(datetime.now(UTC))
        if state is not State.RUNNING or alive(view, state):
            return True
        time.sleep(0.05)  # a view looks at files; the engine that writes them tells nobody
    return False
