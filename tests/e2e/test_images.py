"""The images in images/ are built by a real engine, and their insides looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import images
from launcher.dockerapi import connect
from launcher.errors import Exit, LauncherError
from launcher.remote import open_host
from tests.contract.conftest import PROVIDERS, Place
from tests.engines.base import base_image

pytestmark = [pytest.mark.need("docker")]
IMAGES = Path(__file__).parents[2] / "images"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(PROVIDERS["docker"], tmp_path)
    yield place
    place.clear_all()


def remove(name: str) -> None:
    client = connect(20)
    client.remove_image(name, force=True)
    client.close()


def test_the_image_without_requirements_runs_our_program(place: Place) -> None:
    """What a project of one's own gets: it brings its requirements itself."""
    image = images.wanted("cpu", None, [IMAGES], base_image())
    said: list[str] = []
    if images.find(image.name) is not None:
        remove(image.name)
    images.build(image, said.append)
    assert images.find(image.name) is not None
    assert any("Successfully tagged" in line for line in said)
    order = place.order()
    made = place.running(replace(order, runtime=replace(order.runtime, image=image.name)))
    assert made.access is not None
    host = open_host(made.access)
    which = host.run(["sh", "-c", "command -v python; command -v python3"]).stdout.split()
    assert which == [b"/opt/trainer/bin/python", b"/opt/trainer/bin/python3"]
    left = host.run(["sh", "-c", "ls -A /root/.cache /var/lib/apt/lists 2>/dev/null | grep -v : | wc -l"])
    assert left.stdout.strip() == b"0"
    host.close()
    place.clear(order.run)


def test_a_failing_build_ends_with_the_builder_s_last_lines() -> None:
    files = {"Dockerfile": f"FROM {base_image()}\nRUN echo almost there; exit 3\n".encode()}
    image = images.Image("launcher-test/fails:1", "0" * 64, tuple(files.items()))
    with pytest.raises(LauncherError) as refused:
        images.build(image, lambda line: None)
    assert (refused.value.code, refused.value.exit) == ("image-build-failed", Exit.PROVIDER)
    assert "almost there" in refused.value.details
    assert "returned a non-zero code: 3" in refused.value.details[-1]
    assert images.find(image.name) is None
