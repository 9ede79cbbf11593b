"""One seed is one whole run: first start, faults, deaths and resumes, calm weather, a last resume, an end."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from launcher import engine
from launcher.runstate import RunState
from tests.sim.house import RUN, House
from tests.sim.kernel import Killed, Violation
from tests.sim.scenario import TARGETS
from tests.sim.user import User

LIVES = 12
LEAST_EVENTS = 50
DEAD_S = (0.5, 5.0, 30.0, 200.0, 5000.0)


@dataclass(frozen=True)
class Outcome:
    seed: int
    digest: str
    events: int
    faults: int
    virtual_s: float
    state: str
    met: Counter[str]
    pairs: Counter[tuple[str, str]]
    violation: str | None = None
    trace: list[tuple[object, ...]] = field(default_factory=list)


class Raised(logging.Filter):
    """What the engine caught and would otherwise only write down. Nobody else gets to see it: there are
    thousands in a campaign."""

    def __init__(self) -> None:
        super().__init__()
        self.bug: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, OSError):
            self.bug = error
        return False


RAISED = Raised()
_LOG = logging.getLogger("launcher.engine")
_LOG.addFilter(RAISED)
_LOG.setLevel(logging.ERROR)


def drive(house: House, offset_s: float = 0.0) -> RunState | None:
    """One process of the program from its start to its end. None: it was killed."""
    RAISED.bug, before = None, len(house.oracle.facts)
    lock = house.files.lock(RUN.lock, "engine")
    if lock is None:
        raise Violation("the lock of a dead process is held")
    try:
        world = house.open(offset_s)
        state = engine.drive(world, {"pid": 1})
    except Killed:
        return None
    except OSError:
        if len(house.oracle.facts) > before:  # on a full disk nothing can begin, but what began goes on
            raise
        return None
    finally:
        house.last_step, house.world = house.step, None
        if RAISED.bug is not None:
            raise RAISED.bug
    lock.release()
    return state


def _life(house: House) -> RunState | None:
    sim, weather = house.sim, house.weather
    offset = 0.0
    if weather.strikes("clock-jump"):
        offset = sim.rng.choice((-3600.0, -60.0, -2.0, 2.0, 60.0, 3600.0))
        house.oracle.jumped_s = max(house.oracle.jumped_s, abs(offset))
    if weather.drawn("kill", 3):
        sim.left = sim.rng.choice((20, 80, 300, 900))
        sim.left = sim.rng.randrange(1, sim.left)
    if weather.drawn("torn-append", 3):
        sim.appends_left = sim.rng.randrange(1, 50)
    sim.client_dead = False
    house.oracle.lives += 1
    state = drive(house, offset)
    sim.left, sim.appends_left, sim.stopped_s = -1, -1, 0.0
    sim.client_dead = True
    if state is None:
        power = weather.strikes("power-cut", 3)
        if not power:
            weather.met("kill")
        sim.note("dead", power)
        if power:
            house.files.lose_power()
            for machine in house.machines:
                if machine.order.offer.target == "here":
                    machine.end("power-cut")
        house.files.die()
        sim.advance(sim.rng.choice(DEAD_S))
        house.oracle.streams()
        house.oracle.versions_sound()
    return state


def _run(house: House) -> None:
    sim, _weather = house.sim, house.weather
    user = User(house)
    for _ in range(LIVES):
        state = _life(house)
        if state is not None and not user.again(state):
            break
        if state is not None:
            sim.advance(sim.rng.choice(DEAD_S[:3]))
    house.calm()
    if sim.events < LEAST_EVENTS and house.oracle.state is not None and house.oracle.state.ended is not None:
        user.ask("extend", add_s=0, max_cost=round(house.oracle.ceiling * 4 + 10, 2))
        user.ask("resume")  # too short a life for a seed: it goes on, and must come to its end
    state = drive(house)
    if state is not None and state.ended is None:
        # What waits on a stopped machine is started again only within the money.
        user.ask("extend", add_s=0, max_cost=round(house.oracle.ceiling * 4 + 10, 2))
        user.ask("pull")
        state = drive(house)
    if state is None:
        raise Violation("the last resume died in calm weather")
    house.oracle.over(state)
    sim.run_dry(100_000)
    house.oracle.over(state)


def run(seed: int, among: tuple[tuple[str, ...], ...] = TARGETS) -> Outcome:
    house = House(seed, among)
    violation = None
    try:
        _run(house)
    except Violation as broken:
        violation = str(broken)
    except Exception as error:
        violation = f"bug: {type(error).__name__}: {error}"
    sim, weather = house.sim, house.weather
    state = house.oracle.state
    return Outcome(
        seed=seed,
        digest=sim.digest(),
        events=sim.events,
        faults=sum(weather.met_classes.values()),
        virtual_s=sim.t,
        state=str(state.ended) if state is not None else "None",
        met=weather.met_classes,
        pairs=weather.pairs,
        violation=violation,
        trace=sim.trace,
    )
