"""Samples: torn and foreign lines are passed over, what is not known stays unknown; one line of advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import telemetry
from launcher.telemetry import Gpu, Sample, advice


def line(**values: Any) -> bytes:
    return json.dumps({"at": "2026-01-01T00:00:00Z", **values}).encode()


def test_a_whole_sample_is_read() -> None:
    card = {"name": "A", "util": 50, "mem_used_gb": 1.5, "mem_gb": 24, "power_w": 99, "temp_c": 40}
    (sample,) = telemetry.parse(
        [line(gpu=[card], cpu=12.5, cores=4, ram_used_gb=1, ram_gb=8, step=7, metrics={"loss": 0.5})]
    )
    assert sample.gpu == (Gpu("A", 50, 1.5, 24, 99, 40),)
    assert (sample.cpu, sample.cores, sample.ram_gb, sample.step) == (12.5, 4, 8, 7)
    assert sample.metrics == {"loss": 0.5}


def test_a_slice_of_a_gpu_says_so() -> None:
    (sample,) = telemetry.parse([line(gpu=[{"name": "H", "mig": "1g.10gb", "util": None}])])
    assert sample.gpu[0].mig == "1g.10gb" and sample.gpu[0].util is None


@pytest.mark.parametrize(
    "torn", [b"", b"{", b"null", b"[]", b'"at"', b"\x00\x00", b'{"at": 1', b'{"cpu": 3}', b"\xff"]
)
def test_torn_and_foreign_lines_are_passed_over(torn: bytes) -> None:
    assert [s.cpu for s in telemetry.parse([torn, line(cpu=1), torn])] == [1]


def test_what_is_no_number_is_unknown_never_zero() -> None:
    (sample,) = telemetry.parse(
        [b'{"at": "x", "cpu": "much", "gpu": "none", "step": true, "metrics": {"a": NaN, "b": 1e999}}']
    )
    assert sample == Sample("x", metrics={"a": None, "b": None})
    (other,) = telemetry.parse([line(gpu=[1, {"util": "x"}], metrics=[1, 2])])
    assert other.gpu == (Gpu(),) and other.metrics == {}


@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    list(telemetry.parse(data.split(b"\n")))


def test_the_last_whole_sample_is_found_without_reading_all(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.jsonl"
    assert telemetry.last(file) is None and telemetry.every(file) == ()
    file.write_bytes(b"\n".join(line(cpu=n, pad="x" * 500) for n in range(1000)) + b'\n{"at": "torn"')
    newest = telemetry.last(file)
    assert newest is not None and newest.cpu == 999
    assert len(telemetry.every(file)) == 1000


def samples(n: int = 20, **values: Any) -> tuple[Sample, ...]:
    return tuple(Sample("t", **values) for _ in range(n))


def test_a_gpu_that_idled_is_said_with_what_may_help() -> None:
    def said(used: float, cpu: float) -> str:
        return advice(samples(gpu=(Gpu("A", 5, used, 24),), cpu=cpu), "cuda") or ""

    assert "a larger batch, or a smaller card" in said(used=2, cpu=10)
    assert "more loader workers" in said(used=20, cpu=95)
    assert "a smaller card may do the same" in said(used=20, cpu=10)


def test_a_busy_gpu_needs_no_advice() -> None:
    assert advice(samples(gpu=(Gpu("A", 90, 20, 24),), cpu=10.0), "cuda") is None


def test_an_idle_gpu_is_no_matter_of_a_trainer_that_used_the_cpu() -> None:
    assert advice(samples(gpu=(Gpu("A", 0, 0, 24),), cpu=90.0, cores=4), "cpu") is None


def test_a_waiting_processor_is_said() -> None:
    assert "4 cores were 3 % busy" in (advice(samples(cpu=3.0, cores=4), "cpu") or "")
    assert advice(samples(cpu=25.0, cores=4), "cpu") is None  # one core full is work


def test_too_few_samples_are_no_judgement() -> None:
    assert advice(samples(5, gpu=(Gpu("A", 0, 0, 24),)), "cuda") is None


def test_unknown_readings_are_no_judgement() -> None:
    assert advice(samples(gpu=(Gpu("A"),)), "cuda") is None
