"""stop: checkpoint, fetch, end. Works with or without a living engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import click

from launcher import driver
from launcher.attempt import UNHEARD
from launcher.cli import requests
from launcher.cli.ending import follow
from launcher.cli.follow import FINAL
from launcher.cli.here import home, json_option, run_argument, the_run
from launcher.cli.prog import prog
from launcher.codec import parse_iso
from launcher.errors import Exit, LauncherError, ProviderError, usage
from launcher.models import State
from launcher.providers import registry
from launcher.report.lines import clock
from launcher.report.view import RunView

UNHEARD_S = 10.0  # a host that was not heard for so long does not take up a stop


@click.command("stop")
@run_argument
@click.option("--now", is_flag=True, help="Do not fetch: what the machine still holds is given up.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask when RUN was left out.")
@json_option
def command(run: str | None, now: bool, yes: bool, as_json: bool) -> None:
    """End a run: checkpoint, fetch what it made, end the machine, prove it."""
    view = the_run(run)
    if view.shown(datetime.now(UTC)) in FINAL:
        print(f"{view.plan.run} has already ended", file=sys.stderr)
    else:
        if run is None and not yes:
            _ask(view)
        if now and (view.state.wants_pull or view.shown(datetime.now(UTC)) is State.WAITING):
            print(f"{view.plan.run}: its waiting results are thrown away", file=sys.stderr)
        try:
            ask_engine(view, "stop", now=now)
        except LauncherError as e:
            raise past_it(view, e, at_once=now) from None
    follow_to_end(view, as_json=as_json, until=_goes_unheard(datetime.now(UTC)))
    raise _unconfirmed(view, now)


def _goes_unheard(asked: datetime) -> Callable[[RunView, State], bool]:
    """A machine of the user's own does not answer: its engine goes on asking, a person need not wait for it.
    What bills is told by its own state."""

    def unheard(view: RunView, _: State) -> bool:
        a, now = view.attempt, datetime.now(UTC)
        if a is None or not a.open or a.access is None or a.access.host_key != "known":
            return False
        if (now - asked).total_seconds() < UNHEARD_S:
            return False  # an engine that was only begun for it may be about to be heard
        heard = view.unheard_s(now)
        if a.end_asked_at is not None:  # what is large takes a while to be removed: that is no silence
            return a.noticed == UNHEARD and (heard is None or heard >= UNHEARD_S)
        return heard is not None and heard >= UNHEARD_S

    return unheard


def _unconfirmed(view: RunView, at_once: bool) -> LauncherError:
    a, now, target = view.attempt, datetime.now(UTC), view.offer.target
    end = "its deadline"
    if a is not None:
        end = clock(a.d, now) if now < a.d else f"{clock(a.d, now)}, which is over"
    then = "is ended" if at_once else "is stopped and what it made comes home"
    return LauncherError(
        "end-unconfirmed",
        f"{target} does not answer, so nobody can say that {view.plan.run} has ended; its own guard ends it "
        f"there by {end}",
        exit=Exit.MAYBE_BILLING,
        details=(f"The run's engine goes on asking here: once {target} answers, the run {then}.",),
        hint=f"status {view.plan.run}",
        billed="nothing: it is a machine of your own",
    )


def _ask(view: RunView) -> None:
    if not sys.stdin.isatty():
        raise usage(
            "which-run", f"which run? the newest here is {view.plan.run}", hint=f"stop {view.plan.run}"
        )
    click.confirm(f"stop {view.plan.run}?", abort=True, err=True)


def ask_engine(view: RunView, verb: str, **data: object) -> str:
    """The living engine answers within a second; where none lives, one is started and does it."""
    id = requests.write(view.folder, verb, **data)
    if requests.answered(view, id, lambda: driver.spawn(view.folder, os.environ)):
        return view.answers[id]
    owner, now = driver.holder(view.folder), datetime.now(UTC)
    who = f"process {owner.pid} (since {clock(parse_iso(owner.since), now)})" if owner else "another process"
    mend = f"kill {owner.pid}, then: " if owner else ""
    raise LauncherError(
        "engine-silent",
        f"{who} drives {view.plan.run} and has not answered for {requests.ANSWER_S:.0f} s",
        exit=Exit.PROVIDER,
        details=(f"If it hangs: {mend}{prog()} resume {view.plan.run}",),
        hint=f"status {view.plan.run}",
        billed=f"its machine ends itself by {clock(view.attempt.d, now)}" if view.attempt else "nothing",
    )


def past_it(view: RunView, silent: LauncherError, *, at_once: bool) -> LauncherError:
    """A process that hangs must not keep a meter running: where what the machine holds is given up, the
    provider itself is asked. Whoever comes back to that run finds the stop, which stays asked for."""
    a = view.attempt
    if a is None or not (a.open and view.offer.bills):
        return silent
    silent.exit = Exit.MAYBE_BILLING
    if a.instance is not None:
        other = f"{prog()} stop --now {view.plan.run} asks {view.offer.target} itself"
        told = _asked_itself(view, a.instance) if at_once else f"{other}, and gives up what is there"
        silent.details = (told, *silent.details)
    return silent


def _asked_itself(view: RunView, instance: str) -> str:
    target = view.offer.target
    try:
        registry.load(view.offer.provider, home()).terminate(instance)
    except ProviderError as e:
        return f"{target} itself was asked to end {instance}, in vain: {e.reason}"
    return f"{target} itself was asked to end {instance}; `doctor` tells whether it is still there"


def follow_to_end(
    view: RunView, *, as_json: bool, until: Callable[[RunView, State], bool] | None = None
) -> None:
    """Like the view of `run`, but an end that was asked for is a success. Returns where `until` ended it."""
    try:
        follow(view, as_json=as_json, until=until)
    except click.exceptions.Exit as e:
        raise click.exceptions.Exit(
            Exit.DONE if e.exit_code in (Exit.LIMIT, Exit.TRAINER) else e.exit_code
        ) from None
