"""The product of quickstart and how to use it: numbers in JSON, no code, nothing to unpickle.

    from trainers.quickstart.model import load
    model = load(Path("model.json"))
    chance = model.predict(rows)        # rows: one column per name in model.columns

`model.json`: `format`, `columns`, `bias` and `trees`. A tree is five lists of equal length, one entry per
node: `column` and `threshold` of its question ("is the value <= threshold?", compared in single
precision), `yes` and `no` (the next node; -1 in a leaf) and `value` (what a leaf adds to the score). The
chance is 1 / (1 + exp(-score)), the score starts at `bias`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = Any  # a numpy array; the launcher's own checks run where numpy is not installed

FORMAT = "quickstart-trees-1"
FIELDS = ("column", "threshold", "yes", "no", "value")


@dataclass(frozen=True)
class Tree:
    column: Array
    threshold: Array
    yes: Array
    no: Array
    value: Array

    def leaves(self, rows: Array) -> Array:
        """Which node each row ends in."""
        rows = np.asarray(rows, dtype=np.float32)
        node = np.zeros(len(rows), dtype=np.int64)
        while True:
            inner = np.flatnonzero(self.yes[node] >= 0)
            if not len(inner):
                return node
            at = node[inner]
            says_yes = rows[inner, self.column[at]] <= self.threshold[at]
            node[inner] = np.where(says_yes, self.yes[at], self.no[at])


@dataclass(frozen=True)
class Model:
    columns: tuple[str, ...]
    bias: float
    trees: tuple[Tree, ...]

    def score(self, rows: Array) -> Array:
        total = np.full(len(rows), self.bias)
        for tree in self.trees:
            total += tree.value[tree.leaves(rows)]
        return total

    def predict(self, rows: Array) -> Array:
        return 1 / (1 + np.exp(-self.score(rows)))

    def as_json(self) -> dict[str, Any]:
        trees = [{field: getattr(tree, field).tolist() for field in FIELDS} for tree in self.trees]
        return {"format": FORMAT, "columns": list(self.columns), "bias": self.bias, "trees": trees}


def load(path: Path) -> Model:
    held = json.loads(path.read_text())
    if held.get("format") != FORMAT:
        raise ValueError(f"{path} is no {FORMAT} model")
    kinds = (np.int64, np.float64, np.int64, np.int64, np.float64)
    trees = (
        Tree(*(np.array(tree[field], dtype=kind) for field, kind in zip(FIELDS, kinds, strict=True)))
        for tree in held["trees"]
    )
    return Model(tuple(held["columns"]), float(held["bias"]), tuple(trees))
