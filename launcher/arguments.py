"""A trainer's arguments: what a recipe allows, and what stands after `--`, checked before anything is
rented. Decisions on values only; it must not read files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from launcher import values
from launcher.errors import usage
from launcher.values import Collected, did_you_mean

TYPES = ("int", "float", "str", "bool", "choice")
_SPEC_WORDS = ("type", "default", "min", "max", "choices", "help")


@dataclass(frozen=True)
class ArgSpec:
    """One argument of a trainer. Its name has underscores, its flag has dashes."""

    name: str
    type: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def parse(self, raw: object) -> Any:
        match self.type:
            case "int":
                return values.whole(raw, _whole(self.low), _whole(self.high))
            case "float":
                return values.real(raw, self.low, self.high)
            case "bool":
                return values.truth(raw)
            case "choice":
                return values.choice(raw, self.choices)
        return values.text(raw)

    def described(self) -> str:
        """`--rounds INT 1..500 (default 60)  how many trees`"""
        kind = "|".join(self.choices) if self.choices else self.type.upper()
        bounds = f" {_bound(self.low)}..{_bound(self.high)}" if (self.low, self.high) != (None, None) else ""
        default = f" (default {self.default})" if self.default is not None else ""
        shown = f"{self.flag}/--no-{self.flag[2:]}" if self.type == "bool" else f"{self.flag} {kind}{bounds}"
        return f"{shown}{default}  {self.help}".rstrip()


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _bound(bound: float | None) -> str:
    return "" if bound is None else f"{bound:g}"


def parse_specs(raw: Mapping[str, Any]) -> dict[str, ArgSpec]:
    """The `args:` of a recipe."""
    faults = Collected()
    specs: dict[str, ArgSpec] = {}
    for written, said in raw.items():
        name = written.replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.startswith("no_"):
            faults.add((written,), "needs a name of small letters, digits and '_', not beginning with no_")
        elif name in specs:
            faults.add((written,), f"is '{name}' a second time")
        else:
            specs[name] = faults.take((written,), partial(_spec, name, said), ArgSpec(name, "str"))
    faults.done()
    return specs


def _spec(name: str, said: object) -> ArgSpec:
    if not isinstance(said, Mapping):
        raise ValueError("needs a mapping with a type, such as {type: int, default: 10}")
    faults = Collected()
    for word in said:
        if word not in _SPEC_WORDS:
            faults.add((word,), f"unknown key '{word}'{did_you_mean(word, _SPEC_WORDS)}")
    kind = faults.take(("type",), partial(values.choice, said.get("type", ""), TYPES), "str")
    low, high = (
        faults.take((word,), partial(values.real, said[word]), None) if word in said else None
        for word in ("min", "max")
    )
    none: tuple[str, ...] = ()
    choices = faults.take(("choices",), partial(values.words, said.get("choices", ()), str), none)
    if (kind == "choice") != bool(choices):
        faults.add(("choices",), "type choice needs choices, and only that type")
    if (low is not None or high is not None) and kind not in ("int", "float"):
        faults.add(("type",), f"{kind} can have neither min nor max")
    spec = ArgSpec(name, kind, None, low, high, choices, str(said.get("help", "")))
    faults.done()
    if said.get("default") is None:
        return spec
    default = faults.take(("default",), partial(spec.parse, said["default"]), None)
    faults.done()
    return ArgSpec(name, kind, default, low, high, choices, spec.help)


def checked(
    trainer: str, specs: Mapping[str, ArgSpec], profile: Mapping[str, object], cli: Sequence[str]
) -> dict[str, Any]:
    """The arguments that were given, typed; what stands after `--` overrides the profile's `args:`."""
    faults: list[str] = []
    given: dict[str, Any] = {}
    for written, raw in profile.items():
        if (fault := misfit(specs, written, raw)) is not None:
            faults.append(f"args.{written}: {fault}")
        else:
            spec = specs[written.replace("-", "_")]
            given[spec.name] = spec.parse(raw)
    _read_flags(specs, cli, given, faults)
    if faults:
        many = f"{len(faults)} arguments of {trainer} are wrong"
        raise usage(
            "bad-trainer-argument",
            f"{trainer}: {faults[0]}" if len(faults) == 1 else many,
            details=(*faults, *(f"takes {spec.described()}" for spec in specs.values())),
        )
    return given


def misfit(specs: Mapping[str, ArgSpec], written: str, raw: object) -> str | None:
    """What is wrong with one entry of a profile's `args:`."""
    spec = specs.get(written.replace("-", "_"))
    if spec is None:
        return _unknown(written, specs)
    try:
        spec.parse(raw)
    except ValueError as fault:
        return str(fault)
    return None


def written_out(specs: Mapping[str, ArgSpec], given: Mapping[str, Any]) -> tuple[str, ...]:
    """As a command line that every parser reads the same way."""
    argv: list[str] = []
    for name, spec in specs.items():
        if name not in given:
            continue
        value = given[name]
        if spec.type == "bool":
            argv.append(spec.flag if value else f"--no-{spec.flag[2:]}")
        elif str(value).startswith("-"):
            argv.append(f"{spec.flag}={value}")
        else:
            argv += [spec.flag, str(value)]
    return tuple(argv)


def _read_flags(
    specs: Mapping[str, ArgSpec], cli: Sequence[str], given: dict[str, Any], faults: list[str]
) -> None:
    words = list(cli)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = flag[2:].replace("-", "_")
        if not flag.startswith("--") or not name:
            faults.append(f"'{word}' stands where a flag such as --name was expected")
            continue
        negated = specs.get(name.removeprefix("no_")) if name.startswith("no_") else None
        if negated is not None and negated.type == "bool" and not equals:
            given[negated.name] = False
            continue
        spec = specs.get(name)
        if spec is None:
            faults.append(f"{flag}: {_unknown(flag, specs)}")
            if not equals and words and not words[0].startswith("-"):
                words.pop(0)  # its value, so that one mistake is told once
        elif equals:
            _take(given, spec, value, flag, faults)
        elif spec.type == "bool":
            given[spec.name] = True
        elif words and not words[0].startswith("--"):
            _take(given, spec, words.pop(0), flag, faults)
        else:
            faults.append(f"{flag}: needs a value")


def _take(given: dict[str, Any], spec: ArgSpec, raw: object, place: str, faults: list[str]) -> None:
    try:
        given[spec.name] = spec.parse(raw)
    except ValueError as fault:
        faults.append(f"{place}: {fault}")


def _unknown(written: str, specs: Mapping[str, ArgSpec]) -> str:
    as_flag = written.startswith("--")
    known = [spec.flag if as_flag else name for name, spec in specs.items()]
    return f"unknown argument{did_you_mean(written.replace('_', '-') if as_flag else written, known)}"
