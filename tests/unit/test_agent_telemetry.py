"""What the agent measures: GPUs by NVML or nvidia-smi, the machine, the trainer's own metrics."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.gpu import Nvml, NvmlMissing, Share, Smi
from launcher.agent.metrics import READ_BYTES, Metrics
from launcher.agent.tree import Tree
from launcher.agent.usage import Meter
from tests import needs
from tests.unit.agent_bench import Begin, nursery, until

HOUR_WORTH = {
    "t",
    "at",
    "gpu",
    "cpu",
    "cores",
    "ram_used_gb",
    "ram_gb",
    "disk_free_gb",
    "rss_gb",
    "step",
    "metrics",
}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with nursery(tmp_path) as make:
        yield make


def row(**facts: Any) -> str:
    return json.dumps({"ts": 1.0, "step": 1, "split": "train", "name": "loss", "value": 0.5, **facts}) + "\n"


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_value_of_each_metric_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics([str(path), str(path)])
    assert metrics.read() == []
    path.write_text(row() + "garbage\n" + "[1]\n" + row(step=2, value=0.25) + row(split="val", step=2)[:20])
    assert metrics.read() == []
    assert (metrics.step, metrics.values) == (2, {"loss": 0.25})
    with path.open("a") as file:
        file.write(row(split="val", step=2)[20:])
    metrics.read()
    assert metrics.values == {"loss": 0.25, "val/loss": 0.5}


def test_nan_is_warned_of_once_per_metric(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(value=math.nan) + row(value="inf", name="acc") + row(value=math.nan, step=3))
    metrics = Metrics([str(path)])
    assert [code for code, _ in metrics.read()] == ["nan-metric", "nan-metric"]
    assert metrics.values == {"loss": None, "acc": None}
    json.dumps(metrics.values, allow_nan=False)


def test_odd_rows_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    odd: list[dict[str, Any]] = [
        {"value": True},
        {"value": None},
        {"value": "high"},
        {"name": 3},
        {"value": 10**400},
    ]
    path.write_text("".join(row(**facts) for facts in odd) + row(step=True, value=1) + row(step="x", value=2))
    metrics = Metrics([str(path)])
    metrics.read()
    assert (metrics.values, metrics.step) == ({"loss": 2}, 1)


def test_a_file_that_is_replaced_or_large_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row() * (2 * READ_BYTES // len(row())) + row(value=9))
    metrics = Metrics([str(path)])
    for _ in range(3):
        metrics.read()
    assert metrics.values == {"loss": 9}
    path.write_text(row(value=1))
    metrics.read()
    assert metrics.values == {"loss": 1}
    path.unlink()
    path.mkdir()
    assert metrics.read() == []


# ── GPUs ──────────────────────────────────────────────────────────────────────────────────────────


class Library:
    """Two cards as NVML tells of them: one whole, one cut into two slices that do not tell their load."""

    def __init__(self, cut: bool = True, fails: tuple[str, ...] = ()) -> None:
        self.cut = cut
        self.fails = fails

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name in self.fails:
            raise AttributeError(name)
        calls: dict[str, Callable[..., int]] = {
            "nvmlInit_v2": lambda: 0,
            "nvmlDeviceGetCount_v2": lambda out: self.put(out, 2),
            "nvmlDeviceGetHandleByIndex_v2": lambda n, out: self.put(out, 100 + n.value),
            "nvmlDeviceGetMigMode": lambda d, now, later: self.put(now, int(self.cut and d.value == 101)),
            "nvmlDeviceGetMaxMigDeviceCount": lambda d, out: self.put(out, 3),
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda d, n, out: (
                self.put(out, 200 + n.value) if n.value < 2 else 6
            ),
            "nvmlDeviceGetName": self.name,
            "nvmlDeviceGetUUID": self.uuid,
            "nvmlDeviceGetUtilizationRates": self.load,
            "nvmlDeviceGetMemoryInfo": self.memory,
            "nvmlDeviceGetPowerUsage": lambda d, out: self.put(out, 250_500) if d.value < 200 else 3,
            "nvmlDeviceGetTemperature": lambda d, kind, out: self.put(out, 61),
        }
        return calls[name]

    @staticmethod
    def put(out: Any, value: int) -> int:
        out._obj.value = value
        return 0

    @staticmethod
    def name(device: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"Card" if device.value < 200 else b"Card MIG 1g.10gb"
        return 0

    @staticmethod
    def uuid(device: Any, buffer: Any, size: Any) -> int:
        buffer.value = f"{'GPU' if device.value < 200 else 'MIG'}-{device.value}".encode()
        return 0

    @staticmethod
    def load(device: Any, out: Any) -> int:
        if device.value >= 200:
            return 3
        out._obj.gpu = 87
        return 0

    @staticmethod
    def memory(device: Any, out: Any) -> int:
        out._obj.total, out._obj.used = 80 * 10**9, 20 * 10**9
        return 0


def test_nvml_tells_cards_and_slices_as_what_they_are() -> None:
    whole, first, second = Nvml(Library()).read() or []
    assert whole == {
        "name": "Card",
        "util": 87,
        "mem_used_gb": 20.0,
        "mem_gb": 80.0,
        "power_w": 250.5,
        "temp_c": 61,
        "mig": None,
    }
    assert (first["name"], first["mig"], second["mig"]) == ("Card MIG 1g.10gb", 0, 1)
    assert (first["util"], first["power_w"]) == (None, None)


@pytest.mark.parametrize(
    ("said", "order", "cut", "seen"),
    [
        (None, None, True, [None, 0, 1]),
        ("", None, True, []),
        ("-1", None, True, []),
        ("GPU-100", None, True, [None]),
        ("GPU-101", None, True, [0, 1]),
        ("MIG-201", None, True, [1]),
        ("MIG-201,GPU-100", None, True, [1, None]),
        ("GPU-100,GPU-9,MIG-200", None, True, [None]),
        ("GPU-9", None, True, None),
        ("0", None, True, [None, 0, 1]),
        ("0", "PCI_BUS_ID", True, [None]),
        ("1", None, False, [None]),
    ],
)
def test_only_what_is_this_runs_to_use_is_told_of(
    said: str | None, order: str | None, cut: bool, seen: list[int | None] | None
) -> None:
    env = {"CUDA_VISIBLE_DEVICES": said, "CUDA_DEVICE_ORDER": order}
    share = Share({name: value for name, value in env.items() if value is not None})
    told = Nvml(Library(cut), share).read()
    assert (told if told is None else [card["mig"] for card in told]) == seen


def test_nvml_of_an_older_driver_knows_no_slices_and_a_lost_card_is_unreadable() -> None:
    assert len(Nvml(Library(fails=("nvmlDeviceGetMigMode",))).read() or []) == 2
    assert Nvml(Library(fails=("nvmlDeviceGetCount_v2",))).read() is None
    assert Nvml(Library(fails=("nvmlDeviceGetHandleByIndex_v2",))).read() is None
    with pytest.raises(NvmlMissing):
        Nvml(Library(fails=("nvmlInit_v2",)))


def fake_smi(folder: Path, lines: str) -> str:
    """A PATH whose nvidia-smi prints these and stays."""
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'E'\n{lines}\nE\n[ \"$1\" = -L ] || exec sleep 600\n")
    tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_nvidia_smi_is_asked_once_and_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "0, GPU-1, Old Card, 12, 1024, 24576, 95.50, 55, [N/A]\nnoise\n"
        "1, GPU-2, Cut Card, [N/A], 0, 81920, 60, 40, Enabled"
    )
    monkeypatch.setenv("PATH", fake_smi(tmp_path / "bin", lines))
    tree = Tree("token")
    smi = Smi(tree)
    try:
        until(lambda: len(smi.read() or []) == 2, "two cards")
        first, second = smi.read() or []
        assert first == {
            "name": "Old Card",
            "util": 12.0,
            "mem_used_gb": 1.07,
            "mem_gb": 25.77,
            "power_w": 95.5,
            "temp_c": 55.0,
            "mig": None,
        }
        assert (second["util"], second["mig"]) == (None, "cut")
        assert len(tree.helpers) == 1
        assert tree.descendants() == []
    finally:
        tree.end_helpers()
        until(lambda: tree.reap() and not tree.helpers, "the helper's burial")
    until(lambda: smi.read() is None, "the end of the pipe")
    smi.close()


def test_require_gpu_starts_only_where_a_gpu_is_shown(begin: Begin, tmp_path: Path) -> None:
    live = begin().armed()
    live.start("true", require_gpu=True)
    if needs.gpu_missing() is None:
        assert live.event("started")
    else:
        assert live.event("refused")["why"] == "gpu-missing"
        assert live.event("sealed")["exit_code"] is None
    shown = begin(PATH=fake_smi(tmp_path / "bin", "GPU 0: Card (UUID: GPU-1)")).armed()
    shown.start("true", require_gpu=True)
    assert shown.event("exited")["exit_code"] == 0


# ── the machine and the stream of samples ─────────────────────────────────────────────────────────


def test_the_machine_is_measured(tmp_path: Path) -> None:
    meter = Meter(str(tmp_path))
    sum(range(300_000))
    usage = meter.read()
    assert usage.cores is not None and usage.cores > 0
    assert usage.ram_gb is not None and usage.ram_used_gb is not None
    assert 0 < usage.ram_used_gb < usage.ram_gb
    assert usage.cpu is None or 0 <= usage.cpu <= 100
    assert usage.disk_free_gb is not None and usage.disk_free_gb > 0
    assert Meter(str(tmp_path / "nowhere")).read().disk_free_gb is None


def test_samples_tell_step_metrics_and_the_tree_and_come_faster_when_watched(
    begin: Begin,
) -> None:
    live = begin().armed()
    rows = row(step=4, value=0.125) + row(step=4, name="acc", value=math.nan)
    live.python(
        f"open('output/metrics.jsonl', 'w').write({rows!r})\n"
        "data = bytearray(60_000_000)\n"
        "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    live.event("started")
    live.say("rate", seconds=0.2)
    samples = until(
        lambda: [s for s in live.samples() if s["step"] == 4 and s["rss_gb"] > 0.06], "a full sample"
    )
    assert set(samples[0]) == HOUR_WORTH
    assert samples[0]["metrics"] == {"loss": 0.125, "acc": None}
    assert live.event("warned")["code"] == "nan-metric"
    before = len(live.samples())
    until(lambda: len(live.samples()) >= before + 5, "quick samples")
    times = [s["t"] for s in live.samples()]
    assert times == sorted(times)
    assert min(b - a for a, b in pairwise(times[before:])) < 0.5


def test_idleness_is_seen_and_ends_the_run(begin: Begin) -> None:
    live = begin().armed()
    live.start("sleep", "600", idle_s=4)
    live.say("rate", seconds=0.3)
    assert live.event("warned", code="idle-soon")
    assert live.event("sealed")["why"] == "idle"


def test_a_trainer_that_writes_is_not_idle(begin: Begin) -> None:
    live = begin().armed()
    live.start("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.5; done", idle_s=3)
    live.say("rate", seconds=0.3)
    assert live.event("sealed")["why"] is None
