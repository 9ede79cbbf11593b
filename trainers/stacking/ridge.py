"""Ridge regression for every fold from sums: each fold's Gram matrix is made once, and what a fold learns
from is the sum of others. A class is learned as -1 and 1, which is what a ridge classifier is.

Features are centred and scaled by all rows that are learned from (their values, never their targets); a
missing value is the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.stacking.folds import Folds
from trainers.stacking.rows import answers
from trainers.stacking.table import Array

ALPHA = 1.0
AT_ONCE = 8192  # rows: the table in double precision is never held whole
FORMAT = "stacking-ridge-1"


@dataclass(frozen=True)
class Ridge:
    mean: Array
    scale: Array
    slope: Array
    base: float

    def scores(self, rows: Array) -> Array:
        given = np.empty(len(rows))
        for begin in range(0, len(rows), AT_ONCE):
            some = slice(begin, begin + AT_ONCE)
            given[some] = standard(rows[some], self.mean, self.scale) @ self.slope + self.base
        return given

    def as_json(self) -> dict[str, Any]:
        lists = {name: getattr(self, name).tolist() for name in ("mean", "scale", "slope")}
        return {"format": FORMAT, **lists, "base": self.base}


def load(held: dict[str, Any]) -> Ridge:
    if held.get("format") != FORMAT:
        raise ValueError(f"this is no {FORMAT}")
    mean, scale, slope = (np.array(held[name], dtype=np.float64) for name in ("mean", "scale", "slope"))
    return Ridge(mean, scale, slope, float(held["base"]))


@dataclass(frozen=True)
class Sums:
    """What the rows of one fold add to the normal equations; the last column is the intercept."""

    gram: Array
    right: Array

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.gram + other.gram, self.right + other.right)


def fit(rows: Array, target: Array, folds: Folds, weight: Array | None) -> tuple[Ridge, Array]:
    """The model of all rows, and for each row the score of the model that did not see it."""
    mean, scale = _spread(rows)
    numbers = np.unique(folds.number)
    sums = {
        int(number): _sums(rows, target, np.flatnonzero(folds.number == number), weight, mean, scale)
        for number in numbers
    }
    held = np.full(len(rows), np.nan)
    for fold in range(folds.count):
        seen = [n for n in sums if (n < fold if folds.kind == "time" else n != fold)]
        model = _solved([sums[n] for n in seen], mean, scale)
        out = folds.held(fold)
        held[out] = answers(model.scores, rows, out)
    return _solved(list(sums.values()), mean, scale), held


def standard(rows: Array, mean: Array, scale: Array) -> Array:
    centred = (rows.astype(np.float64) - mean) / scale
    centred[np.isnan(centred)] = 0.0
    return centred


def _spread(rows: Array) -> tuple[Array, Array]:
    """Mean and deviation of what is there, summed in double precision."""
    count = np.zeros(rows.shape[1])
    total, square = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for begin in range(0, len(rows), AT_ONCE):
        some = rows[begin : begin + AT_ONCE].astype(np.float64)
        count += (~np.isnan(some)).sum(axis=0)
        total += np.nansum(some, axis=0)
    mean = total / np.maximum(count, 1)
    for begin in range(0, len(rows), AT_ONCE):
        square += np.nansum((rows[begin : begin + AT_ONCE] - mean) ** 2, axis=0)
    scale = np.sqrt(square / np.maximum(count, 1))
    return mean, np.where(scale > 0, scale, 1.0)


def _sums(rows: Array, target: Array, which: Array, weight: Array | None, mean: Array, scale: Array) -> Sums:
    size = rows.shape[1] + 1
    gram, right = np.zeros((size, size)), np.zeros(size)
    for begin in range(0, len(which), AT_ONCE):
        some = which[begin : begin + AT_ONCE]
        left = np.hstack([standard(rows[some], mean, scale), np.ones((len(some), 1))])
        heavy = left if weight is None else left * weight[some, None]
        gram += heavy.T @ left
        right += heavy.T @ target[some]
    return Sums(gram, right)


def _solved(parts: list[Sums], mean: Array, scale: Array) -> Ridge:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    penalty = np.full(len(total.right), ALPHA)
    penalty[-1] = 0.0  # the intercept is free
    solution = np.linalg.solve(total.gram + np.diag(penalty), total.right)
    return Ridge(mean, scale, solution[:-1], float(solution[-1]))
