"""Each learner against its peer, the scores and the stack."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tests.e2e.stacking_inside.common import SMALL, full, never, raised, whole
from trainers.stacking import boosters, folds, forest, ridge, scores, stack
from trainers.stacking.devices import lightgbm, no_gpu, tiny_lightgbm


def check_ridge_from_sums_is_the_ridge_of_every_fold(folder: Path) -> None:
    given = full()
    made = folds.make(given, SMALL)
    model, held = ridge.fit(given.rows, given.targets["up"], made, None)
    x = ridge.standard(given.rows, model.mean, model.scale)
    for fold in range(made.count):
        peer = Ridge(alpha=1.0).fit(x[made.fit(fold)], given.targets["up"][made.fit(fold)])
        assert np.allclose(peer.predict(x[made.held(fold)]), held[made.held(fold)], atol=1e-8)
    assert np.allclose(
        Ridge(alpha=1.0).fit(x, given.targets["up"]).predict(x), model.scores(given.rows), atol=1e-8
    )
    weight = np.where(given.targets["classifier"] == 1, 2.0, 0.7)
    signed = 2 * given.targets["classifier"] - 1
    classes, _ = ridge.fit(given.rows, signed, made, weight)
    peer = RidgeClassifier(alpha=1.0).fit(x, signed, sample_weight=weight)
    assert np.allclose(peer.decision_function(x), classes.scores(given.rows), atol=1e-8)
    again = ridge.load(json.loads(json.dumps(model.as_json())))
    assert np.array_equal(again.scores(given.rows), model.scores(given.rows))


def check_the_forest_is_scikit_learns_tree_by_tree(folder: Path) -> None:
    given = whole()  # missing values included
    for task, kind in (("classifier", RandomForestClassifier), ("up", RandomForestRegressor)):
        target = given.targets[task]
        mine = forest.fit(task, given.rows, target, replace(SMALL, trees=25), 2, None, True, never)
        peer = kind(25, random_state=SMALL.seed, oob_score=True, n_jobs=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a row that every tree drew
            peer.fit(given.rows, target)
        says = peer.predict_proba(given.rows)[:, 1] if task == "classifier" else peer.predict(given.rows)
        again = forest.load(mine.forest.dump())
        assert np.allclose(again.scores(given.rows, 2), says, atol=1e-6)
        unseen = peer.oob_decision_function_[:, 1] if task == "classifier" else peer.oob_prediction_
        there = np.isfinite(unseen) & (unseen != 0)
        assert np.allclose(mine.unseen[there], unseen[there], atol=1e-6)
        assert np.allclose(mine.importance, peer.feature_importances_, atol=1e-9)
        tree = peer.estimators_[0].tree_
        edge = np.repeat(given.rows[:1], tree.node_count, axis=0)  # rows that lie on or beside a threshold
        edge[np.arange(len(edge)), np.maximum(tree.feature, 0)] = np.clip(tree.threshold, -1e30, 1e30)
        says = peer.predict_proba(edge)[:, 1] if task == "classifier" else peer.predict(edge)
        assert np.allclose(again.scores(edge, 2), says, atol=1e-6)


def check_a_forest_that_was_tampered_with_is_not_walked(folder: Path) -> None:
    given = whole()
    kept = forest.fit("up", given.rows, given.targets["up"], SMALL, 1, None, False, never).forest
    deep = kept.no.copy()
    deep[0] = 2**30
    back = kept.no.copy()
    back[0] = 0
    asks = kept.feature.copy()
    asks[0] = 99
    broken = (
        replace(kept, no=deep), replace(kept, no=back), replace(kept, feature=asks),
        replace(kept, sizes=kept.sizes + 1), replace(kept, no=np.full(len(kept.no), np.nan)),
    )  # fmt: skip
    for one in (*(b.dump() for b in broken), b"", b"PK no archive", kept.dump()[:-100]):
        assert raised(forest.Broken, partial(forest.load, one))


def check_lightgbm_keeps_the_labels_that_a_lazy_subset_loses(folder: Path) -> None:
    given = whole()
    target, which = given.targets["classifier"], np.arange(0, 1200, 2)
    bins = boosters.LgbBins(given.rows, given.features, "cpu", 1, 1)
    assert np.array_equal(bins.cut(which, target[which], None).get_label(), target[which])
    grown = boosters.fit_lgb(bins, "classifier", target, which, which + 1, SMALL, never)
    assert scores.auc(target[which + 1], grown.held) > 0.7


def check_shared_bins_grow_the_boosters_that_each_fold_would(folder: Path) -> None:
    """The same rows in both: then shared cuts are the fold's own."""
    given = whole()
    target, every = given.targets["high"], np.arange(1200)
    settings = replace(SMALL, early_stop=0)
    mine = boosters.fit_xgb(
        boosters.XgbBins(given.rows, given.features, "cpu", 2),
        "high",
        target,
        every,
        every[:300],
        settings,
        never,
    )
    import xgboost as xgb

    params = {"eta": 0.1, "max_depth": 6, "max_bin": 255, "seed": 5, "tree_method": "hist"}
    peer = xgb.train(params, xgb.QuantileDMatrix(given.rows, target, max_bin=255), 25)
    assert np.allclose(peer.inplace_predict(given.rows[:300]), mine.held, atol=1e-4)
    assert (mine.rounds, mine.device) == (25, "cpu")


