"""The emulated Runpod keeps its own promises: what clients do wrong is seen, and money is counted right."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.emulators.runpod.emulation import Clock, Emulation, emulated
from tests.emulators.runpod.faults import Fault, How
from tests.emulators.runpod.ledger import Ledger
from tests.emulators.runpod.machines import Life, Thin
from tests.emulators.runpod.pods import Status

Json = dict[str, Any]
ASKED: Json = {"name": "a", "image": "b", "gpu": {"id": "NVIDIA A40", "count": 1}, "ports": ["22/tcp"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulation(clock: Clock) -> Iterator[Emulation]:
    with emulated(clock.now) as one:
        yield one


def ask(
    emulation: Emulation, method: str, path: str, body: Json | None = None, key: str = ""
) -> tuple[int, Json]:
    address = urlsplit(emulation.cloud.root)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {key or emulation.cloud.key}"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else {}
    finally:
        connection.close()


def headers(emulation: Emulation, path: str) -> dict[str, str]:
    address = urlsplit(emulation.cloud.root)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {emulation.cloud.key}"})
        return dict(connection.getresponse().getheaders())
    finally:
        connection.close()


class TestOffences:
    def test_an_unknown_word_of_a_body_is_refused_by_name_and_kept(self, emulation: Emulation) -> None:
        status, problem = ask(emulation, "POST", "/v2/pods", {**ASKED, "stopAfter": "now"})
        assert status == 422
        assert problem["errors"] == ["$: additional properties 'stopAfter' not allowed"]
        assert emulation.offences() == ["create: $: additional properties 'stopAfter' not allowed"]
        assert emulation.cloud.pods == {}

    @pytest.mark.parametrize(
        ("path", "offence"),
        [
            ("/v1/pods", "GET /v1/pods: there is no such route"),
            ("/v2/pods?status=RUNNING", "list: nobody reads the query parameter status"),
            ("/v2/pods?cursor=KEY", "the key stands in a URL"),
        ],
    )
    def test_a_path_that_nobody_serves_or_reads(self, emulation: Emulation, path: str, offence: str) -> None:
        emulation.cloud.key = "rpa_key"
        ask(emulation, "GET", path.replace("KEY", "0rpa_key") if "KEY" in path else path)
        assert offence in emulation.offences()

    def test_a_value_written_into_a_query(self, emulation: Emulation) -> None:
        status, _ = ask(
            emulation, "POST", "/graphql", {"query": 'mutation { podStop(input: {podId: "a"}) { id } }'}
        )
        assert status == 400
        assert emulation.offences() == ["GraphQL: values are to be sent as variables"]

    def test_capacity_and_a_pod_that_is_gone_are_nobody_s_fault(self, emulation: Emulation) -> None:
        emulation.cloud.catalog.sold_out("NVIDIA A40")
        assert ask(emulation, "POST", "/v2/pods", ASKED)[0] == 400
        assert ask(emulation, "GET", "/v2/pods/nobody")[0] == 404

    @pytest.mark.parametrize(
        ("more", "offence"),
        [
            ({"cpu": {"id": "c", "vcpuCount": 2}}, "create: exactly one of gpu or cpu must be set"),
            ({"env": {f"A{n}": "" for n in range(51)}}, "create: at most 50 environment variables"),
        ],
    )
    def test_a_rule_that_no_shape_tells_is_to_be_known(
        self, emulation: Emulation, more: Json, offence: str
    ) -> None:
        assert ask(emulation, "POST", "/v2/pods", {**ASKED, **more})[0] == 400
        assert emulation.offences() == [offence]

    def test_without_a_count_nothing_is_ever_free(self, emulation: Emulation) -> None:
        assert ask(emulation, "POST", "/v2/pods", {**ASKED, "gpu": {"id": "NVIDIA A40"}})[0] == 400


class TestQuota:
    def test_every_answer_tells_what_is_left_and_too_much_when_to_come_again(
        self, emulation: Emulation
    ) -> None:
        emulation.cloud.conditions.quota, emulation.cloud.conditions.quota_window_s = 2, 30
        told = [headers(emulation, "/v2/pods") for _ in range(3)]
        assert [one["RateLimit"].split(", ")[0].split(";")[:2] for one in told] == [
            ['"minute"', "r=1"],
            ['"minute"', "r=0"],
            ['"minute"', "r=0"],
        ]
        assert told[0]["RateLimit-Policy"].startswith('"minute";q=2;w=30, "hour";q=')
        assert "Retry-After" not in told[1] and 29 <= int(told[2]["Retry-After"]) <= 30


class TestKeys:
    @pytest.mark.parametrize(
        ("key", "status"), [("rpa_wrong", 401), ("read", 403), ("pod", 403), ("own", 204)]
    )
    def test_who_may_end_a_pod(self, emulation: Emulation, key: str, status: int) -> None:
        with emulation.cloud.lock:
            one, other = emulation.cloud.create(dict(ASKED)), emulation.cloud.create(dict(ASKED))
        known = {"read": emulation.cloud.read_key, "pod": other.key, "own": one.key}
        assert ask(emulation, "DELETE", f"/v2/pods/{one.id}", key=known.get(key, key))[0] == status

    def test_a_pod_s_key_ends_with_it(self, emulation: Emulation) -> None:
        with emulation.cloud.lock:
            pod = emulation.cloud.create(dict(ASKED))
            emulation.cloud.terminate(pod)
        assert ask(emulation, "GET", f"/v2/pods/{pod.id}", key=pod.key)[0] == 401


class TestLife:
    def test_a_pod_outlives_its_main_process(self, clock: Clock) -> None:
        def leaves(machine: Thin) -> None:
            machine.say("here")
            if len(machine.lines) == 3:
                machine.state = Life.ENDED

        with emulated(clock.now, leaves) as emulation:
            _, made = ask(emulation, "POST", "/v2/pods", ASKED)
            for _ in range(6):
                clock.pass_s(1)
                ask(emulation, "GET", f"/v2/pods/{made['id']}")
            pod = emulation.cloud.pods[made["id"]]
            assert pod.boots > 1
            assert len(pod.lines()) > 3
            assert emulation.cloud.ledger.billing_a_gpu() == [pod.id]

    def test_a_pull_that_is_given_up_is_an_error_and_bills_no_gpu(
        self, emulation: Emulation, clock: Clock
    ) -> None:
        emulation.cloud.conditions.broken_images.add("b")
        emulation.cloud.conditions.pull_gives_up_s = 60
        _, made = ask(emulation, "POST", "/v2/pods", ASKED)
        clock.pass_s(59)
        assert ask(emulation, "GET", f"/v2/pods/{made['id']}")[1]["status"] == "PROVISIONING"
        clock.pass_s(1)
        assert ask(emulation, "GET", f"/v2/pods/{made['id']}")[1]["status"] == "ERROR"
        assert emulation.cloud.ledger.billing_a_gpu() == []

    def test_who_has_no_hour_s_worth_rents_nothing_and_who_runs_out_is_stopped(
        self, emulation: Emulation, clock: Clock
    ) -> None:
        emulation.cloud.conditions.balance = 0.39
        assert ask(emulation, "POST", "/v2/pods", ASKED)[0] == 402
        emulation.cloud.conditions.balance = 0.45
        _, made = ask(emulation, "POST", "/v2/pods", ASKED)
        clock.pass_s(3600)
        assert ask(emulation, "GET", f"/v2/pods/{made['id']}")[1]["status"] == "RUNNING"
        assert 0 < emulation.cloud.credit() < Decimal("0.05")
        clock.pass_s(600)
        assert ask(emulation, "GET", f"/v2/pods/{made['id']}")[1]["status"] == "EXITED"

    def test_on_an_unfit_host_it_runs_for_ever_and_is_never_up(
        self, emulation: Emulation, clock: Clock
    ) -> None:
        emulation.cloud.conditions.unfit_images.add("b")
        _, made = ask(emulation, "POST", "/v2/pods", ASKED)
        clock.pass_s(3600)
        _, pod = ask(emulation, "GET", f"/v2/pods/{made['id']}")
        assert (pod["status"], pod["runtime"], pod["ssh"]["direct"]) == ("RUNNING", None, None)
        assert emulation.cloud.ledger.billing_a_gpu() == [made["id"]]

    def test_after_a_restart_the_old_port_is_told_for_a_while(
        self, emulation: Emulation, clock: Clock
    ) -> None:
        emulation.cloud.conditions.ports_stale_s = 90
        _, made = ask(emulation, "POST", "/v2/pods", ASKED)
        path = f"/v2/pods/{made['id']}"

        def port() -> int:
            found: int = ask(emulation, "GET", path)[1]["ssh"]["direct"]["port"]
            return found

        first = port()
        ask(emulation, "POST", f"{path}/action", {"action": "restart"})
        assert port() == first
        clock.pass_s(90)
        assert port() != first

    def test_outbid_it_is_stopped_and_vanished_it_is_gone(self, emulation: Emulation) -> None:
        with emulation.cloud.lock:
            one, other = emulation.cloud.create(dict(ASKED)), emulation.cloud.create(dict(ASKED))
            emulation.cloud.outbid(one)
            emulation.cloud.vanish(other)
        assert one.status is Status.EXITED
        assert ask(emulation, "GET", f"/v2/pods/{other.id}")[0] == 404
        assert emulation.cloud.ledger.billing_a_gpu() == []

    @pytest.mark.parametrize("after", [True, False])
    def test_a_fault_comes_before_or_after_its_effect(self, emulation: Emulation, after: bool) -> None:
        emulation.cloud.faults.add("create", Fault(How.STATUS, 500, after=after))
        assert ask(emulation, "POST", "/v2/pods", ASKED)[0] == 500
        assert len(emulation.cloud.pods) == after
        assert ask(emulation, "POST", "/v2/pods", ASKED)[0] == 201

    def test_a_dropped_connection_has_no_byte(self, emulation: Emulation) -> None:
        emulation.cloud.faults.add("list", Fault(How.DROPPED))
        address = urlsplit(emulation.cloud.root)
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as raw:
            raw.sendall(b"GET /v2/pods HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.recv(1) == b""


def test_the_ledger_counts_to_the_second_and_sees_two_at_once(clock: Clock) -> None:
    ledger, began = Ledger(), clock.now()
    hour = timedelta(hours=1)
    ledger.change("a", Decimal(2), Decimal("0.5"), began)
    ledger.change("a", Decimal(0), Decimal("0.1"), began + hour)  # stopped
    ledger.change("b", Decimal(1), Decimal(0), began + hour)  # begins as the other ends
    assert ledger.most_at_once() == 1
    assert (ledger.billing_a_gpu(), ledger.billing()) == (["b"], ["a", "b"])
    ledger.change("c", Decimal(1), Decimal(0), began + hour + timedelta(seconds=1))
    assert ledger.most_at_once() == 2
    ledger.change("a", Decimal(0), Decimal(0), began + 2 * hour)
    amounts = ledger.amounts("a", began, began + 3 * hour)
    assert amounts == {"a": (Decimal(2), Decimal("0.6"))}
    assert ledger.amounts("a", began + hour / 2, began + hour) == {"a": (Decimal(1), Decimal("0.25"))}
