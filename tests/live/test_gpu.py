"""On a machine with an NVIDIA GPU: what its tools say is what the agent, the local provider and a run say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import gpu
from launcher.agent.gpu import Gpu, Nvml, Smi
from launcher.agent.tree import Tree
from launcher.models import Need
from launcher.providers.local import LocalProvider
from tests.e2e.person import Person, until

pytestmark = pytest.mark.need("gpu")
KEYS = {"name", "util", "mem_used_gb", "mem_gb", "power_w", "temp_c", "mig"}
MIB = 1 << 20


def smi(*words: str) -> str:
    return subprocess.run(
        ["nvidia-smi", *words], capture_output=True, text=True, check=True, timeout=30
    ).stdout


@dataclass(frozen=True)
class Card:
    """A GPU as nvidia-smi tells it: whether it is cut (MIG), and the indices of its parts."""

    name: str
    gb: float
    cut: bool
    parts: tuple[int, ...] = ()


def cards() -> list[Card]:
    question = "--query-gpu=name,memory.total,mig.mode.current"
    rows = [row.split(", ") for row in smi(question, "--format=csv,noheader,nounits").splitlines()]
    found = [Card(name, int(mib) * MIB / 1e9, mode == "Enabled") for name, mib, mode in rows]
    at = -1
    for line in smi("-L").splitlines():
        if line.startswith("GPU "):
            at += 1
        elif part := re.match(r"\s+MIG .*Device\s+(\d+):", line):
            found[at] = replace(found[at], parts=(*found[at].parts, int(part[1])))
    return found


@pytest.fixture
def talking() -> Iterator[Smi]:
    """The agent's other way, and the end of the program it keeps talking to."""
    tree = Tree("gpu-tests")
    reader = Smi(tree)
    yield reader
    tree.end_helpers()
    for pid in tree.helpers:
        os.waitpid(pid, 0)
    reader.close()


def test_there_is_a_gpu_and_the_better_way_is_taken() -> None:
    assert gpu.is_there()
    assert isinstance(gpu.find(Tree("gpu-tests")), Nvml)


def test_each_card_or_part_is_one_reading() -> None:
    readings = Nvml().read()
    assert readings is not None
    cut = [part for card in cards() for part in (card.parts if card.cut else (None,))]
    assert [reading["mig"] for reading in readings] == cut
    for reading in readings:
        assert set(reading) == KEYS
        assert reading["mem_gb"] is None or 0 <= reading["mem_used_gb"] <= reading["mem_gb"]


def test_nvml_and_nvidia_smi_agree_about_whole_cards(talking: Smi) -> None:
    told = until(talking.read, "nvidia-smi's first lines")
    whole = [card for card in cards() if not card.cut]
    by_nvml = [reading for reading in Nvml().read() or [] if reading["mig"] is None]
    by_smi = [reading for reading in told if reading["mig"] is None]
    assert [r["name"] for r in by_nvml] == [r["name"] for r in by_smi] == [card.name for card in whole]
    for one, other in zip(by_nvml, by_smi, strict=True):
        assert set(one) == set(other) == KEYS
        assert one["mem_gb"] == pytest.approx(other["mem_gb"], rel=0.05)
        reserved = 0.6 + 0.05 * one["mem_gb"]  # the driver's own share: NVML counts it as used
        assert one["mem_used_gb"] == pytest.approx(other["mem_used_gb"], abs=reserved)
        assert _near(one["temp_c"], other["temp_c"], 10)
        assert _near(one["power_w"], other["power_w"], 150)
        assert one["util"] is None or 0 <= one["util"] <= 100


def _near(one: float | None, other: float | None, within: float) -> bool:
    return one is None or other is None or abs(one - other) <= within


def test_a_part_is_told_as_a_part(talking: Smi) -> None:
    """A cut card: its parts have less memory than the whole, and a load that nobody tells is not a zero."""
    readings = Nvml().read() or []
    parts = [reading for reading in readings if reading["mig"] is not None]
    assert len(parts) == sum(len(card.parts) for card in cards())
    for part in parts:
        assert "MIG" in part["name"] and part["mem_gb"] < max(card.gb for card in cards())
        assert part["util"] is None
    told = until(talking.read, "nvidia-smi's first lines")
    assert [reading["mig"] for reading in told] == ["cut" if card.cut else None for card in cards()]
    assert all(reading["util"] is None for reading in told if reading["mig"] == "cut")


def test_a_reading_is_quick_enough_to_take_each_second() -> None:
    nvml = Nvml()
    nvml.read()
    begun = time.monotonic()
    for _ in range(10):
        assert nvml.read() is not None
    assert (time.monotonic() - begun) / 10 < 0.1


def test_the_local_provider_names_the_gpu() -> None:
    (offer,) = LocalProvider().offers(Need())
    names = {card.name for card in cards()}
    assert offer.gpu in names and offer.gpu_count >= 1 and offer.usd_per_hour == 0
    checks = {check.name: check.detail for check in LocalProvider().check()}
    assert checks["GPU of this machine"] in names


SEES = """
import os, pathlib, subprocess
said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "seen").write_text(said)
"""


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path)
    # What a GPU's libraries and tools are found by, on machines that do not have them in the usual folders.
    someone.extra["PATH"] = f"{Path(shutil.which('nvidia-smi') or '').parent}:/usr/local/bin:/usr/bin:/bin"
    yield someone
    someone.cleans_up()


def test_require_gpu_is_met_and_the_gpu_is_in_the_telemetry(person: Person) -> None:
    person.writes("see.py", SEES)
    done = person.own(sys.executable, "see.py", flags=("--require-gpu", "--name", "needs"))
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "seen").read_text() == smi("-L")
    sampled: list[Gpu] = person.types("status", "needs", "--json").json()["telemetry"]["gpu"]
    expected = [reading["name"] for reading in Nvml().read() or []]
    assert [one["name"] for one in sampled] == expected


def test_a_plan_knows_the_gpu_of_this_machine(person: Person) -> None:
    plan: Any = person.types("plan", "--project", ".", "--on", "local", "--json", "--", "true").json()
    known = plan["chosen"]["gpu"]
    assert known and any(known in card.name or card.name in known for card in cards())