def check_early_stopping_keeps_the_best_rounds_alone(folder: Path) -> None:
    given = whole()
    target, fit, held = given.targets["classifier"], np.arange(900), np.arange(900, 1200)
    eager = replace(SMALL, rounds=400, learning_rate=0.3, early_stop=5)
    bins = boosters.XgbBins(given.rows, given.features, "cpu", 2)
    grown = boosters.fit_xgb(bins, "classifier", target, fit, held, eager, never)
    assert 1 <= grown.rounds < 100
    assert boosters.xgb_load(grown.model).num_boosted_rounds() == grown.rounds
    best = scores.quality("classifier", target[held], grown.held)["logloss"]
    assert grown.rounds > 5
    for more in (-5, -1, 1, 5):
        longer = boosters.fit_xgb(
            bins, "classifier", target, fit, held, eager, never, None, grown.rounds + more
        )
        assert best <= scores.quality("classifier", target[held], longer.held)["logloss"]
    light = boosters.LgbBins(given.rows, given.features, "cpu", 2, 1)
    grown = boosters.fit_lgb(light, "classifier", target, fit, held, eager, never)
    assert 1 <= grown.rounds < 100
    assert boosters.lgb_load(grown.model).current_iteration() == grown.rounds
    assert np.allclose(boosters.lgb_scores(boosters.lgb_load(grown.model), given.rows[held], 1), grown.held)


def check_names_that_the_libraries_cannot_write_stay_apart(folder: Path) -> None:
    assert boosters.plain(("a[1]", "a<1>", "b: c", "b__c", "")) == ["a_1_", "a_1__", "b__c", "b__c_", "_"]
    assert boosters.plain(("größe", "a\tb\nc", "a\u2028b\x00c")) == ["größe", "a_b_c", "a_b_c_"]


def check_a_forest_can_be_left_between_trees(folder: Path) -> None:
    given, seen = whole(), [0]

    def tick() -> None:
        seen[0] += 1
        if seen[0] == 3:
            raise InterruptedError

    many = replace(SMALL, trees=10_000)
    raised(
        InterruptedError,
        lambda: forest.fit("up", given.rows, given.targets["up"], many, 1, None, True, tick),
    )


def check_scores_are_scikit_learns(folder: Path) -> None:
    draw = np.random.default_rng(2)
    target = (draw.random(500) < 0.3).astype(np.float64)
    given = np.round(target + draw.standard_normal(500), 1)  # with ties
    assert abs(scores.auc(target, given) - roc_auc_score(target, given)) < 1e-12
    assert abs(scores.average_precision(target, given) - average_precision_score(target, given)) < 1e-12
    false, true = scores.roc(target, given)
    peer = roc_curve(target, given, drop_intermediate=False)
    assert np.allclose(false, peer[0]) and np.allclose(true, peer[1])
    quality = scores.quality("up", np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0]))
    assert (quality["rmse"], quality["mae"]) == ((4 / 3) ** 0.5, 2 / 3)


def check_the_stack_is_a_logistic_regression_of_the_scores(folder: Path) -> None:
    draw = np.random.default_rng(2)
    target = (draw.random(800) < 0.2).astype(np.float64)
    given = {name: target * size + draw.standard_normal(800) for name, size in (("a", 1.0), ("b", 2.0))}
    mine = stack.fit("classifier", given, target)
    x = np.column_stack([(given[n] - given[n].mean()) / given[n].std() for n in given])
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, target)
    assert np.allclose(mine.slope, peer.coef_[0], atol=1e-4)
    assert abs(mine.base - peer.intercept_[0]) < 1e-4
    again = stack.load(json.loads(json.dumps(mine.as_json())))
    assert np.array_equal(again.scores(given), mine.scores(given))
    certain = stack.fit("classifier", {"a": target * 50}, target)  # separable: no overflow, no endless loop
    assert np.isfinite(certain.slope).all()


def opencl_trains_as_the_cpu_does_and_is_no_gpu(folder: Path) -> None:
    """On whatever calls itself an OpenCL device; here that is a CPU."""
    given = whole()
    target, fit, held = given.targets["high"], np.arange(900), np.arange(900, 1200)
    told = {}
    for device in ("cpu", "gpu"):
        bins = boosters.LgbBins(given.rows, given.features, device, 2, 1)
        grown = boosters.fit_lgb(bins, "high", target, fit, held, replace(SMALL, early_stop=0), never)
        told[device] = scores.quality("high", target[held], grown.held)["rmse"]
        assert grown.device == {"cpu": "cpu", "gpu": "opencl"}[device]
    assert abs(told["cpu"] - told["gpu"]) < 0.02 * told["cpu"], told
    assert told["gpu"] < 0.8 * np.std(target[held])
    no, name = tiny_lightgbm("gpu")
    assert no == "" and name, (no, name)
    for gpus in ((), ("NVIDIA H200",)):
        seen = lightgbm(gpus)
        assert (seen.kind, seen.why) == ("cpu", no_gpu(name))
