"""Runpod's forms: what an order becomes there, and what a pod means here.

The labels are the pod's environment and, should that ever be withheld, its name. Asks nobody.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from launcher.codec import to_the_second
from launcher.errors import BadOrder, VendorBug
from launcher.models import Access, Json, Order, Resource, ResourceState, Route
from launcher.providers.runpod_guard import start_command
from launcher.providers.runpod_keys import ROOT_NAME

TARGET = "runpod"
BID = "LAUNCHER_BID"  # the label of a pod that was rented by a bid: nothing else there remembers it
CLOUDS = ("secure", "community")
ROOT = "/launcher"  # where the disk that outlives a boot is mounted: the spool lies on it
CONTAINER_GB = 20  # for what lies beside the image, above all the environment; wiped by every boot
LEAST_VOLUME_GB = 10
SSH_PORT = "22/tcp"
USD_PER_GB_MONTH = Decimal("0.10")
STOPPED_USD_PER_GB_MONTH = Decimal("0.20")
HOURS_PER_MONTH = 730
MICRO = Decimal("0.000001")

_GRAPH_NAMES = {"image": "imageName", "templateId": "templateId"}
_NAME = re.compile(r"launcher-(?P<run>.+)-(?P<token>[0-9a-f]{32})")
_STATES = {
    "PROVISIONING": ResourceState.BOOTING,
    "STARTING": ResourceState.BOOTING,
    "RUNNING": ResourceState.RUNNING,
    "EXITED": ResourceState.STOPPED,
    "ERROR": ResourceState.STOPPED,
    "TERMINATED": ResourceState.ENDED,
}


def name(order: Order) -> str:
    return f"launcher-{order.run}-{order.token}"


def pod(order: Order, root: str) -> Json:
    """The whole create call. It holds no secret: whoever may look at the account can read it."""
    offer, need = order.offer, order.need
    if order.runtime.image is None and need.template is None:
        raise BadOrder("a pod needs an image, and the plan names none")
    gpu: Json = {"id": offer.instance_type, "count": offer.gpu_count}
    if least_cuda(order) is not None:
        gpu["minCudaVersion"] = least_cuda(order)
    if need.ram_gb is not None:
        gpu["minRamPerGpu"] = max(1, -(-int(need.ram_gb) // max(1, offer.gpu_count)))
    body: Json = {
        "name": name(order),
        **_software(order),
        "gpu": gpu,
        "cloud": (offer.cloud or "secure").upper(),
        "disk": CONTAINER_GB,
        "ports": [SSH_PORT],
        "env": environment(order, root),
        "args": start_command(order.boot_guard, order.token),
        "mounts": _mounts(order),
    }
    if offer.region is not None:
        body["dataCenterIds"] = [offer.region]
    if need.registry is not None:
        body["registry"] = need.registry
    return body


def _software(order: Order) -> Json:
    """What the call says itself beats the template, and their variables are joined."""
    said = {"image": order.runtime.image, "templateId": order.need.template}
    return {key: value for key, value in said.items() if value is not None}


def least_cuda(order: Order) -> str | None:
    """On a host with an older driver the image's container would never start."""
    return order.need.min_cuda or order.runtime.min_cuda


def _mounts(order: Order) -> Json:
    if order.need.network_volume is not None:
        return {"network": [{"volumeId": order.need.network_volume, "path": ROOT}]}
    return {"persistent": {"size": volume_gb(order.need.disk_gb), "path": ROOT}}


def without_newer_words(body: Json) -> Json:
    """As the document of the API has it, without what only later deployments understand."""
    gpu = {key: value for key, value in body["gpu"].items() if key != "minRamPerGpu"}
    return {**body, "gpu": gpu}


def environment(order: Order, root: str) -> dict[str, str]:
    return {
        **dict(order.env),
        "LAUNCHER_INSTANCE": order.token,
        "LAUNCHER_RUN": order.run,
        "LAUNCHER_OWNER": order.owner,
        "LAUNCHER_TARGET": order.offer.target,
        "LAUNCHER_ENDS_AT": to_the_second(order.ends_at),
        "LAUNCHER_ENDS_IN": str(order.ends_in_s),
        "LAUNCHER_BOOT_LIMIT": str(order.boot_limit_s),
        "LAUNCHER_HOLD": str(order.hold_s),
        "LAUNCHER_SPOOL": spool(order),
        **({BID: str(_compute_usd(order))} if order.offer.spot else {}),
        "PUBLIC_KEY": "\n".join(order.public_keys),
        ROOT_NAME: root,
    }


def spool(order: Order) -> str:
    """A disk of the user's own serves many runs."""
    return ROOT if order.need.network_volume is None else f"{ROOT}/runs/{order.token}"


