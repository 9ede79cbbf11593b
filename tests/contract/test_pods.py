"""Pods of the emulated Runpod in real containers: the guard at their head, and what it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest

from launcher import agentpack
from launcher.errors import NoFile
from launcher.models import Need, Order, Resource, ResourceState, Route, Runtime, RuntimeKind
from launcher.providers.runpod import RunpodProvider
from launcher.remote import open_host
from launcher.remote.base import Host
from tests.contract.conftest import GUARD, eventually
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.emulators.runpod.faults import Fault, How
from tests.engines.base import base_image
from tests.hosts.boxes import client_key
from tests.hosts.image import image

pytestmark = pytest.mark.need("docker")
PIN = re.compile(r"^launcher host-key (\S+) (ssh-ed25519 \S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def emulation() -> Iterator[Emulation]:
    images = {"bare": base_image(), "no-python": image("dropbear")}
    with with_pods(lambda asked: images.get(asked) or image("openssh")) as one:
        yield one


@pytest.fixture
def provider(emulation: Emulation) -> Iterator[RunpodProvider]:
    provider = emulation.provider()
    yield provider
    for left in provider.list():
        provider.terminate(left.id)
    assert emulation.cloud.ledger.billing() == []


def order(provider: RunpodProvider, ends_in_s: int = 60, image: str = "any/image:1") -> Order:
    return Order(
        run=f"pods-{token_hex(2)}",
        attempt=1,
        token=token_hex(16),
        owner="tests",
        offer=provider.offers(Need(gpus=("RTX 4090",)))[0],
        runtime=Runtime(RuntimeKind.IMAGE, None, "a test", image=image),
        need=Need(),
        ends_at=datetime.now(UTC) + timedelta(seconds=ends_in_s),
        ends_in_s=ends_in_s,
        boot_limit_s=min(900, ends_in_s),
        hold_s=5,
        folder="",
        boot_guard=GUARD,
        public_keys=(client_key().with_suffix(".pub").read_text().strip(),),
    )


def pin(provider: RunpodProvider, id: str, token: str) -> str | None:
    """The newest boot's."""
    found = [key for told, key in PIN.findall(provider.console(id)) if told == token]
    return found[-1] if found else None


def up(provider: RunpodProvider, wanted: Order) -> Resource:
    made = provider.create(wanted)
    eventually(lambda: f"launcher boot {wanted.token}" in provider.console(made.id))
    eventually(lambda: provider.get(made.id).access is not None)
    return provider.get(made.id)


def way(provider: RunpodProvider, made: Resource, wanted: Order) -> Route:
    told = pin(provider, made.id, wanted.token)
    assert told is not None and made.access is not None and made.access.route is not None
    return replace(made.access.route, keys=(str(client_key()),), pins=(told,))


def run(route: Route, *argv: str) -> str:
    from launcher.ssh.connection import connect

    connection = connect(route)
    try:
        done = connection.run(argv, timeout=20)
        assert done.exit_code == 0, done
        return done.stdout.decode()
    finally:
        connection.close()


def test_a_pod_is_reached_by_the_key_it_told_and_by_no_other(provider: RunpodProvider) -> None:
    from launcher.ssh.errors import KeyMismatch

    wanted = order(provider)
    made = up(provider, wanted)
    route = way(provider, made, wanted)
    assert run(route, "id", "-u").strip() == "0"
    impostor = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"
    with pytest.raises(KeyMismatch):
        run(replace(route, pins=(impostor,)), "true")


