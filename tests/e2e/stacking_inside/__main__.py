"""What holds inside the stacking trainer, judged in its own environment, all in one process.

    python -m tests.e2e.stacking_inside FOLDER [opencl]      # its last line: {name: null, or what was wrong}

test_stacking.py runs it and makes a test of each check; pytest is not in a trainer's environment.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.e2e.stacking_inside import data, learners, products


def checks(kind: str) -> dict[str, Callable[[Path], None]]:
    return {
        name: check
        for module in (data, learners, products)
        for name, check in vars(module).items()
        if name.startswith(f"{kind}_") and callable(check)
    }


def main() -> int:
    told: dict[str, str | None] = {}
    for name, check in checks(sys.argv[2] if sys.argv[2:] else "check").items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir()
        began = time.monotonic()
        try:
            check(folder)
            told[name] = None
        except Exception:
            told[name] = traceback.format_exc()
        print(f"{name} {time.monotonic() - began:.1f} s", flush=True)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
