"""What a training is asked to do, as one value. Imports nothing heavy: the command line needs it first."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

TASKS = ("classifier", "up", "down", "high")
SPLITS = ("stratified", "time", "group")
LEARNERS = ("ridge", "xgboost", "lightgbm", "forest")  # the order of training: the largest models last


@dataclass(frozen=True)
class Settings:
    """The learners are those of their libraries with the libraries' own defaults where nothing is said."""

    tasks: tuple[str, ...] = TASKS
    folds: int = 5
    split: str = "stratified"
    holdout: float = 0.2
    rounds: int = 200
    learning_rate: float = 0.1
    depth: int = 6  # of XGBoost's trees
    leaves: int = 31  # of LightGBM's trees
    early_stop: int = 25  # rounds without gain on the fold held out; 0 = all rounds are grown
    trees: int = 100  # of the forest
    class_weight: str = "none"
    workers: int = 0  # that grow the boosters; 0: this process
    external_memory: bool = False  # the table stays in a file
    forest_rows: int = 100_000  # that the forest learns from then
    seed: int = 7


def is_class(task: str) -> bool:
    return task == "classifier"


def cores() -> int:
    """What this process may use, which in a container is less than what the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lacking_for_workers() -> str:
    """What brings the packages of workers; empty where they are here."""
    absent = [name for name in ("dask", "distributed", "pandas") if importlib.util.find_spec(name) is None]
    line = "pip install -r trainers/stacking/requirements-workers.txt"
    return f"--workers needs {', '.join(absent)}, which this environment has not: {line}" if absent else ""
