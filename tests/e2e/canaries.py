"""Values that stand nowhere else in the world, and a watch for them in argument lists and files."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.person import until

HERTZ = 50
FROM_ENV, FROM_FILE = "HUB_TOKEN", "STORE_PASSWORD"  # what the trainer knows its two secrets as


def sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@dataclass(frozen=True)
class Canaries:
    """Values that stand nowhere else in the world, and where the person keeps them."""

    environ: Mapping[str, str]
    file: Path
    in_file: str

    @property
    def secret(self) -> dict[str, str]:
        return {FROM_ENV: self.environ["MY_TOKEN"], FROM_FILE: self.in_file}

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--secret", f"{FROM_ENV}=env:MY_TOKEN", "--secret", f"{FROM_FILE}=file:{self.file}")

    def values(self) -> dict[bytes, str]:
        """Each as it is and as an encoder would write it, with the name to call it by."""
        named = {**self.environ, FROM_FILE: self.in_file}
        plain = {value.encode(): name for name, value in named.items()}
        return plain | {base64.b64encode(value)[:-4]: f"{name} (base64)" for value, name in plain.items()}

    def found_in(self, data: bytes) -> set[str]:
        return {name for value, name in self.values().items() if value in data}


@dataclass
class Watch:
    """The argument lists of all processes of this machine, containers' too, looked at 50 times a second."""

    canaries: Canaries
    folder: str  # it stands in the argument list of the run's own engine
    met: int = 0
    hits: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes()
                self.met += self.folder.encode() in argv
                self.hits |= {f"{name}: {argv[:60]!r}" for name in self.canaries.found_in(argv)}

    def sees(self) -> bool:
        self.look()
        return bool(self.hits)

    def run(self) -> None:
        while not self.over.wait(1 / HERTZ):
            self.look()


@contextmanager
def watched(canaries: Canaries, run: Path) -> Iterator[None]:
    """Nobody's argument list shows a canary meanwhile, and the run's own are among them; that the watch sees
    one is tried first."""
    watch = Watch(canaries, str(run))
    child = subprocess.Popen(
        [sys.executable, "-c", "input()", canaries.in_file], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    until(watch.sees, "the watch is blind")
    child.communicate(b"\n")
    watch.hits.clear()
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield
    finally:
        watch.over.set()
        thread.join()
    assert watch.hits == set()
    assert watch.met


def files_with(canaries: Canaries, *roots: Path) -> dict[str, set[str]]:
    """Every file below that holds a canary, but for the one that the person keeps it in."""
    found: dict[str, set[str]] = {}
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink() and path != canaries.file:
                with suppress(FileNotFoundError):  # a live run's file gave way to another
                    if hits := canaries.found_in(path.read_bytes()):
                        found[str(path.relative_to(root))] = hits
    return found


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
