"""Trees on real hosts, OpenSSH with GNU tools and dropbear with busybox: what arrives, stays, breaks."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable, Stopped
from launcher.remote import blobs, treesync
from launcher.remote.base import Sending, Tree
from launcher.ssh.connection import Connection, connect
from tests.hosts.boxes import HOME, Box, sshd_container
from tests.hosts.relay import Relay

pytestmark = pytest.mark.need("docker")

Content = bytes | str | None | tuple[bytes]  # a file · a link · an empty folder · an executable
Shape = Mapping[str, Content]
ODD = {
    "new\nline": b"1",
    "a 'single' \"double\" `back` $HOME \\": b"2",
    "훈련/모델.py": b"3",
    os.fsdecode(b"not-utf8-\xff\xfe"): b"4",
    "-rf": b"5",
    " lead and trail ": b"6",
    "*": b"7",
    "deep/" * 30 + "x" * 120: b"8",
    "tab\there": b"9",
    "empty file": b"",
    "empty folder": None,
    "folder/also empty": None,
    "run.sh": (b"#!/bin/sh\n",),
    "link": "run.sh",
    "link with a long end": "../" * 60 + "x",
    "dead": "/nowhere/at all",
    ".hidden/.file": b"10",
}


def tree_of(shape: Shape, folder: Path, *, key: str = "k", data: bool = False) -> Tree:
    """As the push set would make it: small things from memory, large ones from disk."""
    files = []
    for to, what in shape.items():
        body = what[0] if isinstance(what, tuple) else what
        if not isinstance(body, bytes):
            files.append(Sending(to, 0o755, link=body))
            continue
        mode = 0o444 if data else 0o755 if isinstance(what, tuple) else 0o644
        digest = hashlib.sha256(body).hexdigest()
        source = folder / digest
        source.write_bytes(body)
        files.append(Sending(to, mode, source=source, sha256=digest, size=len(body)))
    size = sum(f.size or 0 for f in files)
    return Tree(key, "digest", tuple(files), size, data)


def seen(connection: Connection, to: str) -> dict[str, tuple[object, ...]]:
    """What lies there, by the host's own tar."""
    done = connection.run(["tar", "-cf", "-", "-C", to, "."], timeout=60, most=256 << 20)
    assert done.exit_code == 0, done.stderr
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout), errors="surrogateescape", encoding="utf-8") as tar:
        for m in tar:
            body = None if m.issym() else tar.extractfile(m)
            found[m.name.removeprefix("./")] = (
                m.type,
                m.mode & 0o777 if m.isreg() else 0,
                m.linkname if m.issym() else body.read() if body is not None else b"",
            )
    return {n: w for n, w in found.items() if n != "."}


def told(shape: Shape) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for name, what in shape.items():
        for cut in range(1, name.count("/") + 1):
            found["/".join(name.split("/")[:cut])] = (tarfile.DIRTYPE, 0, b"")
        if isinstance(what, str):
            found[name] = (tarfile.SYMTYPE, 0, what)
        elif what is None:
            found[name] = (tarfile.DIRTYPE, 0, b"")
        else:
            body, mode = (what[0], 0o755) if isinstance(what, tuple) else (what, 0o644)
            found[name] = (tarfile.REGTYPE, mode, body)
    return found


