"""The simulator's figures: `python bench/sim.py --seeds 5000 [--from N] [--trace]`.

A seed that breaks a promise is named; the same number shows the same run again, `--trace` all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.sim.campaign import run
from tests.sim.report import campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--trace", action="store_true", help="every event of the first seed")
    parser.add_argument("--pairs", action="store_true", help="how often each fault was met in each step")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.trace:
        outcome = run(args.first)
        for line in outcome.trace:
            print(*line)
        print(outcome.digest, outcome.state, outcome.violation or "every promise kept")
        return 0
    report = campaign(range(args.first, args.first + args.seeds))
    if args.json:
        keys = ("seeds", "cpu_s", "per_second", "virtual_s", "states", "met")
        print(
            json.dumps(
                {key: getattr(report, key) for key in keys} | {"broken": [o.seed for o in report.broken]}
            )
        )
    else:
        print("\n".join(report.lines()))
    if args.pairs:
        for (step, fault), n in sorted(report.pairs.items()):
            print(f"{n:6d}  {step:10s} {fault}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
