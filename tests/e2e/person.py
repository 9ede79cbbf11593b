"""A person at a shell: a data folder, a project folder, the real command line, and what is left behind.

Knows the contract (files, documents, statuses) and nothing of the launcher's insides.
"""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.conftest import Outcome, run_command, scrubbed
from tests.cores import speed

COMMAND = [sys.executable, "-I", "-m", "launcher"]
PATIENCE_S = 90.0  # an event is awaited, on whatever machine; what has to be quick says so by itself
HANGS_S = 240.0  # a command that does not end

# Says that it is there, then works until it is let go or asked to leave.
WORKER = """
import json, os, pathlib, signal, sys, time
go = pathlib.Path(sys.argv[1])
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
marks = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT"])
def leave(*_):
    (marks / "last").mkdir(exist_ok=True)
    (marks / "last" / "step").write_text("7")
    (marks / "last" / "complete").write_text("")
    (out / "left").write_text("politely")
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("working", flush=True)
while not go.exists():
    time.sleep(0.02)
(out / "model.bin").write_bytes(b"weights")
print("finished", flush=True)
"""

MINI_RECIPE = """
name: mini
summary: Writes down what it was told.
command: [python3, trainers/mini/train.py]
max_time: 1m
hours: {cpu: [0.001, 0.002, 0.003]}
args:
  epochs: {type: int, default: 3, min: 1, max: 100, help: how often}
  batch_size: {type: int, default: 8, min: 1, max: 64, help: how many at once}
"""
MINI = """
import json, os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "argv.json").write_text(json.dumps(sys.argv[1:]))
(out / "result.json").write_text(json.dumps(
    {"device": {"used": "cpu", "name": "cpu"}, "metrics": {"auc": float(os.environ.get("AUC", "0.5"))}}))
print("trained", flush=True)
"""


