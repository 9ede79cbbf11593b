"""A random forest that is fitted once: each row is judged by the trees that did not draw it, which spares
a fit for every fold. That holds only where rows are independent; the caller fits per fold elsewhere.

The kept form is eleven bytes a node, in `npz` without pickle: `feature` (-1 in a leaf), `value` (float32:
the threshold of "is the feature <= it?", or what the leaf says), `no` (where the rows that say no go on,
counted within the tree; those that say yes go on at the next node), `lost` (whether missing values say
yes), and `sizes`, the nodes of each tree; `columns` is how many features there are.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.ensemble._forest import _generate_unsampled_indices
from sklearn.tree._tree import NODE_DTYPE, Tree

from trainers.stacking.settings import Settings, is_class
from trainers.stacking.table import Array

FORMAT = "stacking-forest-1"
AT_ONCE = 10  # trees
FIELDS = ("feature", "value", "no", "lost", "sizes")


class Broken(ValueError):
    """What was read is no forest of ours."""


@dataclass(frozen=True)
class Forest:
    columns: int
    feature: Array
    value: Array
    no: Array
    lost: Array
    sizes: Array

    def dump(self) -> bytes:
        out = io.BytesIO()
        np.savez(
            out, format=np.array(FORMAT), columns=np.array(self.columns),
            **{name: getattr(self, name) for name in FIELDS},
        )  # fmt: skip
        return out.getvalue()

    def scores(self, rows: Array, threads: int) -> Array:
        """The mean of the trees: a chance for a class, the value itself otherwise."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        total = np.zeros(len(rows))
        if not len(rows):
            return total
        with ThreadPoolExecutor(threads) as pool:
            for one in pool.map(lambda at: _tree(self, at).predict(rows)[:, 0], range(len(self.sizes))):
                total += one
        return total / len(self.sizes)


