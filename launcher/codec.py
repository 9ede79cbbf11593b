"""Records to JSON and back, by their type hints: the one way a record reaches a file.

Decimal travels as a string (no rounding), time as ISO 8601 UTC with Z. Unknown keys are skipped, so
an older launcher reads what a newer one wrote as long as the meanings hold.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_the_second(at: datetime) -> str:
    """As labels and documents say it, for people and for programs of others."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """A moment; a time of day without its zone is none, and raises ValueError like any other text."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise ValueError(f"{text!r} does not say its time zone")
    return at.astimezone(UTC)


def foreign_json(data: bytes) -> Any:
    """JSON that somebody else wrote: a number that is none (NaN, infinities) is not known. May raise
    ValueError."""
    try:
        return json.loads(data, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e


def _finite(written: str) -> float | None:
    value = float(written)
    return value if math.isfinite(value) else None


def _whole(written: str) -> int | None:
    """As far as it is a float too: whoever reads a measured number makes it one."""
    return int(written) if len(written) < 300 else None


def dump(value: Any) -> Any:
    """A record as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: dump(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, dict):
        return {str(k): dump(v) for k, v in value.items()}
    if isinstance(value, frozenset):
        return sorted(dump(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [dump(v) for v in value]
    return value


def load(kind: type[T], value: Any) -> T:
    """A record of `kind` out of plain JSON values; raises TypeError or ValueError when it is none."""
    return typing.cast(T, _load(kind, value))


@cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _load(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(kind) if a is not type(None)]
        return _load(inner, value)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{value!r} is none of {typing.get_args(kind)}")
        return value
    if origin in (tuple, frozenset):
        _must_be(list, value)
        return _load_tuple(typing.get_args(kind), value) if origin is tuple else frozenset(value)
    if origin is dict:
        _must_be(dict, value)
        return {k: _load(typing.get_args(kind)[1], v) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        _must_be(dict, value)
        record: Any = kind
        hints = _fields(record)
        known = {f.name for f in dataclasses.fields(record)}
        return record(**{k: _load(hints[k], v) for k, v in value.items() if k in known})
    return _load_leaf(kind, value)


def _load_tuple(args: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_load(args[0], v) for v in value)
    return tuple(_load(a, v) for a, v in zip(args, value, strict=True))


def _load_leaf(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    if kind is Decimal:
        return _decimal(value)
    if kind is datetime:
        _must_be(str, value)
        return parse_iso(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int):
        return float(value)
    _must_be(kind, value)
    return value


def _must_be(kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {kind.__name__}")


def _decimal(value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation as e:
        raise ValueError(f"{value!r} is not a number") from e
    if not number.is_finite():
        raise ValueError(f"{value!r} is not an amount")
    return number
