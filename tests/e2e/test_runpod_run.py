"""Runs on pods of an emulated Runpod by the installed command: each that meets one, and what is left."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.canaries import Canaries, watched
from tests.e2e.containers import undisturbed
from tests.e2e.hosted import result
from tests.e2e.person import until
from tests.e2e.renting import GPU, IMAGE, QUICK, RentingPerson, status
from tests.emulators.runpod.pods import Status

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return undisturbed(tmp_path_factory.mktemp("alone"))


def test_from_the_plan_to_the_card(renter: RentingPerson) -> None:
    """What was shown is what is rented, a version is here, and no secret is anywhere else."""
    renter.writes("train.py", QUICK)
    words = ("--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--max-cost", "1")
    plan = renter.types("plan", *words, "--max-time", "2m", "--json", "--", "python3", "train.py").json()
    offer = next(o for o in plan["offers"] if o["target"] == "runpod" and o["gpu"] == GPU)
    assert offer["usd_per_hour"] == pytest.approx(0.69 + 0.10 / 730 * 30, abs=1e-4)
    assert renter.pods() == []
    held = renter.root / "password"
    held.write_text("p4ssword-canary-6b1")
    canaries = Canaries(
        {"RUNPOD_API_KEY": renter.cloud.key, "MY_TOKEN": "t0ken-canary-77c"}, held, held.read_text()
    )
    flags = ("--max-time", "2m", "--name", "card", "--yes", "--secret", "TOKEN=env:MY_TOKEN")
    with watched(canaries, renter.run_folder("card")):
        done = renter.types("run", *words, *flags, "--", "python3", "train.py", MY_TOKEN="t0ken-canary-77c")
    assert done.code == 0, done.stderr
    assert "keys seen: []" in done.stdout
    [pod] = renter.pods()
    assert float(pod.usd_per_hour) == pytest.approx(0.69)
    shown = renter.types("status", "card", "--json").json()
    [model] = renter.types("models", "--json").json()
    assert (model["run"], model["verified"], model["latest"]) == ("card", True, True)
    folder = renter.project / "models" / model["version"]
    assert (folder / "token").read_text() == hashlib.sha256(b"t0ken-canary-77c").hexdigest()
    assert float((folder / "rate").read_text()) == pytest.approx(offer["usd_per_hour"], abs=1e-4)
    assert shown["state"] == "done" and 0 < shown["usd"] < 0.05
    assert "t0ken-canary-77c" not in renter.emulation.stored()
    renter.owes_nothing()


def test_whoever_looks_at_a_run_sees_where_it_is_and_what_it_costs(renter: RentingPerson, chain: str) -> None:
    pod = renter.steps("seen")
    row = renter.ps()["seen"]
    assert (row["state"], row["target"], row["instance"]) == ("running", "runpod", pod.id)
    assert row["usd_per_hour"] == pytest.approx(0.694, abs=0.001)
    assert row["deadline"] is not None
    page = renter.types("status", "seen", "--json").json()
    assert page["guard"]["armed"] and page["guard"]["deadline"] == row["deadline"]
    assert "in use: runpod instance" in renter.types("doctor").stdout
    logs = renter.begins("logs", "seen", "-f")
    watch = renter.begins("watch", "seen")
    extended = renter.types("extend", "seen", "--by", "1m", "--json")
    assert extended.code == 0, extended.stderr
    until(lambda: renter.ps()["seen"]["deadline"] > row["deadline"], "the later end")
    until(lambda: sees_gpu(renter), "the pod's GPU is seen")
    renter.lets_go(pod)
    assert "step 12" in logs.communicate(timeout=60)[0]
    said, _ = watch.communicate(timeout=60)
    assert watch.returncode == 0 and "step 12" in said
    [model] = renter.types("models", "--json").json()
    assert result(str(renter.project / "models" / model["version"])) == (chain, 0)
    renter.owes_nothing()


def sees_gpu(renter: RentingPerson) -> bool:
    return bool(renter.types("status", "seen", "--json").json()["telemetry"].get("gpu"))


def test_a_stop_keeps_the_checkpoint_and_resume_goes_on_on_another_pod(
    renter: RentingPerson, chain: str
) -> None:
    renter.steps("halted")
    stopped = renter.types("stop", "halted", "--json", timeout=60)
    assert stopped.code == 0, stopped.stderr
    assert renter.state("halted") == "stopped"
    renter.owes_nothing()
    done = renter.types("resume", "halted", "--json", timeout=90)
    assert done.code == 0, done.stderr
    assert result(done.json()["artifacts"]) == (chain, 3)
    assert len(renter.pods()) == 2
    renter.owes_nothing()


def test_a_stop_that_cannot_wait_ends_the_pod_at_once(renter: RentingPerson) -> None:
    pod = renter.steps("dropped")
    began = time.monotonic()
    assert renter.types("stop", "dropped", "--now", "--json", timeout=60).code == 0
    print(f"stop --now: {time.monotonic() - began:.1f} s")
    assert status(pod) is Status.TERMINATED
    renter.owes_nothing()


def test_whoever_leaves_before_it_trains_owes_nothing(renter: RentingPerson) -> None:
    """The pod is on its way: it was asked for, and is not there yet."""
    renter.writes("train.py", QUICK)
    renter.cloud.conditions.provision_s = 60
    try:
        words = ("run", "--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--yes")
        run = renter.begins(*words, "--max-cost", "1", "--name", "undone", "--", "python3", "train.py")
        renter.waits_for("undone", "created")
        run.send_signal(signal.SIGINT)
        said = "".join(run.communicate(timeout=60))
    finally:
        renter.cloud.conditions.provision_s = 0
    assert renter.state("undone") == "stopped", said
    assert [status(pod) for pod in renter.pods()] == [Status.TERMINATED]
    renter.owes_nothing()


def test_a_run_whose_engine_died_is_resumed_on_the_same_pod(renter: RentingPerson, chain: str) -> None:
    pod = renter.steps("orphan")
    renter.kills_engine("orphan")
    assert renter.state("orphan") == "interrupted"
    renter.lets_go(pod)
    done = renter.types("resume", "orphan", "--json", timeout=90)
    assert (done.code, done.json()["instance"]) == (0, pod.id), done.stderr
    assert result(done.json()["artifacts"]) == (chain, 0)
    renter.owes_nothing()


def test_a_run_is_run_again(renter: RentingPerson) -> None:
    assert renter.quick("first").code == 0
    again = renter.types("rerun", "first", "--yes", "--json", timeout=90)
    assert again.code == 0, again.stderr
    assert (again.json()["state"], len(renter.pods())) == ("done", 2)
    renter.owes_nothing()


def test_what_was_left_behind_is_told_and_ended(renter: RentingPerson) -> None:
    """A pod whose run nobody here knows any more, a stopped one too; not what is somebody else's."""
    pod = renter.steps("lost")
    renter.kills_engine("lost")
    folder = renter.run_folder("lost")
    folder.rename(renter.root / "elsewhere")
    told = renter.types("doctor", "--json").json()
    assert [(o["target"], o["instance"]) for o in told["orphans"]] == [("runpod", pod.id)]
    with renter.cloud.lock:
        renter.cloud.stop(pod)
        foreign = {**pod.asked, "name": "notebook", "env": {}, "args": ""}
        stranger = renter.cloud.create(foreign)
    assert [o["instance"] for o in renter.types("doctor", "--json").json()["orphans"]] == [pod.id]
    ended = renter.types("doctor", "--end-orphans", "--yes")
    assert ended.code == 0, ended.stderr
    assert status(pod) is Status.TERMINATED and stranger.alive
    with renter.cloud.lock:
        renter.cloud.terminate(stranger)
    renter.owes_nothing()


@pytest.mark.need("network")
@pytest.mark.timeout(400)
def test_the_bundled_trainer_is_trained_on_a_pod(renter: RentingPerson) -> None:
    """Its environment is made there, on top of the image."""
    words = (
        "run",
        "quickstart",
        "--on",
        "runpod",
        "--gpu",
        GPU,
        "--max-cost",
        "1",
        "--yes",
        "--json",
        "--allow-cpu",
    )
    done = renter.types(*words, timeout=240, LAUNCHER_BOOT_LIMIT="4m")
    assert done.code == 0, done.stderr
    manifest = json.loads(Path(done.json()["artifacts"], "manifest.json").read_text())
    assert manifest["metrics"] and manifest["target"] == "runpod"
    renter.owes_nothing()
