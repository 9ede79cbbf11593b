"""What the house asks of a disk, small enough that a simulated disk can keep the same promises.

A rename is atomic but only lasts once its folder is synced; bytes only last once the file is synced.
`write` and `append` do all of that; `move` renames and syncs both folders; a `note` is whole for whoever
reads it and may be gone after a power cut. Nothing here knows names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

ABANDONED_S = 60.0


class Held(Protocol):
    """An OS lock: it dies with the process that holds it."""

    def release(self) -> None: ...


class Files(Protocol):
    def read(self, path: Path) -> bytes: ...
    def size(self, path: Path) -> int: ...
    def exists(self, path: Path) -> bool: ...
    def is_folder(self, path: Path) -> bool: ...
    def names(self, path: Path) -> tuple[str, ...]: ...
    def append(self, path: Path, data: bytes, *, sync: bool) -> None: ...
    def cut(self, path: Path, size: int) -> None: ...
    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None: ...
    def note(self, path: Path, data: bytes) -> None: ...
    def move(self, source: Path, to: Path) -> None: ...
    def sync_tree(self, path: Path) -> None: ...
    def make_folder(self, path: Path, *, private: bool = True) -> None: ...
    def remove(self, path: Path) -> None: ...
    def lock(self, path: Path, note: str) -> Held | None: ...


class DiskLock:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        os.close(self._fd)


def refusal(error: OSError) -> str:
    """What a disk said, for a person: about what, and why, without the system's number for it."""
    why = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {why}" if isinstance(error.filename, str | bytes) else why


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _beside(path: Path) -> Path:
    """Where bytes lie before they have their name. What a writer of that name left there when it was killed
    goes: it lives no more, and its file is old enough that it is no other machine's on a shared disk."""
    begin, end = f".{path.name}.", ".new"
    for name in os.listdir(path.parent):
        pid = name.removeprefix(begin).removesuffix(end)
        if name == f"{begin}{pid}{end}" and pid.isdecimal() and not _lives(int(pid)):
            left = path.with_name(name)
            with suppress(FileNotFoundError):  # by another writer, this very moment
                if time.time() - left.stat().st_mtime > ABANDONED_S:
                    left.unlink()
    return path.with_name(f"{begin}{os.getpid()}{end}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def _raise(error: OSError) -> None:
    raise error


class Disk:
    """The real one."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def size(self, path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def exists(self, path: Path) -> bool:
        return os.path.lexists(path)

    def is_folder(self, path: Path) -> bool:
        return path.is_dir() and not path.is_symlink()

    def names(self, path: Path) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(path)))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def append(self, path: Path, data: bytes, *, sync: bool) -> None:
        fresh = not path.exists()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync and fresh:  # a new name lasts only with its folder
            sync_folder(path.parent)

    def cut(self, path: Path, size: int) -> None:
        with path.open("rb+") as f:
            f.truncate(size)
            os.fsync(f.fileno())

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        beside = _beside(path)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            os.rename(beside, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(beside)
            raise
        finally:
            os.close(fd)
        sync_folder(path.parent)

    def note(self, path: Path, data: bytes) -> None:
        beside = _beside(path)
        beside.write_bytes(data)
        os.rename(beside, path)

    def move(self, source: Path, to: Path) -> None:
        """Atomic; refuses a taken place, so that two who finish together cannot overwrite each other."""
        if os.path.lexists(to):
            raise FileExistsError(errno.EEXIST, "taken", str(to))
        os.rename(source, to)  # a folder over a non-empty folder fails too: the race has one winner
        sync_folder(to.parent)
        sync_folder(source.parent)

    def sync_tree(self, path: Path) -> None:
        """Everything below, and its own name."""
        for folder, _, names in os.walk(path, onerror=_raise):
            for name in names:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            sync_folder(Path(folder))
        sync_folder(path.parent)

    def make_folder(self, path: Path, *, private: bool = True) -> None:
        """With its parents, each of them lasting: what is synced below would be lost with its folder."""
        made: list[Path] = []
        while not path.is_dir():
            made.append(path)
            path = path.parent
        for folder in reversed(made):
            with suppress(FileExistsError):  # by another process, this very moment
                folder.mkdir(mode=0o700 if private and folder is made[0] else 0o777)
            sync_folder(folder.parent)
        if made and not made[0].is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "in the way", str(made[0]))

    def remove(self, path: Path) -> None:
        if self.is_folder(path):
            import shutil  # `ps` removes nothing, and would load compressors with it

            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def lock(self, path: Path, note: str) -> Held | None:
        """None when another process holds it. The note tells a person who does."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        try:
            os.ftruncate(fd, 0)
            os.write(fd, note.encode())
        except OSError:
            os.close(fd)  # a full disk: the lock must not stay with whoever was refused
            raise
        return DiskLock(fd)


def held(path: Path) -> bool:
    """Whether a process holds the lock. A look hinders no other look, and a taker only for a moment."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
