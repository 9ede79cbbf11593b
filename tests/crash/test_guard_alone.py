"""The client is dead: what was started ends by itself, in time, with everything that it started.

Each test starts a run by the command line, kills its engine with SIGKILL, and waits for the processes to go.
How late they went is printed. Where the agent itself is killed, what is left is said as well.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.codec import parse_iso
from launcher.models import ResourceState
from launcher.providers import registry
from tests.crash.life import Life, Target, interpreter
from tests.engines.base import base_image

OVERRUN_S = 5.0
LOCAL = Target("local")

# Deaf to every polite word, with a child that left its session and, if told so, its label.
DEAF = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
place = pathlib.Path(os.environ["STARTS"])
if place.exists():
    sys.exit(0)  # the second machine's share: nothing is left to do
child = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
stray = subprocess.Popen([*LABEL, sys.executable, "-c", child], start_new_session=True)
place.with_name("pids").write_text(f"{os.getpid()} {stray.pid}")
place.write_text("started")
print("deaf", flush=True)
while True:
    time.sleep(60)
"""
UNLABELLED, LABELLED = DEAF.replace("*LABEL", '"env", "-i"'), DEAF.replace("*LABEL, ", "")
QUICK = """
import pathlib
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model.bin").write_bytes(b"weights")
print("started", flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, list[Life]]]:
    lives: list[Life] = []
    yield tmp_path, lives
    for life in lives:
        life.clean()


@pytest.fixture
def begun(place: tuple[Path, list[Life]]) -> Maker:
    return Maker(*place)


class Maker:
    def __init__(self, tmp_path: Path, lives: list[Life]) -> None:
        self._place, self._lives = tmp_path, lives
        self._python = interpreter(tmp_path / "python")

    def __call__(self, trainer: str, *options: str, target: Target = LOCAL) -> Life:
        run = f"g{os.getpid()}-{len(self._lives)}"
        life = Life(self._place / run, self._python, target, run, trainer, options)
        self._lives.append(life)
        return life


def trainers(life: Life) -> list[int]:
    """The trainer and its stray, by their own word, which comes a moment after the start."""
    end = time.monotonic() + 20
    while not (life.root / "starts").exists() and time.monotonic() < end:
        time.sleep(0.02)  # a file of another process
    return [int(pid) for pid in (life.root / "pids").read_text().split()]


def gone(pids: list[int], patience_s: float) -> float:
    """Wait for the end of all of them; how long that took."""
    began = time.monotonic()
    waiting = set()
    for pid in pids:
        with suppress(ProcessLookupError):  # it has gone already
            waiting.add(os.pidfd_open(pid))
    while waiting:
        left = patience_s - (time.monotonic() - began)
        ended = select.select(list(waiting), [], [], max(0.0, left))[0]
        if not ended:
            alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            raise AssertionError(f"after {patience_s:.0f} s there still are {alive}")
        for door in ended:
            os.close(door)
            waiting.discard(door)
    return time.monotonic() - began


def seconds_past(when: object) -> float:
    return (datetime.now(UTC) - parse_iso(str(when))).total_seconds()


@pytest.mark.slow
def test_a_deaf_trainer_and_its_stray_end_and_d_ends_the_machine(begun: Maker) -> None:
    life = begun(UNLABELLED, "-d", "--max-time", "2s")
    assert life.begin(), life.told()
    life.kill_engine()
    agents = list(life.processes())
    d = parse_iso(life.facts("started")[0]["deadline"])
    patience = (d - datetime.now(UTC)).total_seconds() + OVERRUN_S
    gone(trainers(life), patience)
    print(
        f"deaf trainer and its stray: {seconds_past(life.facts('started')[0]['begun']):.1f} s after the start"
    )
    gone(agents, patience)
    print(f"past D: {seconds_past(life.facts('started')[0]['deadline']):.2f} s")
    assert list(life.processes()) == []
    assert registry.load("local").list(life.run) == ()


@pytest.mark.parametrize(
    "boundary", ["write spool/.launcher-part", "append run/journal.jsonl after connected"]
)
def test_an_engine_that_died_before_the_start_leaves_nothing_past_the_boot_limit(
    begun: Maker, boundary: str
) -> None:
    """Before the agent came the boot guard counts, after that the agent. `resume` asks for another."""
    life = begun(QUICK)
    life.target = Target("local", env=(("LAUNCHER_BOOT_LIMIT", "2s"),))
    asked = time.monotonic()
    assert not life.begin(boundary)
    waited = gone(list(life.processes()), 2 + OVERRUN_S)
    print(
        f"{boundary}: {waited:.1f} s after the kill, {time.monotonic() - asked - 2:.2f} s past the boot limit"
    )
    assert registry.load("local").list(life.run) == ()
    assert life.resume(), life.told()
    assert (life.answer["state"], len(life.facts("create-asked"))) == ("done", 2)


def test_results_wait_when_the_hold_is_over_and_a_pull_brings_them(begun: Maker) -> None:
    life = begun(QUICK, "--hold", "1s")
    assert not life.begin("append run/journal.jsonl after started"), life.told()
    print(f"hold of 1 s: ended after {gone(list(life.processes()), 1 + OVERRUN_S):.2f} s")
    assert life.say("status") and life.answer["state"] == "waiting", life.told()
    assert life.say("pull"), life.told()
    assert (life.answer["exit"], life.answer["state"]) == (0, "done"), life.told()
    assert list(life.processes()) == []


def test_a_receipt_ends_the_machine_though_the_engine_died_of_sending_it(begun: Maker) -> None:
    life = begun(QUICK)
    assert not life.begin("append run/journal.jsonl after versioned"), life.told()
    print(f"receipt: ended {gone(list(life.processes()), OVERRUN_S):.2f} s after it")
    assert life.resume() and life.answer["state"] == "done", life.told()
    assert list(life.processes()) == []


def test_an_agent_that_was_killed_takes_all_of_it_along(begun: Maker) -> None:
    """The trainer dies with its parent; what cleared its label comes to the keeper, which ends it."""
    life = begun(UNLABELLED, "-d", "--output", "out")
    assert life.begin(), life.told()
    life.kill_engine()
    trainer, stray = trainers(life)
    agent = parent_of(trainer)
    keeper = parent_of(agent)
    os.kill(agent, signal.SIGKILL)
    print(f"agent killed: all gone after {gone([trainer, stray, keeper], OVERRUN_S):.2f} s")
    assert life.resume(), life.told()
    assert len(life.facts("create-asked")) == 2
    assert list(life.processes()) == []


def test_where_the_keeper_was_killed_too_the_release_ends_the_strays(begun: Maker) -> None:
    """What left the session is found by its label, another machine goes on."""
    life = begun(LABELLED, "-d", "--output", "out")
    assert life.begin(), life.told()
    trainer, stray = trainers(life)
    agent = parent_of(trainer)
    os.kill(parent_of(agent), signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    print(f"agent killed: trainer gone after {gone([trainer], OVERRUN_S):.2f} s", end=", ")
    print(f"its stray after {gone([stray], 2 * OVERRUN_S):.2f} s more")
    assert life.resume(), life.told()
    assert len(life.facts("create-asked")) == 2
    assert list(life.processes()) == []


def parent_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


@pytest.mark.need("docker")
@pytest.mark.slow
def test_a_container_goes_when_the_hold_is_over_and_its_volume_waits_for_the_pull(begun: Maker) -> None:
    target = Target("docker", ("--on", "docker", "--image", base_image()))
    life = begun(QUICK, "--hold", "1s", target=target)
    assert not life.begin("append run/journal.jsonl after started"), life.told()
    provider = registry.load("docker")
    began = time.monotonic()
    while any(r.kind == "instance" for r in provider.list(life.run)):
        assert time.monotonic() - began < 1 + OVERRUN_S, life.told()
    print(f"container: hold of 1 s, ended after {time.monotonic() - began:.2f} s")
    assert [r.kind for r in provider.list(life.run) if r.state is not ResourceState.ENDED] == ["volume"]
    assert life.say("pull") and life.answer["state"] == "done", life.told()
    assert provider.list(life.run) == ()
