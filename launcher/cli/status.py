"""status: one run, as it is now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from launcher.cli.here import ask_machine, home, json_option, run_argument, the_run
from launcher.cli.live import harmless
from launcher.report import documents, lines, moving


@click.command("status")
@run_argument
@json_option
def command(run: str | None, as_json: bool) -> None:
    """One run: state, device, progress, money, guard."""
    view, now = the_run(run), datetime.now(UTC)
    ask_machine(view, now)
    if view.state.ended is not None and view.offer.bills:
        from launcher import lastlook

        lastlook.books(view, home(), now)
    if as_json:
        print(json.dumps(documents.status(view, now)))
        return
    for line in lines.board(view, now):
        print(line)
    if (travels := moving.now_of(view)) is not None:
        print(f"  transfer  {harmless(moving.line(travels, now))}")
    a = view.live
    if a is not None:
        armed = ", ".join(a.armed) if a.armed else "not yet armed"
        print(f"  guard     {armed}; the machine ends by {lines.clock(a.d, now)} whatever happens here")
    if view.state.version_path is not None:
        print(f"  results   {view.state.version_path}")
    if why := view.why():
        print(f"  why       {harmless(why)}")
