"""A provider in memory: what a cloud or a local engine promises, with every fault one may ask of it.

Nothing here runs by itself. The moment, the machines and the faults are handed in: without any it is a
calm provider whose machines live from create to their end of life; under the simulator each call lets
virtual time pass and may lose its reply. It knows no host and no agent, only when a machine has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from launcher.errors import Busy, Gone, NoCapacity, TooFast, Unreachable
from launcher.models import Access, Need, Offer, Order, Resource, ResourceState, Traits
from launcher.providers.base import Check

STORAGE = Decimal("0.003")  # USD per hour for the disk of a machine that is stopped


class Fault(StrEnum):
    """What may become of one call."""

    NO_EFFECT = "no-effect"  # no answer, and nothing happened
    LOST_REPLY = "lost-reply"  # no answer, yet it happened
    IGNORED = "ignored"  # answered as done, yet nothing happened
    TOO_FAST = "too-fast"
    NO_CAPACITY = "no-capacity"
    REFUSED = "refused"  # a machine cannot be started again where it lies
    HIDDEN = "hidden"  # a get that does not know what is there


class Conditions(Protocol):
    """The moment and the luck."""

    def now(self) -> datetime: ...

    def before(self, verb: str) -> Fault | None:
        """The call is on its way; time may pass."""

    def after(self, verb: str) -> None:
        """The reply is on its way; time may pass."""

    def lag_s(self) -> float:
        """How long a new instance stays out of the listing, at most the traits' lag."""

    def rate(self, order: Order) -> Decimal:
        """What the provider really takes per hour."""


class Machine(Protocol):
    """What was rented. It may end by itself."""

    access: Access | None

    def state(self) -> ResourceState: ...
    def end(self) -> None: ...
    def drop_disk(self) -> None: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    def console(self) -> str: ...


