"""Hosts to test against: a real sshd in a container, with one user of no special rights.

    with sshd_container("openssh", home_mb=8) as box:
        connect(box.route)

A box is on its engine only as long as the block, made within a second. Sessions see `dev`, uid 1000, without
sudo, and `guest`, uid 1001, is somebody else on the same host. Host keys are made when it boots; the key that
lets `dev` in is made once per test process.
"""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from launcher.dockerapi import connect
from launcher.models import Access, Route
from tests.hosts.image import Kind, image
from tests.hosts.relay import Relay

if TYPE_CHECKING:
    from docker import APIClient

USER = "dev"
HOME = f"/home/{USER}"
LABEL = "launcher.test.box"
OTHER_PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"  # of no box
SERVES = {"openssh": "Server listening on 0.0.0.0", "dropbear": "Not backgrounding"}
BOOT_S = 60.0
KEY_LINE = re.compile(r"^((?:ssh|ecdsa)-\S+ [A-Za-z0-9+/=]+)", re.MULTILINE)


@dataclass(frozen=True)
class Gpu:
    """What the emulated nvidia-smi says of one device."""

    name: str = "NVIDIA Emulated 24G"
    memory_mb: int = 24576
    used_mb: int = 1
    uuid: str = field(default_factory=lambda: f"GPU-{uuid4()}")

    def row(self, index: int) -> dict[str, object]:
        return {
            "index": index,
            "name": self.name,
            "uuid": self.uuid,
            "driver_version": "550.54.15",
            "memory.total": self.memory_mb,
            "memory.used": self.used_mb,
            "memory.free": self.memory_mb - self.used_mb,
            "utilization.gpu": 0,
            "utilization.memory": 0,
            "power.draw": "20.50",
            "power.limit": "300.00",
            "temperature.gpu": 35,
            "compute_mode": "Default",
            "compute_cap": "8.6",
            "mig.mode.current": "[N/A]",
            "pci.bus_id": f"00000000:{index + 1:02X}:00.0",
        }


@dataclass(frozen=True)
class App:
    """A process that holds memory of a GPU; it is shown as long as it lives."""

    gpu_uuid: str
    pid: int
    used_mb: int = 1000
    name: str = "python3"

    def row(self) -> dict[str, object]:
        memory = {"used_memory": self.used_mb, "used_gpu_memory": self.used_mb}
        return {
            "gpu_uuid": self.gpu_uuid,
            "pid": self.pid,
            "process_name": self.name,
            "name": self.name,
        } | memory


@dataclass
class Box:
    """One host. `route` leads there with the right key and pins; whatever else is asked comes as root."""

    kind: Kind
    id: str
    route: Route
    engine: APIClient
    gpus: tuple[Gpu, ...] = ()
    apps: tuple[App, ...] = ()

    def access(self, root: str) -> Access:
        return Access(
            "ssh", f"{self.route.address}:{self.route.port}", root, USER, host_key="known", route=self.route
        )

    def relay(self, *, delay_s: float = 0.0, bytes_per_s: float | None = None) -> Relay:
        """A line to it that can be long or break."""
        return Relay((self.route.address, self.route.port), delay_s=delay_s, bytes_per_s=bytes_per_s)

    def through(self, relay: Relay) -> Route:
        return replace(self.route, address=relay.address[0], port=relay.address[1])

    def exec(self, argv: Sequence[str], *, user: str = "root", code: int | None = 0) -> str:
        """What a command on the host says, from behind: not over SSH."""
        made = self.engine.exec_create(self.id, list(argv), user=user)
        said: bytes = self.engine.exec_start(made["Id"])
        told = self.engine.exec_inspect(made["Id"])["ExitCode"]
        assert code is None or told == code, (told, said)
        return said.decode("utf-8", "surrogateescape")

    def sh(self, script: str, *, user: str = "root", code: int | None = 0) -> str:
        return self.exec(["/bin/sh", "-c", script], user=user, code=code)

    def log(self) -> str:
        """What its sshd has said."""
        said: bytes = self.engine.logs(self.id)
        return said.decode("utf-8", "replace")

    def shows(self, gpus: Sequence[Gpu], apps: Sequence[App] = ()) -> None:
        """What nvidia-smi says from now on."""
        self.gpus, self.apps = tuple(gpus), tuple(apps)
        rows = [gpu.row(index) for index, gpu in enumerate(gpus)]
        blank = Gpu().row(0), App("", 0).row()
        for name, held, header in (("gpus", rows, blank[0]), ("apps", [a.row() for a in apps], blank[1])):
            lines = [", ".join(header), *(", ".join(map(str, row.values())) for row in held)]
            text = "\n".join(lines).replace("'", "")
            self.sh(f"printf '%s\\n' '{text}' >/run/gpus/new && mv /run/gpus/new /run/gpus/{name}.csv")

    def ages_python(self, version: tuple[int, int, int], really: str = "/usr/bin/python3.11") -> None:
        """Its python3 says that it is that old; the true one stays where it lies."""
        old = f'exec {really} -I -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$3"'
        self.sh(f"cd /usr/bin; rm -f python3; printf '%s\\n' '#!/bin/sh' '{old}' >python3; chmod 755 python3")

    def occupied(self, gpu: Gpu, *, user: str = "guest", used_mb: int = 4096) -> App:
        """A process of that user now computes on that GPU, as far as anybody can see."""
        pid = int(self.sh("sleep 600 >/dev/null 2>&1 & echo $!", user=user))
        app = App(gpu.uuid, pid, used_mb)
        self.shows(self.gpus, (*self.apps, app))
        return app

    def freed(self, app: App) -> None:
        self.sh(f"kill {app.pid}")
        self.shows(self.gpus, [a for a in self.apps if a != app])

    def stop(self) -> None:
        """The host is gone, whatever it was doing."""
        from docker.errors import NotFound

        try:
            self.engine.remove_container(self.id, force=True, v=True)
        except NotFound:
            return


