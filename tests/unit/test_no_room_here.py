"""This machine's disk takes no checkpoint, or nothing, or gives nothing: the run does what can be done."""

from __future__ import annotations

import errno
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher import engine
from launcher.errors import Exit
from launcher.models import State
from launcher.runstate import exit_status
from launcher.steps import early
from launcher.steps.early import NO_ROOM
from launcher.world import PushSet
from tests.sim.house import RUN, House


def pods() -> House:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("pods",))
    house.weather.clear()
    return house


def test_a_checkpoint_that_does_not_fit_keeps_no_results_away() -> None:
    house = pods()
    make_folder = house.files.make_folder

    def refuses(path: Path, *, private: bool = True) -> None:
        if RUN.checkpoints in path.parents:
            raise OSError(errno.ENAMETOOLONG, "File name too long", str(path))
        make_folder(path, private=private)

    house.files.make_folder = refuses  # type: ignore[method-assign]  # the disk has limits of its own
    world = house.open(0.0)
    state = engine.drive(world, {"pid": 1})
    assert state.ended is State.DONE and state.checkpoints == ()
    told = [f.data for f in world.journal.facts if f.kind == "noticed"]
    assert told and all(one["code"] == NO_ROOM and "too long" in one["message"] for one in told)
    assert len({one["message"] for one in told}) == len(told)  # each of them once
    [a] = state.attempts
    assert a.sealed is not None and a.receipt_at is not None
    assert (a.receipt_at - a.sealed.at).total_seconds() < 10


def test_a_person_is_heard_while_the_engine_waits_for_a_fault_to_pass() -> None:
    house = pods()
    world = house.open(0.0)
    append, since = house.files.append, house.sim.t + 30

    def broken(path: Path, data: bytes, *, sync: bool) -> None:
        if house.sim.t > since and path.name in ("log", "events.jsonl"):
            raise OSError(errno.EIO, "Input/output error")
        append(path, data, sync=sync)

    house.files.append = broken  # type: ignore[method-assign]  # the disk has a bad place

    def stop() -> None:
        house.files.put(RUN.requests / "r1.json", json.dumps({"verb": "stop", "now": True}).encode())
        house.sim.note("asked", "stop")

    house.sim.after(200, stop)
    state = engine.drive(world, {"pid": 1})
    assert state.ended is State.STOPPED
    [heard] = [f.at for f in world.journal.facts if f.kind == "stop"]
    assert (heard - state.attempts[0].asked_at).total_seconds() < 205


def test_what_cannot_be_read_here_is_asked_for_on_no_second_machine() -> None:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("pods", "pods"))
    house.weather.clear()
    world = house.open(0.0)

    def unreadable() -> PushSet:
        raise PermissionError(errno.EACCES, "Permission denied", "/p/key.bin")

    world.push_set = unreadable
    state = engine.drive(world, {"pid": 1})
    [attempt] = state.attempts
    assert attempt.over is not None and "/p/key.bin: Permission denied" in attempt.over
    assert attempt.gone_at is not None and (attempt.gone_at - attempt.asked_at).total_seconds() < 300
    assert state.ended is State.FAILED and exit_status(state, State.FAILED) is Exit.USAGE


class Announced:
    """What a machine said of its checkpoints; nothing of it may be fetched."""

    def __init__(self, *files: str) -> None:
        listed = [{"path": path, "size": 1, "sha256": "0" * 64} for path in files]
        self.events = [
            {"ev": "checkpoint", "complete": True, "name": "step-1", "files": listed, "written": 1.0}
        ]

    def get(self, *words: object) -> None:
        raise AssertionError("a name that no disk here should have reached the host")


@pytest.mark.parametrize("odd", ["w\n.bin", "m\udce9.bin"])
def test_a_checkpoint_that_cannot_come_home_is_told_of_and_not_asked_for_again(odd: str) -> None:
    house = pods()
    world = house.open(0.0)
    until = world.clock.now() + timedelta(hours=1)
    world.record("create-asked", attempt=1, token="t" * 32, choice=0, ends_at=until, usd_per_hour=Decimal(1))
    said: Any = Announced("complete", odd)
    for _ in range(2):
        assert early.checkpoints(world, said, said, lambda: None)
    [told] = [f.data["message"] for f in world.journal.facts if f.kind == "noticed"]
    assert "the checkpoint step-1 stays on its machine" in told and repr(odd) in told
