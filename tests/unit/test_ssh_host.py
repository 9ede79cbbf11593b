"""What a host over SSH does beyond the contract: lines that break, keys that change, shells that talk, hosts
that flood; against a real sshd.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import pytest

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable, NoFile, Stopped
from launcher.models import Route
from launcher.remote.base import Listed, Sending, Wanted
from launcher.remote.ssh import SshHost
from launcher.ssh.errors import KeyMismatch
from tests.contract.conftest import spool, ssh_box
from tests.hosts.boxes import HOME, USER, Box, sshd_container
from tests.hosts.relay import Relay

pytestmark = pytest.mark.need("docker")
CUTS = 50


def quiet() -> None:
    pass


def listed(path: str, data: bytes) -> Listed:
    return Listed(path, len(data), sha256(data).hexdigest())


def host_of(box: Box, route: Route | None = None, root: str | None = None) -> SshHost:
    return SshHost(replace(box.access(root or spool(box)), route=route or box.route))


def through(relay: Relay, box: Box) -> Route:
    return replace(box.route, address=relay.address[0], port=relay.address[1])


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay(("127.0.0.1", ssh_box().route.port)) as relay:
        yield relay


@pytest.fixture
def far(relay: Relay) -> Iterator[SshHost]:
    host = host_of(ssh_box(), through(relay, ssh_box()))
    yield host
    host.close()


def files(rng: random.Random, sizes: Sequence[int]) -> dict[str, bytes]:
    return {f"deep/{i}/f": rng.randbytes(size) for i, size in enumerate(sizes)}


class TestALineThatBreaks:
    def test_the_next_call_goes_over_a_new_connection(self, far: SshHost, relay: Relay) -> None:
        far.write("f", b"1")
        relay.cut()
        assert far.read("f") == b"1"
        assert far.run(["cat", "f"]).stdout == b"1"
        assert relay.connections == 2

    @pytest.mark.slow
    def test_a_pull_cut_at_any_byte_goes_on_to_the_same_bytes(
        self, far: SshHost, relay: Relay, tmp_path: Path
    ) -> None:
        rng = random.Random(20)
        contents = files(rng, [0, 1, 700_000, 3, 65_536, 200_000])
        far.put([Sending(f"out/{name}", data=data) for name, data in contents.items()], quiet)
        listing = [listed(name, data) for name, data in contents.items()]
        before = relay.carried["down"]
        far.get("out", listing, tmp_path / "whole", quiet)
        whole = relay.carried["down"] - before
        size = sum(map(len, contents.values()))
        assert whole >= size
        broke = 0
        for n in range(CUTS):
            staging = tmp_path / str(n)
            connections = relay.connections
            relay.cut_after(rng.randrange(1, size))  # of both directions: so some of it is missing
            try:
                far.get("out", listing, staging, quiet)
            except HostUnreachable:  # but for a cut before anything was asked
                broke += 1
                had = sum(p.stat().st_size for p in staging.rglob("*") if p.is_file())
                before = relay.carried["down"]
                far.get("out", listing, staging, quiet)
                assert relay.carried["down"] - before < whole - had + 20_000  # nothing comes twice
            assert relay.connections == connections + 1
            assert {name: (staging / name).read_bytes() for name in contents} == contents
        assert broke > CUTS * 0.8

    def test_who_does_not_answer_is_left_alone_for_a_while(self, far: SshHost, relay: Relay) -> None:
        relay.refuse()
        with pytest.raises(HostUnreachable) as first:
            far.read("f")
        tried = relay.connections
        with pytest.raises(HostUnreachable) as second:
            far.read("f")
        assert str(first.value) == str(second.value)
        assert relay.connections == tried
        relay.refuse(False)
        until = time.monotonic() + 60
        while True:
            try:
                far.write("f", b"back")
                break
            except HostUnreachable:
                assert time.monotonic() < until
        assert far.read("f") == b"back"


def test_another_key_is_told_as_such_and_not_knocked_at_again(relay: Relay) -> None:
    box = ssh_box()
    [kind, *_] = box.route.pins[0].split()
    other = next(pin for pin in (f"{kind} AAAAC3NzaC1lZDI1NTE5AAAAI{token_hex(16)}",))
    host = host_of(box, replace(through(relay, box), pins=(other,)))
    for _ in range(3):
        with pytest.raises(KeyMismatch, match="not the pinned one"):
            host.read("f")
    assert relay.connections == 1


def test_a_tick_may_want_the_host_while_a_call_waits(far: SshHost, relay: Relay, tmp_path: Path) -> None:
    """As the engine does, whose lease and hold are due in the middle of a transfer."""
    data = os.urandom(300_000)
    asked: list[list[bytes | None]] = []

    def tick() -> None:
        if len(asked) < 4:
            asked.append(far.read_many([Wanted("in/1"), Wanted("nothing")]))
            far.write("in/1", b"%d" % len(asked))

    far.write("in/1", b"0")
    relay.delay_s = 0.05
    far.put([Sending("out/f", data=data)], tick)
    far.get("out", [listed("f", data)], tmp_path, tick)
    assert (tmp_path / "f").read_bytes() == data
    assert asked == [[b"%d" % n, None] for n in range(4)]
    assert far.read("in/1") == b"4"


@pytest.mark.alone
def test_one_look_at_many_files_is_one_round_trip(far: SshHost, relay: Relay) -> None:
    names = ("events.jsonl", "telemetry.jsonl", "log", "setup.log")
    far.put([Sending(name, data=name.encode()) for name in names], quiet)
    relay.delay_s = 0.2
    begun = time.monotonic()
    assert far.read_many([Wanted(name) for name in names]) == [name.encode() for name in names]
    assert 0.4 <= time.monotonic() - begun < 0.8


def test_a_port_of_the_host_s_own_loopback(far: SshHost) -> None:
    serve = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "open('port.new', 'w').write(str(s.getsockname()[1])); import os; os.rename('port.new', 'port'); "
        "c, _ = s.accept(); c.sendall(c.recv(9)[::-1])"
    )
    far.start(["python3", "-c", serve])
    port = int(eventually_read(far, "port"))
    pipe = far.connect(port)
    pipe.settimeout(10)
    pipe.send(b"abc")
    assert pipe.recv(9) == b"cba"
    pipe.close()
    with pytest.raises(HostError, match="nothing listens on port 1"):
        far.connect(1)
    assert far.read("port") == b"%d" % port


def eventually_read(host: SshHost, path: str) -> bytes:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            return host.read(path)
        except NoFile:
            time.sleep(0.05)  # another process writes it
    raise AssertionError(f"{path} did not appear")


def test_a_program_that_cannot_be_started_is_said(far: SshHost) -> None:
    with pytest.raises(HostError, match="no-such-program"):
        far.start(["no-such-program"])


@pytest.mark.parametrize("kind", ["openssh", "dropbear"])
def test_a_full_disk_is_told_as_such_and_leaves_the_old_file(kind: str, tmp_path: Path) -> None:
    with sshd_container("openssh" if kind == "openssh" else "dropbear", home_mb=4) as box:
        host = host_of(box)
        host.write("f", b"old")
        big = os.urandom(8 << 20)
        with pytest.raises(HostDiskFull):
            host.write("f", big)
        with pytest.raises(HostDiskFull):
            host.put([Sending("g", data=big)], quiet)
        assert host.read("f") == b"old"
        host.close()


def test_a_home_that_cannot_be_written_to_is_said() -> None:
    with sshd_container("openssh", read_only_home=True) as box:
        host = host_of(box, root=f"{HOME}/spool")
        with pytest.raises(HostError, match="Read-only"):
            host.write("f", b"1")
        host.close()


class TestAHostOfItsOwnMind:
    @pytest.fixture
    def box(self) -> Iterator[Box]:
        with sshd_container("openssh") as box:
            yield box

    def test_a_login_shell_may_talk_first(self, box: Box) -> None:
        box.sh(
            f"printf 'echo Welcome; echo; printf \"no newline \"' >{HOME}/.bashrc; chsh -s /bin/bash {USER}"
        )
        host = host_of(box)
        host.write("f", b"exact\n")
        assert host.read("f") == b"exact\n"
        assert host.run(["cat", "f"]).stdout == b"exact\n"
        host.close()

    def test_a_login_shell_may_not_talk_for_ever(self, box: Box) -> None:
        box.sh(f"echo 'while :; do echo Welcome; done' >{HOME}/.bashrc; chsh -s /bin/bash {USER}")
        host = host_of(box)
        with pytest.raises(HostUnreachable, match="without an end"):
            host.read("f")
        host.close()

    @pytest.mark.parametrize("name", ["python3.9", "python3.14", "python"])
    def test_python3_may_have_another_name(self, box: Box, name: str) -> None:
        box.sh(f"mv $(readlink -f /usr/bin/python3) /usr/bin/{name}; rm -f /usr/bin/python3; ls /usr/bin/py*")
        host = host_of(box)
        host.write("f", b"1")
        assert host.read("f") == b"1"
        assert name.encode() in host.run(["sh", "-c", "ps -ef || cat /proc/*/cmdline"]).stdout
        host.close()

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param("yes A | tr -d '\\n'", id="endless letters"),
            pytest.param("printf '\\0\\0\\0\\2{}'", id="an answer without a size"),
            pytest.param("printf '\\0\\0\\0\\20{\"size\":99999999}'", id="more than was asked for"),
            pytest.param("printf '\\0\\0\\0\\14{\"size\": -1}'", id="less than nothing"),
            pytest.param("printf '\\0\\0\\0\\2[]'", id="no object"),
            pytest.param("printf '\\0\\0\\1\\0'; head -c 256 /dev/zero | tr '\\0' '['", id="a nest"),
            pytest.param("head -c 1000000000 /dev/zero | tr '\\0' '\\033' >&2", id="a gigabyte of escapes"),
            pytest.param("exit 1", id="nothing"),
        ],
    )
    def test_a_helper_that_is_none_is_refused_in_little_memory(self, box: Box, answer: str) -> None:
        script = f"#!/bin/sh\nprintf '\\nlauncher-arrived python3\\n'\n{answer}\n"
        box.exec(["sh", "-c", 'printf %s "$1" >/usr/local/bin/python3; chmod 755 "$2"', "sh", script,
                  "/usr/local/bin/python3"])  # fmt: skip
        host = host_of(box)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(HostError) as refused:
            host.read("f", 0, 1000)
        assert str(refused.value).isprintable()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 << 10
        host.close()

    def test_what_is_fetched_may_become_a_link_or_a_pipe(self, box: Box, tmp_path: Path) -> None:
        host = host_of(box)
        host.put([Sending("out/f", data=b"12345"), Sending("out/g", data=b"12345")], quiet)
        for trick in ("ln -s /etc/passwd f", "mkfifo f", "mkdir f", "ln -s ../out/g f", "ln -s /dev/zero f"):
            host.run(["sh", "-c", f"rm -rf f; {trick}"], cwd="out")
            with pytest.raises(Corrupt, match="out/f"):
                host.get("out", [listed("f", b"12345")], tmp_path / "staging", quiet)
            assert list((tmp_path / "staging").iterdir()) == []
        host.close()


@pytest.mark.alone
def test_a_stop_in_a_fetch_is_heard_at_once(far: SshHost, relay: Relay, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    far.put([Sending("out/f", data=data)], quiet)
    relay.half_open()
    begun = time.monotonic()
    with pytest.raises(Stopped):
        far.get("out", [listed("f", data)], tmp_path, stops_after(begun + 0.6))
    assert time.monotonic() - begun < 2


def stops_after(moment: float) -> Callable[[], None]:
    def tick() -> None:
        if time.monotonic() > moment:
            raise Stopped("now")

    return tick
