"""What a run is, from its facts alone, and what has to happen next. Pure: no clock, disk, network.

The first run and every resume fold the same facts and ask the same question, so there is one loop and
one truth. Unknown kinds of facts are skipped: an older journal, or a newer one, still folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from launcher import guard
from launcher.attempt import CHANGES, Attempt, Checkpoint, Halt, Sealed, StopWish
from launcher.codec import parse_iso
from launcher.errors import Exit, KeyChanged, LauncherError
from launcher.models import Fact, Plan, State

__all__ = [
    "Attempt", "Checkpoint", "Halt", "RunState", "Sealed", "Step", "StopWish", "apply",
    "exit_status", "fold", "may_try_again", "next_choice", "next_step", "outcome", "shown"
]  # fmt: skip

USERS = LauncherError.__name__  # the kind of a fault that only the user can mend
MOST_IN_VAIN = 10  # create calls that were lost and made nothing: then the provider is at fault


class Step(StrEnum):
    PROVISION = "provision"
    CONNECT = "connect"
    PUSH = "push"
    START = "start"
    WATCH = "watch"
    PULL = "pull"
    RELEASE = "release"


@dataclass(frozen=True)
class RunState:
    plan: Plan
    attempts: tuple[Attempt, ...] = ()
    engines: int = 0
    stop: StopWish | None = None
    answered: frozenset[str] = field(default_factory=frozenset)
    extended: frozenset[str] = field(default_factory=frozenset)  # by which requests: each counts once
    max_time_s: int = 0
    max_cost: Decimal | None = None
    checkpoints: tuple[Checkpoint, ...] = ()  # verified here, oldest first by when they were written
    version: str | None = None
    version_path: str | None = None
    pull_failed: str | None = None
    discarded: bool = False  # what the machine still held was given up on purpose
    ended: State | None = None
    halted: Halt | None = None  # until the next engine looks again
    floor: int = 0  # attempts before a reopening no longer count

    @property
    def attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def stop_now(self) -> bool:
        """Ended at once: what the machine still holds is given up."""
        return self.stop is not None and self.stop.now

    @property
    def sealed(self) -> Sealed | None:
        """The trainer's end, unless the machine was taken away, or ended with its results: then another
        one goes on."""
        seals = (a.sealed for a in reversed(self.attempts[self.floor :]) if a.sealed and not self._lost(a))
        return next((s for s in seals if s.why != "preempted"), None)

    def _lost(self, a: Attempt) -> bool:
        """Its results were to be fetched, and nobody has them any more."""
        over = a.gone_at is not None and not a.kept and self.version is None and not self.discarded
        return over and a.sealed is not None and self._worth(a.sealed)

    def _worth(self, s: Sealed) -> bool:
        return s.count > 0 or (s.exit_code == 0 and self.plan.job.output is None)

    @property
    def started_at(self) -> datetime | None:
        return next((a.started_at for a in self.attempts if a.started_at), None)

    @property
    def worth(self) -> bool:
        """The sealed output is something to keep. A command that promised OUT and left none made nothing."""
        s = self.sealed
        return s is not None and self._worth(s)

    @property
    def wants_pull(self) -> bool:
        """Sealed results exist that are not a version here yet, or perhaps do on a machine that sleeps."""
        a = self.attempt
        asleep = a is not None and a.asleep and self.unseen(a)
        return (self.worth or asleep) and self.version is None and not self.discarded

    def unseen(self, a: Attempt) -> bool:
        """Its trainer may have begun, and nobody knows how it ended: results may lie there."""
        known = not (a.start_asked or a.started_at) or a.sealed is not None or a.searched
        return not known and self.version is None and not self.discarded

    def spent(self, now: datetime) -> Decimal:
        """What all attempts cost until now, by their own rates."""
        return sum((a.cost(now) for a in self.attempts), Decimal(0))

    def could_cost(self, max_time_s: int, now: datetime) -> Decimal:
        """All of it in the end, should its trainer be given that much time."""
        a = self.attempt
        if a is None or not (a.open and self.plan.choices[a.choice].offer.bills):
            return self.spent(now)
        until_d = guard.spent(a.usd_per_hour, now, a.d, 1)
        more = a.usd_per_hour * (max_time_s - self.max_time_s) / 3600
        return self.spent(now) + until_d + more

    @property
    def billed(self) -> Decimal | None:
        """What the providers' own books say of it, as far as they were asked and answered."""
        told = [a.billed_usd for a in self.attempts if a.billed_usd is not None]
        return sum(told, Decimal(0)) if told else None

    @property
    def counted(self) -> Decimal:
        """What was counted here of the very same machines, when the books were asked."""
        return sum((a.counted_usd for a in self.attempts if a.billed_usd is not None), Decimal(0))

    def spent_besides(self, a: Attempt, now: datetime) -> Decimal:
        """What all attempts but this one cost."""
        return replace(self, attempts=tuple(other for other in self.attempts if other.n != a.n)).spent(now)


