"""How a command that showed a run leaves: the card or the document, and the status scripts rely on."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from launcher import runstate, telemetry
from launcher.cli.follow import Follower
from launcher.cli.live import harmless
from launcher.cli.prog import prog
from launcher.errors import Exit
from launcher.models import Choice, Json, State
from launcher.report import documents, lines
from launcher.report.view import RunView

LAST_LINES = 20


def follow(view: RunView, *, as_json: bool, board: bool = False) -> None:
    """Look until the run ends or the person leaves, then say how it stands. Raises the exit status."""
    follower = Follower(view, prog(), sys.stderr if as_json else sys.stdout, board=board)
    state = follower.run()
    if follower.left:
        raise click.exceptions.Exit(Exit.VIEW_LEFT)
    finish(view, state, as_json=as_json)


def finish(view: RunView, state: State, *, as_json: bool, compare: Choice | None = None) -> None:
    now = datetime.now(UTC)
    if as_json:
        print(json.dumps(documents.run(view, now)))
    else:
        for line in card(view, state, now, compare):
            print(line, file=sys.stdout if state is State.DONE else sys.stderr)
    raise click.exceptions.Exit(runstate.exit_status(view.state, state))


def card(view: RunView, state: State, now: datetime, compare: Choice | None) -> list[str]:
    """Time, device really used, dollars, the folder; what went wrong; what to do next."""
    seconds = view.seconds(now)
    manifest = documents.manifest(view)
    metrics = manifest.get("metrics") or {}
    rows = [
        ("run", f"{view.plan.run}  {state.value}"),
        ("time", lines.duration(seconds) if seconds is not None else "the trainer did not start"),
        ("device", f"{device_words(manifest.get('device'))} on {view.offer.target}"),
        ("cost", lines.money(view.usd(now))),
    ]
    if metrics:
        rows.append(
            ("metrics", " · ".join(f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float | int)))
        )
    if view.state.version_path is not None:
        rows.append(("results", _short(Path(view.state.version_path))))
    said = [f"  {name:<8} {text}" for name, text in rows]
    return [
        "",
        *_trouble(view, state),
        *said,
        *_advice(view, manifest),
        *_next(view, state),
        *_elsewhere(view, compare),
    ]


def device_words(device: object) -> str:
    """The trainer's own word for what it really used."""
    if not isinstance(device, dict):
        return str(device) if device else "not said by the trainer"
    used, name = device.get("used"), device.get("name")
    return f"{used} ({name})" if name and name != used else str(used)


def _short(path: Path) -> str:
    try:
        return f"{path.relative_to(Path.cwd())}/"
    except ValueError:
        return f"{path}/"


def _trouble(view: RunView, state: State) -> list[str]:
    """After a failed trainer its last lines stand above; then one sentence with the values."""
    if state is State.DONE:
        return []
    told = []
    sealed = view.state.sealed
    if state is State.FAILED and sealed is not None:
        told += [f"  | {line}" for line in _last_lines(view)]
        how = f"signal {sealed.signal}" if sealed.signal else f"status {sealed.exit_code}"
        if sealed.exit_code == 0:
            how = f"status 0 but left nothing in {view.plan.job.output}"
        told.append(f"error: trainer-failed\n  {view.plan.label} ended with {how}")
    elif state is State.LIMIT and sealed is not None:
        told.append(f"error: limit-reached\n  {view.plan.label} was ended by its limit ({sealed.why})")
    elif state is State.FAILED:
        told.append(f"error: run-failed\n  {view.why() or 'nothing was said'}")
    elif state is State.MAYBE_BILLING:
        told.append(
            "error: maybe-billing\n"
            "  an end was asked for and is not confirmed yet; it is asked again and again"
        )
    elif state is State.WAITING:
        told.append(f"error: results-wait\n  {view.why() or 'the results were not fetched yet'}")
    elif state is State.INTERRUPTED:
        told.append("error: engine-died\n  the run's engine is gone; its machine ends itself at its deadline")
    if view.state.sealed is not None and view.state.sealed.refused is not None:
        told.append(f"  {view.state.sealed.refused}")
    return [*told, f"  still billed: {_billed(view, state)}", "  more: docs/errors.md"] if told else []


def _billed(view: RunView, state: State) -> str:
    a = view.attempt
    if a is None or not a.open or not view.offer.bills:
        return "nothing"
    return f"{a.instance} at {lines.money(a.usd_per_hour)}/h until {lines.clock(a.d)}"


def _last_lines(view: RunView) -> list[str]:
    a = view.attempt
    if a is None:
        return []
    try:
        data = view.folder.attempt(a.n).log.read_bytes()[-64 * 1024 :]
    except FileNotFoundError:
        return []
    return [harmless(line) for line in data.decode("utf-8", "replace").splitlines()[-LAST_LINES:]]


def _advice(view: RunView, manifest: Json) -> list[str]:
    a = view.attempt
    if a is None:
        return []
    line = telemetry.advice(telemetry.every(view.folder.attempt(a.n).telemetry), manifest.get("device"))
    return [f"  advice   {line}"] if line else []


def _next(view: RunView, state: State) -> list[str]:
    name = view.plan.run
    if state is State.WAITING:
        return [f"  fetch:   {prog()} pull {name}"]
    if state is State.INTERRUPTED or (state in (State.STOPPED, State.LIMIT) and view.state.checkpoints):
        return [f"  go on:   {prog()} resume {name}"]
    return []


def _elsewhere(view: RunView, compare: Choice | None) -> list[str]:
    """The exact line and price range for the same on a rented card."""
    if compare is None or view.plan.trainer is None:
        return []
    offer, usd = compare.offer, compare.estimate.usd
    as_of = f", price of {offer.price_as_of:%Y-%m}" if offer.price_as_of else ""
    low, high = (lines.money(max(Decimal("0.01"), x)) for x in (usd.low, usd.high))
    return [
        "",
        f"  the same on a rented {offer.gpu}: {low} to {high} ({offer.price_source}{as_of})",
        f'    {prog()} run {view.plan.trainer} --on {offer.target} --gpu "{offer.gpu}"',
    ]
