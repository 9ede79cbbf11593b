"""What every benchmark here shares: interleaved runs of whole commands, medians, and a result with date,
machine and command. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
LAUNCHER = [sys.executable, "-I", "-m", "launcher"]


@dataclass(frozen=True)
class Took:
    wall_s: float
    peak_mb: float
    exit_code: int
    cpu_s: float  # of the process and of all it waited for


def once(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Took:
    """One whole process, from outside. Peak memory is the process's own, by the kernel's account."""
    before = time.perf_counter()
    process = subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s, cpu_s = time.perf_counter() - before, usage.ru_utime + usage.ru_stime
    return Took(wall_s, usage.ru_maxrss / 1024, process.returncode, cpu_s)


def interleaved(
    commands: Mapping[str, Callable[[], Took]], runs: int, *, warm: bool = True
) -> dict[str, list[Took]]:
    """A B C, A B C, …: a machine that drifts drifts for all of them. The first round warms up and is not
    counted."""
    took: dict[str, list[Took]] = {name: [] for name in commands}
    for round_ in range(0 if warm else 1, runs + 1):
        for name, run in commands.items():
            result = run()
            if round_:
                took[name].append(result)
    return took


def median_ms(took: Sequence[Took]) -> float:
    return round(statistics.median(t.wall_s for t in took) * 1000, 1)


def clean_env(home: Path) -> dict[str, str]:
    """The caller's environment without settings of a launcher's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LAUNCHER_", "RUNPOD_", "AWS_"))}
    return {**env, "LAUNCHER_HOME": str(home), "NO_COLOR": "1"}


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=9, help="counted rounds (default 9)")
    parser.add_argument("--smoke", action="store_true", help="one round, no result file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written")
    return parser.parse_args()


def machine() -> dict[str, object]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu_cores": os.cpu_count(),
        "ram_gb": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def report(
    name: str, figures: Mapping[str, Any], bounds: Mapping[str, float], args: argparse.Namespace
) -> int:
    """Prints each figure beside its bound; 1 when one is missed (a smoke run only has to run)."""
    missed = 0
    for key, value in figures.items():
        bound = bounds.get(key)
        late = bound is not None and value > bound
        missed += late
        told = f"  (bound {bound:g}){'  MISSED' if late else ''}" if bound is not None else ""
        print(f"{key:<44} {value}{told}")
    if args.smoke:
        return 0
    write_down(name, f"bench/{name}.py --runs {args.runs}", figures, bounds, args.out)
    return 1 if missed else 0


def write_down(
    name: str,
    command: str,
    figures: Mapping[str, Any],
    bounds: Mapping[str, float] | None = None,
    out: Path = RESULTS,
) -> None:
    """The result that `docs/lab.md` is made of; `command` is what comes behind `python`."""
    out.mkdir(parents=True, exist_ok=True)
    body = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": f"python {command}",
        "machine": machine(),
        "figures": dict(figures),
        **({"bounds": dict(bounds)} if bounds is not None else {}),
    }
    path = out / f"{name}.json"
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", file=sys.stderr)


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="launcher-bench-")
