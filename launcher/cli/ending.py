"""How a command that showed a run leaves: the error page where something went wrong, then the card or the
document, and the status that scripts rely on.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from launcher import artifacts, guard, judging, runstate, telemetry
from launcher.cli import show
from launcher.cli.follow import Follower
from launcher.cli.live import harmless
from launcher.cli.prog import prog
from launcher.cli.words import Words, repeated
from launcher.errors import AuthRefused, BadOrder, Exit, KeyChanged, LauncherError, NoCapacity, QuotaReached
from launcher.files import Disk
from launcher.models import Choice, State
from launcher.providers import registry
from launcher.report import documents, lines, moving, versions
from launcher.report.view import RunView
from launcher.runstate import Halt
from launcher.store import Versions

LAST_LINES = 20
LAST_BYTES = 64 * 1024


def follow(
    view: RunView,
    *,
    as_json: bool,
    board: bool = False,
    until: Callable[[RunView, State], bool] | None = None,
) -> None:
    """Look until the run ends or the person leaves, then say how it stands. Raises the exit status; returns
    only where `until` ended the look."""
    out = sys.stderr if as_json else sys.stdout
    follower = Follower(view, prog(), out, board=board, as_json=as_json)
    state = follower.run(until)
    if follower.left:
        raise click.exceptions.Exit(Exit.VIEW_LEFT)
    if follower.met:
        return
    if state is State.INTERRUPTED:
        from launcher import lastlook

        lastlook.look(view, datetime.now(UTC))  # what it did meanwhile: it may sleep, with results
        state = view.shown(datetime.now(UTC))
    finish(view, state, as_json=as_json)


def finish(
    view: RunView,
    state: State,
    *,
    as_json: bool,
    compare: Choice | None = None,
    said: Words | None = None,
) -> None:
    now = datetime.now(UTC)
    fault = trouble(view, state)
    if fault is not None:
        print(file=sys.stderr)
        for line in last_lines(view) if fault.code == "trainer-failed" else ():
            print(f"  | {line}", file=sys.stderr)
        show.error(fault)
    if as_json:
        show.json(documents.run(view, now))
    else:
        print()
        show.card(f"{view.plan.run}: {state.value}", card(view, state, now), good=state is State.DONE)
        for line in elsewhere(view, compare, said) if state in (State.DONE, State.LIMIT) else ():
            print(line)
    raise click.exceptions.Exit(runstate.exit_status(view.state, state))


def card(view: RunView, state: State, now: datetime) -> list[tuple[str, str]]:
    """Time, the device really used, dollars, the version folder, and what may be done next."""
    seconds, manifest = view.seconds(now), documents.manifest(view)
    untimed = lines.untimed(view, "the trainer did not start")
    took = lines.duration(seconds) if seconds is not None else untimed
    device = lines.device_used(manifest.get("device"))
    metrics = [f"{k} {v:.4g}" for k, v in versions.metrics(manifest).items()]
    rows = [
        ("time", took),
        ("device", f"{device} on {view.offer.target}" if device else ""),
        ("cost", lines.money(view.usd(now))),
        ("billed", lines.billed(view) or ""),
        ("metrics", " · ".join(metrics)),
        ("results", _short(Path(view.state.version_path)) if view.state.version_path else ""),
        ("latest", _latest(view) if state is State.DONE else ""),
        ("came home", _before_the_end(view, state)),
        ("rescued", _rescued(view)),
        ("left out", harmless(", ".join(manifest.get("left_out") or ()))[:200]),
        ("advice", _advice(view, device) or ""),
        ("go on", f"{prog()} {_next(view, state)}" if state is State.STOPPED and _next(view, state) else ""),
    ]
    return [(name, text) for name, text in rows if text]


def _latest(view: RunView) -> str:
    """Where a version that did not beat the current one left it."""
    if view.state.version_path is None or view.state.version is None:
        return ""
    place = Versions(Path(view.state.version_path).parents[1])
    champion = artifacts.latest(Disk(), place)
    if champion is None or champion == view.state.version:
        return ""
    duel = judging.duel(documents.manifest(view), artifacts.read_manifest(Disk(), place, champion))
    beaten = duel.verdict is judging.Verdict.NOT_BETTER
    return f"stays {champion}: {', '.join(duel.lines)}" if beaten else ""


def _before_the_end(view: RunView, state: State) -> str:
    """A machine that was lost took its results along, but for what had come home by then."""
    lost = state is State.FAILED and view.state.version is None and view.state.sealed is None
    found = moving.arrived(view) if lost else None
    return f"{found.words} in {_short(found.folder)} (no version: the rest was lost)" if found else ""


def _rescued(view: RunView) -> str:
    """Of machines whose agent was killed: it is there to be looked at, whatever became of the run."""
    places = [a.rescued_to for a in view.state.attempts if a.rescued_to is not None]
    return ", ".join(_short(Path(place)) for place in places) + " (no version)" if places else ""


def _short(path: Path) -> str:
    try:
        return f"{path.relative_to(Path.cwd())}/"
    except ValueError:
        return f"{path}/"


# --- what went wrong -----------------------------------------------------------------------------


def trouble(view: RunView, state: State) -> LauncherError | None:
    """One sentence with the values under a permanent code; None where the end is what was wanted."""
    told = _told(view, state)
    if told is None:
        return None
    code, sentence = told
    refused = view.state.sealed.refused if view.state.sealed is not None else None
    details = (refused,) if refused and refused not in sentence else ()
    if state is State.FAILED and view.state.sealed is None:
        details = (*details, *lines.other_refusals(view))
    check = _check(view)
    if view.state.halted is not None and view.state.halted.exit == Exit.KEYS:
        details = (*details, "It wants another key first: doctor says how.")
    if view.state.halted is not None and check is not None:
        details = (*details, f"Then: {prog()} resume {view.plan.run}")
    if code in ("quota-reached", "account-refused") and view.state.checkpoints:
        again = f"{prog()} resume {view.plan.run}"
        details = (*details, f"Once that is mended, {again} goes on from its newest checkpoint.")
    return LauncherError(
        code,
        sentence,
        exit=runstate.exit_status(view.state, state),
        details=details,
        hint=check or _next(view, state) or _instead(view, code),
        billed=_billed(view),
    )


def _told(view: RunView, state: State) -> tuple[str, str] | None:
    sealed, label, halted = view.state.sealed, view.plan.label, view.state.halted
    if halted is not None and state in (State.INTERRUPTED, State.WAITING):
        return halted.code, _halted(view, halted)
    if state is State.FAILED and sealed is not None:
        return _failed(view, sealed)
    if state is State.FAILED and _stranger(view):
        return "host-key-changed", view.why() or "who answers there is not who was known"
    if state is State.FAILED and (account := _account(view)) is not None:
        return account
    if state is State.FAILED:
        return "run-failed", view.why() or "the run failed, and nothing was said"
    if state is State.LIMIT:
        why = sealed.why if sealed is not None else "deadline"
        return "limit-reached", f"{label} was ended by its limit ({_limit(view, why)})"
    if state is State.MAYBE_BILLING:
        again = halted.why if halted is not None else "it is asked for again and again"
        if lines.is_unknown(view):
            return (
                "machine-unknown",
                f"a machine was asked for, and whether it was made is not known; {again}",
            )
        return "maybe-billing", f"an end was asked for and is not confirmed yet; {again}"
    if state is State.WAITING:
        return "results-wait", view.why() or "the results were not fetched yet"
    if state is State.INTERRUPTED:
        return "engine-died", "the run's engine is gone; its machine ends itself at its deadline"
    if state is State.PLANNED:
        return "engine-missing", f"the run's engine did not start; its words are in {view.folder.engine_log}"
    return None


def _halted(view: RunView, halted: Halt) -> str:
    """What the host does meanwhile; that it was not asked is why nobody knows."""
    a, now = view.live, datetime.now(UTC)
    if a is None:
        return halted.why
    told = f"ends it by {lines.clock(a.d, now)}" if now < a.d else f"was to end it by {lines.clock(a.d, now)}"
    return f"{halted.why}; what runs there goes on unseen, and its own guard {told}"


def _instead(view: RunView, code: str) -> str:
    """What to look at, or to try; where no machine was ever had there are no logs."""
    name, attempts = view.plan.run, view.state.attempts
    if code in ("account-refused", "quota-reached"):
        return "doctor"
    if code == "run-failed" and attempts and all(a.fault == NoCapacity.__name__ for a in attempts):
        own = not any(view.plan.choices[a.choice].offer.bills for a in attempts)  # another model is not there
        return "host check --all" if own else f"rerun {name} --gpu any-24gb"
    if code == "run-failed" and attempts and all(a.fault == BadOrder.__name__ for a in attempts):
        return f"rerun {name}    with what was refused said anew"
    if code == "run-failed" and attempts and all(a.instance is None for a in attempts):
        return f"rerun {name}"
    if code == "run-failed" and attempts and attempts[-1].fault == runstate.USERS:
        return f"resume {name}    once it is there"
    return f"logs {name}"


def _account(view: RunView) -> tuple[str, str] | None:
    """No offer was at fault: the account itself may not rent."""
    a = view.attempt
    if a is None or not a.everywhere or a.over is None:
        return None
    if a.fault == AuthRefused.__name__:
        return "account-refused", a.over
    if a.fault == QuotaReached.__name__:
        return "quota-reached", a.over
    return None


def _stranger(view: RunView) -> bool:
    return bool(view.state.attempts) and view.state.attempts[-1].fault == KeyChanged.__name__


def _check(view: RunView) -> str | None:
    """Nothing goes on before a person has looked at the host."""
    name, halted = view.offer.target.partition(":")[2], view.state.halted is not None
    return (
        f"host check {name}" if name and (halted or (_stranger(view) and view.state.sealed is None)) else None
    )


def _failed(view: RunView, sealed: runstate.Sealed) -> tuple[str, str]:
    label = view.plan.label
    if sealed.refused is not None:
        return "trainer-refused", f"{label} was not started: {sealed.refused}"
    if sealed.signal is not None:
        return "trainer-failed", f"{label} was ended by {_signal(sealed.signal)}"
    if sealed.exit_code == 0:
        return "no-output", f"{label} ended with status 0 but left nothing in {view.plan.job.output}"
    return "trainer-failed", f"{label} ended with status {sealed.exit_code}"


def _signal(number: int) -> str:
    import signal

    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _limit(view: RunView, why: str | None) -> str:
    from launcher.values import written_duration

    limits = view.plan.limits
    if why == "idle" and limits.idle_s is not None:
        return f"idle for {written_duration(limits.idle_s)}"
    return f"--max-time {written_duration(view.state.max_time_s)}" if why == "limit" else str(why)


def _billed(view: RunView) -> str:
    a, kept = view.attempt, lines.storage(view)
    if a is not None and kept is not None:
        return f"{lines.money(kept)}/day of storage for {a.instance}, which is stopped, until it is fetched"
    if a is None or not a.open or not view.offer.bills:
        return "nothing"
    rate, now = f"{lines.money(a.usd_per_hour)}/h", datetime.now(UTC)
    if a.instance is None:
        until = guard.ends_unmet(a.asked_at, view.plan.limits, a.d)
        return f"perhaps a machine at {rate}, whose own guard ends it by {lines.clock(until, now)}"
    return f"{a.instance} at {rate} until {lines.clock(a.d, now)}"


def last_lines(view: RunView) -> list[str]:
    """What the trainer printed last stands above the error."""
    a = view.attempt
    if a is None:
        return []
    try:
        with view.folder.attempt(a.n).log.open("rb") as f:
            f.seek(max(0, f.seek(0, 2) - LAST_BYTES))
            data = f.read()
    except FileNotFoundError:
        return []
    return [harmless(line) for line in data.decode("utf-8", "replace").splitlines()[-LAST_LINES:]]


# --- what next -----------------------------------------------------------------------------------


def _advice(view: RunView, device: object) -> str | None:
    a = view.attempt
    if a is None:
        return None
    used = device.get("used") if isinstance(device, dict) else None
    return telemetry.advice(telemetry.every(view.folder.attempt(a.n).telemetry), used)


def _next(view: RunView, state: State) -> str | None:
    name = view.plan.run
    if state is State.WAITING:
        return f"pull {name}"
    if state in (State.INTERRUPTED, State.MAYBE_BILLING, State.PLANNED):
        return f"resume {name}"
    return f"resume {name}" if state in (State.STOPPED, State.LIMIT) and view.state.checkpoints else None


def _computes_on_cpu(trainer: str) -> bool:
    """One whose image knows no GPU would refuse to leave a rented one idle."""
    from launcher import images, recipe

    try:
        return recipe.load(trainer, Path.cwd()).image == images.DEFAULT
    except LauncherError:  # it is not here any more
        return False


def elsewhere(view: RunView, compare: Choice | None, said: Words | None) -> list[str]:
    """The exact line and price range for the same on a rented card."""
    if compare is None or view.plan.trainer is None:
        return []
    offer, usd = compare.offer, compare.estimate.usd
    as_of = f", price of {offer.price_as_of:%Y-%m}" if offer.price_as_of else ""
    low, high = (lines.money(max(Decimal("0.01"), x)) for x in (usd.low, usd.high))
    costs = f"{low} to {high}" if compare.estimate.known else f"at most {high}"
    words = ["run", view.plan.trainer, "--on", offer.target, "--gpu", offer.gpu or "any"]
    words += ["--allow-cpu"] if _computes_on_cpu(view.plan.trainer) else []
    words += repeated(said) if said is not None else []
    words += ["--", *said.command] if said is not None and said.command else []
    priced = offer.provider in registry.PRICED_ONLY
    later = "   (prices only: this build cannot rent there yet)" if priced else ""
    return [
        "",
        f"  the same on a rented {offer.gpu}: {costs} ({offer.price_source}{as_of})",
        f"    {prog()} {shlex.join(words)}{later}",
    ]
