"""`config`: every setting with its origin, the schema of profiles, and where settings are read from."""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path

import click

from launcher import profiles, settings


@click.group("config")
def command() -> None:
    """Show settings and where each one comes from."""


@command.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--profile", metavar="FILE", help="YAML file, or the name of a bundled profile.")
def show(origin: bool, as_json: bool, profile: str | None) -> None:
    """Every setting as the next command would see it from here."""
    held = settings.resolve(
        {"profile": profile},
        cwd=Path.cwd(),
        environ=os.environ,
        user_file=settings.default_user_file(),
    )
    for warning in held.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        lines = [{"name": one.name, "value": one.value, "origin": one.origin} for one in held.shown()]
        document = {"profile": held.profile, "files": list(held.files), "settings": lines}
        click.echo(jsonlib.dumps(document, ensure_ascii=False, indent=2))
        return
    _columns([(one.name, one.text, *([one.origin] if origin else [])) for one in held.shown()])


@command.command()
def schema() -> None:
    """JSON Schema of profiles, for editors."""
    click.echo(schema_text(), nl=False)


@command.command()
def path() -> None:
    """The files settings are read from, and the profiles that can be named."""
    cwd = Path.cwd()
    user_file = settings.default_user_file()
    _columns(
        [
            ("your settings", str(user_file), _there(user_file)),
            ("this folder", str(cwd / settings.PROJECT_FILE), _there(cwd / settings.PROJECT_FILE)),
            *((f"profile {name}", str(profiles.find(name, cwd)), "") for name in profiles.names(cwd)),
        ]
    )


def schema_text() -> str:
    """Exactly what profiles/schema.json holds."""
    return jsonlib.dumps(profiles.profile_schema(), ensure_ascii=False, indent=2) + "\n"


def _there(file: Path) -> str:
    return "" if os.path.isfile(file) else "(not there)"


def _columns(rows: list[tuple[str, ...]]) -> None:
    """Aligned, never cut, and the last column not padded."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())
