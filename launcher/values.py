"""How a written value becomes a typed one: pure functions, each raising ValueError with a sentence a
person can act on. Used for flags, variables, profiles, recipes and trainer arguments alike.

It must not know any setting, file or command by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Place = tuple[str | int, ...]  # where inside a value a fault sits: ("rounds", "min")

_PLAIN_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Faults(ValueError):
    """Several faults of one nested value, each with its place."""

    def __init__(self, items: Iterable[tuple[Place, str]]) -> None:
        self.items = tuple(items)
        super().__init__("; ".join(f"{'.'.join(map(str, place))}: {what}" for place, what in self.items))


class Collected:
    """Gathers faults while a nested value is read, so that all of them are told at once."""

    def __init__(self) -> None:
        self.items: list[tuple[Place, str]] = []

    def add(self, place: Place, what: str) -> None:
        self.items.append((place, what))

    def take(self, place: Place, parse: Callable[[], T], otherwise: T) -> T:
        try:
            return parse()
        except Faults as faults:
            self.items += [(place + inner, what) for inner, what in faults.items]
        except ValueError as fault:
            self.items.append((place, str(fault)))
        return otherwise

    def done(self) -> None:
        if self.items:
            raise Faults(self.items)


class Field(Protocol):
    """A value that reads itself."""

    def parse(self, raw: object) -> Any: ...


def closed(
    raw: Mapping[str, Any], fields: Mapping[str, Field], unknown: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """A mapping in which only these fields may stand. `unknown` may know better what a strange key means."""
    said, faults = sifted(raw, fields, unknown)
    if faults:
        raise Faults(faults)
    return said


def sifted(
    raw: Mapping[str, Any], fields: Mapping[str, Field], unknown: Callable[[str], str] | None = None
) -> tuple[dict[str, Any], list[tuple[Place, str]]]:
    """What such a mapping says, without the fields that have faults, and all faults."""
    faults = Collected()
    said: dict[str, Any] = {}
    for name, value in raw.items():
        if name in fields:
            said[name] = faults.take((name,), partial(fields[name].parse, value), None)
        else:
            known = unknown(name) if unknown is not None else ""
            faults.add((name,), known or f"unknown key '{name}'{did_you_mean(name, fields)}")
    wrong = {place[0] for place, _ in faults.items}
    return {name: value for name, value in said.items() if name not in wrong}, faults.items


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word, empty when nothing is near."""
    close = nearest(word, known)
    return f", did you mean '{close}'?" if close else ""


def _said(raw: object) -> str:
    """A short quotation of what was written."""
    if raw is None:
        return "nothing"
    if isinstance(raw, Mapping):
        return "a mapping"
    if isinstance(raw, list | tuple):
        return "a list"
    text = str(raw)
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"


