"""What the agent itself takes beside a trainer that sleeps: share of one core and memory.

python bench/agent.py [--smoke]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import LAUNCHER, arguments, clean_env, report, scratch

BOUNDS = {"agent, % of a core": 1.0, "agent, RSS MB": 30}
LONG_S, SHORT_S = 60.0, 2.0


def agent_pid(home: Path) -> int:
    """As its first word says; its keeper above it waits and does nothing."""
    events = home / "runs" / "slept" / "attempts" / "1" / "events.jsonl"
    return int(json.loads(events.read_bytes().split(b"\n")[0])["pid"])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    args = arguments(__doc__ or "")
    with scratch() as folder:
        home, project = Path(folder) / "home", Path(folder) / "project"
        project.mkdir()
        env = clean_env(home)
        run = [
            "run",
            "--project",
            str(project),
            "--on",
            "local",
            "--name",
            "slept",
            "-d",
            "--",
            "sleep",
            "600",
        ]
        subprocess.run([*LAUNCHER, *run], env=env, check=True, capture_output=True, cwd=project)
        try:
            pid = agent_pid(home)
            before, since = cpu_s(pid), time.monotonic()
            time.sleep(SHORT_S if args.smoke else LONG_S)  # the time that is measured
            share = 100 * (cpu_s(pid) - before) / (time.monotonic() - since)
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        finally:
            subprocess.run([*LAUNCHER, "stop", "slept", "--now"], env=env, check=False, capture_output=True)
        figures = {"agent, % of a core": round(share, 2), "agent, RSS MB": round(rss_kb / 1024, 1)}
        return report("agent", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
