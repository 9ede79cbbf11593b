"""What the base learners' answers are worth together: a small model over scores of rows that each learner
had not seen.

Chances become log odds first, so that the four columns speak one language; a learner that does no better
than a constant is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.stacking.settings import is_class
from trainers.stacking.table import Array

FORMAT = "stacking-stack-1"
PENALTY = 1.0
STEPS = 50


@dataclass(frozen=True)
class Stack:
    task: str
    learners: tuple[str, ...]
    mean: Array
    scale: Array
    slope: Array
    base: float

    def scores(self, scores: Mapping[str, Array]) -> Array:
        matrix = np.column_stack([scores[learner] for learner in self.learners])
        return (matrix - self.mean) / self.scale @ self.slope + self.base

    def as_json(self) -> dict[str, Any]:
        lists = {name: getattr(self, name).tolist() for name in ("mean", "scale", "slope")}
        said = {"format": FORMAT, "task": self.task, "learners": list(self.learners)}
        return said | lists | {"base": self.base}


def load(held: dict[str, Any]) -> Stack:
    if held.get("format") != FORMAT:
        raise ValueError(f"this is no {FORMAT}")
    mean, scale, slope = (np.array(held[name], dtype=np.float64) for name in ("mean", "scale", "slope"))
    return Stack(held["task"], tuple(held["learners"]), mean, scale, slope, float(held["base"]))


def fit(task: str, scores: Mapping[str, Array], target: Array) -> Stack:
    """`scores` by learner, of rows that the learner had not seen."""
    learners = tuple(scores)
    matrix = np.column_stack([scores[learner] for learner in learners])
    mean, scale = matrix.mean(axis=0), matrix.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    left = np.column_stack([(matrix - mean) / scale, np.ones(len(matrix))])
    penalty = np.full(left.shape[1], PENALTY)
    penalty[-1] = 0.0
    solve = _logistic if is_class(task) else _least_squares
    solution = solve(left, target, penalty)
    return Stack(task, learners, mean, scale, solution[:-1], float(solution[-1]))


def _least_squares(left: Array, target: Array, penalty: Array) -> Array:
    return np.linalg.solve(left.T @ left + np.diag(penalty), left.T @ target)


def _logistic(left: Array, target: Array, penalty: Array) -> Array:
    """Newton's method, halving a step that does not help; five columns need a handful."""
    share = np.clip(target.mean(), 1e-9, 1 - 1e-9)
    solution = np.zeros(left.shape[1])
    solution[-1] = np.log(share / (1 - share))

    def cost(at: Array) -> float:
        score = left @ at
        return float(np.sum(np.logaddexp(0, score) - target * score) + 0.5 * np.sum(penalty * at * at))

    before = cost(solution)
    for _ in range(STEPS):
        chance = chances(left @ solution)
        slope = left.T @ (chance - target) + penalty * solution
        curve = (left * (chance * (1 - chance))[:, None]).T @ left + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, slope)
        while cost(solution - step) > before and np.abs(step).max() > 1e-12:
            step /= 2
        solution = solution - step
        after = cost(solution)
        if before - after < 1e-9 * max(1.0, abs(before)):
            break
        before = after
    return solution


def chances(scores: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * scores))  # the logistic function, without overflow


def log_odds(chance: Array, floor: float) -> Array:
    """`floor` is the least chance that is believed: a forest of 100 trees knows no finer ones."""
    kept = np.clip(chance, floor, 1 - floor)
    return np.log(kept / (1 - kept))
