"""Recipes: what a trainer's `trainer.yaml` says of it, as a value.

Finds trainers in ./trainers first, then in what the launcher brings. Paths in a recipe count from the
folder that holds trainers/; requirement sets count from the trainer's own folder. It must not know how
anything is rented or run; the trainer's arguments are arguments.py's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from launcher import bundled, values
from launcher.arguments import ArgSpec, checked, parse_specs, written_out
from launcher.errors import usage
from launcher.keys import KEYS, Key, Kind
from launcher.models import Need
from launcher.values import Collected, Field, Place, closed, did_you_mean, nearest
from launcher.yamlfile import BadFile, check, read

FILE = "trainer.yaml"
SETS = ("requirements", "gpu_requirements")
Hours = tuple[Decimal, Decimal, Decimal]  # low, likely, high


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    folder: Path  # holds trainers/; what is pushed, and where the command runs
    push: tuple[str, ...]
    command: tuple[str, ...]
    requirements: str | None  # below folder
    gpu_requirements: str | None  # instead of them, where there is a GPU to use
    image: str | None  # a folder of images/, or an image's name
    need: Need
    hours: Mapping[str, Hours]  # by "cpu", "gpu" or a GPU's name
    max_time_s: int | None
    args: Mapping[str, ArgSpec]
    inputs: Mapping[str, str]  # below folder
    seed: int


def names(cwd: Path) -> tuple[str, ...]:
    """Every trainer that can be named, the ones of the current folder first."""
    found = {
        file.parent.name: None
        for root in bundled.roots(cwd, "trainers")
        for file in sorted((root / "trainers").glob(f"*/{FILE}"))
    }
    return tuple(found)


def load(name: str, cwd: Path) -> Recipe:
    for root in bundled.roots(cwd, "trainers"):
        file = root / "trainers" / name / FILE
        if re.fullmatch(r"[\w.-]+", name) and os.path.isfile(file):  # false for a name that no system takes
            return _read(name, root, file)
    known = names(cwd)
    near = nearest(name, known)
    raise usage(
        "unknown-trainer",
        f"there is no trainer '{name}'{did_you_mean(name, known)}",
        hint=f"run {near}" if near else None,
        details=(f"trainers here: {', '.join(known) or 'none'}",),
    )


def _read(name: str, root: Path, file: Path) -> Recipe:
    shown = str(file.relative_to(root))
    try:
        document = read(file, shown)
        said = check(document, FIELDS)
        if misfits := _misfits(name, root, said):
            raise BadFile(document.lines(misfits))
    except BadFile as bad:
        many = len(bad.lines)
        what = f"{shown} has {'a fault' if many == 1 else f'{many} faults'}"
        raise usage("bad-recipe", what, details=bad.lines) from None
    sets = {key: f"trainers/{name}/{said[key]}" for key in SETS if said.get(key)}
    return Recipe(
        name=name,
        summary=said.get("summary", ""),
        folder=root,
        push=said.get("push", (f"trainers/{name}",)),
        command=said["command"],
        requirements=sets.get("requirements"),
        gpu_requirements=sets.get("gpu_requirements"),
        image=said.get("image"),
        need=said.get("need", Need()),
        hours=said.get("hours", {}),
        max_time_s=said.get("max_time"),
        args=said.get("args", {}),
        inputs=said.get("inputs", {}),
        seed=said.get("seed", 0),
    )


def _misfits(name: str, root: Path, said: Mapping[str, Any]) -> list[tuple[Place, str]]:
    """What each field alone cannot know."""
    faults: list[tuple[Place, str]] = []
    if "command" not in said:
        faults.append(((), "needs a command, such as command: [python, -m, trainers.NAME]"))
    if said.get("name", name) != name:
        faults.append((("name",), f"is '{said['name']}', but the folder is called '{name}'"))
    for key in SETS:
        wanted = said.get(key)
        if wanted and not (root / "trainers" / name / wanted).is_file():
            faults.append(((key,), f"there is no trainers/{name}/{wanted}"))
    for index, path in enumerate(said.get("push", ())):
        if not (root / path).exists():
            faults.append((("push", index), f"there is no {path} in {root}"))
    return faults


def command_line(
    recipe: Recipe, profile_args: Mapping[str, object], cli_args: Sequence[str]
) -> tuple[str, ...]:
    """The trainer's command with its arguments. Raises before anything is rented."""
    given = checked(recipe.name, recipe.args, profile_args, cli_args)
    return (*recipe.command, *written_out(recipe.args, given))


