"""From the words a person typed to a decision: what `run`, `plan` and `rerun` share before they part."""

from __future__ import annotations

import os
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

from launcher import planning, settings
from launcher.ask import Decision
from launcher.cli.here import home, project
from launcher.cli.options import flags
from launcher.providers import registry
from launcher.settings import Settings

AFTER_DASHES = "launcher.after-dashes"


class Dashed(click.Command):
    """Everything after `--` belongs to the trainer, whatever stands before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[AFTER_DASHES] = tuple(args[cut + 1 :])
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]"]


def after_dashes() -> tuple[str, ...]:
    words: tuple[str, ...] = click.get_current_context().meta[AFTER_DASHES]
    return words


def settle(params: Mapping[str, object]) -> Settings:
    return settings.resolve(
        flags(params), cwd=project(), environ=os.environ, user_file=settings.default_user_file()
    )


def decide(said: Settings, trainer: str | None, words: Sequence[str], *, for_run: bool) -> Decision:
    decision = planning.plan_for(said, trainer, words, _house(), for_run=for_run)
    for warning in decision.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return decision


def _house() -> planning.House:
    return planning.House(
        home=home(),
        cwd=project(),
        environ=os.environ,
        now=datetime.now(UTC),
        letters=lambda: "".join(secrets.choice(string.ascii_lowercase) for _ in range(4)),
        runnable=registry.names(),
        priced=registry.PRICED_ONLY,
        provider=registry.load,
    )
