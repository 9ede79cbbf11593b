"""The price list's newer half: asked of a provider, kept in one file, told with its age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import catalogue, pricing
from launcher.errors import LauncherError, NoCapacity, VendorBug
from launcher.models import Need
from launcher.store import Home
from tests.emulators.runpod.catalog import Gpu
from tests.emulators.runpod.emulation import Emulation, emulated
from tests.unit.planned import Machine

NOW = datetime.now(UTC)


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one
    assert one.front.offences == []


def usd(home: Home, gpu: str) -> Decimal:
    need = Need(gpus=(gpu,))
    [offer] = catalogue.load(home.prices).offers(need, "runpod", datetime.now(UTC))
    return offer.usd_per_hour - offer.disk_usd_per_hour


def test_todays_prices_take_the_place_of_the_bundled_ones(home: Path, emulation: Emulation) -> None:
    place = Home(home)
    emulation.cloud.catalog.sold_out("NVIDIA GeForce RTX 4090")
    fresh = pricing.refresh(place, emulation.provider(), NOW)
    assert {one.gpu for one in fresh} >= {"RTX 4090", "RTX A5000", "H200"}, "sold out or not"
    assert usd(place, "RTX A5000") == Decimal("0.27"), "which the bundled list has not"
    assert usd(place, "A40") == Decimal("0.40"), "and 1.29 there"
    assert usd(place, "A100-80GB") == Decimal("1.64"), "the cheaper of two that count as the same"
    known = pricing.known(catalogue.load(place.prices))
    assert [(one.target, one.source) for one in known] == [
        ("runpod", "prices refresh"),
        ("runpod", "planning notes"),
        ("aws", "public price list"),
        *((one.target, one.source) for one in known[3:]),
    ]
    assert (known[0].prices, known[0].as_of) == (len(fresh), fresh[0].as_of)


def test_a_model_that_is_newer_than_this_program_can_be_named_from_then_on(
    home: Path, emulation: Emulation
) -> None:
    place, stock = Home(home), emulation.cloud.catalog
    new = Gpu("NVIDIA RTX 9090 Pro", "RTX 9090 Pro", 96, Decimal("2.5"), None)
    foreign = replace(new, id="AMD Instinct", name="Instinct", manufacturer="AMD")
    stock.gpus = (*stock.gpus, new, foreign)
    with pytest.raises(LauncherError) as unknown:
        catalogue.load(place.prices).wished("rtx 9090 pro")
    assert any("prices refresh" in line for line in unknown.value.details)
    pricing.refresh(place, emulation.provider(), NOW)
    book = catalogue.load(place.prices)
    assert usd(place, book.wished("rtx 9090 pro")) == Decimal("2.5")
    assert not book.knows("Instinct"), "nothing here runs on it"
    need = Need(gpus=("RTX 9090 Pro",), gpu_words=("rtx 9090 pro",))
    [offer] = emulation.provider().offers(need)
    assert (offer.gpu, offer.vram_gb, offer.instance_type) == ("RTX 9090 Pro", Decimal(96), new.id)
    stock.gpus = stock.gpus[:-2]
    with pytest.raises(NoCapacity, match="catalogue has no rtx 9090 pro"):
        emulation.provider().offers(need)


def test_what_the_file_had_of_others_stays_and_a_broken_one_is_written_anew(
    home: Path, emulation: Emulation
) -> None:
    place = Home(home)
    other = {
        "target": "aws",
        "gpu": "T4",
        "gpu_count": 1,
        "usd_per_hour": "0.5",
        "source": "x",
        "as_of": "2026-11-01",
    }
    place.prices.write_text(json.dumps({"prices": [other, {**other, "target": "runpod"}]}))
    pricing.refresh(place, emulation.provider(), NOW)
    rows = json.loads(place.prices.read_bytes())["prices"]
    assert [row for row in rows if row["source"] != "prices refresh"] == [other]
    place.prices.write_text("{")
    assert pricing.refresh(place, emulation.provider(), NOW)


def test_who_tells_no_prices_is_not_asked(home: Path) -> None:
    with pytest.raises(LauncherError, match="here tells no prices") as caught:
        pricing.refresh(Home(home), Machine(), NOW)
    assert caught.value.code == "no-price-list"


def test_an_answer_without_a_price_changes_nothing(home: Path, emulation: Emulation) -> None:
    emulation.cloud.catalog.gpus = ()
    with pytest.raises(VendorBug, match="no price of any GPU"):
        pricing.refresh(Home(home), emulation.provider(), NOW)
    assert not Home(home).prices.exists()
