"""A random forest that is fitted once: each row is judged by the trees that did not draw it, which spares
a fit for every fold. That holds only where rows are independent; the caller fits per fold elsewhere.

The kept form is ten bytes a node, in `npz` without pickle: `feature` (int16, -1 in a leaf), `value` (float32:
the threshold of "is the feature <= it?", or what the leaf says), `no` (int32: where the rows that say no go
on, counted within the tree; those that say yes go on at the next node), `lost` (bit: missing values say
yes), and `sizes`, the nodes of each tree.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from trainers.stacking.settings import Settings, is_class
from trainers.stacking.table import Array

FORMAT = "stacking-forest-1"
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
    except (OSError, KeyError, ValueError, EOFError) as wrong:
        raise Broken(f"this is no {FORMAT}: {wrong}") from wrong
    _check(forest)
    return forest


def _check(forest: Forest) -> None:
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
    """Some trees at a time, so that it can be left; they are the same trees as in one go."""
    kind = RandomForestClassifier if is_class(task) else RandomForestRegressor
    grown = kind(0, n_jobs=threads, random_state=settings.seed, warm_start=True)
    answers = target.astype(np.int64) if is_class(task) else target
    at_once = max(10, 2 * threads)
    while grown.n_estimators < settings.trees:
        tick()
        grown.n_estimators = min(settings.trees, grown.n_estimators + at_once)
        grown.fit(rows, answers, sample_weight=weight)
    forest = _compact(grown, rows.shape[1])
    unseen = _out_of_bag(grown, rows, threads, target) if out_of_bag else np.empty(0)
    return Planted(forest, unseen, np.asarray(grown.feature_importances_, dtype=np.float64))


def _out_of_bag(grown: Any, rows: Array, threads: int, target: Array) -> Array:
    """scikit-learn's own does the same one tree after the other; here trees go side by side."""
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    samples = grown.estimators_samples_

    def one(at: int) -> tuple[Array, Array]:
        drawn = np.zeros(len(rows), dtype=bool)
        drawn[samples[at]] = True
        which = np.flatnonzero(~drawn)
        return which, grown.estimators_[at].tree_.predict(rows[which]).reshape(len(which), -1)[:, -1]

    with ThreadPoolExecutor(threads) as pool:
        for which, says in pool.map(one, range(len(grown.estimators_))):
            total[which] += says
            count[which] += 1
    return np.where(count > 0, total / np.maximum(count, 1), target.mean())  # drawn by every tree: no word


def _compact(grown: Any, columns: int) -> Forest:
    """scikit-learn grows depth first, so that the yes side is always the next node; held to be sure."""
    trees = [estimator.tree_ for estimator in grown.estimators_]
    feature, value, no, lost = [], [], [], []
    for tree in trees:
        inner = tree.children_left >= 0
        if not np.array_equal(tree.children_left[inner], np.flatnonzero(inner) + 1):
            raise RuntimeError("a tree of scikit-learn is not stored depth first any more")
        says = tree.value.reshape(len(inner), -1)[:, -1]  # of a class: the share of ones
        feature.append(np.where(inner, tree.feature, -1).astype(np.int16))
        value.append(np.where(inner, _not_above(tree.threshold), says.astype(np.float32)))
        no.append(np.where(inner, tree.children_right, 0).astype(np.int32))
        lost.append(np.asarray(tree.missing_go_to_left, dtype=bool) & inner)
    sizes = np.array([len(one) for one in feature], dtype=np.int64)
    return Forest(
        columns=columns,
        feature=np.concatenate(feature),
        value=np.concatenate(value),
        no=np.concatenate(no),
        lost=np.concatenate(lost),
        sizes=sizes,
    )


def _not_above(threshold: Array) -> Array:
    """The largest single-precision number not above: for single-precision values the same question."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)
