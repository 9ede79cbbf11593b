"""Which words of a profile nobody knows: targets, GPUs, trainers and their arguments, so that they are told
with the file's other faults, all at once. It reads recipes and price lists, and raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launcher import arguments, catalogue, recipe, targets
from launcher.errors import LauncherError
from launcher.targets import House


def strange(
    house: House, typed: str | None, key: str, value: Any, chosen: Mapping[str, Any]
) -> Iterable[tuple[str, str]]:
    """The words of one setting that mean nothing here, each with what is wrong. `typed` is the trainer that
    the command line names, `chosen` all settings as they will count."""
    match key:
        case "on":
            described = chosen["hosts"]
            others = (name for name in value if name.partition(":")[2] not in described)
            return ((name, fault) for name in others if (fault := targets.stranger(name, house)))
        case "gpu":
            return _gpus(value, house)
        case "trainer" if typed is None and chosen["project"] is None:
            return _trainer(value, house)
        case "args" if chosen["project"] is None:
            return _arguments(value, typed or chosen["trainer"], house)
    return ()


def _gpus(names: Iterable[str], house: House) -> Iterator[tuple[str, str]]:
    book = catalogue.load(house.home.prices)
    for name in names:
        try:
            book.wished(name)
        except LauncherError as fault:
            yield name, fault.message


def _trainer(name: str, house: House) -> Iterator[tuple[str, str]]:
    try:
        recipe.load(name, house.cwd)
    except LauncherError as fault:
        if fault.code == "unknown-trainer":  # a faulty recipe is not this file's fault
            yield name, fault.message


def _arguments(args: Mapping[str, Any], trainer: str, house: House) -> Iterator[tuple[str, str]]:
    try:
        specs = recipe.load(trainer, house.cwd).args
    except LauncherError:
        return  # nothing is known of it, and that is told elsewhere
    for name, raw in args.items():
        if (fault := arguments.misfit(specs, name, raw)) is not None:
            yield name, fault
