"""One pod: its states, what they allow, and how REST v2 shows it. The cloud around it changes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tests.emulators.runpod.machines import Machine, Said

Json = dict[str, Any]
RUNNING_USD_PER_GB_HOUR = Decimal("0.10") / 730
STOPPED_USD_PER_GB_HOUR = Decimal("0.20") / 730


class Status(StrEnum):
    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"


ACTIONS = {
    Status.PROVISIONING: ("stop", "terminate"),
    Status.STARTING: ("stop", "terminate"),
    Status.RUNNING: ("stop", "restart", "terminate"),
    Status.EXITED: ("start", "terminate"),
    Status.ERROR: ("start", "terminate"),
    Status.TERMINATED: (),
}
RESTING = (Status.EXITED, Status.ERROR)  # its disk alone is there, and bills


@dataclass
class Pod:
    id: str
    key: str  # what works inside it, for itself
    asked: Json  # the create call's body
    place: str
    usd_per_hour: Decimal  # for all its GPUs
    created: datetime
    status: Status = Status.PROVISIONING
    machine: Machine | None = None
    port: int | None = None
    old_port: int | None = None  # of the boot before
    up_since: datetime | None = None
    boots: int = 0
    spot: bool = False
    past_lines: list[Said] = field(default_factory=list)  # of boots before this one
    system_lines: list[Said] = field(default_factory=list)
    gpu_given_back: bool = False

    @property
    def gpu_count(self) -> int:
        return int(self.asked.get("gpu", {}).get("count", 0))

    @property
    def persistent(self) -> Json | None:
        found: Json | None = (self.asked.get("mounts") or {}).get("persistent")
        return found

    @property
    def alive(self) -> bool:
        return self.status not in (*RESTING, Status.TERMINATED)

    def rates(self) -> tuple[Decimal, Decimal]:
        """(GPU, disk) in USD per hour, now."""
        kept_gb = int(self.persistent["size"]) if self.persistent else 0
        if self.status is Status.TERMINATED:
            return Decimal(0), Decimal(0)
        if self.status in RESTING:
            return Decimal(0), STOPPED_USD_PER_GB_HOUR * kept_gb
        gpu = Decimal(0) if self.gpu_given_back else self.usd_per_hour
        return gpu, RUNNING_USD_PER_GB_HOUR * (kept_gb + int(self.asked.get("disk", 20)))

    def lines(self) -> list[Said]:
        return [*self.past_lines, *(self.machine.said() if self.machine is not None else [])]

    def left_boot(self) -> None:
        """The container is gone, and its disk with it; what it printed is kept."""
        if self.machine is not None:
            self.past_lines.extend(self.machine.said())
        self.machine, self.up_since = None, None
        self.old_port = self.port if self.port is not None else self.old_port
        self.port = None

    def told_port(self, now: datetime, mapped: bool, late_s: float, stale_s: float) -> int | None:
        """What the API says 22/tcp is published as: late, or for a while still as before the restart."""
        wanted = any(one.startswith("22/") for one in self.asked.get("ports", []))
        if not (mapped and wanted and self.status is Status.RUNNING and self.up_since is not None):
            return None
        age = now - self.up_since
        if self.old_port is not None and age < timedelta(seconds=stale_s):
            return self.old_port
        return self.port if age >= timedelta(seconds=late_s) else None

    def shown(self, now: datetime, host: str, port: int | None, extras: bool) -> Json:
        up = self.status is Status.RUNNING and self.up_since is not None
        asked = self.asked
        answer: Json = {
            "id": self.id,
            "name": asked["name"],
            "status": self.status.value,
            "actions": list(ACTIONS[self.status]),
            "image": asked.get("image", ""),
            "args": asked.get("args", ""),
            "disk": asked.get("disk", 20),
            "mounts": asked.get("mounts", {}),
            "ports": asked.get("ports", []),
            "env": asked.get("env", {}),
            "registry": asked.get("registry"),
            "cloud": asked.get("cloud", "SECURE"),
            "dataCenterId": self.place,
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": _way(host, port) if port is not None else None},
            "template": None,
            "cost": float(self.rates()[0]) if self.alive else 0.0,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": self._runtime(now, host, port) if up else None,
            "createdAt": stamp(self.created),
            "startedAt": stamp(self.up_since) if self.up_since else None,
        }
        if "gpu" in asked:
            answer["gpu"] = {"id": asked["gpu"]["id"], "count": self.gpu_count}
            if extras:
                answer["gpu"] |= {"memory": 62, "vcpuCount": 16}
        if extras:
            answer["somethingNewer"] = {"unheard": True}
        return answer

    def _runtime(self, now: datetime, host: str, port: int | None) -> Json:
        assert self.up_since is not None
        mapped = [{"private": 22, "public": port, "type": "tcp", "ip": host}] if port is not None else []
        return {
            "uptime": int((now - self.up_since).total_seconds()),
            "gpus": [{"util": 0, "memoryUtil": 0}] * self.gpu_count,
            "cpu": {"util": 1},
            "memory": {"util": 2},
            "ports": mapped,
        }


def _way(host: str, port: int) -> Json:
    return {"host": host, "port": port, "username": "root", "command": f"ssh root@{host} -p {port}"}


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
