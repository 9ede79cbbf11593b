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
def box() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


def shows_another_key(box: Box) -> Box:
    """As a host that was set up anew does; connections that stand are cut."""
    key = "/etc/ssh/ssh_host_ed25519_key"
    box.sh(f"rm {key}*; ssh-keygen -q -t ed25519 -N '' -f {key}; kill -HUP 1; pkill -f '[s]shd: dev'; true")
    return replace(box, route=replace(box.route, pins=(" ".join(box.sh(f"cat {key}.pub").split()[:2]),)))


def test_another_key_in_the_middle_of_a_run_is_a_hard_stop_and_once_believed_the_run_goes_on(
    holder: HostedPerson, box: Box, tmp_path: Path
) -> None:
    holder.knows("lab", box)
    instance = holder.steps("torn", "ssh:lab")
    mended = shows_another_key(box)
    told = holder.types("watch", "torn", "--json")
    assert (told.code, told.json()["state"]) == (6, "interrupted"), told.stderr
    assert "host-key-changed" in told.stderr and fingerprint(mended.route.pins[0]) in told.stderr
    assert "host check lab" in told.stderr and "resume torn" in told.stderr, told.stderr
    until(lambda: not [argv for argv in holder.processes().values() if "driver" in argv], "its engine leaves")
    for words in (("status", "torn"), ("ps",)):
        assert fingerprint(mended.route.pins[0]) in holder.types(*words).stdout, words
    assert left_in(box) == [instance], "nothing was given up"
    holder.knows("lab", mended)
    lets_go(box)
    done = holder.types("resume", "torn", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    holder.leaves_nothing(box)


def test_another_key_is_not_passed_over_for_the_next_host(holder: HostedPerson, box: Box) -> None:
    holder.knows("lab", box)
    shows_another_key(box)
    with sshd_container("openssh") as other:
        holder.knows("other", other, "--usd-per-hour", "1")
        refused = holder.hosted("ssh:any", "true")
        assert refused.code == 6 and "host-key-changed" in refused.stderr, refused.stderr
        assert left_in(other) == []


def test_a_stop_that_a_host_does_not_hear_is_answered_and_done_once_it_does(
    holder: HostedPerson, box: Box
) -> None:
    with box.relay() as relay:
        holder.knows("far", replace(box, route=box.through(relay)))
        holder.steps("away", "ssh:far")
        relay.refuse()
        relay.cut()
        stops = [holder.begins("stop", "away")]
        holder.waits_for("away", "stop")
        stops.append(holder.begins("stop", "away", "--now"))
        for stop in stops:
            said = stop.communicate(timeout=60)[1]
            assert stop.returncode == 9 and "end-unconfirmed" in said, said
            assert "its own guard ends it there by" in said, said
        assert "its end is asked for until it answers" in holder.types("status", "away").stdout
        relay.refuse(False)
        ended = holder.types("watch", "away", "--json")
        assert ended.json()["state"] == "stopped", ended.stderr
        holder.leaves_nothing(box)


def test_a_host_that_has_another_address_by_now_is_found_there_by_the_engine_that_lives(
    holder: HostedPerson, box: Box, tmp_path: Path
) -> None:
    with box.relay() as relay:
        holder.knows("lab", replace(box, route=box.through(relay)))
        instance = holder.steps("moves", "ssh:lab")
        engine = holder.engine("moves")
        relay.refuse()
        relay.cut()
        holder.knows("lab", box)
        lets_go(box)
        done = holder.types("watch", "moves", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    assert {fact["pid"] for fact in holder.facts("moves") if fact["kind"] == "engine"} == {engine}
    holder.leaves_nothing(box)


def test_a_disk_that_is_full_there_is_said_and_a_stop_still_gets_through(holder: HostedPerson) -> None:
    with sshd_container("openssh", home_mb=24) as small:
        holder.knows("small", small)
        holder.steps("full", "ssh:small")
        small.sh(f"head -c 99M /dev/zero >{HOME}/fill; df {HOME}", user="dev", code=None)
        stopped = holder.types("stop", "full", "--json")
        assert (stopped.code, stopped.json()["state"]) == (0, "stopped"), stopped.stderr
        assert "ssh:small: its disk is full" in stopped.stderr, stopped.stderr
        holder.leaves_nothing(small)
