"""Whatever happens to a run, and in whatever order: it ends, and no machine is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher import runstate
from launcher.codec import dump
from launcher.models import Plan, State
from launcher.runstate import Attempt, RunState, Step, apply, fold, next_step, outcome
from tests.unit.journals import stories
from tests.unit.journals.stories import NOON, begin, plan

MINUTE = timedelta(minutes=1)
Happening = tuple[str, dict[str, object]]

SEALS = (("", 0, 2), ("", 1, 0), ("", 0, 0), ("stop", 0, 1), ("limit", 143, 1), ("preempted", 0, 1))


class Life:
    """An engine that does what next_step asks, in a world whose every answer is drawn; 0 is the good one."""

    def __init__(self, choices: list[int], of: Plan) -> None:
        self.story = begin(of)
        self.choices = iter(choices)

    def draw(self, most: int) -> int:
        return next(self.choices, 0) % most

    def live(self) -> Iterator[RunState]:
        for _ in range(400):
            self.people()
            state = self.story.state
            yield state
            step = next_step(state)
            if step is None:
                return
            getattr(self, step.value)(state)
        raise AssertionError("it never ends")

    def people(self) -> None:
        request = self.draw(48)
        if request in (1, 2):
            self.story("stop", id="s", now=request == 2)
        elif request == 3:
            self.story("pull-asked", id="p")
        elif request == 4:
            self.story("engine", pid=43)

    def one_of(self, n: int, *facts: Happening) -> None:
        kind, data = facts[self.draw(len(facts))]
        self.story(kind, attempt=n, **data)

    def over(self, blame: bool) -> Happening:
        return "over", {"why": "lost", "blame": blame}

    def sealed(self, n: int) -> None:
        why, code, count = SEALS[self.draw(len(SEALS))]
        self.story.sealed(n, code, why or None, count)
        if why == "preempted":
            self.story("over", attempt=n, why=why, blame=False)

    def provision(self, state: RunState) -> None:
        n = len(state.attempts)
        if state.attempt is None or not state.attempt.open:
            choice = runstate.next_choice(state)
            assert choice is not None
            n += 1
            self.story.asked(n, choice)
        refused: list[Happening] = [
            ("not-created", {"reason": "no", "blame": blame}) for blame in (True, False)
        ]
        made: Happening = ("created", {"instance": f"i-{n}", "usd_per_hour": "0.5", "access": None})
        self.one_of(n, made, *refused, self.over(True), ("nothing-known", {}))

    def connect(self, state: RunState) -> None:
        n = len(state.attempts)
        if self.draw(3):
            self.story("over", attempt=n, why="not reachable", blame=True)
        else:
            self.story.connected(n)

    def push(self, state: RunState) -> None:
        self.one_of(len(state.attempts), ("pushed", {"digest": "d"}), ("rebooted", {}), self.over(True))

    def start(self, state: RunState) -> None:
        n = len(state.attempts)
        if self.draw(4) == 3:
            self.sealed(n)
        else:
            self.one_of(n, ("started", {"deadline": dump(NOON)}), self.over(False))

    def watch(self, state: RunState) -> None:
        n = len(state.attempts)
        if state.attempts[-1].sealed is not None:  # held, for somebody who asks again
            self.one_of(n, ("over", {"why": "deadline", "blame": False}), ("pull-asked", {"id": "p"}))
            return
        match self.draw(4):
            case 1:
                self.story("over", attempt=n, why="deadline", blame=False)
            case 2:
                self.story("rebooted", attempt=n)
            case 3:
                self.story("checkpoint", name="c", digest="c")
            case _:
                self.sealed(n)

    def pull(self, state: RunState) -> None:
        if state.version is None:
            assert state.wants_pull, "nothing is there to be pulled"
            if self.draw(3) == 1:
                self.story("pull-failed", message="full")
                return
            self.story.versioned()
        if state.attempts[-1].open:
            self.one_of(len(state.attempts), ("receipt", {}), ("over", {"why": "here", "blame": False}))

    def release(self, state: RunState) -> None:
        a = state.attempts[-1]
        if state.stop is not None and state.stop.now and state.wants_pull:
            self.story("discarded")
        if self.draw(4) == 1:
            self.story("end-asked", attempt=a.n)  # and died
            return
        free = not state.plan.choices[a.choice].offer.bills
        self.story.released(a.n, kept=free and self.story.state.wants_pull)


lives = st.lists(st.just(0) | st.just(0) | st.integers(0, 47), max_size=80)


@settings(max_examples=150, deadline=None)
@given(lives, st.booleans())
@example([0] * 5, False)
def test_a_run_ends_whatever_happens_and_leaves_no_machine_alone(choices: list[int], free: bool) -> None:
    of = plan() if free else plan(stories.choice("a", "0.5"), stories.choice("b", "0.5"))
    last = before = fold(of, ())
    for state in Life(choices, of).live():
        assert sum(a.open for a in state.attempts) <= 1
        assert sum(a.instance is not None for a in state.attempts) <= of.limits.max_attempts
        check_step(state, next_step(state))
        check_growth(before, state)
        last = before = state
    assert next_step(last) is None
    assert not any(a.open for a in last.attempts)
    if not last.wants_pull:
        assert outcome(last) in (State.DONE, State.FAILED, State.STOPPED, State.LIMIT)


def check_step(state: RunState, step: Step | None) -> None:
    a = state.attempt
    now = state.stop is not None and state.stop.now
    if step is Step.PROVISION:
        assert state.stop is None
        assert a is None or not a.open or (a.instance is None and a.over is None)
    if a is not None and a.open and (now or a.over is not None or a.receipt_at is not None):
        assert step is Step.RELEASE
    if step is Step.PULL:
        assert not now and state.worth
    if step in (Step.CONNECT, Step.PUSH, Step.START, Step.WATCH):
        assert a is not None and a.open and a.instance is not None
        assert a.sealed is None or (step is Step.WATCH and state.pull_failed is not None and state.worth)


def check_growth(before: RunState, after: RunState) -> None:
    """Facts only add: what is gone stays gone, what was answered stays answered, bills do not shrink."""
    assert len(after.attempts) >= len(before.attempts)
    for old, new in zip(before.attempts, after.attempts, strict=False):
        assert (old.n, old.token, old.choice, old.asked_at) == (new.n, new.token, new.choice, new.asked_at)
        assert_kept(old, new)
    assert after.engines >= before.engines and after.answered >= before.answered
    assert len({c.name for c in after.checkpoints}) == len(after.checkpoints)
    late = NOON + 600 * MINUTE
    assert after.spent(late) >= after.spent(late - MINUTE)


def assert_kept(old: Attempt, new: Attempt) -> None:
    for name in ("instance", "started_at", "sealed", "receipt_at", "gone_at", "over"):
        was = getattr(old, name)
        assert was is None or getattr(new, name) == was or name in ("gone_at", "over"), name
    assert old.open or not new.open


@settings(deadline=None)
@given(lives, st.integers(0, 400))
def test_a_run_folded_in_two_parts_is_the_same_run(choices: list[int], cut: int) -> None:
    life = Life(choices, plan())
    for _ in life.live():
        pass
    facts = life.story.facts
    state = fold(life.story.plan, facts[:cut])
    for fact in facts[cut:]:
        state = apply(state, fact)
    assert state == life.story.state
