"""An image on a machine of one's own: this one, met over a real sshd, with a home and an engine of tests."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from launcher.dockerapi import connect
from launcher.providers.ssh_far_docker import gpu_words
from launcher.ssh.errors import fingerprint
from tests.e2e.containers import undisturbed
from tests.e2e.hosted import HostedPerson, result
from tests.e2e.person import until
from tests.e2e.sidework import SERVES, Serving, opened
from tests.engines.base import base_image
from tests.ports import named_port

pytestmark = [pytest.mark.need("docker"), pytest.mark.need("sshd")]

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv HOME={folder}/home DOCKER_HOST={engine}
"""
TELLS = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "told.txt").write_text(f"{os.getpid()} {os.path.exists('/.dockerenv')} {os.getuid()}")
"""


SLOW = """
import os, pathlib, time
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "half.txt").write_text("half of it")
print("written", flush=True)
time.sleep(600)  # at its work: the test kills it
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which that machine's home lies."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "home").mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = named_port()
    (folder / "port").write_text(str(port))
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder, engine=engine))
    with suppress(OSError):
        os.makedirs("/run/sshd", exist_ok=True)
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    assert sshd is not None
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        until(lambda: "Server listening" in (folder / "log").read_text(), "the sshd")
        yield folder
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def person(holder: HostedPerson, machine: Path) -> Iterator[HostedPerson]:
    key = " ".join((machine / "host.pub").read_text().split()[:2])
    way = (
        f"{getpass.getuser()}@127.0.0.1:{(machine / 'port').read_text()}",
        "--key",
        str(machine / "client"),
    )
    added = holder.types("host", "add", "lab", *way, "--fingerprint", fingerprint(key))
    assert added.code == 0, added.stderr
    yield holder
    holder.cleans_up()
    for name in containers(holder):
        subprocess.run(["docker", "rm", "-f", name], capture_output=True)


def containers(person: HostedPerson) -> list[str]:
    owner = person.home / "owner"
    mine = {"label": [f"launcher.owner={owner.read_text().strip() if owner.exists() else 'nobody'}"]}
    engine = connect(20)
    try:
        return [one["Names"][0].lstrip("/") for one in engine.containers(all=True, filters=mine)]
    finally:
        engine.close()


def leaves_nothing(person: HostedPerson, machine: Path) -> None:
    person.alone()
    assert containers(person) == []
    assert [p.name for p in (machine / "home/.launcher/runs").iterdir() if not p.name.startswith(".")] == []


def test_a_run_in_an_image_there(person: HostedPerson, machine: Path) -> None:
    person.writes("tells.py", TELLS)
    done = person.hosted("ssh:lab", "python3", "tells.py", flags=("--image", base_image()))
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    _, inside, uid = Path(done.json()["artifacts"], "told.txt").read_text().split()
    assert (inside, int(uid)) == ("True", os.getuid())
    leaves_nothing(person, machine)


def test_it_outlives_its_engine_and_the_program_that_holds_it(
    person: HostedPerson, machine: Path, tmp_path: Path
) -> None:
    """The container is there whoever held it: it is found, and ended, by its own name."""
    instance = person.steps("held", "ssh:lab", flags=("--image", base_image()))
    os.kill(person.engine("held"), 9)
    (name,) = containers(person)
    for pid, argv in person.processes().items():
        if "docker" in argv:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
    assert containers(person) == [name]
    subprocess.run(["docker", "exec", name, "touch", "/tmp/go"], check=True)
    done = person.types("resume", "held", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    leaves_nothing(person, machine)


def test_what_a_killed_container_held_comes_home(person: HostedPerson, machine: Path) -> None:
    person.writes("slow.py", SLOW)
    words = ("--name", "slow", "-d", "--image", base_image())
    assert person.hosted("ssh:lab", "python3", "slow.py", flags=words).code == 0
    until(lambda: "written" in person.types("logs", "slow").stdout, "it has written something")
    (name,) = containers(person)
    subprocess.run(["docker", "kill", name], check=True, capture_output=True)
    assert Path(person.waits_for("slow", "rescued")["path"], "half.txt").read_text() == "half of it"
    assert person.types("stop", "slow", "--now").code == 0
    leaves_nothing(person, machine)


def test_stop_now_ends_the_container(person: HostedPerson, machine: Path) -> None:
    person.steps("now", "ssh:lab", flags=("--image", base_image()))
    began = time.monotonic()
    assert person.types("stop", "now", "--now", "--json").json()["state"] == "stopped"
    print(f"stopped in {time.monotonic() - began:.1f} s")
    leaves_nothing(person, machine)


def test_a_shell_and_ports_lead_into_the_container(person: HostedPerson, machine: Path) -> None:
    person.writes("serves.py", SERVES)
    words = ("--name", "fox", "-d", "--image", base_image())
    assert person.hosted("ssh:lab", "python3", "serves.py", "/tmp/go", flags=words).code == 0
    (name,), run = containers(person), Serving(person, "fox", "there")
    said = person.types(
        "ssh", "fox", "--", "sh", "-c", "test -e /.dockerenv && ls && echo $LAUNCHER_RUN; exit 3"
    )
    assert (said.code, said.stdout.split()) == (3, ["serves.py", "fox"]), said.stderr
    alias = person.types("ssh-config", "fox")
    assert alias.code == 0 and name in alias.stderr and "host itself" in alias.stderr, alias.stderr
    with opened(person, "fox", str(run.port)) as door:
        assert door.page() == "page of fox"
        subprocess.run(["docker", "exec", name, "touch", "/tmp/go"], check=True)
        assert door.ends()[0] == 0
    leaves_nothing(person, machine)


def test_dockers_own_client_reads_the_leased_gpus_as_meant() -> None:
    """As far as an engine without GPUs tells: it takes the request down, and would refuse only the start."""
    uuids = ["GPU-5f3c", "GPU-9b1e"]
    made = subprocess.run(
        ["docker", "create", *gpu_words(uuids), base_image(), "true"],
        check=True,
        capture_output=True,
        text=True,
    )
    engine = connect(20)
    try:
        (asked,) = engine.inspect_container(made.stdout.strip())["HostConfig"]["DeviceRequests"]
        assert (asked["DeviceIDs"], asked["Capabilities"]) == (uuids, [["gpu"]])
    finally:
        engine.remove_container(made.stdout.strip())
        engine.close()


def test_an_image_that_cannot_be_had_says_why(person: HostedPerson, machine: Path) -> None:
    done = person.hosted("ssh:lab", "true", flags=("--image", "localhost:9/never-was:1"))
    assert done.code != 0 and "docker: Error" in done.stderr and "localhost:9" in done.stderr, done.stderr
    leaves_nothing(person, machine)


def test_an_image_of_this_checkout_is_not_there(person: HostedPerson) -> None:
    said = person.types("plan", "--on", "ssh:lab", "--image", "cpu")
    assert said.code == 2 and "image-is-here" in said.stderr, said.stderr
