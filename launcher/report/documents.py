"""What `--json` says: money in USD as a number, time in ISO 8601 with Z, what is not known as null."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

from launcher.codec import foreign_json, parse_iso, to_the_second
from launcher.models import Json
from launcher.report import lines, moving
from launcher.report.view import RunView
from launcher.runstate import Attempt
from launcher.telemetry import Sample


def time(at: datetime | None) -> str | None:
    return to_the_second(at) if at is not None else None


def when(written: str | None) -> datetime | None:
    return parse_iso(written) if written is not None else None


def usd(amount: Decimal | None) -> float | None:
    return float(round(amount, 6)) if amount is not None else None


def manifest(view: RunView) -> Json:
    if view.state.version_path is None:
        return {}
    try:
        value = foreign_json((Path(view.state.version_path) / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def run(view: RunView, now: datetime) -> Json:
    """`run --json`, `resume --json`."""
    s = view.state
    a = s.attempt
    return {
        "run": view.plan.run,
        "version": s.version,
        "state": view.shown(now).value,
        "exit_code": s.sealed.exit_code if s.sealed is not None else None,
        "target": view.offer.target,
        "instance": a.instance if a is not None else None,
        "device": manifest(view).get("device"),
        "usd": usd(view.usd(now)),
        "seconds": view.seconds(now),
        "artifacts": s.version_path,
    }


def row(view: RunView, now: datetime) -> Json:
    """One line of `ps --json`."""
    a = view.state.attempt
    return {
        "run": view.plan.run,
        "state": view.shown(now).value,
        "target": view.offer.target,
        "instance": a.instance if a is not None else None,
        "usd": usd(view.usd(now)),
        "usd_per_hour": usd(_rate(a)),
        "started": time(view.state.started_at),
        "deadline": time(view.live.d) if view.live is not None else None,
    }


def _rate(a: Attempt | None) -> Decimal:
    """What runs up now: a machine, or the disk of one that sleeps."""
    if a is None:
        return Decimal(0)
    return a.usd_per_hour if a.open else a.storage_usd_per_hour if a.asleep else Decimal(0)


def status(view: RunView, now: datetime) -> Json:
    a, live = view.state.attempt, view.live
    return {
        **row(view, now),
        "version": view.state.version,
        "artifacts": view.state.version_path,
        "why": view.why(),
        "tried": lines.tried(view),
        "storage_usd_per_day": usd(lines.storage(view)),
        "billed_usd": usd(view.state.billed),
        "warnings": list(view.warnings()),
        "telemetry": sample(view.sample()),
        "silent_s": view.silent_s(now),
        "transfer": moving.document(moving.now_of(view), now),
        "guard": {
            "armed": bool(live is not None and live.armed),
            "deadline": time(live.d) if live is not None else None,
            "layers": list(a.armed) if a is not None else [],
        },
    }


def sample(s: Sample | None) -> Json | None:
    if s is None:
        return None
    gpus = [
        {
            "name": g.name,
            "util": g.util,
            "mem_used_gb": g.mem_used_gb,
            "mem_gb": g.mem_gb,
            "power_w": g.power_w,
            "temp_c": g.temp_c,
            **({"mig": g.mig} if g.mig is not None else {}),
        }
        for g in s.gpu
    ]
    return {
        "at": s.at,
        "gpu": gpus,
        "cpu": s.cpu,
        "ram_gb": s.ram_used_gb,
        "rss_gb": s.rss_gb,
        "disk_free_gb": s.disk_free_gb,
        "step": s.step,
        "metrics": s.metrics,
    }
