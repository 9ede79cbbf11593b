"""The simulator's figures: `python bench/sim.py --seeds 5000 [--from N] [--pairs] [--trace] [--save]`.

A seed that breaks a promise is named; the same number shows the same run again, `--trace` all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from measure import write_down  # noqa: E402 - it stands beside this file

from tests.sim.campaign import run  # noqa: E402 - the path above leads there
from tests.sim.report import Report, campaign  # noqa: E402 - the path above leads there


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--trace", action="store_true", help="every event of the first seed")
    parser.add_argument("--pairs", action="store_true", help="how often each fault was met in each step")
    parser.add_argument("--save", action="store_true", help="write bench/results/sim.json")
    args = parser.parse_args()
    if args.trace:
        outcome = run(args.first)
        for line in outcome.trace:
            print(*line)
        print(outcome.digest, outcome.state, outcome.violation or "every promise kept")
        return 0
    report = campaign(range(args.first, args.first + args.seeds))
    print("\n".join(report.lines()))
    if args.pairs:
        for (step, fault), n in sorted(report.pairs.items()):
            print(f"{n:6d}  {step:10s} {fault}")
    if args.save:
        save(report, args)
    return 1 if report.broken else 0


def save(report: Report, args: argparse.Namespace) -> None:
    figures = {
        "seeds": report.seeds,
        "broken promises": len(report.broken),
        "seeds a second of one core": round(report.per_second),
        "virtual hours": round(report.virtual_s / 3600),
        "events of a seed, median": statistics.median(report.events),
        "faults met by a seed, median": statistics.median(report.faults),
        "declared pairs of step and fault not reached": len(report.unreached()),
        "pairs of step and fault reached": len(report.pairs),
        "ends": dict(sorted(report.states.items())),
        "faults met": dict(sorted(report.met.items())),
    }
    write_down("sim", f"bench/sim.py --seeds {args.seeds} --from {args.first} --save", figures)


if __name__ == "__main__":
    sys.exit(main())
