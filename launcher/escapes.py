"""What a terminal obeys in words from elsewhere: colours, moves of the cursor, titles, pictures."""

from __future__ import annotations

import re

ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[@-Z\\-_])"
)
