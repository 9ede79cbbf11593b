"""Gathers what a plan is made from: settings, recipe, offers, prices, past runs, the state of the code.

All effects of a dry run are here, and none of them spends, asks a network or needs a key. The decision
itself is plan.make's. No provider is named: what there is comes from the registry and the price list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from launcher import catalogue, jobs, plan, recipe, runtimes, targets
from launcher.arguments import checked
from launcher.ask import Ask, Decision, Wishes, tail, words
from launcher.catalogue import Book
from launcher.errors import LauncherError, usage
from launcher.estimate import Past
from launcher.models import Choice, Job, Json, Need, Range
from launcher.recipe import Recipe
from launcher.settings import COMMAND_LINE, Settings
from launcher.store import Versions
from launcher.targets import House, Software

__all__ = ["House", "plan_for"]

PASTS = 40  # the newest versions of a project that are looked at
TALK = frozenset({"json", "yes", "detach", "dry_run", "args", "profile", "name", "version", "hosts"})


@dataclass(frozen=True)
class What:
    """The job with what is known of it."""

    label: str
    recipe: Recipe | None
    project: Path  # where models/ lies
    job: Job
    args: tuple[tuple[str, str], ...] = ()


def plan_for(
    settings: Settings, trainer: str | None, command: Sequence[str], house: House, *, for_run: bool = True
) -> Decision:
    """The decision for what the user typed. Without `for_run` nothing big is read: inputs stay unhashed."""
    with _where(settings, "args"):
        what = _what(settings, trainer, command, house, for_run)
    book = catalogue.load(house.home.prices)
    with _where(settings, "gpu"):
        need = _need(settings, what.recipe, book)
    with _where(settings, "on"):
        asked = targets.known(settings.get("on"), house)
    ask = Ask(
        run=_name(settings, what.label, house),
        label=what.label,
        trainer=what.recipe.name if what.recipe else None,
        project=str(what.project),
        job=what.job,
        need=need,
        offered=tuple(targets.offered(_software(settings, what), need, book, house, asked, for_run=for_run)),
        targets=asked,
        wishes=_wishes(settings),
        bounds=_bounds(what.recipe, book),
        bound_s=what.recipe.max_time_s if what.recipe else None,
        pasts=tuple(_pasts(what.project, book)),
        yes=bool(settings.get("yes")),
        allow_cpu=bool(settings.get("allow_cpu")),
        version=settings.get("version"),
        profile=settings.profile,
        settings=_compared(settings, what),
        code=jobs.code_of(Path(what.job.folder)),
    )
    decision = plan.make(ask, house.now)
    # A run is warned of what it would pay, a plan of all it shows; where targets were named, of those.
    compared = () if for_run else [one for one in decision.others if _is_meant(one.offer.target, ask)]
    old = _old((*decision.plan.choices, *compared), house.now)
    more = (*settings.warnings, *book.warnings, *_missing_paths(ask, what), *_not_asked(ask), *old)
    return replace(decision, warnings=(*decision.warnings, *more))


@contextmanager
def _where(settings: Settings, key: str) -> Iterator[None]:
    """A fault in what a file or a variable says is told with its place."""
    try:
        yield
    except LauncherError as e:
        origin = settings.origin(key)
        about = key != "args" or e.code == "bad-trainer-argument"
        if about and settings.given(key) and origin != COMMAND_LINE:
            e.details = (*e.details, f"'{key}' is said in {origin}.")
        raise


# --- what runs -----------------------------------------------------------------------------------


def _what(
    settings: Settings, trainer: str | None, command: Sequence[str], house: House, digests: bool
) -> What:
    folder = settings.get("project")
    if folder is not None:
        if trainer is not None:
            raise usage(
                "trainer-and-project",
                f"either the trainer '{trainer}' or --project {folder} can run, not both",
                hint=f"run --project {folder} -- {' '.join(command) or 'CMD'}",
            )
        root = Path(folder)
        job = jobs.of_project(root, command, settings, digests=digests)
        return What(jobs.label(root), None, root, job)
    wanted = recipe.load(trainer or settings.get("trainer"), house.cwd)
    job = jobs.of_trainer(wanted, command, settings, digests=digests)
    given = checked(wanted.name, wanted.args, settings.get("args"), command)
    args = {name: given.get(name, spec.default) for name, spec in wanted.args.items()}
    shown = tuple((f"args.{name}", str(value)) for name, value in args.items() if value is not None)
    return What(wanted.name, wanted, house.cwd, job, shown)


def _name(settings: Settings, label: str, house: House) -> str:
    wanted: str | None = settings.get("name")
    taken = set(house.home.names())
    if wanted is not None:
        if wanted in taken:
            raise usage(
                "run-name-taken", f"there is a run called '{wanted}' already", hint=f"status {wanted}"
            )
        return wanted
    while (name := f"{label}-{house.letters()}") in taken:
        pass
    return name


def _software(settings: Settings, what: What) -> Software:
    image = settings.get("image") or (what.recipe.image if what.recipe else None)
    name = what.recipe.name if what.recipe else None
    last = tail(name, what.job.argv, _wishes(settings))
    said = settings.get("image") if settings.given("image") else None
    return Software(
        job=what.job,
        image=image,
        said_image=said,
        no_image=bool(settings.get("no_image")),
        registry=settings.get("image_registry"),
        template=settings.get("template"),
        words=words(name, str(what.project), what.job.output),
        tail=last,
    )


def _need(settings: Settings, wanted: Recipe | None, book: Book) -> Need:
    """The recipe's need; a GPU that the user names is the user's own judgement of what suffices."""
    need = wanted.need if wanted else Need()
    if settings.given("gpu"):
        need = replace(need, gpus=settings.get("gpu"), vram_gb=None)
    return replace(
        need,
        gpus=tuple(dict.fromkeys(book.wished(name) for name in need.gpus)),
        gpu_words=need.gpus,
        gpu_count=settings.get("gpus") if settings.given("gpus") else need.gpu_count,
        regions=tuple(settings.get("region")),
        disk_gb=settings.get("disk") or need.disk_gb,
        spot=settings.get("spot") != "no",
        on_demand=settings.get("spot") != "only",
        max_price=settings.get("max_price"),
        cloud=settings.get("cloud"),
        min_cuda=settings.get("min_cuda"),
        network_volume=settings.get("network_volume"),
        registry=settings.get("registry_login"),
        template=settings.get("template"),
    )


def _wishes(settings: Settings) -> Wishes:
    return Wishes(
        max_time_s=settings.get("max_time"),
        max_cost=settings.get("max_cost"),
        boot_limit_s=settings.get("boot_limit"),
        ready_within_s=settings.get("ready_within"),
        hold_s=settings.get("hold"),
        keep_s=settings.get("keep"),
        idle_s=settings.get("idle"),
        checkpoint_every_s=settings.get("checkpoint_every"),
    )


def _compared(settings: Settings, what: What) -> tuple[tuple[str, str], ...]:
    """What `models diff` sets side by side: arguments with defaults, every setting that was said."""
    said = {one.name: one.text for one in settings.shown() if one.origin != "default"}
    said = {name: text for name, text in said.items() if name.partition(".")[0] not in TALK}
    return (*what.args, *sorted(said.items()))


# --- what is known from before -------------------------------------------------------------------


def _bounds(wanted: Recipe | None, book: Book) -> tuple[tuple[str, Range], ...]:
    hours = wanted.hours if wanted else {}
    return tuple((book.device_name(device), Range(*three)) for device, three in hours.items())


def _pasts(project: Path, book: Book) -> Iterator[Past]:
    """Runs of this project that ended by themselves, from their versions' manifests, the newest first."""
    versions = Versions(project)
    names = sorted((p.name for p in versions.root.glob("[!.]*") if p.is_dir()), reverse=True)
    for name in names[:PASTS]:
        held = runtimes.read_json(versions.manifest(name))
        seconds, command = held.get("seconds"), held.get("command")
        if (
            held.get("state") != "done"
            or not isinstance(seconds, int | float)
            or not isinstance(command, list)
        ):
            continue
        label = held.get("trainer") or jobs.label(project)
        yield Past(str(label), _device(held, book), Decimal(str(seconds)), tuple(map(str, command)))


