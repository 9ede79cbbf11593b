"""The small program that keeps one program of the user's (TensorBoard, Jupyter) beside a run's trainer.

`python3 -I attendant.py NAME ID`, in a private folder that holds `NAME.ID.json`, the wish: which module,
which interpreters may have it, what to install otherwise, what to start. One attendant per NAME holds a
lock; a second one leaves at once. What it does stands in `NAME.json`, all output in `NAME.log`. It carries
the run's mark, so the agent ends it with the run, and it leaves by itself when the agent is gone. Standard
library only, Python >= 3.10, imports nothing of ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

MARK = "LAUNCHER_INSTANCE"
NOT_FOR_PROGRAMS = ("LAUNCHER_BOOT", "LAUNCHER_ENDS_", "LAUNCHER_HOLD", "LAUNCHER_CONSOLE", "LAUNCHER_SPOOL")
LOOK_S = 0.25  # a port that opens, and an agent that is no child of ours, tell nobody
LEAVE_S = 3.0
TRIES = 3  # a port that was free a moment ago may be taken
KEPT_LINES = 20
HAS = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"

Wish = dict[str, Any]


class Failed(Exception):
    """Why the program cannot be had, in one line."""


class Attendant:
    def __init__(self, name: str, id: str, wish: Wish) -> None:
        self.name = name
        self.id = id
        self.wish = wish
        self.child: subprocess.Popen[bytes] | None = None
        self.makes = ""  # what an environment had to be made of

    def attend(self) -> None:
        try:
            self.tell("preparing")
            python, job = self.interpreter()
            self.lay_out(python, job)
            self.tell("starting")
            for _ in range(TRIES):
                port = self.wish["port"] or free_port()
                if self.begin(python, job, port):
                    break
            else:
                raise Failed(f"{self.name} did not start: {self.last_words()}")
            self.tell("ready", port=port)
            self.keep()
            self.tell("ended", said="the run has ended" if self.alone() else self.last_words())
        except Failed as why:
            self.tell("failed", said=str(why))
        except OSError as why:
            self.tell("failed", said=f"{why.filename or self.name}: {why.strerror}")
        finally:
            self.end_child()

    # --- which Python ------------------------------------------------------------------------

    def interpreter(self) -> tuple[str, str]:
        """(the Python that runs the program, the Python of the job)"""
        found = [path for word in self.wish["pythons"] if (path := shutil.which(word))]
        if not found:
            raise Failed(f"there is none of {', '.join(self.wish['pythons'])} here")
        for path in found:
            if self.quiet([path, "-c", HAS, self.wish["module"]]) == 0:
                return path, found[0]
        return self.made(found[0]), found[0]

    def quiet(self, argv: list[str]) -> int:
        try:
            void = subprocess.DEVNULL
            return subprocess.run(argv, stdin=void, stdout=void, stderr=void, timeout=60).returncode
        except (OSError, subprocess.TimeoutExpired):
            return 1

    def made(self, job: str) -> str:
        """An environment by digest, for the job's own Python: what is in it can then be used by both."""
        self.makes = self.wish["requirements"]
        self.tell("making")
        listed = f"{self.name}.txt"
        with open(listed, "w", encoding="utf-8") as out:
            out.write(self.wish["requirements"].replace(" ", "\n") + "\n")
        argv = [*self.wish["make"], "--into", self.wish["into"], "--requirements", listed, "--python", job]
        with open(f"{self.name}.log", "ab") as log:
            self.child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
            last = b""
            for line in self.child.stdout or ():
                last = line
                if not line.startswith(b"{"):  # the answer, meant for us
                    log.write(line)
                    log.flush()
        if self.child.wait() != 0:
            raise Failed(f"no environment for {self.name} could be made: {self.last_words()}")
        self.child = None
        return str(json.loads(last)["python"])

    def lay_out(self, python: str, job: str) -> None:
        """Files that the program reads: they may name the Pythons."""
        for name, text in self.wish["files"].items():
            site = subprocess.run([python, "-c", SITE], capture_output=True, text=True, timeout=60)
            os.makedirs(os.path.dirname(name), mode=0o700, exist_ok=True)
            with open(name, "w", encoding="utf-8") as out:
                out.write(text.replace("@JOB@", job).replace("@SITE@", site.stdout.strip()))

    # --- the program -------------------------------------------------------------------------

    def begin(self, python: str, job: str, port: int) -> bool:
        """Whether it listens; False when it ended before."""
        words = {"@PYTHON@": python, "@JOB@": job, "@PORT@": str(port)}
        argv = [filled(word, words) for word in self.wish["argv"]]
        env = {**os.environ, self.wish["secret_in"]: self.wish["secret"]}
        with open(f"{self.name}.log", "ab") as log:
            self.child = subprocess.Popen(
                argv, cwd=self.wish["cwd"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        while self.child.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            if self.alone():
                raise Failed("the run has ended")
            time.sleep(LOOK_S)
        return False

    def keep(self) -> None:
        assert self.child is not None
        while self.child.poll() is None and not self.alone():
            time.sleep(LOOK_S)

    def alone(self) -> bool:
        """The agent, or whoever else this is for, is gone."""
        if time.time() > (self.wish["ends_at"] or float("inf")):
            return True
        pid = self.wish["lives_with"]
        return pid is not None and not alive(pid)

    def end_child(self) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(LEAVE_S)
                return

    # --- words -------------------------------------------------------------------------------

    def tell(self, state: str, **more: Any) -> None:
        """Whole or not at all. The secret is in it: whoever may read this folder may use the program."""
        told = {"id": self.id, "state": state, "secret": self.wish["secret"], "makes": self.makes, **more}
        beside = f"{self.name}.json.{self.id}"
        with open(beside, "w", encoding="utf-8") as out:
            json.dump(told, out)
        os.rename(beside, f"{self.name}.json")

    def last_words(self) -> str:
        with open(f"{self.name}.log", encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log.readlines()[-KEPT_LINES:] if line.strip()]
        return (lines[-1] if lines else "it said nothing").replace(self.wish["secret"], "…")


def filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(name, value)
    return word


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:  # no /proc here, or gone this moment: the next look tells
        return True


def surroundings(wish: Wish) -> dict[str, str]:
    """The agent's own environment is the trainer's; where it cannot be read, ours has to do."""
    env = dict(os.environ)
    with suppress(OSError):
        if wish["lives_with"] is not None and wish["mark"]:
            with open(f"/proc/{wish['lives_with']}/environ", "rb") as file:
                pairs = [one.partition("=") for one in os.fsdecode(file.read()).split("\0")]
            env = {name: value for name, _, value in pairs if name}
    kept = {name: value for name, value in env.items() if not name.startswith(NOT_FOR_PROGRAMS)}
    return {**kept, **wish["env"], MARK: wish["mark"]}


def main() -> None:
    os.umask(0o077)
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    name, id = sys.argv[1:3]
    wished = f"{name}.{id}.json"
    with open(wished, encoding="utf-8") as file:
        wish = json.load(file)
    if os.environ.get("LAUNCHER_ATTENDS") != id:  # begun anew, so that the mark can be seen from outside
        env = {**surroundings(wish), "LAUNCHER_ATTENDS": id}
        words = [sys.executable, "-I", os.path.abspath(__file__), name, id]
        os.execve(sys.executable, words, env)  # noqa: S606 - no shell is meant
    os.unlink(wished)
    lock = os.open(f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # somebody else was quicker; whoever asked us reads what that one says
    with open(f"{name}.log", "wb"):
        pass
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Attendant(name, id, wish).attend()


if __name__ == "__main__":
    main()