class Place:
    """A base folder of its own on a host, and a way to push there."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box = box
        self.folder = folder
        self.base = f"{HOME}/.t-{uuid4().hex[:8]}"
        self.connection = connect(box.route)
        self.runs = 0

    def push(
        self,
        shape: Shape,
        *,
        over: Connection | None = None,
        tick: Callable[[], None] = lambda: None,
        key: str = "k",
        data: bool = False,
        to: str | None = None,
    ) -> str:
        self.runs += 1
        to = to or f"{self.base}/runs/{self.runs}/project/d"
        tree = tree_of(shape, self.folder, key=key, data=data)
        treesync.send(over or self.connection, self.base, to, tree, tick, lambda done, total: None)
        return to

    def pushed(self, shape: Shape) -> dict[str, tuple[object, ...]]:
        return seen(self.connection, self.push(shape))

    def sh(self, script: str) -> str:
        return self.box.sh(script, user="dev")

    def clear(self) -> None:
        """A copy for the next run may still be in the making."""
        self.sh(f"for n in $(seq 100); do rm -rf {self.base} 2>/dev/null && exit; sleep 0.1; done; exit 1")

    def kept(self) -> list[str]:
        return sorted(self.sh(f"cd {self.base}/trees/k && ls -d g.*").split())


@pytest.fixture
def place(any_sshd: Box, tmp_path: Path) -> Iterator[Place]:
    made = Place(any_sshd, tmp_path)
    yield made
    made.connection.close()
    made.clear()


@pytest.fixture
def relay(place: Place) -> Iterator[Relay]:
    with Relay((place.box.route.address, place.box.route.port)) as made:
        yield made


def through(relay: Relay, place: Place) -> Connection:
    return connect(replace(place.box.route, address=relay.address[0], port=relay.address[1]))


# --- what arrives -------------------------------------------------------------------------------


def test_odd_names_links_modes_and_empty_folders_arrive_equal(place: Place) -> None:
    assert place.pushed(ODD) == told(ODD)


def test_the_second_time_nothing_travels(place: Place, relay: Relay) -> None:
    place.push(ODD | {"noise": random.Random(1).randbytes(1_000_000)})
    connection = through(relay, place)
    before = relay.carried["up"]
    to = place.push(ODD | {"noise": random.Random(1).randbytes(1_000_000)}, over=connection)
    assert relay.carried["up"] - before < 30_000
    connection.close()
    assert len(seen(place.connection, to)) > len(ODD)


def test_swaps_of_files_folders_and_links_and_deletes(place: Place) -> None:
    first: Shape = {"a": b"1", "b/x": b"2", "b/y": b"3", "c": "a", "d": None, "e/f/g": b"4", "h/i": b"5"}
    second: Shape = {"a/n": b"1", "b": b"2", "c/m": b"3", "d": "b", "e": None, "h": "e", "z": (b"6",)}
    for shape in (first, second, first, ODD, {"a": b"1"}, first):
        assert place.pushed(shape) == told(shape)


def test_any_tree_after_any_tree(place: Place) -> None:
    dice = random.Random(20261120)
    for _ in range(10):
        shape: dict[str, Content] = {}
        for _ in range(dice.randrange(30)):
            name = "/".join(dice.choice(["a", "b", "c", "\n", "é"]) for _ in range(dice.randrange(1, 5)))
            taken = told(shape)
            above = ["/".join(name.split("/")[:n]) for n in range(1, name.count("/") + 1)]
            if name not in taken and not any(a in shape for a in above):
                shape[name] = dice.choice([b"x", b"y", b"", "a", None, (b"x",)])
        assert place.pushed(shape) == told(shape)


def test_only_what_changed_travels(place: Place, relay: Relay) -> None:
    dice = random.Random(2)
    shape: dict[str, Content] = {f"d{n % 7}/{n}": dice.randbytes(20_000) for n in range(100)}
    place.push(shape)
    shape["d0/7"] = b"changed"
    del shape["d1/8"]
    connection = through(relay, place)
    before = relay.carried["up"]
    to = place.push(shape, over=connection)
    assert relay.carried["up"] - before < 60_000
    assert seen(connection, to) == told(shape)
    connection.close()


def test_a_job_that_edits_its_copy_changes_nobody_elses(place: Place) -> None:
    first = place.push({"a": b"one", "b": b"two"})
    place.sh(f"echo changed >>{first}/a; rm {first}/b; chmod 700 {first}/a")
    second = place.push({"a": b"one", "b": b"two"})
    assert seen(place.connection, second) == told({"a": b"one", "b": b"two"})
    assert "changed" in place.sh(f"cat {first}/a")


def test_the_copy_that_lies_ready_is_taken_once_and_only_when_it_is_right(place: Place) -> None:
    shape: Shape = {"a": b"one", "b/c": b"two", "l": "a"}
    place.push(shape)
    ready = f"{place.base}/trees/k/g.*/spare"
    for harm in ("true", "echo x >>a", "rm b/c", "touch new"):
        place.sh(f"for n in $(seq 200); do [ -d {ready} ] && exit; sleep 0.05; done; exit 1")
        place.sh(f"cd {ready} && {harm}")
        assert place.pushed(shape) == told(shape), harm
    assert place.pushed({"a": b"1"}) == told({"a": b"1"})


def test_an_edit_of_what_is_kept_is_noticed_and_mended(place: Place) -> None:
    shape: dict[str, Content] = {"a": b"one", "b/c": b"two"}
    place.push(shape)
    for harm in ("echo x >>tree/a", "rm tree/b/c", "touch tree/b/new", "chmod 755 tree/a", "rm stamp"):
        place.sh(f"cd {place.base}/trees/k/g.* && {harm}")
        assert place.pushed(shape) == told(shape), harm
    place.sh(f"cd {place.base}/trees/k/g.* && echo x >>tree/a")
    assert place.pushed(shape | {"d": b"3"}) == told(shape | {"d": b"3"})


def test_what_is_already_there_is_replaced_as_a_whole(place: Place) -> None:
    to = place.push({"a": b"1", "b": b"2"})
    place.push({"c": b"3"}, to=to)
    assert seen(place.connection, to) == told({"c": b"3"})


def test_data_is_linked_read_only_and_shared(place: Place) -> None:
    into = f"{place.base}/runs/x/input"
    place.push({"one.csv": b"1" * 1000, "deep/two": b"2"}, data=True, key="d1", to=into)
    place.push({"three.csv": b"3"}, data=True, key="d2", to=into)
    place.push({"one.csv": b"1" * 1000, "deep/two": b"2"}, data=True, key="d1", to=into)
    found = seen(place.connection, into)
    assert {n: w[2] for n, w in found.items() if w[0] == tarfile.REGTYPE} == {
        "one.csv": b"1" * 1000,
        "deep/two": b"2",
        "three.csv": b"3",
    }
    assert all(w[1] == 0o444 for w in found.values() if w[0] == tarfile.REGTYPE)
    assert int(place.sh(f"stat -c %h {into}/one.csv")) == 2


# --- what breaks --------------------------------------------------------------------------------


def noisy(size: int = 40_000, count: int = 40, seed: int = 3) -> dict[str, Content]:
    dice = random.Random(seed)
    return {f"d{n % 5}/f{n}": dice.randbytes(size) for n in range(count)} | {"l": "d0/f0", "e": None}


def test_fifty_cuts_and_then_it_is_whole(place: Place, relay: Relay) -> None:
    """A cut push shows nothing and leaves the former one; the next call takes it up."""
    dice, former = random.Random(4), {"former": b"1"}
    place.push(former)
    kept, cuts, round_ = place.kept(), 0, 0
    while cuts < 25:
        round_ += 1
        shape = noisy(seed=100 + round_)
        to = f"{place.base}/runs/cut{round_}/project/d"
        for _ in range(4):
            connection = through(relay, place)
            relay.cut_after(dice.randrange(2_000, 900_000))
            try:
                place.push(shape, over=connection, to=to)
            except HostUnreachable:
                cuts += 1
                assert place.sh(f"[ -e {to} ] && echo shown || true") == ""
                assert set(kept) <= set(place.kept())
                continue
            finally:
                connection.close()
            break
        place.push(shape, to=to)
        assert seen(place.connection, to) == told(shape)
        kept = place.kept()[-1:]
    assert cuts >= 25


def test_what_arrived_before_a_cut_is_not_sent_again(place: Place, relay: Relay) -> None:
    shape = noisy(size=400_000, count=60)
    to = f"{place.base}/runs/r/project/d"
    connection = through(relay, place)
    relay.cut_after(14_000_000)
    with pytest.raises(HostUnreachable):
        place.push(shape, over=connection, to=to)
    connection.close()
    connection = through(relay, place)
    before = relay.carried["up"]
    place.push(shape, over=connection, to=to)
    again = relay.carried["up"] - before
    connection.close()
    assert again < 24_000_000 * 0.7
    assert seen(place.connection, to) == told(shape)


def test_a_stop_in_the_middle_goes_through(place: Place) -> None:
    def stop() -> None:
        raise Stopped("now")

    with pytest.raises(Stopped):
        place.push({"a": b"1"}, tick=stop)
    assert place.pushed({"a": b"1"}) == told({"a": b"1"})


def test_two_pushes_of_one_tree_at_once(place: Place) -> None:
    shapes = [noisy(seed=7), noisy(seed=7), noisy(seed=8)]
    places: list[str | Exception] = [""] * len(shapes)

    def go(n: int) -> None:
        connection = connect(place.box.route)
        try:
            places[n] = place.push(shapes[n], over=connection, to=f"{place.base}/runs/at-once{n}/project/d")
        except HostError as e:
            places[n] = e
        connection.close()

    threads = [threading.Thread(target=go, args=(n,)) for n in range(len(shapes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for shape, to in zip(shapes, places, strict=True):
        assert isinstance(to, str), to
        assert seen(place.connection, to) == told(shape)


def test_the_far_side_killed_at_any_moment(place: Place) -> None:
    """A generation is whole or not there."""
    first, second = noisy(seed=11), noisy(seed=12)
    place.push(first)
    for n in range(8):
        killer = threading.Timer(0.01 + 0.03 * n, lambda: place.box.sh("pkill -9 -u dev sh; true"))
        killer.start()
        connection = connect(place.box.route)
        try:
            place.push(second if n % 2 else first, over=connection)
        except HostError:
            pass
        finally:
            connection.close()
            killer.join()
        place.connection.close()
        place.connection = connect(place.box.route)
        assert place.pushed(second if n % 2 else first) == told(second if n % 2 else first)


def test_a_file_that_changes_under_way_is_said(place: Place) -> None:
    tree = tree_of({"a": b"1"}, place.folder)
    changed = replace(tree, files=tuple(replace(f, sha256="0" * 64) for f in tree.files))
    with pytest.raises(Corrupt, match="changed"):
        treesync.send(
            place.connection, place.base, f"{place.base}/runs/c/x", changed, lambda: None, lambda d, t: None
        )


# --- large files --------------------------------------------------------------------------------


def large(seed: int = 5) -> dict[str, Content]:
    dice = random.Random(seed)
    body = dice.randbytes(blobs.LEAST + 123_457)
    return {
        "small": b"1",
        "dir/big": body,
        "same": body,
        "run": (body,),
        "text": b"words " * (blobs.LEAST // 5),
    }


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
    assert seen(place.connection, again) == told(shape)
    assert seen(place.connection, moved) == told(shape | {"small": b"2", "other": shape["same"]})


def test_cuts_of_large_files_are_taken_up_by_range(place: Place, relay: Relay) -> None:
    dice = random.Random(6)
    shape: Shape = {"big": dice.randbytes(blobs.LEAST + 1_000_001)}
    cuts, to = 0, f"{place.base}/runs/big/project/d"
    while cuts < 25:
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
    shape: Shape = {"big": random.Random(6).randbytes(4 * blobs.LEAST)}
    to = f"{place.base}/runs/big/project/d"
    connection = through(relay, place)
    relay.cut_after(2 * blobs.LEAST)
    with pytest.raises(HostUnreachable):
        place.push(shape, over=connection, to=to)
    connection.close()
    before = relay.carried["up"]
    connection = through(relay, place)
    place.push(shape, over=connection, to=to)
    connection.close()
    assert relay.carried["up"] - before < 0.7 * 4 * blobs.LEAST
    assert seen(place.connection, to) == told(shape)


def test_a_blob_that_was_tampered_with_is_sent_anew(place: Place) -> None:
    shape: Shape = {"big": random.Random(9).randbytes(blobs.LEAST)}
    place.push(shape)
    place.sh(f"cd {place.base} && for f in blobs/*; do dd if=/dev/zero of=$f bs=1 count=5 conv=notrunc; done")
    assert place.pushed(shape) == told(shape)


# --- hosts that cannot --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openssh", "dropbear"])
def test_a_full_disk_shows_nothing_and_keeps_the_former(kind: str, tmp_path: Path) -> None:
    with sshd_container(kind, home_mb=6) as box:
        place = Place(box, tmp_path)
        place.push({"a": b"1"})
        for shape in (noisy(8_000_000, 1), large(), noisy(100_000, 50)):
            with pytest.raises(HostDiskFull):
                place.push(shape, to=f"{place.base}/runs/full/project/d")
            assert place.sh(f"[ -e {place.base}/runs/full/project/d ] && echo shown || true") == ""
        place.sh(f"rm -rf {place.base}/blobs")
        assert place.pushed({"a": b"1"}) == told({"a": b"1"})
        place.connection.close()


def test_a_read_only_home_is_said_in_words(tmp_path: Path) -> None:
    with sshd_container("openssh", read_only_home=True) as box:
        place = Place(box, tmp_path)
        with pytest.raises(HostError, match="read-only"):
            place.push({"a": b"1"})
        place.connection.close()
