"""The real engine and a pod of the emulated Runpod in a container: rented, pinned, trained, pulled, gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from launcher import engine, runstate
from launcher.journal import Journal
from launcher.models import State
from launcher.providers.base import Provider
from launcher.world import World
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.emulators.runpod.faults import Fault, How
from tests.emulators.runpod.pods import Pod, Status
from tests.engines import rented
from tests.engines.rented import LIMITS, NEED, Wish, drive, once, told

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

TRAIN = """
import os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text("trained as " + str(os.getuid()))
print("keys seen:", sorted(k for k in os.environ if "API_KEY" in k), flush=True)
"""
NO_GPU = "There are not enough free GPUs on the host machine to start this pod."
SLOW = """
import os, pathlib, time
print("begins; keys seen: []", flush=True)
time.sleep(9)
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text("trained as 0")
"""
# Until it finds a checkpoint it waits for whoever takes its machine away.
GOES_ON = """
import os, pathlib, time
kept = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT"]) / "step-1"
print("keys seen:", sorted(k for k in os.environ if "API_KEY" in k), flush=True)
if not kept.is_dir():
    kept.mkdir(parents=True)
    (kept / "state").write_text("half")
    (kept / "complete").touch()
    time.sleep(600)
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text(
    f"trained as {os.getuid()} from {(kept / 'state').read_text()}"
)
"""


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with with_pods() as one:
        yield one


def world(emulation: Emulation, folder: Path, hold_s: int = 1800, **more: Any) -> World:
    limits = replace(LIMITS, hold_s=hold_s, checkpoint_every_s=1)
    return rented.world(emulation, folder, Wish(**{"train": TRAIN, "limits": limits, **more}))


def done(emulation: Emulation, w: World) -> list[str]:
    """The run went well, and nothing of it bills or is told where it should not be."""
    state = drive(w)
    facts = [fact.kind for fact in w.journal.facts]
    assert state.ended is State.DONE, [(f.kind, f.data) for f in w.journal.facts]
    assert facts.index("pinned") < facts.index("connected") < facts.index("started") < facts.index("gone")
    assert state.version_path is not None
    made = (Path(state.version_path) / "model.txt").read_text()
    assert made.startswith("trained as 0"), made
    assert "keys seen: []" in w.attempt_folder(state.attempts[-1]).log.read_text()
    assert state.billed is not None and state.billed < state.counted + Decimal("0.0001")
    assert emulation.cloud.ledger.billing() == []
    assert emulation.cloud.ledger.most_at_once() == 1
    private = Path(w.run_key()[0]).read_text()
    assert not any(line in emulation.stored() for line in private.splitlines() if len(line) > 40)
    return facts


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


def test_with_nobody_left_a_trainer_is_ended_by_the_pod_itself(emulation: Emulation, tmp_path: Path) -> None:
    """D is kept where the money runs, and what it made waits there."""
    limits = replace(LIMITS, max_time_s=2, salvage_s=2, checkpoint_every_s=1)
    w = world(emulation, tmp_path, train=GOES_ON, limits=limits)
    with pytest.raises(Killed):
        engine.drive(replace(w, watched=killed), {"pid": 1})
    until = datetime.fromisoformat(told(w, "started")[0]["deadline"]) + timedelta(seconds=60)
    stopped_by_itself(emulation, w)
    assert emulation.cloud.ledger.billing_a_gpu() == [] and datetime.now(UTC) < until
    state = drive(replace(w, hosts={}, memory={}))
    assert state.ended is State.LIMIT and [c.name for c in state.checkpoints] == ["step-1"]
    assert emulation.cloud.ledger.billing() == []


# --- the machine goes while it trains ----------------------------------------------------------------


def struck(emulation: Emulation, w: World, strike: Callable[[Pod], None]) -> None:
    """As soon as a checkpoint is here, once."""

    def now() -> None:
        with emulation.cloud.lock:
            strike(next(p for p in emulation.cloud.pods.values() if p.alive))

    look = once(lambda: bool(w.state.checkpoints), now)
    w.heard = lambda _: look()


def interrupted(emulation: Emulation, folder: Path, attempts: int = 2) -> World:
    limits = replace(LIMITS, checkpoint_every_s=1, max_attempts=attempts)
    return world(emulation, folder, train=GOES_ON, limits=limits, need=replace(NEED, cloud="any"))


def came_back(w: World) -> str:
    return (Path(str(w.state.version_path)) / "model.txt").read_text()


def restart(emulation: Emulation, pod: Pod) -> None:
    emulation.cloud.act(pod, "restart")


def reboot(emulation: Emulation, pod: Pod) -> None:
    """Nobody is told: its container is gone, and the platform starts it again."""
    assert pod.machine is not None
    pod.machine.end(0)


def stop_for_good(emulation: Emulation, pod: Pod) -> None:
    """At once, and its GPU is somebody else's."""
    emulation.cloud.stop(pod, 0)
    emulation.cloud.faults.always("start", Fault(How.STATUS, 400, NO_GPU))


