"""What the machine did, from the samples that came home: the last one, all of them, and one line of advice.

A sample line may be torn or foreign: it is passed over. Unknown readings are None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.codec import foreign_json

TAIL = 1 << 16
IDLE_GPU = 30.0  # percent: below, a rented GPU is mostly paid for waiting
ENOUGH = 10  # samples before a judgement


@dataclass(frozen=True)
class Gpu:
    name: str | None = None
    util: float | None = None
    mem_used_gb: float | None = None
    mem_gb: float | None = None
    power_w: float | None = None
    temp_c: float | None = None
    mig: str | None = None


@dataclass(frozen=True)
class Sample:
    at: str
    gpu: tuple[Gpu, ...] = ()
    cpu: float | None = None
    cores: int | None = None
    ram_used_gb: float | None = None
    ram_gb: float | None = None
    disk_free_gb: float | None = None
    rss_gb: float | None = None
    step: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)


def parse(lines: Iterable[bytes]) -> Iterator[Sample]:
    for line in lines:
        try:
            value = foreign_json(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "at" in value:
            yield _sample(value)


def _sample(value: dict[str, Any]) -> Sample:
    gpus, metrics = value.get("gpu"), value.get("metrics")
    return Sample(
        at=str(value["at"]),
        gpu=tuple(_gpu(g) for g in gpus if isinstance(g, dict)) if isinstance(gpus, list) else (),
        cpu=_number(value.get("cpu")),
        cores=value.get("cores") if isinstance(value.get("cores"), int) else None,
        ram_used_gb=_number(value.get("ram_used_gb")),
        ram_gb=_number(value.get("ram_gb")),
        disk_free_gb=_number(value.get("disk_free_gb")),
        rss_gb=_number(value.get("rss_gb")),
        step=_number(value.get("step")),
        metrics={str(k): _number(v) for k, v in metrics.items()} if isinstance(metrics, dict) else {},
    )


def _gpu(value: dict[str, Any]) -> Gpu:
    name, mig = value.get("name"), value.get("mig")
    keys = ("util", "mem_used_gb", "mem_gb", "power_w", "temp_c")
    return Gpu(
        name=str(name) if name is not None else None,
        mig=str(mig) if mig is not None else None,
        **{k: _number(value.get(k)) for k in keys},
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def last(path: Path) -> Sample | None:
    """The newest sample, from the file's end: a long run's file is not read whole."""
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            f.seek(max(0, size - TAIL))
            lines = f.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return next(iter(reversed(list(parse(lines)))), None)


def every(path: Path) -> tuple[Sample, ...]:
    try:
        return tuple(parse(path.read_bytes().split(b"\n")[:-1]))
    except FileNotFoundError:
        return ()


def advice(samples: tuple[Sample, ...], device: str | None) -> str | None:
    """One line when the device idled, None when all is well or too little was seen."""
    if len(samples) < ENOUGH:
        return None
    utils = [g.util for s in samples for g in s.gpu if g.util is not None]
    if utils and device != "cpu":
        busy = sum(utils) / len(utils)
        if busy < IDLE_GPU:
            return _gpu_advice(samples, busy)
        return None
    cpus = [s.cpu for s in samples if s.cpu is not None]
    cores = next((s.cores for s in samples if s.cores), None)
    if cpus and cores and cores > 1 and sum(cpus) / len(cpus) < 100 / cores * 0.5:
        idle = f"your {cores} cores were {sum(cpus) / len(cpus):.0f} % busy"
        return f"{idle}: the trainer waited, on disk or network perhaps"
    return None


def _gpu_advice(samples: tuple[Sample, ...], busy: float) -> str:
    cpus = [s.cpu for s in samples if s.cpu is not None]
    full = [
        g.mem_used_gb / g.mem_gb for s in samples for g in s.gpu if g.mem_used_gb is not None and g.mem_gb
    ]
    so = f"your GPU was {busy:.0f} % busy"
    if cpus and sum(cpus) / len(cpus) > 80:
        return f"{so} while the CPU was full: more loader workers or cores would feed it"
    if full and max(full) < 0.4:
        return f"{so} and {max(full):.0%} of its memory used: a larger batch, or a smaller card"
    return f"{so}: a smaller card may do the same for less"
