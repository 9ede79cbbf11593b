"""The emulator's shapes of the old API hold against a schema of it, and what does not fit them is refused."""

from __future__ import annotations

import re
from functools import cache

import pytest

from launcher.providers import runpod
from tests import needs
from tests.emulators.runpod.emulation import emulated
from tests.emulators.runpod.graph_shapes import ANSWERS, INPUTS
from tests.emulators.runpod.schemas import Shape
from tests.unit.test_runpod_emulator import ask

SCALARS = {"String": "text", "ID": "text", "DateTime": "text", "Int": "whole", "Float": "number"}
SCALARS |= {"Boolean": "yes-no"}
Fields = dict[str, str]


@cache
def schema() -> tuple[dict[str, Fields], frozenset[str]]:
    """Each type's fields with their types, and the names of enumerations."""
    text = re.sub(r"#[^\n]*", "", needs.RUNPOD_GRAPHQL.read_text("utf-8"))
    field = re.compile(r"(\w+)(?:\([^)]*\))?\s*:\s*([\[\]\w!]+)")
    blocks = re.findall(r"(?:input|type)\s+(\w+)\s*\{([^}]*)\}", text)
    return {name: dict(field.findall(body)) for name, body in blocks}, frozenset(
        re.findall(r"enum\s+(\w+)", text)
    )


def differences(shape: Shape, theirs: str, at: str) -> list[str]:
    types, enums = schema()
    bare = theirs.rstrip("!")
    if bare.startswith("["):
        if shape.kind != "list" or shape.items is None:
            return [f"{at}: {shape.kind}, and there it is {theirs}"]
        return differences(shape.items, bare[1:-1], f"{at}[]")
    kind = SCALARS.get(bare, "text" if bare in enums else "object")
    if kind != shape.kind:
        return [f"{at}: {shape.kind}, and there it is {theirs}"]
    found: list[str] = []
    for name, inner in shape.fields.items():
        known = types[bare].get(name)
        found += (
            differences(inner, known, f"{at}.{name}") if known else [f"{at}.{name}: there is no such field"]
        )
    if kind == "object" and shape.closed:
        wanted = {name for name, of in types[bare].items() if of.endswith("!")}
        found += [f"{at}.{name}: is needed there" for name in sorted(wanted - shape.needed)]
    return found


@pytest.mark.need("runpod-graphql")
@pytest.mark.parametrize("name", INPUTS)
def test_what_it_takes(name: str) -> None:
    type_name, shape = INPUTS[name]
    assert differences(shape, type_name, type_name) == []


@pytest.mark.need("runpod-graphql")
@pytest.mark.parametrize("name", ANSWERS)
def test_what_it_gives(name: str) -> None:
    types, _ = schema()
    given = {**types["Query"], **types["Mutation"]}[name]
    type_name, shape = ANSWERS[name]
    assert given.strip("[]!") == type_name
    assert shape is None or differences(shape, given, name) == []


@pytest.mark.parametrize(
    ("query", "given", "fault"),
    [
        (runpod._RESUME, {"podId": "a"}, "missing property 'bidPerGpu'"),
        (runpod._RESUME, {"podId": "a", "bidPerGpu": "0.2"}, "want number"),
        (runpod._RESUME.replace("PodBidResumeInput", "PodResumeInput"), {}, "used in a position of"),
        (runpod._SPOT, {"name": "x"}, "additional properties 'name' not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_as_a_schema_does(query: str, given: dict[str, str], fault: str) -> None:
    with emulated() as emulation:
        emulation.cloud.conditions.spot = "offered"
        status, answer = ask(emulation, "POST", "/graphql", {"query": query, "variables": {"input": given}})
        assert status == 400 and fault in answer["errors"][0]["message"]
