"""What an environment must hold, read from requirements.txt, pyproject.toml or uv.lock, and the text that
two equal sets share. Reads files, installs nothing. Standard library only, imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

FOUND_IN_ORDER = ("uv.lock", "requirements.txt", "pyproject.toml")
SKIPPED = {".git", "__pycache__", ".venv", "node_modules"}
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(
    r"(?P<name>-[rcef]|--(?:requirement|constraint|editable|find-links))(?:[ =]|(?<=-[rcef]))\s*(?P<value>.+)"
)
_LOCAL = re.compile(
    r"(?:[^@]+@\s*)?file:(?://)?(?P<url>[^#;\s]+)|(?P<path>\.{0,2}/[^#;\[\s]*|\.{1,2}(?=$|\[))"
)


class EnvError(Exception):
    """An environment cannot be made; `code` is permanent, the message is one line for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Wanted:
    source: Path | None  # the file that says it; None: nothing but what a setup command brings
    locked: bool  # a uv.lock, which only uv can install
    lines: tuple[str, ...]  # for the installer; paths made absolute (as URLs where a space would split them)
    identity: tuple[str, ...]  # the same set gives the same text, wherever it lies


def read(requirements: Path | None, project: Path | None) -> Wanted:
    source = requirements or _find(project)
    if source is None:
        return Wanted(None, False, (), ())
    source = Path(os.path.abspath(source))
    if not source.is_file():
        raise EnvError("env-missing-file", f"{source} is not a file")
    if source.name == "uv.lock":
        return _locked(source)
    if source.suffix == ".toml":
        entries = [_requirement(line, source.parent) for line in _dependencies(source)]
    else:
        entries = list(_entries(source, ()))
    return Wanted(
        source, False, tuple(line for line, _ in entries), tuple(sorted({same for _, same in entries}))
    )


def _find(project: Path | None) -> Path | None:
    for name in FOUND_IN_ORDER if project else ():
        if project and (project / name).is_file():
            return project / name
    return None


def _locked(source: Path) -> Wanted:
    described = source.with_name("pyproject.toml")
    if not described.is_file():
        raise EnvError("env-missing-file", f"{source} needs the pyproject.toml it was made from beside it")
    return Wanted(source, True, (), (tree_digest(source), tree_digest(described)))


def _dependencies(source: Path) -> tuple[str, ...]:
    try:
        import tomllib
    except ModuleNotFoundError:
        raise EnvError(
            "env-old-python",
            f"reading {source.name} needs Python 3.11; write its dependencies into requirements.txt",
        ) from None
    try:
        project = tomllib.loads(source.read_text(encoding="utf-8")).get("project")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise EnvError("env-unreadable", f"{source}: {wrong}") from wrong
    if not isinstance(project, dict):
        raise EnvError("env-unreadable", f"{source} has no [project] table, so it names no dependencies")
    if "dependencies" in project.get("dynamic", ()):
        raise EnvError(
            "env-unreadable", f"{source} computes its dependencies; write them into requirements.txt"
        )
    listed = project.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise EnvError("env-unreadable", f"{source}: project.dependencies is no list of texts")
    return tuple(" ".join(one.split()) for one in listed)


def _entries(source: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Pairs (line for the installer, line that says what it is), files named by -r included in place."""
    if source in above:
        raise EnvError("env-unreadable", f"{source} includes itself")
    for line in _logical_lines(source):
        option = _OPTION.fullmatch(line)
        if option is None:
            yield _requirement(line, source.parent)
            continue
        name, value = option["name"].lstrip("-")[0], option["value"].strip().strip("'\"")
        path = Path(os.path.abspath(source.parent / value))
        if name == "r":
            yield from _entries(path, (*above, source))
        elif name == "e":  # a shared environment must not point at one project's folder
            yield _requirement(value, source.parent)
        elif name == "c":
            inside = ";".join(sorted(same for _, same in _entries(path, (*above, source))))
            yield f"-c {path.as_uri()}", f"-c {inside}"
        elif path.exists():  # a folder of wheels; a URL stays what it is
            names = sorted(child.name for child in path.iterdir()) if path.is_dir() else [path.name]
            yield f"--find-links {path.as_uri()}", f"--find-links {' '.join(names)}"
        else:
            yield line, line


def _requirement(line: str, folder: Path) -> tuple[str, str]:
    local = _LOCAL.match(line)
    if local is None:
        return line, line
    group = "path" if local["url"] is None else "url"
    written = local[group] if group == "path" else unquote(local[group])
    path = Path(os.path.abspath(folder / written))
    if not path.exists():
        raise EnvError("env-missing-file", f"requirement {line!r}: {path} is not there")
    start, end = local.span(group)
    absolute = str(path) if group == "path" else quote(str(path))
    return line[:start] + absolute + line[end:], line[:start] + tree_digest(path) + line[end:]


def _logical_lines(source: Path) -> Iterator[str]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as wrong:
        raise EnvError("env-unreadable", f"{source}: {wrong}") from wrong
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = " ".join(_COMMENT.sub("", line).split())
        if bare:
            yield bare


def tree_digest(path: Path) -> str:
    """Names and bytes of a file or of everything below a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else _files(path):
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (Path(where, name) for name in sorted(names) if Path(where, name).is_file())
