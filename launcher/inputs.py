"""The files of an input, which may be one itself, whatever git thinks of them; and the digest of them all. A
link among them stands for the file or the folder that it leads to, since data are often links into a big
disk: the same content has the same digest, however it lies there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import usage
from launcher.selection import NEVER, Thing, is_closed, several

CHUNK = 1 << 20


def files(source: Path) -> list[Thing]:
    """By names below it, sorted. What may not be read, or leads nowhere, is told by its name."""
    look = _Look()
    if os.path.isdir(source):
        look.below(os.path.realpath(source), "", ())
    else:
        look.at(str(source), "")
    if look.closed == [""]:
        raise usage("input-unreadable", f"the input {source} may not be read")
    if told := look.refused():
        raise usage("input-unreadable", f"of the input {source} {told}")
    return sorted(look.files)


def digest(source: Path, things: Sequence[Thing]) -> str:
    """Names and bytes, as versions have it: of each folder its files first."""
    total = hashlib.sha256()
    for name, info in sorted(things, key=_files_first):
        total.update(f"{name or '.'}\0{info.st_size}\0".encode("utf-8", "surrogateescape"))
        with open(source / name, "rb") as content:
            while block := content.read(CHUNK):
                total.update(block)
    return total.hexdigest()


def _files_first(thing: Thing) -> list[tuple[bool, str]]:
    *folders, last = thing.name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]


class _Look:
    """What was met on the way. A link to a folder that it lies in, itself or by another link, has no end."""

    def __init__(self) -> None:
        self.files: list[Thing] = []
        self.closed: list[str] = []
        self._nowhere: list[str] = []
        self._loops: list[str] = []

    def below(self, real: str, name: str, by: tuple[str, ...]) -> None:
        """`by`: the folders whose links led here."""
        try:
            with os.scandir(real) as found:
                entries = list(found)
        except PermissionError:
            self.closed.append(name)
            return
        except (FileNotFoundError, NotADirectoryError):  # it went since the one above was listed
            return
        for entry in entries:
            its = f"{name}/{entry.name}" if name else entry.name
            if entry.name in NEVER:
                continue
            if entry.is_dir(follow_symlinks=False):
                self.below(entry.path, its, by)
            else:
                self.at(entry.path, its, (*by, real))

    def at(self, path: str, name: str, by: tuple[str, ...] = ()) -> None:
        """A file, or a link."""
        try:
            info = os.stat(path)
        except PermissionError:
            self.closed.append(name)
        except OSError:
            if name and os.path.islink(path):  # else it went this very moment
                self._nowhere.append(name)
        else:
            if stat.S_ISDIR(info.st_mode):
                self._follow(os.path.realpath(path), name, by)
            elif is_closed(path, info):
                self.closed.append(name)
            elif stat.S_ISREG(info.st_mode):
                self.files.append(Thing(name, info))

    def _follow(self, to: str, name: str, by: tuple[str, ...]) -> None:
        if any(os.path.commonpath((to, folder)) == to for folder in by):
            self._loops.append(name)
        else:
            self.below(to, name, by)

    def refused(self) -> str:
        told = (
            (self.closed, "may not be read", "let them be read"),
            (self._nowhere, "are links that lead nowhere", "mend or remove them"),
            (self._loops, "are links to a folder that they lie in", "remove them"),
        )
        return "; ".join(f"these {what}: {several(sorted(n))} ({do})" for n, what, do in told if n)
