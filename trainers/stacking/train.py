"""Stacking for a class and three numbers: every learner answers for rows it has not seen, a small model
learns what the answers are worth together, and rows that nobody saw judge the whole.

    python -m trainers.stacking --output DIR [--data FILE] [--task classifier|up|down|high|all]

Each fit is a unit (units.py) and is kept as soon as it is done; a training that was killed goes on after
the last one and ends as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from trainers.kit.checkpoints import Checkpoints
from trainers.kit.device import DeviceRefused
from trainers.kit.files import write_json
from trainers.kit.metrics import Metrics, Point
from trainers.kit.session import LEFT, Log, Place, write_result
from trainers.stacking import folds as folding
from trainers.stacking import pieces, results, scores
from trainers.stacking.devices import Places
from trainers.stacking.rows import only
from trainers.stacking.settings import Settings
from trainers.stacking.table import Array, Schema, Table, Unusable, read
from trainers.stacking.units import Done, Unit, Work, listed

PACKAGES = ("numpy", "scipy", "scikit-learn", "lightgbm", "pyarrow")
XGBOOST = ("xgboost", "xgboost-cpu")  # one library, two packages
LOOK_S = 0.1  # how soon a training sees that it is asked to leave
FORMAT = "stacking-checkpoint-2"


class Leaving(Exception):
    """Somebody asked the training to leave, and a fit was given up for it."""


@dataclass(frozen=True)
class Order:
    """What is to be learned, and from what: paths, or tables in memory."""

    settings: Settings
    data: Any
    schema: Schema = field(default_factory=Schema)
    holdout: Any = None  # another table that judges; None: a part of the first
    scratch: Path | None = None  # where tables lie that stay out of memory


@dataclass
class Course:
    """One training while it runs."""

    order: Order
    place: Place
    places: Places
    log: Log
    asked: Callable[[], bool]  # whether to leave
    client: Any = None  # of the workers that grow the boosters, where there are some
    given_up: Event = field(default_factory=Event)  # nobody waits for the fits at hand any more

    @property
    def say(self) -> Callable[[str], None]:
        return self.log.say

    def tick(self) -> None:
        if self.asked():
            raise Leaving

    def wanted(self) -> None:
        """Called by a fit between two trees."""
        if self.given_up.is_set():
            raise Leaving


# the rows


def prepared(order: Order) -> tuple[Table, Table, folding.Folds]:
    """What is learned from, what judges, and the folds. Raises Unusable before anything is written."""
    settings = order.settings
    table = _read(order, order.data, order.schema)
    if order.holdout is None:
        learn, judge = folding.part(table, settings)
        kept, judging = _only(table, learn), _only(table, judge)
    else:
        schema = replace(order.schema, features=table.features, time=None, group=None)
        kept, judging = table, _read(order, order.holdout, schema)
    folds = folding.make(kept, settings)
    folding.judges(judging)
    return kept, judging, folds


def _read(order: Order, source: Any, schema: Schema) -> Table:
    if order.scratch is None:
        return read(source, schema, order.settings.tasks)
    if not isinstance(source, str | Path):
        raise Unusable("--external-memory reads a table from its file: say which one with --data")
    return pieces.read(Path(source), schema, order.settings.tasks, order.scratch)


def _only(table: Table, which: Array) -> Table:
    return replace(
        table,
        rows=only(table.rows, which),
        index=table.index[which],
        targets={task: target[which] for task, target in table.targets.items()},
        time=None if table.time is None else table.time[which],
        group=None if table.group is None else table.group[which],
    )


# checkpoints


def save(keeper: Checkpoints, done: Mapping[str, Done], course: dict[str, Any]) -> None:
    """A file for each fit, written once: the next checkpoint links to those of the one before."""
    before = keeper.all()[-1:]
    meta = {id: [one.rounds, one.device, one.seconds] for id, one in done.items()}

    def fill(folder: Path) -> None:
        for id, one in done.items():
            path = folder / f"{id}.npz"
            if not (before and _linked(before[0].folder / path.name, path)):
                model = np.frombuffer(one.model, dtype=np.uint8)
                np.savez(path, scores=one.scores, importance=one.importance, model=model)
        told = course | {"format": FORMAT, "units": meta}
        (folder / "course.json").write_text(json.dumps(told, allow_nan=False))

    keeper.save(len(done), fill)


def _linked(there: Path, path: Path) -> bool:
    try:
        os.link(there, path)
    except OSError:
        return False  # not there yet, or a disk without links
    return True


def resume(keeper: Checkpoints, same: dict[str, Any]) -> tuple[dict[str, Done], list[Point], float]:
    """What is done, its points and the seconds spent; refuses another training's."""
    newest = keeper.newest()
    if newest is None:
        return {}, [], 0.0
    course = json.loads((newest.folder / "course.json").read_text())
    if course.get("format") != FORMAT:
        raise Unusable(f"{newest.folder} is no {FORMAT}: remove {keeper.folder}, or choose another folder")
    other = [key for key, value in same.items() if course["same"].get(key) != value]
    if other:
        was = ", ".join(f"{key} {course['same'].get(key)} (now {same[key]})" for key in other)
        raise Unusable(
            f"{newest.folder} belongs to a training with {was}:"
            f" remove {keeper.folder}, or choose another folder (--checkpoint; from Python another version)"
        )
    done = {}
    for id, (rounds, device, seconds) in course["units"].items():
        with np.load(newest.folder / f"{id}.npz", allow_pickle=False) as held:
            model = held["model"].tobytes()
            done[id] = Done(model, held["scores"], held["importance"], rounds, device, seconds)
    return done, course["points"], course["seconds"]


