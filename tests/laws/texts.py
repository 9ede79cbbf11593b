"""The laws over every text that is handed on: no machine's paths, no hosts of package registries, and no
words but the project's own.

The patterns are written in pieces so that this file keeps its own law.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path


def _any(*pieces: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join("".join(piece) for piece in pieces), re.IGNORECASE)


START = r"(?<![\w$}./*-])"  # of a path: what follows a variable or another folder is none
PATHS = _any(
    (START, "/ro", r"ot/\w"),
    (START, "/ho", r"me/\w+/"),
    (START, "/Us", r"ers/\w+/"),
    ("[A-Z]:", r"\\Us", "ers"),
)
HOSTS = _any(
    ("py", r"pi\.org"),
    ("python", r"hosted\.org"),
    ("--(extra-)?ind", "ex-url"),
    ("registry-1", r"\.docker"),
    ("index", r"\.docker\.io"),
    ("npm", r"js\.(org|com)"),
    ("ana", r"conda\.(org|com)"),
    (r"(deb|security)\.deb", r"ian\.org"),
    ("proxy", r"\.golang"),
)
WORDS = _any(
    (r"\bsub-?", r"agents?\b"),
    (r"\bhelper ", r"agents?\b"),
    (r"\b(coding|ai) ", r"(agent|assistant|helper)s?\b"),
    (r"\b(this|next|last|previous|earlier) ", r"session\b"),
    (r"\bissue ", r"(tracker\b|#?\d)"),
    (r"\bbefore-", r"stop\b"),
    (r"\bteam ", r"rules\b"),
    (r"\bthe bri", r"ef\b"),
)
LAWS = {"machine paths": PATHS, "registry hosts": HOSTS, "foreign words": WORDS}

# law -> file -> reason
EXCEPTIONS: dict[str, dict[str, str]] = {
    "machine paths": {
        "tests/engines/base_image.sh": "the folder of an image that is being built, not of a machine"
    },
}


def breaches(pattern: re.Pattern[str], files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if found := pattern.search(line):
                yield path, f"line {number}: {found[0]!r}"


def tracked(root: Path) -> dict[str, str]:
    """Every text that git keeps, or would keep once added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    texts: dict[str, str] = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = root / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            texts[name] = data.decode("utf-8", "replace")
    return texts