def until(seen: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if answer := seen():
            return answer
        time.sleep(0.02)  # as a person does: what is seen are files and answers of other processes
    raise AssertionError(f"{what}: not within {patience_s:g} s")


@dataclass
class Person:
    patience_s: ClassVar[float] = PATIENCE_S

    root: Path
    extra: dict[str, str] = field(default_factory=dict)
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.root / "home" / "launcher"
        self.project = self.root / "project"
        self.project.mkdir(parents=True, exist_ok=True)
        self.home.parent.mkdir(exist_ok=True)

    # --- typing ------------------------------------------------------------------------------

    def environ(self, **env: str) -> dict[str, str]:
        return scrubbed(self.root / "home", **{"LAUNCHER_PROG": "launcher", **self.extra, **env})

    def types(
        self, *words: str, cwd: Path | None = None, stdin: str = "", timeout: float = HANGS_S, **env: str
    ) -> Outcome:
        return run_command([*COMMAND, *words], cwd or self.project, self.environ(**env), stdin, timeout)

    def own(self, *words: str, flags: Sequence[str] = (), **env: str) -> Outcome:
        """A run of the person's own project, as one JSON document."""
        line = ("run", "--project", str(self.project), "--on", "local", "--json", *flags, "--", *words)
        return run_command([*COMMAND, *line], self.project, self.environ(**env), "", HANGS_S)

    def begins(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """A command that goes on while the person does something else."""
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=cwd or self.project,
            env=self.environ(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.begun.append(process)
        return process

    @contextmanager
    def terminal(self, *words: str, **env: str) -> Iterator[Terminal]:
        screen = Terminal(self, words, env)
        try:
            yield screen
        finally:
            screen.close()

    # --- files -------------------------------------------------------------------------------

    def writes(self, name: str, text: str) -> Path:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def trainer(self) -> None:
        """A trainer of the person's own called `mini`: it needs nothing and writes down its arguments."""
        self.writes("trainers/mini/trainer.yaml", MINI_RECIPE)
        self.writes("trainers/mini/train.py", MINI)

    def git(self) -> None:
        """The project becomes a repository with everything in it committed."""
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "first")):
            subprocess.run(["git", *words], cwd=self.project, check=True, capture_output=True)

    def worker(self, name: str, *flags: str) -> tuple[Path, Outcome]:
        """A detached run called `name` that works until its file is made."""
        self.writes("work.py", WORKER)
        go = self.root / f"go-{name}"
        words = ("--project", ".", "--on", "local", "--name", name, "-d", "--json", *flags)
        said = self.types("run", *words, "--", sys.executable, "work.py", str(go))
        assert said.code == 0, said.stderr
        return go, said

    # --- what is there -----------------------------------------------------------------------

    def run_folder(self, name: str) -> Path:
        return self.home / "runs" / name

    def facts(self, name: str) -> list[dict[str, Any]]:
        lines = (self.run_folder(name) / "journal.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line[line.index(b"{") :]) for line in lines]

    def waits_for(self, name: str, kind: str, times: int = 1) -> dict[str, Any]:
        """The fact of that kind in the run's journal, once it is there so many times: the last of those."""

        def seen() -> list[dict[str, Any]]:
            with suppress(FileNotFoundError):
                return [fact for fact in self.facts(name) if fact["kind"] == kind][times - 1 :]
            return []

        found: list[dict[str, Any]] = until(seen, f"{name}: {kind}", self.patience_s)
        return found[0]

    def ps(self) -> dict[str, dict[str, Any]]:
        return {row["run"]: row for row in self.types("ps", "--json").json()}

    def state(self, name: str) -> str:
        return str(self.ps()[name]["state"])

    def engine(self, name: str) -> int:
        """The process that holds the run."""
        return int(json.loads((self.run_folder(name) / "lock").read_text())["pid"])

    def processes(self) -> dict[int, str]:
        """Everything alive that belongs to this data folder: commands, engines, agents, trainers."""
        owner = self.home / "owner"
        marks = [b"LAUNCHER_HOME=" + os.fsencode(self.home)]
        if owner.exists():
            marks.append(b"LAUNCHER_OWNER=" + owner.read_bytes().strip())
        found: dict[int, str] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if any(mark in environ for mark in marks):
                    argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(pid)] = argv.decode(errors="replace")[:200]
        return found

    def alone(self, patience_s: float = 30) -> None:
        """Nothing of it is left running."""
        until(lambda: not self.processes(), f"still there: {self.processes()}", patience_s)

    def cleans_up(self) -> None:
        """Whatever a failed test left: by the pids that carry this data folder's own words."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.begun:
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


class Terminal:
    """A command on a real terminal."""

    def __init__(self, person: Person, words: Sequence[str], env: dict[str, str]) -> None:
        self.text = ""
        self._fd, other = pty.openpty()
        environ = person.environ(**{"TERM": "xterm", "COLUMNS": "100", "LINES": "30", **env})
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=person.project,
            env=environ,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def reads(self) -> str:
        while select.select([self._fd], [], [], 0)[0]:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # the other end is closed
                break
            self.text += data.decode("utf-8", "replace")
        return self.text

    def sees(self, what: str, patience_s: float = PATIENCE_S) -> None:
        try:
            until(lambda: re.search(what, self.reads()), what, patience_s)
        except AssertionError as e:
            raise AssertionError(f"{e}; the screen shows:\n{self.text[-3000:]}") from None

    def types(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def presses_ctrl_c(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def ends(self, patience_s: float = PATIENCE_S) -> int:
        until(lambda: self.reads() is not None and self.process.poll() is not None, "its end", patience_s)
        self.reads()
        return int(self.process.returncode)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)


# What is refused with nothing remote involved is refused within this.
AT_ONCE_S = 0.3
# What a busy machine may add by letting us wait for a core; a deadline that is waited for is longer.
WAITING_S = 1.0


def quickest(person: Person, *words: str) -> tuple[float, Outcome]:
    """The best of three in seconds of an ordinary core, because other tests' waiting is not its own."""
    took: list[float] = []
    while len(took) < 3 and (not took or took[-1] >= AT_ONCE_S):
        core = min(1.0, speed())
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = person.types(*words, timeout=30)
        after, waited = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        took.append(max(used, waited - WAITING_S) * core)
    return min(took), done
