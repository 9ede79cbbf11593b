"""REST v2's routes: which operation a path is, what it takes and gives, and what it does to the cloud."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.emulators.runpod.cloud import Caller, Cloud, Refused
from tests.emulators.runpod.machines import Said

Json = dict[str, Any]
SOURCES = ("container", "system")


@dataclass(frozen=True)
class Call:
    cloud: Cloud
    caller: Caller
    ids: list[str]
    query: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Logs:
    """A stream: what is there is read again and again."""

    read: Callable[[], list[tuple[str, Said]]]
    tail: int


@dataclass(frozen=True)
class Route:
    name: str
    method: str
    path: str
    do: Callable[[Call], Any]
    takes: str | None = None
    gives: str | None = None
    status: int = 200
    query: frozenset[str] = frozenset()

    def matches(self, parts: list[str]) -> list[str] | None:
        """What stands where the path has a star."""
        own = self.path.split("/")
        if len(own) != len(parts) or any(o not in ("*", p) for o, p in zip(own, parts, strict=True)):
            return None
        return [p for o, p in zip(own, parts, strict=True) if o == "*"]


def _page(call: Call, name: str, items: list[Json]) -> Json:
    """In pages of `limit` where a cursor is in use, as newer deployments do."""
    if not call.cloud.conditions.extras:
        return {name: items}
    cursor = call.query.get("cursor", "0")
    if not cursor.isdecimal():
        raise Refused(400, "invalid cursor")
    first = int(cursor)
    more = first + PAGE < len(items)
    pages = {"hasNextPage": more, **({"nextCursor": str(first + PAGE)} if more else {})}
    return {name: items[first : first + PAGE], "pagination": pages}


PAGE = 3  # small, so that a client that reads one page only is found out


def _list_pods(call: Call) -> Json:
    pods = [pod for id in call.cloud.pods if (pod := call.cloud.visible(id, listed=True))]
    return _page(call, "pods", [call.cloud.shown(pod) for pod in pods])


def _create(call: Call) -> Json:
    return call.cloud.shown(call.cloud.create(call.body))


def _get(call: Call) -> Json:
    return call.cloud.shown(call.cloud.known(call.ids[0]))


def _delete(call: Call) -> None:
    call.cloud.terminate(call.cloud.known(call.ids[0]))


def _act(call: Call) -> Json | None:
    pod = call.cloud.known(call.ids[0])
    call.cloud.act(pod, call.body["action"])
    return None if call.body["action"] == "terminate" else call.cloud.shown(pod)


def _logs(call: Call) -> Logs:
    pod = call.cloud.known(call.ids[0])
    source, tail = call.query.get("source"), int(call.query.get("tail", "100"))
    if source not in (None, *SOURCES) or not 0 <= tail <= 5000:
        raise Refused(422, "Request validation failed.", ("source or tail is not one that there is",))

    def read() -> list[tuple[str, Said]]:
        ours = [("container", one) for one in pod.lines()] if source != "system" else []
        theirs = [("system", one) for one in pod.system_lines] if source != "container" else []
        return sorted([*ours, *theirs], key=lambda pair: pair[1].at)

    return Logs(read, tail)


def _gpus(call: Call) -> Json:
    return _page(
        call, "gpus", [call.cloud.catalog.gpu_answer(g, _stock(call)) for g in call.cloud.catalog.gpus]
    )


def _gpu(call: Call) -> Json:
    gpu = call.cloud.catalog.gpu(call.ids[0])
    if gpu is None:
        raise Refused(404, "gpu type not found")
    return call.cloud.catalog.gpu_answer(gpu, _stock(call))


def _stock(call: Call) -> tuple[str, int, str | None] | None:
    wanted, product = call.query.get("include"), call.query.get("product")
    if (wanted is None) != (product is None):
        raise Refused(400, "include=AVAILABILITY and product go together")
    if wanted is None:
        return None
    if wanted != "AVAILABILITY" or product != "POD":
        raise Refused(422, "Request validation failed.", ("include or product is not one that there is",))
    return (
        call.query.get("cloud", "SECURE"),
        int(call.query.get("count", "1")),
        call.query.get("minCudaVersion"),
    )


def _places(call: Call) -> Json:
    regions = call.query.get("regions", "").split(",")
    places = [p for p in call.cloud.catalog.places if regions == [""] or p.region in regions]
    with_gpus = "GPU_AVAILABILITY" in call.query.get("include", "").split(",")
    return _page(call, "dataCenters", [call.cloud.catalog.place_answer(p, with_gpus) for p in places])


def _billing(call: Call) -> Json:
    now = call.cloud.now()
    first = _moment(call.query.get("startTime")) or now - timedelta(days=30)
    last = _moment(call.query.get("endTime")) or now
    return call.cloud.bill(call.query.get("podId"), first, last, call.query.get("bucketSize", "day"))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC) if text else None


def _volumes(call: Call) -> Json:
    return _page(call, "networkVolumes", list(call.cloud.volumes.values()))


def _make_volume(call: Call) -> Json:
    if call.body["dataCenter"] not in {place.id for place in call.cloud.catalog.places}:
        raise Refused(400, "unknown data center")
    volume = {"id": secrets.token_hex(5), "type": "STANDARD", **call.body}
    call.cloud.volumes[volume["id"]] = volume
    return volume


def _volume(call: Call) -> Json:
    if call.ids[0] not in call.cloud.volumes:
        raise Refused(404, "network volume not found")
    found: Json = call.cloud.volumes[call.ids[0]]
    return found


def _drop_volume(call: Call) -> None:
    _volume(call)
    del call.cloud.volumes[call.ids[0]]


def _registries(call: Call) -> Json:
    return _page(call, "registries", list(call.cloud.registries.values()))


def _make_registry(call: Call) -> Json:
    registry = {"id": f"reg_{secrets.token_hex(4)}", "name": call.body["name"]}
    call.cloud.registries[registry["id"]] = registry
    call.cloud.logins[registry["id"]] = (call.body["username"], call.body["password"])
    return registry


def _drop_registry(call: Call) -> None:
    if call.cloud.registries.pop(call.ids[0], None) is None:
        raise Refused(400, "Registry auth not found")
    call.cloud.logins.pop(call.ids[0], None)


def _ssh_keys(call: Call) -> Json:
    return {"keys": list(call.cloud.ssh_keys)}


def _limits(call: Call) -> Json:
    return {"spendRate": {"limit": 80.0}, "serverlessWorkers": {"limit": 5}}


def _never(call: Call) -> Any:
    raise AssertionError("GraphQL is answered before routes are")


STOCK = frozenset({"include", "product", "count", "cloud", "minCudaVersion", "cursor"})
CURSOR = frozenset({"cursor"})
ROUTES = (
    Route("graphql", "POST", "graphql", _never),
    Route("list", "GET", "v2/pods", _list_pods, gives="ListPodsResponse", query=CURSOR),
    Route("create", "POST", "v2/pods", _create, "CreatePodRequest", "Pod", 201),
    Route("get", "GET", "v2/pods/*", _get, gives="Pod"),
    Route("delete", "DELETE", "v2/pods/*", _delete),
    Route("action", "POST", "v2/pods/*/action", _act, "PodActionRequest"),
    Route("logs", "GET", "v2/pods/*/logs", _logs, query=frozenset({"source", "tail", "since"})),
    Route("gpus", "GET", "v2/catalog/gpus", _gpus, gives="ListGpuTypesResponse", query=STOCK),
    Route("gpu", "GET", "v2/catalog/gpus/*", _gpu, gives="GpuType", query=STOCK),
    Route(
        *("places", "GET", "v2/catalog/datacenters", _places),
        gives="ListDataCentersResponse",
        query=frozenset({"include", "regions", "cursor"}),
    ),
    Route(
        *("billing", "GET", "v2/billing/pods", _billing),
        gives="ListPodBillingResponse",
        query=frozenset({"podId", "bucketSize", "startTime", "endTime"}),
    ),
    Route("volumes", "GET", "v2/network-volumes", _volumes, gives="ListNetworkVolumesResponse", query=CURSOR),
    Route(
        *("make volume", "POST", "v2/network-volumes", _make_volume),
        *("CreateNetworkVolumeRequest", "NetworkVolume", 201),
    ),
    Route("volume", "GET", "v2/network-volumes/*", _volume, gives="NetworkVolume"),
    Route("drop volume", "DELETE", "v2/network-volumes/*", _drop_volume),
    Route("registries", "GET", "v2/registries", _registries, gives="ListRegistriesResponse", query=CURSOR),
    Route(
        *("make registry", "POST", "v2/registries", _make_registry),
        *("CreateRegistryRequest", "Registry", 201),
    ),
    Route("drop registry", "DELETE", "v2/registries/*", _drop_registry),
    Route("ssh keys", "GET", "v2/account/ssh-keys", _ssh_keys, gives="SshKeys"),
    Route("limits", "GET", "v2/account/limits", _limits),
)