# the course


def in_order(
    lanes: list[list[Unit]], do: Callable[[Unit], Done], tick: Callable[[], None]
) -> Iterator[tuple[Unit, Done]]:
    """Each lane one unit after the other, the lanes side by side; a lane goes on once its unit was taken.

    Fits have threads of their own, which are left behind when `tick` raises: a library may keep them long."""
    pool = ThreadPoolExecutor(max(1, len(lanes)))
    begun: dict[Future[Done], tuple[Unit, list[Unit]]] = {}

    def begin(lane: list[Unit]) -> None:
        if lane:
            begun[pool.submit(do, lane[0])] = (lane[0], lane[1:])

    try:
        for lane in lanes:
            begin(lane)
        while begun:
            ready, _ = wait(begun, LOOK_S, FIRST_COMPLETED)
            following = []
            for one in ready:
                unit, rest = begun.pop(one)
                yield unit, one.result()
                following.append(rest)
            tick()
            for rest in following:
                begin(rest)
    finally:
        pool.shutdown(wait=False)


def lanes(units: list[Unit], places: Places) -> list[list[Unit]]:
    """Beside a GPU the forest has the processor to itself; without one a unit has all of it."""
    if not places.on_gpu:
        return [units]
    return [[u for u in units if u.learner != "forest"], [u for u in units if u.learner == "forest"]]


def run(course: Course, began: float) -> int:
    """0, or LEFT when it was asked to leave."""
    ready = prepared(course.order)
    with closing(Checkpoints(course.place.checkpoint, goal="max", say=course.say)) as keeper:
        return learned(course, began, keeper, *ready)


