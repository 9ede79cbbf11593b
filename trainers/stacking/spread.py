"""Boosters over several workers by dask.distributed: processes of this machine, or those of a scheduler that
runs already. Each worker keeps its share of the table for all folds and tasks; what a fold learns from is
cut out where the rows lie.

LightGBM knows no early stopping on several workers: all rounds are grown there, and those after the best
one are cut off by the same rule.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xgboost as xgb

from trainers.stacking.boosters import (
    MAX_BIN,
    Grown,
    lgb_grown,
    plain,
    xgb_grown,
    xgb_params,
)
from trainers.stacking.external import hush
from trainers.stacking.settings import Settings, cores, is_class, lacking_for_workers
from trainers.stacking.table import Array

READY_S = 30
RANK = re.compile(rb"\[[\d:]+\] Task \[xgboost\S+ got rank \d+")


class NoWorkers(Exception):
    """There is nothing to spread a training over, with the reason and what to do."""


class WorkersLost(Exception):
    """Some of them went away in the middle of a fit."""


@contextmanager
def connected(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A client of processes of this machine, reachable from nowhere else, or of the scheduler that is named;
    None without workers."""
    if not workers:
        yield None
        return
    client = _client(workers, scheduler)
    hush()
    if scheduler is None:
        _quiet(client)
    try:
        yield client
    finally:
        cluster = client.cluster if scheduler is None else None
        client.close()
        if cluster is not None:
            cluster.close()


def _quiet(client: Any) -> None:
    """Of every fit each worker tells what is nothing to a reader: LightGBM each port it opens, on its own
    standard output, and XGBoost which number it has, on the other stream, whatever verbosity it is given."""
    _led(client, os.devnull, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "told")
        os.mkfifo(path, 0o600)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it waited here for who writes
        _led(client, path, 2)
    os.set_blocking(reading, True)
    threading.Thread(target=_without_ranks, args=(reading,), daemon=True).start()


def _led(client: Any, path: str, stream: int) -> None:
    for worker, opened in client.run(os.open, path, os.O_WRONLY).items():
        client.run(os.dup2, opened, stream, workers=[worker])


def _without_ranks(reading: int) -> None:
    """Until the last worker has ended. All else it says is passed on; from here, so that nothing is lost
    when it dies."""
    with open(reading, "rb") as lines:
        for line in lines:
            told = RANK.sub(b"", line)
            if told == line or told.strip():
                os.write(2, told)


def _client(workers: int, scheduler: str | None) -> Any:
    if lacking := lacking_for_workers():
        raise NoWorkers(lacking)
    import distributed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler is None:
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=max(1, cores() // workers), host="127.0.0.1",
            dashboard_address=None, worker_dashboard_address=None, memory_limit=0,
        )  # fmt: skip
        return distributed.Client(cluster)
    try:
        client = distributed.Client(scheduler, timeout=READY_S)
        client.wait_for_workers(workers, timeout=READY_S)
    except (OSError, TimeoutError, ValueError) as wrong:
        raise NoWorkers(
            f"--scheduler {scheduler}: no {workers} workers within {READY_S} s: {wrong}"
        ) from wrong
    return client


class Spread:
    """The table's rows on the workers, dealt by lot: each fold has its share on every worker, and where a
    worker decides from its own rows alone where values are cut (LightGBM), they are like all the others."""

    def __init__(self, client: Any, rows: Array, features: tuple[str, ...], threads: int) -> None:
        self.client, self.rows, self.names, self.threads = client, rows, plain(features), threads
        self.workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        self.owner = np.random.default_rng(0).permutation(len(rows)) % len(self.workers)
        self.place = np.empty(len(rows), dtype=np.int64)  # of a row among those of its owner
        self.parts = []
        for at, worker in enumerate(self.workers):
            mine = np.flatnonzero(self.owner == at)
            self.place[mine] = np.arange(len(mine))
            self.parts.append(client.scatter(rows[mine], workers=[worker], hash=False))

    def fit(self, learner: str, *given: Any) -> Grown:
        try:
            return (fit_xgb if learner == "xgboost" else fit_lgb)(self, *given)
        except BaseException:  # libraries tell of a lost worker in many ways, none of which names it
            self._all_here(learner)
            raise

    def _all_here(self, learner: str) -> None:
        try:
            there = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError:
            there = {}
        lost = [worker for worker in self.workers if worker not in there]
        if lost:
            raise WorkersLost(
                f"{len(lost)} of {len(self.workers)} workers went away while {learner} grew:"
                f" {', '.join(lost)}; the fits before that are kept, and the same line goes on after them"
            )

    def cut(self, which: Array, *columns: Array | None) -> list[Any]:
        """Rows, and what goes with them, as arrays of dask; the rows stay where they are."""
        import dask.array as da
        from dask import delayed

        cuts: list[list[Any]] = [[] for _ in range(1 + len(columns))]
        for at, worker in enumerate(self.workers):
            mine = which[self.owner[which] == at]
            if not len(mine):
                continue
            taken = self.client.submit(
                np.take, self.parts[at], self.place[mine], axis=0, workers=[worker], pure=False
            )
            shape = (len(mine), self.rows.shape[1])
            cuts[0].append(da.from_delayed(delayed(taken), shape=shape, dtype=np.float32))
            for values, pieces in zip(columns, cuts[1:], strict=True):
                if values is not None:
                    pieces.append(da.from_array(np.ascontiguousarray(values[mine]), chunks=-1))
        return [da.concatenate(pieces) if pieces else None for pieces in cuts]


