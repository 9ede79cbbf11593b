"""ps: every run, newest last, and the one sentence that lets a person close the laptop."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from launcher.cli.here import ask_machine, home, json_option
from launcher.cli.prog import prog
from launcher.errors import LauncherError
from launcher.models import State
from launcher.report import documents, listing
from launcher.report.lines import attention, clock, duration, money
from launcher.report.listing import Line
from launcher.report.view import RunView

SHOWN = 20  # a person's list; --json and --all have them all


@click.command("ps")
@click.option("--all", "-a", "everything", is_flag=True, help=f"Not only the newest {SHOWN}.")
@json_option
def command(everything: bool, as_json: bool) -> None:
    """Every run, newest last, with what it costs; at the end what still runs and bills."""
    now = datetime.now(UTC)
    found = [_looked_after(line, now) for line in listing.lines(home(), now, _damaged)]
    if as_json:
        import json

        print(json.dumps([line.row for line in found]))
        return
    from launcher.cli import show

    rows = [_row(line, now) for line in (found if everything else found[-SHOWN:])]
    if rows:
        show.table(("run", "state", "on", "spent", "now", "started", "took", "ends by"), rows)
    if not everything and len(found) > SHOWN:
        print(f"{len(found) - SHOWN} older ones: ps --all")
    views = [line.view for line in found if line.view is not None]
    for told in filter(None, (attention(view, now, prog()) for view in views)):
        print(told)
    print(_last_line(views, now))


def _damaged(name: str, e: LauncherError) -> None:
    print(f"warning: {name}: {e.message}", file=sys.stderr)


def _looked_after(line: Line, now: datetime) -> Line:
    """Of a run whose engine died only its machine knows whether results wait."""
    if line.view is None or line.row["state"] != State.INTERRUPTED:
        return line
    ask_machine(line.view, now)
    return listing.of(line.view, now)


def _row(line: Line, now: datetime) -> tuple[str, ...]:
    row = line.row
    started, deadline = documents.when(row["started"]), documents.when(row["deadline"])
    return (
        row["run"],
        row["state"],
        row["target"],
        money(row["usd"]),
        f"{money(row['usd_per_hour'])}/h" if deadline and line.bills else "-",
        f"{started.astimezone():%m-%d %H:%M}" if started else "-",
        duration(line.seconds) if line.seconds is not None else "-",
        clock(deadline, now) if deadline else "-",
    )


def _last_line(views: list[RunView], now: datetime) -> str:
    """By our own journals: nothing that bills can be rented without one being written first."""
    live = [v for v in views if v.attempt is not None and v.attempt.open]
    billing = [v for v in live if v.offer.bills]
    if billing:
        rate = sum((v.attempt.usd_per_hour for v in billing if v.attempt is not None), start=0)
        return f"{len(live)} running, billing ${rate:.2f}/h: {', '.join(v.plan.run for v in billing)}"
    if live:
        return f"{len(live)} running here, nothing bills"
    return "nothing runs, nothing bills"
