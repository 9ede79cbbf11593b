"""How good answers are. Standard definitions on numpy alone; a test holds them against scikit-learn's."""

from __future__ import annotations

import numpy as np

from trainers.stacking.settings import is_class
from trainers.stacking.stack import chances
from trainers.stacking.table import Array


def quality(task: str, target: Array, scores: Array) -> dict[str, float]:
    """The first is what models are compared by."""
    if is_class(task):
        loss = np.mean(np.logaddexp(0, scores) - target * scores)
        brier = np.mean((chances(scores) - target) ** 2)
        return {
            "auc": auc(target, scores), "logloss": float(loss), "brier": float(brier),
            "average_precision": average_precision(target, scores),
        }  # fmt: skip
    wrong = target - scores
    spread = float(np.mean((target - target.mean()) ** 2))
    mean_square = float(np.mean(wrong**2))
    return {
        "rmse": mean_square**0.5, "mae": float(np.mean(np.abs(wrong))), "r2": 1 - mean_square / spread,
    }  # fmt: skip


def main_name(task: str) -> str:
    return "auc" if is_class(task) else "rmse"


def constant(task: str, target: Array) -> float:
    """What the best constant reaches by the main figure."""
    return 0.5 if is_class(task) else float(np.std(target))


def beats(task: str, value: float, other: float) -> bool:
    return value > other if is_class(task) else value < other


def auc(target: Array, scores: Array) -> float:
    """The chance that a one has the higher score than a zero; ties count half."""
    _, at, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[at]
    ones = float(target.sum())
    zeros = len(target) - ones
    return float((rank[target == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def roc(target: Array, scores: Array) -> tuple[Array, Array]:
    """False and true positive rates, from none to all."""
    hits, misses = _counts(target, scores)
    return np.r_[0, misses / misses[-1]], np.r_[0, hits / hits[-1]]


def precision_recall(target: Array, scores: Array) -> tuple[Array, Array]:
    hits, misses = _counts(target, scores)
    return hits / (hits + misses), hits / hits[-1]


def average_precision(target: Array, scores: Array) -> float:
    precision, recall = precision_recall(target, scores)
    return float(np.sum(np.diff(np.r_[0, recall]) * precision))


def _counts(target: Array, scores: Array) -> tuple[Array, Array]:
    """Ones and zeros at or above each different score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
    hits = np.cumsum(target[order])[ends]
    return hits, ends + 1 - hits
