"""The person at the keyboard: stops, extends, pulls, comes back, closes the lid, starts a second launcher."""

from __future__ import annotations

import json
from functools import partial

from launcher.models import State
from launcher.runstate import RunState
from tests.sim.house import House
from tests.sim.kernel import Violation

WITHIN_S = 700.0


class User:
    def __init__(self, house: House) -> None:
        self._house = house
        self._n = 0
        self._reopened = 0
        sim, weather = house.sim, house.weather
        for name in (
            "ctrl-c",
            "ctrl-c-twice",
            "stop",
            "stop-now",
            "extend",
            "pull",
            "suspended",
            "disk-full",
        ):
            if weather.drawn(name, 2):
                at = sim.rng.uniform(0, sim.rng.choice((15.0, 120.0, WITHIN_S)))
                sim.at(at, partial(self._do, name))
        for _ in range(3):
            if weather.drawn("second-launcher", 2):
                sim.at(sim.rng.uniform(0, WITHIN_S), self._second)

    def ask(self, verb: str, **more: object) -> None:
        """A request as every command writes it."""
        self._n += 1
        path = self._house.oracle.folder.requests / f"r{self._n:02}.json"
        self._house.files.put(path, json.dumps({"verb": verb, **more}).encode())
        self._house.sim.note("asked", verb)
        self._house.oracle.asked(f"r{self._n:02}")

    def again(self, state: RunState) -> bool:
        """The engine has gone: is there something the person still wants of this run?"""
        house = self._house
        if state.ended is None and not house.weather.calm and self._n < 20:
            self.ask("pull")
            return True
        unfinished = state.ended in (State.STOPPED, State.LIMIT, State.FAILED)
        if unfinished and self._reopened < 1 and house.weather.strikes("reopen", 2):
            self._reopened += 1
            self.ask("resume")
            return True
        return False

    def _do(self, name: str) -> None:
        house = self._house
        sim, weather, rng = house.sim, house.weather, house.sim.rng
        if weather.calm or (name in ("suspended", "disk-full") and sim.client_dead):
            return
        if name == "suspended":
            weather.met(name)
            sim.stopped_s = rng.choice((3.0, 60.0, 900.0))
            house.oracle.hinder(sim.stopped_s + 100)
        elif name == "disk-full":
            house.files.full = house.oracle.disk_was_full = True
            seconds = rng.choice((1.0, 30.0, 300.0))
            house.oracle.hinder(seconds + 100)
            sim.after(seconds, self._room_again)
        elif name == "ctrl-c":
            started = house.oracle.state is not None and house.oracle.state.started_at is not None
            weather.met(name)
            if not started:
                self.ask("stop", now=False)
        elif name == "extend":
            weather.met(name)
            ceiling = house.oracle.ceiling
            self.ask(
                "extend", add_s=rng.choice((60, 300)), max_cost=rng.choice((None, round(ceiling * 2, 2)))
            )
        elif name == "pull":
            weather.met(name)
            self.ask("pull")
        else:
            weather.met(name)
            self.ask("stop", now=name == "stop-now")

    def _room_again(self) -> None:
        self._house.files.full = False

    def _second(self) -> None:
        """Another launcher on the same run: it must not get the lock of a living one."""
        house = self._house
        if house.sim.client_dead or house.world is None or house.weather.calm:
            return
        house.weather.met("second-launcher")
        if house.files.lock(house.oracle.folder.lock, "second") is not None:
            raise Violation("two engines hold one run")
