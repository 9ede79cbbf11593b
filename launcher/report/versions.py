"""Finished versions as a person compares them: what each is, and what changed from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher import artifacts
from launcher.errors import usage
from launcher.files import Disk
from launcher.models import Json
from launcher.store import Versions

EVENTS = "*tfevents*"


@dataclass(frozen=True)
class Version:
    name: str
    path: Path
    manifest: Json
    latest: bool

    @property
    def metrics(self) -> dict[str, float]:
        """Those that are numbers; the trainer's own words may hold anything."""
        return metrics(self.manifest)


def metrics(manifest: Json) -> dict[str, float]:
    said = manifest.get("metrics")
    items = said.items() if isinstance(said, dict) else ()
    return {str(k): float(x) for k, x in items if isinstance(x, int | float) and not isinstance(x, bool)}


def all_of(versions: Versions) -> tuple[Version, ...]:
    """Oldest first by the time of their making. Folders without a readable manifest are not versions."""
    disk = Disk()
    newest = artifacts.latest(disk, versions)
    found = [
        Version(name, versions.version(name), body, name == newest)
        for name in disk.names(versions.root)
        if not name.startswith(".") and (body := artifacts.read_manifest(disk, versions, name))
    ]
    return tuple(sorted(found, key=lambda v: (str(v.manifest.get("created")), v.name)))


def has_events(folder: Path) -> bool:
    """Whether TensorBoard has anything to show of a version."""
    return any(folder.rglob(EVENTS))


def look(name: str, folder: Path) -> str:
    """The command that shows a version's curves."""
    return f"open {name} tensorboard" if has_events(folder) else f"models report {name}"


def find(versions: Versions, wanted: str | None) -> Version:
    """By name, unique prefix, or `latest`; left out = latest, or the newest where none is latest."""
    known = all_of(versions)
    if not known:
        raise usage("no-version", f"there is no version in {versions.root} yet", hint="run")
    if wanted in (None, "latest"):
        return next((v for v in known if v.latest), known[-1])
    assert wanted is not None
    hits = [v for v in known if v.name == wanted] or [v for v in known if v.name.startswith(wanted)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise usage(
            "ambiguous-version", f"{wanted!r} could be {', '.join(v.name for v in hits[:5])}", hint="models"
        )
    from launcher.values import did_you_mean

    raise usage(
        "unknown-version",
        f"there is no version {wanted!r}{did_you_mean(wanted, [v.name for v in known])}",
        hint="models",
    )


@dataclass(frozen=True)
class Change:
    what: str
    before: object
    after: object


def diff(a: Version, b: Version) -> tuple[Change, ...]:
    """Settings, metrics, code, data, device, time and dollars: only what differs."""
    changes: list[Change] = []
    for key in ("trainer", "command", "target", "device", "pushed", "seed", "exit_code", "seconds", "usd"):
        changes += _changed(key, a.manifest.get(key), b.manifest.get(key))
    for group in ("settings", "inputs", "code", "runtime", "metrics", "judged"):
        before, after = _mapping(a.manifest.get(group)), _mapping(b.manifest.get(group))
        for key in sorted({*before, *after}):
            changes += _changed(f"{group}.{key}", before.get(key), after.get(key))
    return tuple(changes)


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _changed(what: str, before: object, after: object) -> list[Change]:
    return [Change(what, before, after)] if before != after else []
