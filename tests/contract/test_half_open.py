"""A line on which nothing goes through and nobody is told: who asks over it still hears its own side."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import replace
from secrets import token_hex

import pytest

from launcher.errors import HostUnreachable, NoFile
from launcher.hosts import HostRecord
from launcher.providers.ssh import SshProvider
from launcher.remote import open_host
from launcher.ssh.connection import Connection, connect
from tests.hosts.boxes import HOME, Box

pytestmark = pytest.mark.need("docker")

DETECTED_S = 30.0
QUIET_S = 23  # longer than a dead line lives
SOON_S = 5.0  # four ticks are due within one second; the line itself is found dead after twenty


class Enough(Exception):
    pass


class Ear:
    """Heard as often as it was told to, it has enough."""

    left: int | None = None

    def __call__(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Enough


def test_a_question_to_a_provider_lets_its_own_side_be_heard(openssh: Box) -> None:
    ear = Ear()
    with openssh.relay() as relay:
        far = SshProvider(HostRecord("far", openssh.through(relay)), ear)
        with closing(far):
            assert far.list() == ()
            relay.half_open()
            ear.left, began = 4, time.monotonic()
            with pytest.raises(Enough):
                far.list()
            assert time.monotonic() - began < SOON_S
            ear.left = None
            relay.half_open(False)
            assert far.list() == (), "the answer to the question that was left is nobody's"


def test_a_call_to_a_host_does_so_too(openssh: Box) -> None:
    ear = Ear()
    with openssh.relay() as relay:
        access = replace(openssh.access(f"{HOME}/{token_hex(4)}"), route=openssh.through(relay))
        with closing(open_host(access, ear)) as host:
            with pytest.raises(NoFile):
                host.read("log")
            relay.half_open()
            ear.left, began = 4, time.monotonic()
            with pytest.raises(Enough):
                host.read("log")
            assert time.monotonic() - began < SOON_S


def silenced(box: Box, threads: ThreadPoolExecutor) -> list[Future[float]]:
    """Idle, waiting for an answer, and sending into the void: how long each took to notice."""
    data = b"x" * (32 << 20)
    with ExitStack() as open_until_noticed:
        relay = open_until_noticed.enter_context(box.relay())
        idle, asking, sending = (
            open_until_noticed.enter_context(closing(connect(box.through(relay)))) for _ in range(3)
        )

        def falls_silent() -> None:
            while idle.alive:
                time.sleep(0.05)  # an idle connection that ends tells nobody: that it is seen to is the test
            raise HostUnreachable

        open_until_noticed.enter_context(asking.session(b"sleep 300"))
        open_until_noticed.enter_context(sending.session(b"cat >/dev/null; sleep 300"))
        works: list[tuple[Connection, Callable[[], object]]] = [
            (idle, falls_silent),
            (asking, lambda: asking.run(["sleep", "300"], timeout=300)),
            (sending, lambda: sending.run(["sh", "-c", "cat >/dev/null"], stdin=data, timeout=300)),
        ]
        relay.half_open()
        began = time.monotonic()

        def ends(connection: Connection, work: Callable[[], object]) -> float:
            with pytest.raises(HostUnreachable):
                work()
            assert not connection.alive
            return time.monotonic() - began

        noticed = [threads.submit(ends, *work) for work in works]
        wait(noticed)
    return noticed


@pytest.mark.slow
def test_a_half_open_line_is_found_and_a_quiet_one_lives(openssh: Box, dropbear: Box) -> None:
    """On both kinds of host at once, for the time that it takes."""
    boxes = (openssh, dropbear)
    with ThreadPoolExecutor(20) as threads, ExitStack() as until_the_end:
        lines = [until_the_end.enter_context(closing(connect(box.route))) for box in boxes]
        quiet = [threads.submit(line.run, ["sleep", str(QUIET_S)], timeout=60) for line in lines]
        found = [threads.submit(silenced, box, threads) for box in boxes]
        took = [noticed.result() for each in found for noticed in each.result()]
        assert [line.result().exit_code for line in quiet] == [0, 0]
        assert all(line.alive for line in lines)
    assert len(took) == 6 and all(10 < seconds <= DETECTED_S for seconds in took), took
