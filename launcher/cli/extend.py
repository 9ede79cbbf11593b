"""extend: more time for the trainer, or a higher ceiling, while the run lives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import TypeVar

import click

from launcher import guard
from launcher.cli.here import json_option, run_argument, the_run
from launcher.cli.prog import prog
from launcher.cli.stop import ask_engine
from launcher.errors import Exit, LauncherError, usage
from launcher.models import State
from launcher.report.lines import clock
from launcher.report.lines import money as shown
from launcher.report.view import RunView
from launcher.values import duration, money, written_duration

T = TypeVar("T")
ANSWERED_IN = timedelta(minutes=1)  # while a person reads the question the meter runs


@click.command("extend")
@run_argument
@click.option("--by", "by", default=None, metavar="DUR", help="This much more time: 90s, 30m, 2h.")
@click.option("--max-cost", default=None, metavar="USD", help="A new ceiling for the whole run.")
@json_option
def command(run: str | None, by: str | None, max_cost: str | None, as_json: bool) -> None:
    """More time or a higher ceiling. Refused where the ceiling would not hold."""
    view = the_run(run)
    if by is None and max_cost is None:
        raise usage(
            "extend-what", "say how much more: --by 30m, --max-cost 5, or both", hint="extend RUN --by 30m"
        )
    if by is None and not view.offer.bills:
        told = f"{view.plan.run} costs nothing: there is no ceiling to raise"
        raise usage("nothing-bills", told, hint="extend RUN --by 30m")
    sleeps = view.attempt is not None and view.attempt.asleep  # to start it again may need a higher ceiling
    if view.state.ended is State.DONE:
        raise usage("not-running", f"{view.plan.run} is done", hint=f"rerun {view.plan.run}")
    if not view.engine_alive and not (sleeps and by is None):
        raise usage("not-running", f"{view.plan.run} does not run", hint=f"resume {view.plan.run}")
    add_s = _meant("--by", duration, by, 1) if by is not None else 0
    ceiling = _meant("--max-cost", money, max_cost, 0) if max_cost is not None else None
    before = view.state
    if ceiling is None:
        ceiling = _higher(view, add_s, by)
    outcome = ask_engine(view, "extend", add_s=add_s, max_cost=None if ceiling is None else str(ceiling))
    if outcome != "done":
        raise LauncherError(
            "extend-refused",
            outcome,
            exit=Exit.LIMIT,
            hint=f"extend {view.plan.run} --max-cost USD"
            if "ceiling" in outcome
            else f"rerun {view.plan.run}",
            billed="the run goes on",
        )
    a = view.attempt
    if as_json:
        print(json.dumps({"run": view.plan.run, "max_time_s": view.state.max_time_s}))
    elif sleeps:
        print(f"{view.plan.run}: {shown(ceiling or 0)} at most in all; fetch: {prog()} pull {view.plan.run}")
    else:
        more = view.state.max_time_s - before.max_time_s
        print(
            f"{view.plan.run}: {written_duration(more)} more"
            + (f", ends by {clock(a.d, datetime.now(UTC))}" if a is not None and a.open else "")
        )


def _meant(flag: str, read: Callable[[object, int], T], written: str, low: int) -> T:
    try:
        return read(written, low)
    except ValueError as e:
        raise usage("bad-setting", f"{flag} {e}", hint="extend --help") from None


def _higher(view: RunView, add_s: int, by: str | None) -> Decimal | None:
    """What was agreed to covers it, or a person agrees to the sum that does."""
    state, now = view.state, datetime.now(UTC)
    agreed = state.max_cost if state.max_cost is not None else _consented(view)
    if agreed is None or not view.offer.bills:
        return None
    needed = state.could_cost(state.max_time_s + add_s, now + ANSWERED_IN).quantize(guard.CENT, ROUND_CEILING)
    if needed <= agreed:
        return None
    if not sys.stdin.isatty():
        raise LauncherError(
            "extend-refused",
            f"that could cost {shown(needed)} in all, and {shown(agreed)} was agreed to",
            exit=Exit.LIMIT,
            hint=f"extend {view.plan.run} --by {by} --max-cost {needed}",
            billed="the run goes on",
        )
    question = (
        f"{by} more could cost {shown(needed)} in all, and {shown(agreed)} was agreed to. Agree to that?"
    )
    click.confirm(question, abort=True, err=True)
    return needed


def _consented(view: RunView) -> Decimal | None:
    return view.plan.consent.max_cost if view.plan.consent is not None else None
