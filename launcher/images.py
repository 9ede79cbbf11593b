"""The trainers' images: what goes into one, what it is called, whether it is here, and building it.

Its name says its contents, so an image that is here is the right one. Knows no runs and no prices; the
SDK is imported only when an engine is asked.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.dockerapi import NoAnswer, answered, connect
from launcher.errors import Exit, LauncherError, usage
from launcher.files import refusal
from launcher.models import Json

if TYPE_CHECKING:
    from docker import APIClient

DEFAULT = "cpu"
PUBLIC = "public.json"
DIGEST_LENGTH = 12
ASK_S = 10
SILENCE_S = 900  # how long a step of a build may say nothing
_LAST_LINES = 12


@dataclass(frozen=True)
class Image:
    """One image, by what it is made of; without files it is somebody else's and only its name is known."""

    name: str
    digest: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    base: str | None = None


def wanted(
    wish: str | None, requirements: Path | None, folders: Sequence[Path], base: str | None = None
) -> Image:
    """The image that is meant by a folder of images/ (the first of `folders` that has it) or by a name."""
    wish = wish or DEFAULT
    try:
        found = _files(wish, requirements, folders)
    except OSError as e:
        raise usage("image-unreadable", f"what the image {wish!r} is made of: {refusal(e)}") from e
    if found is None:
        if wish == DEFAULT or not is_name(wish):
            known = sorted({path.parent.name for f in folders for path in f.glob("*/Dockerfile")})
            told = f"Known: {', '.join(known)}. One of a registry is named with its tag: {wish}:TAG."
            raise usage("unknown-image", f"there is no image {wish!r}", details=(told,))
        return Image(wish)
    digest = _digest(found, base)
    return Image(f"launcher/{wish}:{digest[:DIGEST_LENGTH]}", digest, tuple(sorted(found.items())), base)


def _files(wish: str, requirements: Path | None, folders: Sequence[Path]) -> dict[str, bytes] | None:
    folder = next((f / wish for f in folders if (f / wish / "Dockerfile").is_file()), None)
    if folder is None:
        return None
    paths = [Path(here, name) for here, _, names in os.walk(folder, onerror=_raise) for name in names]
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix != ".md"
    }
    files["requirements.txt"] = requirements.read_bytes() if requirements is not None else b""
    return files


def _raise(error: OSError) -> None:
    raise error  # a walk passes over what may not be listed


@dataclass(frozen=True)
class Public:
    """Somebody else's image that rented machines boot where the user names none: pinned, with the day on
    which it was chosen."""

    image: str
    as_of: str
    min_cuda: str | None = None
    note: str = ""


def public(folders: Sequence[Path]) -> Public:
    """The pin in the first of `folders` that has one."""
    try:
        pin = next(path for f in folders if (path := f / PUBLIC).is_file())
        told = pin.read_bytes()
    except OSError as e:
        raise usage("image-unreadable", f"what names the public image: {refusal(e)}") from e
    try:
        return Public(**json.loads(told))
    except (ValueError, TypeError) as e:
        raise usage("unknown-image", f"{pin} names no image: {e}") from e


def find(name: str) -> str | None:
    """The id of an image that is here."""
    from docker.errors import APIError

    try:
        with _engine(ASK_S) as client:
            return _id(client, name)
    except (APIError, NoAnswer):
        return None


def build(image: Image, progress: Callable[[str], None]) -> str:
    """Make it, telling each line the builder says; its id. Called by nobody who was not asked to."""
    from docker.errors import APIError

    if not image.files:
        raise LauncherError(
            "image-missing",
            f"the image {image.name} is not here, and nothing is pulled unasked",
            exit=Exit.PROVIDER,
            details=(f"Bring it by: docker pull {image.name}",),
        )
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        with _engine(SILENCE_S) as client:
            for line in _lines(_asked(client, image)):
                last.append(line)
                progress(line)
            return _id(client, image.name)
    except NoAnswer as why:
        raise _failed(image, (*last, why.reason), Exit.UNREACHABLE) from why
    except (APIError, _Failed) as why:
        raise _failed(image, (*last, str(why)), Exit.PROVIDER) from why


def _asked(client: APIClient, image: Image) -> Iterable[Mapping[str, Any]]:
    said: Iterable[Mapping[str, Any]] = client.build(
        fileobj=io.BytesIO(context(image.files)),
        custom_context=True,
        tag=image.name,
        rm=True,
        forcerm=True,
        decode=True,
        buildargs={"BASE_IMAGE": image.base} if image.base else None,
        labels={"launcher.image": image.digest or ""},
    )
    return said


def _lines(said: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The builder's words; its fault is raised at the end, when the connection has been read out."""
    fault: str | None = None
    for piece in said:
        fault = piece.get("error", fault)
        text = piece.get("stream") or piece.get("status") or ""
        yield from (line.rstrip() for line in str(text).splitlines() if line.strip())
    if fault is not None:
        raise _Failed(fault.strip())


class _Failed(Exception):
    """The builder gave up, in its own words."""


def _failed(image: Image, lines: Sequence[str], status: Exit) -> LauncherError:
    return LauncherError(
        "image-build-failed",
        f"the image {image.name} could not be built",
        exit=status,
        hint="doctor",
        details=tuple(lines),
    )


def context(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The same bytes for the same files, whoever packs them and when."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def _digest(files: Mapping[str, bytes], base: str | None) -> str:
    digest = sha256((base or "").encode())
    for name, data in sorted(files.items()):
        digest.update(f"\0{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def is_name(wish: str) -> bool:
    """Somebody else's image has a tag, a path or a digest; a bare word is one of our folders, mistyped."""
    return any(mark in wish for mark in "/:@")


def _id(client: APIClient, name: str) -> str:
    facts: Json = client.inspect_image(name)  # type: ignore[no-untyped-call]  # untyped in the stubs
    return str(facts["Id"])


@contextmanager
def _engine(timeout_s: int) -> Iterator[APIClient]:
    client = connect(timeout_s)
    try:
        with answered():
            yield client
    finally:
        client.close()
