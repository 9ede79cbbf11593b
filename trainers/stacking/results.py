"""What comes of the fits: each task's stack, how good it and its learners are, and what a version holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from trainers.kit.device import Device
from trainers.kit.metrics import Metrics
from trainers.stacking import plots, scores, stack, versions
from trainers.stacking.devices import Places
from trainers.stacking.rows import answers
from trainers.stacking.settings import LEARNERS, is_class
from trainers.stacking.table import Array, Table
from trainers.stacking.units import ALL, Done, Unit, Work, parts

CHECKED_ROWS = 1000


class NothingLearned(Exception):
    """No learner does better than a constant: these columns say nothing about the target."""


@dataclass(frozen=True)
class Made:
    work: Work
    kept: Table
    judging: Table
    done: Mapping[str, Done]
    output: Path
    say: Callable[[str], None]
    metrics: Metrics


@dataclass(frozen=True)
class Told:
    metrics: dict[str, float]
    more: dict[str, Any]


def finish(made: Made) -> Told:
    metrics: dict[str, float] = {}
    learners: dict[str, Any] = {}
    for task in made.work.settings.tasks:
        figures, per_learner = _task(made, task)
        metrics |= {f"{task}_{name}": value for name, value in figures.items()}
        learners[task] = per_learner
    _folds(made)
    return Told(metrics, {"learners": learners, "judged": judged(made.judging)})


def judged(judging: Table) -> dict[str, Any]:
    """Which rows judged, and which figures count there: models are compared only where the rows are the same.
    What is known of the rows may change between two models, what came of them may not."""
    seen = hashlib.sha256()
    names: dict[bool, list[str]] = {True: [], False: []}
    for task in sorted(judging.targets):
        seen.update(task.encode())
        seen.update(np.ascontiguousarray(judging.targets[task], dtype="<f8"))
        names[is_class(task)].append(f"{task}_{scores.main_name(task)}")
    said = {"holdout": seen.hexdigest(), "rows": len(judging.rows)}
    return said | {"higher": names[True], "lower": names[False]}


def out_of_fold(work: Work, done: Mapping[str, Done], task: str, learner: str) -> Array:
    """By row of those that some fold held out."""
    every = parts(work.settings, learner)
    if every == [ALL]:
        return done[f"{task}.{learner}.{ALL}"].scores
    given = np.full(len(work.rows), np.nan)
    for part in every:
        unit = Unit(task, learner, part)
        given[work.held(unit)] = done[unit.id].scores
    return given[work.folds.judged]


def _task(made: Made, task: str) -> tuple[dict[str, float], dict[str, Any]]:
    work, target = made.work, made.kept.targets[task][made.work.folds.judged]
    unseen = {learner: out_of_fold(work, made.done, task, learner) for learner in LEARNERS}
    good = {learner: one for learner, one in unseen.items() if _learned(made, task, learner, target, one)}
    if not good:
        raise NothingLearned(
            f"{made.kept.name}: no learner predicts '{made.kept.chosen[task]}' of {task}"
            f" better than a constant ({len(target)} rows, {len(work.features)} features)"
        )
    fitted = stack.fit(task, good, target)
    model = versions.of_units(
        task, made.kept.chosen[task], work.features, work.settings, made.done, fitted
    )  # fmt: skip
    base = _base(model, made.judging)
    by_name = {"stack": fitted.scores(base), **base}
    came = made.judging.targets[task]
    figures = {name: scores.quality(task, came, one) for name, one in by_name.items()}
    versions.save(made.output, model, work.settings, made.done)
    _read_back(made, model)
    _unseen(made, task, unseen, fitted)
    plots.draw(made.output / task, task, came, by_name, model.feature_importance())
    for name, value in figures["stack"].items():
        made.metrics.add(len(made.done), "holdout", f"{task}_{name}", value)
    main = scores.main_name(task)
    best = (
        max(figures[one][main] for one in LEARNERS)
        if main == "auc"
        else min(figures[one][main] for one in LEARNERS)
    )
    made.say(
        f"{task}: {main} {figures['stack'][main]:.4f} on {len(came)} rows held out (best single {best:.4f})"
    )
    return figures["stack"], _per_learner(made, task, target, unseen, figures, fitted)


def _base(model: versions.Model, judging: Table) -> dict[str, Array]:
    def columns(rows: Array) -> Array:
        said = model.base_scores(rows, LEARNERS)
        return np.column_stack([said[learner] for learner in LEARNERS])

    given = answers(columns, judging.rows, np.arange(len(judging.rows)))
    return dict(zip(LEARNERS, given.T, strict=True))


def _learned(made: Made, task: str, learner: str, target: Array, given: Array) -> bool:
    """Whether it beats a constant on rows it has not seen. Labels that LightGBM lost without an error would
    show here, too: such a model says the same for every row, and by chance that looks like a little."""
    folds = made.work.folds
    number = folds.number[folds.judged]
    same = [fold + 1 for fold in range(folds.count) if np.ptp(given[number == fold]) == 0]
    name = scores.main_name(task)
    value, bar = scores.quality(task, target, given)[name], scores.constant(task, target)
    if scores.beats(task, value, bar) and not same:
        return True
    why = f"says the same for every row of fold {same[0]}" if same else "does no better than a constant"
    made.say(
        f"warning: {learner} of {task} {why} on rows it has not seen"
        f" ({name} {value:.4f}, constant {bar:.4f}); it is left out of the stack"
    )
    return False


def _per_learner(
    made: Made, task: str, target: Array, unseen: Mapping[str, Array],
    figures: Mapping[str, dict[str, float]], fitted: stack.Stack,
) -> dict[str, Any]:  # fmt: skip
    told: dict[str, Any] = {"stack": {"holdout": figures["stack"], "constant": scores.constant(task, target)}}
    slopes = dict(zip(fitted.learners, fitted.slope.tolist(), strict=True))
    for learner in LEARNERS:
        units = [made.done[f"{task}.{learner}.{part}"] for part in parts(made.work.settings, learner)]
        told[learner] = {
            "out_of_fold": scores.quality(task, target, unseen[learner]),
            "holdout": figures[learner],
            "in_stack": slopes.get(learner),  # null: left out
            "rounds": [unit.rounds for unit in units],
            "seconds": round(sum(unit.seconds for unit in units), 3),
        }
    return told


def _read_back(made: Made, model: versions.Model) -> None:
    """The files count, not what is in memory: they must say the same."""
    rows = made.judging.rows[:CHECKED_ROWS]
    again = versions.load(made.output, model.task).scores(rows)
    if not np.allclose(again, model.scores(rows), rtol=1e-9, atol=1e-9):
        raise RuntimeError(f"the files of {model.task} do not answer as the model they were written from")


def _unseen(made: Made, task: str, unseen: Mapping[str, Array], fitted: stack.Stack) -> None:
    judged = made.work.folds.judged
    columns = {
        "row": made.kept.index[judged], "fold": made.work.folds.number[judged] + 1,
        "target": made.kept.targets[task][judged], **unseen, "stack": fitted.scores(unseen),
    }  # fmt: skip
    _write(made.output / task / "out_of_fold.parquet", columns)


def _folds(made: Made) -> None:
    """`row` counts in the table as it was given; fold 0 was never held out."""
    _write(made.output / "folds.parquet", {"row": made.kept.index, "fold": made.work.folds.number + 1})


def _write(path: Path, columns: Mapping[str, Array]) -> None:
    """Without dictionaries: of values that are all different they take more memory than all else here."""
    pyarrow.parquet.write_table(pa.table(dict(columns)), path, row_group_size=1 << 16, use_dictionary=False)


# devices


def devices(places: Places, done: Mapping[str, Done]) -> dict[str, Any]:
    """What really ran where, read back from the models."""
    used = {
        learner: sorted({one.device for id, one in done.items() if f".{learner}." in id})
        for learner in LEARNERS
    }
    fell = places.device.wish == "cuda" and not any(one.startswith("cuda") for one in used["xgboost"])
    outcome = "gpu" if places.on_gpu else "fell back to the cpu" if fell else "cpu"
    return {"used": used, "line": places.line(), "outcome": outcome}


def ran_on(places: Places, done: Mapping[str, Done]) -> Device:
    """One word for the launcher: cuda only if every tree of XGBoost grew there."""
    used = {one.device for id, one in done.items() if ".xgboost." in id}
    if places.on_gpu and all(one.startswith("cuda") for one in used):
        return places.device
    return replace(places.device, kind="cpu", name="cpu")
