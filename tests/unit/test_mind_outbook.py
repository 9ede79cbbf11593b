"""Which output files are announced while the trainer runs, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.outbook import MOST, STILL_S, Outbook
from launcher.agent.protocol import (
    Exited,
    File,
    Hashed,
    HashOutput,
    ScanOutput,
    Seal,
    Seen,
)
from tests.unit.mind_bench import Bench

LOOK = ScanOutput()
EVERY = 60.0


def seen(*names: str) -> tuple[Seen, ...]:
    """`model.bin` or `model.bin:2`: its name, and which contents it has."""
    return tuple(Seen(n.partition(":")[0], n, False) for n in names)


def answer(name: str, *, ok: bool = True) -> Hashed:
    (one,) = seen(name)
    files = (File(one.name, 5, one.fingerprint.encode().hex().ljust(64, "0")),)
    return Hashed(one.name, one.fingerprint, files if ok else None)


class Folder:
    """The book, and a folder that is looked at whenever it asks for it."""

    def __init__(self) -> None:
        self.book, self.now = Outbook(0, EVERY), 0.0
        self.told: list[tuple[float, str]] = []
        self.looks: list[float] = []

    def until(self, end: float, *names: str) -> None:
        """This lies there until then; whatever is to be hashed is hashed at once."""
        while (at := self.book.next_at()) < end:
            self.now = max(self.now, at)
            assert self.book.due(self.now) == [LOOK]
            self.looks.append(self.now)
            events, actions = self.book.seen(self.now, seen(*names))
            while True:
                self.told += [(self.now, f"{'-' if e.get('gone') else ''}{e['path']}") for e in events]
                if not actions:
                    break
                (wanted,) = actions
                assert isinstance(wanted, HashOutput)
                events, actions = self.book.hashed(answer(wanted.fingerprint))
        self.now = end


def test_what_stands_still_is_announced_once() -> None:
    f = Folder()
    f.until(1000, "a", "b")
    assert f.told == [(EVERY + STILL_S, "a"), (EVERY + STILL_S, "b")]
    assert f.looks[:3] == [60, 65, 120]


def test_what_moves_waits_for_the_next_round() -> None:
    f = Folder()
    f.until(62, "a:1")
    f.until(100, "a:2")
    assert f.told == []
    f.until(200, "a:2")
    assert f.told == [(120, "a")]


def test_what_is_written_again_and_again_is_sent_ever_more_rarely() -> None:
    f = Folder()
    for k in range(600):  # anew each 400 s
        f.until(400.0 * (k + 1), f"best:{k}")
    assert len(f.told) == 3
    f.until(f.now + 1000, "best:last")
    assert f.told[-1][0] > 600 * 400


def test_what_is_gone_is_taken_back() -> None:
    f = Folder()
    f.until(100, "a", "b")
    f.until(200, "b")
    assert f.told == [(65, "a"), (65, "b"), (120, "-a")]


def test_one_that_changed_while_it_was_hashed_is_not_announced() -> None:
    book = Outbook(0, 10)
    book.due(10)
    assert book.seen(10, seen("a")) == ([], [])
    book.due(15)
    assert book.seen(15, seen("a")) == ([], [HashOutput("a", "a")])
    assert book.hashed(answer("a", ok=False)) == ([], [])
    book.due(20)
    assert book.seen(20, seen("a")) == ([], [HashOutput("a", "a")])


def test_one_is_hashed_at_a_time() -> None:
    book = Outbook(0, 10)
    for now in (10, 15):
        book.due(now)
        _, actions = book.seen(now, seen("a", "b"))
    assert actions == [HashOutput("a", "a")]
    book.due(20)
    assert book.seen(20, seen("a", "b", "c")) == ([], [])  # the first is being hashed still
    events, actions = book.hashed(answer("a"))
    assert [e["path"] for e in events] == ["a"] and actions == [HashOutput("b", "b")]


def test_an_answer_to_another_question_announces_nothing() -> None:
    book = Outbook(0, 10)
    for now in (10, 15):
        book.due(now)
        book.seen(now, seen("a"))
    assert book.hashed(answer("a:2"))[0] == []
    assert book.hashed(answer("a"))[0] == []


def test_there_is_an_end_to_announcements() -> None:
    f = Folder()
    f.until(100, *(f"f{n:05}" for n in range(MOST + 100)))
    assert len(f.told) == MOST


@given(st.lists(st.tuples(st.floats(1, 200), st.sets(st.sampled_from(["a", "b:1", "b:2", "c:1", "c:2"])))))
def test_only_what_was_seen_twice_unchanged_is_announced(steps: list[tuple[float, set[str]]]) -> None:
    book, now, at = Outbook(0, 10), 0.0, 0.0
    first: dict[str, float] = {}
    for seconds, names in steps:
        now += seconds
        if not book.due(now):
            continue
        one_each = {n.partition(":")[0]: n for n in sorted(names)}
        found = seen(*sorted(one_each.values()))
        first = {one.fingerprint: first.get(one.fingerprint, now) for one in found}
        events, actions = book.seen(now, found)
        assert all(e["gone"] for e in events)
        for action in actions:
            assert isinstance(action, HashOutput)
            at = first[action.fingerprint]
            assert now - at >= STILL_S
            book.hashed(answer(action.fingerprint, ok=False))


# --- in the agent's mind -----------------------------------------------------------------------------


def test_nobody_is_asked_to_look_unless_somebody_fetches() -> None:
    b = Bench()
    b.start(0)
    assert not any(LOOK in b.wake(now) for now in range(90))


def test_an_announcement_has_name_size_and_digest() -> None:
    b = Bench()
    b.start(0, early_every_s=20)
    assert b.mind.next_wake(1) <= 20
    assert b.wake(20) == [LOOK]
    assert b.wake(20.1, outputs=seen("m.bin")) == []
    assert b.mind.next_wake(21) <= 25.1
    assert b.wake(25.1) == [LOOK]
    assert b.wake(25.2, outputs=seen("m.bin")) == [HashOutput("m.bin", "m.bin")]
    b.wake(26, hashed_outputs=(answer("m.bin"),))
    told = b.last("output")
    assert (told["path"], told["size"], len(told["sha256"])) == ("m.bin", 5, 64)


def test_after_the_trainer_nothing_is_announced_and_sealing_waits_for_no_hash() -> None:
    b = Bench()
    b.start(0, early_every_s=20)
    b.wake(20)
    b.wake(20, outputs=seen("m.bin"))
    b.wake(25)
    assert b.wake(25, outputs=seen("m.bin")) == [HashOutput("m.bin", "m.bin")]
    b.wake(30, trainer=Exited(7, 0))
    assert b.wake(30.1, tree_empty=True, hashed_outputs=(answer("m.bin"),)) == [Seal()]
    assert "output" not in b.kinds()
    assert not any(LOOK in b.wake(now) for now in range(31, 60))


def test_a_look_that_comes_back_after_the_trainer_is_nobodys_business() -> None:
    b = Bench()
    b.start(0, early_every_s=20)
    assert b.wake(20) == [LOOK]
    b.wake(21, trainer=Exited(7, 0))
    assert b.wake(21.1, tree_empty=True, outputs=seen("m.bin")) == [Seal()]
    assert "output" not in b.kinds()
