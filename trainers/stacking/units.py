"""The pieces of a training: each is one fit of one learner, done whole or not at all, and kept when done.

A unit's answer depends on the table, the settings and the unit alone, never on what ran before it; so a
training that was killed and resumed gives what an undisturbed one gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.stacking import boosters, external, forest, pieces, ridge, spread
from trainers.stacking.devices import Places
from trainers.stacking.folds import Folds
from trainers.stacking.rows import DiskRows, answers
from trainers.stacking.settings import LEARNERS, Settings, cores, is_class
from trainers.stacking.stack import log_odds
from trainers.stacking.table import Array

ALL = "all"  # one fit that answers for every fold
FINAL = "final"  # learns from all rows and judges none
VALUES_A_THREAD = 500_000  # of the table; of fewer, two threads take a third more CPU time and no less time
GPU_FEEDERS = 4  # threads that are enough beside a GPU that grows the trees


@dataclass(frozen=True)
class Unit:
    task: str
    learner: str
    part: str  # "1" to the number of folds, ALL or FINAL

    @property
    def id(self) -> str:
        return f"{self.task}.{self.learner}.{self.part}"

    @property
    def fold(self) -> int | None:
        return int(self.part) - 1 if self.part.isdecimal() else None


@dataclass(frozen=True)
class Done:
    model: bytes
    scores: Array  # of the rows the unit holds out, in their order
    importance: Array  # by feature
    rounds: int
    device: str
    seconds: float


def listed(settings: Settings) -> list[Unit]:
    """Learner by learner, so that bins live only as long as they are used; the largest models last."""
    return [
        Unit(task, learner, part)
        for learner in LEARNERS
        for task in settings.tasks
        for part in parts(settings, learner)
    ]


def parts(settings: Settings, learner: str) -> list[str]:
    if learner == "ridge" or (learner == "forest" and settings.split == "stratified"):
        return [ALL]
    numbered = [str(fold + 1) for fold in range(settings.folds)]
    return [*numbered, FINAL] if settings.split == "time" else numbered


def models_of(settings: Settings, learner: str) -> list[str]:
    """The units whose models answer for new rows: their mean, or the one that saw the latest rows."""
    every = parts(settings, learner)
    return [FINAL] if FINAL in every else every


@dataclass
class Work:
    """What units work on: the rows that are learned from."""

    rows: Array
    features: tuple[str, ...]
    targets: Mapping[str, Array]
    folds: Folds
    settings: Settings
    places: Places
    tick: Callable[[], None]  # called often; may raise to leave
    xgb: boosters.XgbBins | None = None
    lgb: boosters.LgbBins | None = None
    client: Any = None  # of the workers that grow the boosters, where there are some
    far: spread.Spread | None = None

    def do(self, unit: Unit, done: Mapping[str, Done]) -> Done:
        began = time.monotonic()
        fit = {"ridge": self._ridge, "forest": self._forest}.get(unit.learner, self._booster)
        made = fit(unit, done)
        if isinstance(self.rows, DiskRows):
            pieces.give_back()
        return Done(*made, seconds=time.monotonic() - began)

    def weight(self, task: str) -> Array | None:
        """Balanced: both classes weigh the same together."""
        if self.settings.class_weight == "none" or not is_class(task):
            return None
        target = self.targets[task]
        share = target.mean()
        return np.where(target == 1, 0.5 / share, 0.5 / (1 - share))

    def threads(self, learner: str) -> int:
        """Beside a GPU the boosters need few, and the forest gets the others at the same time. Without one a
        booster's threads meet after every step of every tree, which pays only where each has much to do."""
        if not self.places.on_gpu:
            much = 1 + len(self.rows) * len(self.features) // VALUES_A_THREAD
            return cores() if learner == "forest" else min(cores(), much)
        feeders = min(GPU_FEEDERS, max(1, cores() // 2))
        return max(1, cores() - feeders) if learner == "forest" else feeders

    def held(self, unit: Unit) -> Array:
        """Positions that a unit's scores are about."""
        if unit.fold is not None:
            return self.folds.held(unit.fold)
        return self.folds.judged if unit.part == ALL else np.empty(0, dtype=np.int64)

    def _rows(self, unit: Unit) -> tuple[Array, Array]:
        fit = np.arange(len(self.rows)) if unit.fold is None else self.folds.fit(unit.fold)
        return fit, self.held(unit)

    def _ridge(self, unit: Unit, done: Mapping[str, Done]) -> tuple[bytes, Array, Array, int, str]:
        target = self.targets[unit.task]
        signed = 2 * target - 1 if is_class(unit.task) else target
        model, held = ridge.fit(self.rows, signed, self.folds, self.weight(unit.task))
        text = json.dumps(model.as_json()).encode()
        return text, held[self.folds.judged], np.abs(model.slope), 1, "cpu"

    def _forest(self, unit: Unit, done: Mapping[str, Done]) -> tuple[bytes, Array, Array, int, str]:
        if not self.places.on_gpu:
            self.lgb = None
        fit, held = self._rows(unit)
        target, weight, threads = self.targets[unit.task], self.weight(unit.task), self.threads("forest")
        if isinstance(self.rows, DiskRows):
            fit = self._some(fit)
        everything = len(fit) == len(self.rows) and not isinstance(self.rows, DiskRows)
        grown = forest.fit(
            unit.task, self.rows if everything else self.rows[fit], target[fit], self.settings, threads,
            weight if weight is None else weight[fit], out_of_bag=unit.part == ALL, tick=self.tick,
        )  # fmt: skip
        if unit.part == ALL and len(grown.unseen) == len(held):
            said = grown.unseen
        else:
            said = answers(lambda some: grown.forest.scores(some, threads), self.rows, held)
            said[np.searchsorted(held, fit[: len(grown.unseen)])] = grown.unseen
        scores = forest_scores(unit.task, said, self.settings.trees)
        return grown.forest.dump(), scores, grown.importance, self.settings.trees, "cpu"

    def _some(self, fit: Array) -> Array:
        """A forest needs its rows in memory: of a table that is not it learns from some, drawn evenly."""
        draw = np.random.default_rng([self.settings.seed, 3])
        count = min(len(fit), self.settings.forest_rows)
        return np.sort(draw.choice(fit, count, replace=False))

    def _booster(self, unit: Unit, done: Mapping[str, Done]) -> tuple[bytes, Array, Array, int, str]:
        fit, held = self._rows(unit)
        rounds = self._final_rounds(unit, done) if unit.part == FINAL else None
        target, weight = self.targets[unit.task], self.weight(unit.task)
        given = (unit.task, target, fit, held, self.settings, self.tick, weight, rounds)
        threads = self.threads(unit.learner)
        if self.client is not None:
            if self.far is None:
                self.far = spread.Spread(self.client, self.rows, self.features, threads)
            grown = self.far.fit(unit.learner, *given)
        elif unit.learner == "xgboost":
            if self.xgb is None:
                device = "cuda" if self.places.on_gpu else "cpu"
                self.xgb = external.xgb_bins(self.rows, self.features, device, threads)
            grown = boosters.fit_xgb(self.xgb, *given)
        else:
            self.xgb = None  # the table's bins are held once, not twice
            if self.lgb is None:
                self.lgb = external.lgb_bins(
                    self.rows, self.features, self.places.lightgbm.kind, threads, self.settings.seed
                )
            grown = boosters.fit_lgb(self.lgb, *given)
        return grown.model, grown.held, grown.importance, grown.rounds, grown.device

    def _final_rounds(self, unit: Unit, done: Mapping[str, Done]) -> int:
        """As many as the folds found good, in the middle."""
        found = [
            done[Unit(unit.task, unit.learner, str(fold + 1)).id].rounds for fold in range(self.folds.count)
        ]
        return int(np.median(found))


def forest_scores(task: str, said: Array, trees: int) -> Array:
    return log_odds(said, 0.5 / trees) if is_class(task) else said
