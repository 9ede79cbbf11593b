"""XGBoost and LightGBM over a table that each cuts into bins once, for all folds and all tasks.

Scores are what the trees add up to: log odds for a class, the value itself otherwise. XGBoost goes on
on the CPU without a word of its own where a GPU does not work, so the device is read back from the model.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import xgboost as xgb

from trainers.stacking.rows import answers
from trainers.stacking.settings import Settings, is_class
from trainers.stacking.table import Array

MAX_BIN = 255
NO_NAME = frozenset('[]<>{}",:')  # besides spaces: what the libraries' own formats cannot hold


@dataclass(frozen=True)
class Grown:
    """One booster, as bytes of its library's own format."""

    model: bytes
    held: Array  # scores of the rows held out
    rounds: int
    device: str  # "cpu", "cuda:0", "opencl": where the trees were really grown
    importance: Array  # by feature: the gain of all splits


class XgbBins:
    """`ref` gives every fold the cuts of the whole table."""

    def __init__(self, rows: Array, features: tuple[str, ...], device: str, threads: int) -> None:
        self.rows, self.names = rows, plain(features)
        self.device, self.threads = device, threads
        self.all = self.cut(np.arange(len(rows)), None, None, None)

    def cut(self, which: Array, target: Array | None, weight: Array | None, ref: Any) -> Any:
        rows = self.rows if len(which) == len(self.rows) else self.rows[which]
        return xgb.QuantileDMatrix(
            rows, target, weight=weight, feature_names=self.names, max_bin=MAX_BIN, ref=ref,
            nthread=self.threads,
        )  # fmt: skip


class LgbBins:
    """Construct before anything is cut from it: labels set earlier on a lazy subset are lost silently."""

    def __init__(self, rows: Array, features: tuple[str, ...], device: str, threads: int, seed: int) -> None:
        self.rows, self.threads = rows, threads
        self.params: dict[str, Any] = {
            "max_bin": MAX_BIN, "num_threads": threads, "verbosity": -1, "seed": seed, "deterministic": True,
            "device_type": device,
        }  # fmt: skip
        if device == "cpu":
            self.params["force_row_wise"] = True  # measuring which is quicker would make runs differ
        nothing = np.zeros(len(rows))
        self.all = lgb.Dataset(
            rows, nothing, feature_name=plain(features), params=self.params, free_raw_data=True
        ).construct()

    def cut(self, which: Array, target: Array, weight: Array | None) -> Any:
        part = self.all.subset(which.tolist(), params=self.params).construct()
        part.set_label(target)
        part.set_weight(weight)
        return part


class _Tick(xgb.callback.TrainingCallback):  # type: ignore[misc]  # the library is Any to our checks
    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self._tick = tick

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self._tick()
        return False


def plain(features: tuple[str, ...]) -> list[str]:
    """The features' names as the libraries can write them, each still another one."""
    names: list[str] = []
    for feature in features:
        name = "".join("_" if c in NO_NAME or c.isspace() or not c.isprintable() else c for c in feature)
        name = name or "_"
        while name in names:
            name += "_"
        names.append(name)
    return names


def xgb_params(task: str, settings: Settings, device: str, threads: int) -> dict[str, Any]:
    return {
        "objective": "binary:logistic" if is_class(task) else "reg:squarederror",
        "eval_metric": "logloss" if is_class(task) else "rmse",
        "eta": settings.learning_rate, "max_depth": settings.depth, "max_bin": MAX_BIN,
        "tree_method": "hist", "device": device, "nthread": threads, "seed": settings.seed,
    }  # fmt: skip


def fit_xgb(
    bins: XgbBins, task: str, target: Array, fit: Array, held: Array, settings: Settings,
    tick: Callable[[], None], weight: Array | None = None, rounds: int | None = None,
) -> Grown:  # fmt: skip
    """`target` and `weight` go with the positions of `fit` and `held` in all rows. `rounds` fixes them."""
    params = xgb_params(task, settings, bins.device, bins.threads)
    stops = settings.early_stop > 0 and rounds is None and len(held) > 0
    weights = None if weight is None else weight[fit]
    train = bins.cut(fit, target[fit], weights, bins.all)
    watched = [(bins.cut(held, target[held], None, train), "held")] if stops else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Device is changed.*")  # read back below, and said
        booster = xgb.train(
            params, train, rounds or settings.rounds, evals=watched, verbose_eval=False,
            early_stopping_rounds=settings.early_stop if stops else None, callbacks=[_Tick(tick)],
        )  # fmt: skip
    return xgb_grown(booster, stops, bins.rows, held, bins.names, bins.threads)


def xgb_grown(booster: Any, stopped: bool, rows: Array, held: Array, names: list[str], threads: int) -> Grown:
    device = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if stopped:
        booster = booster[: booster.best_iteration + 1]
    gains = booster.get_score(importance_type="total_gain")
    return Grown(
        model=bytes(booster.save_raw("ubj")),
        held=answers(lambda some: xgb_scores(booster, some, threads), rows, held),
        rounds=booster.num_boosted_rounds(),
        device=device,
        importance=np.array([float(gains.get(name, 0.0)) for name in names]),
    )


def xgb_load(model: bytes) -> Any:
    booster = xgb.Booster()
    booster.load_model(bytearray(model))
    return booster


def xgb_scores(booster: Any, rows: Array, threads: int) -> Array:
    if not len(rows):
        return np.empty(0)
    booster.set_param({"device": "cpu", "nthread": threads})
    return np.asarray(
        booster.inplace_predict(rows, predict_type="margin", validate_features=False), dtype=np.float64
    )


def fit_lgb(
    bins: LgbBins, task: str, target: Array, fit: Array, held: Array, settings: Settings,
    tick: Callable[[], None], weight: Array | None = None, rounds: int | None = None,
) -> Grown:  # fmt: skip
    params = bins.params | {
        "objective": "binary" if is_class(task) else "l2",
        "metric": "binary_logloss" if is_class(task) else "l2",
        "learning_rate": settings.learning_rate, "num_leaves": settings.leaves,
    }  # fmt: skip
    stops = settings.early_stop > 0 and rounds is None and len(held) > 0
    train = bins.cut(fit, target[fit], None if weight is None else weight[fit])
    watched = [bins.cut(held, target[held], None)] if stops else []
    callbacks: list[Any] = [lambda env: tick()]
    if stops:
        callbacks.append(lgb.early_stopping(settings.early_stop, verbose=False))
    booster = lgb.train(
        params, train, rounds or settings.rounds, valid_sets=watched, callbacks=callbacks,
        keep_training_booster=True,
    )  # fmt: skip
    best = booster.best_iteration if stops else booster.current_iteration()
    kind = bins.params["device_type"]
    return lgb_grown(booster, best, bins.rows, held, {"gpu": "opencl"}.get(kind, kind), bins.threads)


def lgb_grown(booster: Any, rounds: int, rows: Array, held: Array, device: str, threads: int) -> Grown:
    text = booster.model_to_string(num_iteration=rounds).encode()
    kept = lgb_load(text)
    return Grown(
        model=text,
        held=answers(lambda some: lgb_scores(kept, some, threads), rows, held),
        rounds=rounds,
        device=device,
        importance=booster.feature_importance("gain", iteration=rounds).astype(np.float64),
    )


def lgb_load(model: bytes) -> Any:
    return lgb.Booster(model_str=model.decode())


def lgb_scores(booster: Any, rows: Array, threads: int) -> Array:
    if not len(rows):
        return np.empty(0)
    return np.asarray(booster.predict(rows, raw_score=True, num_threads=threads), dtype=np.float64)
