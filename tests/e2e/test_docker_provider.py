"""What only Docker can do wrong: half-made containers, engines that are away, volumes that outlive."""

from __future__ import annotations

import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from launcher import agentpack
from launcher.dockerapi import connect
from launcher.errors import AuthRefused, BadOrder, HostUnreachable, NoFile, PlaceGone, Unreachable
from launcher.models import Access, Need, Order, Resource, ResourceState
from launcher.providers import docker_forms as forms
from launcher.providers.docker import DockerProvider
from launcher.remote import open_host
from launcher.remote.base import Listed, Sending
from tests.contract.conftest import PROVIDERS, Place, eventually
from tests.engines.base import base_image

if TYPE_CHECKING:
    from docker import APIClient

pytestmark = pytest.mark.need("docker")


def quiet() -> None:
    pass


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(PROVIDERS["docker"], tmp_path)
    yield place
    place.clear_all()


@pytest.fixture
def engine() -> Iterator[APIClient]:
    client = connect(20)
    yield client
    client.close()


def kinds(place: Place, order: Order) -> list[str]:
    return sorted(r.kind for r in place.provider.list(order.run))


def access(resource: Resource) -> Access:
    assert resource.access is not None
    return resource.access


class TestBetweenTwoCalls:
    def test_a_created_container_that_never_started_is_booting_and_is_started_by_its_token(
        self, place: Place, engine: APIClient
    ) -> None:
        order = place.order()
        engine.create_container(**forms.container(order, forms.name(order), None))
        (found,) = place.instances(order.run)
        assert (found.state, found.token, found.boot) == (ResourceState.BOOTING, order.token, None)
        assert kinds(place, order) == ["instance", "volume"]
        started = place.provider.create(order)
        assert (started.id, started.state) == (found.id, ResourceState.RUNNING)
        assert started.boot is not None

    def test_a_created_container_can_be_ended_without_ever_starting(
        self, place: Place, engine: APIClient
    ) -> None:
        order = place.order()
        engine.create_container(**forms.container(order, forms.name(order), None))
        place.clear(order.run)
        assert place.provider.list(order.run) == ()

    def test_a_volume_alone_is_seen_and_ended(self, place: Place, engine: APIClient) -> None:
        """Nothing of ours makes one alone; an engine that died in the middle of a create may."""
        order = place.order()
        made = forms.container(order, forms.name(order), None)
        engine.create_volume(forms.volume_name(forms.name(order)), labels=made["labels"])
        assert kinds(place, order) == ["volume"]
        assert place.provider.create(order).state is ResourceState.ENDED
        place.clear(order.run)

    def test_another_token_does_not_take_over_a_name(self, place: Place) -> None:
        order = place.order()
        place.running(order)
        same_name = replace(order, token=order.token[:8] + "0" * 24)
        with pytest.raises(BadOrder):
            place.provider.create(same_name)
        assert [r.token for r in place.instances(order.run)] == [order.token]


class TestWhatCannotBe:
    def test_a_missing_image_is_said_and_not_pulled(self, place: Place) -> None:
        order = place.order()
        missing = replace(order, runtime=replace(order.runtime, image="launcher-test/never:made"))
        with pytest.raises(BadOrder, match=r"launcher-test/never:made is not here") as refused:
            place.provider.create(missing)
        assert refused.value.surely_no_effect
        assert place.provider.list(order.run) == ()

    def test_an_image_that_cannot_run_our_program_leaves_nothing(
        self, place: Place, engine: APIClient
    ) -> None:
        empty = io.BytesIO()
        with tarfile.open(fileobj=empty, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("nothing"))
        name = f"launcher-test/empty:{uuid4().hex[:8]}"
        engine.import_image_from_data(empty.getvalue(), *name.split(":"))
        order = place.order()
        try:
            with pytest.raises(BadOrder, match="python3") as refused:
                place.provider.create(replace(order, runtime=replace(order.runtime, image=name)))
        finally:
            engine.remove_image(name)
        assert refused.value.surely_no_effect
        assert place.provider.list(order.run) == ()

    def test_a_required_gpu_is_missed_before_anything_is_made(self, place: Place, engine: APIClient) -> None:
        if forms.gpu_request(engine.info()) is not None:
            assert place.provider.offers(Need())[0].gpu
            return
        order = replace(place.order(), require_gpu=True)
        with pytest.raises(BadOrder, match="NVIDIA Container Toolkit") as refused:
            place.provider.create(order)
        assert refused.value.surely_no_effect
        assert place.provider.list(order.run) == ()
        assert "NVIDIA Container Toolkit" in " ".join(c.detail for c in place.provider.check())

    def test_what_is_not_ours_is_left_alone(self, place: Place, engine: APIClient) -> None:
        name = f"launcher-test-foreign-{uuid4().hex[:8]}"
        engine.create_container(base_image(), ["sleep", "60"], name=name)
        engine.create_volume(name)
        try:
            for id in (name, forms.VOLUME + name):
                with pytest.raises(BadOrder):
                    place.provider.terminate(id)
            assert name not in {r.id for r in place.provider.list()}
            engine.inspect_container(name)
            engine.inspect_volume(name)
        finally:
            engine.remove_container(name, force=True)
            engine.remove_volume(name)


