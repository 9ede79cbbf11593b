"""The telemetry thread: a sample each few seconds, and a verdict whether anything happens at all.

It may hang in a driver without harm: deadlines are kept elsewhere, and a silent sampler counts as busy.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .clock import boot_clock, iso
from .metrics import Metrics
from .protocol import Job
from .spool import Lines, Spool
from .tree import Tree
from .usage import Meter

if TYPE_CHECKING:
    from . import gpu

EVERY_S = 5.0
LEAST_S = 0.2
LOOKS = 0.25  # at most this share of the idle limit lies between two samples
QUIET_PERCENT = 5.0  # less than that of a GPU, or of one core, is rest
SILENT_S = 20.0  # no sample for so long: nothing is known
MISSED = 3  # nor after so many samples that did not come: this machine is busy with something
KEEP_BYTES = 1 << 16
GB = 1e9


class Sampler:
    def __init__(self, spool: Spool, tree: Tree, booted: float, changed: Callable[[], None]) -> None:
        self._spool = spool
        self._tree = tree
        self._booted = booted
        self._changed = changed
        self._gate = threading.Condition()
        self._fast = (EVERY_S, 0.0)  # interval, until
        self._job: Job | None = None
        self._metrics = Metrics([])
        self._verdict: bool | None = False  # since it was last asked for
        self._sampled = boot_clock()
        self._ticks: tuple[float, float] | None = None
        self._written: tuple[int, ...] = ()
        self.warnings: deque[tuple[str, str]] = deque()

    def begin(self) -> None:
        threading.Thread(target=self._run, name="telemetry", daemon=True).start()

    def follow(self, job: Job) -> None:
        """From now on this job's files are read."""
        folders = [job.output] if job.checkpoint is None else [job.output, job.checkpoint]
        metrics = Metrics([os.path.join(self._spool.at(folder), "metrics.jsonl") for folder in folders])
        with self._gate:
            self._job, self._metrics = job, metrics
            self._gate.notify()

    def rate(self, interval_s: float, for_s: float) -> None:
        with self._gate:
            self._fast = (interval_s, boot_clock() + for_s)
            self._gate.notify()

    def now(self) -> None:
        """A sample at once: something just ended, and short runs deserve their last figures."""
        with self._gate:
            self._gate.notify()

    def activity(self) -> bool | None:
        """Whether anything happened since the question before; None = it cannot be known."""
        with self._gate:
            verdict, self._verdict = self._verdict, False
            silent = min(SILENT_S, MISSED * self._pause())
        return None if boot_clock() - self._sampled > silent else verdict

    def _run(self) -> None:
        from . import gpu

        gpus = gpu.find(self._tree)
        meter = Meter(self._spool.root)
        lines = Lines(self._spool.telemetry, KEEP_BYTES)
        while True:
            self._sample(gpus, meter, lines)
            with self._gate:
                self._gate.wait(self._pause())

    def _pause(self) -> float:
        interval, until = self._fast
        pause = interval if boot_clock() < until else EVERY_S
        if self._job is not None and self._job.idle_s:
            # What is called idle must have been looked at: a short limit wants more looks.
            pause = min(pause, max(LEAST_S, self._job.idle_s * LOOKS))
        return pause

    def _sample(self, gpus: gpu.Gpus, meter: Meter, lines: Lines) -> None:
        with self._gate:
            job, metrics = self._job, self._metrics
        cards, usage = gpus.read(), meter.read()
        warnings = metrics.read()
        below = self._tree.descendants()
        now = boot_clock()
        rss = sum(p.rss_pages for p in below) * os.sysconf("SC_PAGE_SIZE") / GB
        lines.append(
            {
                "t": round(now - self._booted, 3),
                "at": iso(time.time()),
                "gpu": cards,
                **vars(usage),
                "rss_gb": round(rss, 3) if usage.ram_gb is not None else None,
                "step": metrics.step,
                "metrics": metrics.values,
            }
        )
        cpu = self._tree_cpu(now, sum(p.cpu_ticks for p in below))
        verdict = self._judge(job, metrics, cards, cpu)
        with self._gate:
            self._sampled = now
            self._verdict = _either(self._verdict, verdict)
        if warnings or (job is not None and job.idle_s):
            self.warnings.extend(warnings)
            self._changed()

    def _tree_cpu(self, now: float, ticks: int) -> float | None:
        """Percent of one core since the sample before; None when there was none."""
        before, self._ticks = self._ticks, (now, float(ticks))
        if before is None or now - before[0] < 0.1 or not os.path.isdir("/proc/self"):
            return None
        spent = max(0.0, ticks - before[1]) / os.sysconf("SC_CLK_TCK")
        return 100 * spent / (now - before[0])

    def _judge(
        self, job: Job | None, metrics: Metrics, cards: list[gpu.Gpu] | None, cpu: float | None
    ) -> bool | None:
        before, self._written = self._written, self._what_is_written(job, metrics)
        loads = [cpu, *(card["util"] for card in cards or ())]
        if before != self._written or any(load is not None and load >= QUIET_PERCENT for load in loads):
            return True
        return None if cards is None or None in loads else False

    def _what_is_written(self, job: Job | None, metrics: Metrics) -> tuple[int, ...]:
        marks = [_stamp(self._spool.log), metrics.lines]
        if job is not None and job.checkpoint is not None:
            folder = self._spool.at(job.checkpoint)
            marks.append(_stamp(folder))
            try:
                marks += sorted(_stamp(entry.path) for entry in os.scandir(folder))
            except OSError:  # the trainer removed it: the stamp above says so
                marks.append(-1)
        return tuple(marks)


def _stamp(path: str) -> int:
    """Changes when something was written there."""
    try:
        facts = os.lstat(path)
    except OSError:
        return 0
    return facts.st_mtime_ns ^ facts.st_size


def _either(a: bool | None, b: bool | None) -> bool | None:
    """Busy beats unknown beats idle."""
    if a is True or b is True:
        return True
    return None if a is None or b is None else False
