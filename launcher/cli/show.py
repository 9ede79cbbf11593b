"""What a person sees: tables, plans, errors, cards. The only file that knows the drawing library, and only
inside functions, so that scripts and quick commands never pay for it.

On a terminal things are drawn; into a pipe go full values, tab-separated. Texts of users, jobs and
providers are data, never markup, and cannot move the cursor.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from launcher import catalogue
from launcher.ask import Decision
from launcher.cli.live import harmless
from launcher.cli.prog import prog
from launcher.errors import LauncherError
from launcher.guard import MILL, usd
from launcher.models import Choice, Json, Offer, Range
from launcher.report import moving
from launcher.report.lines import clock, duration
from launcher.values import written_duration

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.pushset import Outlook

__all__ = ["card", "document", "error", "json", "plan", "question", "table", "tinted", "warning"]

DOCS = "docs/errors.md"
SHORT_S = 120
GAP = 2  # blanks between two columns
LEAST_LAST = 18  # what the last column is broken down to, at words, before each row becomes a text
Row = Sequence[str]
IN_A_LINE = 3


# --- drawing -------------------------------------------------------------------------------------


def drawn(stream: TextIO) -> bool:
    """Whether a person looks at it through something that can draw."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO) -> bool:
    return drawn(stream) and not os.environ.get("NO_COLOR")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, no_color=not coloured(stream), soft_wrap=True)


def _bold(text: str, stream: TextIO, colour: str = "") -> str:
    return f"\x1b[1{colour}m{text}\x1b[0m" if coloured(stream) else text


def tinted(text: str, stream: TextIO, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if text and coloured(stream) else text


def table(columns: Row, rows: Sequence[Row]) -> None:
    """Drawn on a terminal; else full values, tab-separated, the columns' names first."""
    if not drawn(sys.stdout):
        for row in (columns, *rows):
            print("\t".join(harmless(cell).replace("\t", " ") for cell in row))
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = [max(cell_len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]
    last = _console(sys.stdout).width - sum(widths[:-1]) - GAP * len(widths)
    if last < min(widths[-1], max(LEAST_LAST, *_longest_words(row[-1] for row in (columns, *rows)))):
        _narrow(columns, rows)
        return
    picture = Table(
        box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim" if coloured(sys.stdout) else ""
    )
    for name in columns:
        picture.add_column(
            Text(name),
            justify="right" if name.startswith("$") else "left",
            overflow="fold",
            no_wrap=name != columns[-1],
        )
    for row in rows:
        picture.add_row(*(Text(harmless(cell)) for cell in row))
    _console(sys.stdout).print(picture, soft_wrap=False)


def _longest_words(cells: Iterable[str]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, cell.split()), default=0) for cell in cells]


def _narrow(columns: Row, rows: Sequence[Row]) -> None:
    """Where the columns do not fit side by side: each cell whole, after its name. Names can be copied."""
    from rich.cells import cell_len

    width = _console(sys.stdout).width
    for row in rows:
        line = ""
        for name, cell in zip(columns, map(harmless, row), strict=True):
            if cell in ("", "-"):
                continue
            word = f"{name} {cell}".strip()
            longer = f"{line} · {word}" if line.strip() else line + word
            if line.strip() and cell_len(longer) > width:
                print(line)
                longer = f"    {word}"
            line = longer
        print(line)


def card(title: str, rows: Sequence[tuple[str, str]], *, good: bool = True) -> None:
    """A title and labelled values: how a run ended."""
    width = max((len(name) for name, _ in rows), default=0)
    print(_bold(harmless(title), sys.stdout, ";32" if good else ";31"))
    for name, value in rows:
        first, *more = harmless_lines(value)
        print(f"  {name:<{width}}  {first}")
        for line in more:
            print(f"  {'':<{width}}  {line}")


def harmless_lines(text: str) -> list[str]:
    return [harmless(line) for line in text.splitlines()] or [""]


def json(value: Any) -> None:
    """One document on stdout: money as numbers, times with Z, unknown as null."""
    text = jsonlib.dumps(plain(value), ensure_ascii=False, allow_nan=False)
    print(text.encode("utf-8", "backslashreplace").decode())  # bytes that were no text, as JSON's own escapes


def plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def iso(at: datetime) -> str:
    from datetime import UTC

    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def warning(text: str) -> None:
    print(f"{_bold('warning:', sys.stderr, ';33')} {harmless(text)}", file=sys.stderr)


def _docs() -> str:
    """The page where it lies: from the checkout's own folder as one writes it, else in full."""
    from launcher.bundled import own_root

    page = own_root() / DOCS
    return DOCS if not page.exists() or page.parents[1] == Path.cwd() else str(page)


def error(e: LauncherError) -> None:
    """A small page: code, what happened, what is still billed, one line to paste, where to read more."""
    details = [text for text in e.details if text not in e.message]
    lines = [line for text in (e.message, *details) for line in harmless_lines(text)]
    lines.append(f"still billed: {harmless(e.billed)}")
    if e.hint:
        lines.append(f"hint: {prog()} {harmless(e.hint)}")
    lines.append(f"more: {_docs()}#{e.code}")
    print(f"{_bold('error:', sys.stderr, ';31')} {e.code}", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)


# --- plans ---------------------------------------------------------------------------------------


def plan(decision: Decision, outlook: Outlook) -> None:
    """What would be tried, what else there is, what bounds it, what would be sent, and what was refused."""
    made, now = decision.plan, decision.plan.created_at
    table(
        ("", "on", "machine", "GPU", "$ per hour", "hours", "$ in all", "price from"),
        [_plan_row(_mark(at), choice, now) for at, choice in enumerate(made.choices)]
        + [_plan_row("", choice, now) for choice in decision.others],
    )
    if made.choices:
        print()
        _chosen(decision, made.choices[0])
        _sent(outlook)
    for refusal in made.refused:
        print(f"  not {harmless(refusal.offer)}: {harmless(refusal.reason)}")
    if decision.problem is not None:
        print(f"  run would stop here: {harmless(decision.problem.message)}")
        for detail in decision.problem.details:
            print(f"    {harmless(detail)}")
    for text in (*decision.warnings, *outlook.warnings):
        warning(text)


def _sent(outlook: Outlook) -> None:
    count = f"{outlook.files} file{'' if outlook.files == 1 else 's'}"
    print(f"  sent        {count}, {moving.size(outlook.size)}")
    biggest = [f"{harmless(name)} {moving.size(size)}" for name, size in outlook.biggest]
    for at in range(0, len(biggest), IN_A_LINE):
        start = "biggest:" if at == 0 else ""
        print(f"              {start:<9}{' · '.join(biggest[at : at + IN_A_LINE])}")
    if outlook.withheld:
        print(f"  not sent    secrets by their look: {' · '.join(map(harmless, outlook.withheld))}")


def _mark(at: int) -> str:
    return "run" if at == 0 else "else"


def _plan_row(mark: str, choice: Choice, now: datetime) -> Row:
    offer, forecast = choice.offer, choice.estimate
    count = f"{offer.gpu_count}× " if offer.gpu_count > 1 else ""
    return (
        mark,
        offer.target,
        _machine(offer) or "-",
        f"{count}{offer.gpu}" if offer.gpu else "-",
        usd(offer.usd_per_hour, MILL) if _costs(offer) else "0",
        spread(forecast.hours, hours) if forecast.known else f"at most {hours(forecast.hours.high)}",
        _money(choice),
        _origin(offer, now),
    )


def _machine(offer: Offer) -> str:
    parts = (offer.instance_type, offer.cloud, offer.region, "spot" if offer.spot else "")
    return " ".join(filter(None, parts))


def _costs(offer: Offer) -> bool:
    """A machine of the user's own may have a price as well: nobody bills it, and it counts."""
    return offer.bills or offer.usd_per_hour > 0


def _money(choice: Choice) -> str:
    if not _costs(choice.offer):
        return "0"
    money = choice.estimate.usd
    return spread(money, usd) if choice.estimate.known else f"at most {usd(money.high)}"


def _origin(offer: Offer, now: datetime) -> str:
    age = catalogue.age_words(offer.price_as_of, now)
    if offer.price_as_of is not None and offer.bills and not age:
        age = clock(offer.price_as_of, now)
    return f"{offer.price_source}, {age}" if age else offer.price_source


def spread(what: Range, word: Any) -> str:
    low, likely, high = (word(part) for part in (what.low, what.likely, what.high))
    return likely if low == high else f"{likely} ({low}–{high})"


