"""One seed is one whole run: first start, faults, deaths and resumes, calm weather, a last resume, an end.

`python -m tests.sim.campaign FIRST COUNT` runs seeds and stops at the first that breaks a promise.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher import engine
from launcher.models import Access, Order
from launcher.providers.base import Provider
from launcher.providers.simulated import Fault, SimulatedProvider
from launcher.providers.wrap import Wrapped
from launcher.remote.base import Host, Sending
from launcher.runstate import RunState
from launcher.store import RunFolder, Versions
from launcher.world import Parts, PushSet, World
from tests.sim import scenario as scenarios
from tests.sim.disk import SimFiles
from tests.sim.host import Line, SimHost
from tests.sim.kernel import EPOCH, Clock, Killed, Sim, Violation
from tests.sim.machine import Machine
from tests.sim.oracle import Oracle
from tests.sim.user import User
from tests.sim.weather import STEPS, Weather

LIVES = 12
RUN = RunFolder(Path("/h/runs/sim-aaaa"))
VERSIONS = Versions(Path("/p"))
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


class SimWorld(World):
    """The program's world with an ear for each fact."""

    oracle: Oracle
    weather: Weather

    def record(self, kind: str, **data: Any) -> None:
        super().record(kind, **data)
        self.oracle.fact(self.journal.facts[-1], self.state)


class Luck:
    """The provider's conditions under this weather."""

    def __init__(self, house: House, target: str) -> None:
        self._house, self._traits = house, scenarios.TRAITS[target]

    def now(self) -> datetime:
        return self._house.true_clock.now()

    def before(self, verb: str) -> Fault | None:
        house, sim = self._house, self._house.sim
        weather = house.weather
        sim.point()
        sim.spend()
        if weather.calm:
            return None
        if weather.strikes("slow-call", 0.1):
            sim.advance(sim.rng.uniform(1, 25))
        if weather.strikes("too-fast", 0.5):
            return Fault.TOO_FAST
        if verb == "create":
            return self._create()
        if verb == "terminate":
            if weather.strikes("terminate-lost-reply"):
                return Fault.LOST_REPLY
            if weather.strikes("terminate-ignored"):
                return Fault.IGNORED
        if weather.strikes("api-unreachable"):
            return Fault.NO_EFFECT
        if verb == "get" and house.machines and self._traits.listing_lag_s:
            young = sim.t - house.machines[-1].began < self._traits.listing_lag_s
            if young and weather.strikes("initial-gone", 2):
                return Fault.HIDDEN
        return None

    def _create(self) -> Fault | None:
        weather = self._house.weather
        if weather.strikes("no-capacity"):
            return Fault.NO_CAPACITY
        if weather.strikes("create-no-effect", 2):
            return Fault.NO_EFFECT
        if weather.strikes("create-lost-reply", 2):
            return Fault.LOST_REPLY
        return Fault.IGNORED if weather.strikes("create-ignored") else None

    def after(self, verb: str) -> None:
        self._house.sim.point()

    def lag_s(self) -> float:
        if self._traits.listing_lag_s and self._house.weather.strikes("listing-lag", 3):
            return self._house.sim.rng.uniform(0, self._traits.listing_lag_s)
        return 0.0

    def rate(self, order: Order) -> Decimal:
        rate = order.offer.usd_per_hour
        return rate * 2 if rate and self._house.weather.strikes("price-change") else rate


