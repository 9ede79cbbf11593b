"""An image is called by its contents: the same in, the same name; anything else in, another one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from launcher import images
from launcher.errors import Exit, LauncherError
from tests.unit.nobodys import open_folder, somebody

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "cpu" / "README.md").write_text("words\n")
    (tmp_path / "requirements.txt").write_text("numpy==2\n")
    return [tmp_path]


def test_the_name_says_what_is_inside(folders: list[Path]) -> None:
    needs = folders[0] / "requirements.txt"
    first = images.wanted("cpu", needs, folders)
    assert first.name.startswith("launcher/cpu:") and len(first.name.partition(":")[2]) == 12
    assert dict(first.files) == {"Dockerfile": b"FROM scratch\n", "requirements.txt": b"numpy==2\n"}

    os.utime(needs, (0, 0))
    (folders[0] / "cpu" / "README.md").write_text("other words\n")
    assert images.wanted(None, needs, folders) == first  # neither times nor words count

    others = [images.wanted("cpu", None, folders), images.wanted("cpu", needs, folders, "mirror/python:3.12")]
    (folders[0] / "cpu" / "Dockerfile").write_text("FROM python\n")
    others.append(images.wanted("cpu", needs, folders))
    assert len({first.name, *(other.name for other in others)}) == 4


def test_the_first_folder_that_has_it_counts(folders: list[Path], tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "cpu").mkdir(parents=True)
    (own / "cpu" / "Dockerfile").write_text("FROM mine\n")
    assert dict(images.wanted("cpu", None, [own, *folders]).files)["Dockerfile"] == b"FROM mine\n"


def test_somebody_else_s_image_is_known_by_name_only(folders: list[Path]) -> None:
    assert images.wanted("pytorch/pytorch:2.9", None, folders) == images.Image("pytorch/pytorch:2.9")
    with pytest.raises(LauncherError) as refused:
        images.build(images.Image("pytorch/pytorch:2.9"), print)
    assert refused.value.code == "image-missing"
    assert "docker pull pytorch/pytorch:2.9" in refused.value.details[0]


def test_a_mistyped_folder_is_a_usage_error_that_names_those_there_are(folders: list[Path]) -> None:
    with pytest.raises(LauncherError) as refused:
        images.wanted("cpuu", None, folders)
    assert (refused.value.code, refused.value.exit) == ("unknown-image", Exit.USAGE)
    assert refused.value.details[0].startswith("Known: cpu. One of a registry is named with its tag: ")


@pytest.mark.parametrize("closed", ["cpu/sub", "cpu/sub/x", "cpu/Dockerfile", "requirements.txt", "cpu"])
def test_what_may_not_be_read_is_told_and_not_left_out(closed: str) -> None:
    with open_folder() as root:
        (root / "cpu/sub").mkdir(parents=True)
        for name in ("cpu/Dockerfile", "cpu/sub/x", "requirements.txt"):
            (root / name).write_text("x")
        with somebody(root):
            files = images.wanted("cpu", root / "requirements.txt", [root]).files
            assert [name for name, _ in files] == ["Dockerfile", "requirements.txt", "sub/x"]
            (root / closed).chmod(0)
            with pytest.raises(LauncherError) as refused:
                images.wanted("cpu", root / "requirements.txt", [root])
            (root / closed).chmod(0o700)
    named = root / ("cpu/Dockerfile" if closed == "cpu" else closed)
    assert (refused.value.code, refused.value.exit) == ("image-unreadable", Exit.USAGE)
    assert refused.value.message == f"what the image 'cpu' is made of: {named}: Permission denied"


def test_a_pin_that_may_not_be_read_is_told_too() -> None:
    with open_folder() as root:
        (root / images.PUBLIC).write_text('{"image": "a/b:1", "as_of": "2026-01-01"}')
        with somebody(root):
            assert images.public([root]).image == "a/b:1"
            (root / images.PUBLIC).chmod(0)
            with pytest.raises(LauncherError, match=f"{root}/public.json: Permission denied") as refused:
                images.public([root])
    assert refused.value.code == "image-unreadable"


def test_the_context_is_the_same_bytes_each_time() -> None:
    files = [("Dockerfile", b"FROM x\n"), ("sub/훈련", b"1")]
    packed = images.context(files)
    assert packed == images.context(files)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert [(m.name, m.size, m.mode, m.mtime, m.uid) for m in tar] == [
            ("Dockerfile", 7, 0o644, 0, 0),
            ("sub/훈련", 1, 0o644, 0, 0),
        ]


def test_without_an_engine_nothing_is_here_and_nothing_is_built(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    image = images.wanted("cpu", None, folders)
    assert images.find(image.name) is None
    with pytest.raises(LauncherError) as refused:
        images.build(image, print)
    assert (refused.value.code, refused.value.exit) == ("image-build-failed", Exit.UNREACHABLE)


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("images/*/Dockerfile")), ids=lambda p: p.parent.name)
def test_our_images_need_no_particular_builder_and_take_another_base(dockerfile: Path) -> None:
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("ARG BASE_IMAGE=")
    assert lines[1] == "FROM ${BASE_IMAGE}"
    assert sum(line.startswith("FROM") for line in lines) == 1  # the classic builder would build every stage
    assert "--mount" not in " ".join(lines)


@pytest.mark.parametrize(
    ("info", "how"),
    [
        ({}, None),
        ({"Runtimes": {"runc": {}}}, None),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, [["gpu", "compute", "utility"]]),
        ({"Runtimes": None, "DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, None),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, ["nvidia.com/gpu=all"]),
    ],
)
def test_a_gpu_is_asked_for_as_the_engine_offers_it(info: dict[str, object], how: object) -> None:
    from launcher.providers.docker_forms import gpu_request

    asked = gpu_request(info)
    assert how == (None if asked is None else asked["Capabilities"] or asked["DeviceIDs"])
