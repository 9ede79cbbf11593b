"""The command line: whatever is wrong with it is said before numpy and the learners are loaded."""

from __future__ import annotations

import os
import sys
import time
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainers.kit.arguments import USAGE, Arguments, number, refused, whole
from trainers.kit.checkpoints import Taken
from trainers.kit.device import DeviceRefused
from trainers.kit.session import LEFT, Leave, Log, Place
from trainers.stacking import devices, openmp
from trainers.stacking.settings import SPLITS, TASKS, Settings, lacking_for_workers

NAME = "stacking"
NO_DEVICE = 1
NOTHING_LEARNED = 1
NO_MEMORY = 1
UNWRITABLE = 1
WORKERS_LOST = 1


def arguments() -> Arguments:
    """What trainer.yaml lists under args, with the same defaults and bounds; a test compares them."""
    own = Settings()
    flags = Arguments(NAME, "Boosters, forest and ridge, stacked: one class, three numbers.")
    add = flags.add_argument
    add("--task", choices=(*TASKS, "all"), default="all", help="what to learn")
    add(
        "--rows",
        type=whole(200, 100_000_000),
        default=6000,
        help="rows of the generated table, without --data",
    )
    add("--folds", type=whole(2, 50), default=own.folds, help="parts that are held out in turn")
    add("--split", choices=SPLITS, default=own.split, help="how rows are parted: time keeps the order")
    add("--holdout", type=number(0.01, 0.9), default=own.holdout, help="share of rows that only judges")
    add("--rounds", type=whole(1, 100_000), default=own.rounds, help="trees of a booster at most")
    add(
        "--learning-rate",
        type=number(0.0001, 1),
        default=own.learning_rate,
        help="share of each tree that counts",
    )
    add("--depth", type=whole(1, 16), default=own.depth, help="of XGBoost's trees")
    add("--leaves", type=whole(2, 4096), default=own.leaves, help="of LightGBM's trees")
    add(
        "--early-stop", type=whole(0, 10_000), default=own.early_stop, help="rounds without gain; 0 grows all"
    )
    add("--trees", type=whole(20, 10_000), default=own.trees, help="of the forest")
    add("--class-weight", choices=("none", "balanced"), default=own.class_weight, help="for a rare class")
    add(
        "--workers",
        type=whole(0, 1000),
        default=own.workers,
        help="processes that grow the boosters together",
    )
    add("--scheduler", help="address of a dask scheduler whose workers do that (default: processes here)")
    add(
        "--external-memory",
        action=BooleanOptionalAction,
        default=False,
        help="leave a table that is too large for memory in files",
    )
    add(
        "--forest-rows",
        type=whole(1000, 100_000_000),
        default=own.forest_rows,
        help="rows the forest learns from with --external-memory",
    )
    add("--target", help="the target's column, with one task (default: called as the task)")
    add("--time", help="column with the order of rows")
    add("--group", help="column with what must stay in one fold")
    add("--data", help="CSV or Parquet (default: the run's input, else a generated table)")
    add("--holdout-data", help="another table that judges, so that models can be compared")
    add("--schema", help="JSON file: targets, features, time, group")
    return flags.contract()


def run(argv: Sequence[str]) -> int:
    status = _run(argv)
    if status == LEFT:  # a fit that was given up may be in a library's hands yet: nobody waits for it
        sys.stdout.flush()
        os._exit(status)
    return status


def _run(argv: Sequence[str]) -> int:
    began = time.monotonic()
    log = Log()
    leave = Leave()
    flags = arguments().read(argv)
    openmp.ensure(argv)
    try:
        settings = _settings(flags)
        place = Place.find(os.environ, output=flags.output, checkpoint=flags.checkpoint, seed=flags.seed)
        places = devices.decide(flags.device, flags.require_gpu, os.environ, log.say)
    except ValueError as wrong:
        return refused(NAME, wrong, USAGE)
    except DeviceRefused as no:
        return refused(NAME, no, NO_DEVICE)
    devices.give_icd()
    try:
        from trainers.stacking import inputs, pieces, results, spread, table, train
    except ImportError as missing:
        lines = "pip install -r trainers/stacking/requirements.txt"
        return refused(NAME, f"{missing}; what it needs: {lines}", USAGE)
    try:
        with (
            pieces.scratch(settings.external_memory) as scratch,
            spread.connected(settings.workers, flags.scheduler) as client,
        ):
            order = replace(inputs.order(flags, settings, place), scratch=scratch)
            course = train.Course(order, place, places, log, lambda: leave.asked, client)
            return train.run(course, began)
    except MemoryError:
        return refused(NAME, "the memory is used up; --external-memory leaves the table in files", NO_MEMORY)
    except OSError as wrong:
        return refused(NAME, place.unwritable(wrong), UNWRITABLE)
    except spread.WorkersLost as lost:
        return refused(NAME, lost, WORKERS_LOST)
    except spread.NoWorkers as nobody:
        return refused(NAME, nobody, USAGE)
    except (table.Unusable, Taken) as wrong:
        return refused(NAME, wrong, USAGE)
    except DeviceRefused as no:
        return refused(NAME, no, NO_DEVICE)
    except results.NothingLearned as nothing:
        return refused(NAME, nothing, NOTHING_LEARNED)


def _settings(flags: Namespace) -> Settings:
    """Raises ValueError with words for the user."""
    if flags.target and flags.task == "all":
        raise ValueError("--target names one column: say with --task which task it is of, or use a --schema")
    if flags.workers and flags.external_memory:
        raise ValueError("--workers keep the table in memory, --external-memory does not: choose one of them")
    if flags.scheduler and not flags.workers:
        raise ValueError("--scheduler needs --workers: how many of its workers to wait for")
    if flags.workers and (lacking := lacking_for_workers()):
        raise ValueError(lacking)
    for name in ("data", "schema", "holdout_data"):
        given = getattr(flags, name)
        if given and not Path(given).is_file():
            raise ValueError(f"--{name.replace('_', '-')} {given}: there is no such file")
    return Settings(
        tasks=TASKS if flags.task == "all" else (flags.task,),
        folds=flags.folds,
        split=flags.split,
        holdout=flags.holdout,
        rounds=flags.rounds,
        learning_rate=flags.learning_rate,
        depth=flags.depth,
        leaves=flags.leaves,
        early_stop=flags.early_stop,
        trees=flags.trees,
        class_weight=flags.class_weight,
        workers=flags.workers,
        external_memory=flags.external_memory,
        forest_rows=flags.forest_rows,
    )
