"""What the user wants, from five places, each value with its origin.

Command line > LAUNCHER_* variables > profile (which may extend others) > the user's file > default.
Mappings are merged entry by entry, everything else is taken whole. It must not know what a setting is
for: the table in keys.py says what there is. Environment and folders are handed in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from launcher import values
from launcher.errors import usage
from launcher.hostwords import HostWish
from launcher.keys import KEYS, OWN_VARIABLES, PREFIX, TOLD_TO_TRAINERS, Key, Kind
from launcher.models import SecretRef
from launcher.profiles import Judge, Layer, Profiles, Value, find
from launcher.values import Faults, nearest

COMMAND_LINE = "command line"
DEFAULT = "default"
PROJECT_FILE = "launcher.yaml"
HIDDEN = "***"


@dataclass(frozen=True)
class Shown:
    """One line of `config show`."""

    name: str
    value: Any  # as JSON has it
    text: str
    origin: str


@dataclass(frozen=True)
class Settings:
    values: Mapping[str, Value]
    profile: str | None = None  # what was asked for: a file or a bundled name
    files: tuple[str, ...] = ()  # every YAML file that was read, the nearest first
    warnings: tuple[str, ...] = ()

    def get(self, name: str) -> Any:
        return self.values[name].value

    def origin(self, name: str) -> str:
        """Where it is from; `env.HOME` asks for one entry of a mapping."""
        key, _, entry = name.partition(".")
        held = self.values[key]
        return (held.entries or {})[entry] if entry else held.origin

    def given(self, name: str) -> bool:
        """Whether anybody said it; otherwise it is the default."""
        return self.values[name].origin != DEFAULT

    def shown(self) -> tuple[Shown, ...]:
        lines: list[Shown] = []
        for name, held in self.values.items():
            if held.entries is not None and held.value:
                lines += [
                    _shown(f"{name}.{entry}", _covered(name, entry, value), None, held.entries[entry])
                    for entry, value in held.value.items()
                ]
            else:
                lines.append(_shown(name, held.value, KEYS[name].kind, held.origin))
        return tuple(lines)


def default_user_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("launcher", appauthor=False) / "config.yaml"


def resolve(
    flags: Mapping[str, object],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    user_file: Path | None,
    judge: Judge | None = None,
) -> Settings:
    """`flags` are keyed by setting; None, False and () mean that the user did not say it. `judge` knows what
    words mean, so that those of files that mean nothing are told with the files' other faults."""
    faults: list[str] = []
    said = _from_flags(flags, faults)
    variables, warnings = _from_environment(environ, faults)
    if faults:
        lines = tuple(faults)
        raise usage(
            "bad-setting", lines[0] if len(lines) == 1 else f"{len(lines)} settings are wrong", details=lines
        )
    wish = said.get("profile") or variables.get("profile")
    files = Profiles(cwd)
    if wish is not None:
        files.add_chain(find(wish.value, cwd))
    elif os.path.isfile(cwd / PROJECT_FILE):
        files.add_chain(cwd / PROJECT_FILE)
    name = wish.value if wish is not None else (PROJECT_FILE if files.names else None)
    if user_file is not None and os.path.isfile(user_file):
        files.add_chain(user_file)
    held = _overlaid([said, variables, *files.layers])
    if judge is not None:
        files.judge(held, judge)
    files.raise_faults()
    settled = {key: _settled(key, one, cwd) for key, one in held.items()}
    warnings += _open_secrets(settled["env"])
    return Settings(settled, name, tuple(files.names), tuple(warnings))


def _from_flags(flags: Mapping[str, object], faults: list[str]) -> Layer:
    layer: Layer = {}
    for name, raw in flags.items():
        key = KEYS[name]
        if raw is None or raw is False or raw == ():
            continue
        _put(layer, key, raw, COMMAND_LINE, key.flag or name.upper(), faults)
    return layer


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> tuple[Layer, list[str]]:
    """Inside a run the words of the trainer contract are the run's, not settings of a run within it."""
    inside = f"{PREFIX}RUN" in environ
    contract = OWN_VARIABLES | TOLD_TO_TRAINERS if inside else OWN_VARIABLES
    known = {key.variable: key for key in KEYS.values() if key.variable not in contract}
    layer: Layer = {}
    warnings: list[str] = []
    for variable, written in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in contract or not written.strip():
            continue
        if variable in known:
            _put(layer, known[variable], written, variable, variable, faults)
        elif close := _near_variable(variable, known):
            warnings.append(f"{variable} is no setting, did you mean {close}?")
    return layer, warnings


