"""One machine's share of a run, as its facts tell it: plain frozen records for runstate. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from launcher import guard
from launcher.models import Access, Fact


@dataclass(frozen=True)
class Sealed:
    """What the agent vouches for once the trainer is gone."""

    digest: str
    count: int
    size: int
    exit_code: int | None
    signal: int | None
    why: str | None
    at: datetime
    refused: str | None = None
    left_out: tuple[str, ...] = ()  # what lay in the output and is no part of the list

    @classmethod
    def told(cls, fact: Fact) -> Sealed:
        d = fact.data
        return cls(
            **{name: d[name] for name in ("digest", "count", "size", "exit_code", "signal", "why")},
            at=fact.at,
            refused=d.get("refused"),
            left_out=tuple(d.get("left_out") or ()),
        )


@dataclass(frozen=True)
class Attempt:
    """One machine's share of a run."""

    n: int
    token: str
    choice: int
    asked_at: datetime
    ends_at: datetime  # D as ordered
    usd_per_hour: Decimal
    instance: str | None = None
    access: Access | None = None
    pinned: tuple[str, str] | None = None  # which of its boots told which host key
    boot: str | None = None
    armed: tuple[str, ...] = ()
    pushed: str | None = None
    start_asked: bool = False  # from here on a trainer may run there, whatever we hear of it
    started_at: datetime | None = None
    begun: datetime | None = None  # the machine's own word for when the trainer started
    deadline: datetime | None = None  # D since the trainer started
    sealed: Sealed | None = None
    receipt_at: datetime | None = None
    over: str | None = None  # why this machine is to be ended: nothing more is wanted of it
    blame: bool = False  # the offer itself did not work: the next attempt tries another
    status: int | None = None  # the exit status that its failure stands for
    fault: str | None = None  # what kind of refusal it was, by the name of its error
    end_asked_at: datetime | None = None
    gone_at: datetime | None = None
    billed_until: datetime | None = None  # the latest at which its meter stopped
    kept: bool = False  # gone, but the place of its output still waits for a pull
    asleep: bool = False  # and that place is the stopped machine itself: to be read it has to be started
    woken: bool = False  # started again only to be read
    noticed: str | None = None  # what a person was told to look at while it ran
    searched: bool = False  # whoever could look found nothing there to be fetched
    storage_usd_per_hour: Decimal = Decimal(0)  # while it is asleep
    before_usd: Decimal = Decimal(0)  # what it cost before `since`
    since: datetime | None = None

    @property
    def open(self) -> bool:
        """Something of it may still exist."""
        return self.gone_at is None

    @property
    def d(self) -> datetime:
        return self.deadline or self.ends_at

    def cost(self, now: datetime) -> Decimal:
        """Until now, by its own rates: while it computed, and while only its disk was kept."""
        ran = guard.spent(self.usd_per_hour, self.since or self.asked_at, self.billed_until or now, 1)
        if self.asleep and self.billed_until is not None:
            ran += guard.spent(self.storage_usd_per_hour, self.billed_until, now, 1)
        return self.before_usd + ran

    def settled(self, at: datetime) -> Attempt:
        """Its cost so far is written down, and its meter begins anew."""
        return replace(self, before_usd=self.cost(at), since=at)


@dataclass(frozen=True)
class Checkpoint:
    name: str
    digest: str  # of its list of files: a name written again is another checkpoint
    age: tuple[int, float] = field(default=(0, 0.0), compare=False)  # of which attempt, written when


@dataclass(frozen=True)
class StopWish:
    id: str
    now: bool


@dataclass(frozen=True)
class Halt:
    """Why the last engine left a run that is not over: nothing goes on before a person has looked."""

    code: str
    why: str
    exit: int
