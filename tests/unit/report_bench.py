"""Finished versions made by hand for the report's tests: whole, torn, hostile, huge.

Knows the files of a version and nothing of the page that is made of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher.codec import dump, iso
from launcher.models import Choice, Estimate, Job, Limits, Offer, Plan, Range, Runtime, RuntimeKind
from launcher.report import page
from launcher.report.content import Content, read
from launcher.report.versions import Version, find
from launcher.store import Home, Versions

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
NAME = "20260304_130000_demo"
COMMIT = "b827890bfb96857153885348ab245cb8d6621e20"
DIGEST = "9f2c1b7d" * 8
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def at(seconds: float) -> str:
    return iso(NOON + timedelta(seconds=seconds))


def plan(*, bills: bool = True, project: str = "") -> Plan:
    offer = Offer(
        id="cloud:RTX 4090:any",
        target="cloud",
        provider="cloud",
        gpu="RTX 4090",
        gpu_count=1,
        vram_gb=Decimal(24),
        usd_per_hour=Decimal("0.72"),
        price_source="price list",
        price_as_of=NOON - timedelta(days=40),
        bills=bills,
    )
    none = Range(Decimal(0), Decimal(0), Decimal(0))
    usd = Range(Decimal("0.31"), Decimal("0.62"), Decimal("0.90"))
    choice = Choice(offer, Runtime(RuntimeKind.IMAGE, "sha256:77", "the pod is it"), Estimate((), none, usd))
    limits = Limits(max_time_s=3600, salvage_s=60, max_cost=Decimal("0.90"))
    return Plan("demo-abcd", "demo", "demo", project, NOON, Job(("python",), project), limits, (choice,))


EVENTS: tuple[dict[str, Any], ...] = (
    {"ev": "hello", "at": at(0), "platform": "linux x86_64", "python": "3.11.9"},
    {"ev": "armed", "at": at(0.1), "layers": ["agent"]},
    {"ev": "prepared", "at": at(60), "exit_code": 0, "seconds": 59},
    {"ev": "started", "at": at(61), "pid": 77},
    {"ev": "checkpoint", "at": at(600), "name": "step-600", "complete": True},
    {"ev": "warned", "at": at(700), "code": "nan-metric", "message": "valid/loss is nan at step 700"},
    {"ev": "exited", "at": at(3600), "exit_code": 0, "signal": None, "why": None},
    {"ev": "sealed", "at": at(3610), "count": 3, "bytes": 12345, "exit_code": 0, "why": None},
)


def metric(step: float, split: str, name: str, value: float | None) -> dict[str, Any]:
    return {"ts": 0, "step": step, "split": split, "name": name, "value": value}


def training(points: int) -> Iterator[dict[str, Any]]:
    for step in range(1, points + 1):
        yield metric(step, "train", "loss", math.exp(-step / points * 4) + 0.1 * (step % 7))
        if step % 10 == 0:
            yield metric(step, "valid", "loss", None if step == points // 20 * 10 else 0.5 + 1 / step)
            yield metric(step, "valid", "auc", 1 - 1 / step)


def sample(second: float, util: float | None = 20.0) -> dict[str, Any]:
    card = {"name": "RTX 4090", "util": util, "mem_used_gb": 9.5, "mem_gb": 24.0}
    usage = {"cpu": 90.0, "cores": 8, "ram_used_gb": 12.5, "ram_gb": 64.0, "rss_gb": 7.25}
    return {
        "at": at(second),
        "gpu": [card] if util is not None else [],
        **usage,
        "step": second,
        "metrics": {},
    }


def jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@dataclass
class Made:
    """A version folder in a project; every file as given, None = it is not there."""

    project: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    plan: Plan | None = field(default_factory=plan)
    events: bytes | None = field(default_factory=lambda: jsonl(EVENTS))
    telemetry: bytes | None = field(default_factory=lambda: jsonl(sample(s) for s in range(0, 3600, 60)))
    metrics: bytes | None = field(default_factory=lambda: jsonl(training(200)))
    log: bytes | None = b"first\nsecond\n"

    def write(self) -> Version:
        versions = Versions(self.project)
        folder = versions.version(NAME)
        own = folder / ".launcher"
        own.mkdir(parents=True)
        plan_json = json.dumps(dump(self.plan)).encode() if self.plan is not None else None
        named = {
            own / "plan.json": plan_json,
            own / "events.jsonl": self.events,
            own / "telemetry.jsonl": self.telemetry,
            own / "log": self.log,
            folder / "metrics.jsonl": self.metrics,
            versions.manifest(NAME): json.dumps({**MANIFEST, **self.manifest}).encode(),
        }
        for path, data in named.items():
            if data is not None:
                path.write_bytes(data)
        return find(versions, NAME)

    def content(self, home: Home | None = None) -> Content:
        return read(self.write(), home)

    def page(self, home: Home | None = None) -> str:
        return page.page(self.content(home))


MANIFEST: dict[str, Any] = {
    "schema": 1,
    "files": [
        {"path": "metrics.jsonl", "size": 35433, "sha256": DIGEST},
        {"path": "model.json", "size": 134706, "sha256": DIGEST[::-1]},
    ],
    "run": "demo-abcd",
    "created": at(3660),
    "state": "done",
    "exit_code": 0,
    "trainer": "demo",
    "command": ["python", "-m", "trainers.demo"],
    "settings": {"args.rounds": "120"},
    "code": {"commit": COMMIT, "dirty": "yes"},
    "runtime": {"kind": "image", "digest": "sha256:77", "image": "demo"},
    "profile": "gpu",
    "inputs": {"spadl": "0a4e88"},
    "seed": 7,
    "secrets": ["TOKEN"],
    "target": "cloud",
    "instance": "pod-1",
    "device": {"used": "cuda", "name": "RTX 4090"},
    "metrics": {"test_auc": 0.91513, "parameters": 1284312},
    "seconds": 3539.0,
    "usd": 0.732,
}
