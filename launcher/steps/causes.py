"""Why a machine never came to be of use, in one line: from what its console holds, the platform's words and
its guard's. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 200


@dataclass(frozen=True)
class Cause:
    words: str
    certain: bool  # nothing that comes later mends it
    everywhere: bool = False  # nor does another machine: it is the image


_MISSING = re.compile(r"^launcher missing (.+?)\s*$", re.MULTILINE)
_FAILED = r"(?=.*\b(error|fail\w*|denied|unauthorized)\b)(?=.*\bpull)"
_ABSENT = r"manifest unknown|not found|does not exist|invalid reference"
_SHUT = r"denied|unauthorized|no basic auth|authorization failed|authentication required|403 forbidden"
_LOGIN = "its image cannot be pulled, or not without a login (--registry-login): {}"
# What is looked for in a line; what it means, with the line in it; certain; everywhere.
_KNOWN = (
    (rf"{_FAILED}(?=.*({_SHUT}))|pull access denied", _LOGIN, True, True),
    (
        rf"{_FAILED}(?=.*({_ABSENT}))|manifest unknown|manifest for \S+ not found",
        "its image cannot be pulled: {}",
        True,
        True,
    ),
    (
        r"condition: cuda|update your driver",
        "its driver is too old for the image: {}",
        True,
        False,
    ),
    (r"^launcher failed: ", "its guard failed: {}", True, False),
    (_FAILED, "its image cannot be pulled: {}", False, False),
    (r"oci runtime|error (creating|starting) container", "its container does not start: {}", False, False),
    (r"no space left on device", "its disk is full: {}", False, False),
)


def of(console: str) -> Cause | None:
    """The newest that is known, what is certain before what is not."""
    lacks = list(dict.fromkeys(_MISSING.findall(console)))
    if lacks:
        return Cause(f"its image has no {', '.join(lacks)}", certain=True, everywhere=True)
    found = [cause for line in reversed(console.splitlines()) if (cause := _of_line(line)) is not None]
    return next((cause for cause in found if cause.certain), found[0] if found else None)


def _of_line(line: str) -> Cause | None:
    for pattern, words, certain, everywhere in _KNOWN:
        if re.search(pattern, line, re.IGNORECASE):
            said = re.sub(r"^\[\w+\] |^launcher failed: ", "", line.strip())[:LONGEST]
            return Cause(words.format(said), certain, everywhere)
    return None
