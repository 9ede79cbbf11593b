"""What Runpod has for a need, live: prices, stock, places, ceilings, and pods that may be taken away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import pytest

from launcher import catalogue
from launcher.errors import NoCapacity
from launcher.models import Need
from launcher.providers.runpod import RunpodProvider
from launcher.providers.runpod_offers import Market
from tests.emulators.runpod.emulation import Emulation, emulated

SPOTLESS: tuple[Literal["removed", "gone"], ...] = ("removed", "gone")
RTX = Need(gpus=("RTX 4090",))
SPOT = replace(RTX, spot=True, on_demand=False)
VOLUME = {"id": "vol1", "name": "mine", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one


@pytest.fixture
def provider(emulation: Emulation) -> RunpodProvider:
    return emulation.provider()


class TestOffers:
    def test_a_short_name_is_an_offer_with_the_live_price_and_its_disks(
        self, provider: RunpodProvider
    ) -> None:
        [offer] = provider.offers(RTX)
        assert (offer.id, offer.gpu, offer.cloud) == ("runpod:RTX 4090:secure:any", "RTX 4090", "secure")
        assert offer.instance_type == "NVIDIA GeForce RTX 4090"
        assert offer.usd_per_hour - offer.disk_usd_per_hour == Decimal("0.69")
        assert offer.disk_usd_per_hour == Decimal("0.004110")  # 20 GB and 10 GB at $0.10 a month
        assert offer.storage_usd_per_day > 0
        assert offer.disk_gb == 30, "what is paid for, not what was asked for"
        assert offer.bills

    @pytest.mark.parametrize(
        ("need", "ids"),
        [
            (replace(RTX, cloud="any"), ["RTX 4090:community:any", "RTX 4090:secure:any"]),
            (replace(RTX, cloud="community"), ["RTX 4090:community:any"]),
            (
                replace(RTX, regions=("EU-RO-1", "US-KS-2")),
                ["RTX 4090:secure:EU-RO-1", "RTX 4090:secure:US-KS-2"],
            ),
            (replace(RTX, regions=("EU",)), ["RTX 4090:secure:EU-CZ-1", "RTX 4090:secure:EU-RO-1"]),
            (replace(RTX, regions=("europe",)), ["RTX 4090:secure:EU-CZ-1", "RTX 4090:secure:EU-RO-1"]),
            (Need(gpus=("A100-80GB",)), ["A100 PCIe:secure:any", "A100 SXM:secure:any"]),
            (Need(gpus=("A100-80GB",), gpu_words=("A100 SXM",)), ["A100 SXM:secure:any"]),
            (Need(gpus=("A100-80GB",), gpu_words=("a100 pcie",)), ["A100 PCIe:secure:any"]),
            (Need(gpus=("A100",), gpu_words=("A100",)), ["A100 PCIe:secure:any", "A100 SXM:secure:any"]),
            (Need(gpus=("H100 SXM", "H200")), ["H100 SXM:secure:any", "H200 SXM:secure:any"]),
            (Need(gpus=("A40",)), ["A40:secure:any"]),
        ],
    )
    def test_filters(self, provider: RunpodProvider, need: Need, ids: list[str]) -> None:
        assert [offer.id.removeprefix("runpod:") for offer in provider.offers(need)] == ids

    @pytest.mark.parametrize(
        ("need", "why", "hint"),
        [
            (
                replace(RTX, regions=("AP",)),
                "Runpod is in no place called AP; it is in EU-CZ-1, EU-RO-1, EUROPE, NORTH_AMERICA, US-KS-2",
                "--gpu 'RTX 4090'",
            ),
            (
                replace(RTX, min_cuda="12.9"),
                "no RTX 4090 with CUDA 12.9 is free in Runpod's secure cloud now",
                "--gpu 'RTX 4090' --cloud any",
            ),
            (
                replace(RTX, gpu_count=9),
                "no machine of Runpod's has 9× RTX 4090, 8 at most",
                "--gpu 'RTX 4090' --gpus 8",
            ),
            (Need(gpus=("T4", "B200")), "Runpod's catalogue has no T4 or B200", None),
            (replace(RTX, vram_gb=Decimal(30)), "Runpod's catalogue has no RTX 4090", None),
        ],
    )
    def test_why_there_is_none_and_what_would_do(
        self, provider: RunpodProvider, need: Need, why: str, hint: str | None
    ) -> None:
        with pytest.raises(NoCapacity) as caught:
            provider.offers(need)
        assert (caught.value.reason, caught.value.hint) == (why, hint)

    def test_what_is_sold_out_is_not_offered(self, emulation: Emulation, provider: RunpodProvider) -> None:
        emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090", "SECURE")
        with pytest.raises(NoCapacity, match="no RTX 4090 is free in Runpod's secure cloud now") as caught:
            provider.offers(RTX)
        assert caught.value.hint == "--gpu 'RTX 4090' --cloud any"
        assert len(provider.offers(replace(RTX, cloud="any"))) == 1

    def test_where_it_is_free_is_told(self, emulation: Emulation, provider: RunpodProvider) -> None:
        emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090", place="US-KS-2")
        with pytest.raises(NoCapacity, match="no RTX 4090 is free in US now") as caught:
            provider.offers(replace(RTX, regions=("US",)))
        assert caught.value.hint == "--gpu 'RTX 4090' --region EU-CZ-1"

    def test_one_odd_row_hides_no_other(self) -> None:
        row = {"id": "x", "name": "RTX 4090", "memory": 24, "secure": True, "availability": "LOW"}
        market = Market(catalogue.load(), {}, datetime(2026, 11, 21, tzinfo=UTC), {})
        priced = {**row, "price": {"secure": 0.5}}
        assert [one.gpu for one in market.of(priced, "secure", RTX)] == ["RTX 4090"]
        amd = {**priced, "manufacturer": "AMD"}
        for odd in (row, {**row, "price": {"secure": None}}, {**priced, "memory": None}, amd):
            need = Need(gpus=("any-24gb",))
            assert list(market.of(odd, "secure", need)) == [], odd

    def test_a_network_volume_decides_the_data_center_and_the_cloud(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        emulation.cloud.volumes["vol1"] = VOLUME
        need = replace(RTX, network_volume="vol1", cloud="any")
        [offer] = provider.offers(need)
        assert (offer.region, offer.cloud) == ("EU-RO-1", "secure") and offer.storage_usd_per_day == 0
        assert offer.disk_usd_per_hour < provider.offers(RTX)[0].disk_usd_per_hour
        assert len(provider.offers(replace(need, regions=("EU",)))) == 1
        with pytest.raises(NoCapacity, match="vol1 lies in EU-RO-1, not in US") as caught:
            provider.offers(replace(need, regions=("US",)))
        assert caught.value.hint == "--gpu 'RTX 4090' --region EU-RO-1"
        with pytest.raises(NoCapacity, match="secure cloud only"):
            provider.offers(replace(need, cloud="community"))
        with pytest.raises(NoCapacity, match="no network volume vol2"):
            provider.offers(replace(need, network_volume="vol2"))

    def test_several_gpus_cost_so_many_times_as_much(self, provider: RunpodProvider) -> None:
        [offer] = provider.offers(replace(RTX, gpu_count=4))
        assert offer.usd_per_hour - offer.disk_usd_per_hour == 4 * Decimal("0.69")

    def test_spot_is_probed_and_never_silently_on_demand(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        provider.offers(RTX)
        assert not any(heard.path == "/graphql" for heard in emulation.front.heard), "asked only then"
        for state in SPOTLESS:
            emulation.cloud.conditions.spot = state
            with pytest.raises(NoCapacity, match="without --spot it rents on demand") as caught:
                provider.offers(SPOT)
            assert caught.value.hint == "--gpu 'RTX 4090'"
            assert [one.spot for one in provider.offers(replace(SPOT, on_demand=True))] == [False]
        emulation.cloud.conditions.spot = "offered"
        [offer] = provider.offers(SPOT)
        assert offer.spot
        assert offer.usd_per_hour - offer.disk_usd_per_hour == Decimal("0.345")
        both = provider.offers(replace(SPOT, on_demand=True))
        assert [(one.id, one.spot) for one in both] == [
            ("runpod:RTX 4090:secure:any:spot", True),
            ("runpod:RTX 4090:secure:any", False),
        ]
