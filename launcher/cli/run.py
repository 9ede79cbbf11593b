"""run: plan, price, consent, then the run's engine, and a view of it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from launcher import driver, pushset
from launcher.ask import Decision
from launcher.cli import asking
from launcher.cli.asking import Dashed, after_dashes
from launcher.cli.ending import finish
from launcher.cli.follow import FINAL, Follower
from launcher.cli.here import home
from launcher.cli.live import Block, harmless
from launcher.cli.options import run_options
from launcher.cli.prog import prog
from launcher.cli.words import Words, line, typed
from launcher.codec import dump
from launcher.errors import Exit, usage
from launcher.files import Disk
from launcher.models import Choice, Consent, Plan, RuntimeKind, State
from launcher.report import documents
from launcher.report.view import RunView
from launcher.settings import Settings
from launcher.store import Home, RunFolder, Versions


@click.command("run", cls=Dashed)
@click.argument("trainer", required=False)
@run_options
def command(trainer: str | None, **params: object) -> None:
    """Train TRAINER (default: quickstart), or a project of your own: run --project DIR -- CMD.

    Without --on it runs on this machine and costs nothing.
    """
    begin(asking.resolve(params, trainer), Words(trainer, after_dashes(), typed(params)))


def begin(said: Settings, words: Words) -> None:
    """Decide, and either show the decision (a dry run) or carry it out."""
    from launcher.cli import show

    decision = asking.decide(said, words.trainer, words.command, for_run=not said.get("dry_run")).decision
    if not said.get("dry_run"):
        for warning in decision.warnings:
            show.warning(warning)
        carry_out(decision, said, words)
        return
    outlook = pushset.outlook(decision.plan.job)
    if said.get("json"):
        show.json(show.document(decision, outlook))
    else:
        show.plan(decision, outlook)


def carry_out(decision: Decision, said: Settings, words: Words) -> None:
    """From a decision to a run: consent, what has to be built, the plan on disk, the engine, the view."""
    if decision.paid and not said.get("yes") and not sys.stdin.isatty():
        ceiling = () if said.get("max_cost") is not None else ("--max-cost", "1")
        raise usage(
            "needs-yes",
            "a paid run without a terminal needs --yes and --max-cost",
            hint=line(words, "--yes", *ceiling),
        )
    plan = decision.require()
    as_json = bool(said.get("json"))
    _check_free(plan)
    driver.secret_values(plan.job.secrets, os.environ)  # a missing one is said now, not on a rented machine
    plan = replace(plan, consent=_consent(plan, decision, said))
    plan = _make_ready(plan, said)
    folder = write_plan(home(), plan, words)
    driver.spawn(folder, os.environ)
    view = RunView(folder)
    detach = bool(said.get("detach"))
    out = sys.stderr if as_json else sys.stdout
    follower = Follower(view, prog(), out, silent=detach, as_json=as_json)
    if detach:
        _detached(view, follower, as_json)
    state = follower.run()
    if follower.left:
        raise click.exceptions.Exit(Exit.VIEW_LEFT)
    finish(view, state, as_json=as_json, compare=_compare(decision), said=words)


def _check_free(plan: Plan) -> None:
    versions = Versions(Path(plan.project)).usable(to_write=True)
    if plan.version is None:
        return
    place = versions.version(plan.version)
    if place.exists():
        raise usage("version-taken", f"there is a version {plan.version!r} already: {place}", hint="models")


def _consent(plan: Plan, decision: Decision, said: Settings) -> Consent:
    """Nothing that bills is asked for without a yes to a plan that was shown, or --yes with a ceiling."""
    from launcher.cli import show

    now = datetime.now(UTC)
    outlook = pushset.outlook(plan.job)  # refused where it may not be read
    if not any(c.offer.bills for c in plan.choices):
        return Consent(Decimal(0), now, "free")
    ceiling = plan.limits.max_cost
    assert ceiling is not None
    if said.get("yes"):
        return Consent(ceiling, now, "yes")
    _show_before_asking(decision, outlook)
    click.confirm(show.question(decision), abort=True, err=True)
    return Consent(ceiling, datetime.now(UTC), "asked")


def _show_before_asking(decision: Decision, outlook: pushset.Outlook) -> None:
    """What would be tried, and nothing for comparison; stdout belongs to the run's own document."""
    from launcher.cli import show

    tried = replace(decision, plan=replace(decision.plan, refused=()), others=(), warnings=())
    with redirect_stdout(sys.stderr):
        show.plan(tried, outlook)


def _make_ready(plan: Plan, said: Settings) -> Plan:
    """An image that a chosen target runs in is built now: somebody asked for that target. A rented
    machine's image is its provider's to fetch."""
    unready = [c for c in plan.choices if not _is_ready(c)]
    if not unready:
        return plan
    from launcher import images, recipe, runtimes

    wish = said.get("image") or (recipe.load(plan.trainer, Path.cwd()).image if plan.trainer else None)
    job = runtimes.on_device(plan.job, unready[0].offer)
    image = runtimes.image_of(wish, job, Path.cwd(), os.environ)
    block = Block()
    try:
        if images.find(image.name) is None:
            images.build(
                image, lambda line: block.update([f"image: {harmless(line)}"], f"image: {harmless(line)}")
            )
    finally:
        block.clear()
    return plan


def _is_ready(choice: Choice) -> bool:
    return choice.offer.bills or choice.runtime.kind is not RuntimeKind.IMAGE


def write_plan(place: Home, plan: Plan, words: Words) -> RunFolder:
    """The run begins to exist: its folder, and a plan that is never rewritten. Of two that want one name,
    one gets it."""
    folder, files = place.run(plan.run), Disk()
    own = folder.root / f".plan.{os.getpid()}"
    try:
        files.make_folder(folder.root)  # by itself: only the last folder that is made is private
        files.make_folder(folder.requests)
        files.write(own, json.dumps(dump(plan), indent=1).encode())
        try:
            os.link(own, folder.plan)
        finally:
            own.unlink()
        files.write(folder.words, json.dumps(dump(words)).encode())
    except FileExistsError:
        raise usage(
            "run-name-taken", f"there is a run called '{plan.run}' already", hint=f"status {plan.run}"
        ) from None
    except OSError as e:
        if not folder.plan.exists():  # what has no plan is no run, and must not stay half
            with suppress(OSError):
                files.remove(folder.root)
        raise usage(
            "home-unwritable",
            f"the data folder {place.root} cannot be written: {e.strerror}",
            hint="doctor    after freeing space, or LAUNCHER_HOME=<a folder on another disk>",
        ) from e
    return folder


def _detached(view: RunView, follower: Follower, as_json: bool) -> None:
    """`-d` answers once the trainer has started, or once it is clear that it will not."""
    state = follower.run(until=lambda v, s: v.state.started_at is not None or s in FINAL)
    if follower.left:
        raise click.exceptions.Exit(Exit.VIEW_LEFT)
    if state in FINAL:
        finish(view, state, as_json=as_json)
    if as_json:
        print(json.dumps({**documents.run(view, datetime.now(UTC)), "state": State.RUNNING.value}))
    else:
        print(f"{view.plan.run} runs on {view.offer.target}\n{prog()} watch {view.plan.run}")
    raise click.exceptions.Exit(Exit.DONE)


def _compare(decision: Decision) -> Choice | None:
    """The card that people think of first, for the line that says what renting would cost."""
    rented = [c for c in decision.others if c.offer.bills]
    return next((c for c in rented if c.offer.gpu == "RTX 4090"), rented[0] if rented else None)
