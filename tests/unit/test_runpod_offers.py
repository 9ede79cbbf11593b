"""What Runpod has for a need, live: prices, stock, places, ceilings, and pods that may be taken away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Literal

import pytest

from launcher.errors import NoCapacity
from launcher.models import Need
from launcher.providers.runpod import RunpodProvider
from tests.emulators.runpod.emulation import Emulation, emulated

SPOTLESS: tuple[Literal["removed", "gone"], ...] = ("removed", "gone")
RTX = Need(gpus=("RTX 4090",))


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one
    assert one.front.offences == []


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
            (replace(RTX, regions=("AP",)), []),
            (Need(gpus=("A100-80GB",)), ["A100 PCIe:secure:any", "A100 SXM:secure:any"]),
            (Need(gpus=("H100 SXM", "H200")), ["H100 SXM:secure:any", "H200 SXM:secure:any"]),
            (Need(gpus=("A40",)), ["A40:secure:any"]),
            (replace(RTX, min_cuda="12.9"), []),
            (replace(RTX, gpu_count=9), []),
        ],
    )
    def test_filters(self, provider: RunpodProvider, need: Need, ids: list[str]) -> None:
        assert [offer.id.removeprefix("runpod:") for offer in provider.offers(need)] == ids

    def test_what_is_sold_out_is_not_offered(self, emulation: Emulation, provider: RunpodProvider) -> None:
        emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090", "SECURE")
        assert provider.offers(RTX) == ()
        assert len(provider.offers(replace(RTX, cloud="any"))) == 1

    def test_several_gpus_cost_so_many_times_as_much(self, provider: RunpodProvider) -> None:
        [offer] = provider.offers(replace(RTX, gpu_count=4))
        assert offer.usd_per_hour - offer.disk_usd_per_hour == 4 * Decimal("0.69")

    def test_spot_is_probed_and_never_silently_on_demand(
        self, emulation: Emulation, provider: RunpodProvider
    ) -> None:
        for state in SPOTLESS:
            emulation.cloud.conditions.spot = state
            with pytest.raises(NoCapacity, match="without --spot it rents on demand"):
                provider.offers(replace(RTX, spot=True))
        emulation.cloud.conditions.spot = "offered"
        [offer] = provider.offers(replace(RTX, spot=True))
        assert offer.spot
        assert offer.usd_per_hour - offer.disk_usd_per_hour == Decimal("0.345")


def test_the_adapter_is_imported_without_the_libraries_it_asks_with() -> None:
    """And within a tenth of a second, which a plan without a key pays as well."""
    code = (
        "import sys, time; began = time.perf_counter(); import launcher.providers.runpod; "
        "print(time.perf_counter() - began, *{'requests', 'runpod', 'paramiko'} & set(sys.modules))"
    )
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(3)]
    took = [one.stdout.split() for one in said]
    assert all(len(words) == 1 for words in took), said
    assert min(float(words[0]) for words in took) <= 0.1
