"""How the one connection ends, over real servers: by a deadline, by a stop, by silence, by a broken line."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import HostUnreachable, NoFile, Stopped
from launcher.remote import open_host
from launcher.remote.base import Done
from launcher.remote.talk import Talk
from launcher.ssh.connection import Connection, connect
from launcher.ssh.quoting import line as quoted
from tests.hosts.boxes import HOME, OTHER_PIN, Box

pytestmark = pytest.mark.need("docker")


# --- every wait has an end --------------------------------------------------------------------------


def test_a_child_that_holds_the_output_does_not_hold_us(line: Connection, any_sshd: Box) -> None:
    """OpenSSH waits for the end of the output, dropbear for the end of the command."""
    began = time.monotonic()
    if any_sshd.kind == "dropbear":
        assert line.run(["sh", "-c", "sleep 60 & echo begun"], timeout=1.5).stdout == b"begun\n"
    else:
        with pytest.raises(HostUnreachable, match="holds its output open"):
            line.run(["sh", "-c", "sleep 60 & echo begun"], timeout=1.5)
    assert time.monotonic() - began < 2.5
    assert line.run(["echo", "on"]).stdout == b"on\n"


@pytest.mark.alone
def test_whoever_wants_to_stop_is_heard_twice_a_second(any_sshd: Box, line: Connection) -> None:
    heard: list[float] = []

    def tick() -> None:
        heard.append(time.monotonic())
        if heard[-1] - heard[0] >= 1.2:
            raise Stopped("enough")

    began = time.monotonic()
    with pytest.raises(Stopped):
        line.run(["sleep", "60"], tick=tick)
    assert heard[0] - began < 0.5
    assert max(after - before for before, after in pairwise(heard)) <= 0.5
    with any_sshd.relay() as relay:
        relay.half_open()
        heard.clear()
        with pytest.raises(Stopped):
            connect(any_sshd.through(relay), tick=tick)
        assert heard[-1] - heard[0] < 2


@pytest.mark.alone
def test_waiting_costs_no_work(line: Connection) -> None:
    before = time.process_time()
    line.run(["sleep", "2"])
    assert time.process_time() - before < 0.1


def test_a_host_that_says_nothing_is_given_up_in_time(any_sshd: Box) -> None:
    with any_sshd.relay() as relay:
        relay.half_open()
        began = time.monotonic()
        with pytest.raises(HostUnreachable):
            connect(any_sshd.through(relay), timeout=2)
        assert time.monotonic() - began < 4
        relay.half_open(False)
        relay.refuse()
        with pytest.raises(HostUnreachable):
            connect(any_sshd.through(relay), timeout=2)
    with pytest.raises(HostUnreachable, match="does not answer"):
        connect(any_sshd.through(relay), timeout=2)


# --- broken lines -----------------------------------------------------------------------------------


def test_cut_at_any_byte_it_is_a_broken_line_and_nothing_else(any_sshd: Box) -> None:
    chance = random.Random(7)
    with any_sshd.relay() as relay:
        route = any_sshd.through(relay)

        def once() -> bytes:
            with closing(connect(route, timeout=10)) as connection:
                return connection.run(["cat"], stdin=b"y" * 30_000, timeout=10).stdout

        whole = once()
        total = sum(relay.carried.values())
        broken: list[HostUnreachable] = []
        for at in sorted(chance.randrange(1, total) for _ in range(50)):
            relay.cut_after(at)
            try:
                assert once() == whole
            except HostUnreachable as e:
                broken.append(e)
            relay.cut_after(1 << 60)
        assert len(broken) > 40  # a cut in the good-bye hurts nobody
        assert {type(e) for e in broken} == {HostUnreachable}, broken


WRITES = """mkdir -p {0}; n=0
until [ -e {0}/enough ]; do n=$((n+1)); echo line $n >>{0}/log; sleep 0.01; done; touch {0}/over"""
BREAKS = 8


def test_dropping_a_host_and_opening_it_again_is_all_it_takes(any_sshd: Box) -> None:
    """What the engine's steps do when a line breaks, at no pace at all: a log is read while it grows."""
    chance = random.Random(11)
    root = f"{HOME}/{os.urandom(4).hex()}"
    with any_sshd.relay() as relay, closing(connect(any_sshd.route)) as writer:
        access = replace(any_sshd.access(root), route=any_sshd.through(relay))
        with writer.session(WRITES.format(root).encode()):
            got, seen, over = b"", 0, False
            host = open_host(access)
            while not over:
                if relay.connections > seen:
                    seen = relay.connections
                    relay.cut_after(chance.randrange(3_000, 20_000))
                    if seen == BREAKS:
                        any_sshd.sh(f"touch {root}/enough")
                try:
                    with suppress(NoFile):
                        over = host.read("over") == b""
                    with suppress(NoFile):
                        while (more := host.read("log", len(got), 500)) and (over or len(more) > 50):
                            got += more
                        got += more
                except HostUnreachable:
                    host.close()
                    host = open_host(access)
            host.close()
    assert got == b"".join(b"line %d\n" % n for n in range(1, got.count(b"\n") + 1))
    assert len(got) == int(any_sshd.sh(f"wc -c <{root}/log"))
    assert seen >= BREAKS


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_quick_reconnects_leave_nothing(any_sshd: Box) -> None:
    with any_sshd.relay() as relay:
        route = any_sshd.through(relay)
        connect(route).close()
        threads, files = threading.active_count(), _open_files()
        for n in range(40):
            connection = connect(route)
            assert connection.run(["echo", str(n)]).stdout == b"%d\n" % n
            if n % 2:
                relay.cut()
            connection.close()
        until = time.monotonic() + 60
        while (threading.active_count(), _open_files()) > (threads, files):
            assert time.monotonic() < until, [t.name for t in threading.enumerate()]
        assert _open_files() <= files


