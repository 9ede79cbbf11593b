"""Run seeds until one breaks a promise: `python -m tests.sim.hunt LIMIT`. Answers one JSON line.

Used on a patched copy of the program: it also says which program it has run.
"""

from __future__ import annotations

import json
import sys

import launcher
from tests.sim.campaign import run


def main() -> None:
    limit = int(sys.argv[1])
    found = next((outcome for seed in range(limit) if (outcome := run(seed)).violation), None)
    answer = {
        "program": launcher.__file__,
        "seed": None if found is None else found.seed,
        "violation": None if found is None else found.violation,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
