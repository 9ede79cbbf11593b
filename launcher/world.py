"""Everything the engine and its steps may touch, as one value. The simulator hands in another one.

Steps read `world.state`, act through the effects below and write facts with `world.record`. `tick` is
called at least every 0.5 s by whoever waits: it answers requests and may raise Stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from launcher import runstate
from launcher.codec import load
from launcher.errors import Stopped
from launcher.files import Files
from launcher.journal import Journal
from launcher.models import Access, Json, Plan, SecretRef
from launcher.providers.base import Provider
from launcher.remote.base import Host, Tree
from launcher.runstate import Attempt, RunState, Step
from launcher.store import AttemptFolder, RunFolder, Versions
from launcher.transfers import Told

MOST_TIME_S = 7 * 24 * 3600  # a day is the most that is chosen unasked; an extension was asked for


class Clock(Protocol):
    def now(self) -> datetime: ...

    def wait(self, seconds: float) -> None:
        """Let time pass. May return early."""


@dataclass(frozen=True)
class PushSet:
    """What goes to the host: the project, and each input with the folder it belongs to."""

    project: Tree
    inputs: tuple[tuple[str, Tree], ...] = ()


@dataclass(frozen=True)
class Parts:
    """What is ours on the host."""

    agent: bytes
    boot_guard: str


@dataclass
class World:
    plan: Plan
    folder: RunFolder
    versions: Versions
    files: Files
    clock: Clock
    provider: Callable[[int], Provider]  # by the index of the plan's choice
    open_host: Callable[[Access], Host]
    push_set: Callable[[], PushSet]
    secrets: Callable[[tuple[SecretRef, ...]], Mapping[str, str]]
    token: Callable[[], str]
    parts: Parts
    owner: str
    envs: str  # where environments lie when the host is this machine
    watched: Callable[[], bool]
    heard: Callable[[Attempt], None] = lambda _: None  # for whoever watches: the machine has answered
    push_key: Callable[[], str] = lambda: ""  # of the project's tree, before anybody has looked at it
    pace_s: float = 0.25  # between two looks at a host
    run_key: Callable[[], tuple[str, str]] = lambda: ("", "")  # where the private half lies, the public half
    journal: Journal = field(init=False)
    state: RunState = field(init=False)
    opened: datetime = field(init=False)  # when this process began, by its own clock
    step: Step | None = None  # what is being done
    pull_now: bool = False
    hosts: dict[str, Host] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)  # what a step keeps between its calls, here

    def __post_init__(self) -> None:
        self.opened = self.clock.now()
        self.journal = Journal(self.files, self.folder.journal)
        self.state = runstate.fold(self.plan, self.journal.facts)

    # --- facts -------------------------------------------------------------------------------

    def record(self, kind: str, **data: Any) -> None:
        """Written and synced before this returns."""
        fact = self.journal.append(kind, self.clock.now(), **data)
        self.state = runstate.apply(self.state, fact)

    def about(self, a: Attempt, kind: str, **data: Any) -> None:
        self.record(kind, attempt=a.n, **data)

    def attempt(self) -> Attempt:
        """The open attempt that the current step works on."""
        a = self.state.attempt
        assert a is not None
        return a

    def attempt_folder(self, a: Attempt) -> AttemptFolder:
        return self.folder.attempt(a.n)

    def ceiling(self) -> Decimal | None:
        """The most that the run may cost over all its attempts; None = nobody set one."""
        if self.state.max_cost is not None:
            return self.state.max_cost
        return self.plan.consent.max_cost if self.plan.consent is not None else None

    # --- effects -----------------------------------------------------------------------------

    def host(self, a: Attempt, access: Access | None = None, *, beside: bool = False) -> Host:
        """One connection per machine, opened when first needed. `access` while it is not a fact yet; `beside`
        is another one, for what takes long while the first is spoken over."""
        reached = access or a.access
        assert reached is not None
        key = f"{a.n}:{reached.address}{':beside' if beside else ''}"
        if key not in self.hosts:
            self.hosts[key] = self.open_host(reached)
        return self.hosts[key]

    @contextmanager
    def transfer(self, what: str, part: str = "") -> Iterator[Told]:
        """Who watches sees how far it is."""
        now = self.clock.now
        told = Told(self.files, self.folder.transfer, now, self.state.engines, what, part)
        try:
            yield told
        finally:
            told.over()

    def drop_hosts(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()

    def wait(self, seconds: float) -> None:
        """Wait with an open ear: requests are answered within half a second."""
        end = self.clock.now().timestamp() + seconds
        while (left := end - self.clock.now().timestamp()) > 0:
            self.tick()
            self.clock.wait(min(left, 0.5))
        self.tick()

    def wait_quietly(self, seconds: float) -> None:
        """The same for what a stop does not end."""
        end = self.clock.now().timestamp() + seconds
        while (left := end - self.clock.now().timestamp()) > 0:
            self.tick_quietly()
            self.clock.wait(min(left, 0.5))

    # --- requests ----------------------------------------------------------------------------

    def tick(self) -> None:
        """Answer what people asked; raise Stopped when that ends what is being done."""
        for name in self.files.names(self.folder.requests):
            id, dot, kind = name.partition(".")
            if dot and kind == "json" and id not in self.state.answered:
                self._answer(id, self._request(name))
        stop = self.state.stop
        if stop is not None and self.memory.get("stop-seen") != (stop.id, stop.now):
            self.memory["stop-seen"] = (stop.id, stop.now)
            raise Stopped("now" if stop.now else "stop")

    def tick_quietly(self) -> None:
        """For what must be finished even when a stop was asked for: it is recorded all the same."""
        with suppress(Stopped):
            self.tick()

    def _request(self, name: str) -> Json:
        try:
            value = json.loads(self.files.read(self.folder.requests / name))
        except (ValueError, FileNotFoundError):
            return {}
        return value if isinstance(value, dict) else {}

    def _answer(self, id: str, request: Json) -> None:
        verb = request.get("verb")
        outcome = "done"
        if verb == "stop":
            self.record("stop", id=id, now=bool(request.get("now")))
        elif verb == "pull":
            self.pull_now = True
            self.record("pull-asked", id=id)
        elif verb == "resume":
            # A run that ended without all of its work goes on from its newest checkpoint.
            if self.state.ended is not None:
                self.record("reopened", id=id)
        elif verb == "extend":
            outcome = "done" if id in self.state.extended else self._extend(id, request)
        else:
            outcome = f"no such request: {verb!r}"
        self.record("answered", id=id, verb=str(verb), outcome=outcome)

    def _extend(self, id: str, request: Json) -> str:
        """More time only inside the consent, or with a new ceiling that the person just agreed to."""
        try:
            max_time_s = self.state.max_time_s + int(request.get("add_s", 0))
            cost = request.get("max_cost")
            max_cost = load(Decimal, cost) if cost is not None else self.state.max_cost
        except (ValueError, TypeError, OverflowError):
            return "refused: not a time or an amount"
        if not 0 < max_time_s <= MOST_TIME_S:
            return "refused: the trainer's time would be above 7 days in all"
        a = self.state.attempt
        if a is not None and self.plan.choices[a.choice].offer.bills and max_cost is not None:
            total = self.state.could_cost(max_time_s, self.clock.now())
            if total > max_cost:
                return f"refused: that could cost ${total:.2f}, above the ceiling of ${max_cost:.2f}"
        self.record("extended", id=id, max_time_s=max_time_s, max_cost=max_cost)
        return "done"
