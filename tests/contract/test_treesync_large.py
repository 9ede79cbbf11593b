"""Large files go by content and by range; and hosts that have no room or let nothing be written."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import HostDiskFull, HostError, HostUnreachable
from launcher.remote import blobs
from launcher.remote.base import Sending
from tests.contract.trees import (
    Content,
    Place,
    Shape,
    large,
    noisy,
    place_on,
    seen,
    through,
    told,
)
from tests.hosts.boxes import Box, sshd_container
from tests.hosts.image import Kind
from tests.hosts.relay import Relay

pytestmark = pytest.mark.need("docker")

CUTS = 13  # on each kind of host; of small files there are more


@pytest.fixture
def place(any_sshd: Box, tmp_path: Path) -> Iterator[Place]:
    with place_on(any_sshd, tmp_path) as made:
        yield made


@pytest.fixture
def relay(place: Place) -> Iterator[Relay]:
    with Relay((place.box.route.address, place.box.route.port)) as made:
        yield made


def sha256(body: Content) -> str:
    held = body[0] if isinstance(body, tuple) else body
    assert isinstance(held, bytes)
    return hashlib.sha256(held).hexdigest()


def digests(place: Place, to: str) -> dict[str, str]:
    """As `seen`, where it would take seconds to fetch all of it."""
    lines = place.sh(f"cd {to} && find . -type f -exec sha256sum {{}} +").splitlines()
    return {name.removeprefix("./"): digest for digest, _, name in (line.partition("  ") for line in lines)}


def test_large_files_by_content_once_and_private(place: Place, relay: Relay) -> None:
    shape = large()
    to = place.push(shape)
    assert seen(place.connection, to) == told(shape)
    place.sh(f"echo x >>{to}/same")
    connection = through(relay, place)
    before = relay.carried["up"]
    again = place.push(shape, over=connection)
    moved = place.push(shape | {"small": b"2", "other": shape["same"]}, over=connection)
    assert relay.carried["up"] - before < 100_000
    connection.close()
    for where, what in ((again, shape), (moved, shape | {"small": b"2", "other": shape["same"]})):
        assert digests(place, where) == {name: sha256(body) for name, body in what.items()}


def test_cuts_of_large_files_are_taken_up_by_range(place: Place, relay: Relay) -> None:
    dice = random.Random(6)
    shape: Shape = {"big": dice.randbytes(blobs.LEAST + 1_000_001)}
    cuts, to = 0, f"{place.base}/runs/big/project/d"
    while cuts < CUTS:
        connection = through(relay, place)
        relay.cut_after(dice.randrange(10_000, 3_000_000))
        try:
            place.push(shape, over=connection, to=to)
        except HostUnreachable:
            cuts += 1
            assert place.sh(f"[ -e {to} ] && echo shown || true") == ""
        else:
            assert seen(place.connection, to) == told(shape)
            place.clear()
        finally:
            connection.close()


def test_ranges_that_came_before_a_cut_are_not_sent_again(place: Place, relay: Relay) -> None:
    size = 3 * blobs.LEAST
    shape: Shape = {"big": random.Random(6).randbytes(size)}
    to = f"{place.base}/runs/big/project/d"
    connection = through(relay, place)
    relay.cut_after(size // 2)
    with pytest.raises(HostUnreachable):
        place.push(shape, over=connection, to=to)
    connection.close()
    before = relay.carried["up"]
    connection = through(relay, place)
    place.push(shape, over=connection, to=to)
    connection.close()
    assert relay.carried["up"] - before < 0.7 * size
    assert seen(place.connection, to) == told(shape)


def test_a_blob_that_was_tampered_with_is_sent_anew(place: Place) -> None:
    shape: Shape = {"big": random.Random(9).randbytes(blobs.LEAST)}
    place.push(shape)
    place.sh(f"cd {place.base} && for f in blobs/*; do dd if=/dev/zero of=$f bs=1 count=5 conv=notrunc; done")
    assert place.pushed(shape) == told(shape)


def test_a_push_ends_soon_when_what_takes_its_large_files_is_killed(place: Place) -> None:
    """What waits for them on the host is alive, and has nothing to say."""

    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="large files"):
        place.push(
            {"big": random.Random(4).randbytes(4 * blobs.LEAST)},
            tick=lambda: place.kill(f"{place.base}/[b]lobs"),
        )
    assert time.monotonic() - began < 30


# --- hosts that cannot --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openssh", "dropbear"])
def test_a_full_disk_shows_nothing_and_keeps_the_former(kind: Kind, tmp_path: Path) -> None:
    with sshd_container(kind, home_mb=6) as box:
        place = Place(box, tmp_path)
        place.push({"a": b"1"})
        for shape in (noisy(8_000_000, 1), large(), noisy(100_000, 50)):
            with pytest.raises(HostDiskFull):
                place.push(shape, to=f"{place.base}/runs/full/project/d")
            assert place.sh(f"[ -e {place.base}/runs/full/project/d ] && echo shown || true") == ""
        assert place.sh(f"ls {place.base}/blobs") == ""  # nor keeps the disk full
        assert place.pushed({"a": b"1"}) == told({"a": b"1"})
        place.connection.close()


def test_a_read_only_home_is_said_in_words(tmp_path: Path) -> None:
    with sshd_container("openssh", read_only_home=True) as box:
        place = Place(box, tmp_path)
        with pytest.raises(HostError, match="read-only"):
            place.push({"a": b"1"})
        place.connection.close()


def test_the_larger_a_file_and_the_shorter_the_line_the_fewer_units() -> None:
    """Each costs the host three processes; over a long line what a cut may lose counts more."""
    file = Sending("big", data=b"")
    units = {
        near: [blobs.Blob(file, mb << 20, near).units for mb in (64, 256, 1024)] for near in (True, False)
    }
    assert units == {True: [128, 64, 64], False: [128, 64, 256]}
