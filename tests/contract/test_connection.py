"""The one connection, over real servers: who is believed, who is let in, how it ends when the line does."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import HostUnreachable
from launcher.models import Route
from launcher.ssh import known
from launcher.ssh.connection import Connection, connect, shown_key
from launcher.ssh.errors import KeyMismatch, LoginRefused, fingerprint
from tests.hosts.boxes import OTHER_PIN, Box, client_key, sshd_container

pytestmark = pytest.mark.need("docker")


# --- who is believed --------------------------------------------------------------------------------


def test_another_key_than_the_pinned_one_ends_it_before_a_word_is_said(openssh: Box) -> None:
    with pytest.raises(KeyMismatch) as wrong:
        connect(replace(openssh.route, user="never-said", pins=(OTHER_PIN,)))
    assert wrong.value.known
    assert wrong.value.shown == openssh.route.pins[0]
    assert fingerprint(openssh.route.pins[0]) in str(wrong.value)
    with pytest.raises(KeyMismatch) as unpinned:
        connect(replace(openssh.route, user="never-said", pins=()))
    assert not unpinned.value.known
    said: bytes = openssh.engine.logs(openssh.id)
    assert b"never-said" not in said


def test_a_host_that_changed_its_key() -> None:
    with sshd_container("openssh") as box:
        connect(box.route).close()
        box.sh("cd /etc/ssh && rm ssh_host_* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key")
        box.sh("kill -HUP 1")

        def changed() -> bool:
            try:
                connect(box.route).close()
            except KeyMismatch as e:
                return e.known
            except HostUnreachable:
                return False  # it is starting anew
            return False

        until = time.monotonic() + 60
        while not changed():
            assert time.monotonic() < until


def test_the_pinned_kind_of_key_is_the_one_asked_for() -> None:
    with sshd_container("openssh", more_keys=["rsa", "ecdsa"]) as box:
        assert len(box.route.pins) == 3
        for pin in box.route.pins:
            only = replace(box.route, pins=(pin,))
            assert shown_key(only) == pin
            connect(only).close()


def test_a_pinned_kind_that_the_host_no_longer_has_is_a_mismatch(openssh: Box) -> None:
    with pytest.raises(KeyMismatch):
        connect(replace(openssh.route, pins=("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==",)))


def test_what_a_host_shows_can_be_looked_at(any_sshd: Box) -> None:
    assert (shown_key(replace(any_sshd.route, pins=(), user="nobody", keys=())),) == any_sshd.route.pins


@pytest.mark.need("sshd")
def test_what_ssh_keyscan_wrote_is_a_pin(any_sshd: Box, tmp_path: Path) -> None:
    route = any_sshd.route
    scan = ["ssh-keyscan", "-p", str(route.port), route.address]
    book = tmp_path / "known_hosts"
    book.write_bytes(subprocess.run(scan, check=True, capture_output=True).stdout)
    for _ in range(2):
        found = known.pins(route.address, route.port, files=(str(book),))
        connect(replace(route, pins=found)).close()
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(book)], check=True, capture_output=True)


# --- who is let in ----------------------------------------------------------------------------------


def test_a_host_that_wants_a_password() -> None:
    with sshd_container("openssh", password="secret") as box, pytest.raises(LoginRefused) as refused:
        connect(box.route)
    assert "only by keyboard-interactive or password" in str(refused.value)
    assert "PubkeyAuthentication" in str(refused.value)


@pytest.fixture
def keys(tmp_path: Path) -> Callable[..., Path]:
    def made(name: str, passphrase: str = "", copy: bool = False) -> Path:
        path = tmp_path / name
        if copy:
            path.touch(0o600)
            path.write_bytes(client_key().read_bytes())
            path.with_suffix(".pub").write_bytes(client_key().with_suffix(".pub").read_bytes())
            change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(path)]
            subprocess.run(change, check=True, capture_output=True)
        else:
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
            subprocess.run(make, check=True)
        return path

    return made


@pytest.mark.need("sshd")
def test_keys_that_do_not_fit_are_named_and_what_to_do(any_sshd: Box, keys: Callable[..., Path]) -> None:
    stranger, locked = keys("stranger"), keys("locked", passphrase="pass", copy=True)
    route = replace(any_sshd.route, keys=(str(stranger), str(locked), "/nowhere/key"))
    with pytest.raises(LoginRefused) as refused:
        connect(route)
    told = str(refused.value)
    assert f"tried {stranger}" in told
    assert f"{locked} is locked by a passphrase: ssh-add {locked}" in told
    assert "/nowhere/key is not there" in told
    assert f"ssh-copy-id -p {route.port} dev@127.0.0.1" in told
    connect(replace(route, keys=(*route.keys, str(client_key())))).close()


@pytest.mark.need("sshd")
def test_keys_of_the_agent_only_when_the_route_says_so(
    openssh: Box, keys: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not place.exists():
            assert time.monotonic() < until
        strangers = [keys(f"stranger-{n}") for n in range(8)]  # more than a host has patience for
        for key in (*strangers, client_key()):
            subprocess.run(["ssh-add", "-q", str(key)], check=True)
        locked = keys("locked", passphrase="pass", copy=True)
        route = replace(openssh.route, keys=(str(locked),), agent=True)
        connect(route).close()
        connect(replace(route, agent_others=False)).close()
        connect(replace(route, keys=(str(locked) + ".pub",))).close()
        with pytest.raises(LoginRefused, match="locked by a passphrase"):
            connect(replace(route, agent=False))
        with pytest.raises(LoginRefused, match="there is none to try"):
            connect(replace(route, keys=(str(strangers[0]) + "-gone",), agent_others=False))
        with pytest.raises(LoginRefused, match="ended the talk"):
            connect(replace(route, keys=()))
    finally:
        agent.terminate()
        agent.wait(5)


def test_neither_agent_nor_terminal_nor_forwarding_is_there(line: Connection) -> None:
    done = line.run(["sh", "-c", "echo ${SSH_AUTH_SOCK-none}; test -t 0 && echo terminal; :"])
    assert done.stdout == b"none\n"


# --- jump hosts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inner(openssh: Box) -> Iterator[Box]:
    with sshd_container("dropbear", behind=openssh) as box:
        yield box


def test_through_a_jump_host_both_keys_are_pinned(inner: Box, openssh: Box) -> None:
    with closing(connect(inner.route)) as connection:
        assert connection.run(["hostname"]).exit_code == 0
        assert connection.run(["sh", "-c", "ls /opt/box"]).stdout == b"dropbear.sh\nnvidia-smi\n"
    with pytest.raises(HostUnreachable):  # there is no other way
        connect(replace(inner.route, via=None), timeout=3)
    with pytest.raises(KeyMismatch) as wrong:
        connect(replace(inner.route, pins=(OTHER_PIN,)))
    assert wrong.value.shown == inner.route.pins[0]
    with pytest.raises(KeyMismatch) as jump:
        connect(replace(inner.route, via=replace(openssh.route, pins=(OTHER_PIN,))))
    assert jump.value.shown == openssh.route.pins[0]
    assert shown_key(replace(inner.route, pins=())) == inner.route.pins[0]


def test_a_jump_host_that_opens_no_way(openssh: Box) -> None:
    nobody = Route("127.0.0.1", 9, "dev", pins=(OTHER_PIN,), via=openssh.route)
    with pytest.raises(HostUnreachable, match="jump host opens no way"):
        connect(nobody)


def test_the_line_before_a_jump_host_breaks(inner: Box, openssh: Box) -> None:
    with openssh.relay() as relay:
        connection = connect(replace(inner.route, via=openssh.through(relay)))
        with connection.session(b"cat") as channel:
            relay.cut()
            assert channel.recv(1) == b""
        until = time.monotonic() + 60
        while connection.alive:
            assert time.monotonic() < until
        connection.close()


# --- what is said arrives ---------------------------------------------------------------------------

WORDS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
        st.text("'\"\\$`!*?~#&;|<>(){}[] \n\t\r=%한글ä", max_size=20),
        st.binary(max_size=20).filter(lambda b: 0 not in b).map(os.fsdecode),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(words=WORDS)
def test_words_arrive_as_they_were_said(line: Connection, words: list[str]) -> None:
    done = line.run(["printf", r"%s\0", *words])
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


@pytest.mark.alone
def test_the_distance_is_known_after_the_login(any_sshd: Box) -> None:
    """The best of three, since it is the line's part that is judged."""
    took = []
    with any_sshd.relay(delay_s=0.1) as relay, closing(connect(any_sshd.through(relay))) as connection:
        assert 0.2 <= connection.rtt_s < 0.4
        for _ in range(3):
            began = time.monotonic()
            assert connection.run(["echo", "there"]).stdout == b"there\n"
            took.append(time.monotonic() - began)
    assert 0.4 <= min(took) < 0.6  # two round trips: a channel, and all the rest


