"""Looking at the output folder while the trainer writes it: the files that are worth a way of their own."""

from __future__ import annotations

import os
import stat

from .checkpoints import UNFINISHED
from .names import can_be_kept
from .protocol import Hashed, Seen
from .seal import NotPlain, hash_file, walk
from .spool import Spool

LEAST_BYTES = 1 << 20  # smaller ones are quick at the end, however many they are


def scan(spool: Spool, output: str) -> tuple[Seen, ...]:
    folder = spool.at(output)
    if not (os.path.isdir(folder) and spool.holds(folder)):
        return ()
    found = []
    for name, plain in walk(folder):
        if plain and can_be_kept(name) and not name.endswith(UNFINISHED):
            mark = _fingerprint(os.path.join(folder, name))
            if mark is not None:
                found.append(Seen(name, mark, False))
    return tuple(found)


def hash_one(spool: Spool, output: str, name: str, expected: str) -> Hashed:
    """Its digest, if it was the same before and after it was read."""
    place = os.path.join(spool.at(output), name)
    try:
        file = hash_file(place, name)
    except (OSError, NotPlain):
        return Hashed(name, expected, None)
    return Hashed(name, expected, (file,) if _fingerprint(place) == expected else None)


def _fingerprint(path: str) -> str | None:
    """None for what is small, or gone this very moment."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    if facts.st_size < LEAST_BYTES or not stat.S_ISREG(facts.st_mode):
        return None
    return f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"
