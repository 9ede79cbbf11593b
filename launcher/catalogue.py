"""What can be rented, at which price, known from where and since when; and what GPUs are called.

A snapshot ships with the program, a refreshed one may lie in the data folder; of two prices for the same
thing the newer one wins. Nothing here asks a network, and nothing here names a provider: they are rows of
the data. Old prices are said, never failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path

from launcher import codec
from launcher.errors import LauncherError, usage
from launcher.guard import MICRO
from launcher.models import Json, Need, Offer, Refusal

BUNDLED = Path(__file__).parent / "data" / "prices.json"
HOURS_PER_MONTH = 730
SAY_AGE_AFTER = timedelta(hours=24)
WARN_AFTER = timedelta(days=14)

_CLASS = re.compile(r"any-(\d{1,4})gb")
_NOISE = re.compile(r"nvidia|geforce|tesla|quadro|graphics|generation|gpu|[^a-z0-9]")


@dataclass(frozen=True)
class Gpu:
    """A model of GPU. Memory is what it is sold with: one that reports 22888 MiB is a 24 GB card."""

    name: str
    vram_gb: Decimal
    family: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """How a target bills and how quickly it starts, apart from the price of its machines."""

    boots: str  # "image": the instance is the image; "machine": a machine that runs it
    boot_s: int
    image_s: int
    overrun_s: int
    billing_step_s: int
    disk_usd_per_gb_month: Decimal
    stopped_usd_per_gb_month: Decimal
    address_usd_per_hour: Decimal
    per_gpu: bool  # a price counts for one GPU, any number up to most_gpus can be had
    most_gpus: int = 8
    keeps_output: bool = False  # what was not pulled outlives the machine's end, for money
    cloud: str | None = None  # which part of a marketplace the list's prices are of
    no_bids: str = ""  # what is said to whoever took a highest price for a bid


@dataclass(frozen=True)
class Price:
    target: str
    gpu: str
    gpu_count: int
    as_of: datetime
    usd_per_hour: Decimal = Decimal(0)
    source: str = ""
    instance_type: str | None = None
    region: str | None = None
    ram_gb: int | None = None
    retired: str | None = None  # why it is not offered any more
    instead: str | None = None

    @property
    def place(self) -> tuple[str, str, str | None, int]:
        """What a newer price replaces."""
        return (self.target, self.instance_type or self.gpu, self.region, self.gpu_count)


@dataclass(frozen=True)
class Found:
    """What a target has for a need, and what it has not, with the reason."""

    offers: tuple[Offer, ...] = ()
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Book:
    gpus: Mapping[str, Gpu]
    terms: Mapping[str, Terms]
    prices: tuple[Price, ...]
    warnings: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # how a name may be written -> its name

    # --- names -------------------------------------------------------------------------------

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.terms)

    def device_name(self, reported: str) -> str:
        """The catalogue's name of what a driver reports ("NVIDIA GeForce RTX 4090"), else as reported."""
        return self.keys.get(_key(reported), reported.strip())

    def wished(self, written: str) -> str:
        """What --gpu says, in the catalogue's words: a model, a family, a class or an instance type."""
        word = written.strip()
        if _CLASS.fullmatch(word.lower()):
            return word.lower()
        if any(word == price.instance_type for price in self.prices):
            return word
        name = self.keys.get(_key(word))
        if name is None:
            raise self._unknown(word)
        return name

    def knows(self, written: str) -> bool:
        """Whether it is a word for --gpu: of a model that somebody has learnt of elsewhere it may be none."""
        word = written.strip()
        ids = (price.instance_type for price in self.prices)
        return bool(_CLASS.fullmatch(word.lower())) or word in ids or _key(word) in self.keys

    def spelled(self, written: str) -> str:
        """How names are compared: without their makers, signs and case."""
        return _key(written)

    def _unknown(self, written: str) -> LauncherError:
        from difflib import get_close_matches  # only here: naming the nearest is for mistakes

        near = get_close_matches(_key(written), list(self.keys), n=6, cutoff=0.5)
        names = list(dict.fromkeys(self.keys[key] for key in near))[:3]
        meant = f", did you mean {_either(names)}?" if names else ""
        example = names[0] if names else "any-24gb"
        return usage(
            "unknown-gpu",
            f"no GPU is called '{written}'{meant}",
            hint=f"plan --gpu '{example}'",
            details=(
                "Any GPU with enough memory is asked for like this: --gpu any-24gb",
                "A model that is newer than this list is known after: prices refresh TARGET",
            ),
        )

    def fits(self, wish: str, gpu: str | None, vram_gb: Decimal | None, instance_type: str | None) -> bool:
        """Whether a machine's GPU is what a wish in the catalogue's words means."""
        size = _CLASS.fullmatch(wish)
        if size:
            return gpu is not None and vram_gb is not None and vram_gb >= int(size[1])
        known = self.gpus.get(gpu or "")
        return wish in (gpu, instance_type) or (known is not None and known.family == wish)

    # --- prices ------------------------------------------------------------------------------

    def offers(self, need: Need, target: str, now: datetime) -> tuple[Offer, ...]:
        return self.find(need, target, now).offers

    def find(self, need: Need, target: str, now: datetime) -> Found:
        """The cheapest machine per GPU model that satisfies the need; what was asked for by name and
        cannot be had is refused with its reason. Prices from the future of `now` are not used."""
        terms = self.terms.get(target)
        if terms is None:
            return Found()
        if not need.on_demand:
            why = "the price list has no spot prices: they change by the hour"
            return Found(refused=(Refusal(target, why),))
        refused: list[Refusal] = []
        best: dict[str, Offer] = {}
        for price in self.prices:
            wish = self._wish(price, need)
            if price.target != target or wish is None or price.as_of > now:
                continue
            named = bool(wish) and not _CLASS.fullmatch(wish)
            reason = self._unfit(price, need, terms, named)
            if reason is not None:
                if named and all(reason != r.reason for r in refused):
                    refused.append(Refusal(_offer_id(price), reason))
                continue
            offer = self._offer(price, need, terms)
            if price.gpu not in best or offer.usd_per_hour < best[price.gpu].usd_per_hour:
                best[price.gpu] = offer
        if not best and not refused:
            refused.append(Refusal(target, f"no price is known for {_either(need.gpus or ('this need',))}"))
        return Found(tuple(sorted(best.values(), key=lambda o: (o.usd_per_hour, o.id))), tuple(refused))

    def _wish(self, price: Price, need: Need) -> str | None:
        """Which of the wishes the row answers: "" when none was made, None when it answers none."""
        vram = self.gpus[price.gpu].vram_gb
        if need.vram_gb is not None and vram < need.vram_gb:
            return None
        if not need.gpus:
            return ""
        return next((w for w in need.gpus if self.fits(w, price.gpu, vram, price.instance_type)), None)

    def _unfit(self, price: Price, need: Need, terms: Terms, named: bool) -> str | None:
        if price.retired:
            return f"{price.retired}; {price.instead} would do" if price.instead else price.retired
        if need.regions and price.region is not None and price.region not in need.regions:
            return f"no price is known for {_either(need.regions)}, only for {price.region}"
        count = terms.most_gpus if terms.per_gpu else price.gpu_count
        if count < need.gpu_count:
            return f"it has {count} GPU{'s' if count > 1 else ''}, {need.gpu_count} are needed"
        if not terms.per_gpu and price.gpu_count > need.gpu_count and not named:
            return "it has more GPUs than needed"
        if need.ram_gb is not None and price.ram_gb is not None and price.ram_gb < need.ram_gb:
            return f"it has {price.ram_gb} GB of memory, {need.ram_gb} GB are needed"
        return None

    def _offer(self, price: Price, need: Need, terms: Terms) -> Offer:
        count = need.gpu_count if terms.per_gpu else price.gpu_count
        compute = price.usd_per_hour * count if terms.per_gpu else price.usd_per_hour
        disk = _per_hour(terms.disk_usd_per_gb_month * need.disk_gb) + terms.address_usd_per_hour
        return Offer(
            id=_offer_id(price),
            target=price.target,
            provider=price.target,
            region=price.region,
            instance_type=price.instance_type,
            gpu=price.gpu,
            gpu_count=count,
            vram_gb=self.gpus[price.gpu].vram_gb,
            usd_per_hour=compute + disk,
            price_source=price.source + _elsewhere(terms, need),
            price_as_of=price.as_of,
            disk_usd_per_hour=disk,
            storage_usd_per_day=_per_hour(terms.stopped_usd_per_gb_month * need.disk_gb) * 24,
            boot_s=terms.boot_s,
            bills=True,
            cloud=terms.cloud,
        )


