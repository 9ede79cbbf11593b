"""Trees on real hosts, OpenSSH with GNU tools and dropbear with busybox: what arrives, stays, breaks."""

from __future__ import annotations

import random
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import Corrupt, HostError, HostUnreachable, Stopped
from launcher.remote import treesync
from launcher.ssh.connection import connect
from tests.contract.trees import (
    ODD,
    Content,
    Place,
    Shape,
    noisy,
    place_on,
    seen,
    through,
    told,
    tree_of,
)
from tests.hosts.boxes import Box
from tests.hosts.relay import Relay

pytestmark = pytest.mark.need("docker")


@pytest.fixture
def place(any_sshd: Box, tmp_path: Path) -> Iterator[Place]:
    with place_on(any_sshd, tmp_path) as made:
        yield made


@pytest.fixture
def relay(place: Place) -> Iterator[Relay]:
    with Relay((place.box.route.address, place.box.route.port)) as made:
        yield made


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


def test_a_push_may_begin_before_it_is_known_what_goes(place: Place) -> None:
    shape: dict[str, Content] = {"a": b"one", "b/c": b"two"}
    place.push(shape)
    for late in (True, False):
        for wanted in (shape, shape | {"a": b"other"}, shape):
            place.rest()
            begun = place.begin()
            if late:
                place.comes("c.*")  # it has taken the copy, and waits for a word
            assert seen(place.connection, place.push(wanted, begun=begun)) == told(wanted)
            begun.close()


def test_a_push_that_was_begun_for_nothing_leaves_all_as_it_was(place: Place) -> None:
    place.push({"a": b"one"})
    place.rest()
    begun = place.begin()
    place.comes("c.*")
    place.sh(f"cd {place.base}/trees/k/g.* && echo x >>tree/a")
    begun.close()
    place.rest()
    assert place.pushed({"a": b"one"}) == told({"a": b"one"})
    other = place.begin()
    assert seen(place.connection, place.push({"z": b"1"}, key="another", begun=other)) == told({"z": b"1"})
    other.close()


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


@pytest.mark.parametrize("ahead", [False, True], ids=["asked", "looked-at-ahead"])
def test_what_arrived_before_a_cut_is_not_sent_again(place: Place, relay: Relay, ahead: bool) -> None:
    """It is there twice by then, as what is kept and as the run's; only what is whole in both will do."""
    shape = noisy(size=200_000, count=60)
    to = f"{place.base}/runs/r/project/d"
    connection = through(relay, place)
    relay.cut_after(7_000_000)
    with pytest.raises(HostUnreachable):
        place.push(shape, over=connection, to=to)
    connection.close()
    own = f"{place.base}/trees/k/s.*/beside/tree/d0"
    damaged = place.sh(f"cd {own} && set -- f* && rm $1 && : >$2 && echo $1 $2").split()
    connection = through(relay, place)
    begun = treesync.Begun(connection, place.base, "k") if ahead else None
    if ahead:
        place.comes("s.*/early")
    before = relay.carried["up"]
    place.push(shape, over=connection, to=to, begun=begun)
    again = relay.carried["up"] - before
    connection.close()
    assert len(damaged) == 2 and again < 12_000_000 * 0.7
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
    broke = 0
    for n in range(40):
        if n >= 8 and broke:
            break
        killer = threading.Timer(0.01 + 0.03 * (n % 8), lambda: place.kill(f"{place.base}/[r]uns"))
        connection = connect(place.box.route)
        killer.start()
        try:
            place.push(second if n % 2 else first, over=connection)
        except HostError:
            broke += 1
        finally:
            connection.close()
            killer.join()
        place.connection.close()
        place.connection = connect(place.box.route)
        assert place.pushed(second if n % 2 else first) == told(second if n % 2 else first)
    assert broke


def test_a_file_that_changes_under_way_is_said(place: Place) -> None:
    tree = tree_of({"a": b"1"}, place.folder)
    changed = replace(tree, files=tuple(f._replace(sha256="0" * 64) for f in tree.files))
    with pytest.raises(Corrupt, match="changed"):
        treesync.send(
            place.connection, place.base, f"{place.base}/runs/c/x", changed, lambda: None, lambda d, t: None
        )
