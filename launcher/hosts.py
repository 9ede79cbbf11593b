"""The book of the user's own machines: one private file per host, with the way there and what was last seen.

It reads and writes records and asks nobody: who answers there, and whether a name means anything besides,
is for others to find out. What was seen may be old; it says when.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from launcher.codec import dump, load
from launcher.errors import LauncherError, usage
from launcher.files import Disk
from launcher.models import Route
from launcher.store import Home
from launcher.values import did_you_mean

ANY = "any"  # stands for every host in the book, so no host may be called so
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Device:
    """A GPU."""

    uuid: str
    name: str
    memory_mb: int = 0


@dataclass(frozen=True)
class Holding:
    """Who has a GPU: a process of anybody's, or a run's lease."""

    uuid: str
    user: str
    pid: int | None = None
    used_mb: int | None = None
    run: str | None = None


@dataclass(frozen=True)
class Facts:
    """What a host said of itself, and when we heard it."""

    at: datetime
    devices: tuple[Device, ...] = ()
    held: tuple[Holding, ...] = ()
    free_mb: tuple[int, ...] = ()  # memory of each device that nothing uses
    no_gpu: str | None = None  # why there surely is none
    driver: str | None = None
    cores: int | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    disk_free_gb: float | None = None
    python: str | None = None
    makes_envs: bool = False  # by venv and pip
    uv: bool = False
    docker: str | None = None
    skew_s: float = 0.0  # its clock minus ours
    leaves_alone: bool = True  # what was started there outlives the session that started it
    fault: str | None = None  # why nothing can run there now

    @property
    def free(self) -> tuple[Device, ...]:
        taken = {one.uuid for one in self.held}
        return tuple(device for device in self.devices if device.uuid not in taken)

    @property
    def busy(self) -> bool:
        return bool(self.devices) and not self.free


@dataclass(frozen=True)
class HostRecord:
    name: str
    route: Route
    usd_per_hour: Decimal = Decimal(0)
    origin: str = "host add"  # or the file and line, or the alias, that said it
    facts: Facts | None = None
    fingerprint: str | None = None  # of its key, as long as nobody has seen the key


def check_name(name: str) -> str:
    """The name, or a fault of whoever chose it."""
    if name == ANY:
        raise usage(
            "bad-host", f"no host can be called '{ANY}': that word means any of them", hint="host add lab …"
        )
    if not NAME.fullmatch(name):
        raise usage(
            "bad-host",
            f"a host's name is made of 1 to 40 small letters, digits and '-', and '{name}' is not",
            hint="host add lab USER@ADDRESS",
        )
    return name


def _quietly(_name: str, _fault: LauncherError) -> None:
    """Told elsewhere."""


class HostBook:
    def __init__(self, home: Home) -> None:
        self._home = home

    def names(self) -> tuple[str, ...]:
        files = Disk().names(self._home.hosts)
        return tuple(
            sorted(n.removesuffix(".json") for n in files if NAME.fullmatch(n.removesuffix(".json")))
        )

    def all(self, damaged: Callable[[str, LauncherError], None] = _quietly) -> tuple[HostRecord, ...]:
        """Every host that can be read. One that cannot is told of and hides no other."""
        found: list[HostRecord] = []
        for name in self.names():
            try:
                record = self.find(name)
            except LauncherError as e:
                damaged(name, e)
                continue
            found += [record] if record is not None else []
        return tuple(found)

    def find(self, name: str) -> HostRecord | None:
        if not NAME.fullmatch(name):
            return None
        path = self._home.host(name)
        try:
            return load(HostRecord, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError) as e:
            raise usage(
                "bad-host",
                f"what is written of the host {name} cannot be read: {path}: {e}",
                hint=f"host remove {name}    then host add it again",
            ) from e

    def get(self, name: str) -> HostRecord:
        """The record; a name that is not in the book is a fault."""
        found = self.find(name)
        if found is None:
            raise unknown(name, self.names())
        return found

    def save(self, record: HostRecord) -> None:
        Disk().make_folder(self._home.hosts)
        body = json.dumps(dump(record), indent=1).encode()
        Disk().write(self._home.host(record.name), body)

    def seen(self, name: str, facts: Facts) -> None:
        """What was heard of a host that may have been removed meanwhile."""
        record = self.find(name)
        if record is not None:
            self.save(replace(record, facts=facts))

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._home.host(name).unlink()


def unknown(name: str, known: tuple[str, ...]) -> LauncherError:
    if name == ANY:
        none = f"no host is known yet that '{ANY}' could mean"
        return usage("unknown-host", none, hint="host add NAME USER@ADDRESS")
    return usage(
        "unknown-host",
        f"there is no host '{name}'{did_you_mean(name, known)}",
        hint=f"host add {name if NAME.fullmatch(name) else 'NAME'} USER@ADDRESS",
        details=(f"Hosts are {', '.join(known)}.",) if known else ("No host is known yet.",),
    )
