"""The sealed list: every file of the output with size and sha256. The same tree gives the same bytes.

Links, devices, pipes and what cannot be read are left out and named; nothing outside the folder is read. A
name that no version can hold is written anew first, its odd bytes as %XX: what is in the file is worth more
than how it was called.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator

from .names import NAME_BYTES, can_be_kept, kept_as
from .protocol import File, Sealed, SealFailed
from .spool import Spool

CHUNK = 1 << 20
NAMES = 100  # of what was left out, so many by name


def rename_odd(folder: str) -> tuple[str, ...]:
    """Deepest first, so that each is found by the path it has. What was called how, told in plain letters."""
    told = []
    for place, folders, files in os.walk(os.fsencode(folder), topdown=False):
        for raw in sorted([*folders, *files]):
            fresh = kept_as(raw, place == os.fsencode(folder))
            if fresh != raw and (as_it_is := _renamed(place, raw, fresh)) is not None:
                told.append(f"{_shown(raw)} as {_shown(as_it_is)}")
    return tuple(told)


def _renamed(place: bytes, raw: bytes, fresh: bytes) -> bytes | None:
    for at in range(1, 100):
        name = fresh if at == 1 else fresh[: NAME_BYTES - 4] + f"%{at}".encode()
        if not os.path.lexists(os.path.join(place, name)):
            try:
                os.rename(os.path.join(place, raw), os.path.join(place, name))
            except OSError:  # not ours to change: it is left out, and named
                return None
            return name
    return None


def _shown(raw: bytes) -> str:
    return repr(raw.decode("utf-8", "backslashreplace"))


class NotPlain(Exception):
    """It is no plain file, or no more."""


def hash_file(path: str, name: str) -> File:
    """Size and digest of the same bytes. Never follows a link, never waits for a pipe."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotPlain(name)
        digest, size = hashlib.sha256(), 0
        while data := os.read(file, CHUNK):
            digest.update(data)
            size += len(data)
    finally:
        os.close(file)
    return File(name, size, digest.hexdigest())


def walk(folder: str, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(name below the folder, whether it is a plain file) of all that is no folder, sorted by name."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a folder that cannot be read is left out by its name
        yield prefix.rstrip("/") or ".", False
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.is_file(follow_symlinks=False)


def seal(spool: Spool, output: str) -> Sealed | SealFailed:
    folder = spool.at(output)
    files: list[File] = []
    skipped: list[str] = []
    renamed: tuple[str, ...] = ()
    if os.path.lexists(folder) and not (os.path.isdir(folder) and spool.holds(folder)):
        skipped.append(".")  # a link out of the run's own folder, or no folder at all
    elif os.path.isdir(folder):
        renamed = rename_odd(folder)
        for name, plain in walk(folder):
            file = _hashed(folder, name) if plain and can_be_kept(name) else None
            if file is None:
                skipped.append(name)
            else:
                files.append(file)
    files.sort(key=lambda f: f.path)
    rows = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files]
    data = json.dumps({"files": rows}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    full = spool.give_way()
    try:
        _write(spool.sealed, data)
    except OSError as fault:
        return SealFailed(f"the list of results cannot be written: {fault.strerror}")
    more = [f"and {len(skipped) - NAMES} more"] if len(skipped) > NAMES else []
    digest = hashlib.sha256(data).hexdigest()
    named = [name.encode("utf-8", "backslashreplace").decode() for name in skipped[:NAMES]]
    return Sealed(digest, len(files), sum(f.size for f in files), (*named, *more), full, renamed)


def _hashed(folder: str, name: str) -> File | None:
    try:
        return hash_file(os.path.join(folder, name), name)
    except (OSError, NotPlain):  # not for us to read, or a bad disk: named, never guessed
        return None


def _write(path: str, data: bytes) -> None:
    """Whole or not at all, and there after a power cut."""
    beside = path + ".part"
    with open(beside, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
