"""The trainer stacking over two hosts and in one process: equally good, twice the same.

    python bench/stacking_hosts.py --runs 1

A host is a network namespace with an address of its own and a dask worker that knows nothing of our code;
the scheduler and the trainer are on a third. Wants `unshare` and `ip`. Both workers share this machine's
cores, so the seconds say what the way there costs, not what a second machine gains.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import ROOT, arguments, clean_env, report, scratch

sys.path.insert(0, str(ROOT))

from launcher.agent.envs import Order, make
from launcher.agent.reqset import read

HOSTS = 2
FULL, SMALL = ("20000", "60"), ("1000", "5")  # rows, rounds
BOUNDS = {"AUC, over hosts worse by": 0.005, "AUC, the same again differs by": 0.0}
NETWORK = """
mount -t tmpfs none /run && ip link set lo up
ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up
for n in $(seq $1); do
  ip netns add host$n && ip link add line$n type veth peer name eth0 netns host$n
  ip link set line$n master br0 up
  ip -n host$n addr add 10.77.0.$((n + 1))/24 dev eth0
  ip -n host$n link set eth0 up && ip -n host$n link set lo up
done
"""


def main() -> int:
    if sys.argv[1:2] == ["inside"]:
        return inside(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    args = arguments(__doc__ or "")
    wanted = read(ROOT / "trainers" / "stacking" / "requirements-workers.txt", None)
    python = make(Order(wanted, sys.executable, ROOT / "build" / "test-envs"), print).python
    with scratch() as place:
        apart = ["unshare", "-rnm", sys.executable, __file__, "inside", python, place]
        subprocess.run([*apart, *(SMALL if args.smoke else FULL)], check=True)
        return report("stacking_hosts", figures(Path(place)), BOUNDS, args)


def inside(python: str, place: Path, size: list[str]) -> int:
    """In a network of its own, where nothing else is."""
    subprocess.run(["sh", "-ec", NETWORK, "sh", str(HOSTS)], check=True)
    env = clean_env(place / "home") | {"OMP_WAIT_POLICY": "passive"}
    rows, rounds = size
    given = ["--rows", rows, "--rounds", rounds, "--task", "classifier", "--folds", "3", "--trees", "20"]
    with workers(python, place, env) as scheduler:
        over = ["--workers", str(HOSTS), "--scheduler", scheduler]
        for name, more in (("one", []), ("hosts", over), ("again", over)):
            words = [*given, "--holdout", "0.5", "--device", "cpu", *more, "--output", str(place / name)]
            subprocess.run([python, "-m", "trainers.stacking", *words], cwd=ROOT, env=env, check=True)
    return 0


@contextmanager
def workers(python: str, place: Path, env: dict[str, str]) -> Iterator[str]:
    """Far from our code: they stand in another folder."""
    address = "tcp://10.77.0.1:8786"
    command = [python, "-m", "distributed.cli.dask_scheduler", "--host", "10.77.0.1", "--port", "8786"]
    lines = [[*command, "--no-dashboard"]]
    for n in range(1, HOSTS + 1):
        worker = [python, "-m", "distributed.cli.dask_worker", address, "--host", f"10.77.0.{n + 1}"]
        more = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(place / f"worker{n}")]
        lines.append(["ip", "netns", "exec", f"host{n}", *worker, *more])
    running = []
    with open(place / "dask.log", "wb") as log:
        try:
            running += [subprocess.Popen(line, cwd=place, env=env, stdout=log, stderr=log) for line in lines]
            yield address
        finally:
            for process in reversed(running):
                process.terminate()
            for process in running:
                process.wait()


def figures(place: Path) -> dict[str, object]:
    results = {
        name: json.loads((place / name / "result.json").read_text()) for name in ("one", "hosts", "again")
    }
    auc = {name: result["metrics"]["classifier_auc"] for name, result in results.items()}
    seconds = {
        name: sum(result["learners"]["classifier"][learner]["seconds"] for learner in ("xgboost", "lightgbm"))
        for name, result in results.items()
    }
    return {
        "hosts": HOSTS,
        "AUC, one process": round(auc["one"], 5),
        "AUC, over hosts": round(auc["hosts"], 5),
        "AUC, over hosts worse by": round(auc["one"] - auc["hosts"], 5),
        "AUC, the same again differs by": abs(auc["again"] - auc["hosts"]),
        "boosters, one process, s": round(seconds["one"], 1),
        "boosters, over hosts, s": round(seconds["again"], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
