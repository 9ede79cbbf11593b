"""Which files of a folder travel: git's own list, or a walk by git's rules where there is no git; less what
must never leave. Names only: nothing here reads what a file holds, but for the head of what may be a key. A
folder that may not be looked into is named as an empty one is: whoever sends it is refused.

A private key is known by its name or by what its first bytes say; `!name` in `.launcherignore` sends it all
the same. What is held back is told.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from launcher.errors import usage

IGNORE_FILE = ".launcherignore"
IGNORED_BY = ".gitignore"
NEVER = frozenset({".git", ".venv", "__pycache__", "node_modules"})  # by name, at any depth
NEVER_TOP = frozenset({"models"})  # by name, at the top
# Files that hold a secret and nothing else. `.env.example` and its like are written to be shown.
SECRET = re.compile(
    r"(?s)\.env|\.env\.(?!example$|sample$|template$|dist$).+|\.netrc|\.pypirc|\.pgpass|\.git-credentials"
    r"|\.htpasswd|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|.+\.(p12|pfx|jks|kdbx|ppk)"
)
MAYBE = re.compile(rf"{SECRET.pattern}|.+\.(pem|key)")  # a certificate is no secret, a .key may be anything
SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg"})
KEY_HEAD = b"PRIVATE KEY-----"
HEAD = 4096
GIT_S = 60
KINDS = frozenset({stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR})


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


class Thing(NamedTuple):
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
        found = dict.fromkeys(walk(root, only))
    top, folders = str(root), _Folders(root)
    things, withheld, own = [], [], folders.own
    for name in sorted(found):
        folder, _, last = name.rpartition("/")
        stays, secret = folders[folder]
        if stays or last in NEVER or last.endswith(".pyc") or (own is not None and own.says(name)):
            continue
        if not folder and last in NEVER_TOP:
            continue
        info = found[name] or _looked_at(f"{top}/{name}")
        if info is None:
            continue
        if stat.S_ISDIR(info.st_mode) and folders[name][0]:
            continue
        if stat.S_IFMT(info.st_mode) not in KINDS:
            continue  # a pipe or a socket is nothing without the process behind it
        secret = secret or (MAYBE.fullmatch(last) is not None and _secret(f"{top}/{name}", last, info))
        if secret and not (own is not None and own.says(name) is False):
            withheld.append(name)
        else:
            things.append(Thing(name, info))
    return Selection(tuple(things), tuple(withheld))


def _looked_at(path: str) -> os.stat_result | None:
    """None: it went since its folder was listed."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def refuse_closed(things: Sequence[Thing], root: Path) -> None:
    """What may not be read is told by its name, before anything is rented for it."""
    closed = [name or str(root) for name, info in things if is_closed(f"{root}/{name}", info)]
    if closed:
        advice = f"let them be read, or name them in {root / IGNORE_FILE}"
        told = f"of what would be sent these may not be read: {several(closed)}; {advice}"
        raise usage("project-unreadable", told)


def is_closed(path: str, info: os.stat_result) -> bool:
    folder = stat.S_ISDIR(info.st_mode)
    mine = info.st_uid == os.geteuid() and info.st_mode & stat.S_IRUSR and not folder
    if mine or stat.S_ISLNK(info.st_mode):
        return False
    return not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK, effective_ids=True)


def several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class _Folders(dict[str, tuple[bool, bool]]):
    """By name: whether nothing in it travels, whether all in it is secret; each found out once. `own` is
    .launcherignore: git lists the names that it is asked about, so every folder above one is asked about."""

    def __init__(self, root: Path) -> None:
        super().__init__({"": (False, False)})
        self.own = read_spec(os.path.join(root, IGNORE_FILE))

    def __missing__(self, folder: str) -> tuple[bool, bool]:
        above, _, last = folder.rpartition("/")
        stays, secret = self[above]
        stays = stays or last in NEVER or (not above and last in NEVER_TOP)
        stays = stays or (self.own is not None and self.own.says(folder + "/") is True)
        self[folder] = stays, secret or last in SECRET_FOLDERS
        return self[folder]


def _secret(path: str, last: str, info: os.stat_result) -> bool:
    if SECRET.fullmatch(last):
        return True
    if not stat.S_ISREG(info.st_mode):
        return False
    try:
        with open(path, "rb") as f:
            return KEY_HEAD in f.read(HEAD)
    except PermissionError:
        return True


# --- by git ---------------------------------------------------------------------------------------


Found = dict[str, "os.stat_result | None"]  # by name, with what the disk says of it where it was asked


