"""Every code that the source can give a user, found by reading the source, not by running it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).parents[2] / "launcher"
CODE = re.compile(r"[a-z]+(-[a-z]+)*")
ENV = re.compile(r"(?:error: )?(env-[a-z-]+)(?:: )?")
STATUSES = {"USAGE": 2, "KEYS": 3, "NO_OFFER": 4, "PROVIDER": 5, "UNREACHABLE": 6, "TRAINER": 7, "LIMIT": 8}
STATUSES |= {"MAYBE_BILLING": 9, "BUG": 1}


@dataclass(frozen=True)
class Raised:
    code: str
    status: int | None  # None: decided while running
    where: str


def _trees(folder: Path) -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(folder.rglob("*.py")):
        yield str(path.relative_to(LAUNCHER.parent)), ast.parse(path.read_text())


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _status(call: ast.Call) -> int | None:
    if _called(call) == "usage":
        return 2
    said = next((keyword.value for keyword in call.keywords if keyword.arg == "exit"), None)
    return STATUSES[said.attr] if isinstance(said, ast.Attribute) and said.attr in STATUSES else None


@functools.cache
def errors() -> tuple[Raised, ...]:
    """Codes that stand in the calls themselves, those that functions hand back as `code, sentence`, those
    with which an engine leaves, and those of requirement files, which a plan passes on."""
    found: list[Raised] = []
    for where, tree in _trees(LAUNCHER):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in ("usage", "LauncherError") and node.args:
                code = _text(node.args[0])
                if code is not None:
                    found.append(Raised(code, _status(node), f"{where}:{node.lineno}"))
            elif isinstance(node, ast.Call) and _called(node) == "EnvError" and "reqset" in where:
                found.append(Raised(_text(node.args[0]) or "", 2, f"{where}:{node.lineno}"))
            elif (
                isinstance(node, ast.Call) and _called(node) == "halt" and isinstance(node.args[1], ast.Name)
            ):
                if (code := _constants().get(node.args[1].id)) is not None:
                    found.append(Raised(code, None, f"{where}:{node.lineno}"))
            elif isinstance(node, ast.FunctionDef) and where.endswith("cli/ending.py"):
                found += _handed_back(node, where)
    return tuple(found)


@functools.cache
def _constants() -> dict[str, str]:
    """The words that have a name at the top of a file."""
    return {
        target.id: word
        for _, tree in _trees(LAUNCHER)
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, ast.Assign) and (word := _text(node.value)) is not None
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _handed_back(function: ast.FunctionDef, where: str) -> Iterator[Raised]:
    if function.returns is None or not ast.unparse(function.returns).startswith("tuple[str, str]"):
        return
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            code = _text(node.value.elts[0])
            if code is not None:
                yield Raised(code, None, f"{where}:{node.lineno}")


def forwarded() -> list[str]:
    """Calls whose code is no word: each must be one that the readings above know of."""
    return [
        f"{where}: {ast.unparse(node.args[0])}"
        for where, tree in _trees(LAUNCHER)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) in ("usage", "LauncherError") and node.args
        if _text(node.args[0]) is None
    ]


def refusals() -> set[str]:
    found = set()
    for _, tree in _trees(LAUNCHER / "agent"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in ("CannotStart", "_refuse"):
                found |= {text for arg in node.args[:2] if (text := _text(arg)) and CODE.fullmatch(text)}
    return found


def warnings() -> set[str]:
    found = set()
    for _, tree in _trees(LAUNCHER / "agent"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            if _called(node) == "warn" and (text := _text(first)):
                found.add(text)
            elif _called(node) == "append" and isinstance(first, ast.Tuple) and len(first.elts) == 2:
                found |= {text for text in (_text(first.elts[0]),) if text and CODE.fullmatch(text)}
    return found


def environment_faults() -> set[str]:
    """What stops the making of an environment on the machine."""
    tree = ast.parse((LAUNCHER / "agent" / "envs.py").read_text())
    words = [text for node in ast.walk(tree) if (text := _text(node))]
    return {match[1] for word in words if (match := ENV.fullmatch(word))}
