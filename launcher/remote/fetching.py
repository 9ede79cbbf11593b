"""Bringing announced files home: what a host says is a name is not trusted to be one.

`fetch` copies every listed file into a staging folder through any `read(path, offset, limit)`, hashing
while it copies and going on where an earlier try ended. It knows no transport, no clock and no run: every
kind of host brings its files home by this one function. A host that can send many files in one go is told
`ahead` what will be read. What the listing does not name is left in staging; whoever owns the staging
folder decides about it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import Corrupt, HostError
from launcher.remote.base import Listed, Progress, Tick, unseen

Read = Callable[[str, int, int], bytes]


@dataclass(frozen=True)
class Rest:
    """What is still to come of one file: so many bytes from there on."""

    source: str
    offset: int
    size: int


Ahead = Callable[[Sequence[Rest]], None]

CHUNK = 1 << 18  # small enough that a slow link still lets tick() in twice a second
LASTING = 1 << 23  # the most that a tick waits for: a slow disk takes it in a fifth of a second
LARGEST = (1 << 63) - 1  # by what the system tells sizes in
LEAVE_FREE = 16 << 20  # on the disk that files are brought to
_HEX = frozenset("0123456789abcdef")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def name_fault(path: str, *, controls: bool = False) -> str | None:
    """Why this relative path cannot be used as one, or None. `controls` lets odd characters through,
    for names that come from this machine's own disk; what comes from a host may not hold them."""
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if "\0" in path:
        return "it holds a NUL"
    if not controls and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in path):
        return "it holds a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it has an empty part, '.' or '..'"
    if not controls and any(0xD800 <= ord(char) < 0xE000 for char in path):
        return "it is not text in UTF-8"
    return None


def fetch(
    read: Read,
    base: str,
    listing: Sequence[Listed],
    staging: Path,
    tick: Tick,
    *,
    chunk: int = CHUNK,
    progress: Progress = unseen,
    ahead: Ahead | None = None,
) -> None:
    """Every `base`/path into staging/path. What is already there in full and right is not read again.

    Raises Corrupt for a listing that cannot be honest and for contents that are not what was
    announced (the bad file is removed first, so that another try starts clean), what `read` raises,
    what `tick` raises (what arrived so far stays), and OSError when this machine's own disk refuses.
    """
    folders = _vet(listing)
    staging.mkdir(parents=True, exist_ok=True)
    root = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    total, before = sum(listed.size for listed in listing), 0
    try:
        rests = _rests(root, base, listing)
        _room(root, staging, rests)
        if ahead is not None:
            ahead(rests)
        for listed in listing:
            tick()
            source = _source(base, listed)
            *parts, name = listed.path.split("/")
            with _folder(root, parts, listed.path) as folder:
                told = _Told(progress, before, total)
                _bring(_Wanted(read, source, listed, tick, chunk, told), folder, name.encode())
            before += listed.size
            progress(before, total)
        for path in sorted(folders, reverse=True):  # names last: once per folder, whoever made them
            with _folder(root, path.split("/"), path) as folder:
                os.fsync(folder)
        os.fsync(root)
    finally:
        os.close(root)


def _source(base: str, listed: Listed) -> str:
    name = listed.source or listed.path
    return name if base in ("", ".") else posixpath.join(base, name)


def _room(root: int, staging: Path, rests: Sequence[Rest]) -> None:
    """A listing may promise anything: this machine's disk is not filled by it."""
    disk, wanted = os.fstatvfs(root), sum(rest.size for rest in rests)
    free = disk.f_bavail * disk.f_frsize
    if wanted > free - LEAVE_FREE:
        what = f"{os.strerror(errno.ENOSPC)} for {wanted / 1e6:.1f} MB of results"
        left = f"{free / 1e6:.1f} MB are free, of which {LEAVE_FREE >> 20} MiB stay free"
        raise OSError(errno.ENOSPC, f"{what}: {left}", str(staging))


def _rests(root: int, base: str, listing: Sequence[Listed]) -> list[Rest]:
    """By the sizes of what is here. Only a forecast: what turns out to be wrong is read from its start."""
    rests = []
    for listed in listing:
        have = 0
        with suppress(OSError):
            found = os.stat(listed.path.encode(), dir_fd=root, follow_symlinks=False)
            if _goes_on(found) and found.st_size <= listed.size:
                have = found.st_size
        if have < listed.size or not listed.size:
            rests.append(Rest(_source(base, listed), have, listed.size - have))
    return rests


