"""Where a training's tables are: what the command line names, else what the run brought, else generated."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from trainers.kit.session import Place
from trainers.stacking import generator
from trainers.stacking.settings import Settings
from trainers.stacking.table import Schema, Unusable, read_schema
from trainers.stacking.train import Order

ENDINGS = ("", ".parquet", ".csv")


def order(flags: Namespace, settings: Settings, place: Place) -> Order:
    settings = replace(settings, seed=place.seed)
    data = Path(flags.data) if flags.data else _brought(place, "table")
    if data is None and place.input is not None:
        data = _alone(place.input)
    written = Path(flags.schema) if flags.schema else _brought(place, "schema", (".json", ""))
    schema = read_schema(written) if written else Schema()
    if flags.target:
        schema = replace(schema, targets={**schema.targets, flags.task: flags.target})
    schema = replace(schema, time=flags.time or schema.time, group=flags.group or schema.group)
    holdout = Path(flags.holdout_data) if flags.holdout_data else _brought(place, "holdout")
    if data is not None:
        return Order(settings, data, schema, holdout)
    columns = generator.made(flags.rows, generator.SEED).arrow()
    return Order(settings, columns, replace(generator.SCHEMA, targets=schema.targets), holdout)


def _brought(place: Place, name: str, endings: tuple[str, ...] = ENDINGS) -> Path | None:
    """`--input table=FILE` comes under that name, with or without the file's ending."""
    if place.input is None or place.input.is_file():
        return None
    return next((path for end in endings if (path := place.input / f"{name}{end}").is_file()), None)


def _alone(folder: Path) -> Path | None:
    """`--input FILE` without a name. A run that was given nothing names a folder that is not there."""
    if folder.is_file():
        return folder
    if not folder.is_dir():
        return None
    found = [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".parquet")]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise Unusable(f"{folder} holds {len(found)} tables ({names}): bring one with --input table=FILE")
    return found[0] if found else None
