"""Which checkpoints are announced, and when."""

from __future__ import annotations

from launcher.agent.protocol import Exited, File, HashCheckpoint, Hashed, Running, ScanCheckpoints, Seal, Seen
from tests.unit.mind_bench import Bench

FILES = (File("w.bin", 3, "a" * 64),)
LOOK = ScanCheckpoints()


def begun(**job: object) -> Bench:
    b = Bench()
    b.start(0, checkpoint="checkpoint", checkpoint_every_s=20, **job)
    return b


def test_a_marked_one_is_hashed_and_announced_once() -> None:
    b = begun()
    assert b.mind.next_wake(0) == 20
    assert b.wake(20) == [LOOK]
    assert b.wake(20.5) == []
    seen = (Seen("step-1", "f1", True),)
    assert b.wake(21, checkpoints=seen) == [HashCheckpoint("step-1", "f1")]
    b.wake(22, hashed=(Hashed("step-1", "f1", FILES),))
    told = b.last("checkpoint")
    assert (told["name"], told["complete"]) == ("step-1", True)
    assert told["files"] == [{"path": "w.bin", "size": 3, "sha256": "a" * 64}]
    assert b.wake(40) == [LOOK]
    assert b.wake(41, checkpoints=seen) == []
    assert b.mind.next_wake(41) == 60


def test_it_is_announced_again_when_it_changed() -> None:
    b = begun()
    b.wake(20)
    b.wake(20, checkpoints=(Seen("last", "f1", True),))
    b.wake(20, hashed=(Hashed("last", "f1", FILES),))
    b.wake(40)
    assert b.wake(40, checkpoints=(Seen("last", "f2", True),)) == [HashCheckpoint("last", "f2")]


def test_an_unmarked_one_must_stand_still() -> None:
    b = begun()
    b.wake(20)
    assert b.wake(20, checkpoints=(Seen("w.pt", "f1", False),)) == []
    assert b.mind.next_wake(20) == 25
    assert b.wake(25) == [LOOK]
    assert b.wake(25, checkpoints=(Seen("w.pt", "f2", False),)) == []
    assert b.wake(30) == [LOOK]
    assert b.wake(30, checkpoints=(Seen("w.pt", "f2", False),)) == [HashCheckpoint("w.pt", "f2")]
    b.wake(31, hashed=(Hashed("w.pt", "f2", FILES),))
    assert b.last("checkpoint")["complete"] is True


def test_what_never_stands_still_is_looked_at_a_few_times_a_round() -> None:
    b = Bench()
    b.start(0, checkpoint="checkpoint", checkpoint_every_s=40)
    looks = []
    for now in range(100):
        if LOOK in b.wake(now):
            looks.append(now)
            b.wake(now, checkpoints=(Seen("w.pt", f"f{now}", False),))
    assert looks == [40, 45, 50, 55, 80, 85, 90, 95]


def test_one_that_changed_while_it_was_hashed_waits_for_the_next_look() -> None:
    b = begun()
    b.wake(20)
    b.wake(20, checkpoints=(Seen("a", "f1", True),))
    b.wake(21, hashed=(Hashed("a", "f1", None),))
    assert "checkpoint" not in b.kinds()
    b.wake(40)
    assert b.wake(40, checkpoints=(Seen("a", "f1", True),)) == [HashCheckpoint("a", "f1")]


def test_answers_nobody_waits_for_are_dropped() -> None:
    b = begun()
    b.wake(10, hashed=(Hashed("a", "f1", FILES),), checkpoints=())
    b.wake(20)
    b.wake(20, checkpoints=(Seen("a", "f1", True),))
    b.wake(40)
    assert b.wake(40, checkpoints=(Seen("a", "f1", True),)) == []  # still being hashed
    b.wake(60)
    assert b.wake(60, checkpoints=(Seen("a", "f2", True),)) == [HashCheckpoint("a", "f2")]
    b.wake(61, hashed=(Hashed("a", "f1", FILES),))
    assert "checkpoint" not in b.kinds()


def closing(b: Bench, code: int | None, signal: int | None = None, at: float = 10) -> None:
    b.wake(at, trainer=Exited(7, code, signal))
    assert b.wake(at, tree_empty=True) == [LOOK]


def test_after_a_good_end_what_lies_there_is_complete() -> None:
    b = begun()
    closing(b, 0)
    assert b.wake(11, checkpoints=(Seen("w.pt", "f1", False),)) == [HashCheckpoint("w.pt", "f1")]
    assert b.wake(12, hashed=(Hashed("w.pt", "f1", FILES),)) == [Seal()]
    assert b.last("checkpoint")["complete"] is True


def test_after_a_kill_standing_still_proves_nothing() -> None:
    b = begun()
    b.wake(20)
    b.wake(20, checkpoints=(Seen("w.pt", "f1", False), Seen("old", "g", True)))
    b.wake(20, hashed=(Hashed("old", "g", FILES),))
    closing(b, None, 9, at=22)
    seen = (Seen("w.pt", "f1", False), Seen("old", "g", True))
    assert b.wake(30, checkpoints=seen) == [HashCheckpoint("w.pt", "f1")]
    b.wake(31, hashed=(Hashed("w.pt", "f1", FILES),))
    assert b.last("checkpoint")["complete"] is False


def test_an_older_look_is_not_taken_for_the_last_one() -> None:
    b = begun()
    b.wake(20)
    closing(b, 0, at=21)
    assert b.wake(22, checkpoints=(Seen("a", "half", True),)) == []
    assert b.wake(23, checkpoints=(Seen("a", "whole", True),)) == [HashCheckpoint("a", "whole")]


def test_nothing_to_announce_means_no_waiting() -> None:
    b = begun()
    closing(b, 1)
    assert b.wake(10, checkpoints=()) == [Seal()]


def test_a_late_hash_is_announced_even_after_the_seal_began() -> None:
    b = begun()
    closing(b, 0)
    b.wake(11, checkpoints=(Seen("a", "f", True),))
    assert Seal() in b.wake(25)
    b.wake(26, hashed=(Hashed("a", "f", FILES),))
    assert b.last("checkpoint")["name"] == "a"


def test_no_checkpoint_folder_no_looks() -> None:
    b = Bench()
    b.start(0)
    assert b.wake(30, checkpoints=(Seen("a", "f", True),), trainer=Running(7)) == []
