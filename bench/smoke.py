"""Every benchmark once, quickly: that they run, not how fast.

python bench/smoke.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = ("measure.py", "smoke.py", "farhost.py", "stacking_peer.py")
SMALL = {"sim.py": ["--seeds", "50"], "leave_and_return.py": ["3"]}  # what else takes --smoke
LONG = ("crash_sweep.py", "runpod_lag.py", "stacking_hosts.py")  # the tests run what is quick of them


def main() -> int:
    failed = []
    for script in sorted(HERE.glob("*.py")):
        if script.name in SHARED + LONG:
            continue
        print(f"-- {script.name}", flush=True)
        if subprocess.run(
            [sys.executable, str(script), *SMALL.get(script.name, ["--smoke"])], check=False
        ).returncode:
            failed.append(script.name)
    print(f"failed: {', '.join(failed)}" if failed else "all benchmarks run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
