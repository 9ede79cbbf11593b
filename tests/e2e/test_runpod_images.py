"""What a pod boots, by the installed command: an image that was pushed to a registry of one's own, and that
of a template which the cloud keeps.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from launcher.dockerapi import connect
from tests.conftest import Outcome
from tests.e2e.renting import GPU, IMAGE, RentingPerson
from tests.emulators.runpod.emulation import Emulation
from tests.engines.registry import Registry, registry
from tests.hosts.image import image

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

OWN_IMAGE = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo 'of our own' >/ours\n"
TRAIN = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "booted").write_text(pathlib.Path("/ours").read_text())
"""


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Registry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry(folder) as one:
        yield one


def rents(renter: RentingPerson, *flags: str) -> Outcome:
    line = ("run", "mini", "--on", "runpod", "--gpu", GPU, "--max-cost", "1", "--yes", "--json")
    return renter.types(*line, *flags, timeout=280)


def docker(renter: RentingPerson, *words: str, stdin: str = "") -> None:
    """As somebody types it; the logins that it notes lie with the renter."""
    argv = ["docker", "--config", str(renter.root / "docker"), *words]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def is_here(name: str) -> bool:
    engine = connect(20)
    try:
        return bool(engine.images(name))
    finally:
        engine.close()


def kept_login(emulation: Emulation, one: Registry) -> str:
    """The id of a login that the account keeps: what its owner would type into the console."""
    cloud = emulation.cloud
    said = requests.post(
        f"{cloud.root}/v2/registries",
        json={"name": "mine", "username": one.user, "password": one.password},
        headers={"Authorization": f"Bearer {cloud.key}"},
        timeout=10,
    )
    assert said.status_code == 201, said.text
    return str(said.json()["id"])


@pytest.mark.need("registry")
def test_an_image_of_ones_own_registry_is_booted_by_its_digest(
    renter: RentingPerson, emulation: Emulation, private: Registry
) -> None:
    """Called as `--on docker` would call it, pushed, gone from here; then it comes from that registry alone,
    for whoever has its login."""
    renter.trainer()
    renter.writes("trainers/mini/train.py", TRAIN)
    renter.writes("images/cpu/Dockerfile", OWN_IMAGE)
    renter.writes("images/public.json", json.dumps({"image": image("openssh"), "as_of": "2026-11-29"}))
    ours = f"{private.address}/me"
    renter.extra |= {"LAUNCHER_BASE_IMAGE": image("openssh"), "LAUNCHER_IMAGE_REGISTRY": ours}
    [local] = re.findall(r"launcher/cpu:\w+", renter.types("plan", "mini", "--on", "docker").stdout)
    docker(
        *(renter, "build", "-q", "-t", local, "--build-arg", f"BASE_IMAGE={image('openssh')}"),
        str(renter.project / "images" / "cpu"),
    )
    away = f"{ours}/{local.removeprefix('launcher/')}"
    assert away in renter.types("plan", "mini", "--on", "runpod", "--gpu", GPU, "--max-cost", "1").stdout

    docker(renter, "login", "-u", private.user, "--password-stdin", private.address, stdin=private.password)
    docker(renter, "tag", local, away)
    docker(renter, "push", "-q", away)
    docker(renter, "rmi", local, away)
    assert not is_here(away)
    shut_out = rents(renter)
    assert shut_out.code == 5, shut_out.stderr
    assert shut_out.stderr.count("cannot be pulled, or not without a login (--registry-login)") == 1
    assert not is_here(away)

    done = rents(renter, "--registry-login", kept_login(emulation, private))
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "booted").read_text() == "of our own\n"
    held = json.loads(Path(done.json()["artifacts"], "manifest.json").read_text())
    assert held["runtime"]["image"] == away
    assert [pod.asked["image"] for pod in renter.pods()] == [away] * 2
    docker(renter, "rmi", "-f", away)
    renter.owes_nothing()


def test_a_template_names_the_image_and_brings_its_variables(
    renter: RentingPerson, emulation: Emulation
) -> None:
    """What starts is ours all the same."""
    renter.trainer()
    renter.writes(
        "trainers/mini/train.py",
        "import os, pathlib\n"
        "pathlib.Path(os.environ['LAUNCHER_OUTPUT'], 'seen').write_text(os.environ['COLOUR'])\n",
    )
    kept = {"image": IMAGE, "args": "sleep infinity", "env": {"COLOUR": "blue"}, "ports": ["8888/http"]}
    emulation.cloud.templates["tpl1"] = kept
    done = rents(renter, "--template", "tpl1")
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "seen").read_text() == "blue"
    [pod] = renter.pods()
    assert (pod.asked["image"], pod.asked["ports"]) == (IMAGE, ["22/tcp"])
    assert pod.asked["args"] != kept["args"]
    lost = rents(renter, "--template", "tpl2")
    assert lost.code == 5 and "template not found" in lost.stderr, lost.stderr
    assert len(renter.pods()) == 1
    renter.owes_nothing()