@dataclass(frozen=True)
class _Part:
    """A field of the file that is a small mapping of its own."""

    read: Callable[[Mapping[str, Any]], Any]

    def parse(self, raw: object) -> Any:
        if not isinstance(raw, Mapping):
            raise ValueError("needs a mapping (key: value)")
        return self.read(raw)


def _by_name(*keys: Key) -> dict[str, Field]:
    return {key.name: key for key in keys}


class _Amount:
    """A size in GB."""

    def parse(self, raw: object) -> Decimal:
        return values.decimal(raw, what="a size in GB")


_NEED: dict[str, Field] = {
    **_by_name(
        Key("gpu", Kind.LIST, "GPUs that will do"),
        Key("gpus", Kind.INT, "how many", low=1, high=16),
        Key("disk_gb", Kind.INT, "disk", low=1, high=100_000),
    ),
    "ram_gb": _Amount(),
    "vram_gb": _Amount(),
}


def _need(raw: Mapping[str, Any]) -> Need:
    said = closed(raw, _NEED)
    return Need(
        gpus=said.get("gpu", ()),
        gpu_count=said.get("gpus", 1),
        vram_gb=said.get("vram_gb"),
        ram_gb=said.get("ram_gb"),
        disk_gb=said.get("disk_gb", Need.disk_gb),
    )


def _hours(raw: Mapping[str, Any]) -> dict[str, Hours]:
    faults = Collected()
    zero = Decimal(0)
    said = {
        device: faults.take((device,), partial(_three, three), (zero, zero, zero))
        for device, three in raw.items()
    }
    faults.done()
    return said


def _three(raw: object) -> Hours:
    if not isinstance(raw, list) or len(raw) != 3:
        raise ValueError("needs three numbers: [low, likely, high]")
    low, likely, high = (values.decimal(hours, what="hours") for hours in raw)
    if not 0 < low <= likely <= high:
        raise ValueError(f"must rise from low to high, above 0: [{low}, {likely}, {high}] does not")
    return low, likely, high


class _Command:
    """An argument list; a whole line as one string would need a shell to take it apart."""

    def parse(self, raw: object) -> tuple[str, ...]:
        if not isinstance(raw, list) or not raw:
            raise ValueError("needs a list of words, such as [python, -m, trainers.NAME]")
        return tuple(values.text(word) for word in raw)


def _inputs(raw: Mapping[str, Any]) -> dict[str, str]:
    faults = Collected()
    parsed: dict[str, str] = KEYS["inputs"].parse(raw)
    said = {name: faults.take((name,), partial(values.below, path), "") for name, path in parsed.items()}
    faults.done()
    return said


FIELDS: dict[str, Field] = {
    **_by_name(
        Key("name", Kind.TEXT, "the folder's name", check=values.slug),
        Key("summary", Kind.TEXT, "one line"),
        Key("requirements", Kind.PATH, "beside this file", check=values.below),
        Key("gpu_requirements", Kind.PATH, "instead of them, where there is a GPU", check=values.below),
        Key("image", Kind.TEXT, "a folder of images/, or an image's name"),
        Key("push", Kind.LIST, "what is sent", check=values.below),
        KEYS["max_time"],
        KEYS["seed"],
    ),
    "command": _Command(),
    "need": _Part(_need),
    "hours": _Part(_hours),
    "args": _Part(parse_specs),
    "inputs": _Part(_inputs),
}