class Calm:
    """No faults, no lag, the offer's own price, and a clock that is handed in."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now()

    def before(self, verb: str) -> Fault | None:
        return None

    def after(self, verb: str) -> None:
        pass

    def lag_s(self) -> float:
        return 0.0

    def rate(self, order: Order) -> Decimal:
        return order.offer.usd_per_hour


class Quiet:
    """A machine without anything on it: up at once, ended when told or at its end of life."""

    def __init__(self, order: Order, now: Callable[[], datetime]) -> None:
        self.access: Access | None = Access(kind="process", address=order.folder, root=order.folder)
        self._order = order
        self._now = now
        self._ended = self._stopped = False

    def state(self) -> ResourceState:
        self._ended = self._ended or (self._now() >= self._order.ends_at and not self._stopped)
        if self._stopped and not self._ended:
            return ResourceState.STOPPED
        return ResourceState.ENDED if self._ended else ResourceState.RUNNING

    def pause(self) -> None:
        self._stopped = True

    def unpause(self) -> None:
        self._stopped = False

    def end(self) -> None:
        self._ended = True

    def drop_disk(self) -> None:
        pass

    def console(self) -> str:
        return f"launcher boot {self._order.token}\n"


@dataclass
class Rented:
    id: str
    order: Order
    machine: Machine
    usd_per_hour: Decimal
    created_at: datetime
    listed_from: datetime
    volume: bool  # its output lies beside it and outlives it


class SimulatedProvider:
    def __init__(
        self,
        traits: Traits | None = None,
        conditions: Conditions | None = None,
        machines: Callable[[Order, str], Machine] | None = None,
        name: str = "simulated",
    ) -> None:
        self.name = name
        self.traits = traits or Traits(boots="image", bills=False, token_idempotent=True)
        self._conditions = conditions or Calm()
        self._machines = machines or (lambda order, _: Quiet(order, self._conditions.now))
        self._rented: dict[str, Rented] = {}
        self.rented: Callable[[Machine, Decimal], None] = lambda machine, usd_per_hour: None

    def check(self) -> tuple[Check, ...]:
        return (Check("the simulated provider", True, "in memory"),)

    def offers(self, need: Need) -> tuple[Offer, ...]:
        return (
            Offer(
                id=self.name,
                target=self.name,
                provider=self.name,
                usd_per_hour=Decimal("0.69") if self.traits.bills else Decimal(0),
                price_source="simulated",
                bills=self.traits.bills,
            ),
        )

    def create(self, order: Order) -> Resource:
        fault = self._enter("create")
        if fault is Fault.NO_CAPACITY:
            raise NoCapacity("none of it is left")
        known = next((r for r in self._rented.values() if r.order.token == order.token), None)
        if fault is Fault.IGNORED:
            return self._resource(self._rent(order, f"{self.name}-void", forget=True))
        if known is None or not self.traits.token_idempotent:
            known = self._rent(order, f"{self.name}-{len(self._rented) + 1}")
        self._leave("create", fault)
        return self._resource(known)

    def get(self, id: str) -> Resource:
        fault = self._enter("get")
        rented = self._rented.get(id.removesuffix("-disk"))
        self._leave("get", fault)
        if rented is None or fault is Fault.HIDDEN:
            raise Gone(f"there is no {id}")
        return self._resource(rented)

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        fault = self._enter("list")
        now = self._conditions.now()
        found: list[Resource] = []
        for rented in self._rented.values():
            if run_id is not None and rented.order.run != run_id:
                continue
            resource = self._resource(rented)
            if resource.state is not ResourceState.ENDED and rented.listed_from <= now:
                found.append(resource)
            if rented.volume:
                found.append(self._disk(rented))
        self._leave("list", fault)
        return tuple(found)

    def terminate(self, id: str) -> None:
        fault = self._enter("terminate")
        rented = self._rented.get(id.removesuffix("-disk"))
        if rented is not None and fault is not Fault.IGNORED:
            if not id.endswith("-disk"):
                rented.machine.end()
            elif rented.machine.state() is not ResourceState.ENDED:
                raise Busy(f"{rented.id} still uses {id}")
            elif rented.volume:
                rented.volume = False
                rented.machine.drop_disk()
        self._leave("terminate", fault)

    def pause(self, id: str) -> None:
        self._act("pause", id, lambda machine: machine.pause())

    def unpause(self, id: str) -> None:
        self._act("unpause", id, lambda machine: machine.unpause())

    def _act(self, verb: str, id: str, act: Callable[[Machine], None]) -> None:
        fault = self._enter(verb)
        if fault is Fault.REFUSED:
            raise NoCapacity("its GPU is somebody else's by now")
        rented = self._rented.get(id)
        if rented is None:
            raise Gone(f"there is no {id}")
        if fault is not Fault.IGNORED:
            act(rented.machine)
        self._leave(verb, fault)

    def console(self, id: str) -> str:
        fault = self._enter("console")
        self._leave("console", fault)
        rented = self._rented.get(id)
        return rented.machine.console() if rented is not None else ""

    # --- inside ------------------------------------------------------------------------------

    def _enter(self, verb: str) -> Fault | None:
        fault = self._conditions.before(verb)
        if fault is Fault.NO_EFFECT:
            raise Unreachable(f"{verb}: no answer")
        if fault is Fault.TOO_FAST:
            raise TooFast(f"{verb}: asked too often", wait_s=2.0)
        return fault

    def _leave(self, verb: str, fault: Fault | None) -> None:
        self._conditions.after(verb)
        if fault is Fault.LOST_REPLY:
            raise Unreachable(f"{verb}: the answer was lost")

    def _rent(self, order: Order, id: str, *, forget: bool = False) -> Rented:
        now = self._conditions.now()
        if forget:
            machine: Machine = Quiet(order, self._conditions.now)
            return Rented(id, order, machine, order.offer.usd_per_hour, now, now, volume=False)
        rate, listed_from = self._conditions.rate(order), now + timedelta(seconds=self._conditions.lag_s())
        pauses = "pause" in self.traits.verbs  # then its own disk is the place
        keeps = self.traits.keeps_output and self.traits.boots != "here" and not pauses
        rented = Rented(id, order, self._machines(order, id), rate, now, listed_from, volume=keeps)
        self._rented[id] = rented
        self.rented(rented.machine, rate)
        return rented

    def _resource(self, rented: Rented) -> Resource:
        state = rented.machine.state()
        return Resource(
            id=rented.id,
            kind="instance",
            run=rented.order.run,
            token=rented.order.token,
            owner=rented.order.owner,
            state=state,
            usd_per_hour=STORAGE if state is ResourceState.STOPPED else rented.usd_per_hour,
            created_at=rented.created_at,
            ends_at=rented.order.ends_at,
            access=None if state in (ResourceState.BOOTING, ResourceState.STOPPED) else rented.machine.access,
            boot="first",
            target=self.name,
        )

    def _disk(self, rented: Rented) -> Resource:
        return Resource(
            id=f"{rented.id}-disk",
            kind="volume",
            run=rented.order.run,
            token=rented.order.token,
            owner=rented.order.owner,
            state=ResourceState.STOPPED,
            usd_per_hour=Decimal(0),
            created_at=rented.created_at,
            ends_at=None,
            target=self.name,
        )


def make() -> SimulatedProvider:
    return SimulatedProvider()
