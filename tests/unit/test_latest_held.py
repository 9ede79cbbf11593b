"""Which version is latest is chosen under a lock: whoever holds it and does not come to an end holds up
nothing that bills."""

from __future__ import annotations

import pytest

from launcher import artifacts, engine
from launcher.models import State
from tests.sim.house import VERSIONS, House

SEED = 9


@pytest.mark.timeout(60)
def test_a_run_ends_though_another_process_never_lets_go_of_the_choice() -> None:
    house = House(SEED)
    house.calm()
    assert house.files.lock(VERSIONS.choosing, "a suspended promote") is not None
    world = house.open(0.0)
    state = engine.drive(world, {"pid": 1})
    assert state.ended is State.DONE and state.version is not None
    assert artifacts.latest(house.files, VERSIONS) is None
    (told,) = [fact.data["message"] for fact in world.journal.facts if fact.kind == "noticed"]
    assert f"models promote {state.version}" in told
