"""Ending a rented machine where its provider does not play along: what bills on is ended or told of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from launcher import engine
from launcher.errors import AuthRefused, BadOrder, Gone, ProviderError, Unreachable, VendorBug
from launcher.models import Fact, ResourceState, State
from launcher.providers import runpod_forms
from launcher.runstate import RunState
from launcher.steps.release import AWAKE
from launcher.world import World
from tests.sim.house import RUN, House


class Refusing:
    """A provider whose named verbs say no, or nothing at all and do nothing."""

    def __init__(self, inner: Any, no: Mapping[str, ProviderError | None]) -> None:
        self._inner, self._no = inner, no
        self.name, self.traits = inner.name, inner.traits

    def __getattr__(self, verb: str) -> Any:
        def ask(*words: Any) -> Any:
            if verb in self._no:
                if (why := self._no[verb]) is not None:
                    raise why
                return () if verb == "list" else None
            return getattr(self._inner, verb)(*words)

        return ask


def pods() -> House:
    house = next(h for s in range(80) if (h := House(s)).scenario.targets == ("pods",))
    house.weather.clear()
    return house


def ask(house: House, id: str, **request: object) -> None:
    house.files.put(RUN.requests / f"{id}.json", json.dumps(request).encode())


def drive(house: House, no: Mapping[str, ProviderError | None], heard: Callable[[Fact], None]) -> Any:
    """`heard`: each fact, as soon as it stands."""
    return drive_world(house.open(0.0), no, heard)


def drive_world(
    world: World, no: Mapping[str, ProviderError | None], heard: Callable[[Fact], None]
) -> RunState:
    provider = Refusing(world.provider(0), no)
    world.provider = lambda _: provider
    record = world.record

    def told(kind: str, **data: Any) -> None:
        record(kind, **data)
        heard(world.journal.facts[-1])

    world.record = told  # type: ignore[method-assign]  # an ear for the test
    return engine.drive(world, {"pid": 1})


UNSTOPPABLE: dict[str, ProviderError] = {"pause": BadOrder("a pod with a network volume cannot be stopped")}


def stops_at_start(house: House) -> Callable[[Fact], None]:
    """From here on results may lie there: the machine would be stopped and kept."""

    def heard(fact: Fact) -> None:
        if fact.kind == "start-asked":
            ask(house, "r1", verb="stop", now=False)

    return heard


@pytest.mark.parametrize(
    ("no", "words"), [(UNSTOPPABLE, "network volume"), ({"pause": None}, "told to 5 times")]
)
def test_one_that_cannot_be_stopped_is_told_of_once_and_bills_no_longer_than_was_agreed_to(
    no: Mapping[str, ProviderError | None], words: str
) -> None:
    house = pods()
    house.providers["pods"].rented = lambda *_: None  # who watches over promises would take its word for it
    heard = stops_at_start(house)
    told: list[Fact] = []

    def ears(fact: Fact) -> None:
        heard(fact)
        told.append(fact)
        if fact.kind == "start-asked":
            [machine] = house.machines
            machine.pausing = False  # nor can its own guard stop it
            machine.over = lambda why: None  # type: ignore[method-assign]  # or end it

    state = drive(house, no, ears)
    noticed = [f.data["message"] for f in told if f.kind == "noticed"]
    assert len(noticed) == 1 and words in noticed[0] and "stop --now" in noticed[0]
    [a] = state.attempts
    assert a.noticed == AWAKE and a.gone_at is not None and not a.kept
    late = (a.gone_at - a.d).total_seconds()
    assert 60 <= late < 60 + 200  # its end and its overrun are what the ceiling covers
    assert state.ended is State.STOPPED


def test_stop_now_ends_one_that_cannot_be_stopped() -> None:
    house = pods()
    heard = stops_at_start(house)

    def ears(fact: Fact) -> None:
        heard(fact)
        if fact.kind == "noticed":
            ask(house, "r2", verb="stop", now=True)

    state = drive(house, UNSTOPPABLE, ears)
    [a] = state.attempts
    assert a.gone_at is not None and (a.d - a.gone_at).total_seconds() > 60
    assert state.ended is State.STOPPED and not house.machines[0].alive


def test_a_list_that_cannot_be_understood_keeps_no_machine_running() -> None:
    house = pods()
    no: dict[str, ProviderError] = {}
    asked: list[float] = []
    ended: list[float] = []

    def ears(fact: Fact) -> None:
        if fact.kind == "versioned":
            house.machines[0].over = lambda why: None  # type: ignore[method-assign]  # its guard is dead
            house.machines[0].on_terminate = lambda *_: ended.append(house.sim.t)
        elif fact.kind == "end-asked":
            asked.append(house.sim.t)
            no["list"] = VendorBug("a word that nobody knows")
            house.sim.after(100, no.clear)

    state = drive(house, no, ears)
    assert state.ended is State.DONE
    assert len(ended) == len(asked) == 1 and ended[0] - asked[0] < 10


def test_a_status_that_nobody_knows_yet_hides_no_pod() -> None:
    answer = {"id": "a", "name": f"launcher-quick-abcd-{'0' * 32}", "status": "MIGRATING", "cost": 0.69}
    found = runpod_forms.resource(answer)
    assert found.state is ResourceState.BOOTING and found.access is None
    assert found.usd_per_hour > Decimal("0.69")


def test_who_answers_is_not_gone_whatever_its_provider_says() -> None:
    """A list that hides it and a question that does not find it are no proof while its agent speaks."""
    house = pods()
    no: dict[str, ProviderError | None] = {}

    def ears(fact: Fact) -> None:
        if fact.kind == "started":
            no.update({"get": Gone("pod not found"), "list": None})
            house.sim.after(40, no.clear)

    state = drive(house, no, ears)
    assert len(state.attempts) == 1 and state.ended is State.DONE


@pytest.mark.parametrize("error", [AuthRefused("the key is no more"), Unreachable("nobody answers")])
def test_a_machine_whose_provider_does_not_hear_us_is_told_itself(error: ProviderError) -> None:
    """Its guard has a key of its own; its trainer would have run on until its end."""
    house = pods()
    no: dict[str, ProviderError] = {}
    asked: list[float] = []

    def stop() -> None:
        asked.append(house.sim.t)
        no.update(dict.fromkeys(("list", "get", "terminate", "pause"), error))
        ask(house, "r1", verb="stop", now=True)
        house.sim.note("asked", "stop")
        house.sim.after(300, no.clear)

    def ears(fact: Fact) -> None:
        if fact.kind == "started":
            house.sim.after(20, stop)

    state = drive(house, no, ears)
    [a], [machine] = state.attempts, house.machines
    assert a.end_asked_at is not None and (state.halted is not None or a.gone_at is not None)
    assert not machine.alive and 0 < machine.slept_at - asked[0] < 60
    if state.halted is not None:
        assert state.halted.why == "the key is no more; the machine itself was told to end"
    assert (state.halted is not None) is isinstance(error, AuthRefused)


@pytest.mark.parametrize("now", [False, True])
def test_results_that_stay_on_a_volume_of_the_users_own_are_told_of(now: bool) -> None:
    """Its machine cannot be stopped, its guard ends it: what was trained lies where no pull looks."""
    house = pods()
    house.providers["pods"].rented = lambda *_: None
    told: list[Fact] = []

    def ears(fact: Fact) -> None:
        told.append(fact)
        if fact.kind == "start-asked":
            ask(house, "r1", verb="stop", now=now)
            house.machines[0].pausing = False
            house.machines[0].end("terminated")

    world = house.open(0.0)
    world.plan = replace(world.plan, need=replace(world.plan.need, network_volume="vol1"))
    state = drive_world(world, {}, ears)
    [a] = state.attempts
    assert a.gone_at is not None and not a.kept and a.access is not None
    words = [str(f.data["message"]) for f in told if f.kind == "noticed"]
    assert len(words) == (0 if now else 1), "what was given up is not looked for"
    assert all("network volume vol1" in text and a.access.root in text for text in words)