def test_its_own_key_is_in_no_environment_of_the_pod(emulation: Emulation, provider: RunpodProvider) -> None:
    wanted = order(provider)
    made = up(provider, wanted)
    route = way(provider, made, wanted)
    seen = run(route, "sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert wanted.token in seen
    assert emulation.cloud.pods[made.id].key not in seen
    assert emulation.cloud.key not in seen + provider.console(made.id)


def test_what_is_over_is_ended_from_inside(emulation: Emulation, provider: RunpodProvider) -> None:
    wanted = order(provider, ends_in_s=2)
    made = provider.create(wanted)
    eventually(lambda: emulation.cloud.ledger.billing() == [])
    assert provider.list(wanted.run) == ()
    assert emulation.cloud.pods[made.id].boots == 1


def test_where_no_agent_comes_the_boot_limit_ends_it(emulation: Emulation, provider: RunpodProvider) -> None:
    wanted = replace(order(provider), boot_limit_s=2, boot_guard=agentpack.boot_guard())
    provider.create(wanted)
    eventually(lambda: emulation.cloud.ledger.billing() == [])


def test_it_asks_for_its_end_until_it_is_heard(emulation: Emulation, provider: RunpodProvider) -> None:
    down, faults = Fault(How.STATUS, 503), emulation.cloud.faults
    ways = ("delete", "graphql", "stop")
    try:
        for way in ways:
            faults.always(way, down)
        made = provider.create(order(provider, ends_in_s=2))
        eventually(lambda: provider.console(made.id).count("launcher ends this pod") >= 2)
        assert emulation.cloud.ledger.billing_a_gpu() == [made.id]
    finally:
        for way in ways:
            faults.always(way, None)
    eventually(lambda: emulation.cloud.ledger.billing() == [])


@pytest.mark.parametrize(
    ("may", "on_rest", "left"),
    [({"terminate"}, False, 0), ({"stop"}, True, 1), ({"stop"}, False, 1)],
    ids=["terminate by GraphQL alone", "stop alone", "stop by GraphQL alone"],
)
def test_with_less_rights_it_ends_as_far_as_it_may(
    emulation: Emulation, provider: RunpodProvider, may: set[str], on_rest: bool, left: int
) -> None:
    conditions = emulation.cloud.conditions
    conditions.pod_key_may, conditions.pod_key_on_rest = frozenset(may), on_rest
    try:
        wanted = order(provider, ends_in_s=2)
        provider.create(wanted)
        eventually(lambda: emulation.cloud.ledger.billing_a_gpu() == [])
        states = [r.state for r in provider.list(wanted.run)]
        assert states == [ResourceState.STOPPED] * left
    finally:
        conditions.pod_key_may, conditions.pod_key_on_rest = frozenset({"stop", "terminate"}), True


def test_another_boot_has_another_key_another_port_and_the_same_disk(
    emulation: Emulation, provider: RunpodProvider
) -> None:
    wanted = order(provider)
    first = up(provider, wanted)
    told = pin(provider, first.id, wanted.token)
    route = way(provider, first, wanted)
    run(route, "sh", "-c", "echo kept >/launcher/kept; echo lost >/lost")
    with emulation.cloud.lock:
        emulation.cloud.act(emulation.cloud.pods[first.id], "restart")
    eventually(lambda: pin(provider, first.id, wanted.token) not in (None, told), within_s=30)
    eventually(lambda: provider.get(first.id).access is not None)
    second = provider.get(first.id)
    assert second.boot != first.boot and second.access != first.access
    after = way(provider, second, wanted)
    assert run(after, "sh", "-c", "cat /launcher/kept; ls /lost 2>/dev/null || true") == "kept\n"


KILL = """
import os, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    status = open(f"/proc/{pid}/status").read()
    if "PPid:\\t1\\n" in status and sys.argv[1] in open(f"/proc/{pid}/cmdline").read():
        os.kill(int(pid), signal.SIGKILL)
"""


def test_a_killed_agent_is_started_again_and_the_pod_stays(
    emulation: Emulation, provider: RunpodProvider
) -> None:
    wanted = order(provider)
    made = up(provider, wanted)
    run(way(provider, made, wanted), "python3", "-c", KILL, wanted.token)
    eventually(lambda: "starts the agent again after signal 9" in provider.console(made.id))
    assert emulation.cloud.pods[made.id].boots == 1


def test_an_image_without_sshd_says_so_and_ends(emulation: Emulation, provider: RunpodProvider) -> None:
    wanted = order(provider, image="bare")
    made = provider.create(wanted)
    eventually(lambda: emulation.cloud.ledger.billing() == [])
    lines = [said.line for said in emulation.cloud.pods[made.id].lines()]
    assert lines[:2] == ["launcher missing sshd", "launcher missing ssh-keygen"]


def test_an_image_without_python_says_so(provider: RunpodProvider) -> None:
    made = provider.create(order(provider, image="no-python"))
    eventually(lambda: "launcher missing python3" in provider.console(made.id))


def test_the_agent_arrives_over_ssh_and_is_armed_below_the_guard(provider: RunpodProvider) -> None:
    wanted = replace(order(provider), boot_guard=agentpack.boot_guard())
    made = up(provider, wanted)
    assert made.access is not None
    host = open_host(replace(made.access, route=way(provider, made, wanted)))
    try:
        host.write("agent.pyz", agentpack.agent_bytes())
        eventually(lambda: b'"armed"' in spoken(host))
        hello = json.loads(spoken(host).split(b"\n")[0])
        assert (hello["ev"], hello["token"]) == ("hello", wanted.token)
        parent = run(
            way(provider, made, wanted), "sed", "-n", "s/^PPid:\t//p", f"/proc/{hello['pid']}/status"
        )
        assert parent.strip() == "1"
    finally:
        host.close()


def spoken(host: Host) -> bytes:
    try:
        return host.read("events.jsonl", 0, 1 << 16)
    except NoFile:
        return b""


# A boot guard that leaves behind what an agent would, and goes.
LEAVES = """
import os, pathlib, sys
spool = pathlib.Path(os.environ["LAUNCHER_SPOOL"])
print("launcher boot", sys.argv[1], os.environ.get("LAUNCHER_RESCUE", "no"), flush=True)
(spool / "events.jsonl").write_text(EVENTS)
"""
BEGAN = '{"ev":"hello"}\n{"ev":"started","pid":7}\n'
RECEIVED = BEGAN + '{"ev":"ending","why":"receipt"}\n'


@pytest.mark.parametrize(
    ("events", "left"),
    [(BEGAN, [ResourceState.STOPPED]), (RECEIVED, []), ('{"ev":"hello"}\n', [])],
    ids=["results wait: stopped", "received: terminated", "nothing began: terminated"],
)
def test_what_nobody_has_fetched_is_kept_when_it_ends(
    emulation: Emulation, provider: RunpodProvider, events: str, left: list[ResourceState]
) -> None:
    wanted = replace(order(provider), boot_guard=LEAVES.replace("EVENTS", repr(events)))
    provider.create(wanted)
    eventually(lambda: emulation.cloud.ledger.billing_a_gpu() == [])
    assert [r.state for r in provider.list(wanted.run)] == left


def test_a_boot_after_the_end_is_for_fetching_alone(emulation: Emulation, provider: RunpodProvider) -> None:
    wanted = replace(order(provider, ends_in_s=2), boot_guard=LEAVES.replace("EVENTS", repr(BEGAN)))
    made = provider.create(wanted)
    eventually(lambda: provider.get(made.id).state is ResourceState.STOPPED)
    eventually(lambda: datetime.now(UTC) > wanted.ends_at)
    provider.unpause(made.id)
    eventually(lambda: f"launcher boot {wanted.token} 1" in provider.console(made.id))
    assert "launcher rescue boot" in provider.console(made.id)
