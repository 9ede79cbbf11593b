"""What a run is and what comes next: told from facts alone, and never wrong about a machine that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher import journal, runstate
from launcher.codec import dump, load
from launcher.errors import Exit
from launcher.models import Fact, Plan, State
from launcher.runstate import Step, fold, next_step, outcome, shown
from tests.unit.journals import stories
from tests.unit.journals.stories import NOON, Story, begin, plan

KEPT = Path(stories.__file__).parent
OLD = sorted(path.stem for path in KEPT.glob("*.jsonl"))
MINUTE = timedelta(minutes=1)


def lost() -> Story:
    return begin().started()("over", attempt=1, why="lost", blame=False)


def paid() -> Story:
    return begin(plan(stories.choice("rented", "0.69")))


# --- what happened ---------------------------------------------------------------------------------


def test_the_first_journals_are_kept() -> None:
    assert {f"v1-{name}" for name in ("happy", "stopped", "lost-and-retried", "waiting")} <= set(OLD)


@pytest.mark.parametrize("name", OLD)
def test_an_old_journal_still_tells_the_same(name: str) -> None:
    kept = json.loads((KEPT / f"{name}.json").read_text())
    old = load(Plan, kept["plan"])
    data = (KEPT / f"{name}.jsonl").read_bytes()
    reading = journal.read(data)
    assert reading.good == len(data)
    now = stories.told(fold(old, reading.facts), load(type(NOON), kept["told"]["now"]))
    assert known(now["state"], kept["told"]["state"]) == kept["told"]["state"]
    assert {**now, "state": {}} == {**kept["told"], "state": {}}


def known(now: Any, kept: Any) -> Any:
    """What was already told when the journal was kept: newer words do not count."""
    if isinstance(kept, dict):
        return {key: known(now[key], value) for key, value in kept.items()}
    if isinstance(kept, list):
        return [known(one, other) for one, other in zip(now, kept, strict=True)]
    return now


def test_unknown_kinds_are_passed_over() -> None:
    story = stories.happy()
    odd = [Fact("quantum", NOON, {"attempt": 1}), Fact("weather", NOON, {"kept": True})]
    mixed = [fact for known in story.facts for fact in (known, *odd)]
    assert fold(story.plan, mixed) == story.state


def test_a_fact_about_a_machine_nobody_asked_for_changes_nothing() -> None:
    story = begin()("gone", attempt=7, kept=True)("started", attempt=7, deadline=dump(NOON))
    assert story.state == begin().state


def test_a_checkpoint_written_again_is_another_one_and_the_newest() -> None:
    assert [(c.name, c.digest) for c in stories.happy().state.checkpoints] == [
        ("step-20", "c2"),
        ("step-10", "c3"),
    ]


def test_the_newest_checkpoint_is_the_one_written_last_however_they_came_home() -> None:
    story = begin().started()
    for attempt, name, written in (
        (1, "b", 20.0),
        (1, "a", 10.0),
        (2, "d", 2.0),
        (2, "c", 1.0),
        (1, "e", 30.0),
    ):
        story("checkpoint", attempt=attempt, name=name, digest=name, size=1, written=written)
    assert [c.name for c in story.state.checkpoints] == ["a", "b", "e", "c", "d"]


def test_a_machine_that_never_was_costs_nothing_and_a_released_one_costs_no_more() -> None:
    story = paid().asked()("not-created", attempt=1, reason="lost", blame=False)
    assert story.state.spent(NOON + 60 * MINUTE) == 0
    story.created(2)
    asked = story.state.attempts[1].asked_at
    assert story.state.spent(asked + 60 * MINUTE) == Decimal("0.69")
    story.released(2)
    gone = story.state.attempts[1].gone_at
    assert gone is not None
    assert story.state.spent(gone + 60 * MINUTE) == story.state.spent(gone) == Decimal("0.69") / 120
    assert story.state.spent_besides(story.state.attempts[0], gone) == story.state.spent(gone)
    assert story.state.spent_besides(story.state.attempts[1], gone) == 0


def test_a_machine_that_was_perhaps_there_for_a_while_may_have_cost_something() -> None:
    story = paid().asked()("not-created", attempt=1, reason="lost", blame=False, sure=False)
    assert story.state.spent(story.now) == Decimal("0.001917"), "ten seconds, rounded up"


def test_results_that_ended_with_their_machine_are_lost_and_another_one_goes_on() -> None:
    story = (
        paid().started().sealed()("pull-failed", message="cut")("over", attempt=1, why="lost", blame=False)
    )
    assert story.state.sealed is not None
    state = story.released().state
    assert (state.sealed, state.wants_pull, next_step(state)) == (None, False, Step.PROVISION)


def test_the_rate_returned_at_create_is_the_one_that_counts() -> None:
    story = paid().asked()("created", attempt=1, instance="i-1", usd_per_hour="0.60", access=None)
    assert story.state.attempts[0].usd_per_hour == Decimal("0.60")


def test_an_extension_moves_the_limits_and_the_deadline_and_is_known_by_its_request() -> None:
    story = paid().started()("extended", id="r1", max_time_s=7200, max_cost=None)
    story("deadline", attempt=1, deadline=NOON + 99 * MINUTE)
    state = story.state
    assert (state.max_time_s, state.max_cost, state.extended) == (7200, None, frozenset({"r1"}))
    assert state.attempts[0].d == NOON + 99 * MINUTE
    assert paid().created().state.attempts[0].d == state.attempts[0].ends_at


def test_reopening_forgets_the_end_and_keeps_checkpoints_and_bills() -> None:
    story = stories.stopped()
    before = story.state
    state = story("reopened")("engine", pid=5).state
    assert (state.ended, state.stop, state.version, state.sealed) == (None, None, None, None)
    assert (state.attempts, state.started_at) == (before.attempts, before.started_at)
    assert next_step(state) is Step.PROVISION


def test_a_reopened_run_tries_again_what_had_failed() -> None:
    story = begin(plan(stories.choice("local", "0"), max_attempts=1)).created()
    story("over", attempt=1, why="it broke", blame=True).released()
    assert next_step(story.state) is None
    assert next_step(story("reopened").state) is Step.PROVISION


# --- what next -------------------------------------------------------------------------------------

NEXT: list[tuple[str, Callable[[], Story], Step | None]] = [
    ("nothing happened yet", lambda: Story(plan()), Step.PROVISION),
    ("asked, no answer known", lambda: begin().asked(), Step.PROVISION),
    ("created", lambda: begin().created(), Step.CONNECT),
    ("connected", lambda: begin().created().connected(), Step.PUSH),
    ("pushed", lambda: begin().created().connected()("pushed", attempt=1, digest="d"), Step.START),
    ("started", lambda: begin().started(), Step.WATCH),
    ("rebooted", lambda: begin().started()("rebooted", attempt=1), Step.CONNECT),
    ("rebooted and back", lambda: begin().started()("rebooted", attempt=1).connected(), Step.PUSH),
    ("sealed", lambda: begin().started().sealed(), Step.PULL),
    ("sealed a failure with output", lambda: begin().started().sealed(exit_code=1), Step.PULL),
    ("sealed a failure without output", lambda: begin().started().sealed(exit_code=1, count=0), Step.RELEASE),
    ("sealed success without output", lambda: begin().started().sealed(count=0), Step.PULL),
    (
        "OUT was promised and is empty",
        lambda: begin(plan(output="out")).started().sealed(count=0),
        Step.RELEASE,
    ),
    ("versioned, died before the receipt", lambda: begin().started().sealed().versioned(), Step.PULL),
    (
        "receipt",
        lambda: begin().started().sealed().versioned()("receipt", attempt=1),
        Step.RELEASE,
    ),
    ("pull failed, free", lambda: begin().started().sealed()("pull-failed", message="full"), Step.RELEASE),
    ("pull failed, paid", lambda: paid().started().sealed()("pull-failed", message="full"), Step.WATCH),
    (
        "asked to pull again",
        lambda: paid().started().sealed()("pull-failed", message="full")("pull-asked", id="r"),
        Step.PULL,
    ),
    ("waiting, machine gone", stories.waiting, None),
    ("waiting, pull asked", lambda: stories.waiting()("pull-asked", id="r"), Step.PULL),
    (
        "waiting, then given up with stop --now",
        lambda: stories.waiting()("pull-asked", id="r")("stop", id="s", now=True),
        Step.RELEASE,
    ),
    (
        "pulled from the place that outlived the machine",
        lambda: stories.waiting()("pull-asked", id="r").versioned(),
        Step.RELEASE,
    ),
    ("its place given up", lambda: stories.waiting()("discarded"), Step.RELEASE),
    ("over", lost, Step.RELEASE),
    ("over and gone", lambda: lost().released(), Step.PROVISION),
    ("preempted and gone", lambda: begin().started().sealed(why="preempted").released(), Step.PROVISION),
    ("stop before anything", lambda: begin()("stop", id="s", now=False), None),
    ("stop while asking", lambda: begin().asked()("stop", id="s", now=False), Step.RELEASE),
    ("stop while preparing", lambda: begin().created().connected()("stop", id="s", now=False), Step.RELEASE),
    ("stop while training", lambda: begin().started()("stop", id="s", now=False), Step.WATCH),
    ("stop now while training", lambda: begin().started()("stop", id="s", now=True), Step.RELEASE),
    ("stop now while pulling", lambda: begin().started().sealed()("stop", id="s", now=True), Step.RELEASE),
    ("stopped and lost", lambda: begin().started()("stop", id="s", now=False).released(), None),
    ("the only offer is at fault", lambda: refused(1), None),
    ("one offer of two is at fault", lambda: refused(2), Step.PROVISION),
    ("ended", stories.happy, None),
]


def refused(offers: int) -> Story:
    story = begin(plan(*(stories.choice(f"t{i}", "0.5") for i in range(offers)))).asked()
    return story("not-created", attempt=1, reason="no room", blame=True)


@pytest.mark.parametrize(("story", "step"), [row[1:] for row in NEXT], ids=[row[0] for row in NEXT])
def test_next_step(story: Callable[[], Story], step: Step | None) -> None:
    assert next_step(story().state) == step


def test_after_a_fault_the_next_offer_in_the_plans_order_is_tried() -> None:
    assert runstate.next_choice(begin().state) == 0
    assert runstate.next_choice(refused(2).state) == 1
    assert runstate.next_choice(refused(1).state) is None


def test_lost_machines_are_counted() -> None:
    story = begin(plan(max_attempts=2))
    for n in (1, 2):
        assert next_step(story.state) is Step.PROVISION
        story.created(n)("over", attempt=n, why="lost", blame=False).released(n)
    assert next_step(story.state) is None


def test_create_calls_that_come_to_nothing_end_some_day() -> None:
    story, n = paid(), 0
    while next_step(story.state) is Step.PROVISION:
        n += 1
        story.asked(n)("not-created", attempt=n, reason="lost", blame=False)
        assert n <= runstate.MOST_IN_VAIN
    assert n == runstate.MOST_IN_VAIN


# --- what a person is told -------------------------------------------------------------------------

OUTCOMES: list[tuple[str, Callable[[], Story], State, Exit]] = [
    ("done", lambda: begin().started().sealed(), State.DONE, Exit.DONE),
    ("done without output", lambda: begin().started().sealed(count=0), State.DONE, Exit.DONE),
    (
        "promised OUT, left none",
        lambda: begin(plan(output="out")).started().sealed(count=0),
        State.FAILED,
        Exit.TRAINER,
    ),
    ("non-zero", lambda: begin().started().sealed(exit_code=3), State.FAILED, Exit.TRAINER),
    ("by a signal", lambda: begin().started().sealed(exit_code=None), State.FAILED, Exit.TRAINER),
    ("stopped", stories.stopped, State.STOPPED, Exit.LIMIT),
    ("given up", lambda: begin().started().sealed()("discarded"), State.STOPPED, Exit.LIMIT),
    ("time", lambda: begin().started().sealed(why="limit"), State.LIMIT, Exit.LIMIT),
    ("idle", lambda: begin().started().sealed(why="idle"), State.LIMIT, Exit.LIMIT),
    ("deadline", lambda: begin().started().sealed(why="deadline"), State.LIMIT, Exit.LIMIT),
    ("stopped before it started", lambda: begin()("stop", id="s", now=False), State.STOPPED, Exit.LIMIT),
    (
        "lost past its deadline",
        lambda: begin().started()("over", attempt=1, why="deadline", blame=False).released(),
        State.LIMIT,
        Exit.LIMIT,
    ),
    (
        "the money did not do",
        lambda: begin().asked()("not-created", attempt=1, reason="budget", blame=True),
        State.LIMIT,
        Exit.LIMIT,
    ),
    ("nothing to rent", lambda: refused(1), State.FAILED, Exit.NO_OFFER),
    (
        "the keys were refused",
        lambda: begin().asked()("not-created", attempt=1, reason="key", blame=True, exit=3),
        State.FAILED,
        Exit.KEYS,
    ),
    ("never asked", lambda: Story(plan()), State.FAILED, Exit.NO_OFFER),
    (
        "every machine was lost",
        lambda: begin().created()("over", attempt=1, why="lost", blame=True).released(),
        State.FAILED,
        Exit.PROVIDER,
    ),
    ("preempted, no other", lambda: begin().started().sealed(why="preempted"), State.FAILED, Exit.PROVIDER),
]


@pytest.mark.parametrize(("story", "end", "status"), [r[1:] for r in OUTCOMES], ids=[r[0] for r in OUTCOMES])
def test_outcome_and_status(story: Callable[[], Story], end: State, status: Exit) -> None:
    state = story().state
    assert outcome(state) is end
    assert runstate.exit_status(state, end) is status


def test_what_may_still_bill_beats_every_other_status() -> None:
    state = stories.happy().state
    assert runstate.exit_status(state, State.MAYBE_BILLING) is Exit.MAYBE_BILLING
    assert runstate.exit_status(state, State.WAITING) is Exit.PROVIDER


SHOWN: list[tuple[str, Callable[[], Story], State, State]] = [  # with an engine, without
    ("planned", lambda: Story(plan()), State.PLANNED, State.PLANNED),
    ("engine started", begin, State.RENTING, State.INTERRUPTED),
    ("asked", lambda: begin().asked(), State.RENTING, State.INTERRUPTED),
    ("created", lambda: begin().created(), State.PREPARING, State.INTERRUPTED),
    ("started", lambda: begin().started(), State.RUNNING, State.INTERRUPTED),
    (
        "lost, another is wanted",
        lambda: lost().released(),
        State.RENTING,
        State.INTERRUPTED,
    ),
    (
        "preempted, another is wanted",
        lambda: begin().started().sealed(why="preempted").released(),
        State.RENTING,
        State.INTERRUPTED,
    ),
    ("sealed", lambda: begin().started().sealed(), State.PULLING, State.WAITING),
    ("no receipt yet", lambda: begin().started().sealed().versioned(), State.PULLING, State.INTERRUPTED),
    ("kept in its place", stories.waiting, State.PULLING, State.WAITING),
    ("ended", stories.happy, State.DONE, State.DONE),
    ("ended by a stop", stories.stopped, State.STOPPED, State.STOPPED),
]


@pytest.mark.parametrize(("story", "alive", "dead"), [r[1:] for r in SHOWN], ids=[r[0] for r in SHOWN])
def test_shown(story: Callable[[], Story], alive: State, dead: State) -> None:
    told = story()
    assert shown(told.state, engine_alive=True, now=told.now) is alive
    assert shown(told.state, engine_alive=False, now=told.now) is dead


@pytest.mark.parametrize("alive", [True, False])
def test_an_end_asked_for_and_not_confirmed_for_a_minute_is_said_first(alive: bool) -> None:
    story = paid().started().sealed()("end-asked", attempt=1)
    asked = story.facts[-1].at
    assert shown(story.state, engine_alive=alive, now=asked + MINUTE) is not State.MAYBE_BILLING
    late = asked + MINUTE + timedelta(seconds=1)
    assert shown(story.state, engine_alive=alive, now=late) is State.MAYBE_BILLING
    gone = story("gone", attempt=1, kept=False).state
    assert shown(gone, engine_alive=alive, now=late) is not State.MAYBE_BILLING


def test_what_is_free_does_not_bill_however_long_its_end_takes() -> None:
    state = begin().started()("end-asked", attempt=1).state
    assert shown(state, engine_alive=False, now=NOON + 60 * MINUTE) is State.INTERRUPTED
