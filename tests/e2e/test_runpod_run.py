"""Runs on pods of an emulated Runpod by the installed command: each that meets one, and what is left."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.canaries import Canaries, watched
from tests.e2e.containers import undisturbed
from tests.e2e.hosted import result
from tests.e2e.person import until
from tests.e2e.renting import GPU, IMAGE, QUICK, RentingPerson, status
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.emulators.runpod.pods import Status

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]


@pytest.fixture(scope="module")
def emulation() -> Iterator[Emulation]:
    with with_pods() as one:
        yield one


@pytest.fixture
def person(tmp_path: Path, emulation: Emulation) -> Iterator[RentingPerson]:
    person = RentingPerson(tmp_path, emulation)
    yield person
    person.cleans_up()
    for pod in person.pods():
        if pod.status is not Status.TERMINATED:
            with emulation.cloud.lock:
                emulation.cloud.terminate(pod)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return undisturbed(tmp_path_factory.mktemp("alone"))


def test_from_the_plan_to_the_card(person: RentingPerson) -> None:
    """What was shown is what is rented, a version is here, and no secret is anywhere else."""
    person.writes("train.py", QUICK)
    words = ("--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--max-cost", "1")
    plan = person.types("plan", *words, "--max-time", "2m", "--json", "--", "python3", "train.py").json()
    offer = next(o for o in plan["offers"] if o["target"] == "runpod" and o["gpu"] == GPU)
    assert offer["usd_per_hour"] == pytest.approx(0.69 + 0.10 / 730 * 30, abs=1e-4)
    assert person.pods() == []
    held = person.root / "password"
    held.write_text("p4ssword-canary-6b1")
    canaries = Canaries(
        {"RUNPOD_API_KEY": person.cloud.key, "MY_TOKEN": "t0ken-canary-77c"}, held, held.read_text()
    )
    flags = ("--max-time", "2m", "--name", "card", "--yes", "--secret", "TOKEN=env:MY_TOKEN")
    with watched(canaries):
        done = person.types("run", *words, *flags, "--", "python3", "train.py", MY_TOKEN="t0ken-canary-77c")
    assert done.code == 0, done.stderr
    assert "keys seen: []" in done.stdout
    [pod] = person.pods()
    assert float(pod.usd_per_hour) == pytest.approx(0.69)
    shown = person.types("status", "card", "--json").json()
    [model] = person.types("models", "--json").json()
    assert (model["run"], model["verified"], model["latest"]) == ("card", True, True)
    folder = person.project / "models" / model["version"]
    assert (folder / "token").read_text() == hashlib.sha256(b"t0ken-canary-77c").hexdigest()
    assert float((folder / "rate").read_text()) == pytest.approx(offer["usd_per_hour"], abs=1e-4)
    assert shown["state"] == "done" and 0 < shown["usd"] < 0.05
    assert "t0ken-canary-77c" not in person.emulation.stored()
    person.owes_nothing()


def test_whoever_looks_at_a_run_sees_where_it_is_and_what_it_costs(person: RentingPerson, chain: str) -> None:
    pod = person.steps("seen")
    row = person.ps()["seen"]
    assert (row["state"], row["target"], row["instance"]) == ("running", "runpod", pod.id)
    assert row["usd_per_hour"] == pytest.approx(0.694, abs=0.001)
    assert row["deadline"] is not None
    page = person.types("status", "seen", "--json").json()
    assert page["guard"]["armed"] and page["guard"]["deadline"] == row["deadline"]
    assert "in use: runpod instance" in person.types("doctor").stdout
    logs = person.begins("logs", "seen", "-f")
    watch = person.begins("watch", "seen")
    extended = person.types("extend", "seen", "--by", "1m", "--json")
    assert extended.code == 0, extended.stderr
    until(lambda: person.ps()["seen"]["deadline"] > row["deadline"], "the later end")
    until(lambda: sees_gpu(person), "the pod's GPU is seen")
    person.lets_go(pod)
    assert "step 12" in logs.communicate(timeout=60)[0]
    said, _ = watch.communicate(timeout=60)
    assert watch.returncode == 0 and "step 12" in said
    [model] = person.types("models", "--json").json()
    assert result(str(person.project / "models" / model["version"])) == (chain, 0)
    person.owes_nothing()


def sees_gpu(person: RentingPerson) -> bool:
    return bool(person.types("status", "seen", "--json").json()["telemetry"].get("gpu"))


def test_a_stop_keeps_the_checkpoint_and_resume_goes_on_on_another_pod(
    person: RentingPerson, chain: str
) -> None:
    person.steps("halted")
    stopped = person.types("stop", "halted", "--json", timeout=60)
    assert stopped.code == 0, stopped.stderr
    assert person.state("halted") == "stopped"
    person.owes_nothing()
    done = person.types("resume", "halted", "--json", timeout=90)
    assert done.code == 0, done.stderr
    assert result(done.json()["artifacts"]) == (chain, 3)
    assert len(person.pods()) == 2
    person.owes_nothing()


def test_a_stop_that_cannot_wait_ends_the_pod_at_once(person: RentingPerson) -> None:
    pod = person.steps("dropped")
    began = time.monotonic()
    assert person.types("stop", "dropped", "--now", "--json", timeout=60).code == 0
    print(f"stop --now: {time.monotonic() - began:.1f} s")
    assert status(pod) is Status.TERMINATED
    person.owes_nothing()


def test_whoever_leaves_before_it_trains_owes_nothing(person: RentingPerson) -> None:
    """The pod is on its way: it was asked for, and is not there yet."""
    person.writes("train.py", QUICK)
    person.cloud.conditions.provision_s = 60
    try:
        words = ("run", "--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--yes")
        run = person.begins(*words, "--max-cost", "1", "--name", "undone", "--", "python3", "train.py")
        person.waits_for("undone", "created")
        run.send_signal(signal.SIGINT)
        said = "".join(run.communicate(timeout=60))
    finally:
        person.cloud.conditions.provision_s = 0
    assert person.state("undone") == "stopped", said
    assert [status(pod) for pod in person.pods()] == [Status.TERMINATED]
    person.owes_nothing()


def test_a_run_whose_engine_died_is_resumed_on_the_same_pod(person: RentingPerson, chain: str) -> None:
    pod = person.steps("orphan")
    person.kills_engine("orphan")
    assert person.state("orphan") == "interrupted"
    person.lets_go(pod)
    done = person.types("resume", "orphan", "--json", timeout=90)
    assert (done.code, done.json()["instance"]) == (0, pod.id), done.stderr
    assert result(done.json()["artifacts"]) == (chain, 0)
    person.owes_nothing()


def test_a_run_is_run_again(person: RentingPerson) -> None:
    assert person.quick("first").code == 0
    again = person.types("rerun", "first", "--yes", "--json", timeout=90)
    assert again.code == 0, again.stderr
    assert (again.json()["state"], len(person.pods())) == ("done", 2)
    person.owes_nothing()


def test_what_was_left_behind_is_told_and_ended(person: RentingPerson) -> None:
    """A pod whose run nobody here knows any more, a stopped one too; not what is somebody else's."""
    pod = person.steps("lost")
    person.kills_engine("lost")
    folder = person.run_folder("lost")
    folder.rename(person.root / "elsewhere")
    told = person.types("doctor", "--json").json()
    assert [(o["target"], o["instance"]) for o in told["orphans"]] == [("runpod", pod.id)]
    with person.cloud.lock:
        person.cloud.stop(pod)
        foreign = {**pod.asked, "name": "notebook", "env": {}, "args": ""}
        stranger = person.cloud.create(foreign)
    assert [o["instance"] for o in person.types("doctor", "--json").json()["orphans"]] == [pod.id]
    ended = person.types("doctor", "--end-orphans", "--yes")
    assert ended.code == 0, ended.stderr
    assert status(pod) is Status.TERMINATED and stranger.alive
    with person.cloud.lock:
        person.cloud.terminate(stranger)
    person.owes_nothing()


@pytest.mark.need("network")
@pytest.mark.timeout(300)
def test_the_bundled_trainer_is_trained_on_a_pod(person: RentingPerson) -> None:
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
    done = person.types(*words, timeout=240, LAUNCHER_BOOT_LIMIT="4m")
    assert done.code == 0, done.stderr
    manifest = json.loads(Path(done.json()["artifacts"], "manifest.json").read_text())
    assert manifest["metrics"] and manifest["target"] == "runpod"
    person.owes_nothing()
