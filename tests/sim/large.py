"""The large files of a modelled trainer while it writes them: what the agent sees of them and hashes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from launcher.agent import protocol as p
from launcher.remote.base import Listed
from tests.sim.kernel import Sim
from tests.sim.trainer import Trainer, listed, sha
from tests.sim.weather import Weather


class Machine(Protocol):
    """What of a machine is touched here."""

    sim: Sim
    weather: Weather
    disk: dict[str, bytes | bytearray]
    trainer: Trainer | None
    sight: p.Sight
    answered: bool

    @property
    def alive(self) -> bool: ...
    def later(self, seconds: float, do: Callable[[], None]) -> None: ...


def write(machine: Machine) -> dict[str, bytes]:
    """Bring the machine's disk up to now."""
    trainer, disk = machine.trainer, machine.disk
    if trainer is None or trainer.ended is not None:
        return {}
    found = trainer.early(machine.sim.t)
    for name in [n for n in disk if n.startswith("output/early/")]:
        del disk[name]
    disk.update({f"output/{name}": data for name, data in found.items()})
    return found


def scan(machine: Machine, action: p.ScanOutput) -> None:
    found = write(machine)
    machine.sight.outputs = tuple(p.Seen(name, sha(data), False) for name, data in sorted(found.items()))
    machine.answered = True


def hash_one(machine: Machine, action: p.HashOutput) -> None:
    def done() -> None:
        data = write(machine).get(action.name)
        same = data is not None and sha(data) == action.fingerprint
        files = (listed(action.name, data),) if data is not None and same else None
        answer = p.Hashed(action.name, action.fingerprint, files)
        machine.sight.hashed_outputs = (*machine.sight.hashed_outputs, answer)

    machine.later(0.3, done)


def lying(machine: Machine, base: str) -> list[Listed]:
    """What lies below a folder, whoever wrote it."""
    found = {k: bytes(v) for k, v in machine.disk.items() if k.startswith(f"{base}/")}
    return [Listed(k.removeprefix(f"{base}/"), len(v), sha(v)) for k, v in sorted(found.items())]


def plan(machine: Machine) -> None:
    """One of them is written anew, another thrown away."""
    assert machine.trainer is not None
    manners = machine.trainer.manners
    for met, at in (("output-rewritten", manners.rewrites_s), ("output-removed", manners.removes_s)):
        if at is not None:
            machine.sim.after(at, partial(_meddle, machine, met))


def _meddle(machine: Machine, met: str) -> None:
    trainer = machine.trainer
    if machine.alive and trainer is not None and trainer.ended is None and not machine.weather.calm:
        machine.weather.met(met)
