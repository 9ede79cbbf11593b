"""ps: every run, newest last, and the one sentence that lets a person close the laptop."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial

import click

from launcher import together
from launcher.cli.here import ask_machine, home, json_option
from launcher.cli.prog import prog
from launcher.errors import LauncherError, ProviderError
from launcher.models import Resource, State
from launcher.providers import registry
from launcher.report import documents, listing
from launcher.report.lines import attention, clock, duration, money
from launcher.report.listing import Line
from launcher.report.view import RunView
from launcher.store import Home

WITHIN_S = 4.0
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
    asked, silent = _asked(views)
    for name, why in silent:
        print(f"could not ask {name} what runs there: {why}")
    print(_last_line(views, now, asked))


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


def _asked(views: list[RunView]) -> tuple[list[str], list[tuple[str, str]]]:
    """The user's own hosts where a run of ours may live: those that answered, and those that did not."""
    names = {v.offer.provider for v in views if v.attempt is not None and v.attempt.open}
    there = sorted(name for name in names if registry.is_place(name))
    if not there:
        return [], []
    place = home()
    answers = together.ask({name: partial(_runs_on, name, place) for name in there}, WITHIN_S)
    silent = [(name, _why(answer)) for name, answer in answers.items() if isinstance(answer, Exception)]
    return [name for name in there if name not in dict(silent)], silent


def _runs_on(name: str, place: Home) -> tuple[Resource, ...]:
    return registry.load(name, place).list()


def _why(fault: Exception) -> str:
    return fault.reason if isinstance(fault, ProviderError) else str(fault)


def _last_line(views: list[RunView], now: datetime, asked: list[str]) -> str:
    """By our own journals: nothing that bills can be rented without one being written first."""
    live = [v for v in views if v.attempt is not None and v.attempt.open]
    billing = [v for v in live if v.offer.bills]
    if billing:
        rate = sum((v.attempt.usd_per_hour for v in billing if v.attempt is not None), start=0)
        return f"{len(live)} running, billing ${rate:.2f}/h: {', '.join(v.plan.run for v in billing)}"
    if live:
        where = f" (asked {', '.join(asked)} {clock(now, now)})" if asked else ""
        places = sorted({v.offer.target for v in live})
        away = all(registry.is_place(place) for place in places)
        return f"{len(live)} running {'on ' + ', '.join(places) if away else 'here'}, nothing bills{where}"
    return "nothing runs, nothing bills"
