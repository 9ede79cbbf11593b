"""Which rows judge, and which rows a fold learns from: stratified, time-ordered or grouped.

Every row that is not held out for the end belongs to one fold, except the first stretch of time-ordered
ones: it is only learned from, since nothing came before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from trainers.stacking.settings import Settings, is_class
from trainers.stacking.table import Array, Table, Unusable

STRATA = 10  # for a target that is a number: tenths by size
ONLY_LEARNED_FROM = -1


@dataclass(frozen=True)
class Folds:
    kind: str
    number: Array  # by row of the training part: the fold that holds it out
    count: int

    def fit(self, fold: int) -> Array:
        """Positions a fold's model learns from: of time-ordered ones what came before."""
        chosen = self.number < fold if self.kind == "time" else self.number != fold
        return np.flatnonzero(chosen)

    def held(self, fold: int) -> Array:
        return np.flatnonzero(self.number == fold)

    def digest(self) -> str:
        """Times and groups decide it, which no digest of the rows holds."""
        return hashlib.sha256(np.ascontiguousarray(self.number, dtype="<i8")).hexdigest()

    @property
    def judged(self) -> Array:
        """Positions that some fold holds out."""
        return np.flatnonzero(self.number != ONLY_LEARNED_FROM)


def part(table: Table, settings: Settings) -> tuple[Array, Array]:
    """Rows to learn from and rows nobody looks at until the end, each in the table's order."""
    draw = np.random.default_rng([settings.seed, 1])
    count = len(table.rows)
    if settings.split == "time":
        cut = np.quantile(_time(table), 1 - settings.holdout, method="higher")
        last = _time(table) >= cut
    elif settings.split == "group":
        group = _group(table)
        order = draw.permutation(int(group.max()) + 1)
        sizes = np.cumsum(np.bincount(group)[order])
        last = np.isin(group, order[: int(np.searchsorted(sizes, settings.holdout * count)) + 1])
    else:
        last = _dealt(_strata(table, settings), draw) < settings.holdout
    judge, learn = np.flatnonzero(last), np.flatnonzero(~last)
    if not len(judge) or not len(learn):
        raise Unusable(f"{table.name}: {count} rows in too few stretches of {settings.split} to hold any out")
    return learn, judge


def make(table: Table, settings: Settings) -> Folds:
    """Over a table that holds only what is learned from."""
    draw = np.random.default_rng([settings.seed, 2])
    wanted = settings.folds
    if len(table.rows) < wanted * 2:
        raise Unusable(f"{table.name}: {len(table.rows)} rows to learn from are too few for {wanted} folds")
    if settings.split == "time":
        number = _by_time(table, wanted)
    elif settings.split == "group":
        number = _by_group(table, wanted, draw)
    else:
        number = (_dealt(_strata(table, settings), draw) * wanted).astype(np.int64)
    folds = Folds(settings.split, number, wanted)
    empty = np.flatnonzero(np.bincount(number[number >= 0], minlength=wanted) == 0)
    if len(empty):
        raise Unusable(
            f"{table.name}: {len(table.rows)} rows to learn from are too few for {wanted} folds:"
            f" fold {empty[0] + 1} would hold none"
        )
    _both_classes(table, folds)
    return folds


def _dealt(strata: Array, draw: np.random.Generator) -> Array:
    """For each row a share in (0, 1), so that every part of that range holds its part of every stratum."""
    share = np.empty(len(strata))
    for stratum in np.unique(strata):
        inside = draw.permutation(np.flatnonzero(strata == stratum))
        share[inside] = (np.arange(len(inside)) + 0.5) / len(inside)
    return share


def _strata(table: Table, settings: Settings) -> Array:
    """By the first task's target: all tasks share their folds."""
    task = settings.tasks[0]
    target = table.targets[task]
    if is_class(task):
        return target.astype(np.int64)
    edges = np.quantile(target, np.linspace(0, 1, STRATA + 1)[1:-1])
    return np.searchsorted(edges, target, side="right")


def _by_time(table: Table, wanted: int) -> Array:
    """Stretches of about equal size; rows of the same moment stay together."""
    time = _time(table)
    edges = np.quantile(time, np.linspace(0, 1, wanted + 2)[1:-1], method="higher")
    number = np.searchsorted(edges, time, side="right") - 1
    if len(np.unique(number)) < wanted + 1:
        raise Unusable(
            f"{table.name}: {len(np.unique(time))} different times in {len(table.rows)} rows"
            f" are too few for {wanted} folds in order"
        )
    return number


def _by_group(table: Table, wanted: int, draw: np.random.Generator) -> Array:
    """The largest groups first, each to the fold that has least."""
    group = _group(table)
    there, sizes = np.unique(group, return_counts=True)
    if len(there) < wanted:
        raise Unusable(
            f"{table.name}: {len(there)} groups in {len(table.rows)} rows are fewer than {wanted} folds"
        )
    order = draw.permutation(len(there))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold_of = np.zeros(wanted), np.empty(int(there.max()) + 1, dtype=np.int64)
    for at in order:
        fold = int(np.argmin(load))
        fold_of[there[at]] = fold
        load[fold] += sizes[at]
    return fold_of[group]


def judges(table: Table) -> None:
    """Whether the rows held out can judge."""
    for task, target in table.targets.items():
        if len(np.unique(target)) < 2:
            raise Unusable(
                f"{table.name}: column '{table.chosen[task]}' of {task} is {target[0]:g} in all"
                f" {len(target)} rows that shall judge; they need different ones"
            )


def _both_classes(table: Table, folds: Folds) -> None:
    if "classifier" not in table.targets:
        return
    target = table.targets["classifier"]
    for fold in range(folds.count):
        for rows, role in ((folds.fit(fold), "learned from"), (folds.held(fold), "held out")):
            ones = int(target[rows].sum())
            if ones in (0, len(rows)):
                raise Unusable(
                    f"{table.name}: target column '{table.chosen['classifier']}':"
                    f" of {len(rows)} rows {role} in fold {fold + 1} of {folds.count} {ones} are 1;"
                    " every fold needs both classes: fewer folds, another --split or more rows"
                )


def _time(table: Table) -> Array:
    if table.time is None:
        raise Unusable(f"{table.name}: --split time needs a time column: say which one with --time")
    return table.time


def _group(table: Table) -> Array:
    if table.group is None:
        raise Unusable(f"{table.name}: --split group needs a group column: say which one with --group")
    return table.group
