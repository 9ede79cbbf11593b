"""plan: what `run` with the same words would do, beside what else there is. Spends and asks nothing."""

from __future__ import annotations

from typing import Any

import click

from launcher.cli.asking import Dashed, after_dashes, decide, resolve
from launcher.cli.options import run_options


@click.command("plan", cls=Dashed)
@click.argument("trainer", required=False)
@run_options
def command(trainer: str | None, **params: Any) -> None:
    """What `run` with the same words would do: where, how long, how much. Needs no key and no network."""
    from launcher import pushset
    from launcher.cli import show

    settings = resolve(params, trainer)
    decision = decide(settings, trainer, after_dashes(), for_run=False).decision
    outlook = pushset.outlook(decision.plan.job)
    if settings.get("json"):
        show.json(show.document(decision, outlook))
    else:
        show.plan(decision, outlook)
