"""A run of the real engine on the emulated Runpod, below the command line: its world, ready to be driven."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher import agentpack, codec, driver, engine, pushset
from launcher.files import Disk
from launcher.journal import Journal
from launcher.models import Choice, Consent, Fact, Job, Limits, Need, Plan, Runtime, RuntimeKind
from launcher.providers.wrap import Wrapped
from launcher.remote import open_host
from launcher.runstate import RunState
from launcher.ssh import keys
from launcher.store import RunFolder, Versions
from launcher.world import Parts, World
from tests.emulators.runpod.emulation import Emulation
from tests.unit.journals import stories

NEED = Need(gpus=("RTX 4090",))
IMAGE = "any/image:1"
LIMITS = Limits(max_time_s=60, salvage_s=20, boot_limit_s=60, ready_within_s=60, max_attempts=1)


@dataclass(frozen=True)
class Wish:
    """What a test wants otherwise."""

    need: Need = NEED
    limits: Limits = LIMITS
    train: str = "print('trained')"
    image: str = IMAGE
    key: str | None = None  # another one than the account's
    most_usd: str = "1"
    also: tuple[Choice, ...] = ()  # of other targets, tried last


def world(emulation: Emulation, folder: Path, wish: Wish) -> World:
    project = folder / "project"
    project.mkdir()
    (project / "train.py").write_text(wish.train)
    runtime = Runtime(RuntimeKind.IMAGE, None, "a test", image=wish.image)
    likely = stories.choice("runpod", "0.69").estimate
    choices = tuple(Choice(o, runtime, likely) for o in emulation.provider().offers(wish.need))
    now = datetime.now(UTC)
    plan = Plan(
        run="engine-abcd",
        label="engine",
        trainer=None,
        project=str(project),
        created_at=now,
        job=Job(("python3", "train.py"), str(project)),
        limits=wish.limits,
        choices=(*choices, *wish.also),
        consent=Consent(Decimal(wish.most_usd), now, "yes"),
        need=wish.need,
    )
    run = RunFolder(folder / "run")
    run.root.mkdir()
    run.plan.write_text(json.dumps(codec.dump(plan)))
    clock, provider = driver.RealClock(), emulation.provider(wish.key)
    return World(
        plan=plan,
        folder=run,
        versions=Versions(project),
        files=Disk(),
        clock=clock,
        provider=lambda choice: Wrapped(provider, clock, lambda verb, text: None),
        open_host=open_host,
        push_set=lambda: pushset.gather(plan.job),
        secrets=lambda refs: {},
        token=lambda: secrets.token_hex(16),
        parts=Parts(agentpack.agent_bytes(), agentpack.boot_guard()),
        owner="tests",
        envs=str(folder / "envs"),
        watched=lambda: True,
        run_key=lambda: keys.pair(run.keys),
    )


def drive(w: World) -> RunState:
    return engine.drive(w, {"pid": 1})


def facts(w: World, *kinds: str) -> list[Fact]:
    """As they lie on the disk: whichever engine wrote them."""
    written = Journal(w.files, w.folder.journal).facts
    return [fact for fact in written if not kinds or fact.kind in kinds]


def told(w: World, *kinds: str) -> list[dict[str, Any]]:
    return [fact.data for fact in facts(w, *kinds)]


def once(when: Callable[[], bool], do: Callable[[], None]) -> Callable[[], None]:
    """To be called again and again: does it as soon as it is time, and never again."""
    done: list[bool] = []

    def look() -> None:
        if not done and when():
            done.append(True)
            do()

    return look
