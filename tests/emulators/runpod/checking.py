"""Whether a value has its shape: every fault in a line, in the words that REST v2 uses for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.emulators.runpod.schemas import SHAPES, Shape

TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "whole": (int,),
    "number": (int, float),
    "yes-no": (bool,),
    "list": (list,),
    "table": (dict,),
    "object": (dict,),
}


def faults(value: Any, name: str) -> list[str]:
    """What is wrong with it, by the name of a component; nothing = it holds."""
    return list(_faults(value, SHAPES[name], "$"))


def of(value: Any, shape: Shape) -> list[str]:
    return list(_faults(value, shape, "$"))


def _faults(value: Any, shape: Shape, at: str) -> Iterator[str]:
    kinds: Any = TYPES[shape.kind]
    if value is None:
        if not shape.nullable:
            yield f"{at}: got null, want {shape.kind}"
        return
    if not isinstance(value, kinds) or (isinstance(value, bool) and shape.kind != "yes-no"):
        yield f"{at}: got {type(value).__name__}, want {shape.kind}"
        return
    yield from _bounds(value, shape, at)
    if shape.kind == "object":
        yield from _members(value, shape, at)
    elif shape.items is not None:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            yield from _faults(member, shape.items, f"{at}.{key}")


def _bounds(value: Any, shape: Shape, at: str) -> Iterator[str]:
    if shape.words and value not in shape.words:
        yield f"{at}: value must be one of {', '.join(sorted(shape.words))}"
    if shape.pattern is not None and not re.search(shape.pattern, value):
        yield f"{at}: {value!r} does not match pattern {shape.pattern}"
    if shape.least is not None and value < shape.least:
        yield f"{at}: minimum: got {value}, want {shape.least}"
    if shape.most is not None and value > shape.most:
        yield f"{at}: maximum: got {value}, want {shape.most}"
    if shape.shortest is not None and len(value) < shape.shortest:
        yield f"{at}: minLength: got {len(value)}, want {shape.shortest}"
    if shape.longest is not None and len(value) > shape.longest:
        yield f"{at}: maxItems: got {len(value)}, want {shape.longest}"


def _members(value: dict[str, Any], shape: Shape, at: str) -> Iterator[str]:
    for name in sorted(shape.needed - value.keys()):
        yield f"{at}: missing property {name!r}"
    unknown = sorted(value.keys() - shape.fields.keys())
    if unknown and shape.closed:
        yield f"{at}: additional properties {', '.join(map(repr, unknown))} not allowed"
    for name, member in value.items():
        if name in shape.fields:
            yield from _faults(member, shape.fields[name], f"{at}.{name}")