def learned(
    course: Course, began: float, keeper: Checkpoints, kept: Table, judging: Table, folds: folding.Folds
) -> int:
    order, say = course.order, course.say
    same = dataclasses.asdict(order.settings) | {"table": kept.digest(), "judging": judging.digest()}
    same["dealt"] = folds.digest()
    same["tasks"] = list(order.settings.tasks)  # as JSON gives it back
    done, past, spent = resume(keeper, same)
    course.log.open(course.place.output)
    say(
        f"{kept.name}: {len(kept.rows)} rows to learn from in {folds.count} {folds.kind} folds,"
        f" {len(judging.rows)} to judge by, {len(kept.features)} features"
    )
    say(course.places.line())
    if course.client is not None:
        there = course.client.scheduler_info(n_workers=-1)
        say(f"boosters grow over {len(there['workers'])} workers of {there['address']}")
    write_json(course.place.output / "config.json", same | {"features": list(kept.features)})
    resumed_at = len(done)
    metrics = Metrics(course.place.output, past, say=say)
    work = Work(
        kept.rows,
        kept.features,
        kept.targets,
        folds,
        order.settings,
        course.places,
        course.wanted,
        client=course.client,
    )

    def keep() -> None:
        seconds = spent + time.monotonic() - began
        save(keeper, done, {"same": same, "points": metrics.points, "seconds": seconds})

    if not fitted(course, work, done, metrics, keep):
        metrics.close()
        return LEFT
    told = results.finish(
        results.Made(work, kept, judging, done, course.place.output, say, metrics)
    )  # fmt: skip
    metrics.close()
    write_json(course.place.output / "training_history.json", metrics.course())
    ran = {"devices": results.devices(course.places, done), "resumed_at": resumed_at or None}
    write_result(
        course.place, trainer="stacking", metrics=told.metrics, device=results.ran_on(course.places, done),
        seconds=spent + time.monotonic() - began, packages=(*PACKAGES, *_installed()), more=told.more | ran,
    )  # fmt: skip
    return 0


def _installed() -> list[str]:
    return [name for name in XGBOOST if any(importlib.metadata.distributions(name=name))]


def fitted(
    course: Course, work: Work, done: dict[str, Done], metrics: Metrics, keep: Callable[[], None]
) -> bool:
    """Every unit that is not done yet, each kept before the next begins; False when asked to leave before."""
    units = listed(work.settings)
    if done:
        course.say(f"resuming after {len(done)} of {len(units)} fits")
    to_do = lanes([unit for unit in units if unit.id not in done], course.places)
    try:
        for unit, made in in_order(to_do, lambda unit: work.do(unit, done), course.tick):
            course.places = checked(course, unit, made)
            done[unit.id] = made
            tell(course, work, unit, made, (len(done), len(units)), metrics)
            keep()
    except Leaving:
        to_go = len(units) - len(done)
        if to_go:
            course.say(f"asked to leave: {len(done)} of {len(units)} fits are kept, {to_go} to go")
            return False
    finally:
        course.given_up.set()
    return True


def checked(course: Course, unit: Unit, made: Done) -> Places:
    """XGBoost falls back in silence; here that is said, and is an error where a GPU was demanded."""
    places = course.places
    if unit.learner != "xgboost" or not places.on_gpu or made.device.startswith("cuda"):
        return places
    if places.device.must:
        raise DeviceRefused(f"XGBoost was told {places.xgboost} and computed on the {made.device}")
    course.say(
        f"warning: XGBoost was told {places.xgboost} and computed on the {made.device}; going on there"
    )
    return replace(places, xgboost="cpu", why="it fell back while training")


def tell(
    course: Course, work: Work, unit: Unit, made: Done, count: tuple[int, int], metrics: Metrics
) -> None:
    at, of = count
    which = f" fold {unit.part}/{work.folds.count}" if unit.fold is not None else ""
    line = f"{at}/{of} {unit.learner} {unit.task}{which}:"
    held = work.held(unit)
    if len(held):
        name = scores.main_name(unit.task)
        value = scores.quality(unit.task, work.targets[unit.task][held], made.scores)[name]
        metrics.add(at, "oof", f"{unit.task}_{unit.learner}_{name}", value)
        line += f" {name} {value:.4f},"
    if unit.learner in ("xgboost", "lightgbm"):
        line += f" {made.rounds} rounds on {made.device},"
    metrics.flush()
    course.say(f"{line} {made.seconds:.1f} s")
