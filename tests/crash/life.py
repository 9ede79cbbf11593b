"""One run that is killed and resumed, and what must hold of it once it is over: the command line, the
engine's process and the agent are the real ones, in a folder of their own. It knows not what is killed when.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sysconfig
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from launcher import artifacts
from launcher.driver import holder
from launcher.errors import Busy
from launcher.hosts import HostBook, HostRecord
from launcher.models import Route
from launcher.providers import registry
from launcher.providers.base import Provider
from launcher.store import Home, RunFolder, Versions
from tests.conftest import scrubbed
from tests.crash import stopper
from tests.emulators.runpod.emulation import Emulation
from tests.emulators.runpod.pods import Pod

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0  # with a command that hangs; on a slow core a whole run takes a minute
# What makes an instance, as the stopper names it.
MAKING = {"local": "start python -I -c", "docker": "send POST /containers/create name=launcher-RUN-HEX"}
TRAINER = """
import os, pathlib, time
with open(os.environ["STARTS"], "a") as starts:
    print("started", file=starts)
place = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT"])
for step in (9, 10, 11):  # two are kept, and 9 is the newest only by its name
    print("step", step, flush=True)
    unfinished = place / f"step-{step}.tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "complete").write_text(f"{step}")
    unfinished.rename(place / f"step-{step}")
    time.sleep(0.06)
out = pathlib.Path("out")
(out / "deep").mkdir(parents=True, exist_ok=True)
(out / "model.bin").write_bytes(bytes(range(256)) * 2000)
(out / "deep" / "scores.json").write_text("{}")
"""


def interpreter(place: Path) -> Path:
    """An environment like ours in which the engine's process loads the stopper before anything else."""
    venv.EnvBuilder(symlinks=True).create(place)
    site = next(place.glob("lib/python*/site-packages"))
    ours = sysconfig.get_path("purelib")
    (site / "stopper.pth").write_text(f"{ROOT}\n{ours}\nimport {stopper.__name__}\n")
    return place / "bin" / "python"


@dataclass(frozen=True)
class Target:
    """Where a run is to run, and how its leavings are found."""

    name: str
    words: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    host: Route | None = None  # it is a machine of one's own, called by the target's name
    cloud: Emulation | None = None  # what is rented is this one's

    @property
    def provider(self) -> str:
        return f"{self.name}:{self.name}" if self.host is not None else self.name


def rented(cloud: Emulation) -> Target:
    words = ("--on", "runpod", "--gpu", "RTX 4090", "--image", "any/image:1", "--yes", "--max-cost", "1")
    env = {**cloud.environ(), "LAUNCHER_LISTING_LAG": "0s"}
    return Target("runpod", (*words, "--max-time", "1m"), tuple(env.items()), cloud=cloud)


@dataclass(frozen=True)
class Left:
    """What a run leaves that must be the same, however often its engine was killed."""

    state: str
    files: dict[str, str]
    manifest: tuple[tuple[str, int, str], ...]
    log: str
    checkpoints: dict[str, str]

    def beside(self, other: Left | None) -> str:
        """What is not the same."""
        names = [field.name for field in fields(self)]
        return ", ".join(name for name in names if getattr(self, name) != getattr(other, name, None))


@dataclass
class Killed:
    """An engine that was stopped at a boundary and killed there: what it was about to do was not done."""

    boundary: str
    pid: int


