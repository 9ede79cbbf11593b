"""Everything of a run that outlives one process of the program: disks, machines, providers, the person."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher.models import Access, Order
from launcher.providers.base import Provider
from launcher.providers.simulated import Fault, SimulatedProvider
from launcher.providers.wrap import Wrapped
from launcher.remote.base import Host, Sending, Tree
from launcher.store import RunFolder, Versions
from launcher.world import Parts, PushSet, World
from tests.sim import scenario as scenarios
from tests.sim.disk import SimFiles
from tests.sim.host import Line, SimHost
from tests.sim.kernel import Clock, Sim
from tests.sim.machine import Machine
from tests.sim.oracle import Oracle
from tests.sim.weather import Weather

RUN = RunFolder(Path("/h/runs/sim-aaaa"))
VERSIONS = Versions(Path("/p"))


ACTS: dict[str, tuple[tuple[str, float, Fault], ...]] = {
    "terminate": (("terminate-lost-reply", 1, Fault.LOST_REPLY), ("terminate-ignored", 1, Fault.IGNORED)),
    "pause": (("pause-lost-reply", 3, Fault.LOST_REPLY), ("pause-ignored", 6, Fault.IGNORED)),
    "unpause": (
        ("unpause-refused", 3, Fault.REFUSED),
        ("unpause-lost-reply", 3, Fault.LOST_REPLY),
        ("unpause-ignored", 3, Fault.IGNORED),
    ),
}


class SimWorld(World):
    """The program's world with an ear for each fact."""

    oracle: Oracle

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
        sim.note("api", verb)
        sim.spend()
        if weather.calm:
            return None
        if weather.strikes("slow-call", 0.1):
            sim.advance(sim.rng.uniform(1, 25))
        if weather.strikes("too-fast", 0.5):
            return Fault.TOO_FAST
        if verb == "create":
            return self._create()
        for fault, share, becomes in ACTS.get(verb, ()):
            if weather.strikes(fault, share):
                return becomes
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

    def __init__(self, seed: int, among: tuple[tuple[str, ...], ...] = scenarios.TARGETS) -> None:
        self.sim = sim = Sim(seed)
        self.weather = Weather(sim.rng)
        self.weather.where = lambda: self.step
        self.weather.told = lambda name: sim.note("met", name, self.step)
        self.world: SimWorld | None = None
        self.last_step = "none"
        self.scenario = scenarios.draw(sim.rng, among)
        sim.patience_s = sim.rng.choice((10.0, 30.0, 60.0))
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
        files = tuple(Sending(f"{i}.py", data=b"x") for i in range(self.scenario.push_files))
        self._pushed = PushSet(Tree("p", "d1", files, 3))

    def _provider(self, target: str) -> SimulatedProvider:
        def rent(order: Order, id: str) -> Machine:
            fate = scenarios.fate(self.sim.rng, self.weather, self.scenario)
            machine = Machine(self.sim, order, id, fate, self.weather, scenarios.TRAITS[target])
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
        outlives = scenarios.TRAITS[machine.order.offer.target].keeps_output and not machine.pausing
        return SimHost(self.sim, self.weather, machine, self.lines[machine.id], self.files, outlives)

    def token(self) -> str:
        return f"{self.sim.rng.getrandbits(64):016x}"

    def open(self, offset_s: float) -> SimWorld:
        clock = Clock(self.sim, offset_s)
        wrapped: dict[int, Provider] = {}

        def provider(choice: int) -> Provider:
            if choice not in wrapped:
                inner = self.providers[self.plan.choices[choice].offer.target]
                wrapped[choice] = Wrapped(inner, Clock(self.sim, jumps=False), lambda verb, what: None)
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
        world.oracle = self.oracle
        self.oracle.reopened(world.journal.facts)
        self.oracle.state = world.state
        self.world = world
        return world

    @property
    def step(self) -> str:
        """What was being done, or what a dead process was last doing."""
        if self.world is not None:
            self.last_step = self.world.step.value if self.world.step is not None else "none"
        return self.last_step

    def calm(self) -> None:
        """The faults are over, whatever they had begun."""
        self.weather.clear()
        self.files.full = False
        for line in self.lines.values():
            line.cut_until = 0.0
        for machine in self.machines:
            machine.full_until = 0.0
