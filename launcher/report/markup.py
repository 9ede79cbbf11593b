"""From words that anybody may have written to HTML that says exactly them: the one place that escapes.

Everything else of the page is markup of our own; what comes from outside goes through `text`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from launcher.escapes import ESCAPES

LONGEST = 400  # bytes of one value on the page; logs have a bound of their own
NAME = 120
_KEPT = frozenset("\t\n\u00a0")


def text(value: object, longest: int = LONGEST) -> str:
    """Escaped, of bounded length, without what moves a terminal or turns the order of reading."""
    said = ESCAPES.sub("", str(value)[: longest * 4])
    plain = "".join(c if c.isprintable() or c in _KEPT else "·" for c in said)
    whole = html.escape(plain)
    return whole if len(whole.encode()) <= longest else _cut(plain, longest)


def _cut(plain: str, longest: int) -> str:
    """As many characters as fit; an escaped one is never cut in half."""
    parts: list[str] = []
    room = longest - len("…".encode())
    for c in plain:
        part = html.escape(c)
        room -= len(part.encode())
        if room < 0:
            break
        parts.append(part)
    return "".join([*parts, "…"])


def lines(data: bytes) -> list[str]:
    """A log as it was meant to be read: of what a progress bar wrote over itself, the last."""
    whole = data.decode("utf-8", "replace").split("\n")
    rows = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in whole]
    return rows[:-1] if rows and not rows[-1] else rows


def section(title: str, *parts: str) -> str:
    body = "".join(parts)
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def terms(rows: Iterable[tuple[str, object]]) -> str:
    """Name and value, one under the other; what is not known is left out."""
    told = [(name, value) for name, value in rows if value not in (None, "", (), [], {})]
    body = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in told)
    return f'<dl class="terms">{body}</dl>' if body else ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]], kinds: Sequence[str], most: int) -> str:
    """`kinds` are the classes of the columns: n for numbers, m for digests. As many rows as fit into `most`
    bytes; those that do not are counted."""
    body: list[str] = []
    for row in rows:
        cells = "".join(_cell("td", kind, x) for x, kind in zip(row, kinds, strict=True))
        most -= len(cells.encode()) + 9
        if most < 0:
            break
        body.append(f"<tr>{cells}</tr>")
    if not body:
        return ""
    top = "".join(_cell("th", kind, name) for name, kind in zip(head, kinds, strict=True))
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        + (f'<p class="aside">{len(rows) - len(body):,} more had no room here</p>' if most < 0 else "")
    )


def _cell(tag: str, kind: str, value: object) -> str:
    return f'<{tag} class="{kind}">{text(value)}</{tag}>' if kind else f"<{tag}>{text(value)}</{tag}>"


def more(shown: int, of: int, where: str) -> str:
    return f'<p class="aside">{of - shown:,} more in {text(where)}</p>' if of > shown else ""


def number(value: float) -> str:
    """Four digits that matter; large whole numbers as people write them."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"
