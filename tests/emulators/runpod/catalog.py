"""What the emulated marketplace has: GPU models, prices, data centers, and how many of each are free.

Prices are made up for tests (the 4090 costs what users expect of it). Stock is counted in GPUs per cloud
and data center; nothing here knows pods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Cloud = Literal["SECURE", "COMMUNITY"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Gpu:
    id: str
    name: str
    memory: int
    secure: Decimal | None  # USD per hour for one; None = that cloud has none
    community: Decimal | None
    most: int = 8
    cuda: tuple[str, ...] = ("12.4", "12.8")
    manufacturer: str = "NVIDIA"

    def price(self, cloud: str) -> Decimal | None:
        return self.secure if cloud == "SECURE" else self.community


@dataclass(frozen=True)
class Place:
    id: str
    name: str
    region: str
    volumes: tuple[str, ...] = ("STANDARD",)


GPUS = (
    Gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, Decimal("0.69"), Decimal("0.44")),
    Gpu("NVIDIA GeForce RTX 3090", "RTX 3090", 24, Decimal("0.46"), Decimal("0.22")),
    Gpu("NVIDIA RTX A5000", "RTX A5000", 24, Decimal("0.27"), Decimal("0.16")),
    Gpu("NVIDIA A40", "A40", 48, Decimal("0.40"), None),
    Gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, Decimal("1.64"), Decimal("1.19")),
    Gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, Decimal("1.89"), None),
    Gpu("NVIDIA H100 80GB HBM3", "H100 SXM", 80, Decimal("2.99"), None),
    Gpu("NVIDIA H200", "H200 SXM", 141, Decimal("3.99"), None),
)
PLACES = (
    Place("EU-RO-1", "Europe Romania 1", "EUROPE", ("STANDARD", "HIGH_PERFORMANCE")),
    Place("EU-CZ-1", "Europe Czech 1", "EUROPE"),
    Place("US-KS-2", "US Kansas 2", "NORTH_AMERICA"),
)


@dataclass
class Catalog:
    """Free GPUs by (GPU id, cloud, data center); what is not written there has `usual` free ones."""

    gpus: tuple[Gpu, ...] = GPUS
    places: tuple[Place, ...] = PLACES
    usual: int = 16
    free: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def gpu(self, id: str) -> Gpu | None:
        return next((gpu for gpu in self.gpus if gpu.id == id), None)

    def count(self, gpu: str, cloud: str, place: str) -> int:
        model = self.gpu(gpu)
        if model is None or model.price(cloud) is None:
            return 0
        return self.free.get((gpu, cloud, place), self.usual)

    def sold_out(self, gpu: str, cloud: str | None = None, place: str | None = None) -> None:
        """None of it is free any more: everywhere, in one cloud, or in one data center."""
        for one in ("SECURE", "COMMUNITY"):
            for where in self.places:
                if cloud in (None, one) and place in (None, where.id):
                    self.free[gpu, one, where.id] = 0

    def take(self, gpu: str, cloud: str, count: int, wanted: list[str]) -> str | None:
        """The data center that gives them, or None: there are no such GPUs together anywhere wanted."""
        for place in self.places:
            free = self.count(gpu, cloud, place.id)
            if (not wanted or place.id in wanted) and free >= count:
                self.free[gpu, cloud, place.id] = free - count
                return place.id
        return None

    def give_back(self, gpu: str, cloud: str, count: int, place: str) -> None:
        self.free[gpu, cloud, place] = self.count(gpu, cloud, place) + count

    # --- as answers --------------------------------------------------------------------------

    def gpu_answer(self, gpu: Gpu, stock: tuple[str, int, str | None] | None) -> Json:
        """`stock`: for which cloud, how many together, and from which CUDA version on it is asked."""
        shown: Json = {
            "id": gpu.id,
            "name": gpu.name,
            "pool": None,
            "manufacturer": gpu.manufacturer,
            "memory": gpu.memory,
            "secure": gpu.secure is not None,
            "community": gpu.community is not None,
            "price": {"secure": float(gpu.secure or 0), "community": float(gpu.community or 0)},
            "maxCount": {
                "secure": gpu.most if gpu.secure is not None else 0,
                "community": gpu.most if gpu.community is not None else 0,
            },
        }
        if stock is not None:
            cloud, count, least_cuda = stock
            cuda = [v for v in gpu.cuda if least_cuda is None or version(v) >= version(least_cuda)]
            places = [
                {"id": place.id, "name": place.name, "availability": level}
                for place in self.places
                if (level := self._level(gpu.id, cloud, place.id, count)) != "NONE" and cuda
            ]
            best = max((str(p["availability"]) for p in places), key=LEVELS.index, default="NONE")
            shown["availability"] = best
            shown["cudaVersions"] = [{"version": v, "available": bool(places)} for v in cuda]
            if places:
                shown["dataCenters"] = places
        return shown

    def place_answer(self, place: Place, with_gpus: bool) -> Json:
        shown: Json = {
            "id": place.id,
            "name": place.name,
            "region": place.region,
            "globalNetwork": False,
            "networkVolumeTypes": list(place.volumes),
            "compliance": [],
        }
        if with_gpus:
            shown["gpuAvailability"] = [
                {"id": gpu.id, "name": gpu.name, "availability": self._level(gpu.id, "SECURE", place.id, 1)}
                for gpu in self.gpus
            ]
        return shown

    def _level(self, gpu: str, cloud: str, place: str, count: int) -> str:
        sets = self.count(gpu, cloud, place) // max(1, count)
        return "NONE" if not sets else "LOW" if sets < 2 else "MEDIUM" if sets < 8 else "HIGH"


LEVELS = ("NONE", "LOW", "MEDIUM", "HIGH")


def version(written: str) -> tuple[int, ...]:
    return tuple(int(part) for part in written.split("."))
