"""A reachable host: the same verbs over a process, a container or SSH.

Paths are relative to the access's root (the spool folder) and never leave it. Every call has a
deadline. `tick` is called at least every 0.5 s during transfers and may raise Stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

Tick = Callable[[], None]
Progress = Callable[[int, int], None]  # bytes so far, bytes in all


def unseen(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def unprepared(key: str) -> AbstractContextManager[None]:
    """`expecting` of a host that has nothing to do ahead."""
    return nullcontext()


class Pipe(Protocol):
    """What is asked of a socket, so that TLS and SSH ways do as well."""

    def recv(self, count: int, /) -> bytes: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Wanted:
    """A piece of a file to read."""

    path: str
    offset: int = 0
    limit: int = 1 << 20


class Sending(NamedTuple):
    """One thing to put: a file's bytes or path, an empty folder (neither), or a link (target). There may be
    very many: a tuple is made twice as quickly as a record."""

    to: str
    mode: int = 0o644
    source: Path | str | None = None
    data: bytes | None = None
    link: str | None = None
    sha256: str | None = None  # of `source`, where somebody looked,
    size: int | None = None  # as well as this


@dataclass(frozen=True)
class Tree:
    """Files that belong together, known by their digest before anything is sent."""

    key: str  # the same for the same folder of the user's: by it a host finds what was sent before
    digest: str  # over names, modes and contents
    files: tuple[Sending, ...]  # `to` counts from the tree's own top
    size: int
    data: bool = False  # read-only: a host that keeps it may show the same files to several runs


@dataclass(frozen=True)
class Listed:
    """One file that was announced: what arrives must match it."""

    path: str
    size: int
    sha256: str
    source: str | None = None  # what it is called there, where it cannot be called so here


@dataclass(frozen=True)
class Digests:
    """Some of the files below a folder, as far as they were looked at. Names are as they are there."""

    files: tuple[Listed, ...]
    left_out: tuple[str, ...]  # no plain files, or not to be read
    last: str | None  # go on behind this one; None = that was all of them


class Host(Protocol):
    root: str

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        """Run to its end; a non-zero exit is an answer, not an error."""

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        """Start detached from us: it lives on when we die."""

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Bytes from offset, at most limit; b"" at the end; NoFile when there is no such file."""

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        """Several reads for the price of one; None where there is no such file."""

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        """Size and sha256 of the plain files below `base`, no link followed, in the order of their names'
        parts: those behind `after` that can be told in about a second, perhaps none. Nothing is there where
        `base` is no folder of this root."""

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Whole or not at all: written beside, then renamed."""

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        """Send files; existing ones are replaced."""

    def expecting(self, key: str) -> AbstractContextManager[None]:
        """Within it a tree of that key will be put, most likely: what can be done before it is known, is."""

    def put_tree(self, to: str, tree: Tree, tick: Tick, progress: Progress = unseen) -> None:
        """Make the tree's files lie below `to`, private to this root unless they are read-only data. What the
        host has of an earlier tree is not sent again; a cut in the middle is taken up by the next call."""

    def get(
        self,
        base: str,
        listing: Sequence[Listed],
        staging: Path,
        tick: Tick,
        progress: Progress = unseen,
    ) -> None:
        """Fetch `base`/path for every listed file into staging, hashing while copying, resuming what
        is half there, each file fsynced; Corrupt when size or sha256 differ."""

    def connect(self, port: int) -> Pipe:
        """A connection to what listens on the host's own loopback; HostError when nothing does."""

    def close(self) -> None:
        """Let go of the connection; the host lives on."""
