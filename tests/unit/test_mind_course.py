"""The course of a job: T, D, polite and rude ends, idleness, clearing, sealing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.agent.protocol import (
    Exited,
    Leave,
    Look,
    Running,
    ScanCheckpoints,
    Seal,
    SealFailed,
    Signal,
)
from tests.unit.mind_bench import JOB, SEALED, Bench

TERM, KILL = Signal("term"), Signal("kill")


def test_a_run_that_ends_by_itself() -> None:
    b = Bench()
    b.start()
    b.finish(10, code=3)
    assert b.kinds() == ["hello", "armed", "took", "started", "exited", "sealed"]
    exited, sealed = b.events[-2:]
    assert (exited["exit_code"], exited["signal"], exited["why"]) == (3, None, None)
    assert {k: v for k, v in sealed.items() if k not in ("t", "at")} == {
        "ev": "sealed",
        "digest": "d" * 64,
        "count": 2,
        "bytes": 20,
        "exit_code": 3,
        "signal": None,
        "why": None,
        "skipped": ["link"],
    }


def test_sealed_is_the_line_that_must_survive_a_power_cut() -> None:
    b = Bench()
    b.start()
    b.wake(10, trainer=Exited(7, None, 11))
    b.wake(10, tree_empty=True)
    from launcher.agent.protocol import Emit, Sight

    actions = b.mind.wake(10, Sight(wall=0, sealed=SEALED, trainer=Exited(7, None, 11)))
    assert [a.sync for a in actions if isinstance(a, Emit)] == [True]


def test_at_t_it_asks_then_kills_then_seals() -> None:
    b = Bench()
    b.start(1)
    assert b.mind.next_wake(1) == 101
    assert b.wake(100.9) == []
    assert b.wake(101) == [TERM]
    assert b.last("stopping")["why"] == "limit"
    assert b.mind.next_wake(101) == 106
    assert b.wake(105.9) == []
    assert b.wake(106) == [KILL]
    assert b.wake(106.01) == []
    assert b.wake(106.05) == [KILL]
    assert b.wake(106.06, trainer=Exited(7, None, 9)) == [KILL]
    assert b.wake(106.1, tree_empty=True) == [Seal()]
    b.wake(106.2, sealed=SEALED)
    assert (b.last("exited")["why"], b.last("exited")["signal"]) == ("limit", 9)
    assert b.last("sealed")["why"] == "limit"


def test_grace_never_reaches_past_the_last_second_before_d() -> None:
    b = Bench()
    b.start(1, grace_s=500)
    assert b.wake(101) == [TERM]
    assert b.mind.next_wake(101) == 130
    assert b.wake(130) == [KILL]
    assert b.wake(131) == [KILL, Leave("deadline")]
    assert b.last("ending")["why"] == "deadline"


def test_without_salvage_it_is_killed_for_the_deadline() -> None:
    b = Bench()
    b.start(1, salvage_s=0)
    assert b.wake(100) == [KILL]
    assert b.last("stopping")["why"] == "deadline"
    assert b.mind.next_wake(100) == pytest.approx(100.05)


def test_an_extension_and_a_cut() -> None:
    b = Bench()
    b.start(1)
    b.say(50, "deadline", max_time_s=500, salvage_s=50)
    assert b.mind.ends == 551
    assert b.wake(200) == []
    b.say(200, "deadline", max_time_s=250, salvage_s=10)
    assert b.mind.next_wake(200) == 251
    assert b.wake(251) == [TERM]
    b.say(252, "deadline", max_time_s=250, salvage_s=10)
    assert b.kinds().count("stopping") == 1


def test_a_cut_below_the_time_already_used_ends_at_once() -> None:
    b = Bench()
    b.start(1)
    assert b.say(50, "deadline", max_time_s=10, salvage_s=5) == [KILL]
    assert b.mind.next_wake(50) == 50
    assert b.wake(50) == [KILL, Leave("deadline")]


def test_a_polite_stop_waits_for_the_children_too() -> None:
    b = Bench()
    b.start(1)
    assert b.say(10, "stop", why="stop") == [TERM]
    assert b.say(10.5, "stop", why="stop") == []
    assert b.wake(11, trainer=Exited(7, None, 15), tree_empty=False) == [Look()]  # a shell; its child saves
    assert b.wake(11.05) == []
    assert b.wake(11.1) == [Look()]
    assert b.wake(11.15, tree_empty=True) == [Seal()]
    b.wake(11.2, sealed=SEALED)
    assert b.last("sealed")["why"] == "stop"


def test_children_that_do_not_leave_in_time_are_killed() -> None:
    b = Bench()
    b.start(1)
    b.say(10, "stop")
    b.wake(11, trainer=Exited(7, 0), tree_empty=False)
    assert b.wake(15) == [KILL]
    assert b.wake(15.05, tree_empty=True) == [Seal()]


def test_what_its_own_end_leaves_running_is_killed_at_once() -> None:
    b = Bench()
    b.start(1)
    assert b.wake(10, trainer=Exited(7, 0), tree_empty=False) == [KILL]
    assert b.wake(10.05) == [KILL]


def test_an_older_look_does_not_vouch_for_an_empty_tree() -> None:
    b = Bench()
    b.start(1)
    assert b.wake(10, trainer=Exited(7, 0), tree_empty=True) == [KILL]
    assert b.wake(10, tree_empty=True) == [Seal()]


def test_stop_now_kills() -> None:
    b = Bench()
    b.start(1)
    assert b.say(10, "stop", now=True, why="stop") == [KILL]
    assert b.last("stopping")["why"] == "stop"
    assert b.wake(10.1, trainer=Exited(7, None, 9)) == [KILL]


def test_stop_now_after_a_polite_stop_loses_patience() -> None:
    b = Bench()
    b.start(1)
    b.say(10, "stop")
    assert b.say(11, "stop", now=True) == [KILL]
    assert b.kinds().count("stopping") == 1
    b = Bench()
    b.start(1)
    b.say(10, "stop")
    b.wake(11, trainer=Exited(7, 0), tree_empty=False)
    assert b.say(11.01, "stop", now=True) == [KILL]


def test_stop_after_the_end_means_nothing() -> None:
    b = Bench()
    b.start(1)
    b.finish(10)
    assert b.say(11, "stop", now=True) == []
    assert b.last("sealed")["why"] is None


def test_a_stop_between_start_and_started_is_kept() -> None:
    b = Bench()
    b.say(1, "start", job=JOB)
    assert b.say(1.1, "stop", why="stop") == []
    assert b.wake(1.2, trainer=Running(7)) == [TERM]
    assert b.kinds()[-2:] == ["started", "stopping"]


def test_preemption_is_a_polite_stop() -> None:
    b = Bench()
    b.start(1)
    assert b.wake(10, term=True) == [TERM]
    assert b.wake(10.1, term=True) == []
    b.wake(11, trainer=Exited(7, 0))
    b.wake(11.1, tree_empty=True, term=True)
    b.wake(11.2, sealed=SEALED)
    assert b.last("sealed")["why"] == "preempted"
    assert b.mind.phase == "over"


def test_what_cannot_be_killed_keeps_nobody_from_the_results() -> None:
    b = Bench()
    b.start(1)
    b.wake(10, trainer=Exited(7, 0), tree_empty=False)
    assert b.wake(19.9) == [KILL]
    assert b.wake(20) == [Seal()]
    assert b.warned() == ["processes-left"]


def test_a_failed_seal_is_tried_again() -> None:
    b = Bench()
    b.start(1)
    b.wake(10, trainer=Exited(7, 0))
    b.wake(10, tree_empty=True)
    assert b.mind.next_wake(10) == 131
    assert b.wake(11, sealed=SealFailed("disk full")) == []
    assert b.warned() == ["seal-failed"]
    assert b.mind.next_wake(11) == 16
    assert b.wake(15.9) == []
    assert b.wake(16) == [Seal()]
    assert b.wake(17) == []
    b.wake(18, sealed=SEALED)
    assert b.mind.phase == "over"


def test_a_disk_without_room_is_told_once_the_results_are_listed() -> None:
    b = Bench()
    b.start(1)
    b.wake(10, trainer=Exited(7, 1))
    b.wake(10, tree_empty=True)
    b.wake(11, sealed=replace(SEALED, full=True))
    assert b.warned() == ["disk-full"]
    assert b.mind.phase == "over" and b.last("sealed")["exit_code"] == 1


# ── idleness ──────────────────────────────────────────────────────────────────────────────────────


def test_idle_is_announced_and_then_stopped() -> None:
    b = Bench()
    b.start(1, idle_s=20)
    b.wake(5, activity=True)
    assert b.mind.next_wake(5) == 20
    assert b.wake(20, activity=False) == []
    assert b.warned() == ["idle-soon"]
    assert b.wake(24, activity=False) == []
    assert b.warned() == ["idle-soon"]
    assert b.mind.next_wake(24) == 25
    assert b.wake(25) == [TERM]
    assert b.last("stopping")["why"] == "idle"


@pytest.mark.parametrize("sign", [True, None])
def test_a_sign_of_life_or_an_unreadable_one_starts_anew(sign: bool | None) -> None:
    b = Bench()
    b.start(1, idle_s=20)
    b.wake(18, activity=False)
    b.wake(20, activity=sign)
    assert b.wake(34, activity=False) == []
    assert b.warned() == ["idle-soon"]
    b.wake(35, activity=False)
    assert b.warned() == ["idle-soon"] * 2


def test_without_an_idle_limit_nothing_is_idle() -> None:
    b = Bench()
    b.start(1)
    assert b.wake(99, activity=False) == []


# ── the last look at checkpoints ──────────────────────────────────────────────────────────────────


def test_sealing_waits_for_the_last_checkpoints_but_not_for_ever() -> None:
    b = Bench()
    b.start(1, checkpoint="checkpoint")
    b.wake(10, trainer=Exited(7, 0))
    assert b.wake(10, tree_empty=True) == [ScanCheckpoints()]
    assert b.mind.next_wake(10) == 25
    assert b.wake(24.9) == []
    assert b.wake(25) == [Seal()]


def test_near_d_the_last_look_leaves_time_for_the_seal() -> None:
    b = Bench()
    b.start(1, checkpoint="checkpoint")
    b.wake(101)
    b.wake(104, trainer=Exited(7, 0))
    b.wake(104, tree_empty=True)
    assert b.mind.next_wake(104) == 113