def test_refused_connections_leave_nothing_either(openssh: Box) -> None:
    wrong = replace(openssh.route, pins=(OTHER_PIN,))
    stranger = replace(openssh.route, user="guest")
    threads, files = threading.active_count(), _open_files()
    for route in [wrong, stranger] * 10:
        with pytest.raises(HostUnreachable):
            connect(route)
    until = time.monotonic() + 60
    while (threading.active_count(), _open_files()) != (threads, files):
        assert time.monotonic() < until, [t.name for t in threading.enumerate()]


# --- ports ------------------------------------------------------------------------------------------


def test_a_port_of_the_hosts_own_loopback(line: Connection, any_sshd: Box) -> None:
    port = line.open_port(22)
    assert re.match(rb"SSH-2.0-(OpenSSH|dropbear)", port.recv(100))
    port.close()
    with pytest.raises(HostUnreachable, match="opened no channel"):
        line.open_port(9)
    assert line.alive


def test_a_piece_that_was_lost_on_the_way_is_a_line_that_broke(any_sshd: Box) -> None:
    """What follows it makes no sense any more, and whoever waits just then is told by no other word."""
    with any_sshd.relay() as relay, closing(connect(any_sshd.through(relay))) as torn:
        with torn.session(b"while echo it talks; do sleep 0.02 || sleep 1; done"):
            relay.half_open()
            with pytest.raises(HostUnreachable):
                torn.run(["true"], timeout=10, tick=lambda: relay.half_open(False))
        assert not torn.alive


def test_commands_that_end_while_others_begin_take_none_of_those_along(any_sshd: Box) -> None:
    """dropbear (2022.83) closes a channel that it has just opened when another one's command ends just then;
    and one that is closed under a running command takes the next channel, or the connection, along. Where the
    request for a command meets that first close on its way, dropbear ends by an assertion of its own: nothing
    from outside can keep it from that, and nothing else may break the connection."""
    for _ in range(6):
        died = _died_of_itself(any_sshd)
        connection = connect(any_sshd.route)
        try:
            _ends_and_begins(connection)
        except HostUnreachable:
            until = time.monotonic() + 10
            while _died_of_itself(any_sshd) == died and time.monotonic() < until:
                time.sleep(0.05)  # a log of the engine comes late, and no event says when
            assert _died_of_itself(any_sshd) == died + 1
        connection.close()


def _ends_and_begins(connection: Connection) -> None:
    ending = [
        Talk(connection, quoted(["sh", "-c", f"sleep 0.{n}{n % 3}"]), lambda: None) for n in range(1, 8)
    ]
    left = Talk(connection, quoted(["sh", "-c", "echo a; exec >&- 2>&-; sleep 0.5"]), lambda: None)
    assert left.line() == b"a"
    left.close()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert connection.run(["sh", "-c", "echo hi"]) == Done(0, b"hi\n", b"")
    assert len(ending) == 7 and connection.alive


def _died_of_itself(box: Box) -> int:
    return box.log().count("Failed assertion (common-channel.c")


def test_what_was_about_to_be_said_on_a_channel_as_it_was_closed_breaks_no_connection(any_sshd: Box) -> None:
    """A host that is told of a channel it has forgotten ends the connection. The library makes a message,
    lets the channel's lock go and sends it: here the close comes in between, each time."""
    connection = connect(any_sshd.route)
    for _ in range(3):  # the host uses the number again
        with connection.session(b"sleep 0.2") as channel:
            _say_late(channel)
        assert connection.run(["echo", "hi"]) == Done(0, b"hi\n", b"")
    connection.close()


def _say_late(channel: Any) -> None:
    late = channel._send_eof()
    with channel.out_buffer_cv:
        assert channel.out_buffer_cv.wait_for(lambda: channel.closed, 10)
    channel.transport._send_user_message(late)
