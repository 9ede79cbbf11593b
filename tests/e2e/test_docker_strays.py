"""What cannot run in a container is told and leaves nothing; what was left behind is found and ended."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from launcher.models import Order
from launcher.providers import docker_forms as forms
from tests.conftest import Outcome
from tests.contract.conftest import PROVIDERS, Place
from tests.e2e.containers import DockerPerson
from tests.e2e.person import Person

pytestmark = pytest.mark.need("docker")


def is_page(done: Outcome, code: str, status: int) -> None:
    assert (done.code, done.stdout) == (status, ""), done.stderr
    assert f"error: {code}\n" in done.stderr and f"docs/errors.md#{code}" in done.stderr
    assert "still billed: nothing" in done.stderr and "Traceback" not in done.stderr


# --- refused ---------------------------------------------------------------------------------------


def test_without_on_an_engine_that_is_away_is_in_nobody_s_way(docker_person: DockerPerson) -> None:
    docker_person.extra["DOCKER_HOST"] = f"unix://{docker_person.root}/no.sock"
    done = docker_person.types("run", "--project", ".", "--json", "--", "true")
    assert (done.code, done.json()["target"]) == (0, "local"), done.stderr


def test_doctor_says_that_the_engine_is_away(docker_person: DockerPerson) -> None:
    docker_person.extra["DOCKER_HOST"] = f"unix://{docker_person.root}/no.sock"
    checks = {c["name"]: c for c in docker_person.types("doctor", "--json").json()["checks"]}
    assert checks["docker engine"]["ok"] is False and "DOCKER_HOST" in checks["docker engine"]["fix"]
    assert checks["ask docker"]["ok"] is False
    page = docker_person.types("doctor").stdout
    assert "nothing was left behind where we could ask" in page


def test_an_image_of_ours_that_does_not_exist_is_told_with_those_that_do(docker_person: DockerPerson) -> None:
    done = docker_person.types("run", "--project", ".", "--on", "docker", "--image", "cpo", "--", "true")
    is_page(done, "unknown-image", 2)
    assert "Known: " in done.stderr and "cpu" in done.stderr


def test_an_image_without_python_is_told_and_leaves_nothing(docker_person: DockerPerson) -> None:
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    tag = uuid4().hex[:8]
    docker_person.docker.import_image_from_data(empty.getvalue(), "launcher-test/bare", tag)
    name = f"launcher-test/bare:{tag}"
    try:
        words = ("run", "--project", ".", "--on", "docker", "--image", name, "--name", "bare", "--json")
        done = docker_person.types(*words, "--", "true")
    finally:
        docker_person.docker.remove_image(name)
    assert done.code == 5 and "python3" in done.stderr, done.stderr
    docker_person.leaves_nothing("bare")


def test_a_gpu_that_the_engine_cannot_hand_out_is_told_before_anything_is_made(
    docker_person: DockerPerson,
) -> None:
    if forms.gpu_request(docker_person.docker.info()) is not None:
        done = docker_person.docked("true", flags=("--name", "gpu", "--require-gpu"))
        assert done.code == 0, done.stderr
        return
    since = int(time.time())
    done = docker_person.docked("true", flags=("--name", "gpu", "--require-gpu"))
    until = int(time.time()) + 1
    assert done.code == 4 and "nvidia-ctk runtime configure" in done.stderr, done.stderr
    happened = docker_person.docker.events(
        since=since, until=until, decode=True, filters={"label": "launcher.run=gpu"}
    )
    assert list(happened) == []  # no container, no volume, not even for a moment
    wanted = docker_person.docked("true", flags=("--gpu", "RTX 4090"))
    assert wanted.code == 4 and "there is no GPU" in wanted.stderr, wanted.stderr
    assert docker_person.ps() == {}
    docker_person.leaves_nothing("gpu")


def test_no_image_is_refused_where_nothing_but_images_runs(docker_person: DockerPerson) -> None:
    words = ("--no-image", "--json", "--", "true")
    done = docker_person.types("run", "--project", ".", "--on", "docker", *words)
    is_page(done, "needs-image", 2)
    assert "--on docker -- true" in done.stderr
    both = docker_person.types("run", "--project", ".", "--on", "docker", "--on", "local", *words)
    assert (both.code, both.json()["target"]) == (0, "local"), both.stderr
    planned = docker_person.types("plan", "--project", ".", "--on", "docker", "--on", "local", *words).json()
    assert any(r["offer"] == "docker" and "--no-image" in r["reason"] for r in planned["refused"])


# --- left behind -----------------------------------------------------------------------------------


@pytest.fixture
def place(docker_person: DockerPerson) -> Iterator[Place]:
    """A machine shop without a journal: what it makes, no run of the person knows."""
    docker_person.types("doctor")  # and with it the data folder has an owner
    place = Place(PROVIDERS["docker"], docker_person.root)
    yield place
    place.clear_all()


def owned(person: Person, order: Order) -> Order:
    return replace(order, owner=(person.home / "owner").read_text().strip())


def orphans(person: Person, run: str) -> list[tuple[str, str]]:
    document = person.types("doctor", "--json").json()
    found = [one for one in document["orphans"] if one["run"] == run]
    return sorted((one["kind"], one["target"]) for one in found)


def test_doctor_finds_and_ends_what_no_run_knows(docker_person: DockerPerson, place: Place) -> None:
    person, order = docker_person, owned(docker_person, place.order())
    place.running(order)
    assert orphans(person, order.run) == [("instance", "docker"), ("volume", "docker")]
    refused = person.types("doctor", "--end-orphans")
    assert refused.code == 2 and "needs-yes" in refused.stderr
    done = person.types("doctor", "--end-orphans", "--yes")
    assert done.code == 0 and done.stderr.count("asked to end: ") == 2, done.stderr
    assert place.provider.list(order.run) == ()
    assert orphans(person, order.run) == []


def test_doctor_leaves_a_living_run_alone(docker_person: DockerPerson) -> None:
    container = docker_person.steps("alive")
    assert orphans(docker_person, "alive") == []
    assert docker_person.types("doctor", "--end-orphans", "--yes").code == 0
    docker_person.lets_go(container)
    assert docker_person.types("watch", "alive", "--json").json()["state"] == "done"
    docker_person.leaves_nothing("alive")


def test_a_run_whose_folder_was_deleted_is_a_stray(docker_person: DockerPerson) -> None:
    """A person tidied up by hand while it ran: only the label still tells whose it is."""
    person = docker_person
    person.steps("tidied")
    os.kill(person.engine("tidied"), signal.SIGKILL)
    shutil.rmtree(person.run_folder("tidied"))
    assert orphans(person, "tidied") == [("instance", "docker"), ("volume", "docker")]
    assert person.types("doctor", "--end-orphans", "--yes").code == 0
    person.leaves_nothing("tidied")
    assert not Path(person.run_folder("tidied")).exists()
