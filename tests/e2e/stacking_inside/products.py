"""Whole trainings from Python, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.parquet

from tests.e2e.stacking_inside.common import MADE, SMALL, never, raised, whole
from trainers.kit.checkpoints import Checkpoints, Taken
from trainers.kit.device import Device
from trainers.kit.session import LEFT, Log, Place
from trainers.stacking import folds, generator, scores, spread, train, units
from trainers.stacking.api import train_versioned_model
from trainers.stacking.devices import LightGbm, Places
from trainers.stacking.results import NothingLearned, out_of_fold
from trainers.stacking.settings import Settings
from trainers.stacking.table import Array, Unusable

ON_CPU = Places(Device("cpu", "cpu", "cpu", "test"), "cpu", "", LightGbm())


def check_what_is_not_learned_is_seen(folder: Path) -> None:
    """Two features, neither of which knows anything: no learner may claim so."""
    draw = np.random.default_rng(4)
    columns = {
        "a": draw.standard_normal(400),
        "b": draw.standard_normal(400),
        "up": draw.standard_normal(400),
    }
    wild = replace(SMALL, early_stop=0)
    said = raised(
        NothingLearned,
        lambda: train_versioned_model(columns, "up", "noise", False, settings=wild, models=folder),
    )
    assert "no learner predicts 'up' of up better than a constant (320 rows, 2 features)" in said
    assert not list(folder.iterdir())


def check_python_trains_a_version_and_reads_it_back(folder: Path) -> None:
    schema = replace(generator.SCHEMA, targets={"classifier": "won"})
    columns = {("won" if name == "classifier" else name): values for name, values in MADE.columns.items()}
    columns = {name: values for name, values in columns.items() if name not in ("up", "down", "high")}
    version = train_versioned_model(
        columns, "classifier", "first", False, schema=schema, settings=SMALL, models=folder
    )
    assert version.path == folder / "first"
    assert not list(folder.glob(".first*"))
    model = version.model()
    chance = model.predict_proba(columns)
    assert chance.shape == (1200, 2) and np.allclose(chance.sum(axis=1), 1)
    assert np.array_equal(model.predict(columns), (chance[:, 1] > 0.5).astype(int))
    rows = np.column_stack([columns[name] for name in model.features]).astype(np.float32)
    assert np.array_equal(model.predict_proba(rows), chance)
    for learner in (None, "xgboost", "lightgbm", "forest", "ridge"):
        shares = model.feature_importance(learner)
        assert set(shares) == set(generator.NAMES) and abs(sum(shares.values()) - 1) < 1e-9
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert next(iter(model.feature_importance())) in ("momentum", "imbalance", "trend")
    refusals: list[Callable[[], Any]] = [
        lambda: train_versioned_model(columns, "classifier", "first", False, schema=schema, models=folder),
        lambda: train_versioned_model(columns, "sideways", models=folder),
        lambda: train_versioned_model(columns, "up", "../up", models=folder),
        lambda: train_versioned_model(columns, "up", "second", False, schema=schema, models=folder),
        lambda: version.model("up"),
        lambda: model.predict(rows[:, :3]),
    ]
    for call in refusals:
        assert raised(Unusable, call)
    assert not (folder / "second").exists()
    holds = {path.name for path in (folder / "first" / "classifier").iterdir()}
    assert {
        "roc.svg",
        "precision_recall.svg",
        "importances.svg",
        "out_of_fold.parquet",
        "model.json",
    } <= holds
    assert not [
        path for path in (folder / "first").rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")
    ]


def check_a_learner_that_cannot_learn_is_left_out_and_said(folder: Path) -> None:
    """LightGBM wants twenty rows in a leaf: of fifty rows it makes no tree."""
    few = {name: values[:50] for name, values in MADE.columns.items()}
    version = train_versioned_model(
        few, "high", "few", False, schema=generator.SCHEMA, settings=SMALL, models=folder
    )
    told = version.result["learners"]["high"]
    assert told["lightgbm"]["in_stack"] is None and told["ridge"]["in_stack"] is not None
    log = (version.path / "training.log").read_text()
    assert "warning: lightgbm of high says the same for every row of fold 1" in log
    assert np.isfinite(version.model().predict(few)).all()


def check_a_rare_class_can_weigh_more(folder: Path) -> None:
    rare = generator.made(3000, 8, share=0.02)
    assert rare.columns["classifier"].mean() < 0.08
    found = {}
    for weight in ("none", "balanced"):
        version = train_versioned_model(
            rare.arrow(), "classifier", f"rare-{weight}", False, schema=generator.SCHEMA,
            settings=replace(SMALL, class_weight=weight), models=folder,
        )  # fmt: skip
        found[weight] = version
        assert version.metrics["classifier_auc"] > 0.7
        assert version.metrics["classifier_average_precision"] > 3 * rare.columns["classifier"].mean()
        chance = version.model().predict_proba(rare.arrow())[:, 1]
        assert abs(chance.mean() - rare.columns["classifier"].mean()) < 0.02  # the stack says honest chances


def check_trains_by_time_and_by_group(folder: Path) -> None:
    for split in ("time", "group"):
        version = train_versioned_model(
            MADE.arrow(), "high", split, False, schema=generator.SCHEMA, settings=replace(SMALL, split=split),
            models=folder,
        )  # fmt: skip
        told = version.result["learners"]["high"]
        assert version.metrics["high_rmse"] < told["stack"]["constant"] * 0.9
        assert all(told[name]["in_stack"] is not None for name in ("ridge", "xgboost", "lightgbm", "forest"))
        names = {path.name for path in (version.path / "high").iterdir()}
        assert ("xgboost.ubj" in names) == (split == "time")
        assert ("forest-1.npz" in names) == (split == "group")
    kept = pyarrow.parquet.read_table(folder / "time" / "high" / "out_of_fold.parquet").to_pydict()
    at = MADE.columns["at"][np.array(kept["row"])]
    assert all(
        a <= b for a, b in zip(np.array(kept["fold"])[np.argsort(at)], np.sort(kept["fold"]), strict=True)
    )


def check_another_table_can_judge(folder: Path) -> None:
    judge = generator.made(500, 99).arrow()
    results = [
        train_versioned_model(
            MADE.arrow(), "up", f"judged-{seed}", False, schema=generator.SCHEMA, holdout=judge,
            models=folder / "models", settings=replace(SMALL, seed=seed),
        ).result
        for seed in (1, 2)
    ]  # fmt: skip
    assert results[0]["judged"] == results[1]["judged"]
    assert (results[0]["judged"]["rows"], results[0]["judged"]["lower"]) == (500, ["up_rmse"])
    assert results[0]["metrics"] != results[1]["metrics"]


def check_a_small_table_may_stay_in_files_too(folder: Path) -> None:
    (folder / "table.csv").write_text(generator.as_csv(MADE.columns))
    found = [
        train_versioned_model(
            folder / "table.csv", "up", name, False, schema=generator.SCHEMA, models=folder,
            settings=replace(SMALL, external_memory=name == "files", rounds=10),
        ).metrics["up_rmse"]
        for name in ("memory", "files")
    ]  # fmt: skip
    assert abs(found[0] - found[1]) < 0.01 and found[0] != 0


def check_units_answer_for_every_row_once(folder: Path) -> None:
    given = whole(replace(SMALL, tasks=("up",)))
    settings = replace(SMALL, tasks=("up",))
    made = folds.make(given, settings)
    work = units.Work(given.rows, given.features, given.targets, made, settings, ON_CPU, never)
    done: dict[str, units.Done] = {}
    for unit in units.listed(settings):
        done[unit.id] = work.do(unit, done)
    assert [len(done)] == [1 + 3 + 3 + 1]
    for learner in ("ridge", "xgboost", "lightgbm", "forest"):
        told = out_of_fold(work, done, "up", learner)
        assert len(told) == 1200 and np.isfinite(told).all()
        assert scores.quality("up", given.targets["up"], told)["r2"] > 0.1


def check_another_training_is_not_resumed_and_two_do_not_make_one_version(folder: Path) -> None:
    """As when the first was killed: its checkpoints are there."""
    kept = folder / ".once.partial" / "checkpoints"
    settings = replace(SMALL, rounds=2)

    def made(settings: Settings) -> str:
        given = (MADE.arrow(), "up", "once", False)
        return train_versioned_model(*given, schema=generator.SCHEMA, settings=settings, models=folder).name

    def asked() -> bool:
        return bool(list(kept.glob("*/complete")))

    order = train.Order(replace(settings, tasks=("up",)), MADE.arrow(), generator.SCHEMA)
    place = Place(kept.parent / "out", kept, None, None, settings.seed)
    assert train.run(train.Course(order, place, ON_CPU, Log(), asked), 0.0) == LEFT
    said = raised(Unusable, lambda: made(replace(settings, trees=21)))
    assert "belongs to a training with trees 20 (now 21)" in said and "another version" in said
    other = Checkpoints(kept, goal="max")
    assert "another training keeps its checkpoints there" in raised(Taken, lambda: made(settings))
    del other
    assert made(settings) == "once"
    assert "resuming after" in (folder / "once" / "training.log").read_text()


def check_rows_that_are_dealt_to_other_folds_make_another_training(folder: Path) -> None:
    """The same rows and targets, grouped in another way: what a fold has held out was learned from then."""
    kept, held = folder / "kept", generator.made(300, 4).arrow()
    settings = replace(SMALL, rounds=2, split="group", tasks=("up",))

    def begun(group: Array) -> int:
        table = {**MADE.columns, "symbol": group}
        order = train.Order(settings, table, generator.SCHEMA, held)
        place = Place(folder / "out", kept, None, None, settings.seed)
        return train.run(train.Course(order, place, ON_CPU, Log(), lambda: any(kept.glob("*/complete"))), 0.0)

    assert begun(MADE.columns["symbol"]) == LEFT
    said = raised(Unusable, lambda: begun(np.roll(MADE.columns["symbol"], 1)))
    assert "belongs to a training with dealt " in said


def check_a_worker_that_went_away_is_named(folder: Path) -> None:
    class Scheduler:
        def __init__(self) -> None:
            self.workers = {"tcp://10.0.0.1:1": 0, "tcp://10.0.0.2:1": 0}

        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            return {"workers": dict(self.workers)}

        def scatter(self, rows: Any, **where: Any) -> None: ...

    given, cluster = whole(), Scheduler()
    far = spread.Spread(cluster, given.rows, given.features, 1)
    assert "missing" in raised(TypeError, lambda: far.fit("xgboost"))  # as it is
    del cluster.workers["tcp://10.0.0.2:1"]
    said = raised(spread.WorkersLost, lambda: far.fit("xgboost"))
    assert said.startswith("1 of 2 workers went away while xgboost grew: tcp://10.0.0.2:1;")


def check_a_fit_is_left_behind_when_the_training_is_asked_to_leave(folder: Path) -> None:
    """A library that does not come back for a while, as between two large trees."""
    begun, comes_back = Event(), Event()

    def fit(unit: units.Unit) -> units.Done:
        begun.set()
        comes_back.wait()
        raise AssertionError("nobody waits for this")

    def tick() -> None:
        if begun.is_set():
            raise train.Leaving

    lanes = [[units.Unit("up", "forest", "all")], [units.Unit("up", "xgboost", "1")]]
    raised(train.Leaving, lambda: list(train.in_order(lanes, fit, tick)))
    comes_back.set()


def check_a_lane_goes_on_once_its_fit_was_taken(folder: Path) -> None:
    """A fit of all rows asks how many rounds the folds before it found good."""
    lanes = [[units.Unit("up", learner, str(n)) for n in range(5)] for learner in ("xgboost", "forest")]
    taken: list[units.Unit] = []

    def fit(unit: units.Unit) -> units.Done:
        before = [one for one in taken if one.learner == unit.learner]
        assert len(before) == int(unit.part)
        return units.Done(b"", np.empty(0), np.empty(0), 1, "cpu", 0.0)

    for unit, _ in train.in_order(lanes, fit, never):
        taken.append(unit)
    assert len(taken) == 10
