"""A folder with one small trainer, a machine that only offers, and the plan that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher import settings
from launcher.ask import Decision
from launcher.errors import LauncherError
from launcher.models import Need, Offer, Order, Resource, Traits
from launcher.planning import House, plan_for
from launcher.providers.base import Check, Provider
from launcher.store import open_home

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class Machine:
    """A provider that only offers."""

    def __init__(
        self,
        gpu: str | None = None,
        fault: Exception | None = None,
        ok: bool = True,
        no_gpu: str | None = "it has none",
    ) -> None:
        self.name = "here"
        self.traits = Traits(boots="here", bills=False, keeps_output=True)
        self.gpu, self.fault, self.ok = gpu, fault, ok
        self.no_gpu = None if gpu else no_gpu

    def check(self) -> tuple[Check, ...]:
        return (Check("engine", self.ok, "it is off", fix="switch it on"),)

    def offers(self, need: Need) -> tuple[Offer, ...]:
        if self.fault is not None:
            raise self.fault
        if not self.ok:
            return ()
        offer = Offer("here", "here", "here", Decimal(0), "this machine", no_gpu=self.no_gpu)
        return (replace(offer, gpu=self.gpu, gpu_count=1 if self.gpu else 0),)

    def create(self, order: Order) -> Resource:
        raise AssertionError("a plan creates nothing")

    def get(self, id: str) -> Resource:
        raise AssertionError("a plan asks for nothing that exists")

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        raise AssertionError("a plan lists nothing")

    def terminate(self, id: str) -> None:
        raise AssertionError("a plan ends nothing")

    def console(self, id: str) -> str:
        raise AssertionError("a plan reads no console")


class Market(Machine):
    """One that rents out what the price list knows too, at prices of its own."""

    def __init__(self, fault: Exception | None = None, **usd: str) -> None:
        super().__init__(fault=fault)
        self.name = "runpod"
        self.traits = Traits(boots="image", bills=True, keeps_output=True, overrun_s=60)
        self.usd = usd
        self.asked: list[Need] = []

    def offers(self, need: Need) -> tuple[Offer, ...]:
        self.asked.append(need)
        if self.fault is not None:
            raise self.fault
        found = [self._offer(name.replace("_", " "), Decimal(usd)) for name, usd in self.usd.items()]
        wishes = [wish for wish in need.gpus if not wish.startswith("any-")]
        return tuple(one for one in found if not wishes or one.gpu in wishes)

    def _offer(self, gpu: str, usd: Decimal) -> Offer:
        live = Offer(f"runpod:{gpu}:secure:any", "runpod", "runpod", usd, "live", NOW, bills=True)
        return replace(live, instance_type=f"id of {gpu}", gpu=gpu, gpu_count=1, vram_gb=Decimal(24))


def small_place(tmp_path: Path) -> Path:
    """A folder with one small trainer."""
    folder = tmp_path / "place"
    trainer = folder / "trainers" / "tiny"
    trainer.mkdir(parents=True)
    (trainer / "requirements.txt").write_text("numpy==2.0\n")
    (trainer / "trainer.yaml").write_text(
        "command: [python, -m, trainers.tiny]\n"
        "requirements: requirements.txt\n"
        "hours:\n  cpu: [0.5, 1, 2]\n  gpu: [0.1, 0.2, 0.3]\n"
        "max_time: 30m\n"
        "need: {disk_gb: 5, vram_gb: 20}\n"
        "args:\n  rounds: {type: int, default: 10}\n"
    )
    return folder


def letters() -> Iterator[str]:
    yield from ("abcd", "efgh", "ijkl")


def decided(
    place: Path,
    trainer: str | None = "tiny",
    words: tuple[str, ...] = (),
    provider: Provider | None = None,
    for_run: bool = True,
    market: Provider | None = None,
    **flags: object,
) -> Decision:
    """`market`: what is behind a target that the price list knows as well."""
    said = settings.resolve(flags, cwd=place, environ={}, user_file=None)
    machine = provider or Machine()
    after = letters()
    house = House(
        home=open_home({"LAUNCHER_HOME": str(place.parent / "home")}),
        cwd=place,
        environ={},
        now=NOW,
        letters=lambda: next(after),
        runnable=("here",) if market is None else ("here", market.name),
        priced=tuple(name for name in ("runpod", "aws") if market is None or name != market.name),
        provider=lambda name: machine if market is None or name != market.name else market,
    )
    return plan_for(said, trainer, words, house, for_run=for_run)


def refused(place: Path, *args: Any, **flags: Any) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        decided(place, *args, **flags)
    return caught.value


def project(place: Path) -> Path:
    folder = place.parent / "my project"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    return folder