def text(raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(f"needs a word or a sentence, not {_said(raw)}")
    value = str(raw).strip()
    if not value:
        raise ValueError("is empty")
    if "\0" in value:
        raise ValueError("holds a null character")
    return value


def truth(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"needs true or false, not {_said(raw)}")


def whole(raw: object, low: int | None = None, high: int | None = None) -> int:
    written = str(raw).strip()
    if isinstance(raw, bool) or not re.fullmatch(r"[+-]?\d{1,18}", written):
        raise ValueError(f"needs a whole number, not {_said(raw)}")
    return int(_bounded(Decimal(written), low, high))


def real(raw: object, low: float | None = None, high: float | None = None) -> float:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(f"needs a number, not {_said(raw)}")
    try:
        value = float(raw)
    except ValueError:
        raise ValueError(f"needs a number, not {_said(raw)}") from None
    if not math.isfinite(value):
        raise ValueError(f"needs a finite number, not {_said(raw)}")
    _bounded(Decimal(str(value)), low, high)
    return value


def _bounded(value: Decimal, low: float | None, high: float | None) -> Decimal:
    if low is not None and value < Decimal(str(low)):
        raise ValueError(f"must be at least {low}, and {value} is less")
    if high is not None and value > Decimal(str(high)):
        raise ValueError(f"must be at most {high}, and {value} is more")
    return value


def decimal(raw: object, *, what: str = "a number") -> Decimal:
    """A plain, finite, non-negative number; never by way of binary fractions."""
    written = str(raw).strip()
    if isinstance(raw, bool) or not isinstance(raw, str | int | float | Decimal):
        raise ValueError(f"needs {what}, not {_said(raw)}")
    if written.startswith("-") and _PLAIN_NUMBER.fullmatch(written[1:]):
        raise ValueError(f"cannot be negative, and {written} is")
    if not _PLAIN_NUMBER.fullmatch(written) or len(written) > 30:
        raise ValueError(f"needs {what}, not {_said(raw)}")
    return Decimal(written)


def money(raw: object, low: int | None = None, high: int | None = None) -> Decimal:
    """USD: 2, 0.90 or $0.90. A `low` of 1 means more than zero: the smallest price is a cent's share."""
    amount = raw.strip().removeprefix("$") if isinstance(raw, str) else raw
    value = decimal(amount, what="an amount in USD such as 1.50")
    if low and value == 0:
        raise ValueError("must be more than $0")
    if high is not None and value > high:
        raise ValueError(f"must be at most ${high}, and ${value} is more")
    return value


def duration(raw: object, low: int | None = None, high: int | None = None) -> int:
    """Seconds from 90s, 30m, 2h, 1h30m or a plain number of seconds."""
    written = "" if isinstance(raw, bool) else str(raw).strip().lower()
    if written.startswith("-"):
        raise ValueError(f"cannot be negative, and {_said(raw)} is")
    if _PLAIN_NUMBER.fullmatch(written):
        value = Decimal(written)
    else:
        found = _DURATION.fullmatch(written)
        if not written or len(written) > 30 or found is None:
            raise ValueError(f"needs a duration such as 90s, 30m or 2h, not {_said(raw)}")
        parts = zip(found.groups(), (3600, 60, 1), strict=True)
        value = sum((Decimal(number) * size for number, size in parts if number), Decimal(0))
    if value != int(value):
        raise ValueError(f"needs whole seconds, not {_said(raw)}")
    if low is not None and value < low:
        raise ValueError(f"must be at least {written_duration(low)}, and {_said(raw)} is less")
    if high is not None and value > high:
        raise ValueError(f"must be at most {written_duration(high)}, and {_said(raw)} is more")
    return int(value)


def written_duration(seconds: int) -> str:
    """The shortest exact way to write it: 90s, 30m, 2h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def choice(raw: object, choices: tuple[str, ...]) -> str:
    word = str(raw).strip()
    if word not in choices:
        raise ValueError(f"must be {_either(choices)}, not {_said(raw)}{did_you_mean(word.lower(), choices)}")
    return word


def _either(choices: tuple[str, ...]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _checked(check: Callable[[str], str], item: object) -> str:
    return check(text(item))


def _apart(split: Callable[[str], tuple[str, str]], item: object) -> tuple[str, str] | None:
    return split(text(item))


def words(raw: object, check: Callable[[str], str]) -> tuple[str, ...]:
    """A list of words; one word alone is a list of one."""
    if isinstance(raw, Mapping):
        raise ValueError("needs a list, not a mapping")
    items = list(raw) if isinstance(raw, list | tuple) else [raw]
    faults = Collected()
    found: list[str] = []
    for index, item in enumerate(items):
        place: Place = (index,) if isinstance(raw, list | tuple) else ()
        word = faults.take(place, partial(_checked, check, item), "")
        if word and word not in found:
            found.append(word)
    faults.done()
    return tuple(found)


def mapping(
    raw: object, split: Callable[[str], tuple[str, str]], check: Callable[[str, object], object]
) -> dict[str, object]:
    """A mapping, or a list of what `split` takes apart (K=V); `check` reads each entry."""
    faults = Collected()
    pairs: list[tuple[Place, str, object]] = []
    if isinstance(raw, Mapping):
        pairs = [((str(name),), str(name), value) for name, value in raw.items()]
    elif isinstance(raw, list | tuple | str):
        for index, item in enumerate([raw] if isinstance(raw, str) else raw):
            place: Place = () if isinstance(raw, str) else (index,)
            entry = faults.take(place, partial(_apart, split, item), None)
            if entry is not None:
                pairs.append((place, *entry))
    else:
        raise ValueError(f"needs a mapping, not {_said(raw)}")
    found: dict[str, object] = {}
    for place, name, value in pairs:
        if name in found:
            unnamed = "only one of them can go without a name; write NAME=PATH"
            faults.add(place, f"names '{name}' twice" if name else unnamed)
            continue
        found[name] = faults.take(place, partial(check, name, value), None)
    faults.done()
    return found


def pair(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals or not name:
        raise ValueError("needs NAME=VALUE")
    return name, value


def slug(written: str) -> str:
    """A name that is safe as a file name and as a label everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", written):
        raise ValueError(
            f"needs letters, digits, '-', '_' or '.' (a letter or digit first), not {_said(written)}"
        )
    return written


def variable(written: str) -> str:
    if not _NAME.fullmatch(written):
        raise ValueError(f"needs a variable's name (letters, digits, '_'), not {_said(written)}")
    return written


def below(written: str) -> str:
    """A relative path that cannot leave the folder it is meant in."""
    path = PurePosixPath(written)
    if path.is_absolute() or ".." in path.parts or written.startswith("~"):
        raise ValueError(f"must stay inside its folder: {_said(written)} leaves it")
    return str(path)
