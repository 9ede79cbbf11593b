"""rerun: the same words again as a new run; what is typed now wins over what was typed then."""

from __future__ import annotations

import json
import os

import click

from launcher.cli import asking
from launcher.cli.asking import Dashed, after_dashes
from launcher.cli.here import the_run
from launcher.cli.options import run_options
from launcher.cli.run import begin
from launcher.cli.words import Words, typed
from launcher.codec import load
from launcher.errors import usage

ONCE = ("name", "version", "json", "detach", "yes", "dry_run")  # of one run, not of the next


@click.command("rerun", cls=Dashed)
@click.argument("run", required=False)
@run_options
def command(run: str | None, **params: object) -> None:
    """RUN's words again, as a new run: same trainer, arguments and settings, other flags where given."""
    view = the_run(run)
    try:
        words = load(Words, json.loads(view.folder.words.read_bytes()))
        os.chdir(words.cwd)
    except (OSError, ValueError, TypeError) as e:
        raise usage(
            "cannot-rerun", f"what {view.plan.run} was started with is not known any more: {e}"
        ) from e
    kept = {name: value for name, value in words.flags.items() if name not in ONCE}
    flags = {**kept, **typed(params)}
    named = {name: tuple(v) if isinstance(v, list) else v for name, v in flags.items()}
    said = asking.resolve(named, words.trainer)
    begin(said, Words(words.trainer, after_dashes() or words.command, flags))
