"""Runpod's adapter against the emulated service: offers, one create, what a pod is here, and its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Any, Literal

import pytest

from launcher.errors import (
    AuthRefused,
    BadOrder,
    Gone,
    NoCapacity,
    ProviderError,
    QuotaReached,
    TooFast,
    Unreachable,
)
from launcher.models import Need, Offer, Order, ResourceState, Runtime, RuntimeKind
from launcher.providers import runpod_forms
from launcher.providers.runpod import RunpodProvider
from launcher.providers.runpod_guard import MOST_BYTES, start_command
from tests.emulators.runpod.emulation import Clock, Emulation, emulated
from tests.emulators.runpod.faults import CAPACITY, Fault, How, too_many

RTX = Need(gpus=("RTX 4090",))
SPOTLESS: tuple[Literal["removed", "gone"], ...] = ("removed", "gone")
VOLUME = {"id": "vol1", "name": "mine", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}
LOST = (
    Fault(How.STATUS, 500, after=True),
    Fault(How.HTML, 502, after=True),
    Fault(How.TRUNCATED, after=True),
    Fault(How.DROPPED, after=True),
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulation(clock: Clock) -> Iterator[Emulation]:
    with emulated(clock.now) as one:
        yield one


@pytest.fixture
def provider(emulation: Emulation) -> RunpodProvider:
    return emulation.provider()


def order(offer: Offer, need: Need = RTX, **changes: Any) -> Order:
    at = offer.price_as_of
    assert at is not None
    made = Order(
        run="quick-abcd",
        attempt=1,
        token=token_hex(16),
        owner="somebody",
        offer=offer,
        runtime=Runtime(RuntimeKind.IMAGE, None, "a test", image="any/image:1"),
        need=need,
        ends_at=at + timedelta(hours=1),
        ends_in_s=3600,
        boot_limit_s=900,
        hold_s=60,
        folder="",
        boot_guard="print('boot')",
        public_keys=("ssh-ed25519 AAAA run",),
    )
    return replace(made, **changes)


class TestCreate:
    def test_says_all_of_an_order_and_no_secret(self, emulation: Emulation, provider: RunpodProvider) -> None:
        need = replace(RTX, disk_gb=30, min_cuda="12.4", regions=("EU-CZ-1",))
        [offer] = provider.offers(need)
        wanted = order(offer, need)
        made = provider.create(wanted)
        [pod] = emulation.cloud.pods.values()
        assert pod.asked["gpu"] == {"id": "NVIDIA GeForce RTX 4090", "count": 1, "minCudaVersion": "12.4"}
        assert pod.asked["mounts"] == {"persistent": {"size": 30, "path": "/launcher"}}
        assert (pod.asked["ports"], pod.asked["dataCenterIds"]) == (["22/tcp"], ["EU-CZ-1"])
        assert pod.asked["env"]["PUBLIC_KEY"] == "ssh-ed25519 AAAA run"
        assert pod.asked["env"]["RUNPOD_API_BASE_URL"] == emulation.cloud.root
        assert wanted.token in pod.asked["name"] and wanted.run in pod.asked["name"]
        assert made.usd_per_hour == offer.usd_per_hour
        assert emulation.cloud.key not in emulation.stored()

    def test_looks_before_it_asks(self, emulation: Emulation, provider: RunpodProvider) -> None:
        wanted = order(provider.offers(RTX)[0])
        assert provider.create(wanted).id == provider.create(wanted).id
        assert len(emulation.cloud.pods) == 1

    def test_a_template_brings_the_image_and_loses_against_the_call(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        kept = {"image": "their/image:2", "args": "sleep infinity", "env": {"THEIRS": "1", "PUBLIC_KEY": "x"}}
        emulation.cloud.templates["tpl1"] = kept
        need = replace(RTX, template="tpl1")
        nameless = Runtime(RuntimeKind.IMAGE, None, "a template's")
        provider.create(order(provider.offers(need)[0], need, runtime=nameless))
        provider.create(order(provider.offers(need)[0], need))
        first, second = emulation.cloud.pods.values()
        assert (first.asked["image"], second.asked["image"]) == ("their/image:2", "any/image:1")
        assert first.asked["env"]["THEIRS"] == "1" and first.asked["env"]["PUBLIC_KEY"].startswith("ssh-")
        assert "sleep infinity" not in first.asked["args"], "its guard is its first process"
        lost = replace(RTX, template="tpl2")
        with pytest.raises(BadOrder, match="template not found"):
            provider.create(order(provider.offers(RTX)[0], lost, runtime=nameless))

    @pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.how)
    def test_a_lost_answer_is_found_again_by_its_token(
        self, emulation: Emulation, provider: RunpodProvider, fault: Fault
    ) -> None:
        wanted = order(provider.offers(RTX)[0])
        emulation.cloud.faults.add("create", fault)
        with pytest.raises(Unreachable) as caught:
            provider.create(wanted)
        assert not caught.value.surely_no_effect
        assert [r.token for r in provider.list(wanted.run)] == [wanted.token]
        assert len(emulation.cloud.pods) == 1

    @pytest.mark.parametrize("words", [0, 1])
    def test_no_capacity_in_both_phrasings(
        self, emulation: Emulation, provider: RunpodProvider, words: int
    ) -> None:
        wanted = order(provider.offers(RTX)[0])
        emulation.cloud.conditions.capacity_words = words
        emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090")
        with pytest.raises(NoCapacity, match=CAPACITY[words].split(".")[0]):
            provider.create(wanted)

    def test_low_balance_and_too_fast_and_a_key_that_may_only_look(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        wanted = order(provider.offers(RTX)[0])
        emulation.cloud.conditions.balance = 0
        with pytest.raises(QuotaReached):
            provider.create(wanted)
        emulation.cloud.faults.add("create", too_many(3))
        with pytest.raises(TooFast):
            provider.create(wanted)
        with pytest.raises(AuthRefused):
            emulation.provider(emulation.cloud.read_key).create(wanted)
        assert emulation.cloud.pods == {}

    def test_a_word_that_only_newer_deployments_know_is_left_out_where_it_is_refused(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        need = replace(RTX, ram_gb=Decimal(31))
        provider.create(order(provider.offers(need)[0], need))
        tried = [json.loads(h.body)["gpu"] for h in emulation.front.heard if h.method == "POST"]
        assert [gpu.get("minRamPerGpu") for gpu in tried] == [31, None]
        assert len(emulation.cloud.pods) == 1

    def test_a_rule_that_is_broken_is_no_lack_of_capacity(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        need = replace(RTX, registry="reg_unknown")
        with pytest.raises(BadOrder, match="Registry auth not found"):
            provider.create(order(provider.offers(need)[0], need))

    def test_the_price_that_create_tells_is_the_resource_s(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        [offer] = provider.offers(RTX)
        emulation.cloud.conditions.price_factor = 1.5
        assert provider.create(order(offer)).usd_per_hour > offer.usd_per_hour * Decimal("1.4")

    def test_a_network_volume_takes_the_place_of_the_disk(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        emulation.cloud.volumes["vol1"] = VOLUME
        need = replace(RTX, network_volume="vol1")
        wanted = order(provider.offers(need)[0], need)
        provider.create(wanted)
        [pod] = emulation.cloud.pods.values()
        assert pod.asked["mounts"] == {"network": [{"volumeId": "vol1", "path": "/launcher"}]}
        assert pod.asked["env"]["LAUNCHER_SPOOL"] == f"/launcher/runs/{wanted.token}"

    def test_spot_is_rented_by_a_bid(self, emulation: Emulation, provider: RunpodProvider) -> None:
        emulation.cloud.conditions.spot = "offered"
        need = replace(RTX, spot=True, on_demand=False)
        wanted = order(provider.offers(need)[0], need)
        made = provider.create(wanted)
        [pod] = emulation.cloud.pods.values()
        assert (made.id, made.token, pod.spot) == (pod.id, wanted.token, True)
        assert made.usd_per_hour == wanted.offer.usd_per_hour
        assert provider.get(made.id).token == wanted.token

    def test_the_image_brings_its_least_cuda_version_unless_the_user_says_one(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        pinned = Runtime(RuntimeKind.IMAGE, None, "a test", image="any/image:1", min_cuda="12.8")
        [offer] = provider.offers(RTX)
        for need, least in ((RTX, "12.8"), (replace(RTX, min_cuda="12.4"), "12.4")):
            made = provider.create(order(offer, need, runtime=pinned))
            assert emulation.cloud.pods[made.id].asked["gpu"]["minCudaVersion"] == least

    def test_what_was_rented_by_a_bid_is_started_by_the_same_one(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        emulation.cloud.conditions.spot = "offered"
        made = provider.create(order(provider.offers(replace(RTX, spot=True, on_demand=False))[0]))
        provider.get(made.id)
        provider.pause(made.id)
        provider.unpause(made.id)
        again = emulation.front.heard[-1].body
        assert "podBidResume" in again and '"bidPerGpu": 0.345' in again and '"gpuCount": 1' in again
        clock.pass_s(1)
        assert provider.get(made.id).state is ResourceState.RUNNING
        provider.pause(made.id)
        for state in SPOTLESS:
            emulation.cloud.conditions.spot = state
            with pytest.raises(NoCapacity, match="no longer starts such pods"):
                provider.unpause(made.id)

    def test_spot_that_is_gone_by_then_makes_nothing(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        emulation.cloud.conditions.spot = "offered"
        wanted = order(provider.offers(replace(RTX, spot=True, on_demand=False))[0])
        for state in SPOTLESS:
            emulation.cloud.conditions.spot = state
            with pytest.raises(NoCapacity):
                provider.create(wanted)
        assert emulation.cloud.pods == {}


class TestAPod:
    def test_is_reachable_only_once_its_port_is_mapped(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        emulation.cloud.conditions.provision_s = 10
        emulation.cloud.conditions.ports_late_s = 20
        made = provider.create(order(provider.offers(RTX)[0]))
        assert made.state is ResourceState.BOOTING
        clock.pass_s(10)
        provider.get(made.id)
        early = provider.get(made.id)
        assert (early.state, early.access) == (ResourceState.RUNNING, None)
        clock.pass_s(20)
        access = provider.get(made.id).access
        assert access is not None and access.route is not None
        assert (access.kind, access.host_key, access.root) == ("ssh", "announce", "/launcher")
        assert access.address == f"192.0.2.7:{access.route.port}"
        assert (access.route.user, access.route.pins, access.route.agent) == ("root", (), False)

    def test_another_boot_has_another_mark_and_another_port(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        made = provider.create(order(provider.offers(RTX)[0]))
        first = provider.get(made.id)
        clock.pass_s(5)
        with emulation.cloud.lock:
            emulation.cloud.act(emulation.cloud.pods[made.id], "restart")
        second = provider.get(made.id)
        assert first.boot is not None and second.boot is not None and first.boot != second.boot
        assert first.access != second.access

    def test_stopped_costs_its_disk_and_starts_again(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        made = provider.create(order(provider.offers(RTX)[0]))
        provider.get(made.id)
        provider.pause(made.id)
        stopped = provider.get(made.id)
        assert stopped.state is ResourceState.STOPPED
        assert 0 < stopped.usd_per_hour < Decimal("0.01")
        assert emulation.cloud.ledger.billing_a_gpu() == []
        assert provider.list(made.run) == (stopped,)
        provider.unpause(made.id)
        clock.pass_s(1)
        assert provider.get(made.id).state is ResourceState.RUNNING
        provider.pause(made.id)
        emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090")
        with pytest.raises(NoCapacity):
            provider.unpause(made.id)

    def test_a_stranger_s_pod_is_not_ours(self, emulation: Emulation, provider: RunpodProvider) -> None:
        with emulation.cloud.lock:
            gpu = {"id": "NVIDIA A40", "count": 1}
            pod = emulation.cloud.create({"name": "mine", "image": "a", "gpu": gpu})
        assert provider.list() == ()
        with pytest.raises(Gone):
            provider.get(pod.id)

    def test_its_name_tells_whose_it_is_where_its_environment_is_withheld(self) -> None:
        answer = {"id": "a", "name": f"launcher-quick-abcd-{'0' * 32}", "status": "EXITED", "env": None}
        found = runpod_forms.resource(answer)
        assert (found.run, found.token) == ("quick-abcd", "0" * 32)

    @pytest.mark.parametrize("id", ["", "a/b", "../x", "a b", "é"])
    def test_an_id_that_is_none_reaches_nobody(self, provider: RunpodProvider, id: str) -> None:
        with pytest.raises(Gone):
            provider.get(id)


class TestTheEnd:
    def test_what_is_not_listed_yet_is_listed_later(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        emulation.cloud.conditions.list_lag_s = emulation.cloud.conditions.get_lag_s = 120
        made = provider.create(order(provider.offers(RTX)[0]))
        assert provider.list(made.run) == ()
        with pytest.raises(Gone):
            provider.get(made.id)
        provider.terminate(made.id)  # silent, and proves nothing
        clock.pass_s(120)
        assert [r.id for r in provider.list(made.run)] == [made.id]
        provider.terminate(made.id)
        assert provider.list(made.run) == ()
        assert emulation.cloud.ledger.billing() == []

    def test_what_cannot_be_terminated_is_stopped_at_least(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        made = provider.create(order(provider.offers(RTX)[0]))
        emulation.cloud.faults.always("delete", Fault(How.STATUS, 500))
        with pytest.raises(Unreachable):
            provider.terminate(made.id)
        assert emulation.cloud.ledger.billing_a_gpu() == []
        emulation.cloud.faults.always("delete", None)
        provider.terminate(made.id)
        assert emulation.cloud.ledger.billing() == []

    def test_the_bill_is_runpod_s_own(
        self, emulation: Emulation, provider: RunpodProvider, clock: Clock
    ) -> None:
        [offer] = provider.offers(RTX)
        made = provider.create(order(offer))
        assert provider.billed(made.id) is None
        clock.pass_s(1800)
        assert provider.billed(made.id) == pytest.approx(offer.usd_per_hour / 2, rel=Decimal("0.001"))


class TestTheConsole:
    def test_holds_what_was_said_and_why_nothing_boots(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        emulation.cloud.conditions.broken_images.add("any/image:1")
        made = provider.create(order(provider.offers(RTX)[0]))
        assert provider.get(made.id).state is ResourceState.BOOTING
        assert "[system] error pulling image" in provider.console(made.id)
        emulation.cloud.conditions.broken_images.clear()
        provider.get(made.id)
        emulation.thin.booted[0].say("launcher boot abc")
        assert "launcher boot abc\n" in provider.console(made.id)

    def test_that_is_down_is_an_error_of_the_closed_set(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        made = provider.create(order(provider.offers(RTX)[0]))
        emulation.cloud.faults.add("logs", Fault(How.STATUS, 503))
        with pytest.raises(ProviderError):
            provider.console(made.id)


class TestCheck:
    def test_tells_the_balance_and_what_is_ours(self, emulation: Emulation, provider: RunpodProvider) -> None:
        for left, told in ((7.25, "$7.25"), (-1.239, "-$1.24"), (-0.001, "$0.00")):
            emulation.cloud.conditions.balance = left
            details = [check.detail for check in provider.check()]
            assert details == ["accepted; 0 pods, 0 of them ours", told]

    def test_names_the_line_that_mends_a_missing_key(self, emulation: Emulation) -> None:
        [check] = emulation.provider("rpa_wrong").check()
        assert not check.ok and "RUNPOD_API_KEY" in (check.fix or "")


def test_the_start_command_fits_and_holds_no_key() -> None:
    from launcher import agentpack

    line = start_command(agentpack.boot_guard(), "0" * 32)
    assert len(line.encode()) <= MOST_BYTES
    assert "rpa_" not in line


@pytest.mark.alone
def test_the_adapter_is_quick_to_import() -> None:
    """In seconds of a core: other tests' waiting is not its own."""
    code = (
        "import time; t = time.process_time(); import launcher.providers.runpod, sys; "
        "print(time.process_time() - t, *(m for m in ('requests', 'runpod') if m in sys.modules))"
    )
    best = min(
        float(subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True).stdout)
        for _ in range(3)
    )
    assert best < 0.1
