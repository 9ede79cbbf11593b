"""One finished version as one page that needs nothing else: no script, no outside address, light and dark.

The same version gives the same page. It has a bound: long courses are thinned, long lists are cut and say so.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from launcher import telemetry
from launcher.errors import usage
from launcher.files import Disk
from launcher.models import Choice, Json
from launcher.report import lines, panels
from launcher.report.content import Content, read
from launcher.report.lines import duration, money
from launcher.report.markup import NAME, more, number, section, table, terms, text
from launcher.report.panels import Room, signal_words
from launcher.report.versions import Version
from launcher.store import Home

SHEET = Path(__file__).parents[1] / "data" / "report.css"
LARGEST = 300_000  # bytes of a page
FIGURES, SETTINGS, FILES = 32, 80, 120
SETTING_BYTES, FILE_BYTES = 12_000, 30_000
LOG_LINES, LOG_LINE, LOG_BYTES = 200, 1000, 48_000
WHY = {
    "limit": "ended by its time limit",
    "deadline": "ended by its machine's deadline",
    "idle": "ended because nothing happened any more",
    "preempted": "ended because the machine was taken away",
    "stop": "stopped on request",
}


def page(content: Content) -> str:
    """The whole document; where it would be too large, more coarsely drawn. All but the drawings has bounds
    that leave them room."""
    room = Room()
    while len((whole := _page(content, room)).encode()) > LARGEST:
        room = room.half()
    return whole


def _page(content: Content, room: Room) -> str:
    style = SHEET.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    name = text(content.version.name)
    body = "".join(
        (
            _head(content),
            _figures(content),
            section("Curves", panels.curves(content, room)),
            section("Machine", panels.machine(content, room)),
            section("Time and money", panels.time_line(content, room)),
            section("Lineage", _lineage(content)),
            section("Settings", _settings(content)),
            section("Files", _files(content)),
            section("Log", _log(content)),
        )
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{name}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


# --- what it is ----------------------------------------------------------------------------------


def _head(content: Content) -> str:
    m = content.manifest
    state = str(m.get("state"))
    made = content.created
    parts = [
        f"run {m['run']}" if m.get("run") else "without a run",
        m.get("trainer") or "own project",
        f"{_device(m)} on {m.get('target')}",
    ]
    parts += [f"{made:%Y-%m-%d %H:%M:%S} UTC"] if made is not None else []
    tone = "good" if state == "done" else "bad"
    advice = telemetry.advice(content.samples, _used(m))
    return (
        f'<header><p class="over">{text(" · ".join(map(str, parts)))}</p>'
        f'<h1>{text(content.version.name)}<span class="state {tone}">{text(state)}</span></h1>'
        f"<p>{text(ending(content))}</p>"
        + (f'<p class="advice">{text(advice[:1].upper() + advice[1:])}.</p>' if advice else "")
        + "</header>"
    )


def _used(manifest: Json) -> str | None:
    device = manifest.get("device")
    used = device.get("used") if isinstance(device, dict) else device
    return str(used) if used is not None else None


def _device(manifest: Json) -> str:
    return lines.device_used(manifest.get("device")) or "device not told"


def ending(content: Content) -> str:
    """Why the trainer is no more, in one sentence."""
    refused = content.last("refused")
    if refused is not None:
        return f"Not started: {refused.get('message') or refused.get('why')}."
    gone = content.last("exited") or content.last("sealed") or {}
    code = gone.get("exit_code", content.manifest.get("exit_code"))
    number_, why = gone.get("signal"), gone.get("why")
    if number_ is not None:
        how = f"by signal {signal_words(number_)}"
    else:
        how = f"with status {code}" if code is not None else "in a way nobody saw"
    if why is not None:
        return f"The trainer was {WHY.get(str(why), f'ended: {why}')}, and left {how}."
    return f"The trainer ended {how}."


def _figures(content: Content) -> str:
    m = content.manifest
    seconds, usd = m.get("seconds"), m.get("usd")
    rows = [("time", duration(seconds))] if isinstance(seconds, int | float) else []
    rows += [("cost", money(usd))] if isinstance(usd, int | float) else []
    metrics = content.version.metrics
    rows += [(name, number(value)) for name, value in list(metrics.items())[:FIGURES]]
    body = "".join(f"<div><dt>{text(k, NAME)}</dt><dd>{text(v)}</dd></div>" for k, v in rows)
    return f'<dl class="figures">{body}</dl>{more(FIGURES, len(metrics), "result.json")}' if body else ""


# --- where it comes from -------------------------------------------------------------------------


def _lineage(content: Content) -> str:
    m = content.manifest
    code, runtime = _mapping(m.get("code")), _mapping(m.get("runtime"))
    tree = {"yes": "with changes that were not committed", "no": "as committed"}
    rows = [
        ("run", m.get("run")),
        ("trainer", m.get("trainer") or "own project"),
        ("command", _words(m.get("command"))),
        ("git commit", code.get("commit") or "none: not in a git folder"),
        ("its files", tree.get(str(code.get("dirty")), code.get("dirty"))),
        ("pushed", m.get("pushed")),
        ("runtime", " ".join(str(x) for x in runtime.values() if x is not None)),
        ("seed", m.get("seed")),
        *((f"input {name}", digest) for name, digest in list(_mapping(m.get("inputs")).items())[:20]),
        ("secrets", ", ".join(map(str, m["secrets"])) if isinstance(m.get("secrets"), list) else None),
        ("profile", m.get("profile")),
        ("target", m.get("target")),
        ("instance", m.get("instance")),
        ("device", _device(m)),
        *_price(content),
        ("sealed list", m.get("sealed")),
    ]
    return terms(rows)


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else ""


def _price(content: Content) -> Iterator[tuple[str, str]]:
    """What it was asked to cost, and how old that word was when it was believed."""
    choice, plan = content.choice, content.plan
    if choice is None:
        return
    offer = choice.offer
    as_of, planned = offer.price_as_of, plan.created_at if plan is not None else None
    of = f" of {as_of:%Y-%m-%d}" if as_of else ""
    old = f", {age(planned - as_of)} old when planned" if as_of and planned else ""
    yield "price", f"{money(offer.usd_per_hour)}/h ({offer.price_source}{of}{old})"
    yield "offer", offer.id
    if offer.bills:
        yield "expected", _expected(choice)
    if plan is not None and plan.limits.max_cost is not None:
        yield "ceiling", money(plan.limits.max_cost)


def _expected(choice: Choice) -> str:
    low, likely, high = (money(max(Decimal(0), x)) for x in vars(choice.estimate.usd).values())
    return f"{likely} likely, {low} to {high}"


def age(span: timedelta) -> str:
    return f"{span.days} days" if span.days >= 2 else f"{max(0.0, span.total_seconds()) / 3600:.0f} h"


def _settings(content: Content) -> str:
    rows = list(_mapping(content.manifest.get("settings")).items())
    shown = rows[:SETTINGS]
    return table(("setting", "value"), shown, ("", ""), SETTING_BYTES) + more(
        len(shown), len(rows), "manifest.json"
    )


def _files(content: Content) -> str:
    """As they were sealed; `models verify` looks whether they still are."""
    said = content.manifest.get("files")
    files = [f for f in said if isinstance(f, dict)] if isinstance(said, list) else []
    rows = [(f.get("path"), _size(f.get("size")), f.get("sha256")) for f in files]
    total = sum(size for f in files if isinstance(size := f.get("size"), int))
    out = content.manifest.get("left_out")
    left = f" Left out: {', '.join(map(str, out))}." if isinstance(out, list) and out else ""
    return (
        (f'<p class="aside">{len(files):,} files, {total:,} bytes, as they were sealed.{text(left)}</p>')
        + table(("path", "bytes", "sha256"), rows[:FILES], ("", "n", "m"), FILE_BYTES)
        + more(min(FILES, len(rows)), len(rows), "manifest.json")
        if files
        else ""
    )


def _size(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _log(content: Content) -> str:
    """The end of what was printed."""
    rows: list[str] = []
    room = LOG_BYTES
    for line in reversed(content.log[-LOG_LINES:]):
        escaped = text(line, LOG_LINE)
        room -= len(escaped.encode()) + 1
        if room < 0:
            break
        rows.append(escaped)
    if not rows:
        return ""
    body = "\n".join(reversed(rows))
    return f'<p class="aside">The last {len(rows)} lines.</p><pre>{body}</pre>'


# --- where it goes -------------------------------------------------------------------------------


def save(version: Version, home: Home | None, out: Path | None, here: Path) -> Path:
    """Written beside the caller, never into what is sealed. Returns the file."""
    place = here / (out if out is not None else f"{version.name}.html")
    if place.is_dir():
        place /= f"{version.name}.html"
    if version.path.resolve() in place.resolve().parents:
        raise usage(
            "report-inside",
            f"{place} lies in the version itself, which is sealed",
            hint=f"models report {version.name}",
        )
    try:
        Disk().write(place, page(read(version, home)).encode("utf-8"), 0o644)
    except OSError as e:
        raise usage(
            "report-unwritable",
            f"{place} cannot be written: {e.strerror}",
            hint=f"models report {version.name} --out FILE",
        ) from e
    return place