class House:
    """Everything that outlives one process of the program."""

    def __init__(self, seed: int) -> None:
        self.sim = sim = Sim(seed)
        self.weather = Weather(sim.rng)
        self.weather.where = lambda: self.step
        self.world: SimWorld | None = None
        self.scenario = scenarios.draw(sim.rng)
        sim.patience_s = sim.rng.choice((5.0, 20.0, 45.0))
        self.files = SimFiles(sim)
        self.files.met = self.weather.met
        self.files.removed = self._removed
        self.plan = self.scenario.plan
        self.oracle = Oracle(sim, self.files, self.plan, RUN, VERSIONS)
        self.true_clock = Clock(sim)
        self.machines: list[Machine] = []
        self.lines: dict[str, Line] = {}
        self.providers = {t: self._provider(t) for t in self.scenario.targets}
        self.files.put(RUN.plan, b"{}")
        self.files.put(RUN.requests / ".keep", b"")
        self.files.put(Path("/p/train.py"), b"")
        self._pushed = PushSet(
            "d1", tuple(Sending(f"project/d1/{i}.py", data=b"x") for i in range(self.scenario.push_files)), 3
        )

    def _provider(self, target: str) -> SimulatedProvider:
        def rent(order: Order, id: str) -> Machine:
            fate = scenarios.fate(self.sim.rng, self.weather, self.scenario)
            machine = Machine(self.sim, order, id, fate, self.weather)
            self.machines.append(machine)
            self.lines[id] = Line()
            self.sim.note("created", id)
            return machine

        provider = SimulatedProvider(scenarios.TRAITS[target], Luck(self, target), rent, name=target)
        provider.rented = self._rented
        return provider

    def _rented(self, machine: Any, usd_per_hour: Decimal) -> None:
        traits = scenarios.TRAITS[machine.order.offer.target]
        self.oracle.rented(machine, usd_per_hour, traits.bills, traits.overrun_s)

    def _removed(self, path: Path) -> None:
        for machine in self.machines:
            if machine.order.offer.target == "here" and machine.order.folder == str(path) and machine.kept:
                machine.drop_disk()

    def open_host(self, access: Access) -> Host:
        machine = next(m for m in self.machines if m.id == access.address)
        outlives = scenarios.TRAITS[machine.order.offer.target].keeps_output
        return SimHost(self.sim, self.weather, machine, self.lines[machine.id], self.files, outlives)

    def token(self) -> str:
        return f"{self.sim.rng.getrandbits(64):016x}"

    def open(self, offset_s: float) -> SimWorld:
        clock = Clock(self.sim, offset_s)
        wrapped: dict[int, Provider] = {}

        def provider(choice: int) -> Provider:
            if choice not in wrapped:
                inner = self.providers[self.plan.choices[choice].offer.target]
                wrapped[choice] = Wrapped(inner, clock, lambda verb, what: None)
            return wrapped[choice]

        world = SimWorld(
            plan=self.plan,
            folder=RUN,
            versions=VERSIONS,
            files=self.files,
            clock=clock,
            provider=provider,
            open_host=self.open_host,
            push_set=lambda: self._pushed,
            secrets=lambda refs: {},
            token=self.token,
            parts=Parts(b"agent", "guard"),
            owner="owner",
            envs="/envs",
            watched=lambda: False,
        )
        world.oracle, world.weather = self.oracle, self.weather
        self.oracle.reopened(world.journal.facts)
        self.oracle.state = world.state
        self.world = world
        return world

    @property
    def step(self) -> str:
        step = self.world.step if self.world is not None else None
        return step.value if step is not None else "none"


class Raised(logging.Handler):
    """What the engine caught and would otherwise only write down."""

    def __init__(self) -> None:
        super().__init__()
        self.bug: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, OSError):
            self.bug = error


RAISED = Raised()
_LOG = logging.getLogger("launcher.engine")
_LOG.propagate = False
_LOG.addHandler(RAISED)
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
        house.world = None
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
    sim.client_dead = False
    state = drive(house, offset)
    sim.left, sim.stopped_s = -1, 0.0
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
    sim, weather = house.sim, house.weather
    user = User(house)
    for _ in range(LIVES):
        state = _life(house)
        if state is not None and not user.again(state):
            break
        if state is not None:
            sim.advance(sim.rng.choice(DEAD_S[:3]))
    weather.clear()
    house.files.full = False
    for line in house.lines.values():
        line.cut_until = 0.0
    for machine in house.machines:
        machine.full_until = 0.0
    state = drive(house)
    if state is not None and state.ended is None:
        user.ask("pull")
        state = drive(house)
    if state is None:
        raise Violation("the last resume died in calm weather")
    house.oracle.over(state)
    sim.run_dry(100_000)
    house.oracle.over(state)


def run(seed: int) -> Outcome:
    house = House(seed)
    violation = None
    try:
        _run(house)
    except Violation as broken:
        violation = str(broken)
    except Exception as error:
        violation = f"bug: {type(error).__name__}: {error}"
        if "-v" in sys.argv:
            raise
    sim, weather = house.sim, house.weather
    state = house.oracle.state
    return Outcome(
        seed=seed,
        digest=sim.digest(),
        events=len(sim.trace) + sim.effects,
        faults=sum(weather.met_classes.values()),
        virtual_s=sim.t,
        state=str(state.ended) if state is not None else "None",
        met=weather.met_classes,
        pairs=weather.pairs,
        violation=violation,
        trace=sim.trace,
    )


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2])
    begun, broken = time.perf_counter(), 0
    met: Counter[str] = Counter()
    states: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(first, first + count):
        outcome = run(seed)
        met += outcome.met
        states[outcome.state] += 1
        if outcome.violation:
            broken += 1
            kinds[outcome.violation[:60]] += 1
            if broken <= 3 or "-a" in sys.argv:
                print(f"seed {seed}: {outcome.violation}")
            if "-t" in sys.argv:
                for line in outcome.trace:
                    print("  ", *line)
    took = time.perf_counter() - begun
    print(f"{count} seeds in {took:.1f} s = {count / took:.0f}/s, {broken} broken, {dict(states)}")
    for kind, n in kinds.most_common(25):
        print(n, kind)
    if "-m" in sys.argv:
        print(met)


if __name__ == "__main__":
    main()
