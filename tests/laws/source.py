"""Python files as the laws see them: names, trees and imports. Knows no law."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    target: str  # the module, as deep as this tree knows it
    line: int
    at_start: bool  # happens when the module is imported, and not only for the type checker


@dataclass(frozen=True)
class Module:
    name: str
    path: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @cached_property
    def functions(self) -> tuple[tuple[str, Function], ...]:
        return tuple(_functions(self.tree, ""))

    @cached_property
    def lines(self) -> int:
        return self.text.count("\n") + (not self.text.endswith("\n") and bool(self.text))

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call by its written name: `os.system`, `print`, `self.clock.sleep`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and (name := dotted(node.func)):
                yield name, node

    def strings(self) -> Iterator[tuple[str, int]]:
        """Every literal that is not a docstring."""
        docs = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield node.value, node.lineno


@dataclass(frozen=True)
class Tree:
    """Modules by dotted name."""

    modules: Mapping[str, Module] = field(repr=False)

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Tree:
        found = (Module(_name(path), path, text, ast.parse(text, path)) for path, text in files.items())
        return cls({module.name: module for module in found})

    @classmethod
    def read(cls, root: Path, folders: Iterable[str]) -> Tree:
        paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
        return cls.of({path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths})

    def below(self, *packages: str) -> Iterator[Module]:
        return (module for name, module in self.modules.items() if within(name, packages))

    def imports(self, module: Module) -> tuple[Import, ...]:
        return tuple(self._imports(module, module.tree, True))

    def _imports(self, module: Module, parent: ast.AST, at_start: bool) -> Iterator[Import]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno, at_start) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = _base(module, node)
                for alias in node.names:
                    deeper = f"{base}.{alias.name}"
                    yield Import(deeper if deeper in self.modules else base, node.lineno, at_start)
            elif isinstance(node, ast.If) and dotted(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                yield from self._imports(module, node, False)
            else:
                inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from self._imports(module, node, at_start and not inside)


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _functions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(parent):
        inside = prefix
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = f"{prefix}{node.name}."
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node
        yield from _functions(node, inside)


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _base(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = module.name.split(".")
    if not module.path.endswith("__init__.py"):
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *filter(None, [node.module])])
