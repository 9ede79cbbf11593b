"""What Runpod has for a need: its catalogue's answers as offers of the house, or why there is none.

A GPU is called as the price list calls it; what exactly is rented is Runpod's own id. Pure but for the price
list's names; asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from launcher.catalogue import Book
from launcher.errors import NoCapacity
from launcher.models import Json, Need, Offer
from launcher.providers import runpod_forms as forms

NONE = "NONE"
SOURCE = "live"
SECURE = "secure"
NVIDIA = "NVIDIA"
Stock = Sequence[tuple[Json, str]]  # a model of GPU with its figures in one cloud, and that cloud


def clouds(need: Need) -> tuple[str, ...]:
    return forms.CLOUDS if need.cloud == "any" else (need.cloud,)


def beside(volume: Json, need: Need) -> Need:
    """A network volume is mounted in its own data center only, and only in the secure cloud."""
    id, place = volume.get("id"), str(volume.get("dataCenter"))
    if need.cloud == "community":
        raise NoCapacity(
            "network volumes are for the secure cloud only", hint=f"{flags(need)} --cloud secure"
        )
    if need.regions and not any(_within(place, "", region) for region in need.regions):
        wanted = " or ".join(need.regions)
        raise NoCapacity(
            f"the network volume {id} lies in {place}, not in {wanted}",
            hint=f"{flags(need)} --region {place}",
        )
    return replace(need, cloud=SECURE, regions=(place,))


def flags(need: Need) -> str:
    """The user's GPUs, as they are typed again."""
    return " ".join(f"--gpu '{name}'" for name in _words(need)) or "--gpu any-24gb"


def _words(need: Need) -> tuple[str, ...]:
    return need.gpu_words or need.gpus


@dataclass(frozen=True)
class Market:
    """What is needed to read the catalogue's answers."""

    book: Book
    regions: Mapping[str, str]  # data centers by the continent they are on
    now: datetime
    spot: Mapping[tuple[str, str], Decimal]  # the lowest bid by GPU and cloud; empty: there are none
    names: frozenset[str] = frozenset()  # what the models there are called, as names are compared

    def of(self, gpu: Json, cloud: str, need: Need) -> Iterator[Offer]:
        """The offers of one model in one cloud: one wherever it is, or one per place the user named."""
        if not self._fits(gpu, need) or not _had(gpu, cloud, need):
            return
        prices = []
        if need.on_demand:
            prices.append((_price(gpu, cloud), False))
        if (bid := self.spot.get((str(gpu.get("id")), cloud))) is not None:
            prices.append((bid, True))
        for price, spot in prices:
            for place in _places(gpu, need, self.regions):
                if price > 0:
                    yield self._offer(gpu, cloud, need, price, place, spot)

    def listed(self, gpu: Json) -> Iterator[Offer]:
        """Its price in the secure cloud, whether one is free or not."""
        if _of_nvidia(gpu) and gpu.get(SECURE) and (price := _price(gpu, SECURE)) > 0:
            yield self._offer(gpu, SECURE, Need(), price, None, False)

    def _offer(
        self, gpu: Json, cloud: str, need: Need, price: Decimal, place: str | None, spot: bool
    ) -> Offer:
        volume = 0 if need.network_volume else forms.volume_gb(need.disk_gb)
        disks = forms.disks_usd_per_hour(volume)
        words = (forms.TARGET, str(gpu.get("name")), cloud, place or "any", *(("spot",) if spot else ()))
        return Offer(
            id=":".join(words),
            target=forms.TARGET,
            provider=forms.TARGET,
            region=place,
            instance_type=str(gpu.get("id")),
            gpu=self._named(gpu),
            gpu_count=need.gpu_count,
            vram_gb=_vram(gpu),
            spot=spot,
            usd_per_hour=price * need.gpu_count + disks,
            price_source=SOURCE,
            price_as_of=self.now,
            storage_usd_per_day=forms.stopped_usd_per_hour(volume) * 24,
            boot_s=self.book.terms[forms.TARGET].boot_s,
            bills=True,
            disk_usd_per_hour=disks,
            disk_gb=forms.CONTAINER_GB + volume,
            cloud=cloud,
        )

    def nothing(self, stock: Stock, need: Need) -> NoCapacity:
        """Why there is no offer, with the flags that would bring one."""
        wanted = " or ".join(_words(need)) or "GPU that is large enough"
        fitting = [(gpu, cloud) for gpu, cloud in stock if self._fits(gpu, need)]
        where = " or ".join(clouds(need))
        together = max((_most(gpu, cloud) for gpu, cloud in fitting), default=0)
        free = [(gpu, cloud) for gpu, cloud in fitting if _had(gpu, cloud, need)]
        typed = flags(need)
        if not fitting:
            return NoCapacity(f"Runpod's catalogue has no {wanted}")
        if 0 < together < need.gpu_count:
            reason = f"no machine of Runpod's has {need.gpu_count}× {wanted}, {together} at most"
            return NoCapacity(reason, hint=f"{typed} --gpus {together}")
        if strange := [one for one in need.regions if self.regions and not self._on_earth(one)]:
            every = ", ".join(sorted({*self.regions, *self.regions.values()}))
            return NoCapacity(
                f"Runpod is in no place called {' or '.join(strange)}; it is in {every}", hint=typed
            )
        if free and need.regions:
            places = sorted({id for gpu, _ in free for id in _free_in(gpu)})
            reason = f"no {wanted} is free in {' or '.join(need.regions)} now"
            return NoCapacity(reason, hint=f"{typed} --region {places[0]}" if places else typed)
        if free:
            return NoCapacity(
                f"Runpod has no {wanted} as spot in the {where} cloud now", hint=f"{typed} --spot auto"
            )
        cuda = f" with CUDA {need.min_cuda}" if need.min_cuda else ""
        other = f"{typed} --cloud any" if need.cloud != "any" and need.network_volume is None else None
        return NoCapacity(f"no {wanted}{cuda} is free in Runpod's {where} cloud now", hint=other)

    def _on_earth(self, wanted: str) -> bool:
        return any(_within(id, continent, wanted) for id, continent in self.regions.items())

    def _named(self, gpu: Json) -> str:
        """The price list's name, by what Runpod calls it or by its id; else Runpod's."""
        called, id = str(gpu.get("name")), str(gpu.get("id"))
        names = (self.book.device_name(called), self.book.device_name(id))
        return next((name for name in names if name in self.book.gpus), called)

    def _fits(self, gpu: Json, need: Need) -> bool:
        vram, name, id = _vram(gpu), self._named(gpu), str(gpu.get("id"))
        if not _of_nvidia(gpu):
            return False
        if need.vram_gb is not None and vram < need.vram_gb:
            return False
        words = _words(need)
        return not words or any(self._meant(word, gpu, name, vram, id) for word in words)

    def _meant(self, word: str, gpu: Json, name: str, vram: Decimal, id: str) -> bool:
        """A name of a model here means that model and no other that the price list calls the same."""
        spelled = self.book.spelled(word)
        if spelled in self.names:
            return spelled == self.book.spelled(str(gpu.get("name")))
        return self.book.knows(word) and self.book.fits(self.book.wished(word), name, vram, id)