def _near_variable(variable: str, known: Mapping[str, Key]) -> str | None:
    word = variable.removeprefix(PREFIX)
    close = nearest(word, [one.removeprefix(PREFIX) for one in known], cutoff=0.8) if len(word) > 3 else None
    return PREFIX + close if close else None


def _put(layer: Layer, key: Key, raw: object, origin: str, place: str, faults: list[str]) -> None:
    try:
        if isinstance(raw, str) and origin != COMMAND_LINE:
            raw = _list_in_variable(key, raw)
        value = key.parse(raw)
    except Faults as several:
        faults += [f"{place}: {what}" for _, what in several.items]
    except ValueError as fault:
        faults.append(f"{place}: {fault}")
    else:
        entries = dict.fromkeys(value, origin) if key.kind is Kind.MAPPING else None
        layer[key.name] = Value(value, origin, entries)


def _list_in_variable(key: Key, written: str) -> object:
    """A variable holds lists as `a,b` or as JSON, mappings as `A=1,B=2` or as JSON."""
    if key.kind not in (Kind.LIST, Kind.MAPPING):
        return written
    if written.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(written)
        except json.JSONDecodeError as fault:
            raise ValueError(f"looks like JSON but is not: {fault}") from None
    return [part for part in written.split(",") if part.strip()]


def _overlaid(layers: list[Layer]) -> Layer:
    held: Layer = {}
    for name, key in KEYS.items():
        said = [layer[name] for layer in layers if name in layer]
        if key.kind is Kind.MAPPING:
            held[name] = _merged(said, key)
        else:
            held[name] = said[0] if said else Value(key.default, DEFAULT)
    return held


def _merged(said: list[Value], key: Key) -> Value:
    value = dict(key.default)
    entries: dict[str, str] = {}
    for one in reversed(said):
        value.update(one.value)
        entries.update(one.entries or {})
    origin = ", ".join(dict.fromkeys(one.origin for one in said)) or DEFAULT
    return Value(value, origin, entries)


def _settled(name: str, held: Value, cwd: Path) -> Value:
    """Paths count from the current folder, wherever they are written, and stay true when it changes."""
    if name == "project" and held.value is not None:
        return replace(held, value=_absolute(held.value, cwd))
    if name == "inputs":
        return replace(held, value={one: _absolute(path, cwd) for one, path in held.value.items()})
    if name == "secret":
        return replace(held, value={one: _settled_secret(ref, cwd) for one, ref in held.value.items()})
    return held


def _settled_secret(ref: SecretRef, cwd: Path) -> SecretRef:
    return replace(ref, place=_absolute(ref.place, cwd)) if ref.source == "file" else ref


def _absolute(written: str, cwd: Path) -> str:
    return os.path.normpath(cwd.resolve() / os.path.expanduser(written))


def _secret_like(name: str) -> bool:
    return any(word in name.upper() for word in ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY"))


def _open_secrets(env: Value) -> list[str]:
    return [
        f"env {name} looks like a secret and is kept in plans and logs; --secret {name} keeps it out"
        for name in env.value
        if _secret_like(name)
    ]


def _covered(key: str, entry: str, value: Any) -> Any:
    return HIDDEN if key == "env" and _secret_like(entry) else value


def _shown(name: str, value: Any, kind: Kind | None, origin: str) -> Shown:
    if value is None or value in ((), {}):
        return Shown(name, None if value is None else _as_json(value), "-", origin)
    match kind:
        case Kind.DURATION:
            text = values.written_duration(value)
        case Kind.MONEY:
            text = f"${value}"
        case Kind.BOOL:
            text = str(value).lower()
        case _:
            text = _as_text(value)
    return Shown(name, _as_json(value), text, origin)


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, SecretRef):
        return f"{value.source}:{value.place}"
    if isinstance(value, HostWish):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _as_text(value: Any) -> str:
    plain = _as_json(value)
    if isinstance(plain, list):
        return ", ".join(map(str, plain))
    return str(plain).lower() if isinstance(plain, bool) else str(plain)
