"""The measured course of a training: `metrics.jsonl` for the launcher, event files for TensorBoard.

A value that is no number is written as null with `"nan": true` (NaN is not JSON) and said aloud.
On resume the past is what the checkpoint remembers: points measured after it are dropped and will be
measured again, so that a resumed course equals an undisturbed one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainers.kit.events import EventFile
from trainers.kit.files import write

Point = dict[str, Any]


def point(ts: float, step: int, split: str, name: str, value: float) -> Point:
    if math.isfinite(value):
        return {"ts": ts, "step": step, "split": split, "name": name, "value": value}
    return {"ts": ts, "step": step, "split": split, "name": name, "value": None, "nan": True}


def _line(one: Point) -> str:
    return json.dumps(one, allow_nan=False) + "\n"


class Metrics:
    def __init__(
        self,
        output: Path,
        past: Iterable[Point] = (),
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.points: list[Point] = list(past)
        self._say = say
        self._clock = clock
        path = output / "metrics.jsonl"
        write(path, "".join(map(_line, self.points)).encode())
        self._lines = open(path, "a", encoding="utf-8")  # noqa: SIM115 (close() closes it)
        folder = output / "tensorboard"
        for stale in folder.glob("events.out.tfevents.*"):
            stale.unlink()  # its points after the checkpoint would be shown twice
        self._events = EventFile(folder, clock())
        for one in self.points:
            self._event(one)
        self.flush()

    def add(self, step: int, split: str, name: str, value: float) -> None:
        one = point(round(self._clock(), 3), step, split, name, float(value))
        if one["value"] is None:
            self._say(f"warning: {split} {name} is {value} at step {step}")
        self.points.append(one)
        self._lines.write(_line(one))
        self._event(one)

    def flush(self) -> None:
        """Once a step, so that a watcher sees whole steps and no step waits for the disk twice."""
        self._lines.flush()
        self._events.flush()

    def close(self) -> None:
        self._lines.close()
        self._events.close()

    def course(self) -> dict[str, list[list[float | int | None]]]:
        """`{"valid/auc": [[step, value], …]}`: what training_history.json holds."""
        course: dict[str, list[list[float | int | None]]] = {}
        for one in self.points:
            course.setdefault(f"{one['split']}/{one['name']}", []).append([one["step"], one["value"]])
        return course

    def _event(self, one: Point) -> None:
        value = math.nan if one["value"] is None else one["value"]
        self._events.scalar(one["ts"], one["step"], f"{one['split']}/{one['name']}", value)
