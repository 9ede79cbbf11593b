"""A container's disk that the trainer fills: an honest end, what was made comes home, nothing is left."""

from __future__ import annotations

import json
import re
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from launcher.dockerapi import DEFAULT
from tests.e2e.containers import DockerPerson, manifest

if TYPE_CHECKING:
    from docker import APIClient

pytestmark = pytest.mark.need("docker")

DISK_MB = 24
CREATE = re.compile(rb"POST \S*/containers/create\?")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

# Makes something worth keeping, says so, and goes on until nothing more fits anywhere.
FILLS = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "model.txt").write_text("worth keeping")
print("the model is there", flush=True)
with open(out / "large", "wb", buffering=0) as large:
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                large.write(b"x" * size)
        except OSError as fault:
            full = fault
raise full
"""


class SmallDisks(socketserver.ThreadingUnixStreamServer):
    """Stands before the engine and passes everything on; only, the volume that a container is created with is
    made before it, on a disk of our choice."""

    daemon_threads = True

    def __init__(self, place: Path, engine: str, docker: APIClient, disk: Path) -> None:
        self.engine, self.docker, self.disk = engine, docker, disk
        super().__init__(str(place), Passing)

    def make_volumes(self, wish: bytes) -> None:
        for mount in json.loads(wish)["HostConfig"].get("Mounts") or ():
            if mount["Type"] == "volume" and not mount.get("ReadOnly"):
                here = {"type": "none", "o": "bind", "device": str(self.disk)}
                labels = mount["VolumeOptions"]["Labels"]
                self.docker.create_volume(mount["Source"], driver="local", driver_opts=here, labels=labels)


class Passing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(cast(SmallDisks, self.server).engine)
            back = threading.Thread(target=passed, args=(engine, self.request), daemon=True)
            back.start()
            while data := self._said():
                engine.sendall(data)
            engine.shutdown(socket.SHUT_WR)
            back.join()

    def _said(self) -> bytes:
        """What the client says next; a wish for a container whole."""
        data: bytes = self.request.recv(1 << 16)
        if CREATE.match(data) is None:
            return data
        while True:
            head, end, body = data.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            if end and length is not None and len(body) >= int(length[1]):
                cast(SmallDisks, self.server).make_volumes(body)
                return data
            data += self.request.recv(1 << 16)


def passed(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):  # either side may hang up
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


@pytest.fixture
def cramped(docker_person: DockerPerson) -> Iterator[DockerPerson]:
    """Somebody whose containers get a very small disk."""
    person = docker_person
    disk, place = person.root / "disk", person.root / "engine.sock"
    disk.mkdir()
    assert shutil.which("mount"), "who may start an engine may mount"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)], check=True)
    address = person.environ().get("DOCKER_HOST", DEFAULT).removeprefix("unix://")
    server = SmallDisks(place, address, person.docker, disk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    person.extra["DOCKER_HOST"] = f"unix://{place}"
    try:
        yield person
    finally:
        person.cleans_up()
        server.shutdown()
        server.server_close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_trainer_that_fills_the_volume_fails_and_what_it_made_comes_home(cramped: DockerPerson) -> None:
    person = cramped
    person.writes("fills.py", FILLS)
    done = person.docked("python3", "fills.py", flags=("--name", "full", "--max-time", "40s"))
    assert (done.code, done.json()["state"], done.json()["exit_code"]) == (7, "failed", 1), done.stderr
    assert "No space left on device" in done.stderr and "disk was full" in done.stderr, done.stderr
    assert [fact["kind"] for fact in person.facts("full")].count("create-asked") == 1
    version = Path(done.json()["artifacts"])
    assert (version / "model.txt").read_text() == "worth keeping"
    assert {f["path"] for f in manifest(done)["files"]} >= {"model.txt", "large"}
    assert not (person.project / "models" / "latest.json").exists()
    person.leaves_nothing("full")
