"""The emulator's shapes of REST v2 hold against Runpod's own document, and their checker sees faults."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests import needs
from tests.emulators.runpod import checking
from tests.emulators.runpod.schemas import SHAPES, Shape

Json = dict[str, Any]
TYPES = {
    "string": "text",
    "integer": "whole",
    "number": "number",
    "boolean": "yes-no",
    "array": "list",
    "object": "object",
}


@cache
def components() -> Json:
    found: Json = json.loads(needs.RUNPOD_DOCUMENT.read_text("utf-8"))["components"]["schemas"]
    return found


def flat(schema: Json) -> Json:
    """One schema with its references followed and its parts laid together."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return flat({"allOf": [components()[schema["$ref"].split("/")[-1]]], **rest})
    whole = {key: value for key, value in schema.items() if key not in ("allOf", "anyOf")}
    parts = [flat(part) for part in schema.get("allOf", [])]
    parts += [
        {"null": True} if part.get("type") == "null" else flat(part) for part in schema.get("anyOf", [])
    ]
    for part in parts:
        for key, value in part.items():
            if key == "properties":
                whole[key] = {**value, **whole.get(key, {})}
            elif key == "required":
                whole[key] = [*whole.get(key, []), *value]
            else:
                whole.setdefault(key, value)
    if isinstance(whole.get("type"), list):
        whole["null"] = "null" in whole["type"]
        whole["type"] = next(one for one in whole["type"] if one != "null")
    return whole


def differences(shape: Shape, schema: Json, at: str) -> list[str]:
    theirs = flat(schema)
    closed = theirs.get("additionalProperties") is False or theirs.get("unevaluatedProperties") is False
    values = theirs.get("additionalProperties")
    pairs: list[tuple[str, object, object]] = [
        ("kind", shape.kind, "table" if isinstance(values, dict) else TYPES[theirs.get("type", "object")]),
        ("words", set(shape.words), set(theirs.get("enum", ()))),
        ("pattern", shape.pattern, theirs.get("pattern")),
        ("least", shape.least, theirs.get("minimum")),
        ("most", shape.most, theirs.get("maximum")),
        ("shortest", shape.shortest, theirs.get("minLength")),
        ("longest", shape.longest, theirs.get("maxItems")),
        ("nullable", shape.nullable, bool(theirs.get("null"))),
        ("closed", shape.closed, closed),
        ("needed", set(shape.needed), set(theirs.get("required", ()))),
    ]
    found = [
        f"{at}: {name} is {ours!r}, the document's {other!r}" for name, ours, other in pairs if ours != other
    ]
    known = theirs.get("properties", {})
    missing = set(shape.fields) - set(known) | (set(known) - set(shape.fields) if shape.closed else set())
    found += [f"{at}: {name} is only on one side" for name in sorted(missing)]
    for name in set(shape.fields) & set(known):
        found += differences(shape.fields[name], known[name], f"{at}.{name}")
    if shape.items is not None:
        below = values if isinstance(values, dict) else theirs["items"]
        found += differences(shape.items, below, f"{at}[]")
    return found


@pytest.mark.need("runpod-document")
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_the_document_s_own(name: str) -> None:
    assert differences(SHAPES[name], components()[name], name) == []


@pytest.mark.need("runpod-document")
def test_a_wrong_shape_is_seen() -> None:
    pod = components()["CreatePodRequest"]
    assert differences(SHAPES["PodActionRequest"], pod, "pod")
    assert differences(SHAPES["CreatePodRequest"], pod["allOf"][0], "container")


ASKED: Json = {"name": "a", "image": "b", "gpu": {"id": "c", "count": 1}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"minMemoryInGb": 4}, "$: additional properties 'minMemoryInGb' not allowed"),
        ({"gpu": {"id": "c", "kind": 1}}, "$.gpu: additional properties 'kind' not allowed"),
        ({"gpu": {"count": 1}}, "$.gpu: missing property 'id'"),
        ({"disk": 0}, "$.disk: minimum: got 0, want 1"),
        ({"disk": True}, "$.disk: got bool, want whole"),
        ({"env": {"A": 1}}, "$.env.A: got int, want text"),
        ({"name": ""}, "$.name: minLength: got 0, want 1"),
        ({"cloud": "ALL"}, "$.cloud: value must be one of COMMUNITY, SECURE"),
        ({"image": None}, "$.image: got null, want text"),
        ({"mounts": {"network": [{}, {}]}}, "$.mounts.network: maxItems: got 2, want 1"),
        ({"gpu": {"id": "c", "minCudaVersion": "12"}}, r"$.gpu.minCudaVersion: '12' does not match pattern"),
    ],
)
def test_a_fault_of_a_body_is_named(change: Json, fault: str) -> None:
    assert any(fault in one for one in checking.faults({**ASKED, **change}, "CreatePodRequest"))


def test_a_good_body_and_words_that_answers_may_hold_besides() -> None:
    assert checking.faults({**ASKED, "registry": None}, "CreatePodRequest") == []
    assert checking.faults({"id": "r", "name": "n", "newer": 1}, "Registry") == []
