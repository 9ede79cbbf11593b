"""Runs as the steps write them down, for tests of the fold, and the maker of the kept journals beside it.

`python -m tests.unit.journals.stories FOLDER` writes each story as `v<schema>-<story>.jsonl` with what it
folds to. What is kept beside this file was written once and is never written anew: a later launcher has
to read it as it is.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher import journal, runstate
from launcher.codec import dump
from launcher.files import Disk
from launcher.models import (
    Access,
    Choice,
    Consent,
    Estimate,
    Fact,
    Job,
    Json,
    Limits,
    Offer,
    Plan,
    Range,
    Runtime,
    RuntimeKind,
)

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SEAL = "5ea1" * 16


def offer(target: str, usd_per_hour: str) -> Offer:
    return Offer(
        id=target,
        target=target,
        provider=target,
        usd_per_hour=Decimal(usd_per_hour),
        price_source="a test",
        price_as_of=NOON,
        bills=usd_per_hour != "0",
    )


def choice(target: str, usd_per_hour: str) -> Choice:
    none = Range(Decimal(0), Decimal(0), Decimal(0))
    return Choice(
        offer(target, usd_per_hour),
        Runtime(RuntimeKind.ENV, None, "a test"),
        Estimate((), none, none, known=False),
    )


def plan(*choices: Choice, output: str | None = None, max_attempts: int = 3) -> Plan:
    return Plan(
        run="quickstart-abcd",
        label="quickstart",
        trainer="quickstart",
        project="project",
        created_at=NOON,
        job=Job(argv=("python", "-m", "trainers.quickstart"), folder="project", output=output),
        limits=Limits(max_time_s=3600, salvage_s=360, max_cost=Decimal(2), max_attempts=max_attempts),
        choices=choices or (choice("local", "0"), choice("rented", "0.69")),
        consent=Consent(Decimal(2), NOON, "yes"),
    )


class Story:
    """Facts in order, ten seconds apart."""

    def __init__(self, of: Plan) -> None:
        self.plan = of
        self.facts: list[Fact] = []

    def __call__(self, kind: str, **data: Any) -> Story:
        self.facts.append(Fact(kind, self.now, dump(data)))
        return self

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=10 * len(self.facts))

    @property
    def state(self) -> runstate.RunState:
        return runstate.fold(self.plan, self.facts)

    def asked(self, n: int = 1, index: int = 0) -> Story:
        rate = self.plan.choices[index].offer.usd_per_hour
        ends_at = self.now + timedelta(seconds=4860)
        return self(
            "create-asked", attempt=n, token=f"{n:032x}", choice=index, ends_at=ends_at, usd_per_hour=rate
        )

    def created(self, n: int = 1, index: int = 0) -> Story:
        rate = self.asked(n, index).plan.choices[index].offer.usd_per_hour
        return self("created", attempt=n, instance=f"i-{n}", usd_per_hour=rate, access=None)

    def connected(self, n: int = 1) -> Story:
        access = Access("process", "spool", "spool")
        return self("connected", attempt=n, boot="b1", access=access, layers=["agent"])

    def started(self, n: int = 1, index: int = 0) -> Story:
        self.created(n, index).connected(n)("pushed", attempt=n, digest="d1", files=3, size=99)
        return self("started", attempt=n, deadline=self.now + timedelta(seconds=3960), pid=7, begun=self.now)

    def sealed(self, n: int = 1, exit_code: int | None = 0, why: str | None = None, count: int = 2) -> Story:
        seal: Json = {"digest": SEAL, "count": count, "size": 10, "signal": None, "refused": None}
        return self("sealed", attempt=n, exit_code=exit_code, why=why, **seal)

    def versioned(self) -> Story:
        return self("versioned", version="20260304_120000_quickstart", path="models/20260304_120000")

    def released(self, n: int = 1, kept: bool = False) -> Story:
        return self("end-asked", attempt=n)("gone", attempt=n, evidence="twice not listed", kept=kept)


def begin(of: Plan | None = None) -> Story:
    return Story(of or plan())("engine", pid=41, version="0.1.0")


def happy() -> Story:
    s = begin().started()("checkpoint", name="step-10", digest="c1", size=5)
    s("checkpoint", name="step-20", digest="c2", size=5)("checkpoint", name="step-10", digest="c3", size=5)
    return s.sealed().versioned()("receipt", attempt=1).released()("ended", state="done")


def stopped() -> Story:
    s = begin().started()("stop", id="r1", now=False)("answered", id="r1", verb="stop", outcome="done")
    return s.sealed(why="stop").versioned()("receipt", attempt=1).released()("ended", state="stopped")


def lost_and_retried() -> Story:
    s = begin().asked()("not-created", attempt=1, reason="no room", blame=True, exit=4, code="NoCapacity")
    s.started(2, 1)("checkpoint", name="step-10", digest="c1", size=5)
    s("over", attempt=2, why="the machine was lost", blame=False).released(2)
    s("engine", pid=42, version="0.1.0").started(3, 1)("rebooted", attempt=3).connected(3)
    s("extended", id="r2", max_time_s=7200, max_cost="3.50")
    s("answered", id="r2", verb="extend", outcome="done")
    s("deadline", attempt=3, deadline=s.now + timedelta(seconds=7560))
    return s


def waiting() -> Story:
    """The disk here was full: what the machine made waits in its place."""
    return begin().started().sealed()("pull-failed", message="No space left on device").released(kept=True)


STORIES = {"happy": happy, "stopped": stopped, "lost-and-retried": lost_and_retried, "waiting": waiting}


def told(state: runstate.RunState, now: datetime) -> Json:
    """All that is known and decided from a journal, as it is kept."""
    here = runstate.shown(state, engine_alive=False, now=now)
    step = runstate.next_step(state)
    return {
        "state": {name: value for name, value in dump(state).items() if name != "plan"},
        "next_step": step.value if step is not None else None,
        "shown": here.value,
        "exit": int(runstate.exit_status(state, here)),
        "spent": str(state.spent(now)),
        "now": dump(now),
    }


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, story in STORIES.items():
        s = story()
        stem = f"v{journal.SCHEMA}-{name}"
        book = journal.Journal(Disk(), folder / f"{stem}.jsonl")
        for fact in s.facts:
            book.append(fact.kind, fact.at, **fact.data)
        kept = {"plan": dump(s.plan), "told": told(s.state, s.now)}
        (folder / f"{stem}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