@dataclass
class Life:
    """One run in a folder of its own, whose engines may be killed."""

    root: Path
    python: Path
    target: Target
    run: str
    trainer: str = TRAINER
    options: tuple[str, ...] = ()
    boot_limit_s: int | None = None  # another one than the product's own
    kills: list[Killed] = field(default_factory=list)
    answer: Any = None

    def __post_init__(self) -> None:
        self.project.mkdir(parents=True)
        (self.project / "train.py").write_text(self.trainer)
        os.mkfifo(self.pipe)
        if self.target.host is not None:
            HostBook(self.home).save(HostRecord(self.target.name, self.target.host))

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def pipe(self) -> Path:
        return self.root / "pipe"

    @property
    def trace(self) -> Path:
        return self.root / "trace"

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def folder(self) -> RunFolder:
        return self.home.run(self.run)

    @property
    def provider(self) -> Provider:
        if self.target.cloud is not None:
            return self.target.cloud.provider()
        return registry.load(self.target.provider, self.home)

    def pods(self) -> list[Pod]:
        """All that was ever rented for it."""
        return self.target.cloud.of("LAUNCHER_RUN", self.run) if self.target.cloud is not None else []

    def begin(self, stop: str = "") -> bool:
        """`run`, until it ends (True) or its engine stands at the boundary and was killed there."""
        words = ["run", "--name", self.run, "--project", str(self.project), "--output", "out", "--json"]
        starts = f"STARTS={self.root / 'starts'}" if self.target.name == "local" else "STARTS=/dev/stderr"
        words += ["--env", starts, *self.target.words, *self.options, "--", "python3", "train.py"]
        return self._command(words, stop)

    def say(self, *words: str) -> bool:
        """Any other command about the run that answers with one document."""
        return self._command([*words, self.run, "--json"], "")

    def resume(self, stop: str = "") -> bool:
        return self._command(["resume", self.run, "--json"], stop)

    def kill_engine(self) -> None:
        """Wherever it is just now."""
        owner = holder(self.folder)
        assert owner is not None, self.told()
        os.kill(owner.pid, signal.SIGKILL)

    def facts(self, kind: str) -> list[dict[str, Any]]:
        if not self.folder.journal.exists():  # killed before its first word
            return []
        lines = self.folder.journal.read_bytes().splitlines()
        return [fact for fact in (json.loads(line[9:]) for line in lines) if fact["kind"] == kind]

    def boundaries(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.trace.read_text().splitlines()]

    def _command(self, words: list[str], stop: str) -> bool:
        env = scrubbed(self.root, **dict(self.target.env), LAUNCHER_HOME=str(self.root / "home"))
        if self.boot_limit_s is not None:
            env["LAUNCHER_BOOT_LIMIT"] = f"{self.boot_limit_s}s"
        env |= {stopper.TRACE: str(self.trace), stopper.STOP: stop, stopper.PIPE: str(self.pipe)}
        door = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        command = [str(self.python), "-I", "-m", "launcher", *words]
        with (
            open(self.root / "said", "ab") as said,
            subprocess.Popen(
                command,
                cwd=self.project,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            ) as view,
        ):
            gone = os.pidfd_open(view.pid)
            try:
                ready = select.select([door, gone], [], [], PATIENCE_S)[0]
                if door in ready:
                    os.read(door, 1)
                    self._kill(view)
                    return False
                if gone not in ready:
                    view.kill()
                    raise AssertionError(f"{self.run}: {words[0]} hangs; {self.told()}")
                assert view.stdout is not None
                answer = json.loads(view.stdout.read() or b"{}")
                self.answer = {"exit": view.wait(), **(answer if isinstance(answer, dict) else {"": answer})}
                return True
            finally:
                os.close(gone)
                os.close(door)

    def _kill(self, view: subprocess.Popen[bytes]) -> None:
        """As when the machine loses power: the engine at this very point, and the terminal with it."""
        pid, boundary = self.trace.read_text().splitlines()[-1].split(" ", 1)
        self.kills.append(Killed(boundary, int(pid)))
        os.kill(int(pid), signal.SIGKILL)
        view.kill()
        view.wait()

    def tear(self) -> None:
        """Half a line stands at the journal's end, as after a write that was cut."""
        with self.folder.journal.open("ab") as journal:
            journal.write(b'3f1c77aa {"kind":"gone","at":"2026-')

    def told(self) -> str:
        """For a failure: what was killed, what the commands and the engines said."""
        said = (self.root / "said").read_text(errors="replace")[-1500:]
        log = self.folder.engine_log
        engine = log.read_text(errors="replace")[-2500:] if log.exists() else ""
        return f"killed at {[k.boundary for k in self.kills]}; {self.answer}\n{said}\n{engine}"

    # --- what is left ------------------------------------------------------------------------

    def left(self) -> Left:
        version = Path(str(self.answer["artifacts"]))
        manifest = json.loads((version / artifacts.MANIFEST).read_bytes())
        listed = [(f["path"], f["size"], f["sha256"]) for f in manifest["files"]]
        return Left(
            str(self.answer["state"]),
            {path: sha for path, sha in hashes(version).items() if not ours(path)},
            tuple(entry for entry in listed if not ours(entry[0])),
            (version / artifacts.OWN / "log").read_text(),
            hashes(self.folder.checkpoints),
        )

    def faults(self, undisturbed: Left | None = None) -> list[str]:
        """Everything that is not as it must be."""
        if self.answer is None or self.answer["exit"] != 0 or self.answer["state"] != "done":
            return ["not done"]
        left = self.left()
        versions = Versions(self.project)
        names = [n for n in os.listdir(versions.root) if not n.startswith(".") and n != "latest.json"]
        latest = json.loads(versions.latest.read_bytes())
        tell: dict[str, Callable[[], bool]] = {
            f"other {left.beside(undisturbed)} than the undisturbed run": lambda: undisturbed in (None, left),
            "results that do not match the manifest": lambda: not artifacts.verify(versions.root / names[0]),
            f"not one version: {names}": lambda: names == [self.answer["version"]],
            f"latest.json: {latest}": lambda: [latest["version"], latest["run"]] == [names[0], self.run],
            "a .partial is left": lambda: not any(self.root.rglob("*.partial/*")),
            "trainer started more than once": lambda: self._starts() == 1,
        }
        return [fault for fault, holds in tell.items() if not holds()] + self._doubled() + self._running()

    def _starts(self) -> int:
        if self.target.name == "local":
            return (self.root / "starts").read_text().count("started")
        return self.left().log.count("started")

    def _doubled(self) -> list[str]:
        """Nothing was asked for twice: neither by the journal nor by what the engines did."""
        kinds = Counter(
            json.loads(line[9:])["kind"] for line in self.folder.journal.read_bytes().splitlines()
        )
        once = ("created", "started", "sealed", "versioned", "ended")
        faults = [f"{kinds[kind]} x {kind}" for kind in once if kinds[kind] != 1]
        slept = kinds["woken"]  # whoever came back too late found it asleep, and woke it to be read
        if kinds["gone"] != 1 + slept:
            faults.append(f"{kinds['gone']} x gone, {slept} x woken")
        # A machine that had its receipt may have left before we could write down that we sent it.
        if not 1 <= kinds["receipt"] + kinds["over"] - slept <= 2 or kinds["receipt"] > 1:
            faults.append("no end of the machine by its receipt")
        # Asked for again only after it was proved that the first asking had made nothing.
        if kinds["create-asked"] - kinds["not-created"] != 1:
            faults.append("asked for a second machine")
        return faults + [f"{count} x {name}" for name, count in self._done().items() if count != 1]

    def _done(self) -> dict[str, int]:
        """How often an instance was really made, as the engines themselves did it."""
        if self.target.cloud is not None:
            return {"pod": len(self.pods())}
        making = MAKING.get(self.target.name)
        if making is None:  # asked for twice with one token it is made once; starts are what is counted
            return {}
        done = sum(name == making for name in self.boundaries())
        return {making: done - sum(kill.boundary == making for kill in self.kills)}

    def _running(self) -> list[str]:
        provider = self.provider
        end = time.monotonic() + 30  # an engine leaves a moment after its last fact
        while (pids := list(self.processes())) and time.monotonic() < end:
            with suppress(psutil.NoSuchProcess):  # it went just now
                psutil.wait_procs([psutil.Process(p) for p in pids], timeout=0.2)
        faults = [f"a process is left: {pids}"] if pids else []
        listed = [resource.id for resource in provider.list(self.run)]
        return faults + ([f"still listed: {listed}"] if listed else []) + self.owes()

    def owes(self) -> list[str]:
        """By the books of whoever it was rented from."""
        if self.target.cloud is None:
            return []
        ledger, pods = self.target.cloud.cloud.ledger, {pod.id for pod in self.pods()}
        faults = [f"bills: {left}"] if (left := pods & set(ledger.billing())) else []
        return faults + (["two billed at once"] if ledger.most_at_once(pods) > 1 else [])

    def processes(self) -> Iterator[int]:
        """By the label in their environment, or by the run's folder in their command."""
        label, folder = f"LAUNCHER_RUN={self.run}".encode(), str(self.folder.root).encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):  # gone meanwhile; of a zombie there is nothing to read
                environ, argv = (
                    Path("/proc", pid, name).read_bytes().split(b"\0") for name in ("environ", "cmdline")
                )
                if int(pid) != os.getpid() and (label in environ or folder in argv):
                    yield int(pid)

    def clean(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        provider = self.provider
        for resource in sorted(provider.list(self.run), key=lambda r: r.kind != "instance"):
            with suppress(Busy):
                provider.terminate(resource.id)
        shutil.rmtree(self.root)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ours(path: str) -> bool:
    return path.startswith(f"{artifacts.OWN}/") or path == artifacts.MANIFEST
