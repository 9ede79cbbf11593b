"""For people who retrain from their own code:

    from trainers.stacking.api import train_versioned_model
    version = train_versioned_model("season.parquet", "classifier")
    version.model().predict_proba(new_rows)

A version appears under models/ whole or not at all. When the same call was interrupted, it goes on after
the last fit that was kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainers.kit.files import sync_folder
from trainers.kit.manifest import write_manifest
from trainers.kit.session import Log, Place
from trainers.stacking import devices, pieces, spread, train, versions
from trainers.stacking.results import NothingLearned
from trainers.stacking.settings import TASKS, Settings
from trainers.stacking.table import Schema, Unusable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Version:
    name: str
    path: Path

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "result.json").read_text()))

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.result["metrics"])

    def model(self, task: str | None = None) -> versions.Model:
        """Without a name the only task's."""
        there = [one for one in TASKS if (self.path / one / "model.json").is_file()]
        if task is None and len(there) != 1:
            raise Unusable(f"{self.path} holds {', '.join(there) or 'no task'}: say which one")
        return versions.load(self.path, task or there[0])


def train_versioned_model(
    data: Any,
    task: str,
    version: str | None = None,
    use_gpu: bool | None = None,
    *,
    schema: Schema | None = None,
    settings: Settings | None = None,
    holdout: Any = None,
    models: Path | str = "models",
    scheduler: str | None = None,
) -> Version:
    """`data` is a path, columns by name, a DataFrame or an Arrow table; `task` may be "all". `use_gpu`: None
    looks and falls back, True demands, False never looks. `scheduler` is dask's, for `Settings(workers=N)`.
    Raises Unusable, DeviceRefused, NothingLearned, NoWorkers, and Taken where another process makes the same
    version."""
    if task not in (*TASKS, "all"):
        raise Unusable(f"there is no task {task!r}: {', '.join(TASKS)}, all")
    name = version or f"{datetime.now(UTC):%Y%m%d_%H%M%S}_stacking"
    final = Path(models) / name
    if not NAME.fullmatch(name) or final.exists():
        raise Unusable(f"{final} {'is there already' if final.exists() else 'is no name of a version'}")
    beside = final.with_name(f".{name}.partial")
    log = Log()
    flag = {None: None, True: "cuda", False: "cpu"}[use_gpu]
    places = devices.decide(flag, False, os.environ, log.say, called="use_gpu")
    chosen = replace(settings or Settings(), tasks=TASKS if task == "all" else (task,))
    place = Place(beside / "out", beside / "checkpoints", None, None, chosen.seed)
    with (
        pieces.scratch(chosen.external_memory) as scratch,
        spread.connected(chosen.workers, scheduler) as client,
    ):
        order = train.Order(chosen, data, schema or Schema(), holdout, scratch)
        try:
            train.run(train.Course(order, place, places, log, _never, client), time.monotonic())
        except NothingLearned:
            shutil.rmtree(beside)  # once more would give the same
            raise
    config = json.loads((place.output / "config.json").read_text())
    inputs = {name: config.pop(name) for name in ("table", "judging")}
    del config["dealt"]  # which follows from settings and columns
    write_manifest(place.output, "stacking", config, inputs)
    os.rename(place.output, final)
    sync_folder(final.parent)
    shutil.rmtree(beside)
    return Version(name, final)


def _never() -> bool:
    return False
