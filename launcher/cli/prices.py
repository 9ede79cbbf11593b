"""prices: what the price list knows of each target and since when; `refresh` asks a target for today's."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from launcher import catalogue, pricing
from launcher.cli import show
from launcher.cli.here import home, json_option
from launcher.errors import ProviderError, usage
from launcher.guard import MILL, usd
from launcher.pricing import Known


@click.group("prices", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """What the price list knows of each target, from where and how old. Asks nobody."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


def _list(as_json: bool) -> None:
    now = datetime.now(UTC)
    book = catalogue.load(home().prices)
    for warning in book.warnings:
        show.warning(warning)
    found = pricing.known(book)
    if as_json:
        show.json([asdict(one) for one in found])
        return
    show.table(("on", "prices", "from", "of", "age"), [_row(one, now) for one in found])


def _row(one: Known, now: datetime) -> tuple[str, ...]:
    age = catalogue.age_words(one.as_of, now) or "new"
    return (one.target, str(one.prices), one.source, f"{one.as_of:%Y-%m-%d}", age)


@command.command("refresh")
@click.argument("target")
@json_option
def refresh(target: str, as_json: bool) -> None:
    """Ask TARGET for today's prices and keep them for plans without a key or a network."""
    from launcher import targets
    from launcher.providers import registry

    if target in registry.PRICED_ONLY:
        raise usage("no-price-list", f"this build cannot ask {target} for prices", hint="prices")
    now = datetime.now(UTC)
    place = home()
    provider = registry.load(target, place)
    try:
        fresh = pricing.refresh(place, provider, now)
    except ProviderError as why:
        raise targets.refused(target, why) from why
    except ImportError as why:
        raise targets.lacks_package(target, why) from why
    except OSError as why:
        what = f"the price list {place.prices} cannot be written: {why.strerror}"
        raise usage("home-unwritable", what, hint="doctor") from why
    if as_json:
        show.json([{"gpu": one.gpu, "usd_per_hour": one.usd_per_hour, "as_of": one.as_of} for one in fresh])
        return
    show.table(("GPU", "$ per hour"), [(one.gpu, usd(one.usd_per_hour, MILL)) for one in fresh])
    print(f"{len(fresh)} prices of {target}, kept in {place.prices}")
