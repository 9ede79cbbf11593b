"""Which files of a folder travel: git's own list, or a walk by git's rules where there is no git; less what
must never leave. Names only: nothing here reads what a file holds, but for the head of what may be a key.

A private key is known by its name or by what its first bytes say; `!name` in `.launcherignore` sends it all
the same. What is held back is told.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

IGNORE_FILE = ".launcherignore"
NEVER = frozenset({".git", ".venv", "__pycache__", "node_modules"})  # by name, at any depth
NEVER_TOP = frozenset({"models"})  # by name, at the top
# Files that hold a secret and nothing else. `.env.example` and its like are written to be shown.
SECRET = re.compile(
    r"\.env|\.env\.(?!example$|sample$|template$|dist$).+|\.netrc|\.pypirc|\.pgpass|\.git-credentials|\.htpasswd"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|.+\.(p12|pfx|jks|kdbx|ppk)"
)
SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg"})
MAYBE_KEY = (".pem", ".key")  # a certificate is no secret, and a .key may be anything
KEY_HEAD = b"PRIVATE KEY-----"
HEAD = 4096


class Pattern(Protocol):
    """What is used of pathspec's."""

    include: bool | None

    def match_file(self, file: str, /) -> object: ...


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file. pathspec's patterns also match what lies below a match; git's do not, which
    shows where a later line takes a folder back in."""

    ignores: bool
    pattern: Pattern
    by_path: bool  # else by the last name alone
    deep: bool  # ends with /**: everything below is meant itself

    def is_of(self, name: str) -> bool:
        folder = "/" if name.endswith("/") else ""
        above, _, last = name.rstrip("/").rpartition("/")
        if not self.by_path:
            return bool(self.pattern.match_file(last + folder))
        if not self.pattern.match_file(name):
            return False
        return self.deep or not above or not self.pattern.match_file(above + "/")


class Spec:
    """An ignore file: the last line that is of a name decides."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules[::-1]

    def says(self, name: str) -> bool | None:
        """Whether it is ignored; folders end with "/". None = nothing is said of it."""
        return next((rule.ignores for rule in self._rules if rule.is_of(name)), None)


@dataclass(frozen=True)
class Thing:
    """One name that travels, with what the disk says of it."""

    name: str
    info: os.stat_result


@dataclass(frozen=True)
class Selection:
    things: tuple[Thing, ...]
    withheld: tuple[str, ...]  # secrets, by their look


def select(root: Path, only: tuple[str, ...] | None = None) -> Selection:
    """Sorted by name. `only` these sub-folders or files; None = all of the folder."""
    found = _git(root) if only is None else None
    if found is None:
        found = list(walk(root, only))
    own = _Own(root)
    things, withheld = [], []
    for name in sorted(set(found)):
        parts = name.split("/")
        if parts[0] in NEVER_TOP or not NEVER.isdisjoint(parts) or name.endswith(".pyc") or own.ignores(name):
            continue
        info = os.lstat(os.path.join(root, name))
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            continue  # a pipe or a socket is nothing without the process behind it
        if _secret(root, parts, info) and not own.insists(name):
            withheld.append(name)
        else:
            things.append(Thing(name, info))
    return Selection(tuple(things), tuple(withheld))


def _secret(root: Path, parts: list[str], info: os.stat_result) -> bool:
    last = parts[-1]
    if not SECRET_FOLDERS.isdisjoint(parts[:-1]) or SECRET.fullmatch(last):
        return True
    if not last.endswith(MAYBE_KEY) or not stat.S_ISREG(info.st_mode):
        return False
    try:
        with open(os.path.join(root, *parts), "rb") as f:
            return KEY_HEAD in f.read(HEAD)
    except PermissionError:
        return True


# --- by git ---------------------------------------------------------------------------------------


def _git(root: Path) -> list[str] | None:
    """Tracked and untracked-not-ignored files; None where there is no git or no repository. Submodules and
    repositories inside answer for themselves: git lists them as mere folders, and code imports from them."""
    listed = _asked(root, "-c", "-o", "--exclude-standard")
    if listed is None:
        return None
    there = [n for n in dict.fromkeys(listed) if os.path.lexists(root / n)]  # deleted but still in the index
    names = [name for n in there for name in (_inside(root, n) if _is_repository(root / n) else (n,))]
    return [*names, *_empty_folders(root)]


