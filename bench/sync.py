"""The push against rsync, tar over ssh and fabric, near and far; whole processes, interleaved, medians.

    python bench/sync.py --runs 3        minutes; needs sshd and rsync, and fabric for one row

Distance is a relay of our own (tests/hosts/relay.py): no loss, no slow start, both ends on this machine. What
is pushed lies on disk, what arrives in memory. Ours includes the look at the project, the kept tree and the
run's own copy; the others only make one copy.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from farhost import CIPHER, Client, Far, client, far_host, noise, order, source_tree, touched
from measure import ROOT, arguments, clean_env, report, scratch

sys.path.insert(0, str(ROOT))

from tests.hosts.relay import Relay

RTT_S = 0.1
PAUSE_S = 1.0  # what a way leaves running must have gone, and is nobody else's to wait for
REST_S = 10.0
LINE, FAST_LINE = 25e6, 125e6  # bytes per second: 200 Mbit/s, 1 Gbit/s
BOUNDS = {
    "first push of 20,000 files / compressed tar over ssh": 1.15,
    "first push of 20,000 files / rsync": 1 / 1.7,
    "40 files / fabric put": 1 / 15,
    "nothing changed / rsync": 1 / 2.8,
    "nothing changed, open connection / rsync over one": 1 / 6,
    "1 % changed / rsync": 1 / 2.5,
    "1 % changed, open connection / rsync over one": 1 / 3.5,
    "256 MiB at 1 Gbit/s / link time": 1.7,
    "1 GiB without distance / tar over ssh": 1.2,
    "1 GB unchanged s": 2.0,
    "1 GB unchanged MB on the wire": 1.0,
    "tree cut half way: rest / whole": 0.7,
    "64 MiB cut half way: rest / whole": 0.7,
    "nothing changed without distance / rsync": 1.6,
    "memory of the first push MB": 120.0,
}
Figures = dict[str, float | None]
Way = Callable[[], float]


class Bench:
    def __init__(self, far: Far, work: Path, runs: int, smoke: bool) -> None:
        self.far = far
        self.work = work
        self.runs = runs
        self.smoke = smoke
        self.figures: Figures = {}
        self.env = clean_env(work / "home")

    def timed(self, argv: list[str], *, shell: str | None = None) -> float:
        began = time.perf_counter()
        done = subprocess.run(shell or argv, shell=shell is not None, env=self.env, check=False)
        if done.returncode:
            raise SystemExit(f"{shell or argv} ended with {done.returncode}")
        return time.perf_counter() - began

    def medians(self, ways: dict[str, Way], runs: int | None = None) -> dict[str, float]:
        """A B C, A B C, …, with a breath between: what a way leaves running must not slow the next."""
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs or self.runs):
            for name, way in ways.items():
                time.sleep(0 if self.smoke else PAUSE_S)
                took[name].append(way())
        return {name: round(statistics.median(times), 3) for name, times in took.items()}

    def note(self, **figures: float) -> None:
        self.figures |= {key.replace("_", " "): round(value, 3) for key, value in figures.items()}

    def ratio(self, name: str, ours: float, other: float) -> None:
        self.figures[name] = round(ours / other, 3)

    @contextmanager
    def line(self, rtt_s: float, bytes_per_s: float | None) -> Iterator[Relay]:
        with Relay(("127.0.0.1", self.far.port), delay_s=rtt_s / 2, bytes_per_s=bytes_per_s) as relay:
            yield relay

    def fresh(self, name: str) -> Path:
        place = self.far.folder / name
        shutil.rmtree(place, ignore_errors=True)
        return place

    def at_rest(self, name: str) -> None:
        """The copy for the next run lies ready: people push minutes apart, not seconds."""
        until = time.monotonic() + REST_S
        kept = (self.far.folder / name / "trees").glob("*/g.*")
        while (made := list(kept)) and not any((g / "spare").exists() for g in made):
            if time.monotonic() > until:
                return  # there is no room for one
            time.sleep(0.05)  # a process of the far host makes it, and tells nobody
            kept = (self.far.folder / name / "trees").glob("*/g.*")

    # --- the ways ---------------------------------------------------------------------------------

    def ours(self, port: int, project: Path, name: str, *, first: bool = False) -> Way:
        def go() -> float:
            if first:
                self.fresh(name)
            else:
                self.at_rest(name)
            return self.timed(client(order(self.far, port, project, name)))

        return go

    def rsync(self, port: int, project: Path, name: str, *, first: bool = False, master: str = "") -> Way:
        def go() -> float:
            place = self.fresh(name) if first else self.far.folder / name
            how = " ".join(self.far.ssh(port, *(["-o", f"ControlPath={master}"] if master else [])))
            return self.timed(
                ["rsync", "-a", "--delete", "-e", how, f"{project}/", f"{self.far.at}:{place}/"]
            )

        return go

    def tar(self, port: int, project: Path, name: str, *, squeeze: bool) -> Way:
        def go() -> float:
            place = self.fresh(name)
            pack, unpack = (f"| {sys.executable} -m isal.igzip -1", "z") if squeeze else ("", "")
            far = " ".join(self.far.ssh(port, "-c", CIPHER, self.far.at))
            there = f"mkdir -p {place} && tar x{unpack}f - -C {place}"
            return self.timed([], shell=f"tar cf - -C {project} . {pack} | {far} '{there}'")

        return go

    def many_ssh(self, port: int, file: Path, size: int, count: int = 8) -> Way:
        """What a line of that length lets through at all: ranges of a file by so many connections, thrown
        away as they arrive. One alone is held up by its window."""

        def go() -> float:
            far = " ".join(self.far.ssh(port, "-c", CIPHER, self.far.at))
            share = (size >> 20) // count
            cut = f"dd if={file} bs=1M count={share} status=none skip="
            parts = [f"{cut}{n * share} | {far} 'cat >/dev/null' &" for n in range(count)]
            return self.timed([], shell=" ".join([*parts, "wait"]))

        return go

    def fabric(self, port: int, project: Path, name: str) -> Way:
        def go() -> float:
            place = self.fresh(name)
            return self.timed(
                [sys.executable, "-c", FABRIC, str(port), str(self.far.key), str(project), str(place)]
            )

        return go

    @contextmanager
    def master(self, port: int) -> Iterator[str]:
        path = str(self.work / "master")
        held = subprocess.Popen(self.far.ssh(port, "-M", "-N", "-o", f"ControlPath={path}", self.far.at))
        try:
            until = time.monotonic() + 20
            while not Path(path).exists():
                if time.monotonic() > until:
                    raise SystemExit("ssh made no connection to share")
                time.sleep(0.05)  # a socket that another program makes tells nobody
            yield path
        finally:
            held.terminate()
            held.wait()


FABRIC = """
import sys
from pathlib import Path
from fabric import Connection
port, key, root, to = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
import getpass
how = {"key_filename": key, "look_for_keys": False, "allow_agent": False}
with Connection("127.0.0.1", user=getpass.getuser(), port=port, connect_kwargs=how) as c:
    for folder in sorted({p.parent for p in root.rglob("*.py")}):
        c.run(f"mkdir -p {to}/{folder.relative_to(root)}", hide=True)
    for path in sorted(root.rglob("*.py")):
        c.put(str(path), f"{to}/{path.relative_to(root)}")
