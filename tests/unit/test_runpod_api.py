"""One call of Runpod's API: what a refusal means, what a lost answer means, and that the key stays home."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from launcher.errors import (
    AuthRefused,
    BadOrder,
    Busy,
    Gone,
    NoCapacity,
    ProviderError,
    QuotaReached,
    TooFast,
    Unreachable,
    VendorBug,
)
from launcher.providers import runpod_keys as keys
from launcher.providers.runpod_api import Api, Unsupported
from launcher.providers.runpod_pace import Pace
from launcher.providers.runpod_refusals import CREATE, no_such_operation
from tests.emulators.runpod.emulation import Emulation, emulated
from tests.emulators.runpod.faults import CAPACITY, Fault, How, too_many

SPOTLESS: tuple[Literal["removed", "gone"], ...] = ("removed", "gone")


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one


@pytest.fixture
def api(emulation: Emulation) -> Iterator[Api]:
    one = Api(emulation.cloud.root, keys.Secret(emulation.cloud.key))
    yield one
    one.close()


@pytest.mark.parametrize(
    ("status", "detail", "doing", "meant"),
    [
        (400, CAPACITY[0], CREATE, NoCapacity),
        (400, CAPACITY[1], CREATE, NoCapacity),
        (400, "mounts.persistent and mounts.network are mutually exclusive", CREATE, BadOrder),
        (400, "spending limit reached", CREATE, QuotaReached),
        (400, "There are not enough free GPUs on the host machine to start this pod.", "start a", NoCapacity),
        (401, "invalid api key", "list pods", AuthRefused),
        (402, "insufficient balance", CREATE, QuotaReached),
        (403, "access denied", CREATE, AuthRefused),
        (403, "your account cannot access this GPU pool", CREATE, BadOrder),
        (403, "access denied", "end a", AuthRefused),
        (404, "pod not found", "look at a", Gone),
        (404, "template not found", CREATE, BadOrder),
        (409, "action not valid", "stop a", Busy),
        (410, "this version is gone", "list pods", VendorBug),
        (422, "Request validation failed.", CREATE, BadOrder),
        (429, "rate limit exceeded", "list pods", TooFast),
        (500, "Something went wrong.", CREATE, Unreachable),
        (503, "try later", "list pods", Unreachable),
    ],
)
def test_a_refusal_means(
    emulation: Emulation, api: Api, status: int, detail: str, doing: str, meant: type[ProviderError]
) -> None:
    emulation.cloud.faults.add("list", Fault(How.STATUS, status, detail))
    with pytest.raises(meant) as caught:
        api.get("/v2/pods", doing)
    assert type(caught.value) is meant
    assert status == 429 or detail.rstrip(".") in caught.value.reason


def test_only_what_surely_had_no_effect_says_so(emulation: Emulation, api: Api) -> None:
    for fault, surely in ((Fault(How.STATUS, 500), False), (Fault(How.STATUS, 402), True)):
        emulation.cloud.faults.add("list", fault)
        with pytest.raises(ProviderError) as caught:
            api.get("/v2/pods", CREATE)
        assert caught.value.surely_no_effect is surely


@pytest.mark.parametrize("how", [How.HTML, How.TRUNCATED, How.DROPPED])
def test_an_answer_that_cannot_be_read_is_no_answer(emulation: Emulation, api: Api, how: How) -> None:
    emulation.cloud.faults.add("list", Fault(how, 200 if how is How.HTML else 502, after=True))
    with pytest.raises(Unreachable) as caught:
        api.get("/v2/pods", "list pods")
    assert not caught.value.surely_no_effect
    assert "<html>" not in caught.value.reason


@pytest.mark.alone
@pytest.mark.parametrize("how", [How.TRICKLING, How.SLOW_BODY])
def test_an_answer_that_trickles_has_no_more_time_than_any_other(emulation: Emulation, how: How) -> None:
    api = Api(emulation.cloud.root, keys.Secret(emulation.cloud.key), answer_s=0.5)
    emulation.cloud.faults.add("list", Fault(how, after=True))
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no whole answer within the time") as caught:
        api.get("/v2/pods", "list pods")
    assert 0.4 < time.monotonic() - began < 2
    assert not caught.value.surely_no_effect
    assert api.get("/v2/pods", "list pods")["pods"] == []
    api.close()


def test_nobody_there_proves_that_nothing_was_heard() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        api = Api(f"http://127.0.0.1:{unheard.getsockname()[1]}", keys.Secret("rpa_any"))
        with pytest.raises(Unreachable, match="nobody listens there") as caught:
            api.get("/v2/pods", "list pods")
    assert caught.value.surely_no_effect
    api.close()
    nowhere = Api("https://api.runpod.invalid", keys.Secret("rpa_any"))  # a name that never is one
    with pytest.raises(Unreachable, match="is there a network") as caught:
        nowhere.get("/v2/pods", "list pods")
    assert caught.value.surely_no_effect
    nowhere.close()


@pytest.mark.parametrize(("said", "wait_s"), [(7, 7.0), (None, 1.0)])
def test_how_long_to_wait_is_told_on(emulation: Emulation, api: Api, said: int | None, wait_s: float) -> None:
    emulation.cloud.faults.add("list", too_many(said) if said else Fault(How.STATUS, 429))
    with pytest.raises(TooFast) as caught:
        api.get("/v2/pods", "list pods")
    assert caught.value.wait_s == wait_s


def test_every_page_of_a_list_is_read(emulation: Emulation, api: Api) -> None:
    assert len(list(api.pages("/v2/catalog/gpus", "gpus", "list GPUs"))) == len(emulation.cloud.catalog.gpus)
    assert len([h for h in emulation.front.heard if h.path == "/v2/catalog/gpus"]) > 1


def test_a_quota_that_runs_low_slows_questions_and_not_acts(emulation: Emulation, api: Api) -> None:
    emulation.cloud.conditions.quota = 10
    for _ in range(5):
        api.get("/v2/pods", "list pods")
    with pytest.raises(TooFast) as caught:
        api.get("/v2/pods", "list pods")
    assert 0 < caught.value.wait_s < 60
    with pytest.raises(Gone):
        api.delete("/v2/pods/nobody", "end nobody")
    assert 429 not in [h.status for h in emulation.front.heard]


def test_the_pace_spreads_what_is_left_and_forgets_what_is_over() -> None:
    pace = Pace()
    pace.heard(
        {"RateLimit": '"minute";r=10;t=20, "day";r=9;t=9', "RateLimit-Policy": '"minute";q=60;w=60'}, 0
    )
    pace.asked(0)
    assert pace.wait_s(0) == pytest.approx(20 / 9)
    assert pace.wait_s(3) == 0
    pace.heard({"RateLimit": '"minute";r=0;t=20'}, 3)
    assert pace.wait_s(4) == pytest.approx(19)
    assert pace.wait_s(24) == 0
    pace.heard({"RateLimit": "nonsense"}, 24)
    assert pace.wait_s(24) == 0


def test_the_key_is_in_no_text(emulation: Emulation, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    key = emulation.cloud.key
    caplog.set_level(logging.DEBUG)
    emulation.cloud.faults.add("list", Fault(How.STATUS, 401, f"invalid api key {key}"))
    emulation.cloud.faults.add("list", Fault(How.DROPPED))
    texts = [repr(api), repr(keys.Secret(key)), str(keys.Secret(key))]
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            api.get("/v2/pods", "list pods")
        cause = caught.value.__cause__
        texts += [repr(caught.value), str(caught.value), caught.value.reason, repr(cause)]
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    emulation.cloud.faults.add("graphql", Fault(How.STATUS, 401, key))
    with pytest.raises(AuthRefused) as refused:
        api.graph("query { myself { id } }", "ask who this is")
    texts += [str(refused.value), caplog.text, emulation.stored()]
    assert not any(key in text for text in texts)


class TestGraphQL:
    def test_gives_the_data(self, emulation: Emulation, api: Api) -> None:
        emulation.cloud.conditions.balance = 3.5
        told = api.graph("query { myself { clientBalance } }", "ask")
        assert told == {"myself": {"clientBalance": 3.5}}

    def test_without_the_operation_or_the_whole_api_it_is_unsupported(
        self, emulation: Emulation, api: Api
    ) -> None:
        query = "mutation($input: PodBidResumeInput!) { podBidResume(input: $input) { id } }"
        for state in SPOTLESS:
            emulation.cloud.conditions.spot = state
            with pytest.raises(Unsupported):
                api.graph(query, "resume", {"input": {"podId": "a", "bidPerGpu": 0.2}})

    def test_an_address_that_is_gone_is_unsupported_too(self, emulation: Emulation, api: Api) -> None:
        emulation.cloud.faults.add("graphql", Fault(How.STATUS, 404, "not found"))
        with pytest.raises(Unsupported, match="has ended"):
            api.graph("query { myself { id } }", "ask")

    @pytest.mark.parametrize(
        ("message", "meant"),
        [
            ('Cannot query field "podRentInterruptable" on type "Mutation".', True),
            ("Spot pods are no longer supported.", True),
            ("Interruptible pods are not available", True),
            (CAPACITY[0], False),
            (CAPACITY[1], False),
            ("Cannot resume a spot pod as an on demand pod.", False),
        ],
    )
    def test_what_was_removed_is_told_from_what_is_sold_out(self, message: str, meant: bool) -> None:
        assert no_such_operation(message) is meant

    @pytest.mark.parametrize(
        ("name", "given", "meant"),
        [
            ("podTerminate", {"podId": "nobody"}, Gone),
            ("podStop", {"podId": "nobody"}, Gone),
            ("podStop", {"pod": "nobody"}, BadOrder),
        ],
    )
    def test_its_errors_are_sorted_by_their_prose(
        self, api: Api, name: str, given: dict[str, str], meant: type[ProviderError]
    ) -> None:
        below = "" if name == "podTerminate" else " { id }"
        kind = f"P{name[1:]}Input"
        query = f"mutation($input: {kind}!) {{ {name}(input: $input){below} }}"
        with pytest.raises(meant):
            api.graph(query, "end nobody", {"input": given})


class TestWhereAndWithWhichKey:
    def test_the_environment_comes_before_the_file(self, tmp_path: Path) -> None:
        self._write(tmp_path, '[default]\napi_key = "rpa_file"\n')
        assert keys.key({"RUNPOD_API_KEY": "rpa_env"}, tmp_path).value == "rpa_env"
        assert keys.key({}, tmp_path).value == "rpa_file"

    @pytest.mark.parametrize("text", ['apikey = "rpa_file"\n', "apiKey = 'rpa_file'\n", 'api_key="rpa_file"'])
    def test_as_each_of_runpod_s_tools_writes_it(self, tmp_path: Path, text: str) -> None:
        self._write(tmp_path, text)
        assert keys.key({}, tmp_path).value == "rpa_file"

    @pytest.mark.parametrize("text", ["", "[default]\n", "api_key = rpa_naked", 'api_key = ""'])
    def test_without_one_it_says_so_and_shows_nothing(self, tmp_path: Path, text: str) -> None:
        self._write(tmp_path, text)
        with pytest.raises(AuthRefused) as caught:
            keys.key({}, tmp_path)
        assert "naked" not in caught.value.reason

    def test_a_key_of_two_lines_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(AuthRefused):
            keys.key({"RUNPOD_API_KEY": "rpa_a\nHost: b"}, tmp_path)

    @pytest.mark.parametrize(
        ("said", "root"),
        [
            ("", "https://api.runpod.io"),
            ("https://api.example/v2/", "https://api.example"),
            ("https://api.example/graphql", "https://api.example"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://10.201.3.1:8000/v2", "http://10.201.3.1:8000"),
        ],
    )
    def test_the_root_as_runpod_s_sdk_reads_it(self, said: str, root: str) -> None:
        assert keys.root({"RUNPOD_API_BASE_URL": said}) == root

    @pytest.mark.parametrize(
        "said", ["http://api.example", "http://8.8.8.8", "ftp://127.0.0.1", "api.example"]
    )
    def test_the_key_does_not_travel_in_the_open(self, said: str) -> None:
        with pytest.raises(BadOrder):
            keys.root({"RUNPOD_API_BASE_URL": said})

    @staticmethod
    def _write(home: Path, text: str) -> None:
        (home / ".runpod").mkdir()
        (home / ".runpod" / "config.toml").write_text(text)
