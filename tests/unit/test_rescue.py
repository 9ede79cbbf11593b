"""What a killed agent did not come to seal, on a machine of one's own: it comes home, or stays there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher import engine
from launcher.attempt import STAYS
from launcher.models import Access, Fact, State
from launcher.remote.base import Done
from tests.sim.house import House
from tests.unit.test_halting import ALONE
from tests.unit.test_release import ask

WROTE = {"output/model.txt": b"hours of work", "output/sub/more.txt": b"and more"}


class Lists:
    """A host on which no program can be started, as long as `no` is set."""

    no = True

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._inner, verb)

    def run(self, argv: Any, **words: Any) -> Done:
        return Done(127, b"", b"sh: gone\n") if self.no else self._inner.run(argv, **words)


def killed_under(house: House, wrote: dict[str, bytes]) -> Any:
    """A run whose agent and trainer are killed as soon as it has started; its world."""
    house.calm()
    world = house.open(0.0)
    record = world.record

    def told(kind: str, **data: Any) -> None:
        record(kind, **data)
        if kind == "started" and data["attempt"] == 1:
            [machine] = house.machines
            machine.disk.update(wrote)
            machine.agent_alive = False
            machine.end("agent-death")

    world.record = told  # type: ignore[method-assign]  # an ear for the test
    return world


def facts(world: Any, kind: str) -> list[Fact]:
    return [fact for fact in world.journal.facts if fact.kind == kind]


def test_it_comes_home_before_its_place_goes_and_the_run_goes_on() -> None:
    house = House(ALONE)
    world = killed_under(house, WROTE)
    state = engine.drive(world, {"pid": 1})
    [rescued] = facts(world, "rescued")
    kinds = [fact.kind for fact in world.journal.facts]
    assert kinds.index("rescued") < kinds.index("gone")
    to = Path(rescued.data["path"])
    assert {name: house.files.read(to / name.removeprefix("output/")) for name in WROTE} == WROTE
    assert state.ended is State.DONE and len(state.attempts) == 2
    assert house.files.read(to / "model.txt") == WROTE["output/model.txt"]  # the second try left it alone


def test_where_there_was_nothing_nothing_is_said_of_it() -> None:
    world = killed_under(House(ALONE), {})
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    [rescued] = facts(world, "rescued")
    assert rescued.data["path"] is None and rescued.data["message"] is None


def stays(house: House) -> tuple[Any, Lists]:
    world = killed_under(house, WROTE)
    hosts: list[Lists] = []
    reach = world.open_host

    def without(access: Access) -> Any:
        hosts.append(Lists(reach(access)))
        return hosts[-1]

    world.open_host = without
    state = engine.drive(world, {"pid": 1})
    assert state.halted is not None and state.halted.code == STAYS and "sh: gone" in state.halted.why
    assert state.attempt is not None and state.attempt.open
    assert house.machines[0].kept and not facts(world, "rescued")
    return world, hosts[-1]


def test_what_cannot_be_fetched_stays_there_until_it_can() -> None:
    house = House(ALONE)
    stays(house)
    world = house.open(0.0)
    assert engine.drive(world, {"pid": 2}).ended is State.DONE
    assert len(facts(world, "rescued")) == 1


def test_who_gives_it_up_is_asked_nothing() -> None:
    house = House(ALONE)
    stays(house)
    ask(house, "s", verb="stop", now=True)
    world = house.open(0.0)
    assert engine.drive(world, {"pid": 2}).ended is State.STOPPED
    assert not facts(world, "rescued") and not house.machines[0].kept
