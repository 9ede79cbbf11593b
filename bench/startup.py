"""How long the quick commands take, beside a bare interpreter in the same rounds, and what they load.

python bench/startup.py [--runs 9]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from measure import LAUNCHER, arguments, clean_env, interleaved, median_ms, once, report, scratch

HEAVY = ("boto3", "docker", "paramiko", "torch", "pydantic", "ruamel")
BOUNDS = {
    "--help ms": 150,
    "ps --json ms": 100,
    "plan ms, offline": 500,
    "plan peak MB": 60,
    "heavy libraries loaded by --help and ps": 0,
}


def offline(argv: list[str]) -> list[str]:
    """In a network namespace of its own with nothing in it, where the system allows that."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode == 0:
        return [unshare, "-rn", *argv]
    return argv


def loaded(words: list[str], env: dict[str, str], cwd: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-m", "launcher", *words],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {
        line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line
    }
    return sorted(names & set(HEAVY))


def main() -> int:
    args = arguments(__doc__ or "")
    with scratch() as folder:
        cwd = Path(folder)
        env = clean_env(cwd / "home")
        commands = {
            "bare interpreter": [sys.executable, "-I", "-c", "pass"],
            "--help": [*LAUNCHER, "--help"],
            "ps --json": [*LAUNCHER, "ps", "--json"],
            "plan": offline([*LAUNCHER, "plan", "quickstart", "--json"]),
        }
        took = interleaved(
            {name: partial(once, argv, env, cwd) for name, argv in commands.items()},
            1 if args.smoke else args.runs,
        )
        bad = {name: [t.exit_code for t in runs if t.exit_code] for name, runs in took.items()}
        if any(bad.values()):
            print(f"a command failed: {bad}", file=sys.stderr)
            return 1
        heavy = loaded(["--help"], env, cwd) + loaded(["ps", "--json"], env, cwd)
        floor = median_ms(took["bare interpreter"])
        figures = {
            "bare interpreter ms": floor,
            "--help ms": median_ms(took["--help"]),
            "--help x bare": round(median_ms(took["--help"]) / floor, 1),
            "ps --json ms": median_ms(took["ps --json"]),
            "plan ms, offline": median_ms(took["plan"]),
            "plan peak MB": round(max(t.peak_mb for t in took["plan"]), 1),
            "heavy libraries loaded by --help and ps": len(heavy),
        }
        if heavy:
            print(json.dumps(heavy))
        return report("startup", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
