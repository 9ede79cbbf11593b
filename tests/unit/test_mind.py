"""The session: hello, limits before a start, commands, how long results wait."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.protocol import (
    Exited,
    Leave,
    Prepare,
    Prepared,
    Rate,
    Refused,
    Running,
    Seal,
    Signal,
    Start,
)
from tests.unit.mind_bench import JOB, SEALED, WALL, Bench

GONE = [Signal("kill"), Leave("end")]


def leaving(why: str) -> list[Any]:
    return [Signal("kill"), Leave(why)]


def test_first_words_are_hello_and_armed_with_the_limits() -> None:
    b = Bench(boot="id:1:2", pid=1, python="3.12.1", executable="/usr/bin/py", platform="linux", gpus="GPU-7")
    assert b.wake(0.25) == []
    hello, armed = b.events
    assert hello == {
        "ev": "hello",
        "t": 0.25,
        "at": "2027-01-15T08:00:00.250Z",
        "protocol": 1,
        "token": "tok",
        "boot": "id:1:2",
        "pid": 1,
        "python": "3.12.1",
        "executable": "/usr/bin/py",
        "platform": "linux",
        "gpus": "GPU-7",
    }
    assert (armed["ends_in_s"], armed["boot_limit_s"], armed["layers"]) == (299.75, 49.75, ["agent"])
    assert b.mind.phase == "boot"
    assert b.mind.next_wake(0.25) == 50
    b.wake(0.5)
    assert len(b.events) == 2


def test_boot_limit_ends_a_machine_nobody_uses() -> None:
    b = Bench()
    assert b.wake(49.9) == []
    assert b.wake(50) == leaving("boot-limit")
    assert b.last("ending")["why"] == "boot-limit"
    assert b.wake(51) == []
    assert b.mind.next_wake(51) == float("inf")
    assert b.mind.phase == "ended"


def test_a_lease_renews_the_boot_limit_but_never_past_d() -> None:
    b = Bench()
    b.say(40, "lease", seconds=50)
    assert b.mind.next_wake(40) == 90
    b.say(80, "lease", seconds=5000)
    assert b.wake(299) == []
    assert b.wake(300) == leaving("deadline")


def test_a_lease_after_the_start_changes_nothing() -> None:
    b = Bench()
    b.start(1)
    b.say(2, "lease", seconds=3)
    assert b.wake(60) == []
    assert b.mind.phase == "run"


def test_d_counts_on_the_wall_too_before_the_start() -> None:
    b = Bench(ends_at=WALL + 300)
    b.wake(1)
    b.skew = 310  # somebody set the clock forward
    assert b.wake(2) == leaving("deadline")


def test_a_wall_clock_set_back_does_not_move_d() -> None:
    b = Bench(ends_at=WALL + 300, boot_limit=1000)
    b.skew = -100_000
    b.wake(1)
    assert b.wake(299) == []
    assert b.wake(300) == leaving("deadline")


def test_after_the_start_the_wall_clock_counts_no_more() -> None:
    b = Bench(ends_at=WALL + 300)
    b.start(1)
    b.skew = 1e6
    assert b.wake(2) == []
    assert b.mind.phase == "run"


def test_each_command_is_taken_once() -> None:
    b = Bench()
    b.wake(1, {"n": 5, "verb": "lease", "seconds": 9}, {"n": 5, "verb": "end"}, {"n": 4, "verb": "end"})
    assert [e["n"] for e in b.events if e["ev"] == "took"] == [5]
    assert b.mind.phase == "boot"


def test_a_restarted_machine_repeats_no_command_of_its_earlier_life() -> None:
    b = Bench(taken=7)
    b.wake(1, {"n": 7, "verb": "end"}, {"n": 8, "verb": "lease", "seconds": 60})
    assert [e["n"] for e in b.events if e["ev"] == "took"] == [8]


@pytest.mark.parametrize(
    "command",
    [
        {"verb": "end"},
        {"n": True, "verb": "end"},
        {"n": "3", "verb": "end"},
        {"n": 0, "verb": "end"},
        {"n": 1},
        {"n": 1, "verb": ["end"]},
        {"n": 1, "verb": "explode"},
        {"n": 1, "verb": "lease"},
        {"n": 1, "verb": "lease", "seconds": -1},
        {"n": 1, "verb": "lease", "seconds": True},
        {"n": 1, "verb": "lease", "seconds": "9"},
        {"n": 1, "verb": "lease", "seconds": float("nan")},
        {"n": 1, "verb": "lease", "seconds": 10**400},
        {"n": 1, "verb": "prepare", "argv": "sh"},
        {"n": 1, "verb": "prepare", "argv": ["sh", 1]},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "cwd": "/etc"},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "cwd": "a/../../b"},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "env": ["A"]},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "env": {"A": 1}},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "env": {"A=B": "1"}},
        {"n": 1, "verb": "prepare", "argv": ["sh"], "env": {"A": "a\0b"}},
        {"n": 1, "verb": "deadline", "max_time_s": 5},
        {"n": 1, "verb": "stop", "why": 5},
        {"n": 1, "verb": "rate", "seconds": None},
        {"n": 1, "verb": "hold", "seconds": []},
        {"n": 1, "verb": "receipt"},
        {"n": 1, "verb": "receipt", "digest": "a\0b"},
    ],
)
def test_a_command_that_cannot_be_meant_is_warned_of_and_skipped(command: dict[str, Any]) -> None:
    b = Bench()
    assert b.wake(1, command) == []
    assert b.warned() == ["bad-command"]
    assert b.mind.phase == "boot"
    b.n = 10
    assert b.say(3, "end") == GONE


def test_warnings_of_the_loop_are_passed_on() -> None:
    b = Bench()
    b.wake(1, warnings=(("nan-metric", "loss is nan"),))
    assert b.last("warned") | {"t": 0, "at": ""} == {
        "ev": "warned",
        "t": 0,
        "at": "",
        "code": "nan-metric",
        "message": "loss is nan",
    }


def test_end_leaves_at_once_and_nothing_after_it_is_heard() -> None:
    b = Bench()
    b.start()
    end, rate = b.command("end"), b.command("rate", seconds=1)
    assert b.wake(3, end, rate, term=True) == GONE
    assert b.kinds()[-2:] == ["took", "ending"]


def test_sigterm_while_nothing_runs_is_an_end() -> None:
    b = Bench()
    assert b.wake(1, term=True) == GONE
    b = Bench()
    b.start()
    b.finish(10)
    assert b.wake(11, term=True) == GONE


def test_rate_asks_for_quick_samples() -> None:
    b = Bench()
    assert b.say(1, "rate", seconds=1) == [Rate(1.0, 15.0)]
    assert b.say(2, "rate", seconds=0) == [Rate(0.1, 15.0)]


# ── preparation ───────────────────────────────────────────────────────────────────────────────────


def test_preparation_runs_once_and_reports() -> None:
    b = Bench()
    assert b.say(1, "prepare", argv=["make"], cwd="project/x", env={"A": "b"}) == [
        Prepare(("make",), "project/x", (("A", "b"),))
    ]
    assert b.say(2, "prepare", argv=["make"]) == []
    b.wake(9, prepared=Prepared(0, 8.00049, ("ok",)))
    told = b.last("prepared")
    assert (told["exit_code"], told["seconds"], told["tail"]) == (0, 8.0, ["ok"])
    assert b.say(10, "prepare", argv=["more"]) == [Prepare(("more",), ".", ())]


def test_a_start_waits_for_the_preparation() -> None:
    b = Bench()
    b.say(1, "prepare", argv=["make"])
    assert b.say(2, "start", job=JOB) == []
    assert b.say(2, "start", job=JOB) == []
    assert b.say(3, "prepare", argv=["late"]) == []
    (action,) = b.wake(9, prepared=Prepared(0, 8))
    assert isinstance(action, Start)
    assert action.job.argv == ("train", "--fast")


def test_a_failed_preparation_refuses_the_waiting_start() -> None:
    b = Bench()
    b.say(1, "prepare", argv=["make"])
    b.say(2, "start", job=JOB)
    assert b.wake(9, prepared=Prepared(2, 8)) == [Signal("kill")]
    assert b.last("refused")["why"] == "prepare-failed"
    assert b.wake(9.1, tree_empty=True) == [Seal()]
    b.wake(9.2, sealed=SEALED)
    assert b.last("sealed")["exit_code"] is None


def test_a_failed_preparation_alone_leaves_the_decision_to_the_client() -> None:
    b = Bench()
    b.say(1, "prepare", argv=["make"])
    b.wake(9, prepared=Prepared(2, 8))
    assert b.mind.phase == "boot"


def test_a_stop_during_the_preparation_kills_it_and_seals() -> None:
    b = Bench()
    b.say(1, "prepare", argv=["make"])
    assert b.say(2, "stop", why="stop") == [Signal("kill")]
    assert b.last("stopping")["why"] == "stop"
    b.wake(2.1, prepared=Prepared(-9, 1))
    assert "prepared" not in b.kinds()
    b.wake(2.2, tree_empty=True)
    b.wake(2.3, sealed=SEALED)
    assert (b.last("sealed")["why"], b.last("sealed")["exit_code"]) == ("stop", None)
    assert b.say(3, "receipt", digest=SEALED.digest) == leaving("receipt")


# ── start ─────────────────────────────────────────────────────────────────────────────────────────


def test_started_replaces_boot_limit_and_d() -> None:
    b = Bench(ends_in=60)
    b.start(45)
    told = {"pid": 7, "argv0": "train", "output": "output"}
    assert b.last("started") | {"at": ""} == {"ev": "started", "t": 45, "at": "", **told}
    assert b.mind.ends == 45 + 130
    assert b.wake(61) == []
    assert b.mind.next_wake(61) == 145


def test_a_second_start_is_taken_and_ignored() -> None:
    b = Bench()
    b.start()
    assert b.say(5, "start", job=JOB) == []
    assert b.say(6, "prepare", argv=["x"]) == []
    assert b.kinds().count("started") == 1
    assert b.kinds().count("took") == 3


def test_the_boot_limit_does_not_cut_a_start_in_flight_but_d_does() -> None:
    b = Bench(ends_in=60)
    b.say(49, "start", job=JOB)
    assert b.wake(55) == []
    assert b.mind.next_wake(55) == 60
    assert b.wake(60) == leaving("deadline")


@pytest.mark.parametrize("why", ["gpu-missing", "no-command"])
def test_a_refusal_is_sealed_and_the_boot_limit_still_counts(why: str) -> None:
    b = Bench()
    b.say(1, "start", job=JOB)
    assert b.wake(2, trainer=Refused(why, "no such thing")) == [Signal("kill")]
    assert b.last("refused") | {"t": 0, "at": ""} == {
        "ev": "refused",
        "t": 0,
        "at": "",
        "why": why,
        "message": "no such thing",
    }
    b.wake(2, tree_empty=True)
    b.wake(2, sealed=SEALED)
    assert b.last("sealed")["exit_code"] is None
    assert b.mind.next_wake(2) == 42  # the hold
    b.say(3, "hold", seconds=500)
    assert b.wake(50) == leaving("boot-limit")


@pytest.mark.parametrize(
    "job",
    [
        None,
        {**JOB, "argv": None},
        {**JOB, "max_time_s": None},
        {**JOB, "output": "../elsewhere"},
        {**JOB, "checkpoint": "/x"},
        {**JOB, "secret_file": 3},
        {**JOB, "idle_s": "soon"},
    ],
)
def test_a_job_that_cannot_be_meant_is_refused(job: object) -> None:
    b = Bench()
    assert b.say(1, "start", job=job) == [Signal("kill")]
    assert b.last("refused")["why"] == "bad-job"
    b.wake(1, tree_empty=True)
    b.wake(1, sealed=SEALED)
    assert b.say(2, "receipt", digest=SEALED.digest) == leaving("receipt")


# ── how long results wait ─────────────────────────────────────────────────────────────────────────


def test_results_wait_for_the_hold() -> None:
    b = Bench()
    b.start()
    b.finish(10)
    assert b.mind.next_wake(10) == 50
    assert b.wake(49.9) == []
    assert b.wake(50) == leaving("hold")


def test_a_client_that_pulls_moves_the_hold_but_never_past_d() -> None:
    b = Bench()
    b.start()
    b.finish(10)
    b.say(45, "hold", seconds=30)
    assert b.wake(74.9) == []
    b.say(74.9, "hold", seconds=9000)
    assert b.wake(130.9) == []
    assert b.wake(131) == leaving("deadline")


def test_a_hold_before_the_seal_only_lengthens() -> None:
    b = Bench()
    b.start()
    b.say(5, "hold", seconds=90)
    b.finish(10)
    assert b.mind.next_wake(10) == 95
    b = Bench()
    b.start()
    b.say(5, "hold", seconds=6)
    b.finish(10)
    assert b.mind.next_wake(10) == 50


def test_the_right_receipt_ends_and_a_wrong_one_is_warned_of() -> None:
    b = Bench()
    b.say(0.5, "receipt", digest=SEALED.digest)
    b.start()
    b.say(2, "receipt", digest=SEALED.digest)
    b.finish(10)
    assert b.say(11, "receipt", digest="e" * 64) == []
    assert b.warned() == ["receipt-differs"] * 3
    assert b.say(12, "receipt", digest=SEALED.digest) == leaving("receipt")


def test_keep_holds_the_machine_after_the_receipt_inside_d() -> None:
    b = Bench()
    b.start(keep_s=20)
    b.finish(10)
    assert b.say(12, "receipt", digest=SEALED.digest) == []
    assert b.say(20, "receipt", digest=SEALED.digest) == []
    assert b.mind.next_wake(20) == 32
    assert b.wake(31.9) == []
    assert b.wake(32) == leaving("receipt")
    b = Bench()
    b.start(keep_s=2000)
    b.finish(10)
    b.say(12, "receipt", digest=SEALED.digest)
    assert b.wake(51) == []  # the hold counts no more
    assert b.wake(131) == leaving("deadline")


def test_deadline_before_the_start_means_nothing() -> None:
    b = Bench()
    b.say(1, "deadline", max_time_s=5, salvage_s=5)
    assert b.mind.ends == 300
    b.say(2, "start", job=JOB)
    b.say(2, "deadline", max_time_s=5, salvage_s=5)
    b.wake(3, trainer=Running(7))
    assert b.mind.ends == 133


def test_a_trainer_that_ended_before_it_was_seen_is_told_in_order() -> None:
    b = Bench()
    b.say(1, "start", job=JOB)
    b.wake(2, trainer=Exited(9, 3))
    assert b.kinds()[-2:] == ["started", "exited"]
    assert b.last("exited")["exit_code"] == 3