def hours(amount: Decimal) -> str:
    """Short times in seconds and minutes: nobody reads 0.003 h."""
    seconds = int(amount * 3600)
    if seconds < SHORT_S:
        return f"{seconds} s"
    if seconds < SHORT_S * 60:
        return f"{round(seconds / 60)} min"
    return f"{amount:.1f} h"


def _chosen(decision: Decision, first: Choice) -> None:
    made, limits = decision.plan, decision.plan.limits
    print(_bold(f"{made.run}: {made.label} on {first.offer.target}", sys.stdout))
    print(f"  software    {first.runtime.why}{f' ({first.runtime.image})' if first.runtime.image else ''}")
    for line in first.estimate.lines:
        if line.hours.high or line.usd.high:
            time = spread(line.hours, hours) if line.hours.high else ""
            if line.name == "training" and not first.estimate.known:
                time = f"not known, {hours(line.hours.high)} at most"
            money = f"${spread(line.usd, usd)}" if _costs(first.offer) else ""
            print(f"  {line.name:<12}{time:<23} {money}".rstrip())
    longest = written_duration(limits.max_time_s)
    if longest.endswith("s") and limits.max_time_s >= 600:  # what a ceiling left of it is no round number
        longest = duration(limits.max_time_s)
    bounds = [f"the trainer runs {longest} at most"]
    if decision.ends_by is not None:
        bounds.append(f"everything is ended by {clock(decision.ends_by, made.created_at)}")
    bounds.append(
        f"${usd(limits.max_cost)} at most" if first.offer.bills and limits.max_cost else _free(first.offer)
    )
    print(f"  limits      {'; '.join(bounds)}")
    for about, note in decision.notes:
        print(f"  {about:<12}{harmless(note)}")


def _free(offer: Offer) -> str:
    return "it is your own, nobody bills it" if offer.usd_per_hour else "costs nothing"


def question(decision: Decision) -> str:
    """What is asked before money is spent; its figure is the ceiling."""
    made = decision.plan
    first, ceiling = made.choices[0], made.limits.max_cost or Decimal(0)
    likely = f" (likely ${usd(first.estimate.usd.likely)})" if first.estimate.known else ""
    by = f", ended by {clock(decision.ends_by, made.created_at)}" if decision.ends_by is not None else ""
    return f"Rent it for at most ${usd(ceiling)}{likely}{by}?"


def document(decision: Decision, outlook: Outlook) -> Json:
    """`plan --json`."""
    made = decision.plan
    choices = [_entry(choice) for choice in made.choices]
    problem = decision.problem
    return {
        "run": made.run,
        "offers": [*choices, *(_entry(choice) for choice in decision.others)],
        "chosen": choices[0] if choices else None,
        "refused": [{"offer": refusal.offer, "reason": refusal.reason} for refusal in made.refused],
        "limits": {
            "max_cost": made.limits.max_cost,
            "max_time_s": made.limits.max_time_s,
            "ends_by": decision.ends_by,
        },
        "push": {
            "files": outlook.files,
            "size": outlook.size,
            "biggest": [{"path": path, "size": size} for path, size in outlook.biggest],
            "withheld": list(outlook.withheld),
        },
        "warnings": [*decision.warnings, *outlook.warnings],
        "problem": None if problem is None else {"code": problem.code, "message": problem.message},
    }


def _entry(choice: Choice) -> Json:
    offer, forecast = choice.offer, choice.estimate
    return {
        "id": offer.id,
        "target": offer.target,
        "provider": offer.provider,
        "region": offer.region,
        "instance_type": offer.instance_type,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "vram_gb": offer.vram_gb,
        "spot": offer.spot,
        "cloud": offer.cloud,
        "usd_per_hour": offer.usd_per_hour,
        "price_source": offer.price_source,
        "price_as_of": offer.price_as_of,
        "hours": _range(forecast.hours, forecast.known),
        "usd": _range(forecast.usd, forecast.known or not offer.bills),
        "lines": [
            {"name": line.name, "hours": _range(line.hours, True), "usd": _range(line.usd, True)}
            for line in forecast.lines
        ],
    }


def _range(what: Range, known: bool) -> Json:
    """Where nobody can tell, only the bound is a number."""
    if not known:
        return {"low": None, "likely": None, "high": what.high}
    return {"low": what.low, "likely": what.likely, "high": what.high}
