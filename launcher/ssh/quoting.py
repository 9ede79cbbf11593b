"""The one place where words become a line for a shell on the other side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def line(argv: Sequence[str]) -> bytes:
    """Words as one line that any POSIX shell reads back as the same words. UTF-8, whatever the locale here
    or there; bytes that were no text travel as the bytes they were."""
    return " ".join(map(shlex.quote, argv)).encode("utf-8", "surrogateescape")
