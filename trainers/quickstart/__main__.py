"""`python -m trainers.quickstart`: the first word comes before anything else is loaded."""

import sys


def main() -> int:
    if not {"-h", "--help"} & set(sys.argv[1:]):
        print(f"quickstart: boosted trees, python {sys.version.split()[0]}", flush=True)
    from trainers.quickstart.command import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
