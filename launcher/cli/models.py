"""models: the finished versions of this project."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from launcher import artifacts, judging
from launcher.cli import show
from launcher.cli.here import home, json_option, project
from launcher.cli.live import harmless
from launcher.errors import Exit, LauncherError, usage
from launcher.files import Disk
from launcher.judging import Verdict
from launcher.models import Json
from launcher.report import moving, versions
from launcher.report.lines import device_used, duration, money
from launcher.report.versions import Version
from launcher.store import Versions

SHOWN = {"seconds": "took", "usd": "cost", "exit_code": "status"}
CHOOSING_S = 10


@click.group("models", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Versions of this project: list, show, diff, verify, promote, report."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


def _versions() -> Versions:
    return Versions(project()).usable(to_write=False)


def _argument(name: str, *, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.argument(name, required=required)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Every version, oldest first; below them what came home of lost machines and is none."""
    found = versions.all_of(_versions())
    if as_json:
        show.json([_row(v) for v in found])
        return
    if found:
        _table(found)
    else:
        print(f"no versions in {_versions().root} yet")
    for line in _left_over():
        print(line)


def _table(found: Sequence[Version]) -> None:
    rows = [
        (
            v.name + (" (latest)" if v.latest else ""),
            str(v.manifest.get("run") or "-"),
            str(v.manifest.get("state")),
            device_used(v.manifest.get("device")) or "-",
            duration(float(v.manifest.get("seconds") or 0)),
            money(float(v.manifest.get("usd") or 0)),
            " ".join(f"{k}={x:.4g}" for k, x in v.metrics.items()),
        )
        for v in found
    ]
    show.table(("version", "run", "state", "device", "took", "cost", "metrics"), rows)


def _left_over() -> Iterator[str]:
    """Nothing else lists these folders, nor takes them away."""
    left = moving.left_over(_versions(), home())
    if left:
        yield "\nwhat came home of machines that were lost, and is no version; to be rid of one:"
    for one in left:
        yield f"  rm -r {harmless(shlex.quote(os.path.relpath(one.folder)))}    # {one.words}"


def _row(v: Version) -> Json:
    """`verified` is the state at the time of the pull: `models verify` looks again."""
    return {
        "version": v.name,
        "run": v.manifest.get("run"),
        "created": v.manifest.get("created"),
        "verified": True,
        "metrics": v.manifest.get("metrics"),
        "latest": v.latest,
    }


@command.command("show")
@_argument("version", required=False)
@json_option
def show_(version: str | None, as_json: bool) -> None:
    """One version with its lineage and files."""
    v = versions.find(_versions(), version)
    if as_json:
        show.json({**v.manifest, "version": v.name, "path": str(v.path), "latest": v.latest})
        return
    print(f"{v.name}{'  (latest)' if v.latest else ''}\n  path      {v.path}")
    for key, value in v.manifest.items():
        if key in ("files", "schema") or value in (None, {}, []):
            continue
        print(f"  {harmless(SHOWN.get(key, key)):<9} {harmless(_told(key, value))}")
    for f in v.manifest["files"]:
        print(f"  {f['sha256'][:12]}  {f['size']:>10}  {harmless(f['path'])}")


def _told(key: str, value: Any) -> str:
    """A word of the manifest as a person says it; --json has it as it is."""
    if key == "command":
        return shlex.join(map(str, value))
    if key in ("seconds", "usd"):
        return duration(float(value)) if key == "seconds" else money(float(value))
    if isinstance(value, dict):
        return "  ".join(f"{k}={_text(x)}" for k, x in value.items() if x not in (None, {}, []))
    return _text(value)


@command.command("diff")
@_argument("a", required=True)
@_argument("b", required=False)
@json_option
def diff(a: str, b: str | None, as_json: bool) -> None:
    """What changed from A to B (left out: latest): settings, metrics, time, dollars."""
    place = _versions()
    first, second = versions.find(place, a), versions.find(place, b)
    changes = versions.diff(first, second)
    if as_json:
        show.json([{"what": c.what, "before": c.before, "after": c.after} for c in changes])
        return
    if not changes:
        print(f"{first.name} and {second.name} do not differ")
        return
    show.table(
        ("what", first.name, second.name), [(c.what, _text(c.before), _text(c.after)) for c in changes]
    )


