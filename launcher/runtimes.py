"""How a job's software gets onto a machine: the caller's own environment, one made from a requirement
set, or an image. It must not know prices, nor any provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from launcher import bundled, images, jobs
from launcher.agent import reqset
from launcher.errors import LauncherError, usage
from launcher.models import DeviceWish, Job, Json, Offer, Runtime, RuntimeKind
from launcher.store import Home

ENV_S = 60  # making an environment that is not there yet: assumed, not measured
IMAGE_S = 180  # building or fetching an image: assumed, not measured
BASE_IMAGE = "LAUNCHER_BASE_IMAGE"
DIGEST_LENGTH = 16


def image_of(wish: str | None, job: Job, cwd: Path, environ: Mapping[str, str]) -> images.Image:
    """The image that a wish means for this job. A trainer's requirement set is part of its image; a
    project's own is not: it changes more often, and is made into an environment on the machine."""
    inside = job.requirements if job.push is not None else None
    source = Path(job.folder, inside) if inside else None
    return images.wanted(wish, source, _folders(cwd), environ.get(BASE_IMAGE) or None)


def _folders(cwd: Path) -> list[Path]:
    return [root / "images" for root in bundled.roots(cwd, "images")]


def in_image(wish: str | None, job: Job, cwd: Path, environ: Mapping[str, str]) -> Runtime:
    """In a container of this machine's engine: the image is asked for, never built or fetched here."""
    image = image_of(wish, job, cwd, environ)
    found = images.find(image.name)
    extra = _extra(job)
    return Runtime(
        RuntimeKind.IMAGE,
        image.digest or found,
        "its image is here" if found else "its image is built first",
        image.name,
        extra.requirements,
        extra.setup,
        (0 if found else IMAGE_S) + extra.prepare_s,
    )


def here(job: Job, home: Home) -> Runtime:
    """Here a project runs in the caller's own environment, unless it asks for one of its own."""
    if job.requirements is None and not job.setup:
        return Runtime(RuntimeKind.ENV, None, "your own environment")
    digest, ready = _environment(job, home)
    return Runtime(
        RuntimeKind.ENV,
        digest,
        "its environment is here" if ready else "its environment is made first",
        requirements=job.requirements,
        setup=job.setup,
        prepare_s=0 if ready else ENV_S,
    )


def away(job: Job, image: str | None, image_s: int, *, no_image: bool) -> Runtime:
    """On a rented machine: Docker with the image, or an environment where the user wants no image."""
    if no_image:
        return Runtime(RuntimeKind.ENV, None, "no image is wanted", None, job.requirements, job.setup, ENV_S)
    extra = _extra(job)
    prepare_s = image_s + extra.prepare_s
    why = "the machine runs the image"
    return Runtime(RuntimeKind.DOCKER, None, why, image, extra.requirements, extra.setup, prepare_s)


def booted(
    job: Job, wish: str | None, said: str | None, image_s: int, cwd: Path, registry: str | None
) -> Runtime:
    """On a rented machine that is the image: the user's own word, or the recipe's where that is an image of a
    registry; else a trainer's own where the user has a registry for such; else a public one, on which the
    job's requirement set becomes an environment: a project's own is part of no image."""
    name = said or (wish if wish is not None and images.is_name(wish) else None)
    if name is not None:
        if images.wanted(name, None, _folders(cwd)).files:
            raise _only_here(name)
        extra = _extra(job)
        why = "the machine is the image"
        prepare_s = image_s + extra.prepare_s
        return Runtime(RuntimeKind.IMAGE, None, why, name, extra.requirements, extra.setup, prepare_s)
    public = images.public(_folders(cwd))
    if registry is not None and job.push is not None:
        return _ours(job, wish, registry, public, image_s, cwd)
    more = job.requirements is not None or bool(job.setup)
    return Runtime(
        RuntimeKind.IMAGE,
        None,
        f"a public image, pinned on {public.as_of}{', and an environment made on it' if more else ''}",
        public.image,
        job.requirements,
        job.setup,
        image_s + (ENV_S if more else 0),
        public.min_cuda,
    )