def _elsewhere(terms: Terms, need: Need) -> str:
    """Whoever asks for another part of a marketplace is told that the list does not know it."""
    return f" ({terms.cloud} cloud only)" if terms.cloud not in (None, need.cloud) else ""


# --- age -----------------------------------------------------------------------------------------


def age_words(as_of: datetime | None, now: datetime) -> str | None:
    """ "63 days old", once a price is older than a day."""
    if as_of is None or now - as_of <= SAY_AGE_AFTER:
        return None
    days = (now - as_of).days
    return f"{days} day{'s' if days > 1 else ''} old"


def is_old(as_of: datetime | None, now: datetime) -> bool:
    """Old enough to be warned about."""
    return as_of is not None and now - as_of > WARN_AFTER


# --- files ---------------------------------------------------------------------------------------


def load(overlay: Path | None = None) -> Book:
    """The bundled book, with the newer prices of `overlay` when there is such a file."""
    book = _bundled()
    if overlay is None:
        return book
    try:
        raw = json.loads(overlay.read_bytes())
        fuller = _with_newer_models(book, raw)
        prices = tuple(_prices(raw, fuller.gpus))
    except FileNotFoundError:
        return book
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as e:
        fault = f"{overlay} is not a price list ({type(e).__name__}: {e}): the bundled prices are used"
        return replace(book, warnings=(fault,))
    return replace(fuller, prices=_newest((*book.prices, *prices)))


