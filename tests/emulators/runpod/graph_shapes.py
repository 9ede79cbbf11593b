"""What the old API takes and gives, as far as a launcher meets it: shapes as data, written down by hand.

tests/unit/test_runpod_graph.py holds them against a schema of that API where one lies beside the checkout.
"""

from __future__ import annotations

from tests.emulators.runpod.schemas import NUMBER, TEXT, WHOLE, YES_NO, Shape, answer, body, many, or_null

MAYBE = or_null(NUMBER)
POD_ID = {"podId": TEXT}
RENT = body(
    "bidPerGpu",
    bidPerGpu=NUMBER,
    cloudType=TEXT,
    gpuTypeId=TEXT,
    gpuCount=WHOLE,
    name=TEXT,
    imageName=TEXT,
    dockerArgs=TEXT,
    ports=TEXT,
    env=many(body("key", "value", key=TEXT, value=TEXT)),
    containerDiskInGb=WHOLE,
    volumeInGb=WHOLE,
    volumeMountPath=TEXT,
    networkVolumeId=TEXT,
    minVcpuCount=WHOLE,
    minMemoryInGb=WHOLE,
    dataCenterId=TEXT,
    startSsh=YES_NO,
    startJupyter=YES_NO,
    templateId=TEXT,
    containerRegistryAuthId=TEXT,
    allowedCudaVersions=many(TEXT),
    minCudaVersion=TEXT,
    stopAfter=TEXT,
    terminateAfter=TEXT,
)
# By the name of the field: what its one argument is called there, and its shape.
INPUTS: dict[str, tuple[str, Shape]] = {
    "podRentInterruptable": ("PodRentInterruptableInput", RENT),
    "podBidResume": (
        "PodBidResumeInput",
        body("podId", "bidPerGpu", **POD_ID, bidPerGpu=NUMBER, gpuCount=WHOLE),
    ),
    "podResume": ("PodResumeInput", body("podId", **POD_ID, gpuCount=WHOLE)),
    "podTerminate": ("PodTerminateInput", body("podId", **POD_ID)),
    "podStop": ("PodStopInput", body("podId", **POD_ID, incrementVersion=YES_NO)),
    "gpuTypes": ("GpuTypeFilter", body(id=TEXT, ids=many(TEXT))),
}
POD = answer(
    "id",
    id=TEXT,
    name=TEXT,
    desiredStatus=TEXT,
    imageName=TEXT,
    env=many(TEXT),
    costPerHr=NUMBER,
    machineId=TEXT,
)
LOWEST = answer(uninterruptablePrice=NUMBER, stockStatus=or_null(TEXT), minimumBidPrice=MAYBE)
GPU = answer(
    "id",
    id=TEXT,
    displayName=TEXT,
    memoryInGb=WHOLE,
    securePrice=NUMBER,
    communityPrice=NUMBER,
    secureSpotPrice=MAYBE,
    communitySpotPrice=MAYBE,
    lowestPrice=LOWEST,
)
USER = answer("id", id=TEXT, clientBalance=NUMBER, currentSpendPerHr=NUMBER, spendLimit=NUMBER)
# By the name of the field: the type that it gives, and its shape. Nothing = null.
ANSWERS: dict[str, tuple[str, Shape | None]] = {
    "myself": ("User", USER),
    "gpuTypes": ("GpuType", many(GPU)),
    "podTerminate": ("Void", None),
    "podStop": ("Pod", POD),
    "podRentInterruptable": ("Pod", POD),
    "podBidResume": ("Pod", POD),
    "podResume": ("Pod", POD),
}
