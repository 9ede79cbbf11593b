"""ps: every run, newest last, and the one sentence that lets a person close the laptop."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from launcher.cli.here import home, json_option
from launcher.cli.prog import prog
from launcher.report import documents
from launcher.report.lines import attention, clock, duration, money
from launcher.report.view import RunView, by_age

SHOWN = 20  # a person's list; --json and --all have them all


@click.command("ps")
@click.option("--all", "-a", "everything", is_flag=True, help=f"Not only the newest {SHOWN}.")
@json_option
def command(everything: bool, as_json: bool) -> None:
    """Every run, newest last, with what it costs; at the end what still runs and bills."""
    now = datetime.now(UTC)
    views = by_age(home(), lambda name, e: print(f"warning: {name}: {e.message}", file=sys.stderr))
    if as_json:
        import json

        print(json.dumps([documents.row(v, now) for v in views]))
        return
    from launcher.cli import show

    rows = [_row(v, now) for v in (views if everything else views[-SHOWN:])]
    if rows:
        show.table(("run", "state", "on", "spent", "now", "started", "took", "ends by"), rows)
    if not everything and len(views) > SHOWN:
        print(f"{len(views) - SHOWN} older ones: ps --all")
    for line in filter(None, (attention(view, now, prog()) for view in views)):
        print(line)
    print(_last_line(views, now))


def _row(view: RunView, now: datetime) -> tuple[str, ...]:
    a = view.attempt
    live = a is not None and a.open
    seconds = view.seconds(now)
    started = view.state.started_at
    return (
        view.plan.run,
        view.shown(now).value,
        view.offer.target,
        money(view.usd(now)),
        f"{money(a.usd_per_hour)}/h" if a is not None and live and view.offer.bills else "-",
        f"{started.astimezone():%m-%d %H:%M}" if started else "-",
        duration(seconds) if seconds is not None else "-",
        clock(a.d) if a is not None and live else "-",
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