def load(data: bytes) -> Forest:
    """Checked node by node: the code that walks the trees trusts what it is given."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            if str(held["format"]) != FORMAT:
                raise Broken(f"this is no {FORMAT}")
            forest = Forest(int(held["columns"]), *(held[name] for name in FIELDS))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as wrong:
        raise Broken(f"this is no {FORMAT}: {wrong}") from wrong
    _check(forest)
    return forest


def _check(forest: Forest) -> None:
    kinds = {name: (getattr(forest, name).dtype.kind, getattr(forest, name).ndim) for name in FIELDS}
    if kinds != {"feature": ("i", 1), "value": ("f", 1), "no": ("i", 1), "lost": ("b", 1), "sizes": ("i", 1)}:
        raise Broken("the trees' nodes are of other kinds")
    count = len(forest.feature)
    lengths = {len(getattr(forest, name)) for name in ("feature", "value", "no", "lost")}
    if lengths != {count} or forest.sizes.sum() != count or (forest.sizes < 1).any():
        raise Broken("the trees' nodes are not all there")
    starts = np.repeat(np.cumsum(forest.sizes) - forest.sizes, forest.sizes)
    within, size = np.arange(count) - starts, np.repeat(forest.sizes, forest.sizes)
    inner = forest.feature >= 0
    if (forest.feature >= forest.columns).any() or (forest.feature < -1).any():
        raise Broken("a node asks for a feature that is not there")
    no = forest.no
    if (no[inner] <= within[inner] + 1).any() or (no[inner] >= size[inner]).any():
        raise Broken("a node leads out of its tree or back")


def _tree(forest: Forest, at: int) -> Any:
    begin = int(forest.sizes[:at].sum())
    mine = slice(begin, begin + int(forest.sizes[at]))
    feature, value = forest.feature[mine].astype(np.int64), forest.value[mine].astype(np.float64)
    inner = feature >= 0
    count = len(feature)
    nodes = np.zeros(count, dtype=NODE_DTYPE)
    nodes["left_child"] = np.where(inner, np.arange(count) + 1, -1)
    nodes["right_child"] = np.where(inner, forest.no[mine], -1)
    nodes["feature"] = np.where(inner, feature, -2)
    nodes["threshold"] = np.where(inner, value, -2.0)
    nodes["missing_go_to_left"] = forest.lost[mine]
    tree = Tree(forest.columns, np.ones(1, dtype=np.intp), 1)
    values = np.where(inner, 0.0, value).reshape(count, 1, 1)
    tree.__setstate__({"max_depth": count, "node_count": count, "nodes": nodes, "values": values})
    return tree


@dataclass(frozen=True)
class Planted:
    forest: Forest
    unseen: Array  # by row: what the trees say that did not draw it; empty where nobody asked
    importance: Array


def fit(
    task: str, rows: Array, target: Array, settings: Settings, threads: int, weight: Array | None,
    out_of_bag: bool, tick: Callable[[], None],
) -> Planted:  # fmt: skip
    """Some trees at a time, each lot made small before the next grows: the trees that scikit-learn grows in
    one go, without ever holding all of them in its form, and with moments at which it can be left."""
    kind = RandomForestClassifier if is_class(task) else RandomForestRegressor
    grown = kind(0, n_jobs=threads, random_state=settings.seed, warm_start=True)
    answers = target.astype(np.int64) if is_class(task) else target
    lots: list[Forest] = []
    votes = _Votes(rows, weight, np.zeros(len(rows)), np.zeros(len(rows)))
    importance = np.zeros(rows.shape[1])
    while grown.n_estimators < settings.trees:
        tick()
        before = grown.n_estimators
        grown.n_estimators = min(settings.trees, before + max(AT_ONCE, 2 * threads))
        grown.fit(rows, answers, sample_weight=weight)
        fresh = grown.estimators_[before:]
        grown.estimators_[before:] = [None] * len(fresh)  # the next lot only counts them
        if out_of_bag:
            votes.add(fresh, threads)
        importance += sum(one.feature_importances_ for one in fresh)
        lots.append(_compact([one.tree_ for one in fresh], rows.shape[1]))
    forest = Forest(
        rows.shape[1], **{name: np.concatenate([getattr(lot, name) for lot in lots]) for name in FIELDS}
    )
    unseen = votes.mean(target) if out_of_bag else np.empty(0)
    return Planted(forest, unseen, importance / settings.trees)


@dataclass
class _Votes:
    """What trees say of the rows that they did not draw. scikit-learn's own way takes the trees one after
    the other, and needs all of them."""

    rows: Array
    weight: Array | None
    total: Array
    count: Array

    def add(self, estimators: list[Any], threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for which, says in pool.map(self._one, estimators):
                self.total[which] += says
                self.count[which] += 1

    def _one(self, estimator: Any) -> tuple[Array, Array]:
        size = len(self.rows)
        which = _generate_unsampled_indices(estimator.random_state, size, size, self.weight)
        says = estimator.tree_.predict(self.rows[which])
        return which, says.reshape(len(which), -1)[:, -1]

    def mean(self, target: Array) -> Array:
        """A row that every tree drew has no answer; the mean says nothing about it."""
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), target.mean())


def _compact(trees: list[Any], columns: int) -> Forest:
    """scikit-learn grows depth first, so that the yes side is always the next node; held to be sure."""
    small = np.int16 if columns < 2**15 else np.int32
    feature, value, no, lost = [], [], [], []
    for tree in trees:
        inner = tree.children_left >= 0
        if not np.array_equal(tree.children_left[inner], np.flatnonzero(inner) + 1):
            raise RuntimeError("a tree of scikit-learn is not stored depth first any more")
        says = tree.value.reshape(len(inner), -1)[:, -1]  # of a class: the share of ones
        feature.append(np.where(inner, tree.feature, -1).astype(small))
        value.append(np.where(inner, _not_above(tree.threshold), says.astype(np.float32)))
        no.append(np.where(inner, tree.children_right, 0).astype(np.int32))
        lost.append(np.asarray(tree.missing_go_to_left, dtype=bool) & inner)
    return Forest(
        columns=columns,
        feature=np.concatenate(feature),
        value=np.concatenate(value),
        no=np.concatenate(no),
        lost=np.concatenate(lost),
        sizes=np.array([len(one) for one in feature], dtype=np.int64),
    )


def _not_above(threshold: Array) -> Array:
    """The largest single-precision number not above: for single-precision values the same question."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)
