"""ps: every run, newest last, and the one sentence that lets a person close the laptop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import click

from launcher import together
from launcher.cli.here import home, json_option, not_asked
from launcher.cli.live import harmless
from launcher.cli.prog import prog
from launcher.errors import LauncherError, ProviderError
from launcher.models import Resource, State
from launcher.providers import registry
from launcher.report import documents, listing
from launcher.report.lines import attention, clock, duration, is_unknown, money, storage
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
    lines = listing.lines(home(), now, _damaged)
    hosts = [] if as_json else _hosts([line.view for line in lines if line.view is not None])
    found, answers = _asked(lines, hosts, now)
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
    there = {name: answer for name, answer in answers.items() if not isinstance(answer, Exception)}
    missing = [view.plan.run for view in views if _is_missing(view, there, now)]
    for view in views:
        if told := _missing(view) if view.plan.run in missing else attention(view, now, prog()):
            print(told)
    for name, why in answers.items():
        if isinstance(why, Exception):
            print(f"could not ask {name} what runs there: {harmless(_why(why))}")
    print(_last_line(views, missing, now, list(there)))


def _damaged(name: str, e: LauncherError) -> None:
    print(f"warning: {name}: {e.message}", file=sys.stderr)


def _hosts(views: list[RunView]) -> list[str]:
    """Where a run of ours may live, or sleep: the user's own hosts, and whoever bills."""
    kept = [v for v in views if v.attempt is not None and (v.attempt.open or v.attempt.asleep)]
    found = {v.offer.provider for v in kept if v.offer.bills or registry.is_place(v.offer.provider)}
    return sorted(found)


def _is_missing(view: RunView, there: dict[str, object], now: datetime) -> bool:
    """It may bill and nobody looks for a proof, or its engine died; whoever was asked now lists nothing of
    it, and it is no new one that a list may still hide."""
    listed, a, state = there.get(view.offer.provider), view.attempt, view.shown(now)
    doubtful = state is State.MAYBE_BILLING or (state is State.INTERRUPTED and view.offer.bills)
    if a is None or not a.open or view.engine_alive or not doubtful or not (a.met or view.state.halted):
        return False
    return isinstance(listed, tuple) and all(one.id != a.instance and one.token != a.token for one in listed)


def _missing(view: RunView) -> str:
    run, target = view.plan.run, view.offer.target
    what = "to have that proved" if view.state.halted is not None else "its engine died; go on"
    return f"{run}: {target} lists nothing of it now; {what}: {prog()} resume {run}"


def _asked(lines: list[Line], hosts: list[str], now: datetime) -> tuple[list[Line], dict[str, object]]:
    """All at once: the hosts what runs there, and of each run whose engine died its machine whether results
    wait. The lines as they are now, and what each host answered."""
    dead = {
        line.row["run"]: line.view
        for line in lines
        if line.view is not None and line.row["state"] == State.INTERRUPTED
    }
    place = home()
    questions: dict[str, Callable[[], object]] = {name: partial(_runs_on, name, place) for name in hosts}
    if dead:
        from launcher import lastlook

        questions |= {f"run {run}": partial(lastlook.look, view, now) for run, view in dead.items()}
    answers = together.ask(questions, WITHIN_S) if questions else {}
    for run, view in dead.items():
        if answers[f"run {run}"] is not True:
            not_asked(view)
    # Anew, since they went on meanwhile: the last sentence and the rows above it tell of one moment.
    told = [listing.of(line.view, now) if line.view is not None else line for line in lines]
    return told, {name: answers[name] for name in hosts}


def _row(line: Line, now: datetime) -> tuple[str, ...]:
    row = line.row
    started, deadline = documents.when(row["started"]), documents.when(row["deadline"])
    return (
        row["run"],
        row["state"],
        row["target"],
        money(row["usd"]),
        _now(line),
        f"{started.astimezone():%m-%d %H:%M}" if started else "-",
        duration(line.seconds) if line.seconds is not None else "-",
        clock(deadline, now) if deadline else "-",
    )


def _now(line: Line) -> str:
    if line.view is not None and (kept := storage(line.view)) is not None:
        return f"{money(kept)}/day"
    return f"{money(line.row['usd_per_hour'])}/h" if line.row["deadline"] and line.bills else "-"


def _runs_on(name: str, place: Home) -> tuple[Resource, ...]:
    return registry.load(name, place).list()


def _why(fault: Exception) -> str:
    return fault.reason if isinstance(fault, ProviderError) else str(fault)


def _last_line(views: list[RunView], missing: list[str], now: datetime, asked: list[str]) -> str:
    """By our own journals: nothing that bills can be rented without one being written first."""
    live = [v for v in views if v.live is not None and v.plan.run not in missing]
    unknown = [v for v in live if v.offer.bills and is_unknown(v) and not v.engine_alive]
    live = [v for v in live if v not in unknown]
    billing = [v for v in live if v.offer.bills]
    where = f" (asked {', '.join(asked)} {clock(now, now)})" if asked else ""
    kept = {v.plan.run: day for v in views if (day := storage(v)) is not None}
    stopped = f"; stopped machines bill {money(sum(kept.values()))}/day: {', '.join(kept)}" if kept else ""
    stopped += f"; not proved to have ended: {', '.join(missing)}" if missing else ""
    for v in unknown:
        stopped += f"; perhaps a machine at {money(v.offer.usd_per_hour)}/h: {v.plan.run}"
    if billing:
        rate = sum((v.attempt.usd_per_hour for v in billing if v.attempt is not None), start=0)
        names = ", ".join(v.plan.run for v in billing)
        return f"{len(live)} running, billing {money(rate)}/h: {names}{stopped}{where}"
    if live:
        places = sorted({v.offer.target for v in live})
        away = all(registry.is_place(place) for place in places)
        on = "on " + ", ".join(places) if away else "here"
        return f"{len(live)} running {on}{stopped or ', nothing bills'}{where}"
    return f"nothing runs{stopped or ', nothing bills'}{where}"
