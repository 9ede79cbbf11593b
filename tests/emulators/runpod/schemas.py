"""What REST v2 takes and gives, as far as a launcher meets it: shapes as data, written down by hand.

`closed` bodies refuse words they do not know; answers may always hold more. tests/unit/test_runpod_schemas.py
holds every shape against Runpod's own OpenAPI document where that lies beside the checkout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["text", "whole", "number", "yes-no", "list", "table", "object"]
CUDA = r"^\d+\.\d+$"


@dataclass(frozen=True)
class Shape:
    """One value. Bounds that are None are none."""

    kind: Kind
    fields: Mapping[str, Shape] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    closed: bool = False
    items: Shape | None = None  # of a list, and the values of a table
    words: frozenset[str] = frozenset()  # a text must be one of these
    pattern: str | None = None
    least: int | None = None
    most: int | None = None
    shortest: int | None = None
    longest: int | None = None  # of a list
    nullable: bool = False


TEXT = Shape("text")
FULL = Shape("text", shortest=1)
WHOLE = Shape("whole")
NUMBER = Shape("number")
YES_NO = Shape("yes-no")


def words(*known: str) -> Shape:
    return Shape("text", words=frozenset(known))


def many(items: Shape, longest: int | None = None) -> Shape:
    return Shape("list", items=items, longest=longest)


def or_null(shape: Shape) -> Shape:
    return replace(shape, nullable=True)


def whole(least: int | None = None, most: int | None = None) -> Shape:
    return Shape("whole", least=least, most=most)


def answer(*needed: str, **fields: Shape) -> Shape:
    """An answer's object: what is named without a shape of its own is needed."""
    return Shape("object", fields=fields, needed=frozenset(needed))


def body(*needed: str, **fields: Shape) -> Shape:
    return Shape("object", fields=fields, needed=frozenset(needed), closed=True)


CLOUD = words("SECURE", "COMMUNITY")
LEVEL = words("NONE", "LOW", "MEDIUM", "HIGH")
ACTION = words("start", "stop", "restart", "terminate")
BUCKET = words("hour", "day", "week", "month", "year")
VOLUME_TYPE = words("STANDARD", "HIGH_PERFORMANCE")

PERSISTENT = body("size", "path", size=whole(10), path=TEXT)
NETWORK = body("volumeId", "path", volumeId=TEXT, path=TEXT)
MOUNTS = body(persistent=PERSISTENT, network=many(NETWORK, longest=1))
CONTAINER: dict[str, Shape] = {
    "image": TEXT,
    "args": TEXT,
    "disk": whole(1),
    "env": Shape("table", items=TEXT),
    "ports": many(TEXT),
    "registry": or_null(TEXT),
}

SSH_WAY = answer("host", "port", "username", "command", host=TEXT, port=WHOLE, username=TEXT, command=TEXT)
PORT = answer(private=WHOLE, public=or_null(WHOLE), type=TEXT, ip=or_null(TEXT))
USE = answer(util=WHOLE)
RUNTIME = answer(
    uptime=WHOLE,
    gpus=many(answer(util=WHOLE, memoryUtil=WHOLE)),
    cpu=USE,
    memory=USE,
    ports=many(PORT),
)
AMOUNTS: dict[str, Shape] = {
    "totalAmount": NUMBER,
    "gpuAmount": NUMBER,
    "cpuAmount": NUMBER,
    "diskAmount": NUMBER,
}
SPAN: dict[str, Shape] = {"startTime": TEXT, "endTime": TEXT}

