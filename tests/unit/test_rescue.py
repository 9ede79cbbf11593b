"""What a killed agent did not come to seal, on a machine of one's own: it comes home, or stays there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import engine
from launcher.attempt import STAYS
from launcher.errors import Corrupt, HostError, HostUnreachable, PlaceGone
from launcher.files import refusal
from launcher.models import Fact, State
from launcher.steps.rescue import CORRUPT_TRIES, CUT_TRIES
from tests.sim.house import House
from tests.unit.test_halting import ALONE
from tests.unit.test_release import ask

WROTE = {"output/model.txt": b"hours of work", "output/sub/more.txt": b"and more"}


class Refuses:
    """A host that raises what `why` says whenever its files are to be hashed, or brought."""

    def __init__(self, inner: Any, why: dict[str, list[Exception]]) -> None:
        self._inner, self._why = inner, why

    def __getattr__(self, verb: str) -> Any:
        if self._why.get(verb):
            raise self._why[verb].pop(0)
        return getattr(self._inner, verb)


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


def house_of(target: str) -> House:
    return House(ALONE, ((target,),))


@pytest.mark.parametrize("target", ["here", "engine", "lab"])
def test_it_comes_home_before_its_place_goes_and_the_run_goes_on(target: str) -> None:
    house = house_of(target)
    world = killed_under(house, WROTE)
    state = engine.drive(world, {"pid": 1})
    [rescued] = facts(world, "rescued")
    kinds = [fact.kind for fact in world.journal.facts]
    assert kinds.index("rescued") < kinds.index("gone")
    to = Path(rescued.data["path"])
    assert {name: house.files.read(to / name.removeprefix("output/")) for name in WROTE} == WROTE
    assert state.ended is State.DONE and len(state.attempts) == 2
    assert house.files.read(to / "model.txt") == WROTE["output/model.txt"]  # the second try left it alone


def test_what_had_come_home_early_and_was_thrown_away_since_is_no_part_of_it() -> None:
    house = house_of("engine")
    world = killed_under(house, WROTE)
    house.files.put(world.versions.partial(world.plan.run) / "early" / "passing.bin", b"of an hour ago")
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    [rescued] = facts(world, "rescued")
    assert house.files.names(Path(rescued.data["path"])) == ("model.txt", "sub")


def test_where_there_was_nothing_nothing_is_said_of_it() -> None:
    world = killed_under(House(ALONE), {})
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    [rescued] = facts(world, "rescued")
    assert rescued.data["path"] is None and rescued.data["message"] is None


def refused(house: House, verb: str, *why: Exception, wrote: dict[str, bytes] = WROTE) -> Any:
    """A run like that one whose host refuses so often; its world, once its engine has left."""
    world = killed_under(house, wrote)
    reach, left = world.open_host, {verb: list(why)}
    world.open_host = lambda access: Refuses(reach(access), left)
    engine.drive(world, {"pid": 1})
    return world


def stays(house: House, *why: Exception, verb: str = "digests") -> None:
    world = refused(house, verb, *why)
    state = world.state
    words = refusal(why[0]) if isinstance(why[0], OSError) else str(why[0])
    assert state.halted is not None and state.halted.code == STAYS and words in state.halted.why
    assert state.attempt is not None and state.attempt.open
    assert house.machines[0].kept and not facts(world, "rescued")


CUT = HostUnreachable("the engine is away")
CHANGED = Corrupt("it is not what was hashed")


@pytest.mark.parametrize(
    ("target", "verb", "why"),
    [
        ("here", "digests", [HostError("no list of it")]),
        ("engine", "digests", [CUT] * CUT_TRIES),
        ("engine", "get", [CUT] * CUT_TRIES),
        ("lab", "get", [CHANGED] * CORRUPT_TRIES),
        ("engine", "get", [OSError(28, "No space left on device")]),
    ],
)
def test_what_cannot_be_fetched_stays_there_until_it_can(
    target: str, verb: str, why: list[Exception]
) -> None:
    house = house_of(target)
    stays(house, *why, verb=verb)
    world = house.open(0.0)
    assert engine.drive(world, {"pid": 2}).ended is State.DONE
    assert len(facts(world, "rescued")) == 1


@pytest.mark.parametrize(
    ("verb", "why"), [("digests", [CUT] * 3), ("get", [CUT, CHANGED, CUT]), ("get", [CHANGED] * 2)]
)
def test_what_passes_is_waited_for(verb: str, why: list[Exception]) -> None:
    world = refused(house_of("engine"), verb, *why)
    assert world.state.ended is State.DONE
    assert [bool(fact.data["path"]) for fact in facts(world, "rescued")] == [True]


def test_a_cut_line_costs_no_file_that_was_hashed() -> None:
    house = house_of("engine")
    world = killed_under(house, {f"output/{i}": b"%d" % i for i in range(8)})
    reach, cuts = world.open_host, [CUT, CUT]
    asked: list[str | None] = []

    class Counts(Refuses):
        def digests(self, base: str, after: str | None, tick: Any) -> Any:
            if len(asked) % 2 and cuts:
                raise cuts.pop()
            asked.append(after)
            return self._inner.digests(base, after, tick)

    world.open_host = lambda access: Counts(reach(access), {})
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    assert not cuts and len(set(asked)) == len(asked) > 3


def test_what_somebody_removed_is_not_asked_for_for_ever() -> None:
    gone = PlaceGone("the container and its volume are gone")
    world = refused(house_of("engine"), "digests", gone, wrote={})
    [told] = facts(world, "rescued")
    assert (
        world.state.ended is State.DONE and told.data["path"] is None and "are gone" in told.data["message"]
    )


def test_what_was_left_out_is_named() -> None:
    class Odd(Refuses):
        def digests(self, base: str, after: str | None, tick: Any) -> Any:
            more = self._inner.digests(base, after, tick)
            return replace(more, left_out=("a\x1b[2J", *"b" * 30))

    for wrote in (WROTE, {}):
        world = killed_under(house_of("engine"), wrote)
        reach = world.open_host
        world.open_host = lambda access, reach=reach: Odd(reach(access), {})
        engine.drive(world, {"pid": 1})
        [told] = facts(world, "rescued")
        assert "left out" in told.data["message"] and "'a\\x1b[2J', 'b'" in told.data["message"]
        assert told.data["message"].isprintable() and "more" in told.data["message"]
        assert bool(told.data["path"]) is bool(wrote)


@pytest.mark.parametrize("written", [b"caf\xe9", b"line\nbreak", b"manifest.json"])
def test_it_comes_home_whatever_it_is_called(written: bytes) -> None:
    house = house_of("engine")
    name = written.decode("utf-8", "surrogateescape")
    world = killed_under(house, {f"output/{name}": b"worth it"})
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    [rescued] = facts(world, "rescued")
    to = Path(rescued.data["path"])
    [kept] = house.files.names(to)
    assert house.files.read(to / kept) == b"worth it" and kept.isprintable()


def test_who_gives_it_up_is_asked_nothing() -> None:
    house = house_of("engine")
    stays(house, HostError("no list of it"))
    ask(house, "s", verb="stop", now=True)
    world = house.open(0.0)
    assert engine.drive(world, {"pid": 2}).ended is State.STOPPED
    assert not facts(world, "rescued") and not house.machines[0].kept


def test_who_gives_it_up_while_it_comes_home_waits_for_none_of_it() -> None:
    house = house_of("engine")
    world = killed_under(house, WROTE)
    reach = world.open_host

    class GivenUp(Refuses):
        def get(self, base: str, files: Any, into: Path, tick: Any, progress: Any) -> None:
            ask(house, "s", verb="stop", now=True)
            tick()
            self._inner.get(base, files, into, tick, progress)

    world.open_host = lambda access: GivenUp(reach(access), {})
    assert engine.drive(world, {"pid": 1}).ended is State.STOPPED
    assert not facts(world, "rescued") and not house.machines[0].kept


def test_of_a_project_whose_machine_began_anew_it_lies_where_the_trainer_began() -> None:
    house = house_of("lab")
    world = killed_under(house, {})
    world.plan = replace(world.plan, job=replace(world.plan.job, output="out"))
    record = world.record

    def told(kind: str, **data: Any) -> None:
        record(kind, **data)
        if kind == "started" and data["attempt"] == 1:
            [machine] = house.machines
            machine.disk[f"project/{world.state.attempt.pushed}/out/model.txt"] = b"hours of work"
            record("rebooted", attempt=1)

    world.record = told
    engine.drive(world, {"pid": 1})
    [rescued] = facts(world, "rescued")
    assert house.files.read(Path(rescued.data["path"]) / "model.txt") == b"hours of work"


def test_another_data_folders_run_of_that_name_is_no_reason_to_fetch_nothing() -> None:
    house = house_of("engine")
    world = killed_under(house, WROTE)
    record = world.record

    def told(kind: str, **data: Any) -> None:
        record(kind, **data)
        if kind == "start-asked" and data["attempt"] == 1:
            for token in ("", "0" * 32):
                house.files.put(world.versions.rescued(world.plan.run, 1, token) / "old.txt", b"another's")

    world.record = told
    assert engine.drive(world, {"pid": 1}).ended is State.DONE
    [rescued] = facts(world, "rescued")
    assert house.files.names(Path(rescued.data["path"])) == ("model.txt", "sub")