@cache
def _bundled() -> Book:
    raw = json.loads(BUNDLED.read_bytes())
    gpus = {name: codec.load(Gpu, {"name": name, **fields}) for name, fields in raw["gpus"].items()}
    keys = {_key(word): gpu.name for gpu in gpus.values() for word in (gpu.name, *gpu.aliases)}
    for gpu in gpus.values():
        keys.setdefault(re.sub(r"^[rg]tx", "", _key(gpu.name)), gpu.name)
    keys |= {_key(gpu.family): gpu.family for gpu in gpus.values() if gpu.family}
    terms = {name: codec.load(Terms, fields) for name, fields in raw["targets"].items()}
    return Book(gpus, terms, _newest(_prices(raw, gpus)), keys=keys)


def _with_newer_models(book: Book, raw: Json) -> Book:
    """GPUs that came on the market after this program did, as far as a row tells their memory."""
    told = [row for row in raw["prices"] if "vram_gb" in row and _key(row["gpu"]) not in book.keys]
    newer = {row["gpu"]: Gpu(row["gpu"], Decimal(int(row["vram_gb"]))) for row in told}
    if not newer:
        return book
    keys = {**book.keys, **{_key(name): name for name in newer}}
    return replace(book, gpus={**book.gpus, **newer}, keys=keys)


def _prices(raw: Json, gpus: Mapping[str, Gpu]) -> Iterator[Price]:
    """The rows of a file; rows about GPUs that this program does not know yet are passed over."""
    for row in raw["prices"]:
        told = {name: value for name, value in row.items() if name != "vram_gb"}
        price = codec.load(Price, {**told, "as_of": _moment(row.get("as_of"))})
        usd = price.usd_per_hour
        if not usd.is_finite() or usd < 0 or (usd == 0 and price.retired is None):
            raise ValueError(f"usd_per_hour of {price.instance_type or price.gpu} is {usd}")
        if price.gpu in gpus:
            yield price


def _moment(written: str | None) -> str:
    """A day, a month (its first day: an age is never understated) or a full moment; unknown is oldest."""
    if not written:
        return "1970-01-01T00:00:00Z"
    if re.fullmatch(r"\d{4}-\d{2}", written):
        written += "-01"
    moment = datetime.fromisoformat(written.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _newest(prices: Iterable[Price]) -> tuple[Price, ...]:
    newest: dict[tuple[str, str, str | None, int], Price] = {}
    for price in prices:
        if price.place not in newest or price.as_of > newest[price.place].as_of:
            newest[price.place] = price
    return tuple(newest.values())


def _key(written: str) -> str:
    return _NOISE.sub("", written.lower())


def _offer_id(price: Price) -> str:
    return ":".join((price.target, price.instance_type or price.gpu, price.region or "any"))


def _per_hour(usd_per_month: Decimal) -> Decimal:
    return (usd_per_month / HOURS_PER_MONTH).quantize(MICRO, ROUND_CEILING)


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
