"""Every boundary of a local and of a docker run: killed there, resumed, compared. Prints one line each.

python bench/crash_sweep.py [local] [docker]        docker: needs an engine, or root and docker.io
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import needs
from tests.crash.life import Target
from tests.crash.sweep import Sweep
from tests.engines.base import base_image


def target(name: str) -> Target:
    if name == "local":
        return Target(name)
    why = needs.why_missing(name, demanded=True)
    if why is not None:
        sys.exit(f"{name}: {why}")
    return Target(name, ("--on", name, "--image", base_image()))


def main() -> int:
    faults = 0
    for name in sys.argv[1:] or ["local", "docker"]:
        with tempfile.TemporaryDirectory() as place:
            report = Sweep(Path(place) / "sweep", target(name)).run()
        print(report.line(), *report.faults, sep="\n")
        faults += len(report.faults)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