class TestEngineAway:
    @pytest.fixture
    def nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DockerProvider:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        return DockerProvider()

    def test_check_says_how_to_start_it(self, nowhere: DockerProvider) -> None:
        (check,) = nowhere.check()
        assert not check.ok
        assert check.fix is not None and "DOCKER_HOST" in check.fix

    def test_nothing_was_asked_for(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        order = place.order()
        with monkeypatch.context() as away:
            away.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
            with pytest.raises(Unreachable) as refused:
                DockerProvider().create(order)
            with pytest.raises(Unreachable):
                DockerProvider().offers(Need())
        assert refused.value.surely_no_effect

    def test_a_host_behind_it_is_unreachable_within_a_moment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        host = open_host(Access("container", "x", "/launcher"))
        begun = time.monotonic()
        with pytest.raises(HostUnreachable):
            host.read("events.jsonl")
        assert time.monotonic() - begun < 1
        host.close()

    def test_a_socket_one_may_not_open_is_no_silence(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "shut").mkdir(mode=0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/shut/docker.sock")
        place.provider.check()  # everything is imported while we may still read it
        with nobody_special(), pytest.raises(AuthRefused):
            DockerProvider().offers(Need())
        with nobody_special():
            (check,) = DockerProvider().check()
        assert check.fix is not None and "group" in check.detail + check.fix


@contextmanager
def nobody_special() -> Iterator[None]:
    """Root may open everything, so it becomes somebody else for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


class TestContainerGone:
    def test_its_files_are_read_through_the_volume_and_the_helper_leaves(
        self, place: Place, tmp_path: Path
    ) -> None:
        order = place.order()
        made = place.running(order)
        host = open_host(access(made))
        data = os.urandom(3 << 20)
        host.put([Sending("output/훈련 1", data=data)], quiet)
        place.provider.terminate(made.id)  # the connection is cut under its user
        listing = [Listed("훈련 1", len(data), sha256(data).hexdigest())]
        found = host.digests("output", None, quiet)
        assert (found.files, found.last) == (tuple(listing), None)
        host.get("output", listing, tmp_path, quiet)
        assert (tmp_path / "훈련 1").read_bytes() == data
        (reader,) = (r for r in place.provider.list(order.run) if r.kind == "volume-reader")
        assert (reader.run, reader.token, reader.owner) == (order.run, order.token, order.owner)
        with pytest.raises(HostUnreachable, match="only be read"):
            host.write("in/1.json", b"{}")
        with pytest.raises(HostUnreachable, match="only be read"):
            host.run(["true"])
        with pytest.raises(NoFile):
            host.read("nothing")
        host.close()
        assert kinds(place, order) == ["volume"]

    def test_the_helper_of_a_killed_client_leaves_by_itself(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        place.provider.terminate(made.id)
        words = json.dumps([made.id, forms.ROOT, access(made).volume, access(made).image], ensure_ascii=False)
        client = subprocess.Popen([sys.executable, "-c", KILLED, words], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "reading\n"
        assert "volume-reader" in kinds(place, order)
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()
        eventually(lambda: kinds(place, order) == ["volume"])

    def test_a_helper_may_be_ended_like_any_resource(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        host = open_host(access(made))
        host.write("f", b"1")
        place.provider.terminate(made.id)
        assert host.read("f") == b"1"
        place.clear(order.run)
        with pytest.raises(PlaceGone, match="volume are gone"):
            host.read("f")
        host.close()


KILLED = """
import json, sys, time
from launcher.errors import NoFile
from launcher.models import Access
from launcher.remote import open_host
address, root, volume, image = json.loads(sys.argv[1])
host = open_host(Access("container", address, root, volume=volume, image=image))
try:
    host.read("nothing")
except NoFile:
    print("reading", flush=True)
time.sleep(60)
"""


class TestCourier:
    def test_one_that_died_is_replaced_without_a_word(self, place: Place) -> None:
        host = open_host(access(place.running(place.order())))
        host.write("f", b"1")
        with pytest.raises(HostUnreachable):
            host.run(["sh", "-c", "kill -9 $PPID"])
        assert host.read("f") == b"1"
        host.close()

    def test_it_is_not_among_the_strays_that_the_agent_ends(self, place: Place) -> None:
        order = place.order()
        host = open_host(access(place.running(order)))
        look = (
            "import glob, sys\n"
            "for path in glob.glob('/proc/[0-9]*/environ'):\n"
            "    env = open(path, 'rb').read().split(b'\\0')\n"
            "    if b'LAUNCHER_INSTANCE=' + sys.argv[1].encode() in env:\n"
            "        print(open(path.replace('environ', 'cmdline')).read().split('\\0')[:2])\n"
        )
        marked = host.run(["python3", "-c", look, order.token]).stdout.decode().splitlines()
        assert len(marked) == 2  # the boot guard, and the command that looked: what is run can be found
        host.close()

    @pytest.mark.alone
    def test_a_read_costs_a_round_trip_and_not_a_process(self, place: Place) -> None:
        host = open_host(access(place.running(place.order())))
        host.write("log", bytes(100_000))
        took = []
        for _ in range(100):
            begun = time.perf_counter()
            host.read("log", 50_000, 1 << 18)
            took.append(time.perf_counter() - begun)
        host.close()
        assert statistics.median(took) < 0.005


class TestWhatAnInstanceMay:
    def test_packages_can_be_installed_and_little_else(self, place: Place) -> None:
        host = open_host(access(place.running(place.order())))
        status = host.run(["sh", "-c", "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status"]).stdout.split()
        assert status[1::2] == [b"00000000000000fb", b"1"]
        assert host.run(["python3", "-m", "venv", "env"], timeout=60).exit_code == 0
        owned = host.run(["sh", "-c", "touch f && chown 1:1 f && chmod 600 f && cat f && rm f"])
        assert owned.exit_code == 0
        host.close()

    def test_inspection_shows_the_limits_and_no_more_of_the_caller(
        self, place: Place, engine: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNPOD_API_KEY", "canary-1f7a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1f7a")
        order = place.order()
        made = place.provider.create(order)
        shown = engine.inspect_container(made.id)
        assert "canary-1f7a" not in json.dumps(shown)
        assert shown["HostConfig"]["AutoRemove"] is True
        assert shown["HostConfig"]["Privileged"] is False
        names = {line.partition("=")[0] for line in shown["Config"]["Env"]}
        ours = {"INSTANCE", "RUN", "OWNER", "ENDS_AT", "ENDS_IN", "BOOT_LIMIT", "HOLD", "SPOOL"}
        assert {n for n in names if n.startswith("LAUNCHER_")} == {f"LAUNCHER_{n}" for n in ours}


class TestRealGuard:
    def test_nobody_comes_and_it_ends_by_its_boot_limit(self, place: Place) -> None:
        order = replace(place.order(), boot_limit_s=1, boot_guard=agentpack.boot_guard())
        begun = time.monotonic()
        made = place.provider.create(order)
        eventually(lambda: place.has_ended(made.id) and place.instances(order.run) == [])
        assert time.monotonic() - begun < 1 + place.provider.traits.overrun_s
        assert kinds(place, order) == ["volume"]

    def test_the_agent_arms_and_ends_at_its_deadline_with_the_client_gone(self, place: Place) -> None:
        order = replace(place.order(ends_in_s=3), boot_guard=agentpack.boot_guard())
        begun = time.monotonic()
        made = place.provider.create(order)
        host = open_host(access(made))
        host.write("agent.pyz", agentpack.agent_bytes())

        def armed() -> bool:
            try:
                return b'"armed"' in host.read("events.jsonl")
            except NoFile:
                return False

        eventually(armed)
        host.close()
        eventually(lambda: place.has_ended(made.id))
        assert 2 < time.monotonic() - begun < 3 + place.provider.traits.overrun_s
        host = open_host(access(made))
        last = json.loads(host.read("events.jsonl").splitlines()[-1])
        host.close()
        assert last["ev"] == "ending"