@dataclass(frozen=True)
class _Told:
    """How far all files are, told from inside one of them."""

    progress: Progress
    before: int
    total: int

    def __call__(self, have: int) -> None:
        self.progress(self.before + have, self.total)


@dataclass(frozen=True)
class _Wanted:
    """One file to bring and the means for it."""

    read: Read
    source: str
    listed: Listed
    tick: Tick
    chunk: int
    told: _Told


def _vet(listing: Sequence[Listed]) -> set[str]:
    """The folders the listing needs, once all of it was found to be possible."""
    files: set[str] = set()
    folders: set[str] = set()
    for listed in listing:
        fault = name_fault(listed.path)
        if fault is None and not 0 <= listed.size <= LARGEST:
            fault = "its size is negative" if listed.size < 0 else "no file is as large as it is told to be"
        if fault is None and (len(listed.sha256) != 64 or not _HEX.issuperset(listed.sha256)):
            fault = "its sha256 is not one"
        if fault is None and listed.path in files:
            fault = "it is listed twice"
        if fault is not None:
            raise Corrupt(f"the host lists {listed.path!r}, and {fault}")
        files.add(listed.path)
        parts = listed.path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    both = files & folders
    if both:
        raise Corrupt(f"the host lists {min(both)!r} as a file and as a folder")
    return folders


@contextmanager
def _folder(root: int, parts: Sequence[str], path: str) -> Iterator[int]:
    """The folder's descriptor, made on the way down; a link in place of a folder is never followed."""
    at = os.dup(root)
    try:
        for part in parts:
            name = part.encode()  # UTF-8 on disk, whatever the locale of this process
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=at)
            try:
                below = os.open(name, _FOLDER, dir_fd=at)
            except OSError as why:
                if why.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise Corrupt(f"{path!r} cannot be stored: {part!r} is no folder in staging") from why
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _bring(wanted: _Wanted, folder: int, name: bytes) -> None:
    file, fresh = _open(folder, name)
    try:
        digest, have = (hashlib.sha256(), 0) if fresh else _already(wanted, file)
        resumed = have > 0
        while True:
            _copy(wanted, file, digest, have)
            if digest.hexdigest() == wanted.listed.sha256:
                break
            if not resumed:
                raise Corrupt(f"{wanted.source!r} arrived with another sha256 than announced")
            # What an earlier try left may be the wrong half: once more, all of it.
            resumed, have, digest = False, 0, hashlib.sha256()
            os.ftruncate(file, 0)
        os.fsync(file)
    except HostError as why:
        if isinstance(why, Corrupt) or not os.fstat(file).st_size:  # a beginning is worth keeping
            os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(file)


def _open(folder: int, name: bytes) -> tuple[int, bool]:
    """The file to fill and whether it is new. Anything but a plain file of our own gives way."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISDIR(found.st_mode):
            raise Corrupt(f"{name.decode()!r} cannot be stored: a folder of that name is in staging")
        if _goes_on(found):
            return os.open(name, _FILE, dir_fd=folder), False
        os.unlink(name, dir_fd=folder)
    return os.open(name, _FILE | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder), True


def _goes_on(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _already(wanted: _Wanted, file: int) -> tuple[hashlib._Hash, int]:
    """Hash what an earlier try left; more than announced is no beginning of it."""
    digest, have = hashlib.sha256(), os.fstat(file).st_size
    if have > wanted.listed.size:
        os.ftruncate(file, 0)
        return digest, 0
    at = 0
    while at < have:
        data = os.pread(file, wanted.chunk, at)
        digest.update(data)
        at += len(data)
        wanted.tick()
    return digest, have


def _copy(wanted: _Wanted, file: int, digest: hashlib._Hash, have: int) -> None:
    """Read on from `have` to the announced size; a whole file is left to its hash."""
    size = wanted.listed.size
    if have == size > 0:
        return
    while True:
        left = size - have
        # At the end one byte more than is left: a file that grew shows itself without another call.
        data = wanted.read(wanted.source, have, left + 1 if left <= wanted.chunk else wanted.chunk)
        if len(data) > left:
            raise Corrupt(f"{wanted.source!r} is longer than the {size} bytes announced")
        if not data and left:
            raise Corrupt(f"{wanted.source!r} ends after {have} of {size} bytes announced")
        digest.update(data)
        _write(file, data, have)
        have += len(data)
        if have // LASTING > (have - len(data)) // LASTING:
            os.fdatasync(file)  # bit by bit: no tick waits for gigabytes at the end
        wanted.told(have)
        wanted.tick()
        if have == size:
            return


def _write(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
