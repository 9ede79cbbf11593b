"""Prices with source and age, and GPU names as people write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import catalogue
from launcher.errors import Exit, LauncherError
from launcher.models import Need, Offer

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def book() -> catalogue.Book:
    return catalogue.load()


def named(offers: tuple[Offer, ...]) -> list[str | None]:
    return [offer.instance_type or offer.gpu for offer in offers]


def listed(offer: Offer) -> Decimal:
    return offer.usd_per_hour - offer.disk_usd_per_hour


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("A100-80", "A100-80GB"),
        ("a100 80gb", "A100-80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("A100-PCIE-40GB", "A100-40GB"),
        ("A100", "A100"),
        ("H100 SXM", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("Any-24GB", "any-24gb"),
        ("g5.xlarge", "g5.xlarge"),
    ],
)
def test_names_are_understood_as_people_and_drivers_write_them(
    book: catalogue.Book, written: str, name: str
) -> None:
    assert book.wished(written) == name


@pytest.mark.parametrize("written", ["RTX 4900", "RTX", "", "any-gb", "80GB", "g5.tiny", "RTX 4090; rm"])
def test_an_unknown_name_is_an_error_that_says_what_would_do(book: catalogue.Book, written: str) -> None:
    with pytest.raises(LauncherError) as caught:
        book.wished(written)
    assert caught.value.code == "unknown-gpu"
    assert caught.value.exit is Exit.USAGE
    assert caught.value.hint


def test_the_nearest_name_is_offered(book: catalogue.Book) -> None:
    with pytest.raises(LauncherError, match="did you mean RTX 4090"):
        book.wished("RTX 4O90")


def test_a_device_that_is_not_in_the_book_keeps_its_own_name(book: catalogue.Book) -> None:
    assert book.device_name(" NVIDIA H200 MIG 1g.18gb ") == "NVIDIA H200 MIG 1g.18gb"


@pytest.mark.parametrize(
    ("gpu", "usd"),
    [
        ("RTX 3090", "0.44"),
        ("RTX 4090", "0.69"),
        ("A40", "1.29"),
        ("A100-40GB", "1.89"),
        ("A100-80GB", "2.99"),
    ],
)
def test_planning_notes_keep_their_date(book: catalogue.Book, gpu: str, usd: str) -> None:
    (offer,) = book.offers(Need(gpus=(gpu,)), "runpod", NOW)
    assert listed(offer) == Decimal(usd)
    assert offer.price_source == "planning notes"
    assert offer.price_as_of == datetime(2025, 9, 1, tzinfo=UTC)
    assert offer.bills


def test_a_24_gb_card_that_reports_less_counts_as_24_gb(book: catalogue.Book) -> None:
    offers = book.offers(Need(gpus=("any-24gb",)), "aws", NOW)
    assert {"A10G", "L4"} <= {offer.gpu for offer in offers}
    assert "T4" not in {offer.gpu for offer in offers}
    assert all(offer.vram_gb is not None and offer.vram_gb >= 24 for offer in offers)


def test_the_cheapest_machine_of_a_model_is_offered_and_the_cheapest_model_first(
    book: catalogue.Book,
) -> None:
    offers = book.offers(Need(), "aws", NOW)
    assert named(offers)[:3] == ["g4dn.xlarge", "g6.xlarge", "g5.xlarge"]
    assert [o.usd_per_hour for o in offers] == sorted(o.usd_per_hour for o in offers)
    assert all(offer.gpu_count == 1 for offer in offers), "nobody asked for eight"


def test_more_memory_means_another_machine(book: catalogue.Book) -> None:
    assert named(book.offers(Need(gpus=("A10G",), ram_gb=Decimal(60)), "aws", NOW)) == ["g5.4xlarge"]


def test_more_gpus_cost_more_where_they_are_priced_one_by_one(book: catalogue.Book) -> None:
    (two,) = book.offers(Need(gpus=("RTX 4090",), gpu_count=2), "runpod", NOW)
    assert (two.gpu_count, listed(two)) == (2, Decimal("1.38"))
    assert named(book.offers(Need(gpus=("A10G",), gpu_count=4), "aws", NOW)) == ["g5.12xlarge"]
    found = book.find(Need(gpus=("RTX 4090",), gpu_count=9), "runpod", NOW)
    assert found.offers == ()
    assert [r.reason for r in found.refused] == ["it has 8 GPUs, 9 are needed"]


def test_a_family_is_any_of_its_models(book: catalogue.Book) -> None:
    assert named(book.offers(Need(gpus=("A100",)), "runpod", NOW)) == ["A100-40GB", "A100-80GB"]
    assert named(book.offers(Need(gpus=("A100",)), "aws", NOW)) == ["p4d.24xlarge", "p4de.24xlarge"]


def test_disks_and_address_are_part_of_the_rate(book: catalogue.Book) -> None:
    (small,) = book.offers(Need(gpus=("T4",), disk_gb=73), "aws", NOW)
    assert small.disk_usd_per_hour == Decimal("0.008") + Decimal("0.005")
    assert small.usd_per_hour == Decimal("0.526") + small.disk_usd_per_hour
    assert small.storage_usd_per_day == 0
    (pod,) = book.offers(Need(gpus=("RTX 4090",), disk_gb=73), "runpod", NOW)
    assert pod.disk_usd_per_hour == Decimal("0.01")
    assert pod.storage_usd_per_day == Decimal("0.48")


def test_a_retired_machine_is_refused_with_what_would_do(book: catalogue.Book) -> None:
    found = book.find(Need(gpus=("p3.2xlarge",)), "aws", NOW)
    assert found.offers == ()
    (refusal,) = found.refused
    assert "retired" in refusal.reason
    assert "g5.xlarge would do" in refusal.reason


def test_what_the_price_list_does_not_know_is_said(book: catalogue.Book) -> None:
    assert (
        "no price is known for RTX 5090"
        in book.find(Need(gpus=("RTX 5090",)), "runpod", NOW).refused[0].reason
    )
    assert "eu-west-1" in book.find(Need(gpus=("L4",), regions=("eu-west-1",)), "aws", NOW).refused[0].reason
    assert "spot" in book.find(Need(spot=True, on_demand=False), "aws", NOW).refused[0].reason
    assert book.find(Need(vram_gb=Decimal(100)), "runpod", NOW).offers == ()
    assert book.find(Need(), "nowhere", NOW) == catalogue.Found()


def test_prices_of_the_future_are_not_used(book: catalogue.Book) -> None:
    assert book.offers(Need(), "runpod", datetime(2025, 8, 31, tzinfo=UTC)) == ()


def overlay(tmp_path: Path, **row: object) -> Path:
    path = tmp_path / "prices.json"
    price = {"target": "runpod", "gpu": "RTX 4090", "gpu_count": 1, "source": "catalogue", **row}
    path.write_text(json.dumps({"prices": [price]}))
    return path


def test_a_newer_price_wins_and_an_older_one_does_not(tmp_path: Path) -> None:
    need = Need(gpus=("RTX 4090",))
    newer = catalogue.load(overlay(tmp_path, usd_per_hour="0.34", as_of="2026-03-04T10:00:00Z"))
    (offer,) = newer.offers(need, "runpod", NOW)
    assert (listed(offer), offer.price_source) == (Decimal("0.34"), "catalogue")
    older = catalogue.load(overlay(tmp_path, usd_per_hour="0.34", as_of="2025-08-31"))
    assert listed(older.offers(need, "runpod", NOW)[0]) == Decimal("0.69")
    undated = catalogue.load(overlay(tmp_path, usd_per_hour="0.34"))
    assert listed(undated.offers(need, "runpod", NOW)[0]) == Decimal("0.69")


def test_a_gpu_that_is_new_to_this_program_is_passed_over(tmp_path: Path) -> None:
    book = catalogue.load(overlay(tmp_path, gpu="RTX 9090", usd_per_hour="1", as_of="2026-03-01"))
    assert book.warnings == ()
    assert len(book.offers(Need(), "runpod", NOW)) == 5
    assert set(book.targets) == {"runpod", "aws"}


def test_whoever_asks_for_another_cloud_is_told_which_one_the_list_knows(book: catalogue.Book) -> None:
    for cloud, more in (
        ("secure", ""),
        ("community", " (secure cloud only)"),
        ("any", " (secure cloud only)"),
    ):
        (offer,) = book.offers(Need(gpus=("RTX 4090",), cloud=cloud), "runpod", NOW)
        assert (offer.price_source, offer.cloud) == (f"planning notes{more}", "secure")


def test_one_whose_memory_is_told_is_learnt(tmp_path: Path) -> None:
    row = {"gpu": "RTX 9090", "vram_gb": 96, "usd_per_hour": "2", "as_of": "2026-03-01"}
    book = catalogue.load(overlay(tmp_path, **row))
    assert book.wished("nvidia rtx 9090") == "RTX 9090" and book.knows("RTX9090")
    for wish in ("RTX 9090", "any-96gb"):
        (offer,) = book.offers(Need(gpus=(wish,)), "runpod", NOW)
        assert (offer.gpu, offer.vram_gb) == ("RTX 9090", Decimal(96))
    assert not catalogue.load(None).knows("RTX 9090"), "by that file alone"
    assert "is not a price list" in catalogue.load(overlay(tmp_path, **{**row, "vram_gb": "NaN"})).warnings[0]


@pytest.mark.parametrize("usd", ["-1", "0", "NaN", "Infinity", "free"])
def test_a_price_that_is_none_spoils_the_file_and_is_said(tmp_path: Path, usd: str) -> None:
    book = catalogue.load(overlay(tmp_path, usd_per_hour=usd, as_of="2026-03-01"))
    assert "the bundled prices are used" in book.warnings[0]
    assert listed(book.offers(Need(gpus=("RTX 4090",)), "runpod", NOW)[0]) == Decimal("0.69")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"prices": [{}]}', '{"prices": 3}', "{}", '"x"'])
def test_a_broken_overlay_is_said_and_never_failed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    assert "is not a price list" in catalogue.load(path).warnings[0]


def test_no_overlay_is_no_fault(tmp_path: Path) -> None:
    assert catalogue.load(tmp_path / "absent.json") == catalogue.load()


@pytest.mark.parametrize(
    ("age", "words", "old"),
    [
        (timedelta(hours=24), None, False),
        (timedelta(hours=25), "1 day old", False),
        (timedelta(days=14), "14 days old", False),
        (timedelta(days=14, seconds=1), "14 days old", True),
        (timedelta(days=63), "63 days old", True),
        (timedelta(days=-1), None, False),
    ],
)
def test_the_age_is_said_after_a_day_and_warned_of_after_two_weeks(
    age: timedelta, words: str | None, old: bool
) -> None:
    assert catalogue.age_words(NOW - age, NOW) == words
    assert catalogue.is_old(NOW - age, NOW) is old


def test_what_has_no_date_has_no_age() -> None:
    assert catalogue.age_words(None, NOW) is None
    assert not catalogue.is_old(None, NOW)


def test_every_row_of_the_snapshot_has_source_date_and_a_known_gpu() -> None:
    raw = json.loads(catalogue.BUNDLED.read_text())
    for row in raw["prices"]:
        assert row["gpu"] in raw["gpus"]
        assert row["target"] in raw["targets"]
        if "retired" not in row:
            assert row["source"] and row["as_of"] and Decimal(row["usd_per_hour"]) > 0
