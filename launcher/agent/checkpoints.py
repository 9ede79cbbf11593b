"""Looking at the checkpoint folder: what lies there, whether it changed, and its hashes on demand."""

from __future__ import annotations

import hashlib
import os

from .protocol import File, Hashed, Seen
from .seal import NotPlain, hash_file, walk

MARK = "complete"
UNFINISHED = (".tmp", ".part", ".partial")
NO_CHECKPOINT = ("metrics.jsonl",)  # trainers may keep their metrics beside their checkpoints


def scan(folder: str) -> tuple[Seen, ...]:
    """One entry per direct child that could be a checkpoint, sorted by name."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not made yet, or removed by the trainer: nothing lies there
        return ()
    found: list[Seen] = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith(UNFINISHED) or entry.name in NO_CHECKPOINT:
            continue
        try:
            print_now = fingerprint(entry.path)
        except OSError:  # renamed or removed while we looked: the next look knows more
            continue
        if print_now is not None:
            marked = entry.is_dir(follow_symlinks=False) and os.path.isfile(os.path.join(entry.path, MARK))
            found.append(Seen(entry.name, print_now, marked))
    return tuple(found)


def fingerprint(path: str) -> str | None:
    """None when there is no file in it."""
    digest = hashlib.blake2b(digest_size=16)
    names = _files(path)
    for name in names:
        facts = os.lstat(os.path.join(path, name) if name else path)
        row = f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\n"
        digest.update(row.encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if names else None


def hash_one(folder: str, name: str, expected: str) -> Hashed:
    """Files of a checkpoint that stayed the same while it was read; else none."""
    path = os.path.join(folder, name)
    files: tuple[File, ...] = ()
    written = 0.0
    try:
        places = {p or name: os.path.join(path, p) if p else path for p in _files(path)}
        files = tuple(hash_file(place, p) for p, place in places.items())
        written = max((os.lstat(place).st_mtime for place in places.values()), default=0.0)
        same = fingerprint(path) == expected
    except (OSError, NotPlain):
        same = False
    return Hashed(name, expected, files if same else None, written)


def _files(path: str) -> list[str]:
    """Names below it; [""] when it is a file itself."""
    if os.path.islink(path):
        return []
    if os.path.isfile(path):
        return [""]
    return sorted(name for name, plain in walk(path) if plain) if os.path.isdir(path) else []