def fold(plan: Plan, facts: list[Fact] | tuple[Fact, ...]) -> RunState:
    state = RunState(plan=plan, max_time_s=plan.limits.max_time_s, max_cost=plan.limits.max_cost)
    for fact in facts:
        state = apply(state, fact)
    return state


def apply(state: RunState, fact: Fact) -> RunState:
    """One fact more."""
    d = fact.data
    if fact.kind == "create-asked":
        return replace(state, attempts=(*state.attempts, _asked(fact)))
    if "attempt" in d and fact.kind in CHANGES:
        state = _settled(state, fact) if fact.kind in ("woken", "gone") else state
        return _with_attempt(state, d["attempt"], **CHANGES[fact.kind](fact))
    if fact.kind in _RUN_FACTS:
        return replace(state, **_RUN_FACTS[fact.kind](state, fact))
    return state


def _asked(fact: Fact) -> Attempt:
    d = fact.data
    return Attempt(
        n=d["attempt"],
        token=d["token"],
        choice=d["choice"],
        asked_at=fact.at,
        ends_at=parse_iso(d["ends_at"]),
        usd_per_hour=Decimal(d["usd_per_hour"]),
    )


def _with_attempt(state: RunState, n: int, **changes: Any) -> RunState:
    attempts = tuple(a.told(**changes) if a.n == n else a for a in state.attempts)
    return replace(state, attempts=attempts)


def _settled(state: RunState, fact: Fact) -> RunState:
    """Whatever becomes of a machine that sleeps, its storage until then is paid for."""
    n = fact.data["attempt"]
    attempts = (a.settled(fact.at) if a.n == n and a.asleep else a for a in state.attempts)
    return replace(state, attempts=tuple(attempts))


def _with_checkpoint(state: RunState, d: Mapping[str, Any]) -> tuple[Checkpoint, ...]:
    """The newest is fetched first, so the order of facts is not the order of checkpoints."""
    fresh = Checkpoint(d["name"], d["digest"], (d.get("attempt", 0), d.get("written", 0.0)))
    return tuple(
        sorted((*(c for c in state.checkpoints if c.name != fresh.name), fresh), key=lambda c: c.age)
    )


# What each fact about the run changes in it.
_RUN_FACTS: dict[str, Callable[[RunState, Fact], dict[str, Any]]] = {
    "engine": lambda s, f: {"engines": s.engines + 1, "halted": None},
    "halted": lambda s, f: {"halted": Halt(f.data["code"], f.data["why"], f.data["exit"])},
    "stop": lambda s, f: {"stop": StopWish(f.data["id"], bool(f.data["now"]))},
    "answered": lambda s, f: {"answered": s.answered | {f.data["id"]}},
    "extended": lambda s, f: {
        "extended": s.extended | {f.data.get("id", "")},
        "max_time_s": f.data["max_time_s"],
        "max_cost": Decimal(f.data["max_cost"]) if f.data["max_cost"] is not None else None,
    },
    "checkpoint": lambda s, f: {"checkpoints": _with_checkpoint(s, f.data)},
    "versioned": lambda s, f: {
        "version": f.data["version"],
        "version_path": f.data["path"],
        "pull_failed": None,
    },
    "pull-failed": lambda s, f: {"pull_failed": f.data["message"]},
    "pull-asked": lambda s, f: {"pull_failed": None},
    "discarded": lambda s, f: {"discarded": True},
    "ended": lambda s, f: {"ended": State(f.data["state"])},
    "reopened": lambda s, f: {
        "ended": None,
        "stop": None,
        "discarded": False,
        "version": None,
        "version_path": None,
        "floor": len(s.attempts),
    },
}


# --- what next ---------------------------------------------------------------------------------


def next_step(state: RunState) -> Step | None:
    """None = nothing more to do for this run, now or ever, unless a person asks."""
    if state.ended is not None or state.halted is not None:
        return None
    a = state.attempt
    if a is not None and (a.open or (a.kept and (not state.wants_pull or state.stop_now))):
        return _next_of_attempt(state, a)
    if state.wants_pull:  # the machine is gone, its output outlived it
        if state.pull_failed is not None:
            return None
        return Step.CONNECT if a is not None and a.asleep else Step.PULL
    return Step.PROVISION if may_try_again(state) else None


def _next_of_attempt(state: RunState, a: Attempt) -> Step | None:
    if a.over is not None or a.receipt_at is not None or a.kept or state.stop_now:
        return Step.RELEASE
    if a.sealed is not None:
        if not state.worth:
            return Step.RELEASE
        if a.boot is None:  # woken, or started again by others: it is to be met anew before it is read
            return Step.CONNECT if state.wants_pull else Step.RELEASE
        # A version without a receipt (we died in between) goes through PULL again: it only sends the receipt.
        return Step.PULL if state.pull_failed is None else _after_failed_pull(state, a)
    if a.woken:
        return Step.CONNECT if a.boot is None else Step.WATCH
    if not a.under_way and state.stop is not None:
        return Step.RELEASE
    if a.instance is None:
        return Step.PROVISION
    if a.boot is None:
        return Step.CONNECT
    if a.pushed is None:
        return Step.PUSH
    return Step.WATCH if a.under_way else Step.START


