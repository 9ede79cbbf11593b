"""What the checks share: one generated table, small settings, and what is raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from trainers.stacking import generator
from trainers.stacking.settings import Settings
from trainers.stacking.table import Array, Schema, Table, Unusable, read

MADE = generator.made(1200, 3)
SMALL = Settings(folds=3, rounds=25, trees=20, early_stop=10, seed=5)


def of(values: Array | None) -> Array:
    """Times or groups that are surely there."""
    assert values is not None
    return values


def whole(settings: Settings = SMALL) -> Table:
    return read(MADE.arrow(), generator.SCHEMA, settings.tasks)


def full() -> Table:
    """Without missing values, as the peers of the ridge want it."""
    given = whole()
    return replace(given, rows=np.nan_to_num(given.rows))


def raised(kind: type[Exception], call: Callable[[], Any]) -> str:
    try:
        call()
    except kind as wrong:
        return str(wrong)
    raise AssertionError(f"no {kind.__name__} was raised")


def refused(given: Any, schema: Schema = generator.SCHEMA, tasks: tuple[str, ...] = ("classifier",)) -> str:
    return raised(Unusable, lambda: read(given, schema, tasks))


def never() -> None: ...