POD = answer(
    *("id", "name", "status", "actions", "image", "args", "disk", "mounts", "ports", "env", "registry"),
    *("cloud", "dataCenterId", "cudaVersion", "ssh", "template", "cost", "locked", "runtime"),
    *("createdAt", "startedAt", "globalNetworking"),
    **CONTAINER,
    id=TEXT,
    name=TEXT,
    status=words("PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED"),
    actions=many(ACTION),
    mounts=MOUNTS,
    gpu=answer("id", id=TEXT, count=whole(1)),
    cloud=CLOUD,
    dataCenterId=or_null(TEXT),
    cudaVersion=or_null(TEXT),
    ssh=answer("proxy", "direct", proxy=or_null(SSH_WAY), direct=or_null(SSH_WAY)),
    template=or_null(TEXT),
    cost=NUMBER,
    locked=YES_NO,
    globalNetworking=answer("enabled", enabled=YES_NO, ip=TEXT, internalDns=TEXT),
    runtime=or_null(RUNTIME),
    createdAt=TEXT,
    startedAt=or_null(TEXT),
)
GPU = answer(
    *("id", "name", "pool", "manufacturer", "memory", "secure", "community", "price", "maxCount"),
    id=TEXT,
    name=TEXT,
    pool=or_null(TEXT),
    manufacturer=words("NVIDIA", "AMD", "UNKNOWN"),
    memory=WHOLE,
    secure=YES_NO,
    community=YES_NO,
    price=answer("secure", "community", secure=NUMBER, community=NUMBER, serverless=NUMBER),
    maxCount=answer("secure", "community", secure=WHOLE, community=WHOLE),
    availability=LEVEL,
    dataCenters=many(answer("id", "name", "availability", id=TEXT, name=TEXT, availability=LEVEL)),
    cudaVersions=many(answer("version", "available", version=Shape("text", pattern=CUDA), available=YES_NO)),
)
PLACE = answer(
    *("id", "name", "region", "networkVolumeTypes", "compliance", "globalNetwork"),
    id=TEXT,
    name=TEXT,
    region=words(
        *("NORTH_AMERICA", "SOUTH_AMERICA", "EUROPE", "ASIA", "MIDDLE_EAST", "AFRICA", "OCEANIA"),
        *("ANTARCTICA", "UNKNOWN"),
    ),
    globalNetwork=YES_NO,
    networkVolumeTypes=many(VOLUME_TYPE),
    gpuAvailability=many(answer("id", "name", "availability", id=TEXT, name=TEXT, availability=LEVEL)),
)
VOLUME = answer(
    *("id", "name", "size", "dataCenter", "type"),
    id=TEXT,
    name=TEXT,
    size=whole(10, 4096),
    dataCenter=TEXT,
    type=VOLUME_TYPE,
)
REGISTRY = answer("id", "name", id=TEXT, name=TEXT)

# By the names of the document's own components.
SHAPES: dict[str, Shape] = {
    "CreatePodRequest": body(
        "name",
        **CONTAINER,
        name=FULL,
        cloud=CLOUD,
        cpu=body("id", "vcpuCount", id=FULL, vcpuCount=whole(2)),
        dataCenterIds=many(TEXT),
        globalNetworking=YES_NO,
        gpu=body(
            "id",
            id=TEXT,
            count=whole(1),
            allowedCudaVersions=many(Shape("text", pattern=CUDA)),
            minCudaVersion=Shape("text", pattern=CUDA),
        ),
        mounts=MOUNTS,
        startJupyter=YES_NO,
        startSsh=YES_NO,
        templateId=FULL,
    ),
    "PodActionRequest": body("action", action=ACTION),
    "CreateNetworkVolumeRequest": body(
        *("name", "size", "dataCenter"), name=FULL, size=whole(10, 4096), dataCenter=FULL, type=VOLUME_TYPE
    ),
    "CreateRegistryRequest": body(*("name", "username", "password"), name=FULL, username=FULL, password=FULL),
    "Pod": POD,
    "ListPodsResponse": answer("pods", pods=many(POD)),
    "GpuType": GPU,
    "ListGpuTypesResponse": answer("gpus", gpus=many(GPU)),
    "DataCenter": PLACE,
    "ListDataCentersResponse": answer("dataCenters", dataCenters=many(PLACE)),
    "NetworkVolume": VOLUME,
    "ListNetworkVolumesResponse": answer("networkVolumes", networkVolumes=many(VOLUME)),
    "Registry": REGISTRY,
    "ListRegistriesResponse": answer("registries", registries=many(REGISTRY)),
    "SshKeys": answer("keys", keys=many(TEXT)),
    "ListPodBillingResponse": answer(
        *("records", "metadata"),
        records=many(answer(*SPAN, *AMOUNTS, "podId", **SPAN, **AMOUNTS, podId=TEXT)),
        metadata=answer(
            *("query", "recordCount", "uniquePodCount", "totals"),
            query=answer(*SPAN, "bucketSize", **SPAN, bucketSize=BUCKET, podId=or_null(TEXT)),
            recordCount=WHOLE,
            uniquePodCount=WHOLE,
            totals=answer(*AMOUNTS, **AMOUNTS),
        ),
    ),
    "ErrorResponse": answer(
        *("title", "status", "detail"), title=TEXT, status=WHOLE, detail=TEXT, errors=many(TEXT)
    ),
}