def _device(held: Json, book: Book) -> str:
    """What it really ran on; a program that does not say so is taken to have used the processor."""
    device = held.get("device")
    if not isinstance(device, dict) or device.get("used") in (None, "cpu"):
        return plan.CPU
    return book.device_name(str(device.get("name") or plan.ANY_GPU))


# --- what has to be said -------------------------------------------------------------------------


def _missing_paths(ask: Ask, what: What) -> Iterator[str]:
    paid = {target.name for target in ask.offered if target.bills}
    if what.recipe is None and paid & set(ask.targets):
        for path in jobs.left_at_home(what.job):
            yield f"the command names {path}, which git ignores: without --input {path} it stays here"


def _not_asked(ask: Ask) -> Iterator[str]:
    """A market that has a key and did not answer: whose prices are shown instead."""
    for target in ask.offered:
        if not _is_meant(target.name, ask):
            continue
        if target.ways and target.fault is not None and target.fault.code != "no-key":
            source = target.ways[0].offer.price_source
            yield f"{target.fault.message}; the prices of {target.name} are from {source} instead"


def _is_meant(target: str, ask: Ask) -> bool:
    return not ask.targets or target in ask.targets


def _old(choices: Sequence[Choice], now: datetime) -> Iterator[str]:
    """One warning per list of prices that is too old to be trusted."""
    offers = [choice.offer for choice in choices]
    for target in dict.fromkeys(offer.target for offer in offers):
        old = [o for o in offers if o.target == target and catalogue.is_old(o.price_as_of, now)]
        if old:
            age = catalogue.age_words(old[0].price_as_of, now)
            if old[0].bills:
                yield f"the prices of {target} are {age} ({old[0].price_source}): today's may differ"
            else:
                yield f"what is known of {target} is {age}: `host check` looks again"
