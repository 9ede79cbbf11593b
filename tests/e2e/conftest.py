from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import DockerPerson, client
from tests.e2e.hosted import HostedPerson, left_in
from tests.e2e.person import Person
from tests.e2e.renting import RentingPerson
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.hosts.boxes import Box, sshd_container


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody with an empty data folder and an empty project, who leaves nothing running."""
    someone = Person(tmp_path)
    yield someone
    someone.cleans_up()


@pytest.fixture(scope="module")
def regular(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """The same person for all tests of a file: what is looked at, not what is changed."""
    someone = Person(tmp_path_factory.mktemp("regular"))
    yield someone
    someone.cleans_up()


@pytest.fixture
def docker_person(tmp_path: Path) -> Iterator[DockerPerson]:
    """Somebody whose engine is the tests' own; for tests that need docker."""
    someone = DockerPerson(tmp_path, client())
    yield someone
    someone.cleans_up()


# --- machines of one's own, for tests that need docker -------------------------------------------


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[HostedPerson]:
    """Somebody who may have machines of their own, and knows none yet."""
    someone = HostedPerson(tmp_path)
    yield someone
    someone.cleans_up()


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    """The machine of all tests of a file."""
    with sshd_container("openssh") as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Iterator[Box]:
    """The same as each test finds it, and has to leave it."""
    shared.sh("rm -f /tmp/go")
    yield shared
    assert left_in(shared) == []


# --- rented ones, for tests that need docker -----------------------------------------------------


@pytest.fixture(scope="module")
def emulation() -> Iterator[Emulation]:
    with with_pods() as one:
        yield one


@pytest.fixture
def renter(tmp_path: Path, emulation: Emulation) -> Iterator[RentingPerson]:
    """Somebody with a key to the emulated cloud of a file's tests."""
    someone = RentingPerson(tmp_path, emulation)
    yield someone
    someone.cleans_up()
