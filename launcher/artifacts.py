"""Finished versions: what the agent vouched for becomes a folder that is whole or not there.

Everything is gathered beside (`models/.partial.<run>`), hashed while it is copied, synced, and made
visible by one rename. `manifest.json` is part of that rename, so a folder that is seen is complete.
Models are bytes here: nothing of them is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from launcher.agent.names import NAME_BYTES, can_be_kept, kept_as
from launcher.codec import foreign_json, to_the_second
from launcher.errors import Corrupt
from launcher.files import Files
from launcher.models import Json, Plan
from launcher.remote.base import Listed
from launcher.store import Versions

OWN = ".launcher"
MANIFEST = "manifest.json"


def parse_sealed(data: bytes, digest: str) -> tuple[Listed, ...]:
    """The sealed list, believed only when it is the one that was announced."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt("the sealed list is not the one that was announced")
    try:
        listed = tuple(_listed(f) for f in json.loads(data)["files"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
        raise Corrupt(f"the sealed list is none: {e!r}") from e
    for f in listed:
        if reserved(f.path):
            raise Corrupt(f"the output holds {f.path}, a name that is reserved")
    return listed


def reserved(path: str) -> bool:
    """Names of ours, which no output may use."""
    return path == MANIFEST or path.split("/", maxsplit=1)[0] == OWN


def as_kept(found: Iterable[Listed]) -> tuple[Listed, ...]:
    """What a host holds, each under a name that can be kept here, in folders as they are there."""
    listed = list(found)
    inside: dict[str, set[str]] = {}
    for f in listed:
        folder = ""
        for part in f.path.split("/"):
            inside.setdefault(folder, set()).add(part)
            folder = f"{folder}{part}/"
    called = {folder: _called(parts) for folder, parts in inside.items()}
    return tuple(replace(f, path=_path(f.path, called), source=f.path) for f in listed)


def _called(parts: set[str]) -> dict[str, str]:
    """Each by a name of its own: one that had to be written anew gives way."""
    fresh: dict[str, str] = {}
    taken: set[str] = set()
    for raw in sorted(parts, key=lambda part: (not can_be_kept(f"x/{part}"), part)):
        name, at = kept_as(raw.encode("utf-8", "surrogateescape"), False), 1
        known = name
        while known.decode() in taken:
            at += 1
            known = name[: NAME_BYTES - 8].decode("utf-8", "ignore").encode() + f"%{at}".encode()
        fresh[raw] = known.decode()
        taken.add(fresh[raw])
    return fresh


def _path(raw: str, called: Mapping[str, Mapping[str, str]]) -> str:
    path, folder = [], ""
    for part in raw.split("/"):
        path.append(called[folder][part])
        folder = f"{folder}{part}/"
    return "/".join(path)


def output_of(plan: Plan, pushed: str | None) -> str:
    """Where the trainer's output lies on its host."""
    return f"project/{pushed}/{plan.job.output}" if plan.job.output else "output"


def _listed(entry: Json) -> Listed:
    return Listed(str(entry["path"]), int(entry["size"]), str(entry["sha256"]))


def drop_unlisted(files: Files, partial: Path, listed: tuple[Listed, ...]) -> None:
    """What an earlier list, or a half-done pull, left behind must not become part of this version, nor stand
    where one of its files or folders has to be."""
    wanted = {f.path for f in listed}
    folders = {str(above) for path in wanted for above in PurePosixPath(path).parents}

    def clear(below: str) -> None:
        for name in files.names(partial / below):
            path = f"{below}/{name}" if below else name
            is_folder = files.is_folder(partial / path)
            if path in folders and is_folder:
                clear(path)
            elif path not in wanted or is_folder:
                files.remove(partial / path)

    clear("")


def manifest(files: tuple[Listed, ...], facts: Mapping[str, object]) -> bytes:
    body = {
        "schema": 1,
        "files": [
            {"path": f.path, "size": f.size, "sha256": f.sha256} for f in sorted(files, key=lambda f: f.path)
        ],
        **facts,
    }
    # An argument may be bytes that were no text: their stand-ins are written as JSON's own escapes.
    text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def add_own(files: Files, partial: Path, own: Mapping[str, bytes]) -> tuple[Listed, ...]:
    """Our own files (plan, log, telemetry) beside the output, under a name that output may not use."""
    files.make_folder(partial / OWN, private=False)
    for name, data in own.items():
        files.write(partial / OWN / name, data, 0o644)
    return tuple(
        Listed(f"{OWN}/{name}", len(data), hashlib.sha256(data).hexdigest()) for name, data in own.items()
    )


def finish(
    files: Files, versions: Versions, partial: Path, names: Callable[[int], str], manifest: bytes
) -> str:
    """Sync, then one rename under the first free name. Returns the name taken."""
    files.write(partial / MANIFEST, manifest, 0o644)
    files.sync_tree(partial)
    for k in range(1, 1000):
        name = names(k)
        try:
            files.move(partial, versions.version(name))
        except OSError:
            if not files.exists(versions.version(name)):
                raise
            continue  # taken, perhaps this very moment by a run that finishes together with us
        return name
    raise FileExistsError("a thousand versions of this name exist")


def point_latest(files: Files, versions: Versions, name: str, run: str | None, at: datetime) -> None:
    """`run`: None where a trainer made the version without one."""
    body = {"version": name, "run": run, "at": to_the_second(at)}
    files.write(versions.latest, (json.dumps(body) + "\n").encode(), 0o644)


def version_of(files: Files, versions: Versions, run: str, digest: str, instance: str | None) -> str | None:
    """The version that this run made of this machine's sealed list already: we may have died right after the
    rename. Another machine of the run may have sealed the very same list."""
    for name in reversed(files.names(versions.root)):
        if name.startswith(".") or not files.exists(versions.manifest(name)):
            continue
        found = read_manifest(files, versions, name)
        if (found.get("run"), found.get("sealed"), found.get("instance")) == (run, digest, instance):
            return name
    return None


def read_manifest(files: Files, versions: Versions, name: str) -> Json:
    """Empty when it is not one: a stranger's folder among the versions is not ours to judge."""
    try:
        value = foreign_json(files.read(versions.manifest(name)))
    except (ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def latest(files: Files, versions: Versions) -> str | None:
    try:
        value = json.loads(files.read(versions.latest))
    except (ValueError, OSError):
        return None
    return str(value["version"]) if isinstance(value, dict) and "version" in value else None


@dataclass(frozen=True)
class Fault:
    path: str
    what: str


def verify(folder: Path) -> tuple[Fault, ...]:
    """Every file against the manifest, by size and sha256, and nothing besides. Empty = sound."""
    try:
        listed = {f.path: f for f in map(_listed, json.loads((folder / MANIFEST).read_bytes())["files"])}
    except (OSError, ValueError, KeyError, TypeError) as e:
        return (Fault(MANIFEST, f"cannot be read: {e}"),)
    faults: list[Fault] = []
    here = {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()
    } - {MANIFEST}
    faults += [Fault(path, "is not in the manifest") for path in sorted(here - listed.keys())]
    for path in sorted(listed):
        faults += _check(folder / path, listed[path]) if path in here else [Fault(path, "is missing")]
    return tuple(faults)


def _check(file: Path, entry: Listed) -> list[Fault]:
    if file.is_symlink() or not file.is_file():
        return [Fault(entry.path, "is not a plain file")]
    size = file.stat().st_size
    if size != entry.size:
        return [Fault(entry.path, f"has {size} bytes instead of {entry.size}")]
    with file.open("rb") as f:
        if hashlib.file_digest(f, "sha256").hexdigest() != entry.sha256:
            return [Fault(entry.path, "has other contents")]
    return []
