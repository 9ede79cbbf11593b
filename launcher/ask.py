"""What a decision is made from and what it comes to: records of the words ask, target, way, decision.

Pure. Whoever gathers an Ask reads settings, recipes, offers and past runs; whoever answers it reads nothing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from launcher.errors import LauncherError
from launcher.estimate import Past
from launcher.models import Choice, Job, Need, Offer, Plan, Range, Refusal, Runtime
from launcher.values import written_duration


@dataclass(frozen=True)
class Wishes:
    """The limits as the user said them; None = not said."""

    max_time_s: int | None = None
    max_cost: Decimal | None = None
    boot_limit_s: int = 900
    ready_within_s: int = 600
    hold_s: int = 1800
    keep_s: int = 0
    idle_s: int | None = None
    checkpoint_every_s: int = 300
    max_attempts: int = 3


@dataclass(frozen=True)
class Way:
    """One offer with how the software would get onto it."""

    offer: Offer
    runtime: Runtime
    overrun_s: int = 5
    billing_step_s: int = 1


@dataclass(frozen=True)
class Target:
    """What stands behind one word of --on."""

    name: str
    ways: tuple[Way, ...]
    refused: tuple[Refusal, ...] = ()
    bills: bool = False
    here: bool = False  # this machine itself
    runnable: bool = True  # this build can carry a run out there
    keeps_output: bool = True  # output outlives the machine's end until it is pulled
    fault: LauncherError | None = None  # it was asked and could not answer
    layers: tuple[str, ...] = ()  # who ends its machines, each without the ones before
    no_bids: str = ""  # what is said to whoever took a highest price for a bid
    instead: tuple[Offer, ...] = ()  # as large, within the highest price, where what is asked for is not

    @property
    def ready(self) -> bool:
        """Whether what it has may be tried; else it is shown, and `fault` or the build is why not."""
        return self.runnable and self.fault is None


@dataclass(frozen=True)
class Ask:
    """Everything a decision is made from."""

    run: str
    label: str
    trainer: str | None  # None = a project of the user's own
    project: str
    job: Job
    need: Need
    offered: tuple[Target, ...]
    targets: tuple[str, ...] = ()  # in the user's order; empty = this machine
    wishes: Wishes = Wishes()
    bounds: tuple[tuple[str, Range], ...] = ()  # the recipe's hours per GPU, "gpu" or "cpu"
    bound_s: int | None = None  # the recipe's bound for T
    pasts: tuple[Past, ...] = ()
    yes: bool = False
    allow_cpu: bool = False
    version: str | None = None
    profile: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    code: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        return words(self.trainer, self.project, self.job.output)

    @property
    def tail(self) -> str:
        return tail(self.trainer, self.job.argv, self.wishes)

    @property
    def command(self) -> str:
        """The same without a limit."""
        return tail(self.trainer, self.job.argv, Wishes())


def tail(trainer: str | None, argv: tuple[str, ...], wishes: Wishes) -> str:
    """What stands last in a line to paste: for a project of the user's own a limit, and its command."""
    if trainer is not None:
        return ""
    limit = f" --max-cost {wishes.max_cost}" if wishes.max_cost is not None else ""
    if wishes.max_time_s is not None:
        limit += f" --max-time {written_duration(wishes.max_time_s)}"
    return f"{limit} -- {shlex.join(argv)}"


def words(trainer: str | None, project: str, output: str | None) -> str:
    """What runs and what it leaves, to paste after `run` or `plan`; names with spaces or signs are quoted."""
    leaves = f" --output {_quoted(output)}" if output is not None else ""
    return trainer or f"--project {_quoted(project)}{leaves}"


def _quoted(folder: str) -> str:
    simple = re.fullmatch(r"[\w./+-]+", folder)
    return folder if simple else "'" + folder.replace("'", "'\\''") + "'"


@dataclass(frozen=True)
class Decision:
    """`plan` holds exactly what would be tried; `others` are for comparison. With a `problem` nothing can
    be run although prices can be shown."""

    plan: Plan
    others: tuple[Choice, ...] = ()
    ends_by: datetime | None = None
    problem: LauncherError | None = None
    notes: tuple[tuple[str, str], ...] = ()  # what a person should know of the targets, by what it is about
    warnings: tuple[str, ...] = ()
    paid: bool = False  # a target that would be tried, or that cannot be, costs money

    def require(self) -> Plan:
        """The plan to carry out."""
        if self.problem is not None:
            raise self.problem
        return self.plan
