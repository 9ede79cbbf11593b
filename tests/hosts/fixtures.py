"""Hosts that tests may share: they change nothing outside a folder of their own. Marked `need("docker")`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from launcher.ssh.connection import Connection, connect
from tests.hosts.boxes import Box, sshd_container


@pytest.fixture(scope="session")
def openssh() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


@pytest.fixture(scope="session")
def dropbear() -> Iterator[Box]:
    with sshd_container("dropbear") as box:
        yield box


@pytest.fixture(scope="session", params=["openssh", "dropbear"])
def any_sshd(request: pytest.FixtureRequest) -> Box:
    """Each of the shared ones."""
    box: Box = request.getfixturevalue(request.param)
    return box


@pytest.fixture(scope="module")
def line(any_sshd: Box) -> Iterator[Connection]:
    """An open connection to it."""
    with closing(connect(any_sshd.route)) as connection:
        yield connection
