"""pull: results that wait, or the newest checkpoints of a live run, now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from launcher.cli.here import json_option, run_argument, the_run
from launcher.cli.stop import ask_engine, follow_to_end
from launcher.models import State
from launcher.report import documents


@click.command("pull")
@run_argument
@json_option
def command(run: str | None, as_json: bool) -> None:
    """Fetch again: waiting results become a version; a live run's checkpoints come now."""
    view = the_run(run)
    state = view.shown(datetime.now(UTC))
    if state is State.RUNNING:
        ask_engine(view, "pull")
        if as_json:
            print(json.dumps(documents.run(view, datetime.now(UTC))))
        else:
            print(f"{view.plan.run}: complete checkpoints come to {view.folder.checkpoints}/")
        return
    if view.state.wants_pull:
        ask_engine(view, "pull")
    follow_to_end(view, as_json=as_json)
