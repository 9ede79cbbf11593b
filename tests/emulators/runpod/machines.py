"""What a pod boots: the promise, and one without a container for tests that need only a pod's outside.

A machine is one boot of one pod. It knows neither the API nor money.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import Protocol


class Life(StrEnum):
    BOOTING = "booting"
    UP = "up"
    ENDED = "ended"  # its main process has left


Login = tuple[str, str]  # to a registry: name and password


@dataclass(frozen=True)
class Boot:
    """All a machine is told when it boots."""

    pod: str
    image: str
    args: str
    env: dict[str, str]
    mount: tuple[str, int] | None  # persistent: path and GB
    volume: str | None  # a network volume's name, mounted instead
    gpu: str | None
    gpu_count: int
    port: int  # what 22/tcp is published as, chosen before it boots


@dataclass(frozen=True)
class Said:
    at: datetime
    line: str


class Machine(Protocol):
    def life(self) -> Life: ...

    def said(self) -> list[Said]:
        """Its main process's lines so far."""

    def end(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after the grace. Returns at once where that takes long."""


class Machines(Protocol):
    host: str  # where published ports are found

    def boot(self, boot: Boot) -> Machine: ...

    def fetched(self, pod: str, image: str, login: Login | None) -> str | None:
        """Asked again and again: empty once the pod's host has the image, why not once that is known, and
        None before. Never waits."""

    def free_port(self) -> int: ...

    def drop_disk(self, pod: str) -> None:
        """The pod's persistent disk is wiped."""


@dataclass
class Thin:
    """A boot without a container: up at once, saying what its script says."""

    boot: Boot
    script: Callable[[Thin], None]
    now: Callable[[], datetime]
    lines: list[Said] = field(default_factory=list)
    state: Life = Life.UP

    def say(self, line: str) -> None:
        self.lines.append(Said(self.now(), line))

    def life(self) -> Life:
        if self.state is Life.UP:
            self.script(self)
        return self.state

    def said(self) -> list[Said]:
        return list(self.lines)

    def end(self, grace_s: float) -> None:
        self.state = Life.ENDED


class ThinMachines:
    """Boots without containers. The script is called whenever somebody looks, as long as the boot lasts."""

    host = "192.0.2.7"  # an address that is nobody's: nothing can be reached there

    def __init__(self, now: Callable[[], datetime], script: Callable[[Thin], None] | None = None) -> None:
        self._now = now
        self._script = script or (lambda machine: None)
        self._ports = count(40001)
        self.booted: list[Thin] = []

    def boot(self, boot: Boot) -> Machine:
        machine = Thin(boot, self._script, self._now)
        self.booted.append(machine)
        return machine

    def fetched(self, pod: str, image: str, login: Login | None) -> str | None:
        return ""

    def free_port(self) -> int:
        return next(self._ports)

    def drop_disk(self, pod: str) -> None:
        pass
