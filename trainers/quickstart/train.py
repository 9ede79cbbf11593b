"""Boosted trees for the chance of a goal: gradient boosting on the log loss, whose trees are grown by
scikit-learn, one round at a time so that it can stop and go on after any of them.

    python -m trainers.quickstart --output DIR [--rounds 120] [--learning-rate 0.1] [--depth 3]

Every round's draws depend on the seed and the round's number alone and the scores are kept to the last
bit, so a training that was killed and resumed gives exactly what an undisturbed one gives.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeRegressor

from trainers.kit.checkpoints import Checkpoints
from trainers.kit.device import Device
from trainers.kit.files import write_json
from trainers.kit.metrics import Metrics, Point
from trainers.kit.session import LEFT, Leave, Log, Place, write_result
from trainers.quickstart.model import FIELDS, Array, Model, Tree, load

SAMPLE = Path(__file__).parent / "sample" / "table.csv"
TARGET = "goal"
SAY_EVERY = 10
MAY_CHANGE = ("rounds", "checkpoint_every")  # on resume: they bend nothing that was already trained


class Unusable(Exception):
    """What the user handed in cannot be trained on, with the reason."""


@dataclass(frozen=True)
class Settings:
    rounds: int
    learning_rate: float
    depth: int
    batch_size: int
    min_leaf: int
    checkpoint_every: int
    seed: int


# data


@dataclass(frozen=True)
class Part:
    rows: Array  # float32, as the trees compare them
    goal: Array


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    digest: str
    train: Part
    valid: Part
    test: Part


def find_table(data: str | None, place: Place) -> Path:
    if data:
        return Path(data)
    if place.input and (place.input / "table.csv").is_file():
        return place.input / "table.csv"
    return SAMPLE


def read_table(path: Path) -> Table:
    """Three fifths to learn from, one to choose the best round by, one to judge by; order is kept."""
    try:
        text = path.read_bytes()
        header, *lines = text.decode().splitlines()
        numbers = np.array([line.split(",") for line in lines], dtype=np.float64)
    except (OSError, ValueError) as wrong:
        raise Unusable(f"{path}: no table of numbers with a header line: {wrong}") from wrong
    names = header.split(",")
    if TARGET not in names or numbers.ndim != 2 or numbers.shape[1] != len(names) or len(numbers) < 100:
        raise Unusable(f"{path}: expected a column {TARGET!r} and at least 100 rows under {len(names)} names")
    goal = numbers[:, names.index(TARGET)]
    if not np.isfinite(numbers).all() or not np.isin(goal, (0, 1)).all() or len(np.unique(goal)) < 2:
        raise Unusable(f"{path}: {TARGET} must be 0 or 1, both must occur, and every value must be a number")
    rows = np.delete(numbers, names.index(TARGET), axis=1).astype(np.float32)
    cuts = (len(rows) * 3 // 5, len(rows) * 4 // 5)
    parts = [Part(r, g) for r, g in zip(np.split(rows, cuts), np.split(goal, cuts), strict=True)]
    if any(len(np.unique(part.goal)) < 2 for part in parts):
        raise Unusable(f"{path}: each of the three parts of the table needs both outcomes; shuffle its rows")
    columns = tuple(name for name in names if name != TARGET)
    return Table(columns, hashlib.sha256(text).hexdigest(), *parts)


# model


@dataclass
class State:
    """All that a round changes: what a checkpoint must hold."""

    bias: float
    trees: list[Tree]
    train_score: Array
    valid_score: Array

    @classmethod
    def fresh(cls, table: Table) -> State:
        share = float(table.train.goal.mean())
        bias = float(np.log(share / (1 - share)))
        return cls(bias, [], np.full(len(table.train.goal), bias), np.full(len(table.valid.goal), bias))


def grow(state: State, table: Table, settings: Settings) -> None:
    """One round: a tree on what the model still gets wrong, each leaf moved by one Newton step."""
    draw = np.random.default_rng([settings.seed, len(state.trees)])
    count = min(settings.batch_size, len(table.train.goal))
    drawn = np.sort(draw.choice(len(table.train.goal), count, replace=False))
    rows, chance = table.train.rows[drawn], 1 / (1 + np.exp(-state.train_score[drawn]))
    wrong = table.train.goal[drawn] - chance
    fitted = DecisionTreeRegressor(
        max_depth=settings.depth, min_samples_leaf=settings.min_leaf, random_state=int(draw.integers(2**31))
    ).fit(rows, wrong)
    inside, leaves = fitted.tree_, fitted.apply(rows)
    pull = np.bincount(leaves, wrong, inside.node_count)
    curve = np.bincount(leaves, chance * (1 - chance), inside.node_count)
    tree = Tree(
        column=inside.feature.astype(np.int64),
        threshold=inside.threshold.astype(np.float64),
        yes=inside.children_left.astype(np.int64),
        no=inside.children_right.astype(np.int64),
        value=settings.learning_rate * pull / np.maximum(curve, 1e-9),
    )
    at_valid = tree.leaves(table.valid.rows)
    if not np.array_equal(at_valid, fitted.apply(table.valid.rows)):
        raise RuntimeError(f"round {len(state.trees) + 1}: the exported tree disagrees with scikit-learn's")
    state.train_score += tree.value[tree.leaves(table.train.rows)]
    state.valid_score += tree.value[at_valid]
    state.trees.append(tree)


def log_loss(goal: Array, score: Array) -> float:
    return float(np.mean(np.logaddexp(0, score) - goal * score))


def measure(state: State, table: Table, metrics: Metrics) -> tuple[float, float]:
    step = len(state.trees)
    loss = log_loss(table.train.goal, state.train_score)
    auc = float(roc_auc_score(table.valid.goal, state.valid_score))
    metrics.add(step, "train", "loss", loss)
    metrics.add(step, "valid", "loss", log_loss(table.valid.goal, state.valid_score))
    metrics.add(step, "valid", "auc", auc)
    metrics.flush()
    return loss, auc


def valid_aucs(metrics: Metrics) -> list[float]:
    return [one["value"] for one in metrics.points if (one["split"], one["name"]) == ("valid", "auc")]


# checkpoints


def save(keeper: Checkpoints, state: State, metrics: Metrics, course: dict[str, Any]) -> None:
    packed = {field: np.concatenate([getattr(tree, field) for tree in state.trees]) for field in FIELDS}
    sizes = np.array([len(tree.value) for tree in state.trees])

    def fill(folder: Path) -> None:
        with open(folder / "state.npz", "wb") as out:
            np.savez(out, sizes=sizes, train_score=state.train_score, valid_score=state.valid_score, **packed)
        held = course | {"bias": state.bias, "points": metrics.points}
        (folder / "course.json").write_text(json.dumps(held, allow_nan=False))

    keeper.save(len(state.trees), fill, valid_aucs(metrics)[-1])


def resume(keeper: Checkpoints, same: dict[str, Any], rounds: int) -> tuple[State, list[Point], float] | None:
    """The newest checkpoint's state, its points and the seconds spent; refuses another training's."""
    newest = keeper.newest(up_to=rounds)
    if newest is None:
        return None
    course = json.loads((newest.folder / "course.json").read_text())
    other = [key for key, value in same.items() if course["same"].get(key) != value]
    if other:
        was = ", ".join(f"{key} {course['same'].get(key)} (now {same[key]})" for key in other)
        raise Unusable(f"{newest.folder} belongs to a training with {was}: give another --checkpoint folder")
    with np.load(newest.folder / "state.npz", allow_pickle=False) as held:
        ends = np.cumsum(held["sizes"])[:-1]
        split = [np.split(held[field], ends) for field in FIELDS]
        trees = [Tree(*nodes) for nodes in zip(*split, strict=True)]
        state = State(course["bias"], trees, held["train_score"].copy(), held["valid_score"].copy())
    return state, course["points"], course["seconds"]


# loop


def run(
    settings: Settings, data: str | None, place: Place, device: Device, log: Log, leave: Leave, began: float
) -> int:
    path = find_table(data, place)
    table = read_table(path)
    log.open(place.output)
    sizes = " + ".join(str(len(part.goal)) for part in (table.train, table.valid, table.test))
    log.say(f"table {path.name}: {sizes} rows")
    keeper = Checkpoints(place.checkpoint, goal="max", say=log.say)
    fixed = {key: value for key, value in dataclasses.asdict(settings).items() if key not in MAY_CHANGE}
    same = fixed | {"table": table.digest}
    found = resume(keeper, same, settings.rounds)
    state, past, spent = found or (State.fresh(table), [], 0.0)
    resumed_at = len(state.trees)
    if found:
        log.say(f"resuming after round {resumed_at}")
    write_json(place.output / "config.json", dataclasses.asdict(settings) | {"table": table.digest})
    metrics = Metrics(place.output, past, say=log.say)
    saved_at, course = resumed_at, {"same": same}

    def checkpoint() -> None:
        nonlocal saved_at
        save(keeper, state, metrics, course | {"seconds": spent + time.monotonic() - began})
        saved_at = len(state.trees)

    while len(state.trees) < settings.rounds and not leave.asked:
        grow(state, table, settings)
        loss, auc = measure(state, table, metrics)
        done = len(state.trees)
        if done % SAY_EVERY == 0 or done in (1, settings.rounds):
            log.say(f"round {done}/{settings.rounds} loss {loss:.4f} valid_auc {auc:.4f}")
        if done % settings.checkpoint_every == 0:
            checkpoint()
    if len(state.trees) > saved_at:
        checkpoint()
    if len(state.trees) < settings.rounds:
        metrics.close()
        log.say(f"asked to leave: checkpoint of round {saved_at}, {settings.rounds - saved_at} rounds to go")
        return LEFT
    finish(settings, table, state, metrics, place, device, log, resumed_at, spent + time.monotonic() - began)
    return 0


def finish(
    settings: Settings, table: Table, state: State, metrics: Metrics, place: Place, device: Device, log: Log,
    resumed_at: int, seconds: float,
) -> None:  # fmt: skip
    """The best round's model, judged on the rows nobody looked at, and read back before it counts."""
    aucs = valid_aucs(metrics)
    best = int(np.argmax(aucs)) + 1
    model = Model(table.columns, state.bias, tuple(state.trees[:best]))
    write_json(place.output / "model.json", model.as_json())
    scores = model.score(table.test.rows)
    if not np.array_equal(load(place.output / "model.json").score(table.test.rows), scores):
        raise RuntimeError("model.json does not give back the scores it was written from")
    auc, loss = float(roc_auc_score(table.test.goal, scores)), log_loss(table.test.goal, scores)
    metrics.add(settings.rounds, "test", "auc", auc)
    metrics.add(settings.rounds, "test", "loss", loss)
    metrics.close()
    write_json(place.output / "training_history.json", metrics.course())
    result = {"valid_auc": aucs[best - 1], "test_auc": auc, "test_loss": loss}
    more = {"best_round": best, "rounds": settings.rounds, "resumed_at": resumed_at or None}
    write_result(
        place, trainer="quickstart", metrics=result, device=device, seconds=seconds,
        packages=("numpy", "scipy", "scikit-learn"), more=more,
    )  # fmt: skip
    log.say(f"best round {best}: test auc {auc:.4f}, loss {loss:.4f} on {device.kind}")
