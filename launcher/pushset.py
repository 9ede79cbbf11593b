"""What goes to the machine: git's own file list (or a pruned walk), less what must never travel.

`models/`, `.git`, environments and what `.launcherignore` names stay at home. The digest covers names,
modes and contents, so an unchanged project is known to be unchanged.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from launcher.errors import usage
from launcher.models import Input, Job
from launcher.remote.base import Sending, Tree
from launcher.world import PushSet

IGNORE_FILE = ".launcherignore"
NEVER = (".git", ".venv", "__pycache__", "node_modules", ".env")  # by name, at any depth
NEVER_TOP = ("models",)  # by name, at the top


def gather(job: Job) -> PushSet:
    root = Path(job.folder)
    files = tuple(_sending(root / path, f"{path}") for path in sorted(_names(root, job.push)))
    digest, size = _digest(files)
    project = Tree(hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16], digest, files, size)
    return PushSet(project, tuple(_input(i) for i in job.inputs))


def names(root: Path) -> list[str]:
    """The project's push set by name, for a dry run's list."""
    return sorted(_names(root, None))


def _names(root: Path, only: tuple[str, ...] | None) -> Iterator[str]:
    found = _walk(root, only) if only is not None else _git(root)
    if found is None:
        found = _walk(root, None)
    ignored = _ignored(root)
    for name in found:
        parts = name.split("/")
        if parts[0] in NEVER_TOP or any(p in NEVER for p in parts) or name.endswith(".pyc") or ignored(name):
            continue
        if _can_travel(root / name):
            yield name


def _can_travel(path: Path) -> bool:
    """Files, links and folders; a pipe or a socket is nothing without the process behind it."""
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)


def _git(root: Path) -> Iterable[str] | None:
    """Tracked and untracked-not-ignored files; None where there is no git or no repository. Submodules and
    repositories inside answer for themselves: git lists them as mere folders, and code imports from them."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "-c", "-o", "--exclude-standard"],
            capture_output=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    names = (os.fsdecode(n).rstrip("/") for n in done.stdout.split(b"\0") if n)
    there = [n for n in dict.fromkeys(names) if os.path.lexists(root / n)]  # deleted but still in the index
    return [name for n in there for name in (_inside(root, n) if _is_repository(root / n) else (n,))]


def _is_repository(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and os.path.lexists(path / ".git")


def _inside(root: Path, name: str) -> Iterator[str]:
    yield from (f"{name}/{below}" for below in _git(root / name) or ())


def _walk(root: Path, only: tuple[str, ...] | None) -> Iterator[str]:
    for top in only if only is not None else (".",):
        start = root / top
        if start.is_file():
            yield top
            continue
        for folder, folders, files in os.walk(start):
            links = [d for d in folders if os.path.islink(os.path.join(folder, d))]  # sent, never followed
            folders[:] = [d for d in folders if d not in NEVER and d not in links]
            base = Path(folder).relative_to(root)
            yield from ((base / f).as_posix() for f in (*files, *links))


def _ignored(root: Path) -> Callable[[str], bool]:
    path = root / IGNORE_FILE
    if not path.exists():
        return lambda name: False
    import pathspec

    spec = pathspec.PathSpec.from_lines("gitignore", path.read_text().splitlines())
    return spec.match_file


def _sending(path: Path, to: str) -> Sending:
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return Sending(to=to, link=os.readlink(path))
    if not stat.S_ISREG(info.st_mode):
        return Sending(to=to, mode=0o755)  # a submodule that is not checked out
    return Sending(to=to, mode=0o755 if info.st_mode & 0o100 else 0o644, source=path)


def _digest(files: tuple[Sending, ...]) -> tuple[str, int]:
    total, size = hashlib.sha256(), 0
    for f in files:
        what = b"link:" + os.fsencode(f.link) if f.link is not None else b"folder"
        if f.source is not None:
            with f.source.open("rb") as opened:
                what = hashlib.file_digest(opened, "sha256").digest()
            size += f.source.stat().st_size
        total.update(b"%s\0%o\0%s\0" % (os.fsencode(f.to), f.mode, what))
    return total.hexdigest()[:16], size


def _input(i: Input) -> tuple[str, Tree]:
    """NAME is the file or folder itself: what is handed over is found at $LAUNCHER_INPUT/NAME."""
    source = Path(i.path)
    if not source.exists():
        raise usage("input-missing", f"the input {i.path} is not there any more")
    if source.is_file():
        return "input", _data(i, (Sending(to=i.name or source.name, mode=0o444, source=source),))
    names = sorted(n for n in _walk(source, None) if (source / n).is_file())  # the digest counts no dead link
    files = tuple(Sending(to=name, mode=0o444, source=source / name) for name in names)
    return f"input/{i.name}" if i.name else "input", _data(i, files)


def _data(i: Input, files: tuple[Sending, ...]) -> Tree:
    return Tree(i.digest, i.digest, files, i.size, data=True)
