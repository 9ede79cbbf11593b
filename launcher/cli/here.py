"""What nearly every command begins with: the data folder, the folder we stand in, the run that is meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from launcher.errors import LauncherError
from launcher.models import State
from launcher.report.view import RunView, find
from launcher.store import Home, open_home


def home() -> Home:
    return open_home(dict(os.environ))


def project() -> Path:
    return Path.cwd()


def the_run(name: str | None) -> RunView:
    return find(home(), name, project())


def the_shown_run(name: str | None) -> RunView:
    """Of a command that says itself how this run stands and goes on: of the others it is said as ever."""
    from launcher.cli.notice import notice

    try:
        view = the_run(name)
    except LauncherError:
        notice()
        raise
    notice(but=view.plan.run)
    return view


def ask_machine(view: RunView, now: datetime) -> None:
    """Of a run whose engine died, before its state is told; what could not be asked is said."""
    if view.shown(now) is not State.INTERRUPTED:
        return
    from launcher import lastlook

    if not lastlook.look(view, now):
        not_asked(view)


def not_asked(view: RunView) -> None:
    name, target = view.plan.run, view.offer.target
    print(f"warning: {name}: {target} could not be asked whether its results wait", file=sys.stderr)


def _complete(_c: click.Context, _p: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(n) for n in home().names() if n.startswith(begun)]


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """RUN: a name or a unique prefix; left out, the newest run of this project."""
    return click.argument("run", required=False, shell_complete=_complete)(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)
