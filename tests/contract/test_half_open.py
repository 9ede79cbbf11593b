"""A line on which nothing goes through and nobody is told: who asks over it still hears its own side."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from secrets import token_hex

import pytest

from launcher.errors import NoFile
from launcher.hosts import HostRecord
from launcher.providers.ssh import SshProvider
from launcher.remote import open_host
from tests.hosts.boxes import HOME, Box

pytestmark = pytest.mark.need("docker")

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
