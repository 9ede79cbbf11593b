"""The picture of a run in the README: a real run on a real terminal, recorded and drawn as plain SVG text.

    python -m tests.docs.picture        records `./launch run` and `./launch ps`, writes docs/run.svg

The SVG names no font file and no address, so it looks the same offline and tells nobody who reads it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "run.svg"
COLUMNS = 132
CHAR, LINE, MARGIN = 7.5, 19, 18
SGR = re.compile(r"\x1b\[([0-9;]*)m")
GREEN, RED, DIM, BOLD, PLAIN, METER = "#7ee787", "#ff7b72", "#8b949e", "#f0f6fc", "#c9d1d9", "#79c0ff"
COLOURS = {"1;32": GREEN, "1;31": RED, "2": DIM, "1": BOLD, "0": PLAIN, "": PLAIN}
Spans = list[tuple[str, str]]  # colour, text


def record(argv: Sequence[str], cwd: Path, home: Path) -> str:
    """Everything the command wrote to its terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        keep = {k: v for k, v in os.environ.items() if k.startswith(("PATH", "PIP_", "UV_", "SSL_"))}
        own = {"TERM": "xterm", "HOME": str(home), "LAUNCHER_HOME": str(home / "launcher"), "LANG": "C.UTF-8"}
        os.execve(argv[0], list(argv), {**keep, **own})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    said = b""
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        said += data
    os.waitpid(pid, 0)
    return said.decode()


def lines(said: str) -> list[str]:
    """What stays on the screen, and the moving line once, as it looked when most was known."""
    kept: list[str] = []
    moving: list[str] = []
    for row in said.split("\r\n"):
        *wiped, last = row.split("\r\x1b[J")
        moving += [text for text in wiped if " · step " in text]
        kept.append(last)
    if moving:
        at = next((i for i, text in enumerate(kept) if text.startswith("best round")), len(kept) - 1)
        kept.insert(at + 1, f"\x1b[m{moving[-1]}")
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def spans(line: str) -> Spans:
    colour, found, at = PLAIN, [], 0
    if line.startswith("\x1b[m"):
        return [(METER, line[3:])]
    for code in SGR.finditer(line):
        found.append((colour, line[at : code.start()]))
        colour, at = COLOURS.get(code[1], PLAIN), code.end()
    found.append((colour, line[at:]))
    return [(colour, text) for colour, text in found if text]


def svg(screen: Sequence[str]) -> str:
    """Rows of text on a dark card; white space is kept as it is."""
    width, height = round(MARGIN * 2 + COLUMNS * CHAR), MARGIN * 2 + LINE * len(screen)
    told = "A run of the bundled trainer on this machine, from the command to the version folder"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
    out = [
        f'{head} aria-label="{told}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12.5" xml:space="preserve">',
    ]
    for number, line in enumerate(screen):
        y = MARGIN + LINE * number + 13
        parts = "".join(f'<tspan fill="{colour}">{escape(text)}</tspan>' for colour, text in spans(line))
        if parts:
            out.append(f'<text x="{MARGIN}" y="{y}" style="white-space:pre">{parts}</text>')
    return "\n".join([*out, "</g>", "</svg>", ""])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "launch").symlink_to(ROOT / "launch")
        record(["/bin/sh", "-c", "exec ./launch run"], place, place)  # now its environment is here
        shutil.rmtree(place / "launcher" / "runs")
        screen: list[str] = []
        for words in ("run", "ps"):
            screen += [f"\x1b[1m$ ./launch {words}\x1b[0m"]
            said = record(["/bin/sh", "-c", f"exec ./launch {words}"], place, place)
            screen += [*lines(said), ""]
    PICTURE.write_text(svg(screen[:-1]))
    print(f"{PICTURE.relative_to(ROOT)}: {len(screen)} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
