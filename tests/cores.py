"""How quick a core is just now, for tests that hold a figure against it: the same machine does half as much
in a bad hour. Knows nothing of the launcher.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

ROUNDS = 230_000  # that an ordinary core does in a second
TAKEN = 15_000


@dataclass(frozen=True)
class Small:
    name: str = "a"
    number: int = 0
    words: tuple[str, ...] = ("b", "c")


def speed() -> float:
    """By records, dictionaries and JSON, which is what this program does. 1 is an ordinary core with nothing
    else on it."""
    began = time.process_time()
    one, known = Small(), {}
    for n in range(TAKEN):
        one = replace(one, number=n)
        known[f"{one.name}{n % 97}"] = json.loads(json.dumps({"n": one.number, "words": one.words}))
    return TAKEN / (time.process_time() - began) / ROUNDS