def _of_nvidia(gpu: Json) -> bool:
    """Trainers and images here are made for CUDA."""
    return str(gpu.get("manufacturer") or NVIDIA).upper() == NVIDIA


def _vram(gpu: Json) -> Decimal:
    return Decimal(int(gpu.get("memory") or 0))


def _price(gpu: Json, cloud: str) -> Decimal:
    """Zero where none is told: that is no reason to hide the others."""
    return forms.amount((gpu.get("price") or {}).get(cloud) or 0)


def _most(gpu: Json, cloud: str) -> int:
    """How many one machine of that cloud has; where nobody tells, enough."""
    most = (gpu.get("maxCount") or {}).get(cloud)
    return most if isinstance(most, int) else 1 << 10


def _had(gpu: Json, cloud: str, need: Need) -> bool:
    """That cloud has machines with so many of them, and some are free."""
    return (
        bool(gpu.get(cloud)) and _most(gpu, cloud) >= need.gpu_count and gpu.get("availability", NONE) != NONE
    )


def _free_in(gpu: Json) -> list[str]:
    places = gpu.get("dataCenters") or ()
    return [str(place.get("id")) for place in places if place.get("availability") != NONE]


def _places(gpu: Json, need: Need, regions: Mapping[str, str]) -> Iterator[str | None]:
    """A region may be a data center (EU-RO-1), the beginning of some (EU) or a continent (EUROPE)."""
    if not need.regions:
        yield None
        return
    for id in _free_in(gpu):
        if any(_within(id, regions.get(id, ""), wanted) for wanted in need.regions):
            yield id


def _within(id: str, continent: str, wanted: str) -> bool:
    word = wanted.upper().replace(" ", "_")
    return id.upper() == word or id.upper().startswith(f"{word}-") or continent.upper() == word
