"""The pull against rsync and tar over ssh, near and far, and what one look at a run costs; whole processes,
interleaved, medians.

    python bench/pull.py --runs 3        a few minutes; needs sshd and rsync

Distance is a relay of our own (tests/hosts/relay.py): no loss, no slow start, both ends on this machine. What
is pulled lies in memory at both ends. Ours checks every sha256 and syncs every file; the others do neither.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from farhost import CIPHER, Far, far_host
from measure import ROOT, arguments, clean_env, report

sys.path.insert(0, str(ROOT))

from launcher.models import Access, Route
from launcher.remote import open_host
from launcher.remote.base import Listed, Wanted
from launcher.ssh.connection import still
from tests.hosts.relay import Relay

RTT_S, LINE = 0.1, 125e6
SIZES = (200_000, 1_000_000, 2_500_000, 6_300_000)
STREAMS = ("events.jsonl", "telemetry.jsonl", "log", "setup.log")
LOOKS = 20
BOUNDS = {
    "500 MB at 1 Gbit/s / link time": 1.35,
    "500 MB at 1 Gbit/s / rsync": 1 / 4.5,
    "500 MB without distance / tar over ssh": 1.6,
    "one look at four streams / round trip": 1.5,
}


def artifacts(folder: Path, count: int, total: int) -> list[Listed]:
    dice = random.Random(1)
    wanted = [dice.choice(SIZES) for _ in range(count)]
    folder.mkdir(parents=True)
    found = []
    for n, size in enumerate(wanted):
        data = dice.randbytes(size * total // sum(wanted))
        (folder / f"{n:03}.bin").write_bytes(data)
        found.append(Listed(f"{n:03}.bin", len(data), hashlib.sha256(data).hexdigest()))
    return found


def access(far: Far, port: int) -> Access:
    route = Route("127.0.0.1", port, far.user, (str(far.key),), agent=False, pins=(far.pin,))
    return Access("ssh", f"127.0.0.1:{port}", str(far.folder / "spool"), route=route)


class Bench:
    def __init__(self, far: Far, runs: int, smoke: bool) -> None:
        self.far = far
        self.runs = runs
        self.staging = far.folder / "home"
        total = (5 if smoke else 500) * 1_000_000
        self.listing = artifacts(far.folder / "spool" / "output", 20 if smoke else 200, total)
        self.total = sum(listed.size for listed in self.listing)
        (far.folder / "listing").write_text(json.dumps([vars(listed) for listed in self.listing]))

    def ways(self, port: int) -> dict[str, list[str] | str]:
        output = self.far.folder / "spool" / "output"
        ssh = " ".join(self.far.ssh(port))
        fast = " ".join(self.far.ssh(port, "-c", CIPHER, self.far.at))
        words: dict[str, Any] = {"port": port, "user": self.far.user, "key": str(self.far.key)}
        words |= {"pin": self.far.pin, "folder": str(self.far.folder)}
        return {
            "ours": [sys.executable, __file__, "client", json.dumps(words)],
            "rsync": ["rsync", "-a", "-e", ssh, f"{self.far.at}:{output}/", f"{self.staging}/"],
            "tar": f"{fast} tar -C {output} -cf - . | tar -C {self.staging} -xf -",
        }

    def medians(self, port: int) -> dict[str, float]:
        took: dict[str, list[float]] = {}
        env = clean_env(self.far.folder)
        for _ in range(self.runs):
            for name, way in self.ways(port).items():
                shutil.rmtree(self.staging, ignore_errors=True)
                self.staging.mkdir()
                began = time.perf_counter()
                subprocess.run(way, shell=isinstance(way, str), env=env, check=True)
                took.setdefault(name, []).append(time.perf_counter() - began)
                if len(list(self.staging.iterdir())) != len(self.listing):
                    raise SystemExit(f"{name} did not bring all files")
        return {name: statistics.median(times) for name, times in took.items()}

    def look_s(self, port: int) -> float:
        """As the engine looks, each quarter of a second."""
        host = open_host(access(self.far, port))
        wanted = [Wanted(name) for name in STREAMS]
        for name in STREAMS:
            host.write(name, b"a line\n")
        took = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            host.read_many(wanted)
            took.append(time.perf_counter() - began)
        host.close()
        return statistics.median(took)


def client(words: dict[str, Any]) -> int:
    """One pull, from nothing, by a process of its own."""
    folder = Path(words["folder"])
    far = Far(words["port"], words["user"], Path(words["key"]), words["pin"], folder)
    listing = [Listed(**listed) for listed in json.loads((folder / "listing").read_text())]
    host = open_host(access(far, words["port"]))
    host.get("output", listing, folder / "home", still)
    host.close()
    return 0


def main() -> int:
    if sys.argv[1:2] == ["client"]:
        return client(json.loads(sys.argv[2]))
    args = arguments(__doc__ or "")
    if shutil.which("rsync") is None:
        print("rsync is not installed: nothing to measure against", file=sys.stderr)
        return 0 if args.smoke else 2
    with far_host() as far:
        b = Bench(far, 1 if args.smoke else args.runs, args.smoke)
        near = b.medians(far.port)
        with Relay(("127.0.0.1", far.port), delay_s=RTT_S / 2, bytes_per_s=LINE) as relay:
            away = b.medians(relay.address[1])
            look_s = b.look_s(relay.address[1])
        figures = {
            **{f"500 MB at 1 Gbit/s, 100 ms: {name} s": round(s, 2) for name, s in away.items()},
            **{f"500 MB without distance: {name} s": round(s, 2) for name, s in near.items()},
            "500 MB at 1 Gbit/s / link time": round(away["ours"] / (b.total / LINE), 3),
            "500 MB at 1 Gbit/s / rsync": round(away["ours"] / away["rsync"], 3),
            "500 MB without distance / tar over ssh": round(near["ours"] / near["tar"], 3),
            "one look at four streams / round trip": round(look_s / RTT_S, 3),
        }
        return report("pull", figures, {key: round(bound, 3) for key, bound in BOUNDS.items()}, args)


if __name__ == "__main__":
    sys.exit(main())
