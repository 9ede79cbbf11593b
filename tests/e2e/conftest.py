from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import DockerPerson, client
from tests.e2e.person import Person


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