@functools.cache
def client_key() -> Path:
    """The private key of this test process; its public half lies beside it."""
    import atexit

    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = Path(tempfile.mkdtemp(prefix="launcher-test-key-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    key = Ed25519PrivateKey.generate()
    path = folder / "id_ed25519"
    path.touch(0o600)
    path.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b" tests\n")
    return path


@contextmanager
def sshd_container(
    kind: Kind = "openssh",
    *,
    home_mb: int | None = None,
    read_only_home: bool = False,
    password: str | None = None,
    clock_s: int | None = None,
    more_keys: Sequence[str] = (),
    gpus: Sequence[Gpu] | None = None,
    behind: Box | None = None,
) -> Iterator[Box]:
    """A booted host.

    home_mb: its home is a disk of that size · read_only_home: nothing can be written there · password: only
    that lets `dev` in · clock_s: its clock is off by so many seconds · more_keys: further kinds of host keys
    (rsa, ecdsa) · gpus: an emulated nvidia-smi shows these · behind: no way leads there but through that box
    (clock_s, password, read_only_home, more_keys: openssh only)
    """
    openssh_only = bool(read_only_home or password or clock_s or more_keys)
    assert kind == "openssh" or not openssh_only, "dropbear is not asked for that"
    env = {
        "BOX_KEY": client_key().with_suffix(".pub").read_text().strip(),
        "BOX_PASSWORD": password or "",
        "BOX_CLOCK_S": f"{clock_s:+d}" if clock_s else "",
        "BOX_MORE_KEYS": " ".join(more_keys),
        "BOX_GPUS": "yes" if gpus is not None else "",
    }
    disk = [f"size={home_mb}m"] if home_mb else []
    home = ",".join(["uid=1000,gid=1000,mode=755", *disk, *["ro"] * read_only_home])
    tmpfs = {HOME: home} if home_mb or read_only_home else {}
    engine = connect(30)
    box: Box | None = None
    try:
        box = _booted(engine, kind, env, tmpfs, behind)
        if gpus is not None:
            box.shows(gpus)
        yield box
    finally:
        if box is not None:
            box.stop()
        engine.close()


def _booted(
    engine: APIClient, kind: Kind, env: dict[str, str], tmpfs: dict[str, str], behind: Box | None
) -> Box:
    if behind is None:
        port = 22
        how: dict[str, Any] = {"port_bindings": {port: ("127.0.0.1",)}}
    else:  # its sshd hears the loopback of the box before it, and no other network
        port = 2222
        how = {"network_mode": f"container:{behind.id}"}
        env = env | {"BOX_PORT": str(port)}
    made = engine.create_container(
        image(kind),
        environment=env,
        ports=[port] if behind is None else None,
        labels={LABEL: "1"},
        name=f"launcher-test-box-{uuid4().hex[:8]}",
        host_config=engine.create_host_config(tmpfs=tmpfs, **how),
    )
    box = Box(kind, made["Id"], Route("127.0.0.1", port, USER, (str(client_key()),), agent=False), engine)
    try:
        engine.start(box.id)
        said = _first_words(box)
        pins = tuple(KEY_LINE.findall(said))
        assert pins, said
        box.route = replace(box.route, pins=pins)
        if behind is None:
            box.route = replace(box.route, port=_published(box, port))
        else:
            box.route = replace(box.route, via=behind.route)
    except BaseException:
        box.stop()
        raise
    return box


def _first_words(box: Box) -> str:
    """What it says until it serves."""
    until = time.monotonic() + BOOT_S
    while True:
        text = box.log()
        if SERVES[box.kind] in text:
            return text
        running = box.engine.inspect_container(box.id)["State"]["Running"]
        assert running and time.monotonic() < until, f"the {box.kind} host does not serve: {text}"
        time.sleep(0.02)  # its log is asked for: it may have served before anybody follows it


def _published(box: Box, port: int) -> int:
    ports = box.engine.inspect_container(box.id)["NetworkSettings"]["Ports"]
    return int(ports[f"{port}/tcp"][0]["HostPort"])
