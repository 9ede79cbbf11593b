"""What Runpod has for a need: its catalogue's answers as offers of the house, the cheapest first.

A GPU is called as the price list calls it; what exactly is rented is Runpod's own id. Pure but for the price
list's names; asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from launcher.catalogue import Book
from launcher.models import Json, Need, Offer
from launcher.providers import runpod_forms as forms

NONE = "NONE"
SOURCE = "live"


def clouds(need: Need) -> tuple[str, ...]:
    return forms.CLOUDS if need.cloud == "any" else (need.cloud,)


def of(
    gpu: Json,
    cloud: str,
    need: Need,
    book: Book,
    regions: Mapping[str, str],
    now: datetime,
    spot: Mapping[tuple[str, str], Decimal] | None,
) -> Iterator[Offer]:
    """The offers of one model in one cloud: one wherever it is, or one per place the user named."""
    id, called = str(gpu.get("id")), str(gpu.get("name"))
    name = _known(book, called, id)
    vram = Decimal(int(gpu.get("memory") or 0))
    if not _fits(book, need, name, vram, id) or not _had(gpu, cloud, need):
        return
    on_demand = forms.amount((gpu.get("price") or {}).get(cloud))
    price = on_demand if spot is None else spot.get((id, cloud), Decimal(0))
    if price <= 0:
        return
    volume = forms.volume_gb(need.disk_gb)
    disks = forms.disks_usd_per_hour(volume)
    terms = book.terms[forms.TARGET]
    for place in _places(gpu, need, regions):
        yield Offer(
            id=":".join((forms.TARGET, called, cloud, place or "any")),
            target=forms.TARGET,
            provider=forms.TARGET,
            region=place,
            instance_type=id,
            gpu=name,
            gpu_count=need.gpu_count,
            vram_gb=vram,
            spot=spot is not None,
            usd_per_hour=price * need.gpu_count + disks,
            price_source=SOURCE,
            price_as_of=now,
            storage_usd_per_day=forms.stopped_usd_per_hour(volume) * 24,
            boot_s=terms.boot_s,
            bills=True,
            disk_usd_per_hour=disks,
            cloud=cloud,
        )


def _known(book: Book, called: str, id: str) -> str:
    """The price list's name, by what Runpod calls it or by its id; else Runpod's."""
    return next((n for n in (book.device_name(called), book.device_name(id)) if n in book.gpus), called)


def _fits(book: Book, need: Need, name: str, vram: Decimal, id: str) -> bool:
    if need.vram_gb is not None and vram < need.vram_gb:
        return False
    return not need.gpus or any(book.fits(wish, name, vram, id) for wish in need.gpus)


def _had(gpu: Json, cloud: str, need: Need) -> bool:
    """That cloud has machines with so many of them, and some are free."""
    most = (gpu.get("maxCount") or {}).get(cloud)
    enough = not isinstance(most, int) or most >= need.gpu_count
    return bool(gpu.get(cloud)) and enough and gpu.get("availability", NONE) != NONE


def _places(gpu: Json, need: Need, regions: Mapping[str, str]) -> Iterator[str | None]:
    """A region may be a data center (EU-RO-1), the beginning of some (EU) or a continent (EUROPE)."""
    if not need.regions:
        yield None
        return
    for place in gpu.get("dataCenters") or ():
        id = str(place.get("id"))
        if place.get("availability") == NONE:
            continue
        if any(_within(id, regions.get(id, ""), wanted) for wanted in need.regions):
            yield id


def _within(id: str, continent: str, wanted: str) -> bool:
    word = wanted.upper().replace(" ", "_")
    return id.upper() == word or id.upper().startswith(f"{word}-") or continent.upper() == word
