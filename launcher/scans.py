"""What was seen of files when they were last read: a file that looks the same is not read again.

Looking the same means size, both times, inode and mode. A file that was touched so shortly before it was read
that a second change could bear the same time is not remembered as read. Losing all of this costs a read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from launcher.files import Disk

RACY_NS = 2_000_000_000  # the coarsest clock of a file system in use
OLDEST_S = 90 * 86400.0
FORM = 1
SMALL = 64 << 10

Seen = tuple[int, int, int, int, int]


class Scans:
    """Digests of files by path, kept in one file of the data folder."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._began_ns = time.time_ns()
        self._known = _read(path) if path is not None else {}
        self._now: dict[str, tuple[Seen, str]] = {}

    def sha256(self, path: str, info: os.stat_result) -> str:
        looks = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_mode)
        known = self._known.get(path)
        if known is not None and known[0] == looks:
            self._now[path] = known
            return known[1]
        digest, after = _digest(path, info.st_size)
        read = (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino, after.st_mode)
        if read == looks and max(info.st_mtime_ns, info.st_ctime_ns) < self._began_ns - RACY_NS:
            self._now[path] = looks, digest
        return digest

    def keep(self) -> None:
        """For the next time; a data folder that cannot be written to costs only that."""
        if self._path is None or self._now == self._known:
            return
        body = {"form": FORM, "files": [[path, *seen, digest] for path, (seen, digest) in self._now.items()]}
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            Disk().write(self._path, json.dumps(body, separators=(",", ":")).encode())
            _tidy(self._path.parent)


def _digest(path: str, size: int) -> tuple[str, os.stat_result]:
    """Of small files by one read: a buffer for each would take longer than the files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if size > SMALL:
            with open(fd, "rb", closefd=False) as f:
                digest = hashlib.file_digest(f, "sha256").hexdigest()
        else:
            whole = hashlib.sha256(os.read(fd, SMALL))
            while more := os.read(fd, SMALL):
                whole.update(more)
            digest = whole.hexdigest()
        return digest, os.fstat(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> dict[str, tuple[Seen, str]]:
    """Nothing, when it is not there or none of ours."""
    try:
        body = json.loads(path.read_bytes())
        if body["form"] != FORM:
            return {}
        return {
            name: ((size, m, c, inode, mode), sha) for name, size, m, c, inode, mode, sha in body["files"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _tidy(folder: Path) -> None:
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            if time.time() - os.stat(folder / name).st_mtime > OLDEST_S:
                os.unlink(folder / name)
