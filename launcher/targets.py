"""Where a job could run: what each target has now, and why one does not do.

It asks providers and the price list, spends nothing and decides nothing. Only who bills is asked over a
network, and only with a key. No provider is named: what there is comes from the registry and the price list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from launcher import runtimes, together
from launcher.ask import Target, Way
from launcher.catalogue import Book
from launcher.errors import AuthRefused, BadOrder, Exit, LauncherError, NoCapacity, ProviderError, usage
from launcher.models import DeviceWish, Job, Need, Offer, Refusal, Runtime
from launcher.providers.base import Provider
from launcher.providers.wrap import Wrapped
from launcher.refusals import per_gpu
from launcher.store import Home
from launcher.values import did_you_mean

PLAN_S = 3.0  # how long a plan waits for a market: it shows what the price list knows as well
RUN_S = 15.0
INSTEAD = 3


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
    named: tuple[str, ...] = ()  # how such words are formed


@dataclass(frozen=True)
class Software:
    """What has to get onto a machine."""

    job: Job
    image: str | None
    said_image: str | None = None  # the user's own word, where the recipe's is not meant
    no_image: bool = False  # an environment on the machine instead
    registry: str | None = None  # where images of the user's own are found from elsewhere
    template: str | None = None  # what a provider keeps under this id names the image
    words: str = ""  # what names the job after `run`
    tail: str = ""  # what stands last in a line to paste


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
            words = ", ".join((*house.runnable, *house.priced, *house.named))
            raise usage("unknown-target", fault, hint="plan", details=(f"Targets are {words}.",))
        found += places or (name,)
    return tuple(dict.fromkeys(found))


def offered(
    software: Software, need: Need, book: Book, house: House, asked: Sequence[str] = (), *, for_run: bool
) -> Iterator[Target]:
    """Every target, with what it has for this need; `asked` may name places that are met only now. A run
    elsewhere asks no market for its prices: what the list says will do for a comparison. And where the user
    named targets that do, it does not look at what else is free."""
    names = tuple(dict.fromkeys((*house.runnable, *(n for n in asked if n not in house.priced))))
    meant = {n: _runnable(n, software, need, book, house, for_run) for n in names if n in asked}
    served = for_run and any(target.ways for target in meant.values())
    for name in names:
        if name in meant:
            yield meant[name]
        elif for_run and name in book.terms:
            yield _listed(name, software, need, book, house)
        elif not served:
            yield _runnable(name, software, need, book, house, for_run)
    for name in house.priced:
        yield replace(_listed(name, software, need, book, house), runnable=False)


# --- what the price list knows -------------------------------------------------------------------


def _listed(name: str, software: Software, need: Need, book: Book, house: House) -> Target:
    terms = book.terms[name]
    if software.no_image and terms.boots == "image":
        return _nothing_but_images(name, software)
    found = book.find(need, name, house.now)
    runtime = _of_each(software, lambda one: _rented(name, one, book, house))
    target = Target(
        name,
        tuple(Way(offer, runtime(offer), terms.overrun_s, terms.billing_step_s) for offer in found.offers),
        found.refused,
        bills=True,
        keeps_output=terms.keeps_output,
        no_bids=terms.no_bids,
    )
    return _with_instead(target, need, lambda other: book.offers(other, name, house.now))


def _of_each(software: Software, made: Callable[[Software], Runtime]) -> Callable[[Offer], Runtime]:
    """The runtime of an offer: its GPU may want other packages. Each kind is made once."""
    known: dict[str | None, Runtime] = {}

    def of(offer: Offer) -> Runtime:
        job = runtimes.on_device(software.job, offer)
        if job.requirements not in known:
            known[job.requirements] = made(replace(software, job=job))
        return known[job.requirements]

    return of


def _rented(name: str, software: Software, book: Book, house: House) -> Runtime:
    job, terms = runtimes.with_found_requirements(software.job), book.terms[name]
    if terms.boots == "image":
        if software.template is not None and software.said_image is None:
            return runtimes.of_template(job, software.template, terms.image_s)
        return runtimes.booted(
            job, software.image, software.said_image, terms.image_s, house.cwd, software.registry
        )
    return runtimes.away(job, software.image, terms.image_s, no_image=software.no_image)


def _with_instead(target: Target, need: Need, offers: Callable[[Need], tuple[Offer, ...]]) -> Target:
    """Where all that was asked for is above the highest price: what is as large and is not."""
    highest, sizes = need.max_price, [way.offer.vram_gb for way in target.ways if way.offer.vram_gb]
    if highest is None or not sizes or any(per_gpu(way.offer) <= highest for way in target.ways):
        return target
    others = offers(replace(need, gpus=(f"any-{int(min(sizes))}gb",), gpu_words=()))
    fitting = sorted((one for one in others if per_gpu(one) <= highest), key=per_gpu)
    return replace(target, instead=tuple(fitting[:INSTEAD]))


# --- targets of this build -----------------------------------------------------------------------


def _runnable(name: str, software: Software, need: Need, book: Book, house: House, for_run: bool) -> Target:
    """What a target of this build has now; one that cannot answer is a reason, not an end: what the price
    list knows of it is shown instead."""
    try:
        return _ways(name, software, need, book, house, for_run)
    except NoCapacity as e:
        fault = _none_left(name, software, e)
        return Target(name, (), (Refusal(name, e.reason),), bills=True, fault=fault)
    except BadOrder as e:
        return Target(name, (), (Refusal(name, e.reason),), bills=True, fault=_fault(name, e.reason, e.exit))
    except ProviderError as e:
        reason, fault = e.reason, refused(name, e)
    except LauncherError as e:
        return Target(name, (), (Refusal(name, e.message),), fault=e)
    except ImportError as e:
        fault = lacks_package(name, e)
        reason = fault.message
    if name not in book.terms:
        return Target(name, (), (Refusal(name, reason),), fault=fault)
    return replace(_listed(name, software, need, book, house), fault=fault)


def _ways(name: str, software: Software, need: Need, book: Book, house: House, for_run: bool) -> Target:
    provider = house.provider(name)
    traits = provider.traits
    at_home = traits.boots == "here"
    if software.no_image and traits.boots == "image":
        return _nothing_but_images(name, software)
    if traits.bills:
        return _market(provider, software, need, book, house, for_run)
    offers = [_named(offer, book) for offer in provider.offers(need)]
    if not offers:
        return _nothing(name, provider)
    lacking = {
        offer.id: why for offer in offers if (why := _lacks(offer, need, software.job, book)) is not None
    }
    refused = tuple(Refusal(id, why) for id, why in lacking.items())
    runtime = _of_each(software, lambda one: _runtime(traits.boots, one, house))
    ways = tuple(
        Way(offer, runtime(offer), traits.overrun_s, traits.billing_step_s)
        for offer in offers
        if offer.id not in lacking
    )
    return Target(name, ways, refused, here=at_home, keeps_output=traits.keeps_output)


def _market(
    provider: Provider, software: Software, need: Need, book: Book, house: House, for_run: bool
) -> Target:
    """What somebody else rents out, asked now. A run asks again where that may help; a plan has the price
    list, and whoever makes one without a network waits for nothing."""
    name, traits = provider.name, provider.traits
    patient = Wrapped(provider, _Pause(), lambda verb, text: None, read_only=True) if for_run else provider
    within_s = RUN_S if for_run else PLAN_S

    def asked(need: Need) -> tuple[Offer, ...]:
        answer = together.ask({name: lambda: patient.offers(need)}, within_s)[name]
        if not isinstance(answer, tuple):
            raise answer
        return answer

    runtime = _of_each(software, lambda one: _rented(name, one, book, house))
    need = replace(need, min_cuda=need.min_cuda or _rented(name, software, book, house).min_cuda)
    ways = tuple(Way(offer, runtime(offer), traits.overrun_s, traits.billing_step_s) for offer in asked(need))
    refused = () if ways else (Refusal(name, "nothing that is free there now fits what is asked for"),)
    target = Target(
        name,
        ways,
        refused,
        bills=True,
        keeps_output=traits.keeps_output,
        layers=traits.layers,
        no_bids=book.terms[name].no_bids,
    )
    return _with_instead(target, need, asked)


class _Pause:
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


def _runtime(boots: str, software: Software, house: House) -> Runtime:
    if boots == "here":
        return runtimes.here(software.job, house.home)
    job = runtimes.with_found_requirements(software.job)
    if boots == "machine":
        said = None if software.no_image else software.said_image
        return runtimes.on_machine(job, said, house.cwd, house.environ)
    return runtimes.in_image(software.image, job, house.cwd, house.environ)


# --- why not -------------------------------------------------------------------------------------


def _nothing(name: str, provider: Provider) -> Target:
    """Why a provider has nothing: it does not work here, or nothing of its fits."""
    broken = [check for check in provider.check() if not check.ok]
    if not broken:
        return Target(name, (), (Refusal(name, "nothing there fits what is asked for"),))
    reasons = tuple(Refusal(name, f"{check.name}: {check.detail}") for check in broken)
    words = "; ".join(reason.reason for reason in reasons)
    fixes = tuple(check.fix for check in broken if check.fix)
    return Target(name, (), reasons, fault=_fault(name, words, Exit.UNREACHABLE, fixes))


def _nothing_but_images(name: str, software: Software) -> Target:
    why = f"--no-image was said, and {name} runs nothing but images"
    fault = usage("needs-image", why, hint=f"run {software.words} --on {name}{software.tail}")
    return Target(name, (), (Refusal(name, why),), fault=fault)


def _none_left(name: str, software: Software, e: NoCapacity) -> LauncherError:
    """`e.hint` is the flags with which there is some."""
    flags = f" {e.hint}" if e.hint else " --gpu any-24gb"
    hint = f"plan {software.words} --on {name}{flags}{software.tail}"
    return LauncherError("no-offer", e.reason, exit=e.exit, hint=hint)


def refused(name: str, e: ProviderError) -> LauncherError:
    if not isinstance(e, AuthRefused):
        return _fault(name, e.reason, e.exit)
    details, what = (f"Mend it: {e.fix}",) if e.fix else (), f"{name}: {e.reason}"
    if e.missing:
        return LauncherError("no-key", what, exit=e.exit, hint="doctor", details=details)
    return LauncherError("key-refused", what, exit=e.exit, hint="doctor", details=details)


def lacks_package(name: str, e: ImportError) -> LauncherError:
    extra = name.partition(":")[0]
    mend = f"Mend it: pip install 'launcher[{extra}]'"
    return _fault(name, f"needs the Python package {e.name}, which is not installed", Exit.USAGE, (mend,))


def _fault(name: str, reason: str, exit: Exit, fixes: tuple[str, ...] = ()) -> LauncherError:
    return LauncherError(
        "target-unreachable", f"{name} cannot be used: {reason}", exit=exit, hint="doctor", details=fixes
    )


# --- what is here --------------------------------------------------------------------------------


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
        there = f"is 1 {offer.gpu}" if offer.gpu_count == 1 else f"are {offer.gpu_count} {offer.gpu}"
        return f"{need.gpu_count} GPUs of one kind are asked for, and there {there}"
    if need.gpu_count > 1 and offer.gpu is None and offer.no_gpu is not None:
        return f"{need.gpu_count} GPUs are asked for, and there is none: {offer.no_gpu}"
    if not need.gpus:
        return None
    wanted = " or ".join(need.gpus)
    if offer.gpu is None:
        known = "there is no GPU" if offer.no_gpu is not None else "which GPU it has is not known"
        return f"{wanted} is asked for, and {known}"
    if not any(book.fits(wish, offer.gpu, offer.vram_gb, offer.instance_type) for wish in need.gpus):
        return f"{wanted} is asked for, and the GPU is {offer.gpu}"
    return None
