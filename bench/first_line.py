"""From the command to the first line the trainer prints: as a process, and in Docker beside a bare
`docker run` of the same image in the same rounds. Docker is measured when DOCKER_HOST (or the default
socket) answers and --image names one that has python3.

    python bench/first_line.py [--runs 9]          BENCH_IMAGE=name:tag for the Docker part
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import LAUNCHER, arguments, clean_env, report, scratch

LINE = "the first line"
BOUNDS = {
    "local, first line ms": 1500,
    "docker, first line ms": 3000,
    "docker, over bare docker run ms": 1500,
    "processes left behind": 0,
}


def first_line(argv: list[str], env: dict[str, str], cwd: Path) -> float:
    """Seconds until LINE is on stdout; the command is then let run to its end."""
    began = time.perf_counter()
    with subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        took = next((time.perf_counter() - began for line in process.stdout if LINE in line), None)
        process.stdout.read()
    if took is None or process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode} and took {took}")
    return took


def left_behind(home: Path) -> int:
    """Live processes that carry the label of a run of this data folder."""
    owner = f"LAUNCHER_OWNER={(home / 'owner').read_text().strip()}".encode()
    found = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += owner in entry.read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def main() -> int:
    args = arguments(__doc__ or "")
    image = os.environ.get("BENCH_IMAGE")
    with scratch() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "train.py").write_text(f"print({LINE!r}, flush=True)\n")
        home = Path(folder) / "home"
        env = clean_env(home)
        run = [*LAUNCHER, "run", "--project", str(project)]
        tail = ["--", "python3", "train.py"]
        ways: dict[str, Callable[[], float]] = {
            "local": lambda: first_line([*run, "--on", "local", *tail], env, project)
        }
        if image:
            ways["docker"] = lambda: first_line(
                [*run, "--on", "docker", "--image", image, *tail], env, project
            )
            bare = ["docker", "run", "--rm", image, "python3", "-c", f"print({LINE!r}, flush=True)"]
            ways["bare"] = lambda: first_line(bare, env, project)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range((1 if args.smoke else args.runs) + 1):
            for name, way in ways.items():
                seconds = way()
                if round_:
                    took[name].append(seconds)
        ms = {name: round(statistics.median(s) * 1000) for name, s in took.items()}
        figures: dict[str, float] = {"local, first line ms": ms["local"]}
        if image:
            over = statistics.median(a - b for a, b in zip(took["docker"], took["bare"], strict=True))
            figures |= {
                "docker, first line ms": ms["docker"],
                "bare docker run, first line ms": ms["bare"],
                "docker, over bare docker run ms": round(over * 1000),
            }
        figures["processes left behind"] = left_behind(home)
        return report("first_line", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
