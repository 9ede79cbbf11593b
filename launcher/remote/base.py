"""A reachable host: the same verbs over a process, a container or SSH.

Paths are relative to the access's root (the spool folder) and never leave it. Every call has a
deadline. `tick` is called at least every 0.5 s during transfers and may raise Stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Tick = Callable[[], None]


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Sending:
    """One thing to put: a file's bytes or path, an empty folder (neither), or a link (target)."""

    to: str
    mode: int = 0o644
    source: Path | None = None
    data: bytes | None = None
    link: str | None = None


@dataclass(frozen=True)
class Listed:
    """One file the agent announced: what arrives must match it."""

    path: str
    size: int
    sha256: str


class Host(Protocol):
    root: str

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        """Run to its end; a non-zero exit is an answer, not an error."""

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        """Start detached from us: it lives on when we die."""

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Bytes from offset, at most limit; b"" at the end; NoFile when there is no such file."""

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Whole or not at all: written beside, then renamed."""

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        """Send files; existing ones are replaced."""

    def get(self, base: str, listing: Sequence[Listed], staging: Path, tick: Tick) -> None:
        """Fetch `base`/path for every listed file into staging, hashing while copying, resuming what
        is half there, each file fsynced; Corrupt when size or sha256 differ."""

    def forward(self, port: int) -> int:
        """A local port that leads to the host's loopback port."""

    def close(self) -> None:
        """Let go of the connection; the host lives on."""
