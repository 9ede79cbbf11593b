"""The engine's forms: what an order becomes there, and what its answers mean here.

Names, labels, the container's description, resources. Asks nobody; the provider beside it does.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.codec import to_the_second
from launcher.models import Access, Json, Order, Resource, ResourceState

if TYPE_CHECKING:
    from docker.types import DeviceRequest

ROOT = "/launcher"
VOLUME = "volume:"  # how a volume's id begins, containers and volumes having names of their own
ALIVE = {
    "created": ResourceState.BOOTING,
    "running": ResourceState.RUNNING,
    "restarting": ResourceState.RUNNING,
    "paused": ResourceState.RUNNING,
}  # all else (removing, exited, dead) has ended
# What installing packages as root needs; raw sockets, device nodes and the rest are dropped.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"]


def gpu_request(info: Json) -> DeviceRequest | None:
    """How this engine hands out GPUs, or None: the NVIDIA runtime, or devices it found itself (CDI)."""
    from docker.types import DeviceRequest

    if "nvidia" in (info.get("Runtimes") or {}):
        return DeviceRequest(count=-1, capabilities=[["gpu", "compute", "utility"]])
    found = [one.get("ID", "") for one in info.get("DiscoveredDevices") or []]
    if any(one.startswith("nvidia.com/gpu=") for one in found):
        return DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
    return None


def gpu_names() -> tuple[str, ...]:
    """The engine tells that there are GPUs, not which; this machine's driver does, if they are here."""
    found: list[str] = []
    for facts in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        models = re.findall(r"^Model:\s*(.+?)\s*$", facts.read_text(errors="replace"), re.MULTILINE)
        found.extend(models[:1])
    return tuple(found) or ("NVIDIA",)


def name(order: Order) -> str:
    return f"launcher-{re.sub(r'[^A-Za-z0-9_.-]', '-', order.run)}-{order.token[:8]}"


def volume_name(name: str) -> str:
    return f"{name}-files"


def container(order: Order, name: str, device: DeviceRequest | None) -> dict[str, Any]:
    """The whole create call. The volume is made by it as well, so both carry their labels from birth."""
    from docker.types import HostConfig, LogConfig, Mount

    labels = _labels(order)
    host: dict[str, Any] = {
        "auto_remove": True,
        "mounts": [Mount(ROOT, volume_name(name), type="volume", labels=labels, no_copy=True)],
        "device_requests": None if device is None else [device],
        "cap_drop": ["ALL"],
        "cap_add": _CAPABILITIES,
        "security_opt": ["no-new-privileges:true"],
        "shm_size": 1 << 30,  # loaders hand batches over through it; 64 MB is soon full
        "log_config": LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
    }
    return {
        "image": order.runtime.image,
        "command": ["python3", "-I", "-c", order.boot_guard, order.token],
        "name": name,
        "labels": labels,
        "environment": _environment(order),
        "entrypoint": [""],
        "user": "0:0",  # the volume is root's, whoever the image would be
        "working_dir": ROOT,
        "host_config": HostConfig(version="1.41", **host),
    }


def _labels(order: Order) -> dict[str, str]:
    return {
        "launcher.run": order.run,
        "launcher.token": order.token,
        "launcher.owner": order.owner,
        "launcher.ends_at": to_the_second(order.ends_at),
        "launcher.attempt": str(order.attempt),
        "launcher.target": order.offer.target,
        "launcher.image": order.runtime.image or "",
    }


def _environment(order: Order) -> dict[str, str]:
    """For the boot guard; whoever may ask the engine can read it, so it holds no secret."""
    return {
        **dict(order.env),
        "LAUNCHER_INSTANCE": order.token,
        "LAUNCHER_RUN": order.run,
        "LAUNCHER_OWNER": order.owner,
        "LAUNCHER_ENDS_AT": to_the_second(order.ends_at),
        "LAUNCHER_ENDS_IN": str(order.ends_in_s),
        "LAUNCHER_BOOT_LIMIT": str(order.boot_limit_s),
        "LAUNCHER_HOLD": str(order.hold_s),
        "LAUNCHER_SPOOL": ROOT,
    }


def instance(facts: Json) -> Resource:
    name, state = facts["Name"].lstrip("/"), facts["State"]
    labels = facts["Config"]["Labels"] or {}
    kind = labels.get("launcher.kind", "instance")
    now = ALIVE.get(state["Status"], ResourceState.ENDED)
    started = now is ResourceState.RUNNING
    return Resource(
        id=name,
        kind=kind,
        state=now,
        boot=state["StartedAt"] if started else None,
        exit_code=state["ExitCode"] if now is ResourceState.ENDED else None,
        created_at=_time(facts["Created"]),
        access=_access(name, labels) if kind == "instance" else None,
        **_identity(labels),
    )


def volume(facts: Json) -> Resource:
    labels = facts["Labels"] or {}
    return Resource(
        id=VOLUME + facts["Name"],
        kind="volume",
        state=ResourceState.STOPPED,
        created_at=_time(facts.get("CreatedAt")),
        access=_access(facts["Name"].removesuffix("-files"), labels),
        **_identity(labels),
    )


def _identity(labels: dict[str, str]) -> dict[str, Any]:
    return {
        "run": labels.get("launcher.run", ""),
        "token": labels.get("launcher.token", ""),
        "owner": labels.get("launcher.owner", ""),
        "ends_at": _time(labels.get("launcher.ends_at")),
        "usd_per_hour": Decimal(0),
        "target": labels.get("launcher.target", ""),
    }


def _access(name: str, labels: dict[str, str]) -> Access:
    return Access(
        kind="container",
        address=name,
        root=ROOT,
        volume=volume_name(name),
        image=labels.get("launcher.image") or None,
    )


def _time(text: str | None) -> datetime | None:
    """The engine's times: nanoseconds, which Python's parser cuts, and a zone."""
    if not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
