"""Every boundary of a run: killed there, resumed, compared; of a rented one also left alone. One line each.

python bench/crash_sweep.py [local docker ssh runpod]     but for local: an engine, or root and docker.io
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import write_down

from tests import needs
from tests.crash.life import Target, rented
from tests.crash.sweep import Report, Sweep
from tests.emulators.runpod.emulation import with_pods
from tests.engines.base import base_image
from tests.hosts.boxes import sshd_container


@contextmanager
def target(name: str) -> Iterator[Target]:
    if name == "local":
        yield Target(name)
        return
    why = needs.why_missing("docker", demanded=True)
    if why is not None:
        sys.exit(f"{name}: {why}")
    if name == "docker":
        yield Target(name, ("--on", name, "--image", base_image()))
    elif name == "ssh":
        with sshd_container("openssh") as box:
            yield Target(name, ("--on", "ssh:ssh"), host=box.route)
    elif name == "runpod":
        with with_pods() as cloud:
            yield rented(cloud)
    else:
        sys.exit(f"{name}? local, docker, ssh or runpod")


def main() -> int:
    faults = 0
    for name in sys.argv[1:] or ["local", "docker"]:
        with tempfile.TemporaryDirectory() as place, target(name) as one:
            sweep = Sweep(Path(place) / "sweep", one)
            reports = [sweep.run(), *([sweep.abandon()] if one.cloud is not None else [])]
        for report in reports:
            print(report.line(), *report.faults, sep="\n", flush=True)
            keep(report)
            faults += len(report.faults)
    return min(faults, 1)


def keep(report: Report) -> None:
    name = f"crash_sweep_{report.target.replace(', ', '_').replace(' ', '_')}"
    figures = {
        "boundaries": len(report.boundaries),
        "killed at": report.swept - len(report.missed),
        "kills": report.kills,
        "kills while it recovered": report.nested,
        "faults": len(report.faults),
        "seconds": round(report.seconds),
    }
    write_down(name, f"bench/crash_sweep.py {report.target.partition(',')[0]}", figures, {"faults": 0})


if __name__ == "__main__":
    sys.exit(main())
