"""resume: go on after a dead engine or machine, by the same loop that began the run."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from launcher import driver
from launcher.cli.ending import follow
from launcher.cli.here import json_option, run_argument, the_shown_run
from launcher.cli.stop import ask_engine
from launcher.models import State
from launcher.report.view import RunView


@click.command("resume")
@run_argument
@json_option
def command(run: str | None, as_json: bool) -> None:
    """Go on where the run stands. A run whose engine lives is just shown."""
    view = the_shown_run(run)
    state = view.shown(datetime.now(UTC))
    if view.engine_alive or state is State.DONE:
        pass  # nothing to do but look
    elif view.state.ended is not None:
        _has_secrets(view)
        ask_engine(view, "resume")
    elif view.state.pull_failed is not None:
        ask_engine(view, "pull")
    else:
        if view.attempt is None or view.attempt.started_at is None:
            _has_secrets(view)
        driver.spawn(view.folder, os.environ)
        _wait_for_engine(view.state.engines, view)
    follow(view, as_json=as_json)


def _has_secrets(view: RunView) -> None:
    """A trainer will be started: what it needs and this terminal lacks is said before a machine is rented."""
    driver.secret_values(view.plan.job.secrets, os.environ)


def _wait_for_engine(before: int, view: RunView) -> None:
    """The view must not mistake the dead engine's state for the new one's."""
    import time

    end = time.monotonic() + 10
    while view.state.engines == before and time.monotonic() < end:
        time.sleep(0.02)  # it says that it is there by a line in the journal, which nothing announces
        view.refresh()
