"""What is left to try after a refusal, and where a machine that began anew is picked up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from launcher.cli import extend
from launcher.codec import dump, parse_iso
from launcher.errors import Exit, LauncherError
from launcher.models import Fact, State
from launcher.report import lines
from launcher.runstate import Step, exit_status, next_choice, next_step, shown
from launcher.store import RunFolder
from tests.unit.journals.stories import NOON, Story, begin, choice, plan
from tests.unit.test_lines import told

TIMES = ("ends_at", "deadline", "begun")
TWO = (choice("rented", "0.69"), choice("rented", "0.79"), choice("elsewhere", "0.99"))


def refused(everywhere: bool) -> Story:
    whole = {"everywhere": True} if everywhere else {}
    return begin(plan(*TWO)).asked()(
        "not-created", attempt=1, reason="no balance", blame=True, exit=4, code="QuotaReached", **whole
    )


def test_an_offer_that_was_refused_leaves_the_others_of_its_target() -> None:
    assert next_choice(refused(everywhere=False).state) == 1


def test_an_account_that_was_refused_leaves_other_targets_alone() -> None:
    assert next_choice(refused(everywhere=True).state) == 2


def test_the_last_refusals_status_is_the_runs() -> None:
    story = begin(plan(*TWO[:2])).asked()
    story("not-created", attempt=1, reason="no key", blame=True, exit=3, code="AuthRefused", everywhere=True)
    assert next_step(story.state) is None
    assert exit_status(story.state, State.FAILED) is Exit.KEYS


def rebooted(story: Story) -> Story:
    return story("rebooted", attempt=1, was="b1")


def test_a_machine_that_began_anew_is_met_brought_what_it_lacks_and_started_again() -> None:
    story = rebooted(begin(plan(TWO[0])).started())
    assert next_step(story.state) is Step.CONNECT and story.state.attempts[0].was == "b1"
    assert next_step(story.connected().state) is Step.PUSH
    story("pushed", attempt=1, digest="d1", files=3, size=99)
    assert next_step(story.state) is Step.START
    assert shown(story.state, engine_alive=True, now=story.now) is State.PREPARING
    first = story.state.attempts[0].started_at
    story("started", attempt=1, deadline=story.now + timedelta(hours=1))
    assert next_step(story.state) is Step.WATCH and story.state.attempts[0].started_at == first


def test_a_stop_after_it_began_anew_starts_nothing() -> None:
    story = rebooted(begin(plan(TWO[0])).started())("stop", id="r1", now=False)
    assert next_step(story.state) is Step.RELEASE


def test_results_that_were_sealed_before_it_began_anew_are_fetched_all_the_same() -> None:
    story = rebooted(begin(plan(TWO[0])).started().sealed())
    assert next_step(story.state) is Step.CONNECT
    assert next_step(story.connected().state) is Step.PULL


def test_the_output_of_one_that_began_anew_lies_where_its_trainer_began() -> None:
    """Not where the next one would: nothing was pushed since, or something else."""
    story = begin(plan(TWO[0])).created().connected()("pushed", attempt=1, digest="d1", files=3, size=99)
    story("start-asked", attempt=1).sealed()
    assert rebooted(story).state.attempts[0].project == "d1"
    story.connected()("pushed", attempt=1, digest="d2", files=3, size=99)
    assert story.state.attempts[0].project == "d1"
    assert story("start-asked", attempt=1).state.attempts[0].project == "d2"


def test_what_the_books_say_is_told_beside_what_was_counted() -> None:
    story = begin(plan(TWO[0])).started().sealed().versioned().released()
    assert story.state.billed is None
    state = story("billed", attempt=1, usd="0.5", counted_usd="0.4").state
    assert (state.billed, state.counted) == (Decimal("0.5"), Decimal("0.4"))


@pytest.mark.parametrize("more_s", [0, 3600])
def test_what_more_time_could_cost_in_all(more_s: int) -> None:
    """All of its life until D, and what is added."""
    state = begin(plan(TWO[0])).started().state
    [a] = state.attempts
    life_s = Decimal((a.d - a.asked_at).total_seconds()) + more_s
    could = state.could_cost(3600 + more_s, a.asked_at + timedelta(seconds=20))
    assert abs(could - a.usd_per_hour * life_s / 3600) < Decimal("0.0001")


def test_more_time_costs_nothing_where_nothing_bills_or_nothing_was_asked_for() -> None:
    free = begin(plan(choice("local", "0"))).started().state
    assert free.could_cost(7200, NOON + timedelta(hours=1)) == 0
    assert begin(plan(TWO[0])).state.could_cost(7200, NOON) == 0


def moved(fact: Fact, by: timedelta) -> Fact:
    times = {key: dump(parse_iso(fact.data[key]) + by) for key in TIMES if key in fact.data}
    return replace(fact, at=fact.at + by, data={**fact.data, **times})


def test_more_than_was_agreed_to_is_not_asked_for_unseen(tmp_path: Path) -> None:
    """Two dollars were agreed to. Without a terminal the sum that does is named, with one it is asked for."""
    story = begin(plan(TWO[0])).started()
    later = datetime.now(UTC) - NOON - timedelta(minutes=1)  # it began a minute ago
    facts = [moved(fact, later) for fact in story.facts]
    story.facts[:] = facts
    view = told(RunFolder(tmp_path / "quickstart-abcd"), story)
    assert extend._higher(view, 3600, "1h") is None
    with pytest.raises(LauncherError) as refused:
        extend._higher(view, 5 * 3600, "5h")
    error = refused.value
    assert (error.code, int(error.exit)) == ("extend-refused", 8)
    assert error.message.endswith("in all, and $2.00 was agreed to")
    assert error.hint is not None and error.hint.startswith("extend quickstart-abcd --by 5h --max-cost 4.")


def test_an_end_is_in_doubt_a_minute_after_it_could_have_been_proved(tmp_path: Path) -> None:
    """A machine that is two minutes young may be missing from every list while it lives."""
    story = begin(plan(TWO[0])).started().sealed().versioned()("receipt", attempt=1)
    asked, proof = story.now, story.now + timedelta(seconds=130)
    story("end-asked", attempt=1, proof_at=proof)

    def is_shown(after_s: int) -> State:
        return shown(story.state, engine_alive=True, now=asked + timedelta(seconds=after_s))

    assert [is_shown(s) for s in (61, 189, 192)] == [State.PULLING, State.PULLING, State.MAYBE_BILLING]
    view = told(RunFolder(tmp_path / "quickstart-abcd"), story)
    assert (lines.ending(view, asked) or "").startswith("asked to end; from ")