def fit_xgb(
    spread: Spread, task: str, target: Array, fit: Array, held: Array, settings: Settings,
    tick: Callable[[], None], weight: Array | None = None, rounds: int | None = None, device: str = "cpu",
) -> Grown:  # fmt: skip
    from xgboost import dask as over_workers

    def bins(which: Array, heavy: Array | None, ref: Any) -> Any:
        rows, goal, weights = spread.cut(which, target, heavy)
        return over_workers.DaskQuantileDMatrix(
            spread.client, rows, goal, weight=weights, feature_names=spread.names, max_bin=MAX_BIN, ref=ref
        )

    tick()
    stops = settings.early_stop > 0 and rounds is None and len(held) > 0
    xgb.set_config(verbosity=0)  # of this thread, and of what the workers are told from here
    train = bins(fit, weight, None)
    params = xgb_params(task, settings, device, 0)
    del params["nthread"]  # each worker knows its own
    done = over_workers.train(
        spread.client, params, train, rounds or settings.rounds, verbose_eval=False,
        evals=[(bins(held, None, train), "held")] if stops else [],
        early_stopping_rounds=settings.early_stop if stops else None,
    )  # fmt: skip
    return xgb_grown(done["booster"], stops, spread.rows, held, spread.names, spread.threads)


def fit_lgb(
    spread: Spread, task: str, target: Array, fit: Array, held: Array, settings: Settings,
    tick: Callable[[], None], weight: Array | None = None, rounds: int | None = None,
) -> Grown:  # fmt: skip
    from lightgbm import DaskLGBMClassifier, DaskLGBMRegressor

    tick()
    kind = DaskLGBMClassifier if is_class(task) else DaskLGBMRegressor
    rows, goal, weights = spread.cut(fit, target, weight)
    client = _InOrder(spread.client, spread.workers)
    learner = kind(
        client=client, n_estimators=rounds or settings.rounds, learning_rate=settings.learning_rate,
        num_leaves=settings.leaves, max_bin=MAX_BIN, random_state=settings.seed, tree_learner="data",
        deterministic=True, force_row_wise=True, verbosity=-1,
    ).fit(rows, goal, sample_weight=weights)  # fmt: skip
    booster = learner.booster_
    grown = booster.current_iteration()
    if settings.early_stop > 0 and rounds is None and len(held) > 0:
        grown = _best(booster, task, spread.rows[held], target[held], settings.early_stop)
    return lgb_grown(booster, grown, spread.rows, held, "cpu", spread.threads)


class _InOrder:
    """A client that tells workers in one order. LightGBM numbers them as they are told, and which of them
    cuts which feature into bins hangs on the number: without an order no two trainings would be alike."""

    def __init__(self, client: Any, workers: list[str]) -> None:
        self._client, self._workers = client, workers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def who_has(self, parts: Any) -> dict[Any, Any]:
        found = self._client.who_has(parts).items()
        return dict(sorted(found, key=lambda one: self._workers.index(next(iter(one[1])))))


def _best(booster: Any, task: str, rows: Array, target: Array, patience: int) -> int:
    """The round after which none of `patience` rounds was better on rows that were not learned from."""
    scores, best, at = np.zeros(len(rows)), np.inf, 0
    for done in range(booster.current_iteration()):
        scores += booster.predict(rows, raw_score=True, start_iteration=done, num_iteration=1, num_threads=1)
        if is_class(task):
            loss = float(np.mean(np.logaddexp(0, scores) - target * scores))
        else:
            loss = float(np.mean((scores - target) ** 2))
        if loss < best:
            best, at = loss, done + 1
        elif done + 1 - at >= patience:
            break
    return at
