"""A machine that is woken to be read is awake for its boot limit: what takes longer comes next time."""

from __future__ import annotations

from typing import Any

from launcher import engine
from launcher.models import State
from launcher.steps.pull import CUT
from launcher.world import World
from tests.sim.house import RUN, House
from tests.unit.test_release import pods


class Slow:
    """A host from which fetching results takes longer than that."""

    def __init__(self, inner: Any, house: House, seconds: float) -> None:
        self._inner, self._house, self._seconds = inner, house, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get(self, base: str, *words: Any) -> None:
        if not base.startswith("checkpoint"):
            self._house.sim.advance(self._seconds)
        self._inner.get(base, *words)


def asleep_with_results(house: House) -> World:
    """It was stopped as soon as it had sealed them."""
    world = house.open(0.0)
    record = world.record

    def heard(kind: str, **data: Any) -> None:
        record(kind, **data)
        if kind == "sealed":
            house.machines[0].pause()

    world.record = heard  # type: ignore[method-assign]  # an ear for the test
    return world


def test_what_took_too_long_is_said_and_the_next_pull_goes_on() -> None:
    house = pods()
    world = asleep_with_results(house)
    opened = world.open_host
    limit = world.plan.limits.boot_limit_s
    world.open_host = lambda access: Slow(opened(access), house, limit + 60)
    state = engine.drive(world, {"pid": 1})
    [a] = state.attempts
    assert a.asleep and a.woken and state.pull_failed == CUT and state.version is None
    assert house.machines[0].boots == 2
    house.files.put(RUN.requests / "r9.json", b'{"verb": "pull"}')
    state = engine.drive(house.open(0.0), {"pid": 2})
    assert state.ended is State.DONE and state.version is not None and len(house.machines) == 1
