"""The price list's newer half: what a provider asks today, written beside the data folder's runs, and how
old what is known of each target is. It asks one provider and writes one file; the catalogue reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from launcher import catalogue
from launcher.catalogue import Book, Price
from launcher.errors import VendorBug, usage
from launcher.files import Disk
from launcher.guard import MICRO, usd
from launcher.models import Json, Offer
from launcher.providers.base import Provider
from launcher.refusals import per_gpu
from launcher.store import Home

VERB = "prices"
SOURCE = "prices refresh"


@dataclass(frozen=True)
class Known:
    """What the list has of one target: how many prices of one source and day."""

    target: str
    prices: int
    source: str
    as_of: datetime


def known(book: Book) -> tuple[Known, ...]:
    """Of every target, its newest prices first."""
    counted: dict[tuple[str, str, datetime], int] = {}
    for price in book.prices:
        if price.retired is None:
            key = (price.target, price.source, price.as_of)
            counted[key] = counted.get(key, 0) + 1
    found = [Known(target, count, source, as_of) for (target, source, as_of), count in counted.items()]
    order = list(book.targets)
    return tuple(sorted(found, key=lambda one: (order.index(one.target), -one.as_of.timestamp())))


def refresh(home: Home, provider: Provider, now: datetime) -> tuple[Price, ...]:
    """Ask one provider and keep what it says; what the file had of other targets stays. The new prices."""
    if VERB not in provider.traits.verbs:
        raise usage("no-price-list", f"{provider.name} tells no prices", hint="prices")
    offers: tuple[Offer, ...] = cast(Any, provider).prices()
    rows = _rows(offers, catalogue.load())
    if not rows:
        raise VendorBug(f"{provider.name} told no price of any GPU")
    others = [row for row in _written(home) if row.get("target") != provider.name]
    text = json.dumps({"prices": [*others, *rows]}, indent=1)
    Disk().write(home.prices, text.encode())
    begun = now.replace(microsecond=0)
    fresh = (one for one in catalogue.load(home.prices).prices if one.target == provider.name)
    return tuple(one for one in fresh if one.as_of >= begun)


def _rows(offers: Iterable[Offer], book: Book) -> list[Json]:
    """One per model, the cheapest of those that count as the same."""
    cheapest: dict[str, Offer] = {}
    for offer in offers:
        gpu = offer.gpu or ""
        if gpu and (gpu not in cheapest or per_gpu(offer) < per_gpu(cheapest[gpu])):
            cheapest[gpu] = offer
    return [_row(gpu, offer, new=gpu not in book.gpus) for gpu, offer in sorted(cheapest.items())]


def _row(gpu: str, offer: Offer, *, new: bool) -> Json:
    """`new`: this program has not heard of it, and learns what it needs to know of it."""
    at = offer.price_as_of or datetime.now(UTC)
    return {
        **({"vram_gb": int(offer.vram_gb or 0)} if new else {}),
        "target": offer.target,
        "gpu": gpu,
        "gpu_count": 1,
        "usd_per_hour": usd(per_gpu(offer), MICRO),
        "source": SOURCE,
        "as_of": at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
    }


def _written(home: Home) -> Sequence[Json]:
    """What an earlier refresh left; a file that is none is written anew."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        rows = json.loads(home.prices.read_bytes())["prices"]
        return [row for row in rows if isinstance(row, dict)]
    return ()