def test_much_in_and_much_out_at_once(line: Connection) -> None:
    data = random.Random(1).randbytes(24 << 20)
    assert line.run(["cat"], stdin=data, timeout=60).stdout == data
    both = line.run(["sh", "-c", "head -c 9000000 /dev/zero >&2; cat"], stdin=data, timeout=60)
    assert (both.stdout == data, len(both.stderr)) == (True, 9_000_000)


@pytest.mark.parametrize("size", [1, 30_000, 40_000])
def test_little_in_is_told_where_it_ends(line: Connection, size: int) -> None:
    assert line.run(["wc", "-c"], stdin=b"x" * size).stdout.strip() == b"%d" % size


def test_what_is_not_wanted_is_not_waited_for(line: Connection) -> None:
    assert line.run(["sh", "-c", "exit 3"], stdin=b"x" * (8 << 20)).exit_code == 3
    assert line.run(["head", "-c", "3"], stdin=b"abcdef" * 1_000_000).stdout == b"abc"
    with pytest.raises(HostUnreachable, match="more than can be meant"):
        line.run(["head", "-c", "3000000", "/dev/zero"], most=1_000_000)
    assert line.run(["sh", "-c", "kill -9 $$"]).exit_code != 0
    assert line.run(["/no/such/program"]).exit_code == 127