"""


def small_files(b: Bench, project: Path) -> None:
    with b.line(RTT_S, LINE) as relay:
        port = relay.address[1]
        ways = {
            "ours": b.ours(port, project, "first", first=True),
            "tar": b.tar(port, project, "floor", squeeze=True),
            "rsync": b.rsync(port, project, "rsync", first=True),
        }
        took = b.medians(ways)
        b.note(first_push_s=took["ours"], compressed_tar_over_ssh_s=took["tar"], rsync_first_s=took["rsync"])
        b.ratio("first push of 20,000 files / compressed tar over ssh", took["ours"], took["tar"])
        b.ratio("first push of 20,000 files / rsync", took["ours"], took["rsync"])
        b.figures["memory of the first push MB"] = _memory(b, port, project)
        _again(b, port, project)
    with b.line(0, None) as relay:
        port = relay.address[1]
        ways = {"ours": b.ours(port, project, "first"), "rsync": b.rsync(port, project, "rsync")}
        took = b.medians(ways)
        b.note(nothing_changed_without_distance_s=took["ours"])
        b.ratio("nothing changed without distance / rsync", took["ours"], took["rsync"])


def _again(b: Bench, port: int, project: Path) -> None:
    """The second time: nothing changed, then 1 %, each by a new connection and an open one."""
    with b.master(port) as master:
        open_one = Client(order(b.far, port, project, "first"))
        changes = iter(range(1000))

        def changed(way: Way) -> Way:
            def go() -> float:
                touched(project, 100, str(next(changes)))
                return way()

            return go

        def by_the_open_one() -> float:
            b.at_rest("first")
            return open_one.push()

        ways = {
            "ours": b.ours(port, project, "first"),
            "rsync": b.rsync(port, project, "rsync"),
            "open": by_the_open_one,
            "rsync open": b.rsync(port, project, "rsync", master=master),
        }
        for name, took in (
            ("nothing changed", b.medians(ways)),
            ("1 % changed", b.medians({n: changed(w) for n, w in ways.items()})),
        ):
            b.figures |= {f"{name} s": took["ours"], f"{name}, open connection s": took["open"]}
            b.ratio(f"{name} / rsync", took["ours"], took["rsync"])
            b.ratio(f"{name}, open connection / rsync over one", took["open"], took["rsync open"])
        open_one.close()


def _memory(b: Bench, port: int, project: Path) -> float:
    from measure import once

    b.fresh("memory")
    return round(once(client(order(b.far, port, project, "memory")), b.env, b.work).peak_mb, 1)


def few_files(b: Bench, project: Path) -> None:
    if importlib.util.find_spec("fabric") is None:
        print("fabric is not installed: its row is left out")
        return
    with b.line(RTT_S, LINE) as relay:
        port = relay.address[1]
        took = b.medians(
            {"ours": b.ours(port, project, "few", first=True), "put": b.fabric(port, project, "put")}
        )
        b.note(forty_files_s=took["ours"], forty_files_by_fabric_s=took["put"])
        b.ratio("40 files / fabric put", took["ours"], took["put"])


def big_files(b: Bench, far_size: int, near_size: int) -> None:
    far_one, near_one = b.work / "far", b.work / "near"
    for folder, size in ((far_one, far_size), (near_one, near_size)):
        folder.mkdir()
        noise(folder / "noise", size)
    with b.line(RTT_S, FAST_LINE) as relay:
        port = relay.address[1]
        ways = {
            "ours": b.ours(port, far_one, "big", first=True),
            "ssh": b.many_ssh(port, far_one / "noise", far_size),
        }
        took = b.medians(ways)
        b.note(**{"256_MiB_at_1_Gbit/s_s": took["ours"], "256_MiB_by_eight_ssh_at_once_s": took["ssh"]})
        b.ratio("256 MiB at 1 Gbit/s / link time", took["ours"], far_size / FAST_LINE)
    b.fresh("big")
    port = b.far.port
    ways = {
        "ours": b.ours(port, near_one, "near", first=True),
        "tar": b.tar(port, near_one, "near-tar", squeeze=False),
    }
    took = b.medians(ways)
    b.fresh("near-tar")
    b.note(**{"1_GiB_without_distance_s": took["ours"], "1_GiB_by_tar_over_ssh_s": took["tar"]})
    b.ratio("1 GiB without distance / tar over ssh", took["ours"], took["tar"])
    with b.line(RTT_S, LINE) as relay:
        time.sleep(3)  # a file younger than that is read again
        b.ours(relay.address[1], near_one, "near")()
        before = dict(relay.carried)
        took = b.medians({"ours": b.ours(relay.address[1], near_one, "near")})
        wire = sum(relay.carried.values()) - sum(before.values())
    b.figures["1 GB unchanged s"] = took["ours"]
    b.figures["1 GB unchanged MB on the wire"] = round(wire / b.runs / 1e6, 3)
    b.fresh("near")


def cut(b: Bench, name: str, project: Path) -> None:
    """Half of what a whole push sends, then the line breaks: what the next one takes, to a whole one."""
    shares = []
    with b.line(0.04, LINE) as relay:
        go = b.ours(relay.address[1], project, f"cut-{name}", first=True)
        again = b.ours(relay.address[1], project, f"cut-{name}")
        for _ in range(b.runs):
            before = relay.carried["up"]
            whole = go()
            sent = relay.carried["up"] - before
            b.fresh(f"cut-{name}")
            relay.cut_after(sent // 2)
            if (
                subprocess.run(
                    client(order(b.far, relay.address[1], project, f"cut-{name}")),
                    env=b.env,
                    stderr=subprocess.DEVNULL,
                    check=False,
                ).returncode
                == 0
            ):
                raise SystemExit("the line was cut and the push noticed nothing")
            shares.append(again() / whole)
    b.figures[f"{name} cut half way: rest / whole"] = round(statistics.median(shares), 3)


def main() -> int:
    args = arguments(__doc__ or "")
    if shutil.which("rsync") is None:
        print("rsync is not installed: nothing to measure against", file=sys.stderr)
        return 0 if args.smoke else 2
    with scratch() as name, far_host() as far:
        work, small = Path(name), args.smoke
        (work / "home").mkdir()
        b = Bench(far, work, 1 if small else args.runs, small)
        many, few, one = work / "many", work / "few", work / "one"
        source_tree(many, 200 if small else 20_000)
        source_tree(few, 4 if small else 40, per_folder=7)
        one.mkdir()
        noise(one / "noise", 64 << 20)
        cut(b, "64 MiB", one)
        cut(b, "tree", many)
        small_files(b, many)
        few_files(b, few)
        big_files(b, (32 if small else 256) << 20, (32 if small else 1024) << 20)
        return report("sync", b.figures, {k: round(v, 3) for k, v in BOUNDS.items()}, args)


if __name__ == "__main__":
    sys.exit(main())
