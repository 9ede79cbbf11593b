"""Profiles: YAML files that say what the user wants, each able to start from another.

Finds them, reads a chain of them into layers and tells the faults of all files at once. It must not know
what else settings come from, nor what a setting is for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import bundled
from launcher.errors import usage
from launcher.keys import KEYS, Key, Kind
from launcher.models import Json
from launcher.values import Place, did_you_mean, sifted
from launcher.yamlfile import BadFile, Document, read, schema

_YAML_ENDS = (".yaml", ".yml")
_PROFILE_KEYS: dict[str, Key] = {name: key for name, key in KEYS.items() if key.in_profile}
_EXTENDS = Key(
    "extends", Kind.TEXT, "Another profile to start from: a file beside this one, or a bundled name."
)
FIELDS: dict[str, Key] = {"extends": _EXTENDS, **_PROFILE_KEYS}


@dataclass(frozen=True)
class Value:
    value: Any
    origin: str
    entries: Mapping[str, str] | None = None  # of a mapping: where each entry is from


Layer = dict[str, Value]


def profile_schema() -> Json:
    return schema(FIELDS, "Launcher profile")


def names(cwd: Path) -> tuple[str, ...]:
    found = {
        file.stem: None
        for root in bundled.roots(cwd, "profiles")
        for file in sorted((root / "profiles").iterdir())
        if file.suffix in _YAML_ENDS
    }
    return tuple(found)


# (setting, what a file says, all settings as they count) -> each of its words that means nothing, and why
Judge = Callable[[str, Any, Mapping[str, Any]], Iterable[tuple[str, str]]]


@dataclass
class _File:
    document: Document
    layer: Layer
    faults: list[tuple[Place, str]]


class Profiles:
    """The YAML layers, nearest first, with all faults of all files."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.names: list[str] = []
        self._files: list[_File] = []
        self._unreadable: list[str] = []

    @property
    def layers(self) -> list[Layer]:
        return [file.layer for file in self._files]

    def add_chain(self, path: Path) -> None:
        chain: list[Path] = []
        following: Path | None = path
        while following is not None:
            chain.append(following)
            following = self._add(following, chain)

    def _add(self, path: Path, chain: list[Path]) -> Path | None:
        """Read one file; returns the one it extends."""
        shown = self._shown(path)
        self.names.append(shown)
        try:
            document = read(path, shown)
        except BadFile as bad:
            self._unreadable += bad.lines
            return None
        parsed, faults = sifted(document.data, FIELDS, _unknown)
        # Even with faults the chain is followed: what is wrong further down is told at the same time.
        base = parsed.pop("extends", document.data.get("extends"))
        layer = {name: _from_file(KEYS[name], value, document) for name, value in parsed.items()}
        self._files.append(_File(document, layer, faults))
        return self._base(self._files[-1], base, chain) if base and isinstance(base, str) else None

    def _base(self, file: _File, base: str, chain: list[Path]) -> Path | None:
        path = file.document.path
        found = _look_up(base, path.parent, self.cwd, asking=path)
        if found is None:
            near = did_you_mean(base, names(self.cwd))
            file.faults.append((("extends",), f"there is no profile '{base}'{near}"))
            return None
        known = [one.resolve() for one in chain]
        if found.resolve() in known:
            circle = [*chain[known.index(found.resolve()) :], found]
            way = " > ".join(self._shown(one) for one in circle)
            file.faults.append((("extends",), f"goes in a circle: {way}"))
            return None
        return found

    def _shown(self, path: Path) -> str:
        full = path.resolve()
        if full.is_relative_to(self.cwd.resolve()):
            return str(full.relative_to(self.cwd.resolve()))
        if full.is_relative_to(bundled.own_root() / "profiles"):
            return f"bundled profiles/{full.name}"
        return str(path)

    def judge(self, held: Layer, judge: Judge) -> None:
        """What counts of each file is held against what there is; what another place overrides is not."""
        chosen = {name: one.value for name, one in held.items()}
        for file in self._files:
            for name, one in file.layer.items():
                counts = _counting(one, held[name])
                strange = judge(name, counts, chosen) if counts is not None else ()
                raw = file.document.data[name]
                file.faults += [((name, *_place(raw, word)), what) for word, what in strange]

    def raise_faults(self) -> None:
        lines = [line for file in self._files for line in file.document.lines(file.faults)]
        faults = (*self._unreadable, *lines)
        if faults:
            what = "a profile has a fault" if len(faults) == 1 else f"profiles have {len(faults)} faults"
            raise usage("bad-profile", what, details=faults)


def _counting(said: Value, held: Value) -> Any:
    """The part of what a file says that nothing nearer says otherwise; None = nothing of it."""
    if said.entries is None or held.entries is None:
        return said.value if said is held else None
    return {name: value for name, value in said.value.items() if held.entries[name] == said.entries[name]}


def _place(raw: object, word: str) -> Place:
    if isinstance(raw, Mapping):
        return (word,)
    if isinstance(raw, list):
        return next(((index,) for index, item in enumerate(raw) if str(item).strip() == word), ())
    return ()


def _from_file(key: Key, value: Any, document: Document) -> Value:
    origin = f"{document.shown}:{document.line((key.name,))}"
    if key.kind is not Kind.MAPPING:
        return Value(value, origin)
    return Value(
        value, origin, {name: f"{document.shown}:{document.line((key.name, name))}" for name in value}
    )


def _unknown(name: str) -> str:
    """What can be said of a key that must not stand in a file."""
    if name in KEYS:
        return f"belongs on the command line ({KEYS[name].flag}) or in {KEYS[name].variable}, not in a file"
    as_flag = f"--{name.replace('_', '-')}"
    meant = next((key for key in _PROFILE_KEYS.values() if as_flag in key.flags), None)
    return f"unknown key '{name}', did you mean '{meant.name}'?" if meant else ""


def find(name: str, cwd: Path) -> Path:
    """What the user called a profile, as a file."""
    found = _look_up(name, cwd, cwd)
    if found is None:
        known = names(cwd)
        raise usage(
            "unknown-profile",
            f"there is no profile '{name}'{did_you_mean(name, known)}",
            hint="config path",
            details=(f"bundled: {', '.join(known)}",),
        )
    return found


def _look_up(name: str, beside: Path, cwd: Path, asking: Path | None = None) -> Path | None:
    """A path counts from `beside`; a bare name is looked up in ./profiles, then among the bundled ones.
    A profile that extends its own name means the next one of that name."""
    if "/" in name or name.endswith(_YAML_ENDS):
        named = beside / Path(os.path.expanduser(name))
        return named if os.path.isfile(named) else None
    for root in bundled.roots(cwd, "profiles"):
        for end in _YAML_ENDS:
            found = root / "profiles" / f"{name}{end}"
            if os.path.isfile(found) and (asking is None or found.resolve() != asking.resolve()):
                return found
    return None