def _after_failed_pull(state: RunState, a: Attempt) -> Step | None:
    """Output outlives a free target's end. A paid machine is left to its agent, which holds the output for
    `hold` and then stops the machine: ending it here would lose what could not be fetched. It is watched."""
    return Step.WATCH if state.plan.choices[a.choice].offer.bills and not a.woken else Step.RELEASE


def may_try_again(state: RunState) -> bool:
    """Whether another machine is to be asked for: wanted, allowed, and something is left to try."""
    attempts = state.attempts[state.floor :]
    if state.stop is not None or state.sealed is not None:
        return False
    if any(_is_for_a_person(state, a) for a in attempts):
        return False
    tried = sum(a.instance is not None for a in attempts)
    in_vain = sum(a.instance is None and not a.blame for a in attempts)
    if tried >= state.plan.limits.max_attempts or in_vain >= MOST_IN_VAIN:
        return False
    return next_choice(state) is not None


def _is_for_a_person(state: RunState, a: Attempt) -> bool:
    """What the user has to bring (a secret, an input that is gone) is missing wherever the next one is. And a
    host of the user's own that showed another key is not passed over: somebody may stand in between."""
    own_host = not state.plan.choices[a.choice].offer.bills
    return a.fault == USERS or (a.fault == KeyChanged.__name__ and own_host)


def next_choice(state: RunState) -> int | None:
    """The first offer, in the plan's order, that has not itself been at fault, nor its whole target."""
    attempts, choices = state.attempts[state.floor :], state.plan.choices
    bad = {a.choice for a in attempts if a.blame}
    closed = {choices[a.choice].offer.target for a in attempts if a.everywhere}
    return next((i for i, c in enumerate(choices) if i not in bad and c.offer.target not in closed), None)


# --- what a person is told -----------------------------------------------------------------------


def outcome(state: RunState) -> State:
    """How the run ended, once nothing more is to be done."""
    sealed = state.sealed
    if state.discarded:
        return State.STOPPED
    if sealed is None:
        if state.stop is not None:
            return State.STOPPED
        last = state.attempts[-1].over if state.attempts else None
        return State.LIMIT if last in ("deadline", "budget") else State.FAILED
    if sealed.why in ("limit", "idle", "deadline"):
        return State.LIMIT
    if sealed.why == "stop":
        return State.STOPPED
    return State.DONE if sealed.exit_code == 0 and state.worth else State.FAILED


def exit_status(state: RunState, shown: State) -> Exit:
    """The status of `run` and `resume` for a run that is shown as `shown`."""
    if shown is State.MAYBE_BILLING:
        return Exit.MAYBE_BILLING
    if shown in (State.LIMIT, State.STOPPED):
        return Exit.LIMIT
    if shown is State.DONE:
        return Exit.DONE
    if shown in (State.INTERRUPTED, State.WAITING) and state.halted is not None:
        return Exit(state.halted.exit)
    if shown is State.FAILED and state.sealed is None:
        told = state.attempts[-1].status if state.attempts else None
        if told is not None:
            return Exit(told)
        return Exit.NO_OFFER if all(a.instance is None for a in state.attempts) else Exit.PROVIDER
    return Exit.TRAINER if shown is State.FAILED else Exit.PROVIDER


def shown(state: RunState, *, engine_alive: bool, now: datetime) -> State:
    """One word for a person. What may still bill beats everything else."""
    a = state.attempt
    if a is not None and _unconfirmed(state, a, now):
        return State.MAYBE_BILLING
    if state.wants_pull and not engine_alive:
        return State.WAITING
    if state.ended is not None:
        return state.ended
    if not engine_alive:
        return State.INTERRUPTED if state.engines else State.PLANNED
    if a is None:
        return State.RENTING if state.engines else State.PLANNED
    if state.wants_pull:
        return State.PULLING
    if a.instance is None or (not a.open and may_try_again(state)):
        return State.RENTING
    if a.sealed is not None:
        return State.PULLING
    return State.RUNNING if a.under_way else State.PREPARING


def _unconfirmed(state: RunState, a: Attempt, now: datetime) -> bool:
    """A proof of its end could be had a minute ago, or nobody looks for one, and its meter may run: of one
    that sleeps and is given up, its disk's. Or it was asked for, and nobody could look what came of that."""
    if not state.plan.choices[a.choice].offer.bills:
        return False
    if a.end_asked_at is None:  # whether it was made was not to be seen
        return a.open and a.instance is None and state.halted is not None
    if a.gone_at is not None and not (a.asleep and a.end_asked_at > a.gone_at):
        return False
    return state.halted is not None or (now - (a.proof_at or a.end_asked_at)).total_seconds() > 60
