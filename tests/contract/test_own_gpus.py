"""A lease's name is anybody's to take: whoever took it is told of by the kernel's word, not by the name's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from launcher.errors import NoCapacity
from launcher.models import Need
from launcher.providers.ssh import SshProvider
from tests.contract.conftest import eventually
from tests.contract.own import begun, clear, order, provider
from tests.hosts.boxes import Box, Gpu, sshd_container

pytestmark = pytest.mark.need("docker")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with sshd_container("openssh", gpus=[Gpu(), Gpu()]) as box:
        yield box


@pytest.fixture
def host(box: Box) -> Iterator[SshProvider]:
    host = provider(box)
    yield host
    clear(host)
    host.close()


TAKES = """
import socket, sys, time
ends = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]]
for end, name in zip(ends, sys.argv[1:]):
    end.bind("\\0" + name)
print("taken", flush=True)
time.sleep(600)
"""


@contextmanager
def taken(box: Box, *names: str) -> Iterator[None]:
    """Another user of the host took these names of sockets."""
    pid = box.exec(
        ["sh", "-c", 'python3 -c "$0" "$@" >/tmp/taken 2>&1 & echo $!', TAKES, *names], user="guest"
    )
    eventually(lambda: "taken" in box.sh("cat /tmp/taken"))
    yield
    box.sh(f"kill {pid.strip()}")


def test_a_lease_that_is_no_runs_names_who_really_took_it(box: Box, host: SshProvider) -> None:
    uuid = box.gpus[0].uuid
    with taken(box, f"launcher-gpu-{uuid}", f"launcher-held-{uuid}/dev/of-dev"):
        assert [(one.user, one.run) for one in host.facts().held] == [("guest", "of-dev")]
    told = "a process of guest that took its lease and is no run"
    with taken(box, f"launcher-gpu-{uuid}"), pytest.raises(NoCapacity, match=told):
        host.create(order(host, need=Need(gpu_count=2)))


def test_a_name_beside_a_lease_that_nobody_has_keeps_nobody_out(box: Box, host: SshProvider) -> None:
    with taken(box, *(f"launcher-held-{gpu.uuid}/dev/forged" for gpu in box.gpus)):
        assert host.facts().held == ()
        begun(host, order(host, need=Need(gpu_count=2)))
