"""One machine's share of a run, as its facts tell it: plain frozen records for runstate. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from launcher import guard
from launcher.codec import load, parse_iso
from launcher.models import Access, Fact

STAYS = "output-stays"  # why an engine left: what a killed agent did not seal could not be fetched
UNHEARD = "unheard"  # what was noticed of a machine whose end was asked for and that does not answer


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
    ran_s: float | None = None  # by the agent's clock: whoever hears of it may hear of it late

    @classmethod
    def told(cls, fact: Fact) -> Sealed:
        d = fact.data
        return cls(
            **{name: d[name] for name in ("digest", "count", "size", "exit_code", "signal", "why")},
            at=fact.at,
            refused=d.get("refused"),
            left_out=tuple(d.get("left_out") or ()),
            ran_s=d.get("ran_s"),
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
    created_at: datetime | None = None  # when we knew of it
    access: Access | None = None
    pinned: tuple[str, str] | None = None  # which of its boots told which host key
    boot: str | None = None
    was: str | None = None  # the boot that is over: its agent's words are not the present one's
    armed: tuple[str, ...] = ()
    pushed: str | None = None
    began_in: str | None = None  # what was pushed when its trainer was asked to start
    start_asked: bool = False  # from here on a trainer may run there, whatever we hear of it
    started_at: datetime | None = None
    begun: datetime | None = None  # the machine's own word for when the trainer started
    deadline: datetime | None = None  # D since the trainer started
    under_way: bool = False  # and its trainer still has the boot in which it began
    sealed: Sealed | None = None
    receipt_at: datetime | None = None
    over: str | None = None  # why this machine is to be ended: nothing more is wanted of it
    blame: bool = False  # the offer itself did not work: the next attempt tries another
    status: int | None = None  # the exit status that its failure stands for
    fault: str | None = None  # what kind of refusal it was, by the name of its error
    everywhere: bool = False  # and no other offer of its target would have done
    taken: bool = False  # by somebody else, while its trainer ran and we were looking
    end_asked_at: datetime | None = None
    proof_at: datetime | None = None  # before that no listing can prove that it is gone
    gone_at: datetime | None = None
    billed_until: datetime | None = None  # the latest at which its meter stopped
    kept: bool = False  # gone, but the place of its output still waits for a pull
    asleep: bool = False  # and that place is the stopped machine itself: to be read it has to be started
    woken: bool = False  # started again only to be read
    noticed: str | None = None  # what a person was told to look at while it ran
    searched: bool = False  # whoever could look found nothing there to be fetched
    rescued: bool = False  # what nobody sealed has come home all the same, if there was anything
    rescued_to: str | None = None
    storage_usd_per_hour: Decimal = Decimal(0)  # while it is asleep
    before_usd: Decimal = Decimal(0)  # what it cost before `since`
    since: datetime | None = None
    billed_usd: Decimal | None = None  # by its provider's own books
    counted_usd: Decimal = Decimal(0)  # by ours, when those were asked

    @property
    def open(self) -> bool:
        """Something of it may still exist."""
        return self.gone_at is None

    @property
    def met(self) -> bool:
        """It was reached once, so it was there for everybody to see."""
        return self.boot is not None or self.was is not None or self.woken

    @property
    def project(self) -> str | None:
        """In which of the pushed ones its output lies: after another boot none may be pushed yet, or one that
        was changed meanwhile."""
        return self.began_in or self.pushed

    @property
    def d(self) -> datetime:
        return self.deadline or self.ends_at

    def cost(self, now: datetime) -> Decimal:
        """Until now, by its own rates: while it computed, and while only its disk was kept."""
        ran = guard.spent(self.usd_per_hour, self.since or self.asked_at, self.billed_until or now, 1)
        if self.asleep and self.billed_until is not None:
            ran += guard.spent(self.storage_usd_per_hour, self.billed_until, now, 1)
        return self.before_usd + ran

    def told(self, **changes: Any) -> Attempt:
        """With what a fact tells. Its first start is when it started."""
        if changes.get("start_asked"):
            changes["began_in"] = self.pushed
        if self.started_at is not None:
            changes.pop("started_at", None)
        return replace(self, **changes)

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


# --- what each fact about one attempt changes in it ----------------------------------------------


def _billed_until(fact: Fact) -> datetime:
    """A machine that was not seen alive any more had ended by its D, however late somebody looked."""
    return parse_iso(fact.data["billed_until"]) if "billed_until" in fact.data else fact.at


CHANGES: dict[str, Callable[[Fact], dict[str, Any]]] = {
    "created": lambda f: {
        "instance": f.data["instance"],
        "created_at": f.at,
        "usd_per_hour": Decimal(f.data["usd_per_hour"]),
        "access": load(Access, f.data["access"]) if f.data.get("access") else None,
    },
    "not-created": lambda f: {
        "gone_at": f.at,
        "billed_until": _billed_until(f),
        "over": f.data["reason"],
        "blame": f.data["blame"],
        "status": f.data.get("exit"),
        "fault": f.data.get("code"),
        "everywhere": bool(f.data.get("everywhere")),
        # What never was costs nothing; what was perhaps there for a while may have.
        **({"usd_per_hour": Decimal(0)} if f.data.get("sure", True) else {}),
    },
    "pinned": lambda f: {"pinned": (f.data["boot_id"], f.data["key"])},
    "connected": lambda f: {
        "boot": f.data["boot"],
        "access": load(Access, f.data["access"]),
        "armed": tuple(f.data["layers"]),
    },
    "rebooted": lambda f: {
        "boot": None,
        "was": f.data.get("was"),
        "armed": (),
        "pushed": None,
        "under_way": False,
    },
    "pushed": lambda f: {"pushed": f.data["digest"]},
    "start-asked": lambda f: {"start_asked": True},
    "started": lambda f: {
        "started_at": f.at,
        "begun": parse_iso(f.data["begun"]) if "begun" in f.data else f.at,
        "deadline": parse_iso(f.data["deadline"]),
        "under_way": True,
    },
    "deadline": lambda f: {"deadline": parse_iso(f.data["deadline"])},
    "sealed": lambda f: {"sealed": Sealed.told(f)},
    "noticed": lambda f: {"noticed": f.data["code"]},
    "rescued": lambda f: {"rescued": True, "rescued_to": f.data["path"]},
    "receipt": lambda f: {"receipt_at": f.at},
    "over": lambda f: {
        "over": f.data["why"],
        "blame": f.data["blame"],
        "status": f.data.get("exit"),
        "fault": f.data.get("code"),
        "everywhere": bool(f.data.get("everywhere")),
        "searched": bool(f.data.get("searched")),
        "taken": bool(f.data.get("taken")),
    },
    "end-asked": lambda f: {
        "end_asked_at": f.at,
        "proof_at": parse_iso(f.data["proof_at"]) if "proof_at" in f.data else None,
    },
    "gone": lambda f: {
        "gone_at": f.at,
        "billed_until": _billed_until(f),
        "kept": bool(f.data.get("kept")),
        "asleep": bool(f.data.get("asleep")),
        "storage_usd_per_hour": Decimal(f.data.get("storage_usd_per_hour") or 0),
    },
    "billed": lambda f: {
        "billed_usd": Decimal(f.data["usd"]),
        "counted_usd": Decimal(f.data["counted_usd"]),
    },
    "woken": lambda f: {
        **dict.fromkeys(("gone_at", "billed_until", "boot", "over", "end_asked_at", "receipt_at")),
        **dict.fromkeys(("kept", "asleep", "blame"), False),
        "woken": True,
        "armed": (),
        "deadline": parse_iso(f.data["deadline"]),
    },
}
