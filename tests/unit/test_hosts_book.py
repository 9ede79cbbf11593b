"""The book of hosts on disk, how a host is written down, and what targets with places come to in a plan."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import hostwords
from launcher.errors import LauncherError
from launcher.hosts import Device, Facts, Holding, HostBook, HostRecord, check_name
from launcher.hostwords import HostWish, Place
from launcher.models import Need, Route
from launcher.providers import registry
from launcher.providers.ssh import SshProvider
from launcher.store import Home

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
JUMP = Route("jump.example", 22, "me", pins=("ssh-rsa AAAA",))
WAY = Route("10.0.0.5", 2222, "dev", ("/keys/a",), agent=False, pins=("ssh-ed25519 AAAA",), via=JUMP)
CARD = Device("GPU-1", "NVIDIA GeForce RTX 4090", 24564)
OTHER = Device("GPU-2", "NVIDIA A100-SXM4-80GB", 81920)


@pytest.fixture
def book(tmp_path: Path) -> HostBook:
    return HostBook(Home(tmp_path))


def seen(*devices: Device, held: tuple[Holding, ...] = ()) -> Facts:
    return Facts(NOW, devices, held)


# --- on disk ----------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_and_nobody_else_may_read_it(book: HostBook, tmp_path: Path) -> None:
    facts = seen(CARD, held=(Holding("GPU-1", "guest", 7, 18432),))
    record = HostRecord("lab", WAY, Decimal("0.20"), "host add", facts)
    book.save(record)
    assert book.find("lab") == record and book.names() == ("lab",)
    assert stat.S_IMODE((tmp_path / "hosts" / "lab.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o700


def test_what_was_seen_of_a_host_that_was_removed_meanwhile_is_dropped(book: HostBook) -> None:
    book.save(HostRecord("lab", WAY))
    book.seen("lab", seen(CARD))
    assert book.get("lab").facts == seen(CARD)
    book.remove("lab")
    book.remove("lab")
    book.seen("lab", seen(CARD))
    assert book.names() == ()


def test_an_unknown_name_is_told_with_the_nearest(book: HostBook) -> None:
    book.save(HostRecord("workstation", WAY))
    with pytest.raises(LauncherError, match="did you mean 'workstation'"):
        book.get("worksation")


@pytest.mark.parametrize("damage", ["{", "[]", '{"name": "lab"}', '{"name": "lab", "route": 3}'])
def test_a_damaged_record_is_said_and_hides_no_other(book: HostBook, tmp_path: Path, damage: str) -> None:
    told: list[str] = []
    book.save(HostRecord("lab", WAY))
    (tmp_path / "hosts" / "lab.json").write_text(damage)
    book.save(HostRecord("other", WAY))
    assert [record.name for record in book.all(lambda name, e: told.append(name))] == ["other"]
    assert told == ["lab"]
    with pytest.raises(LauncherError) as fault:
        book.get("lab")
    assert fault.value.code == "bad-host" and "host remove lab" in (fault.value.hint or "")


@pytest.mark.parametrize("name", ["", "any", "Lab", "-lab", "a b", "../x", "x" * 41, "lab.json"])
def test_names_that_no_host_can_have(name: str, book: HostBook) -> None:
    with pytest.raises(LauncherError):
        check_name(name)
    assert name == "any" or book.find(name) is None


# --- written down -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("dev@10.0.0.5", Place("dev", "10.0.0.5", 22)),
        ("dev@lab.example.org:2222", Place("dev", "lab.example.org", 2222)),
        ("lab", Place(None, "lab", 22)),
        ("dev@[fe80::1%eth0]:2222", Place("dev", "fe80::1%eth0", 2222)),
        ("dev@2001:db8::1", Place("dev", "2001:db8::1", 22)),
    ],
)
def test_addresses_are_read_and_written_back(text: str, place: Place) -> None:
    assert hostwords.parse(text) == place
    assert hostwords.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "dev@", "@x", "dev@-x", "a b@x", "dev@x:0", "dev@x:65536", "dev@x;y", "[::1", "x y"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="needs user@address"):
        hostwords.parse(text)


def test_a_profile_says_more_of_a_host() -> None:
    said = {
        "address": "dev@x:2",
        "key": "~/.ssh/k",
        "fingerprint": "SHA256:abc",
        "usd_per_hour": 0.2,
        "via": "jump",
    }
    wish = HostWish(Place("dev", "x", 2), ("~/.ssh/k",), "SHA256:abc", Decimal("0.2"), "jump")
    assert hostwords.wish(said) == wish and hostwords.wish("dev@x:2") == HostWish(Place("dev", "x", 2))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (3, "needs user@"),
        ({}, "needs an address"),
        ({"adress": "x"}, "did you mean 'address'"),
        ({"address": ["x"]}, "needs a word"),
    ],
)
def test_what_a_profile_cannot_say_of_a_host(said: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        hostwords.wish(said)


# --- offers and places ------------------------------------------------------------------------------


def test_offers_come_from_what_was_seen(book: HostBook) -> None:
    (unseen,) = SshProvider(HostRecord("lab", WAY)).offers(Need())
    assert (unseen.gpu, unseen.no_gpu, unseen.price_as_of) == (None, None, None), "nobody knows"
    without = replace(seen(), no_gpu="no driver")
    (bare,) = SshProvider(HostRecord("lab", WAY, facts=without)).offers(Need())
    assert (bare.gpu, bare.no_gpu, bare.price_as_of) == (None, "no driver", NOW)
    record = HostRecord("lab", WAY, Decimal("0.20"), facts=seen(CARD, OTHER, CARD))
    first, second = SshProvider(record).offers(Need())
    assert [(o.gpu, o.gpu_count) for o in (first, second)] == [(CARD.name, 2), (OTHER.name, 1)]
    assert first.id != second.id and not first.bills and first.usd_per_hour == Decimal("0.20")


def test_any_means_the_free_and_cheap_ones_first(book: HostBook, tmp_path: Path) -> None:
    taken = seen(CARD, held=(Holding("GPU-1", "guest"),))
    for name, price, facts in (("a-busy", "0", taken), ("b-dear", "3", seen(CARD)), ("c-cheap", "1", None)):
        book.save(HostRecord(name, WAY, Decimal(price), facts=facts))
    assert registry.meant("ssh:any", Home(tmp_path)) == ("ssh:c-cheap", "ssh:b-dear", "ssh:a-busy")
    assert registry.targets(Home(tmp_path))[-3:] == ("ssh:c-cheap", "ssh:b-dear", "ssh:a-busy")


def test_any_means_what_could_not_be_used_last(book: HostBook, tmp_path: Path) -> None:
    broken, full = replace(seen(CARD), fault="read-only"), replace(seen(CARD), disk_free_gb=0.2)
    taken = seen(CARD, held=(Holding("GPU-1", "guest"),))
    for name, facts in (("a-broken", broken), ("b-full", full), ("c-busy", taken), ("d-free", seen(CARD))):
        book.save(HostRecord(name, WAY, Decimal(0), facts=facts))
    assert registry.meant("ssh:any", Home(tmp_path)) == (
        "ssh:d-free",
        "ssh:c-busy",
        "ssh:a-broken",
        "ssh:b-full",
    )


def test_any_of_no_hosts_names_a_line_that_adds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host can be called "any"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LauncherError, match="no host is known") as told:
        registry.meant("ssh:any", Home(tmp_path))
    assert told.value.hint == "host add NAME USER@ADDRESS" and told.value.details == ()


@pytest.mark.parametrize("word", ["ssh:any", "ssh:nobody", "ssh:"])
def test_places_that_are_none(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: Callable[[], object] = lambda: registry.meant(word, Home(tmp_path))  # noqa: E731 - one call, twice named
    with pytest.raises(LauncherError, match="no host"):
        asked()
