"""doctor: what works here, the line that mends what does not, and what was left behind."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime

import click

from launcher import strays, together
from launcher.cli import show
from launcher.cli.here import home, json_option
from launcher.cli.live import harmless
from launcher.errors import Exit, LauncherError, usage
from launcher.models import Resource, ResourceState
from launcher.providers import registry
from launcher.providers.base import Check, Provider
from launcher.report import documents
from launcher.report.view import by_age
from launcher.store import Home

LEAST_FREE_GB = 2.0
WITHIN_S = 15.0


@click.command("doctor")
@click.option("--end-orphans", is_flag=True, help="End what no run needs any more.")
@click.option("--all-owners", is_flag=True, help="Also what another data folder left past its end of life.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def command(end_orphans: bool, all_owners: bool, yes: bool, as_json: bool) -> None:
    """What works here and what to type where it does not; strays, and their end."""
    place = home()
    providers = [registry.load(name, place) for name in registry.targets(place)]
    checks = [*_here(place), *_checks(providers)]
    damaged: list[Check] = []
    views = by_age(place, lambda name, e: damaged.append(Check(f"run {name}", False, e.message, _mend(e))))
    rented = strays.rented_on(view.state for view in views)
    checks += damaged

    def known() -> frozenset[str]:
        return strays.wanted(view.state for view in by_age(place, lambda name, e: None))

    sweep = strays.sweep(providers, place.owner(), known, datetime.now(UTC), rented)
    if as_json:
        _document(checks, sweep)
    else:
        _page(checks, sweep)
    if end_orphans:
        _end(providers, sweep, all_owners, yes)


def _checks(providers: list[Provider]) -> list[Check]:
    """Side by side: a host that is down keeps nobody waiting for the others."""
    answers = together.ask({p.name: p.check for p in providers}, WITHIN_S)
    found: list[Check] = []
    for name, answer in answers.items():
        if isinstance(answer, tuple):
            found += answer
        elif isinstance(answer, ImportError):
            fix = f"pip install 'launcher[{name.partition(':')[0]}]'"
            found.append(Check(name, False, f"the Python package {answer.name} is not installed", fix))
        else:
            found.append(Check(name, False, str(answer), None))
    return found


def _here(place: Home) -> list[Check]:
    free = shutil.disk_usage(place.root).free / 1e9
    git = shutil.which("git")
    return [
        Check("python", True, f"{sys.version.split()[0]}"),
        Check("git", git is not None, git or "missing", None if git else "apt-get install git"),
        Check(
            "data folder",
            free > LEAST_FREE_GB,
            f"{place.root}, {free:.0f} GB free",
            None if free > LEAST_FREE_GB else "free some space, or LAUNCHER_HOME=<a folder on a larger disk>",
        ),
    ]


def _mend(e: LauncherError) -> str:
    return f"see docs/errors.md#{e.code}"


def _document(checks: list[Check], sweep: strays.Sweep) -> None:
    show.json(
        {
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "fix": c.fix} for c in checks]
            + [
                {"name": f"ask {name}", "ok": False, "detail": why, "fix": "see above"}
                for name, why in sweep.silent
            ],
            "orphans": [
                {
                    "target": s.target,
                    "instance": s.resource.id,
                    "kind": s.resource.kind,
                    "usd_per_hour": documents.usd(s.resource.usd_per_hour),
                    "since": documents.time(s.resource.created_at),
                    "owner": s.resource.owner,
                    "run": s.resource.run,
                    "why": s.why,
                }
                for s in sweep.strays
            ],
        }
    )


def _page(checks: list[Check], sweep: strays.Sweep) -> None:
    for c in checks:
        print(f"{'ok  ' if c.ok else 'no  '} {c.name}: {harmless(c.detail)}")
        if not c.ok and c.fix and c.fix not in c.detail:
            print(f"       mend: {c.fix}")
    said = {c.detail for c in checks}
    for name, why in sweep.silent:
        print(f"no   {name} could not be asked what it runs{'' if why in said else f': {harmless(why)}'}")
    for target, r in sweep.needed:
        print(harmless(f"in use: {target} {r.kind} {r.id} of {r.run}{_costs(r)}"))
    if not sweep.strays:
        print("nothing was left behind" if not sweep.silent else "nothing was left behind where we could ask")
    for s in sweep.strays:
        r = s.resource
        whose = "ours" if s.ours else f"owner {r.owner}"
        told = f"left behind: {s.target} {r.kind} {r.id} of {r.run} ({whose}): {s.why}{_costs(r)}"
        print(harmless(told))
    if sweep.strays:
        from launcher.cli.prog import prog

        flags = "--end-orphans" if any(s.ours for s in sweep.strays) else "--end-orphans --all-owners"
        print(f"end them: {prog()} doctor {flags}")


def _costs(r: Resource) -> str:
    """What stops being billed when it is ended."""
    if not r.usd_per_hour:
        return ""
    if r.state is ResourceState.STOPPED:
        return f", stopped, ${r.usd_per_hour * 24:.2f}/day of storage"
    return f", ${r.usd_per_hour:.2f}/h"


def _end(providers: list[Provider], sweep: strays.Sweep, all_owners: bool, yes: bool) -> None:
    if not sweep.strays:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise usage(
                "needs-yes", "ending strays without a terminal needs --yes", hint="doctor --end-orphans --yes"
            )
        click.confirm(f"end {len(sweep.strays)} of them?", abort=True, err=True)
    ended, failed = strays.end(providers, sweep.strays, all_owners=all_owners)
    for id in ended:
        print(harmless(f"asked to end: {id}"), file=sys.stderr)
    if failed:
        raise LauncherError(
            "not-ended",
            f"{len(failed)} could not be ended",
            exit=Exit.MAYBE_BILLING,
            details=tuple(failed),
            hint="doctor",
            billed=", ".join(f.split(":")[0] for f in failed),
        )
