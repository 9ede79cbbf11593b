"""What `run`, `plan` and `rerun` begin with: the words as typed become settings and a decision.

It must not know what a setting means, nor how anything is rented.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.ask import Decision
from launcher.cli.options import flags, grouped, valued
from launcher.settings import Settings
from launcher.store import Home

if TYPE_CHECKING:
    from launcher.targets import House

AFTER_DASHES = "launcher.after-dashes"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Dashed(click.Command):
    """A command whose words after the first `--` belong to somebody else and are never read as its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[AFTER_DASHES] = tuple(args[at + 1 :])
        return super().parse_args(ctx, valued(args[:at]))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped(ctx, formatter)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS or CMD]"]


@dataclass(frozen=True)
class Asked:
    settings: Settings
    decision: Decision
    home: Home


def after_dashes() -> tuple[str, ...]:
    """What stood after `--` in the command that is being carried out."""
    words: tuple[str, ...] = click.get_current_context().meta[AFTER_DASHES]
    return words


def resolve(params: Mapping[str, object], trainer: str | None) -> Settings:
    """The settings of a run of this trainer; None where the command line names none."""
    from functools import partial

    from launcher import meanings, settings

    return settings.resolve(
        flags(params),
        cwd=Path.cwd(),
        environ=os.environ,
        user_file=settings.default_user_file(),
        judge=partial(meanings.strange, _house(), trainer),
    )


def decide(
    settings: Settings,
    trainer: str | None,
    words: Sequence[str],
    *,
    for_run: bool,
    now: datetime | None = None,
) -> Asked:
    """The decision for these words, in this folder, now."""
    from launcher import planning

    _settle_hosts(settings)
    house = _house(now)
    decision = planning.plan_for(settings, trainer, words, house, for_run=for_run)
    return Asked(settings, decision, house.home)


def _settle_hosts(settings: Settings) -> None:
    from launcher.providers import registry
    from launcher.store import open_home

    if wishes := settings.get("hosts"):
        registry.settle(open_home(dict(os.environ)), wishes, lambda name: settings.origin(f"hosts.{name}"))


def _house(now: datetime | None = None) -> House:
    import secrets

    from launcher.providers import registry
    from launcher.store import open_home
    from launcher.targets import House

    home = open_home(dict(os.environ))
    return House(
        home=home,
        cwd=Path.cwd(),
        environ=os.environ,
        now=now or datetime.now(UTC),
        letters=lambda: "".join(secrets.choice(LETTERS) for _ in range(4)),
        runnable=registry.targets(home),
        priced=registry.PRICED_ONLY,
        provider=lambda name: registry.load(name, home),
        meant=lambda word: registry.meant(word, home) if ":" in word and registry.is_place(word) else None,
        named=tuple(f"{kind}:NAME" for kind in registry.PLACED),
    )
