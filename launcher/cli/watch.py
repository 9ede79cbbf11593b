"""watch: the live view of a run. Only looks."""

from __future__ import annotations

import click

from launcher.cli.ending import follow
from launcher.cli.here import json_option, run_argument, the_shown_run


@click.command("watch")
@run_argument
@json_option
def command(run: str | None, as_json: bool) -> None:
    """Progress, device, dollars so far and forecast, end time. Ctrl-C leaves, the run goes on."""
    follow(the_shown_run(run), as_json=as_json, board=True)
