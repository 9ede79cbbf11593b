"""A trained task as files, and the model that reads them: nothing to unpickle, no code in any file.

<version>/<task>/model.json       what follows, with the features in their order
                 ridge.json  stack.json
                 xgboost-1.ubj …  lightgbm-1.txt …     one a fold, in the libraries' own formats
                 forest.npz                            see forest.py

from trainers.stacking.versions import load
model = load(Path("models/<version>"), "classifier")
model.predict_proba(table)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.kit.files import write, write_json
from trainers.stacking import boosters, forest, ridge, stack
from trainers.stacking.settings import LEARNERS, Settings, cores, is_class
from trainers.stacking.table import Array, Unusable, feature_rows
from trainers.stacking.units import Done, forest_scores, models_of

FORMAT = "stacking-model-1"
ENDING = {"ridge": "json", "xgboost": "ubj", "lightgbm": "txt", "forest": "npz"}


@dataclass(frozen=True)
class Model:
    """A fitted stack. Tables come as a path, columns by name, a DataFrame, or rows in the features' order."""

    task: str
    target: str
    features: tuple[str, ...]
    trees: int
    parts: Mapping[str, Sequence[Any]]  # by learner: one model, or one for each fold, whose mean counts
    stack: stack.Stack
    importance: Mapping[str, Array]  # by learner, of all features together 1

    def predict(self, data: Any) -> Array:
        """The class (0 or 1), or the value."""
        scores = self.scores(self.rows(data))
        return (scores > 0).astype(np.int64) if is_class(self.task) else scores

    def predict_proba(self, data: Any) -> Array:
        """Two columns: the chances of 0 and of 1."""
        if not is_class(self.task):
            raise TypeError(f"{self.task} is a number, not a class: it has no chances")
        chance = stack.chances(self.scores(self.rows(data)))
        return np.column_stack([1 - chance, chance])

    def feature_importance(self, learner: str | None = None) -> dict[str, float]:
        """Shares that add up to 1, the greatest first: one learner's, or all by their weight in the stack."""
        if learner is not None and learner not in self.importance:
            raise KeyError(f"there is no learner {learner!r}: {', '.join(self.importance)}")
        heavy = dict.fromkeys([learner], 1.0) if learner else self._weights()
        total = sum(
            (share * self.importance[one] for one, share in heavy.items()), np.zeros(len(self.features))
        )
        shares = total / (total.sum() or 1.0)
        order = np.argsort(-shares, kind="stable")
        return {self.features[at]: float(shares[at]) for at in order}

    def rows(self, data: Any) -> Array:
        if isinstance(data, np.ndarray):
            if data.ndim != 2 or data.shape[1] != len(self.features):
                raise Unusable(f"the rows have shape {data.shape}, not {len(self.features)} columns")
            return np.ascontiguousarray(data, dtype=np.float32)
        return feature_rows(data, self.features)

    def scores(self, rows: Array) -> Array:
        """Log odds of a class, or the value."""
        return self.stack.scores(self.base_scores(rows, self.stack.learners))

    def base_scores(self, rows: Array, learners: Sequence[str]) -> dict[str, Array]:
        return {
            learner: sum(self._answer(learner, one, rows) for one in self.parts[learner])
            / len(self.parts[learner])
            for learner in learners
        }

    def _answer(self, learner: str, model: Any, rows: Array) -> Array:
        if learner == "xgboost":
            return boosters.xgb_scores(model, rows, cores())
        if learner == "lightgbm":
            return boosters.lgb_scores(model, rows, cores())
        if learner == "ridge":
            return np.asarray(model.scores(rows))
        return forest_scores(self.task, model.scores(rows, cores()), self.trees)

    def _weights(self) -> dict[str, float]:
        pulls = np.abs(self.stack.slope)
        shares = pulls / (pulls.sum() or 1.0)
        return dict(zip(self.stack.learners, map(float, shares), strict=True))


def opened(learner: str, data: bytes) -> Any:
    if learner == "ridge":
        return ridge.load(json.loads(data))
    return {"xgboost": boosters.xgb_load, "lightgbm": boosters.lgb_load, "forest": forest.load}[learner](data)


def of_units(
    task: str, target: str, features: tuple[str, ...], settings: Settings, done: Mapping[str, Done],
    fitted: stack.Stack,
) -> Model:  # fmt: skip
    parts: dict[str, list[Any]] = {}
    importance: dict[str, Array] = {}
    for learner in LEARNERS:
        units = [done[f"{task}.{learner}.{part}"] for part in models_of(settings, learner)]
        parts[learner] = [opened(learner, unit.model) for unit in units]
        total = np.sum([unit.importance for unit in units], axis=0)
        importance[learner] = total / (total.sum() or 1.0)
    return Model(task, target, features, settings.trees, parts, fitted, importance)


def save(folder: Path, model: Model, settings: Settings, done: Mapping[str, Done]) -> None:
    """Into `folder`/<task>; model.json last."""
    inside = folder / model.task
    names: dict[str, list[str]] = {}
    for learner in LEARNERS:
        every = models_of(settings, learner)
        names[learner] = []
        for part in every:
            name = f"{learner}-{part}.{ENDING[learner]}" if len(every) > 1 else f"{learner}.{ENDING[learner]}"
            write(inside / name, done[f"{model.task}.{learner}.{part}"].model)
            names[learner].append(name)
    write_json(inside / "stack.json", model.stack.as_json())
    write_json(
        inside / "model.json",
        {
            "format": FORMAT,
            "task": model.task,
            "target": model.target,
            "features": list(model.features),
            "trees": model.trees,
            "parts": names,
            "importance": {learner: shares.tolist() for learner, shares in model.importance.items()},
        },
    )


def load(version: Path, task: str) -> Model:
    """Raises Unusable with words for whoever named the folder."""
    inside = version / task
    try:
        held = json.loads((inside / "model.json").read_text())
        if held.get("format") != FORMAT:
            raise Unusable(f"{inside / 'model.json'} is no {FORMAT}")
        parts = {
            learner: [opened(learner, (inside / Path(name).name).read_bytes()) for name in names]
            for learner, names in held["parts"].items()
        }
        fitted = stack.load(json.loads((inside / "stack.json").read_text()))
    except (OSError, ValueError, KeyError) as wrong:
        raise Unusable(f"{inside}: no model of {task}: {wrong}") from wrong
    importance = {learner: np.array(shares) for learner, shares in held["importance"].items()}
    return Model(
        held["task"], held["target"], tuple(held["features"]), held["trees"], parts, fitted, importance
    )
