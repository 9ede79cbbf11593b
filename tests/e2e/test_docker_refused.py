"""What cannot run in a container is a page at once; and what of others is past its end, everybody sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.conftest import Place
from tests.e2e.containers import DockerPerson
from tests.e2e.person import AT_ONCE_S, quickest
from tests.e2e.test_docker_strays import is_page, orphans, place

__all__ = ["place"]
pytestmark = [pytest.mark.need("docker"), pytest.mark.alone]


def test_an_engine_that_is_away_is_told_at_once_with_what_to_do(docker_person: DockerPerson) -> None:
    docker_person.extra["DOCKER_HOST"] = f"unix://{docker_person.root}/no.sock"
    seconds, done = quickest(docker_person, "run", "--on", "docker")
    is_page(done, "target-unreachable", 6)
    assert "no.sock" in done.stderr and "systemctl start docker" in done.stderr
    assert docker_person.ps() == {}
    assert seconds < AT_ONCE_S


def test_an_image_that_is_not_here_is_not_pulled(docker_person: DockerPerson) -> None:
    name = "launcher-test/never:made"
    words = ("run", "--project", ".", "--on", "docker", "--image", name, "--", "true")
    seconds, done = quickest(docker_person, *words)
    is_page(done, "image-missing", 5)
    assert name in done.stderr and f"docker pull {name}" in done.stderr
    assert docker_person.ps() == {}
    assert seconds < AT_ONCE_S


def test_doctor_leaves_others_alone_even_past_their_end(docker_person: DockerPerson, place: Place) -> None:
    person = docker_person
    theirs = place.order()
    late = replace(place.order(), ends_at=datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5))
    place.running(theirs)
    place.running(late)
    assert orphans(person, theirs.run) == []
    assert orphans(person, late.run) == [("instance", "docker"), ("volume", "docker")]
    assert person.types("doctor", "--end-orphans", "--yes").code == 0
    for order in (theirs, late):
        assert sorted(r.kind for r in place.provider.list(order.run)) == ["instance", "volume"]
