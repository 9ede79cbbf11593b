"""What is in store for a machine, and how it strikes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from launcher.agent import protocol as p
from launcher.agent.mind import Mind
from tests.sim.kernel import Sim
from tests.sim.trainer import Manners
from tests.sim.weather import Weather


@dataclass(frozen=True)
class Fate:
    """What is in store for a machine, in seconds from its creation; None = it never happens."""

    boot_s: float = 8.0
    never_boots: bool = False
    dies_s: float | None = None
    agent_dies_s: float | None = None
    preempted_s: float | None = None
    notice_s: float = 0.0
    full_s: float | None = None  # its disk fills up, for a minute
    after_seal: str | None = None  # which of the three ends strikes while results are fetched
    manners: Manners = field(default_factory=Manners)


class Machine(Protocol):
    """What of a machine is touched here."""

    sim: Sim
    weather: Weather
    fate: Fate
    pausing: bool
    agent_alive: bool
    full_until: float
    booted: float | None
    mind: Mind | None
    sight: p.Sight

    @property
    def alive(self) -> bool: ...
    def met(self, name: str) -> None: ...
    def end(self, why: str) -> None: ...
    def over(self, why: str) -> None: ...
    def pause(self) -> None: ...
    def wake(self) -> None: ...


def plan(m: Machine) -> None:
    fate, sim = m.fate, m.sim
    if fate.dies_s is not None:
        sim.after(fate.dies_s, lambda: _die(m, "instance-death"))
    if fate.agent_dies_s is not None:
        sim.after(fate.agent_dies_s, partial(_lose_agent, m))
    if fate.preempted_s is not None:
        sim.after(fate.preempted_s, partial(_preempt, m))
    if fate.full_s is not None:
        sim.after(fate.full_s, partial(_fill, m))


def _fill(m: Machine) -> None:
    if not m.weather.calm:
        m.full_until = m.sim.t + 60


def strike(m: Machine, fault: str) -> None:
    if fault == "agent-death":
        _lose_agent(m)
    elif fault == "preemption":
        _preempt(m)
    else:
        _die(m, fault)


def _die(m: Machine, fault: str) -> None:
    if m.alive and not m.weather.calm:
        m.met(fault)
        m.end(fault)


def _lose_agent(m: Machine) -> None:
    if m.alive and m.booted is not None and m.agent_alive and not m.weather.calm:
        m.met("agent-death")
        m.agent_alive = False
        if m.sim.rng.random() < 0.7:  # it was PID 1
            m.over("agent-death")


def _preempt(m: Machine) -> None:
    if not m.alive or m.weather.calm:
        return
    if not m.fate.notice_s:
        m.met("preemption")
        _taken(m, "preemption")
        return
    m.met("preemption")
    m.sim.after(m.fate.notice_s, lambda: _taken(m, "preempted"))
    if m.mind is not None and m.agent_alive:
        m.sight.term = True
        m.wake()
    elif m.mind is None:
        m.end("preempted")


def _taken(m: Machine, why: str) -> None:
    """By the platform: where it can stop a machine it does that."""
    if m.pausing:
        m.pause()
    elif m.alive:
        m.end(why)