def _git(root: Path) -> Found | None:
    """Tracked and untracked-not-ignored files; None where there is no git or no repository. Submodules and
    repositories inside answer for themselves: git lists them as mere folders, and code imports from them."""
    ways = (("-c", "-o", "--exclude-standard"), ("-o", "--directory", "--exclude-standard"))
    asked = _asked(root, *ways)
    if asked is None:
        return None
    top, (listed, unknown) = str(root), asked
    found: Found = {}
    for name in listed:
        try:
            info = os.lstat(f"{top}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue  # deleted but still in the index
        except PermissionError:
            found[name.rpartition("/")[0]] = None
            continue
        if stat.S_ISDIR(info.st_mode) and _is_repository(root / name):
            found |= {f"{name}/{below}": its for below, its in (_git(root / name) or {}).items()}
        else:
            found[name] = info
    return dict.fromkeys(_empty_folders(root, unknown)) | found


def _asked(root: Path, *ways: tuple[str, ...], within_s: float = GIT_S) -> list[list[str]] | None:
    """Its answers to several questions, asked at once."""
    asking: list[subprocess.Popen[bytes]] = []
    try:
        for how in ways:
            argv = ["git", "-C", str(root), "ls-files", "-z", *how]
            asking.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        told = [process.communicate(timeout=within_s)[0] for process in asking]
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise usage("git-silent", f"git lists no files of {root}: no answer for {within_s:g} s") from None
    finally:
        for process in asking:
            with process:
                process.kill()
    if any(process.returncode for process in asking):
        return None
    return [[os.fsdecode(n).rstrip("/") for n in text.split(b"\0") if n] for text in told]


def _is_repository(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and os.path.lexists(path / ".git")


def _empty_folders(root: Path, unknown: list[str]) -> Iterator[str]:
    """git keeps none, programs expect some: `logs/` that nobody wrote into yet."""
    for name in unknown:
        path = root / name
        if path.is_dir() and not path.is_symlink() and not _is_repository(path):
            yield from (f"{name}/{below}".rstrip("/.") for below in _hollow(path))


def _hollow(folder: Path) -> Iterator[str]:
    """Of a folder that git knows nothing in: those in it without a file, itself as "."; and those that nobody
    may look into."""
    closed: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = [f for f in folders if f not in NEVER and not os.path.islink(os.path.join(here, f))]
        if not folders and not files:
            yield os.path.relpath(here, folder)
    yield from (os.path.relpath(why.filename, folder) for why in closed)


# --- by a walk ------------------------------------------------------------------------------------


def walk(root: Path, only: tuple[str, ...] | None) -> Iterator[str]:
    """What git would list if this were a repository: each folder's own .gitignore, the deeper one first; an
    ignored folder is not entered. Empty folders are named."""
    top = str(root)
    for name in only if only is not None else ("",):
        name = name.rstrip("/")
        if os.path.isdir(os.path.join(top, name)):
            yield from _below(top, name, _rules_above(top, name))
        elif os.path.lexists(os.path.join(top, name)):
            yield name


Rules = tuple[tuple[int, "Spec"], ...]  # how much of a name is the folder of each file; the deepest first


def _rules_above(root: str, name: str) -> Rules:
    found: Rules = ()
    at = -1
    while name:  # of each folder above, the top first
        folder = name[: max(at, 0)]
        if (spec := read_spec(os.path.join(root, folder, IGNORED_BY))) is not None:
            found = ((at + 1, spec), *found)
        at = name.find("/", at + 1)
        if at < 0:
            break
    return found


def _below(root: str, folder: str, rules: Rules) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(os.path.join(root, folder)), key=_name)
    except PermissionError:
        yield folder
        return
    except (FileNotFoundError, NotADirectoryError):  # it went since the one above was listed
        return
    start = f"{folder}/" if folder else ""
    if any(entry.name == IGNORED_BY for entry in entries):
        spec = read_spec(os.path.join(root, start + IGNORED_BY))
        rules = ((len(start), spec), *rules) if spec is not None else rules
    for entry in entries:
        name = start + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in NEVER or (rules and _ignored(rules, name, is_folder)):
            continue
        if is_folder:
            yield from _below(root, name, rules)
        else:
            yield name
    if folder and not entries:
        yield folder


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _ignored(rules: Rules, name: str, is_folder: bool) -> bool:
    """The deepest file that has something to say of it decides."""
    for cut, spec in rules:
        said = spec.says(name[cut:] + "/" if is_folder else name[cut:])
        if said is not None:
            return said
    return False


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