def of_template(job: Job, id: str, image_s: int) -> Runtime:
    """Like an image of the user's own, whose name only the provider knows."""
    extra, why = _extra(job), f"the image of the template {id}"
    prepare_s = image_s + extra.prepare_s
    return Runtime(RuntimeKind.IMAGE, None, why, None, extra.requirements, extra.setup, prepare_s)


def _ours(
    job: Job, wish: str | None, registry: str, public: images.Public, image_s: int, cwd: Path
) -> Runtime:
    """The same as for Docker here, on the public one as its base. Its pull tells whether it was pushed."""
    source = Path(job.folder, job.requirements) if job.push is not None and job.requirements else None
    image = images.wanted(wish, source, _folders(cwd), public.image)
    name = f"{registry.rstrip('/')}/{image.name.rpartition('/')[2]}"
    extra, why = _extra(job), "your own image, by its digest"
    prepare_s = image_s + extra.prepare_s
    return Runtime(
        RuntimeKind.IMAGE,
        image.digest,
        why,
        name,
        extra.requirements,
        extra.setup,
        prepare_s,
        public.min_cuda,
    )


def _only_here(name: str) -> LauncherError:
    return usage(
        "image-is-here",
        f"{name} is an image made from a folder here, and that machine cannot fetch it",
        hint="config show    then --image with a name that it can fetch, or no --image",
    )


def on_machine(job: Job, said: str | None, cwd: Path, environ: Mapping[str, str]) -> Runtime:
    """On a machine of the user's own: an environment there, kept for the next run; or the image that the user
    named, if that machine can fetch it."""
    if said is not None:
        image = image_of(said, job, cwd, environ)
        if image.files:
            raise _only_here(said)
        extra = _extra(job)
        prepare_s = IMAGE_S + extra.prepare_s
        why = "that machine runs the image"
        return Runtime(RuntimeKind.DOCKER, None, why, image.name, extra.requirements, extra.setup, prepare_s)
    if job.requirements is None and not job.setup:
        return Runtime(RuntimeKind.ENV, None, "the python3 of that machine")
    why = "its environment is made there, unless an earlier run did"
    return Runtime(RuntimeKind.ENV, None, why, None, job.requirements, job.setup, ENV_S)


def _extra(job: Job) -> Runtime:
    """What comes on top of an image, which holds all that a bundled trainer needs."""
    if job.push is not None or not (job.requirements or job.setup):
        return Runtime(RuntimeKind.ENV, None, "nothing on top")
    why = "made on top of the image"
    return Runtime(RuntimeKind.ENV, None, why, None, job.requirements, job.setup, ENV_S)


def on_device(job: Job, offer: Offer) -> Job:
    """What is built for a GPU is another package, and a large one: only where there is a GPU to use."""
    if job.gpu_requirements is None or offer.gpu is None or job.device is DeviceWish.CPU:
        return job
    return replace(job, requirements=job.gpu_requirements)


def with_found_requirements(job: Job) -> Job:
    """Away from here a project's own description of its environment counts, if it has one."""
    if job.push is not None or job.requirements is not None:
        return job
    return replace(job, requirements=jobs.found_requirements(Path(job.folder)))


def _environment(job: Job, home: Home) -> tuple[str, bool]:
    """The requirement set's digest, and whether an environment made from it lies here."""
    source = Path(job.folder, job.requirements) if job.requirements else None
    try:
        wanted = reqset.read(source, None)
    except reqset.EnvError as e:
        raise usage(e.code, str(e)) from e
    text = json.dumps([wanted.locked, wanted.identity, job.setup])
    ready = any(_made_from(mark, wanted.identity, job.setup) for mark in home.envs.glob("*/.complete"))
    return sha256(text.encode()).hexdigest()[:DIGEST_LENGTH], ready


def _made_from(mark: Path, identity: tuple[str, ...], setup: tuple[str, ...]) -> bool:
    held = read_json(mark)
    return held.get("wanted") == list(identity) and held.get("setup", []) == list(setup)


def read_json(path: Path) -> Json:
    """A file's mapping; empty when it is not there or not ours to judge: then nothing is known from it."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
