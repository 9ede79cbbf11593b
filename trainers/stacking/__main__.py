"""`python -m trainers.stacking`: the first word comes before anything else is loaded."""

import sys


def main() -> int:
    if not {"-h", "--help"} & set(sys.argv[1:]):
        print(f"stacking: boosters, forest and ridge, python {sys.version.split()[0]}", flush=True)
    if sys.argv[1:2] == ["bench"]:
        from trainers.stacking import compare

        return compare.run(sys.argv[2:])
    from trainers.stacking.command import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
