"""Checkpoints that survive a kill at any moment: a new name each, filled beside, synced, renamed, and
then marked by the file `complete`, which also names every file's digest.

What has no `complete` does not exist for a resume; what does not match its digests is said and passed
over for the one before. The last two and the best are kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainers.kit.files import sync, sync_folder, write

MARK = "complete"
_NAME = re.compile(r"step-\d{8}(-\d+)?")


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    step: int
    score: float | None
    digests: dict[str, str]


class Taken(Exception):
    """Another training writes there at this moment, with the folder."""


class Checkpoints:
    def __init__(
        self,
        folder: Path,
        *,
        goal: Literal["max", "min"],
        keep: int = 2,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder = folder
        self._goal = goal
        self._keep = keep
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)
        self.close = weakref.finalize(self, os.close, _held(folder))  # others may write there from then on
        self._clear_halves()

    def all(self) -> list[Checkpoint]:
        """Complete ones, oldest first."""
        found = [_read(child) for child in self.folder.iterdir() if _NAME.fullmatch(child.name)]
        return sorted((one for one in found if one), key=lambda one: (one.step, one.folder.name))

    def newest(self, up_to: int | None = None) -> Checkpoint | None:
        """The newest one whose bytes are still what was written."""
        for one in reversed(self.all()):
            if up_to is not None and one.step > up_to:
                continue
            if _digests(one.folder) == one.digests:
                return one
            self._say(f"warning: checkpoint {one.folder.name} is damaged, looking for the one before")
        return None

    def save(self, step: int, fill: Callable[[Path], None], score: float | None = None) -> Checkpoint:
        """`fill` writes files (and folders) into the folder it is given."""
        beside = self.folder / f".step-{step:08d}.{os.getpid()}.new"
        beside.mkdir()
        fill(beside)
        for path in sorted(beside.rglob("*")):
            if path.is_dir():
                sync_folder(path)
            else:
                sync(path)
        sync_folder(beside)
        digests = _digests(beside, *self.all()[-1:])
        final = self._free_name(step)
        os.rename(beside, final)
        sync_folder(self.folder)
        mark = {"step": step, "score": score, "files": digests}
        write(final / MARK, json.dumps(mark).encode())
        self._drop_old()
        return Checkpoint(final, step, score, digests)

    def _free_name(self, step: int) -> Path:
        name, number = self.folder / f"step-{step:08d}", 2
        while name.exists():
            name, number = self.folder / f"step-{step:08d}-{number}", number + 1
        return name

    def _drop_old(self) -> None:
        present = self.all()
        scored = [one for one in present if one.score is not None]
        kept = {one.folder for one in present[-self._keep :]}
        if scored:
            pick = max if self._goal == "max" else min
            kept.add(pick(scored, key=lambda one: one.score or 0.0).folder)
        for one in present:
            if one.folder not in kept:
                (one.folder / MARK).unlink()  # first, so that a half removed one is not complete
                shutil.rmtree(one.folder)

    def _clear_halves(self) -> None:
        for child in self.folder.iterdir():
            half = child.name.startswith(".step-") and child.name.endswith(".new")
            unmarked = bool(_NAME.fullmatch(child.name)) and not (child / MARK).exists()
            if half or unmarked:
                shutil.rmtree(child)


def _held(folder: Path) -> int:
    """The folder itself, locked: who clears what a dead training left must not clear a living one's."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Taken(f"{folder}: another training keeps its checkpoints there at this moment") from None
    except OSError:
        pass  # a disk that knows no locks: then nobody is told apart
    return handle


def _read(folder: Path) -> Checkpoint | None:
    try:
        mark = json.loads((folder / MARK).read_text())
        return Checkpoint(folder, int(mark["step"]), mark["score"], dict(mark["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no mark, or not one of ours: not complete


def _digests(folder: Path, *linked_to: Checkpoint) -> dict[str, str]:
    """What is a link to a file of another checkpoint has the digest that it was written with."""
    known: dict[tuple[int, int], str] = {}
    for other in linked_to:
        for name, digest in other.digests.items():
            with suppress(FileNotFoundError):
                known[_identity(other.folder / name)] = digest
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MARK:
            name = path.relative_to(folder).as_posix()
            digests[name] = known.get(_identity(path)) or _digest(path)
    return digests


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