def interruptible(order: Order, root: str) -> Json:
    """The same pod as GraphQL wants it, at the most that is bid for it."""
    body, offer = pod(order, root), order.offer
    wanted: Json = {
        "bidPerGpu": float(_compute_usd(order)),
        "cloudType": body["cloud"],
        "gpuTypeId": body["gpu"]["id"],
        "gpuCount": body["gpu"]["count"],
        "name": body["name"],
        **{new: body[old] for old, new in _GRAPH_NAMES.items() if old in body},
        "dockerArgs": body["args"],
        "ports": ",".join(body["ports"]),
        "env": [{"key": key, "value": value} for key, value in body["env"].items()],
        "containerDiskInGb": body["disk"],
        "volumeMountPath": ROOT,
    }
    if "persistent" in body["mounts"]:
        wanted["volumeInGb"] = body["mounts"]["persistent"]["size"]
    else:
        wanted["networkVolumeId"] = order.need.network_volume
    if least_cuda(order) is not None:
        wanted["minCudaVersion"] = least_cuda(order)
    if offer.region is not None:
        wanted["dataCenterId"] = offer.region
    if order.need.registry is not None:
        wanted["containerRegistryAuthId"] = order.need.registry
    return wanted


def _compute_usd(order: Order) -> Decimal:
    """One GPU for one hour."""
    offer = order.offer
    return (offer.usd_per_hour - offer.disk_usd_per_hour) / max(1, offer.gpu_count)


def bid(answer: Json) -> Decimal | None:
    """The bid that a pod of ours was rented by; None = it was rented on demand."""
    said = (answer.get("env") or {}).get(BID)
    return Decimal(said) if said else None


def gpu_count(answer: Json) -> int:
    return int((answer.get("gpu") or {}).get("count") or 1)


# --- money ---------------------------------------------------------------------------------------


def volume_gb(disk_gb: int) -> int:
    return max(LEAST_VOLUME_GB, disk_gb)


def disks_usd_per_hour(volume: int) -> Decimal:
    """What the disks of a running pod cost beside its GPUs."""
    return _hourly(USD_PER_GB_MONTH * (CONTAINER_GB + volume))


def stopped_usd_per_hour(volume: int) -> Decimal:
    return _hourly(STOPPED_USD_PER_GB_MONTH * volume)


def _hourly(usd_per_month: Decimal) -> Decimal:
    return (usd_per_month / HOURS_PER_MONTH).quantize(MICRO, ROUND_CEILING)


def amount(value: object) -> Decimal:
    """A number of an answer. One that is none is no price."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise VendorBug(f"Runpod tells a price that is none: {value!r}")
    return Decimal(str(value))


# --- what a pod is here --------------------------------------------------------------------------


def is_ours(answer: Json) -> bool:
    return bool(_labels(answer)["token"])


def resource(answer: Json) -> Resource:
    labels, id = _labels(answer), answer.get("id")
    # A word that nobody knows yet: there is a pod, of no use so far. One such must not hide all the others.
    state = _STATES.get(str(answer.get("status")), ResourceState.BOOTING)
    if not isinstance(id, str) or not id:
        raise VendorBug(f"Runpod tells of a pod without id, with status {answer.get('status')!r}")
    started = answer.get("startedAt")
    running = state is ResourceState.RUNNING
    return Resource(
        id=id,
        kind="instance",
        run=labels["run"],
        token=labels["token"],
        owner=labels["owner"],
        state=state,
        usd_per_hour=_rate(answer, state),
        created_at=moment(answer.get("createdAt")),
        ends_at=moment(labels["ends_at"]),
        access=_access(answer, labels["spool"]) if running else None,
        boot=started if running and isinstance(started, str) else None,
        target=labels["target"],
    )


def _labels(answer: Json) -> dict[str, str]:
    env = answer.get("env")
    held: dict[str, Any] = env if isinstance(env, dict) else {}
    named = _NAME.fullmatch(str(answer.get("name") or ""))
    return {
        "token": str(held.get("LAUNCHER_INSTANCE") or (named["token"] if named else "")),
        "run": str(held.get("LAUNCHER_RUN") or (named["run"] if named else "")),
        "owner": str(held.get("LAUNCHER_OWNER") or ""),
        "ends_at": str(held.get("LAUNCHER_ENDS_AT") or ""),
        "spool": str(held.get("LAUNCHER_SPOOL") or ROOT),
        "target": str(held.get("LAUNCHER_TARGET") or TARGET),
    }


def _rate(answer: Json, state: ResourceState) -> Decimal:
    """The pod's own price with its disks, which it does not tell."""
    persistent = (answer.get("mounts") or {}).get("persistent") or {}
    volume = int(persistent.get("size") or 0)
    if state is ResourceState.ENDED:
        return Decimal(0)
    if state is ResourceState.STOPPED:
        return stopped_usd_per_hour(volume)
    return amount(answer.get("cost")) + disks_usd_per_hour(volume)


def _access(answer: Json, root: str) -> Access | None:
    """Once 22/tcp is mapped. Who speaks there is not known yet: the pin is read from the console."""
    way = (answer.get("ssh") or {}).get("direct") or _mapped(answer)
    if way is None:
        return None
    host, port = str(way["host"]), int(way["port"])
    route = Route(host, port, "root", agent=False)
    return Access("ssh", f"{host}:{port}", root, "root", host_key="announce", route=route)


def _mapped(answer: Json) -> Json | None:
    for one in (answer.get("runtime") or {}).get("ports") or ():
        if one.get("private") == 22 and one.get("public") and one.get("ip"):
            return {"host": one["ip"], "port": one["public"]}
    return None


def moment(text: object) -> datetime | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