def _text(value: object) -> str:
    if value is None:
        return "-"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@command.command("verify")
@_argument("version", required=False)
@json_option
def verify(version: str | None, as_json: bool) -> None:
    """Read every file again and hold it against the manifest."""
    v = versions.find(_versions(), version)
    faults = artifacts.verify(v.path)
    if as_json:
        faulty = [{"path": f.path, "what": f.what} for f in faults]
        show.json({"version": v.name, "ok": not faults, "files": len(v.manifest["files"]), "faults": faulty})
    elif not faults:
        print(f"{v.name}: {len(v.manifest['files'])} files, all as they were sealed")
    if faults:
        raise LauncherError(
            "version-damaged",
            f"{v.name} is not what was sealed",
            exit=Exit.PROVIDER,
            details=tuple(f"{f.path} {f.what}" for f in faults),
            hint=f"rerun {v.manifest['run']}" if v.manifest.get("run") else None,
        )


@command.command("promote")
@_argument("version", required=True)
@click.option("--force", is_flag=True, help="Even one that did not end well, or does not beat latest.")
def promote(version: str, force: bool) -> None:
    """Point latest at VERSION, once it is verified and beats the current one on the same hold-out. Versions
    whose trainer names no hold-out are not compared."""
    place = _versions()
    v = versions.find(place, version)
    faults = artifacts.verify(v.path)
    if faults:
        raise LauncherError(
            "version-damaged",
            f"{v.name} is not what was sealed, latest stays where it is",
            exit=Exit.PROVIDER,
            details=tuple(f"{f.path} {f.what}" for f in faults),
            hint=f"models verify {v.name}",
        )
    if v.manifest.get("state") != "done" and not force:
        raise LauncherError(
            "not-done",
            f"{v.name} is of a run that ended as {v.manifest.get('state')!r}",
            exit=Exit.USAGE,
            hint=f"models promote {v.name} --force",
        )
    with _choosing(place, v.name):
        champion = next((one for one in versions.all_of(place) if one.latest), None)
        lines = _challenged(v, champion, force) if champion is not None and champion.name != v.name else ()
        artifacts.point_latest(Disk(), place, v.name, v.manifest.get("run"), datetime.now(UTC))
    print("\n".join([f"latest is {v.name}", *(f"  {harmless(line)}" for line in lines)]), file=sys.stderr)


@contextmanager
def _choosing(place: Versions, name: str) -> Iterator[None]:
    """A run that ends just now may be at it."""
    until = time.monotonic() + CHOOSING_S
    while (held := Disk().lock(place.choosing, "models promote")) is None:
        if time.monotonic() > until:
            raise LauncherError(
                "latest-held",
                f"somebody has been choosing the latest version for {CHOOSING_S} s:"
                f" {place.choosing.read_text(errors='replace')}",
                exit=Exit.PROVIDER,
                hint=f"models promote {name}",
            )
        time.sleep(0.05)  # held for one comparison; its release tells nobody
    try:
        yield
    finally:
        held.release()


def _challenged(v: Version, champion: Version, force: bool) -> tuple[str, ...]:
    """The figures of both; raises where the challenger does not beat the champion and nobody insists."""
    duel = judging.duel(v.manifest, champion.manifest)
    if force or duel.verdict in (Verdict.BETTER, Verdict.UNJUDGED):
        return duel.lines
    hint = f"models promote {v.name} --force"
    if duel.verdict is Verdict.UNLIKE:
        what = f"{v.name} cannot be compared with {champion.name}, latest stays there"
        raise usage("not-comparable", what, details=duel.lines, hint=hint)
    what = f"{v.name} does not beat {champion.name}, latest stays there"
    raise usage("not-better", what, details=duel.lines, hint=hint)


@command.command("report")
@_argument("version", required=False)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to; else <version>.html.")
@click.option("--open", "and_open", is_flag=True, help="Show it in the browser.")
def report(version: str | None, out: Path | None, and_open: bool) -> None:
    """One version as one HTML page that needs nothing else: curves, load, cost, lineage, files, log."""
    import webbrowser

    from launcher.report import page

    place = page.save(versions.find(_versions(), version), home(), out, project())
    print(place)
    if and_open and not webbrowser.open(place.absolute().as_uri()):
        print("warning: no browser was found to open it with", file=sys.stderr)