def _asked(root: Path, *how: str) -> list[str] | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", *how], capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    return [os.fsdecode(n).rstrip("/") for n in done.stdout.split(b"\0") if n]


def _is_repository(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and os.path.lexists(path / ".git")


def _inside(root: Path, name: str) -> Iterator[str]:
    yield from (f"{name}/{below}" for below in _git(root / name) or ())


def _empty_folders(root: Path) -> Iterator[str]:
    """git keeps none, programs expect some: `logs/` that nobody wrote into yet."""
    listed = _asked(root, "-o", "--directory", "--exclude-standard") or []
    for name in listed:
        path = root / name
        if path.is_dir() and not path.is_symlink() and not _is_repository(path):
            yield from (f"{name}/{below}".rstrip("/.") for below in _hollow(path))


def _hollow(folder: Path) -> Iterator[str]:
    """Of a folder that git knows nothing in: those in it without a file, itself as "."."""
    for here, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in NEVER and not os.path.islink(os.path.join(here, f))]
        if not folders and not files:
            yield os.path.relpath(here, folder)


# --- by a walk ------------------------------------------------------------------------------------


def walk(root: Path, only: tuple[str, ...] | None, *, by_rules: bool = True) -> Iterator[str]:
    """What git would list if this were a repository: each folder's own .gitignore, the deeper one first; an
    ignored folder is not entered. Empty folders are named. Without `by_rules` nothing is ignored."""
    for top in only if only is not None else ("",):
        rules = _Rules(root) if by_rules else None
        if (root / top).is_dir():
            yield from _below(str(root), top.rstrip("/"), rules)
        elif os.path.lexists(root / top):
            yield top


def _below(root: str, folder: str, rules: _Rules | None) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda e: e.name)
    except PermissionError:
        return
    inside = 0
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in NEVER or (rules is not None and rules.ignored(name, is_folder)):
            continue
        inside += 1
        if is_folder:
            yield from _below(root, name, rules)
        else:
            yield name
    if folder and not entries:
        yield folder


class _Rules:
    """The .gitignore files of a folder and of those below it, each read once."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._specs: dict[str, Spec | None] = {}

    def ignored(self, name: str, is_folder: bool) -> bool:
        """The deepest file that has something to say of it decides."""
        at = name.rfind("/")
        while True:
            folder = name[:at] if at >= 0 else ""
            spec = self._of(folder)
            if spec is not None:
                below = name[at + 1 :]
                said = spec.says(below + "/" if is_folder else below)
                if said is not None:
                    return said
            if at < 0:
                return False
            at = name.rfind("/", 0, at)

    def _of(self, folder: str) -> Spec | None:
        if folder not in self._specs:
            self._specs[folder] = read_spec(os.path.join(self._root, folder, ".gitignore"))
        return self._specs[folder]


def read_spec(path: str) -> Spec | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            lines = f.read().splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    import pathspec

    made = ((text, pathspec.GitIgnoreSpec.from_lines([text]).patterns) for text in lines)
    return Spec(
        [
            _rule(text, pattern)
            for text, patterns in made
            for pattern in patterns
            if pattern.include is not None
        ]
    )


def _rule(text: str, pattern: Pattern) -> Rule:
    plain = text.removeprefix("!").strip()
    return Rule(bool(pattern.include), pattern, "/" in plain.rstrip("/"), plain.endswith("/**"))


class _Own:
    """.launcherignore at the top: for names that git lists as well, so every folder above is asked, once."""

    def __init__(self, root: Path) -> None:
        self._spec = read_spec(os.path.join(root, IGNORE_FILE))
        self._folders: dict[str, bool] = {"": False}

    def ignores(self, name: str) -> bool:
        if self._spec is None:
            return False
        return self._folder(name.rpartition("/")[0]) or self._said(name) is True

    def insists(self, name: str) -> bool:
        return self._spec is not None and self._said(name) is False

    def _folder(self, folder: str) -> bool:
        if folder not in self._folders:
            above = folder.rpartition("/")[0]
            self._folders[folder] = self._folder(above) or self._said(folder + "/") is True
        return self._folders[folder]

    def _said(self, name: str) -> bool | None:
        assert self._spec is not None
        return self._spec.says(name)
