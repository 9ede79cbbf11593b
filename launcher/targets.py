"""Where a job could run: what each target has now, and why one does not do.

It asks providers and the price list, spends nothing and decides nothing. No provider is named: what there
is comes from the registry and the price list.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from launcher import runtimes
from launcher.ask import Target, Way
from launcher.catalogue import Book
from launcher.errors import Exit, LauncherError, ProviderError, usage
from launcher.models import DeviceWish, Job, Need, Offer, Refusal, Runtime
from launcher.providers.base import Provider
from launcher.store import Home
from launcher.values import did_you_mean


@dataclass(frozen=True)
class House:
    """The world a plan is gathered from."""

    home: Home
    cwd: Path
    environ: Mapping[str, str]
    now: datetime
    letters: Callable[[], str]  # four small letters, other ones each time
    runnable: tuple[str, ...]  # targets this build can run on
    priced: tuple[str, ...]  # targets it only knows prices of
    provider: Callable[[str], Provider]
    # What a word means that stands for places of the user's own; None = it is no such word. Raises for a
    # place that nobody knows.
    meant: Callable[[str], tuple[str, ...] | None] = lambda word: None


@dataclass(frozen=True)
class Software:
    """What has to get onto a machine."""

    job: Job
    image: str | None
    said_image: str | None = None  # the user's own word, where the recipe's is not meant
    no_image: bool = False  # an environment on the machine instead
    words: str = ""  # what names the job after `run`


def stranger(name: str, house: House) -> str | None:
    """Why a word after --on is no target."""
    words = (*house.runnable, *house.priced)
    if name in words:
        return None
    try:
        if house.meant(name) is not None:
            return None
    except LauncherError as fault:
        return fault.message
    return f"there is no target '{name}'{did_you_mean(name, words)}"


def known(names: Sequence[str], house: House) -> tuple[str, ...]:
    """The targets that the user names, each once; one that nobody knows is a fault."""
    found: list[str] = []
    for name in names:
        places = None if name in house.runnable else house.meant(name)
        if places is None and (fault := stranger(name, house)) is not None:
            words = ", ".join((*house.runnable, *house.priced))
            raise usage("unknown-target", fault, hint="plan", details=(f"Targets are {words}.",))
        found += places or (name,)
    return tuple(dict.fromkeys(found))


def offered(
    software: Software, need: Need, book: Book, house: House, asked: Sequence[str] = ()
) -> Iterator[Target]:
    """Every target, with what it has for this need; `asked` may name places that are met only now."""
    for name in dict.fromkeys((*house.runnable, *(n for n in asked if n not in house.priced))):
        yield _runnable(name, software, need, book, house)
    for name in house.priced:
        yield _priced(name, software, need, book, house)


# --- targets of which only prices are known ------------------------------------------------------


def _priced(name: str, software: Software, need: Need, book: Book, house: House) -> Target:
    found = book.find(need, name, house.now)
    terms = book.terms[name]
    runtime = runtimes.away(
        runtimes.with_found_requirements(software.job),
        software.image,
        terms.image_s,
        boots_image=terms.boots == "image",
        no_image=software.no_image,
    )
    ways = tuple(Way(offer, runtime, terms.overrun_s, terms.billing_step_s) for offer in found.offers)
    return Target(name, ways, found.refused, bills=True, runnable=False, keeps_output=terms.keeps_output)


# --- targets of this build -----------------------------------------------------------------------


def _runnable(name: str, software: Software, need: Need, book: Book, house: House) -> Target:
    """What a target of this build has now; one that cannot answer is a reason, not an end."""
    try:
        return _ways(name, software, need, book, house)
    except ProviderError as e:
        return Target(name, (), (Refusal(name, e.reason),), fault=_fault(name, e.reason, e.exit))
    except LauncherError as e:
        return Target(name, (), (Refusal(name, e.message),), fault=e)
    except ImportError as e:
        missing = f"needs the Python package {e.name}, which is not installed"
        return Target(name, (), (Refusal(name, missing),), fault=_fault(name, missing, Exit.USAGE))


def _ways(name: str, software: Software, need: Need, book: Book, house: House) -> Target:
    provider, job = house.provider(name), software.job
    traits = provider.traits
    at_home = traits.boots == "here"
    if software.no_image and traits.boots == "image":
        return _nothing_but_images(name, software)
    offers = [_named(offer, book) for offer in provider.offers(need)]
    if not offers:
        return _nothing(name, provider)
    lacking = {offer.id: why for offer in offers if (why := _lacks(offer, need, job, book)) is not None}
    refused = tuple(Refusal(id, why) for id, why in lacking.items())
    runtime = _runtime(traits.boots, software, house)
    ways = tuple(
        Way(offer, runtime, traits.overrun_s, traits.billing_step_s)
        for offer in offers
        if offer.id not in lacking
    )
    return Target(name, ways, refused, traits.bills, at_home, keeps_output=traits.keeps_output)


def _runtime(boots: str, software: Software, house: House) -> Runtime:
    if boots == "here":
        return runtimes.here(software.job, house.home)
    job = runtimes.with_found_requirements(software.job)
    if boots == "machine":
        said = None if software.no_image else software.said_image
        return runtimes.on_machine(job, said, house.cwd, house.environ)
    return runtimes.in_image(software.image, job, house.cwd, house.environ)


def _nothing(name: str, provider: Provider) -> Target:
    """Why a provider has nothing: it does not work here, or nothing of its fits."""
    broken = [check for check in provider.check() if not check.ok]
    if not broken:
        return Target(name, (), (Refusal(name, "nothing there fits what is asked for"),))
    reasons = tuple(Refusal(name, f"{check.name}: {check.detail}") for check in broken)
    words = "; ".join(reason.reason for reason in reasons)
    fixes = tuple(check.fix for check in broken if check.fix)
    fault = _fault(name, words, Exit.UNREACHABLE, fixes)
    return Target(name, (), reasons, provider.traits.bills, fault=fault)


def _nothing_but_images(name: str, software: Software) -> Target:
    why = f"--no-image was said, and {name} runs nothing but images"
    command = "" if software.job.push is not None else f" -- {shlex.join(software.job.argv)}"
    fault = usage("needs-image", why, hint=f"run {software.words} --on {name}{command}")
    return Target(name, (), (Refusal(name, why),), fault=fault)


def _fault(name: str, reason: str, exit: Exit, fixes: tuple[str, ...] = ()) -> LauncherError:
    return LauncherError(
        "target-unreachable", f"{name} cannot be used: {reason}", exit=exit, hint="doctor", details=fixes
    )


def _named(offer: Offer, book: Book) -> Offer:
    """The offer with its GPU by the catalogue's name."""
    if offer.gpu is None:
        return offer
    name = book.device_name(offer.gpu)
    entry = book.gpus.get(name)
    return replace(offer, gpu=name, vram_gb=entry.vram_gb if entry else offer.vram_gb)


def _lacks(offer: Offer, need: Need, job: Job, book: Book) -> str | None:
    """Why a machine that costs nothing does not do; what is rented was chosen by the need itself. Whoever
    does not know its GPUs is not refused for want of one: the agent looks again before the trainer starts."""
    if offer.bills:
        return None
    if job.needs_gpu and offer.gpu is None and offer.no_gpu is not None:
        return f"a GPU is required, and there is none: {offer.no_gpu}"
    if job.device is DeviceWish.CPU:
        return None
    if offer.gpu is not None and offer.gpu_count < need.gpu_count:
        return f"{need.gpu_count} GPUs are asked for, and there are {offer.gpu_count} of {offer.gpu}"
    if not need.gpus:
        return None
    wanted = " or ".join(need.gpus)
    if offer.gpu is None:
        known = "there is no GPU" if offer.no_gpu is not None else "which GPU it has is not known"
        return f"{wanted} is asked for, and {known}"
    if not any(book.fits(wish, offer.gpu, offer.vram_gb, offer.instance_type) for wish in need.gpus):
        return f"{wanted} is asked for, and the GPU is {offer.gpu}"
    return None
