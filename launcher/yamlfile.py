"""Reads one YAML file against a table of fields and tells all its faults at once, each with file, line
and column.

The YAML library is imported only when a file is read. The validation library is imported only to make the
schema: the fields parse themselves, and loading it would add a tenth of a second to every run with a
profile; a test holds that its model and `check` agree. This room must not know what the fields mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from launcher.models import Json
from launcher.values import Field, Place, sifted

if TYPE_CHECKING:
    from pydantic import BaseModel
    from ruamel.yaml.error import YAMLError

MAX_BYTES = 256 * 1024
MAX_BRACKETS = 1000  # the library takes seconds for what is nested a thousand deep
MAX_NODES = 10_000  # references may make a small file endless


class Described(Field, Protocol):
    def schema(self) -> Json:
        """How an editor may check it."""


class BadFile(Exception):
    """Every fault of one file as `file:line:col: key: what`."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass
class Document:
    """What a file says, as plain values, and where it says so."""

    path: Path
    shown: str  # how the file is called in sentences
    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        return self.mark(place)[0]

    def fault(self, place: Place, what: str) -> str:
        line, column = self.mark(place)
        key = ".".join(str(part) for part in place)
        return (
            f"{self.shown}:{line}:{column}: {key}: {what}" if key else f"{self.shown}:{line}:{column}: {what}"
        )

    def lines(self, items: Iterable[tuple[Place, str]]) -> tuple[str, ...]:
        """Faults read from the top of the file down."""
        ordered = sorted(items, key=lambda item: self.mark(item[0]))
        return tuple(self.fault(place, what) for place, what in ordered)

    def mark(self, place: Place) -> tuple[int, int]:
        """The nearest known place around it."""
        while place and place not in self.marks:
            place = place[:-1]
        return self.marks.get(place, (1, 1))


def read(path: Path, shown: str) -> Document:
    """The file as a mapping. Raises BadFile when it cannot be one."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    document = Document(path, shown)
    try:
        loaded = YAML(typ="rt", pure=True).load(_text(document))
        if loaded is None:
            return document
        if not isinstance(loaded, Mapping):
            raise BadFile((document.fault((), "needs keys with values (key: value), and nothing else"),))
        document.data = _Plain(document.marks).convert(loaded, ())
    except YAMLError as fault:
        raise BadFile((_syntax(document, fault),)) from None
    except RecursionError:
        raise BadFile((document.fault((), "is nested too deeply or refers to itself"),)) from None
    return document


def _text(document: Document) -> str:
    try:
        raw = document.path.read_bytes()
    except OSError as fault:
        raise BadFile((document.fault((), f"cannot be read: {fault.strerror}"),)) from None
    if len(raw) > MAX_BYTES:
        raise BadFile((document.fault((), f"is larger than {MAX_BYTES // 1024} KiB"),))
    if any(raw.count(sign) > MAX_BRACKETS for sign in (b"[", b"{", b"- -")):
        raise BadFile((document.fault((), "is nested too deeply: it has too many brackets"),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise BadFile((f"{document.shown}:{line}:1: is not UTF-8 text",)) from None


def _syntax(document: Document, fault: YAMLError) -> str:
    """The library's complaint in one sentence, at its place."""
    from ruamel.yaml.constructor import DuplicateKeyError

    mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
    place = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
    problem = str(getattr(fault, "problem", None) or "is not YAML").split("\n")[0]
    if isinstance(fault, DuplicateKeyError):
        key = problem.partition('"')[2].partition('"')[0]
        return f"{document.shown}:{place}: {key}: stands here twice"
    if "'\\t'" in problem:
        problem = "a tab cannot indent YAML; use spaces"
    return f"{document.shown}:{place}: {problem}"


class _Plain:
    """Turns the library's types into plain ones and remembers where each stood."""

    def __init__(self, marks: dict[Place, tuple[int, int]]) -> None:
        self.marks = marks
        self.nodes = 0

    def convert(self, node: Any, place: Place) -> Any:
        from ruamel.yaml.scalarbool import ScalarBoolean

        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise RecursionError
        if isinstance(node, Mapping):
            return {str(key): self._entry(node, key, (*place, str(key))) for key in node}
        if isinstance(node, list):
            return [self._item(node, index, (*place, index)) for index in range(len(node))]
        if isinstance(node, bool | ScalarBoolean):
            return bool(node)
        for plain in (str, int, float):
            if isinstance(node, plain):
                return plain(node)
        return node.isoformat() if isinstance(node, date) else node

    def _entry(self, node: Any, key: Any, place: Place) -> Any:
        if key in (node.lc.data or {}):
            line, column = node.lc.key(key)
            self.marks[place] = (line + 1, column + 1)
        return self.convert(node[key], place)

    def _item(self, node: Any, index: int, place: Place) -> Any:
        if index in (node.lc.data or {}):
            line, column = node.lc.item(index)
            self.marks[place] = (line + 1, column + 1)
        return self.convert(node[index], place)


def model(fields: Mapping[str, Described], title: str) -> type[BaseModel]:
    """A closed model in which every field parses itself: unknown keys are faults."""
    from pydantic import ConfigDict, PlainValidator, WithJsonSchema, create_model

    described: dict[str, Any] = {
        name: (Annotated[Any, PlainValidator(one.parse), WithJsonSchema(one.schema())], None)
        for name, one in fields.items()
    }
    return create_model(title, __config__=ConfigDict(extra="forbid"), **described)


def check(
    document: Document, fields: Mapping[str, Field], unknown: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """The parsed values, or BadFile with every fault. `unknown` may say what it knows of a strange key."""
    said, faults = sifted(document.data, fields, unknown)
    if faults:
        raise BadFile(document.lines(faults))
    return said


def schema(fields: Mapping[str, Described], title: str) -> Json:
    """JSON Schema for editors, from the same model that validates."""
    document: Json = model(fields, title).model_json_schema()
    for described in document["properties"].values():
        described.pop("title", None)
        described.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
