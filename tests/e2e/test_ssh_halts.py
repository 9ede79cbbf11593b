"""What only a person can mend in the middle of a run: a host with another key or address, or one away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.ssh.errors import fingerprint
from tests.e2e.containers import undisturbed
from tests.e2e.hosted import HostedPerson, left_in, lets_go, result
from tests.e2e.person import until
from tests.hosts.boxes import HOME, Box, sshd_container

pytestmark = pytest.mark.need("docker")


@pytest.fixture
def person(tmp_path: Path) -> Iterator[HostedPerson]:
    someone = HostedPerson(tmp_path)
    yield someone
    someone.cleans_up()


@pytest.fixture
def box() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


def shows_another_key(box: Box) -> Box:
    """As a host that was set up anew does; connections that stand are cut."""
    key = "/etc/ssh/ssh_host_ed25519_key"
    box.sh(f"rm {key}*; ssh-keygen -q -t ed25519 -N '' -f {key}; kill -HUP 1; pkill -f '[s]shd: dev'; true")
    return replace(box, route=replace(box.route, pins=(" ".join(box.sh(f"cat {key}.pub").split()[:2]),)))


def test_another_key_in_the_middle_of_a_run_is_a_hard_stop_and_once_believed_the_run_goes_on(
    person: HostedPerson, box: Box, tmp_path: Path
) -> None:
    person.knows("lab", box)
    instance = person.steps("torn", "ssh:lab")
    mended = shows_another_key(box)
    told = person.types("watch", "torn", "--json")
    assert (told.code, told.json()["state"]) == (6, "interrupted"), told.stderr
    assert "host-key-changed" in told.stderr and fingerprint(mended.route.pins[0]) in told.stderr
    assert "host check lab" in told.stderr and "resume torn" in told.stderr, told.stderr
    until(lambda: not [argv for argv in person.processes().values() if "driver" in argv], "its engine leaves")
    for words in (("status", "torn"), ("ps",)):
        assert fingerprint(mended.route.pins[0]) in person.types(*words).stdout, words
    assert left_in(box) == [instance], "nothing was given up"
    person.knows("lab", mended)
    lets_go(box)
    done = person.types("resume", "torn", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    person.leaves_nothing(box)


def test_another_key_is_not_passed_over_for_the_next_host(person: HostedPerson, box: Box) -> None:
    person.knows("lab", box)
    shows_another_key(box)
    with sshd_container("openssh") as other:
        person.knows("other", other, "--usd-per-hour", "1")
        refused = person.hosted("ssh:any", "true")
        assert refused.code == 6 and "host-key-changed" in refused.stderr, refused.stderr
        assert left_in(other) == []


def test_a_stop_that_a_host_does_not_hear_is_answered_and_done_once_it_does(
    person: HostedPerson, box: Box
) -> None:
    with box.relay() as relay:
        person.knows("far", replace(box, route=box.through(relay)))
        person.steps("away", "ssh:far")
        relay.refuse()
        relay.cut()
        stops = [person.begins("stop", "away")]
        person.waits_for("away", "stop")
        stops.append(person.begins("stop", "away", "--now"))
        for stop in stops:
            said = stop.communicate(timeout=60)[1]
            assert stop.returncode == 9 and "end-unconfirmed" in said, said
            assert "its own guard ends it there by" in said, said
        assert "its end is asked for until it answers" in person.types("status", "away").stdout
        relay.refuse(False)
        ended = person.types("watch", "away", "--json")
        assert ended.json()["state"] == "stopped", ended.stderr
        person.leaves_nothing(box)


def test_a_host_that_has_another_address_by_now_is_found_there_by_the_engine_that_lives(
    person: HostedPerson, box: Box, tmp_path: Path
) -> None:
    with box.relay() as relay:
        person.knows("lab", replace(box, route=box.through(relay)))
        instance = person.steps("moves", "ssh:lab")
        engine = person.engine("moves")
        relay.refuse()
        relay.cut()
        person.knows("lab", box)
        lets_go(box)
        done = person.types("watch", "moves", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    assert {fact["pid"] for fact in person.facts("moves") if fact["kind"] == "engine"} == {engine}
    person.leaves_nothing(box)


def test_a_disk_that_is_full_there_is_said_and_a_stop_still_gets_through(person: HostedPerson) -> None:
    with sshd_container("openssh", home_mb=24) as small:
        person.knows("small", small)
        person.steps("full", "ssh:small")
        small.sh(f"head -c 99M /dev/zero >{HOME}/fill; df {HOME}", user="dev", code=None)
        stopped = person.types("stop", "full", "--json")
        assert (stopped.code, stopped.json()["state"]) == (0, "stopped"), stopped.stderr
        assert "ssh:small: its disk is full" in stopped.stderr, stopped.stderr
        person.leaves_nothing(small)
