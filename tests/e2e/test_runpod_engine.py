"""The real engine and a pod of the emulated Runpod in a container: rented, pinned, trained, pulled, gone."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from launcher import agentpack, codec, driver, engine, pushset, runstate
from launcher.files import Disk
from launcher.journal import Journal
from launcher.models import Choice, Consent, Job, Limits, Need, Plan, Runtime, RuntimeKind, State
from launcher.providers.base import Provider
from launcher.providers.wrap import Wrapped
from launcher.remote import open_host
from launcher.ssh import keys
from launcher.store import RunFolder, Versions
from launcher.world import Parts, World
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.emulators.runpod.faults import Fault, How
from tests.emulators.runpod.pods import Pod, Status
from tests.unit.journals import stories

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

TRAIN = """
import os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text("trained as " + str(os.getuid()))
print("keys seen:", sorted(k for k in os.environ if "API_KEY" in k), flush=True)
"""
NO_GPU = "There are not enough free GPUs on the host machine to start this pod."
NEED = Need(gpus=("RTX 4090",))


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with with_pods() as one:
        yield one


def world(emulation: Emulation, folder: Path, hold_s: int = 1800) -> World:
    project = folder / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAIN)
    provider = emulation.provider()
    [offer] = provider.offers(NEED)
    runtime = Runtime(RuntimeKind.IMAGE, None, "a test", image="any/image:1")
    clock, now = driver.RealClock(), datetime.now(UTC)
    likely = stories.choice("runpod", "0.69").estimate
    plan = Plan(
        run="engine-abcd",
        label="engine",
        trainer=None,
        project=str(project),
        created_at=now,
        job=Job(("python3", "train.py"), str(project)),
        limits=Limits(
            max_time_s=60, salvage_s=20, boot_limit_s=60, ready_within_s=60, max_attempts=1, hold_s=hold_s
        ),
        choices=(Choice(offer, runtime, likely),),
        consent=Consent(Decimal(1), now, "yes"),
        need=NEED,
    )
    run = RunFolder(folder / "run")
    run.root.mkdir()
    run.plan.write_text(json.dumps(codec.dump(plan)))
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
        token=lambda: "f" * 32,
        parts=Parts(agentpack.agent_bytes(), agentpack.boot_guard()),
        owner="tests",
        envs=str(folder / "envs"),
        watched=lambda: True,
        run_key=lambda: keys.pair(run.keys),
    )


def done(emulation: Emulation, w: World) -> list[str]:
    """The run went well, and nothing of it bills or is told where it should not be."""
    state = engine.drive(w, {"pid": 1})
    facts = [fact.kind for fact in w.journal.facts]
    assert state.ended is State.DONE, [(f.kind, f.data) for f in w.journal.facts]
    assert facts.index("pinned") < facts.index("connected") < facts.index("started") < facts.index("gone")
    assert state.version_path is not None
    assert (Path(state.version_path) / "model.txt").read_text() == "trained as 0"
    assert "keys seen: []" in w.attempt_folder(state.attempts[-1]).log.read_text()
    assert emulation.cloud.ledger.billing() == []
    assert emulation.cloud.ledger.most_at_once() == 1
    assert emulation.front.offences == []
    private = Path(w.run_key()[0]).read_text()
    assert not any(line in emulation.stored() for line in private.splitlines() if len(line) > 40)
    return facts


def test_from_create_to_gone(emulation: Emulation, tmp_path: Path) -> None:
    facts = done(emulation, world(emulation, tmp_path))
    assert facts.count("create-asked") == facts.count("pinned") == 1


@pytest.mark.parametrize(
    ("operation", "fault", "times"),
    [
        ("create", Fault(How.DROPPED, after=True), 1),
        ("create", Fault(How.STATUS, 500, after=True), 1),
        ("create", Fault(How.TRUNCATED, after=True), 1),
        ("logs", Fault(How.STATUS, 503), 4),
        ("get", Fault(How.HTML, 502), 4),
        ("delete", Fault(How.STATUS, 500), 2),
    ],
    ids=lambda value: getattr(value, "how", value),
)
def test_a_fault_on_the_way_costs_no_second_pod(
    emulation: Emulation, tmp_path: Path, operation: str, fault: Fault, times: int
) -> None:
    w = world(emulation, tmp_path)
    emulation.cloud.faults.add(operation, fault, times)
    done(emulation, w)
    assert len(emulation.cloud.pods) == 1


class Killed(BaseException):
    """kill -9: nothing of the engine may see to it."""


def killed() -> bool:
    raise Killed


def status(pod: Pod) -> Status:
    return pod.status


def stopped_by_itself(emulation: Emulation, w: World) -> Pod:
    """Nobody here is told. It is over once nobody listens there any more."""
    [pod] = emulation.cloud.pods.values()
    until = time.monotonic() + 60
    while status(pod) is not Status.EXITED and time.monotonic() < until:
        time.sleep(0.2)
    assert status(pod) is Status.EXITED
    [fact] = (fact for fact in Journal(w.files, w.folder.journal).facts if fact.kind == "connected")
    way = fact.data["access"]["route"]
    with suppress(OSError):
        while time.monotonic() < until:
            socket.create_connection((way["address"], way["port"]), timeout=2).close()
            time.sleep(0.2)
    return pod


def test_results_that_nobody_fetched_wait_on_a_stopped_pod_and_are_fetched_from_it(
    emulation: Emulation, tmp_path: Path
) -> None:
    w = world(emulation, tmp_path, hold_s=2)
    with pytest.raises(Killed):
        engine.drive(replace(w, watched=killed), {"pid": 1})
    pod = stopped_by_itself(emulation, w)
    assert emulation.cloud.ledger.billing_a_gpu() == []
    again = replace(w, hosts={}, memory={})
    facts = done(emulation, again)
    assert facts.count("woken") == 1 and facts.index("woken") < facts.index("versioned")
    stored = [f.data for f in again.journal.facts if f.kind == "gone" and f.data.get("asleep")]
    assert len(stored) == 1 and Decimal(stored[0]["storage_usd_per_hour"]) > 0
    assert status(pod) is Status.TERMINATED


def test_a_pod_that_cannot_be_started_again_waits_until_it_can(emulation: Emulation, tmp_path: Path) -> None:
    w = world(emulation, tmp_path, hold_s=2)
    with pytest.raises(Killed):
        engine.drive(replace(w, watched=killed), {"pid": 1})
    pod = stopped_by_itself(emulation, w)
    emulation.cloud.faults.add("start", Fault(How.STATUS, 400, NO_GPU), 1)
    waiting = engine.drive(replace(w, hosts={}, memory={}), {"pid": 2})
    assert waiting.ended is None and waiting.wants_pull and "free" in (waiting.pull_failed or "")
    assert runstate.shown(waiting, engine_alive=False, now=datetime.now(UTC)) is State.WAITING
    assert status(pod) is Status.EXITED
    w.folder.requests.mkdir(exist_ok=True)
    (w.folder.requests / "r1.json").write_text('{"verb": "pull"}')
    done(emulation, replace(w, hosts={}, memory={}))
    assert status(pod) is Status.TERMINATED


def test_a_restart_before_it_is_reached_is_another_key_and_the_same_run(
    emulation: Emulation, tmp_path: Path
) -> None:
    """The old port is told for a while, and the old key is what the console says at first."""
    w = world(emulation, tmp_path)
    emulation.cloud.conditions.ports_stale_s = 2
    emulation.cloud.conditions.ports_late_s = 1
    provider = w.provider(0)
    restarted: list[str] = []

    class Restarting:
        """The pod restarts as soon as it is believed, before the first byte."""

        def __getattr__(self, name: str) -> Any:
            if not restarted and w.state.attempt is not None and w.state.attempt.pinned is not None:
                [pod] = emulation.cloud.pods.values()
                with emulation.cloud.lock:
                    emulation.cloud.act(pod, "restart")
                restarted.append(pod.id)
            return getattr(provider, name)

    w.provider = lambda choice: cast(Provider, Restarting())
    facts = done(emulation, w)
    assert restarted and facts.count("pinned") >= 2
