"""The other side of bench/stacking.py, run by the Python of the trainer's environment, which has all it
needs: scikit-learn's own stacking of the same learners with the same settings.

    stacking_peer.py make FOLDER ROWS COLUMNS    a table, and which of its rows are learned from
    stacking_peer.py fit FOLDER ROUNDS TREES     the peer: fits and answers for the rows held out
    stacking_peer.py judge FOLDER                AUC and RMSE of both on those rows, as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trainers.stacking.settings import TASKS, Settings, cores, is_class

HOLDOUT = 0.5  # as many rows to judge by as to learn from: a difference of 0.002 has to be seen


def settings() -> Settings:
    return Settings(holdout=HOLDOUT)


def make(folder: Path, rows: int, columns: int) -> None:
    import pyarrow.parquet

    from trainers.stacking import folds, generator, table

    made = generator.made(rows, columns=columns).arrow().drop_columns(["at", "symbol"])
    pyarrow.parquet.write_table(made, folder / "table.parquet")
    held = table.read(folder / "table.parquet", table.Schema(), TASKS)
    learn, judge = folds.part(held, settings())
    np.savez(folder / "rows.npz", learn=learn, judge=judge)


def read(folder: Path) -> tuple[Any, dict[str, Any], Any, Any]:
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(folder / "table.parquet")
    names = [name for name in found.column_names if name not in TASKS]
    features = np.column_stack([found[name].to_numpy().astype(np.float32) for name in names])
    with np.load(folder / "rows.npz") as rows:
        learn, judge = rows["learn"], rows["judge"]
    return features, {task: found[task].to_numpy() for task in TASKS}, learn, judge


def stacking(task: str, rounds: int, trees: int) -> Any:
    """As its users write it down; the settings that matter are those of the trainer."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn import ensemble, linear_model
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier, XGBRegressor

    ours, jobs = settings(), cores()
    boosted = {"n_estimators": rounds, "learning_rate": ours.learning_rate, "n_jobs": jobs, "random_state": 7}
    xgb, lgb = {**boosted, "max_depth": ours.depth}, {**boosted, "num_leaves": ours.leaves, "verbosity": -1}
    wood = {"n_estimators": trees, "n_jobs": jobs, "random_state": 7}
    if is_class(task):
        ridge: Any = linear_model.RidgeClassifier()
        learners = [XGBClassifier(**xgb), LGBMClassifier(**lgb), ensemble.RandomForestClassifier(**wood)]
        kind, last = ensemble.StackingClassifier, linear_model.LogisticRegression()
    else:
        ridge = linear_model.Ridge()
        learners = [XGBRegressor(**xgb), LGBMRegressor(**lgb), ensemble.RandomForestRegressor(**wood)]
        kind, last = ensemble.StackingRegressor, linear_model.RidgeCV()
    learners.append(make_pipeline(SimpleImputer(), StandardScaler(), ridge))
    named = [(name, one) for name, one in zip(("xgb", "lgb", "forest", "ridge"), learners, strict=True)]
    return kind(named, final_estimator=last, cv=ours.folds)


def fit(folder: Path, rounds: int, trees: int) -> None:
    features, targets, learn, judge = read(folder)
    said = {}
    for task in TASKS:
        model = stacking(task, rounds, trees).fit(features[learn], targets[task][learn])
        rows = features[judge]
        said[task] = model.predict_proba(rows)[:, 1] if is_class(task) else model.predict(rows)
    np.savez(folder / "peer.npz", **said)


def judge(folder: Path) -> None:
    from sklearn.metrics import roc_auc_score

    from trainers.stacking import versions

    features, targets, _, held = read(folder)
    with np.load(folder / "peer.npz") as peer:
        said = {f"peer {task}": peer[task] for task in TASKS}
    for task in TASKS:
        for way in ("ours", "as it comes"):
            model = versions.load(folder / way.replace(" ", "-"), task)
            rows = features[held]
            said[f"{way} {task}"] = model.predict_proba(rows)[:, 1] if is_class(task) else model.predict(rows)
    found = {}
    for name, says in said.items():
        task = name.split()[-1]
        target = targets[task][held]
        rmse = float(np.sqrt(np.mean((says - target) ** 2)))
        found[name] = float(roc_auc_score(target, says)) if is_class(task) else rmse
    print(json.dumps(found))


if __name__ == "__main__":
    what, where, *numbers = sys.argv[1:]
    if what == "make":
        make(Path(where), *map(int, numbers))
    elif what == "fit":
        fit(Path(where), *map(int, numbers))
    else:
        judge(Path(where))
