"""The few GraphQL operations that REST v2 lacks or that a pod's guard falls back to.

Reads a query's selections (variables only: values written into a query are an offence), answers exactly what
was selected, and refuses unknown fields with 400 as a schema does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.emulators.runpod import checking
from tests.emulators.runpod.catalog import Gpu
from tests.emulators.runpod.cloud import PINNED, Caller, Cloud, Refused
from tests.emulators.runpod.faults import CAPACITY
from tests.emulators.runpod.graph_shapes import ANSWERS, INPUTS
from tests.emulators.runpod.pods import Pod, Status

Json = dict[str, Any]
Selected = dict[str, "Selected"]
DECLARED = re.compile(r"\$input:\s*(\w+)")
TOKEN = re.compile(r'[A-Za-z_]\w*|[{}():!$\[\],]|"[^"]*"|[-\d.]+')
DESIRED = {Status.EXITED: "EXITED", Status.ERROR: "EXITED", Status.TERMINATED: "TERMINATED"}
SPOT_FIELDS = frozenset({"podRentInterruptable", "podBidResume"})
SPOT_PRICES = frozenset({"secureSpotPrice", "communitySpotPrice", "minimumBidPrice"})
PAID_FREE = frozenset({"gpuTypes"})  # asked without any key


class BadQuery(Exception):
    """A schema error: HTTP 400."""


class Business(Exception):
    """HTTP 200 with errors."""


def selections(query: str) -> tuple[Selected, bool]:
    """What is selected, and whether a value stands in the query itself."""
    tokens = TOKEN.findall(re.sub(r"#[^\n]*", "", query))
    literal = any(token.startswith('"') for token in tokens)
    at = tokens.index("{") if "{" in tokens else len(tokens)
    found, _ = _read(tokens, at + 1)
    return found, literal


def _read(tokens: list[str], at: int) -> tuple[Selected, int]:
    found: Selected = {}
    while at < len(tokens) and tokens[at] != "}":
        name, at = tokens[at], at + 1
        if at < len(tokens) and tokens[at] == "(":
            at = _behind(tokens, at)
        below: Selected = {}
        if at < len(tokens) and tokens[at] == "{":
            below, at = _read(tokens, at + 1)
        found[name] = below
    return found, at + 1


def _behind(tokens: list[str], at: int) -> int:
    depth = 0
    while at < len(tokens):
        depth += {"(": 1, ")": -1}.get(tokens[at], 0)
        at += 1
        if depth == 0:
            break
    return at


class Graph:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._fields: dict[str, Callable[[Caller, Json], Any]] = {
            "myself": self._myself,
            "gpuTypes": self._gpu_types,
            "podTerminate": self._terminate,
            "podStop": self._stop,
            "podRentInterruptable": self._rent,
            "podBidResume": self._bid_resume,
            "podResume": self._resume,
        }

    def answer(self, caller: Caller | None, query: str, variables: Json) -> Json:
        wanted, literal = selections(query)
        if literal:
            raise BadQuery("values are to be sent as variables")
        data: Json = {}
        for name, below in wanted.items():
            known = name in self._fields and (name not in SPOT_FIELDS or self._spot)
            known = known and (name != "podResume" or self._cloud.conditions.zero_gpu)
            if not known:
                raise BadQuery(f'Cannot query field "{name}" on type "Query or Mutation".')
            given = variables.get("input") or {}
            _check_input(name, query, given)
            if caller is None and name not in PAID_FREE:
                raise Business("you must be logged in")
            try:
                value = self._fields[name](caller or Caller("read"), given)
            except Refused as no:
                raise Business(no.detail) from no
            _check_answer(name, value)
            data[name] = _picked(value, below)
        return {"data": data}

    @property
    def _spot(self) -> bool:
        return self._cloud.conditions.spot == "offered"

    def _may(self, caller: Caller, verb: str, id: str) -> Pod:
        pod = self._cloud.visible(id)
        if pod is None:
            raise Business(f"pod not found to {verb}")
        inside = caller.kind == "pod"
        if caller.kind == "read" or (
            inside and (caller.pod != id or verb not in self._cloud.conditions.pod_key_may)
        ):
            raise Business("access denied")
        return pod

    def _myself(self, caller: Caller, given: Json) -> Json:
        spend = sum((p.usd_per_hour for p in self._cloud.pods.values() if p.alive), Decimal(0))
        return {
            "id": "user_emulated",
            "clientBalance": float(self._cloud.credit()),
            "currentSpendPerHr": float(spend),
            "spendLimit": 80.0,
        }

    def _gpu_types(self, caller: Caller, given: Json) -> list[Json]:
        wanted = given.get("ids") or ([given["id"]] if "id" in given else None)
        return [self._gpu(g) for g in self._cloud.catalog.gpus if wanted is None or g.id in wanted]

    def _gpu(self, gpu: Gpu) -> Json:
        def half(price: Decimal | None) -> float | None:
            return float(price / 2) if price is not None else None

        shown: Json = {
            "id": gpu.id,
            "displayName": gpu.name,
            "memoryInGb": gpu.memory,
            "securePrice": float(gpu.secure or 0),
            "communityPrice": float(gpu.community or 0),
            "lowestPrice": {"uninterruptablePrice": float(gpu.secure or 0), "stockStatus": "High"},
        }
        if self._spot:
            shown |= {"secureSpotPrice": half(gpu.secure), "communitySpotPrice": half(gpu.community)}
            shown["lowestPrice"]["minimumBidPrice"] = half(gpu.secure)
        return shown

    def _terminate(self, caller: Caller, given: Json) -> None:
        self._cloud.terminate(self._may(caller, "terminate", given["podId"]))

    def _stop(self, caller: Caller, given: Json) -> Json:
        pod = self._may(caller, "stop", given["podId"])
        if pod.alive:
            if not self._cloud.stops(pod):
                raise Business(PINNED)
            self._cloud.stop(pod)
        return self._pod(pod)

    def _rent(self, caller: Caller, given: Json) -> Json:
        if caller.kind != "all":
            raise Business("access denied")
        gpu, bid = self._cloud.catalog.gpu(given["gpuTypeId"]), Decimal(str(given["bidPerGpu"]))
        cloud = given.get("cloudType", "SECURE")
        price = gpu.price(cloud) if gpu is not None else None
        if price is None or bid < price / 2:
            raise Business(CAPACITY[1])
        asked: Json = {
            "name": given["name"],
            "args": given.get("dockerArgs", ""),
            "disk": given.get("containerDiskInGb", 20),
            "ports": [one for one in given.get("ports", "").split(",") if one],
            "env": {pair["key"]: pair["value"] for pair in given.get("env", [])},
            "cloud": cloud,
            "gpu": {"id": given["gpuTypeId"], "count": given.get("gpuCount", 1)},
            "dataCenterIds": [given["dataCenterId"]] if given.get("dataCenterId") else [],
        }
        same = {"imageName": "image", "templateId": "templateId", "containerRegistryAuthId": "registry"}
        asked |= {word: given[theirs] for theirs, word in same.items() if theirs in given}
        if given.get("volumeInGb"):
            path = given.get("volumeMountPath", "/workspace")
            asked["mounts"] = {"persistent": {"size": given["volumeInGb"], "path": path}}
        return self._pod(self._cloud.create(asked, bid=bid))

    def _bid_resume(self, caller: Caller, given: Json) -> Json:
        pod = self._may(caller, "resume", given["podId"])
        if not pod.spot or pod.status is not Status.EXITED:
            raise Business("Cannot resume this pod as a spot pod.")
        self._cloud.start(pod)
        return self._pod(pod)

    def _resume(self, caller: Caller, given: Json) -> Json:
        pod = self._may(caller, "resume", given["podId"])
        if pod.status is not Status.EXITED:
            raise Business("Cannot resume this pod.")
        self._cloud.start(pod, with_gpus=given.get("gpuCount") != 0)
        return self._pod(pod)

    def _pod(self, pod: Pod) -> Json:
        return {
            "id": pod.id,
            "name": pod.asked["name"],
            "desiredStatus": DESIRED.get(pod.status, "RUNNING"),
            "imageName": pod.asked["image"],
            "env": [f"{k}={v}" for k, v in pod.asked.get("env", {}).items()],
            "costPerHr": float(pod.usd_per_hour),
            "machineId": "m_emulated",
        }


def _check_input(name: str, query: str, given: Any) -> None:
    """As a schema does it: the type that the query says, and every field of what was sent."""
    if name not in INPUTS:
        return
    type_name, shape = INPUTS[name]
    declared = DECLARED.search(query)
    if declared is not None and declared[1] != type_name:
        raise BadQuery(f'Variable "$input" of type "{declared[1]}" used in a position of "{type_name}".')
    for fault in checking.of(given, shape):
        raise BadQuery(f'Variable "$input" got invalid value: {fault}')


def _check_answer(name: str, value: Any) -> None:
    """Our own. What does not hold is the emulator's fault, and fails the test."""
    _, shape = ANSWERS[name]
    faults = checking.of(value, shape) if shape is not None else [] if value is None else ["$: not null"]
    assert not faults, f"{name}: {faults}"


def _picked(value: Any, wanted: Selected) -> Any:
    if isinstance(value, list):
        return [_picked(one, wanted) for one in value]
    if not isinstance(value, dict) or not wanted:
        return value
    for name in wanted:
        if name not in value:
            raise BadQuery(f'Cannot query field "{name}" here.')
    return {name: _picked(value[name], below) for name, below in wanted.items()}
