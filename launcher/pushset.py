"""What goes to the machine, as trees known by their digests before anything is sent.

The digest covers names, modes and contents, so an unchanged project is known to be unchanged. Which files
travel is selection.py's matter; a file that looks as it did when it was last read is not read (scans.py).
"""

from __future__ import annotations

import gc
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher import inputs
from launcher.errors import usage
from launcher.models import Input, Job
from launcher.remote.base import Sending, Tree
from launcher.scans import Scans
from launcher.selection import Thing, refuse_closed, select
from launcher.world import PushSet

MUCH = 200_000_000  # a project of source is far below; most of the time something was forgotten
BIGGEST = 10


@dataclass(frozen=True)
class Outlook:
    """What would go, told without reading it."""

    files: int
    size: int
    biggest: tuple[tuple[str, int], ...]
    withheld: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.size <= MUCH:
            return ()
        what = f"{self.size / 1e6:.0f} MB would be sent, most of it {self.biggest[0][0]}"
        return (f"{what}; what is not needed there belongs into .launcherignore",)


def gather(job: Job, scans: Path | None = None) -> PushSet:
    """`scans`: the folder that keeps what was seen of files; None = everything is read."""
    root, its_key = Path(job.folder), key(job)
    with _unswept():
        seen = Scans(scans / f"{its_key}.json" if scans is not None else None)
        things = select(root, job.push).things
        refuse_closed(things, root)
        files, size = _sendings(root, things, seen)
        brought = tuple(_input(i, seen) for i in job.inputs)
        seen.keep()
        return PushSet(Tree(its_key, _digest(files), files, size), brought)


@contextmanager
def _unswept() -> Iterator[None]:
    """All of what is made here stays: looking for what may go, again and again, is a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def names(root: Path) -> list[str]:
    """The project's push set by name."""
    return [thing.name for thing in select(root).things]


def outlook(job: Job) -> Outlook:
    """For a dry run: the project and the inputs, by size."""
    root = Path(job.folder)
    chosen = select(root, job.push)
    refuse_closed(chosen.things, root)
    sizes = [(t.name, t.info.st_size) for t in chosen.things if stat.S_ISREG(t.info.st_mode)]
    sizes += [(i.path, i.size) for i in job.inputs]
    biggest = sorted(sizes, key=lambda one: (-one[1], one[0]))[:BIGGEST]
    return Outlook(len(sizes), sum(size for _, size in sizes), tuple(biggest), chosen.withheld)


def key(job: Job) -> str:
    """The same for the same part of the same folder: by it a host finds what was sent before."""
    parts = [os.fsencode(Path(job.folder).resolve()), *(os.fsencode(p) for p in job.push or ())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _sendings(root: Path, things: Sequence[Thing], seen: Scans) -> tuple[tuple[Sending, ...], int]:
    files, size, top = [], 0, str(root)
    for thing in things:
        path, mode = f"{top}/{thing.name}", thing.info.st_mode
        if stat.S_ISREG(mode):
            digest, length = seen.sha256(path, thing.info), thing.info.st_size
            kept = 0o755 if mode & 0o100 else 0o644
            files.append(Sending(thing.name, kept, path, sha256=digest, size=length))
            size += length
        elif stat.S_ISLNK(mode):
            files.append(Sending(thing.name, link=os.readlink(path)))
        else:
            files.append(Sending(thing.name, 0o755))  # empty, or a submodule that is not checked out
    return tuple(files), size


def _digest(files: tuple[Sending, ...]) -> str:
    total = hashlib.sha256()
    for f in files:
        what = b"link:" + os.fsencode(f.link) if f.link is not None else b"folder"
        if f.sha256 is not None:
            what = bytes.fromhex(f.sha256)
        total.update(b"%s\0%o\0%s\0" % (os.fsencode(f.to), f.mode, what))
    return total.hexdigest()[:16]


def _input(i: Input, seen: Scans) -> tuple[str, Tree]:
    """NAME is the file or folder itself: what is handed over is found at $LAUNCHER_INPUT/NAME."""
    source = Path(i.path)
    if not source.exists():
        raise usage("input-missing", f"the input {i.path} is not there any more")
    files = tuple(
        _datum(source / name, name or i.name or source.name, seen) for name, _ in inputs.files(source)
    )
    alone = source.is_file() or not i.name
    return "input" if alone else f"input/{i.name}", _data(i, files)


def _datum(path: Path, to: str, seen: Scans) -> Sending:
    real = path.resolve()  # a link among data stands for what it leads to
    info = real.stat()
    return Sending(to, 0o444, source=real, sha256=seen.sha256(str(real), info), size=info.st_size)


def _data(i: Input, files: tuple[Sending, ...]) -> Tree:
    return Tree(i.digest, i.digest, files, i.size, data=True)
