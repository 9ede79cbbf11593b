"""The tables of the contract suites. A provider or a host joins with one line."""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from launcher.errors import Busy, Gone
from launcher.hosts import HostRecord
from launcher.models import Access, Need, Order, Resource, ResourceState, Runtime, RuntimeKind
from launcher.providers import registry
from launcher.providers.base import Provider
from launcher.providers.simulated import SimulatedProvider
from launcher.providers.ssh import SshProvider
from launcher.remote import open_host
from launcher.remote.base import Host
from tests.emulators.runpod import emulation as runpod
from tests.engines.base import base_image
from tests.hosts.boxes import HOME, USER, Box, sshd_container

OWNER = "contract-tests"

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"  # nobody's

# A boot guard in small: it says its word, makes its folder and ends by a file or after its time.
GUARD = """
import os, pathlib, sys, time
spool = pathlib.Path(os.environ["LAUNCHER_SPOOL"])
spool.mkdir(parents=True, exist_ok=True)
if os.environ.get("LAUNCHER_CONSOLE") == "file":
    out = os.open(spool / "console", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
print("launcher boot", sys.argv[1], flush=True)
ends = time.monotonic() + float(os.environ["LAUNCHER_ENDS_IN"])
while time.monotonic() < ends and not (spool / "leave").exists():
    time.sleep(0.02)
"""


@dataclass(frozen=True)
class Row:
    """One implementation: how a fresh connection to it is made, what it needs, what image it boots."""

    connect: Callable[[], Provider]
    needs: tuple[str, ...] = ()
    image: Callable[[], str] = lambda: "any"
    real: bool = True  # its instances run our program
    in_order: Callable[[], None] = lambda: None  # whoever it asks has no complaint about how it asked


@functools.cache
def ssh_box() -> Box:
    """One for all tests of this process; it goes with it."""
    open_until_the_end = ExitStack()
    atexit.register(open_until_the_end.close)
    return open_until_the_end.enter_context(sshd_container("openssh"))


_in_memory = SimulatedProvider()
PROVIDERS = {
    "simulated": Row(lambda: _in_memory, real=False),
    "local": Row(lambda: registry.load("local")),
    "docker": Row(lambda: registry.load("docker"), ("docker",), base_image),
    "runpod": Row(
        lambda: runpod.shared().provider(), real=False, in_order=lambda: runpod.shared().in_order()
    ),
    "runpod in containers": Row(
        lambda: runpod.shared_with_pods().provider(),
        ("docker",),
        in_order=lambda: runpod.shared_with_pods().in_order(),
    ),
    "ssh": Row(lambda: SshProvider(HostRecord("box", ssh_box().route)), ("docker",)),
}


@dataclass(frozen=True)
class HostRow:
    """One kind of host: how one is come by, and what that needs."""

    reached: Callable[[Path], AbstractContextManager[Access]]
    needs: tuple[str, ...] = ()


def instance(provider: str) -> Callable[[Path], AbstractContextManager[Access]]:
    @contextmanager
    def reached(folder: Path) -> Iterator[Access]:
        place = Place(PROVIDERS[provider], folder)
        order = place.order(ends_in_s=600)
        found = place.running(order).access
        assert found is not None
        yield found
        place.clear(order.run)

    return reached


@contextmanager
def ssh(folder: Path) -> Iterator[Access]:
    yield ssh_box().access(spool(ssh_box()))


@contextmanager
def ssh_busybox(folder: Path) -> Iterator[Access]:
    with sshd_container("dropbear") as box:
        yield box.access(spool(box))


def spool(box: Box) -> str:
    root = f"{HOME}/.launcher/runs/{token_hex(16)}"
    box.exec(["mkdir", "-p", root], user=USER)
    return root


HOSTS = {
    "process": HostRow(instance("local")),
    "container": HostRow(instance("docker"), ("docker",)),
    "ssh": HostRow(ssh, ("docker",)),
    "ssh-busybox": HostRow(ssh_busybox, ("docker",)),
}


def _params(table: dict[str, tuple[str, ...]]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.need(n) for n in needs]) for name, needs in table.items()]


def eventually(is_so: Callable[[], bool], within_s: float = 60) -> None:
    """What is outside of this process is looked at until it is so."""
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, "it did not become so in time"
        time.sleep(0.02)  # no one event tells of all kinds of things


class Place:
    """A provider with orders of our own; whatever was made by them is taken away again."""

    def __init__(self, row: Row, folder: Path) -> None:
        self.row = row
        self.folder = folder
        self.provider = row.connect()
        self.runs: list[str] = []

    def order(self, run: str | None = None, ends_in_s: int = 60) -> Order:
        run = run or f"contract-{token_hex(3)}"
        self.runs.append(run)
        token = token_hex(16)
        return Order(
            run=run,
            attempt=1,
            token=token,
            owner=OWNER,
            offer=self.provider.offers(Need())[0],
            runtime=Runtime(RuntimeKind.IMAGE, None, "a test", image=self.row.image()),
            need=Need(),
            ends_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ends_in_s),
            ends_in_s=ends_in_s,
            boot_limit_s=ends_in_s,
            hold_s=5,
            folder=str(self.folder / token),
            boot_guard=GUARD,
            public_keys=(PUBLIC_KEY,),
        )

    def instances(self, run: str) -> list[Resource]:
        return [r for r in self.provider.list(run) if r.kind == "instance"]

    def others(self, run: str) -> list[Resource]:
        return [r for r in self.provider.list(run) if r.kind != "instance"]

    def running(self, order: Order) -> Resource:
        """Created, and its program has begun."""
        made = self.provider.create(order)
        if self.row.real:
            eventually(lambda: order.token in self.provider.console(made.id))
        return self.provider.get(made.id)

    def has_ended(self, id: str) -> bool:
        try:
            return self.provider.get(id).state is ResourceState.ENDED
        except Gone:
            return True

    def clear_all(self) -> None:
        for run in self.runs:
            self.clear(run)

    def clear(self, run: str) -> None:
        """As the engine does it: round after round, until nothing of the run is listed."""

        def cleared() -> bool:
            left = self.provider.list(run)
            for resource in left:
                try:
                    self.provider.terminate(resource.id)
                except Busy:
                    continue
            return not left

        eventually(cleared)


@pytest.fixture(params=_params({name: row.needs for name, row in PROVIDERS.items()}))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(PROVIDERS[request.param], tmp_path)
    yield place
    place.clear_all()
    place.row.in_order()


@pytest.fixture(scope="module", params=_params({name: row.needs for name, row in HOSTS.items()}))
def access(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """How the host under test is reached; it lives as long as the module's tests."""
    with HOSTS[request.param].reached(tmp_path_factory.mktemp("host")) as found:
        assert request.param.startswith(found.kind)
        yield found


@pytest.fixture
def host(access: Access) -> Iterator[Host]:
    host = open_host(access)
    yield host
    host.close()


@pytest.fixture
def spot() -> str:
    """A folder name of the test's own below the host's root."""
    return f"t-{os.urandom(4).hex()}"


def with_token(order: Order) -> Order:
    return replace(order, token=token_hex(16))