@pytest.mark.parametrize("strike", [restart, reboot], ids=["told to stop", "untold"])
def test_a_restart_in_the_middle_goes_on_where_it_stands_on_the_same_pod(
    emulation: Emulation, tmp_path: Path, strike: Callable[[Emulation, Pod], None]
) -> None:
    """The container's disk is wiped, its key and its port are others."""
    w = interrupted(emulation, tmp_path, attempts=1)
    struck(emulation, w, lambda pod: strike(emulation, pod))
    facts = done(emulation, w)
    assert facts.count("create-asked") == 1 and facts.count("started") == facts.count("connected") == 2
    [again] = told(w, "rebooted")
    assert again["was"] == told(w, "connected")[0]["boot"] != told(w, "connected")[1]["boot"]
    first, second = (data["access"]["address"] for data in told(w, "connected"))
    assert first != second and came_back(w) == "trained as 0 from half"


def test_another_boot_that_only_the_provider_tells_of_costs_no_second_start(
    emulation: Emulation, tmp_path: Path
) -> None:
    """Its trainer runs on: what began there is not begun again."""
    w = world(emulation, tmp_path, train=SLOW)

    def renamed() -> None:
        with emulation.cloud.lock:
            [pod] = emulation.cloud.pods.values()
            assert pod.up_since is not None
            pod.up_since += timedelta(seconds=1)

    look = once(lambda: bool(w.state.attempts[-1].under_way), renamed)
    w.heard = lambda _: look()
    done(emulation, w)
    assert len(told(w, "rebooted")) == 1
    assert w.attempt_folder(w.state.attempts[-1]).log.read_text().count("begins") == 1


def test_what_was_taken_away_and_cannot_be_started_is_gone_on_with_on_another_pod(
    emulation: Emulation, tmp_path: Path
) -> None:
    """From the last checkpoint that is here."""
    w = interrupted(emulation, tmp_path)
    struck(emulation, w, lambda pod: stop_for_good(emulation, pod))
    facts = done(emulation, w)
    assert facts.count("create-asked") == facts.count("started") == 2
    assert came_back(w) == "trained as 0 from half"
    pods = emulation.cloud.pods.values()
    assert [pod.status for pod in pods] == [Status.TERMINATED] * 2
    assert any(over.get("taken") for over in told(w, "over"))


def test_results_are_fetched_without_a_gpu_where_none_is_free(emulation: Emulation, tmp_path: Path) -> None:
    w = world(emulation, tmp_path, hold_s=2)
    with pytest.raises(Killed):
        engine.drive(replace(w, watched=killed), {"pid": 1})
    stopped_by_itself(emulation, w)
    emulation.cloud.faults.always("start", Fault(How.STATUS, 400, NO_GPU))
    emulation.cloud.conditions.zero_gpu = True
    gpu_s = emulation.cloud.ledger.gpu_seconds()
    done(emulation, replace(w, hosts={}, memory={}))
    assert emulation.cloud.ledger.gpu_seconds() == gpu_s
