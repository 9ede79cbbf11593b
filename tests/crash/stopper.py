"""Inside the engine's process: name every change it is about to make, and stand still at a chosen one.

It is imported by a line in the site-packages of an environment that the test makes, so the product runs as
it is: same command line, same modules, nothing wrapped. Python itself announces files that are opened, made,
renamed or removed, processes that are started or ended, requests that are sent; each announcement comes
*before* its effect, so a stop at the next one is a stop right after the one before. At the chosen boundary a
word goes into a pipe and the process waits to be killed from outside. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

TRACE, STOP, PIPE = "CRASH_TRACE", "CRASH_STOP", "CRASH_PIPE"
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# How often these happen is a matter of timing: the first time is the boundary.
OFTEN = (
    *(
        "append run/attempts/",
        "read spool/",
        "send GET",
        "remove within",
        "write spool/in/",
        "mkdir spool/in",
    ),
    "container read",
    "ask list",
    "ask console",
)
FETCHED = re.compile(r"^spool/(project/[^/]*/out/|checkpoint/|sealed\.json)")
UNSTABLE = (
    (re.compile(r"\.\d+\.new$"), ".new"),
    (re.compile(r"-part-\d+$"), "-part"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HEX"),
    (re.compile(r"\d{8}_\d{6}"), "TIME"),
    (re.compile(r"-[0-9a-f]{8}(?=[-/ ]|$)"), "-HEX"),
)


class Stopper:
    def __init__(self, folder: Path, trace: str, stop: str, pipe: str) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pipe = os.open(pipe, os.O_WRONLY)
        self._stop = stop  # a boundary's name, "#<n>" for the n-th of this life, or nothing
        self._run = folder.name
        self._journal = folder / "journal.jsonl"
        project = json.loads((folder / "plan.json").read_bytes())["project"]
        self._roots = (
            (f"{folder}/attempts/1/spool", "spool"),
            (str(folder), "run"),
            (str(folder.parent.parent), "home"),
            (f"{project}/models/.partial/{folder.name}", "partial"),
            (project, "project"),
        )
        self._seen: Counter[str] = Counter()
        self._busy = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            name = self._name(event, args)
            if name is not None:
                self.boundary(name)
        finally:
            self._busy = False

    def boundary(self, name: str) -> None:
        self._seen[name] += 1
        if self._seen[name] > 1:
            if name.startswith(OFTEN):
                return
            name = f"{name} ({self._seen[name]})"
        os.write(self._trace, f"{os.getpid()} {name}\n".encode())
        self._seen["#"] += 1
        if self._stop in (name, f"#{self._seen['#']}"):
            os.write(self._pipe, b"!")
            while True:
                signal.pause()

    # --- names -------------------------------------------------------------------------------

    def _name(self, event: str, args: tuple[Any, ...]) -> str | None:
        if "__pycache__" in str(args[:1]):
            return None  # Python's own store, not a change of ours
        if event == "open":
            return self._opened(args)
        if event in ("os.rename", "os.link", "os.symlink"):
            return f"{event[3:]} {self._short(args[0])} -> {self._short(args[1])}"
        if event in ("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree"):
            return self._named(event.split(".")[1], args[0])
        if event == "subprocess.Popen":
            return " ".join(["start", Path(args[0]).name, *(w for w in args[1] if w.startswith("-"))])
        if event in ("os.kill", "os.killpg"):
            return f"kill by {signal.Signals(args[1]).name}" if args[1] else None  # 0 only asks
        if event == "launcher.remote.call":
            return self._short(f"container {args[0]} {args[1] or ''}").rstrip()
        if event == "launcher.providers.ask":
            return f"ask {args[0]}"
        if event == "http.client.send":
            return self._request(bytes(args[1]))
        return None

    def _named(self, verb: str, path: Any) -> str | None:
        """A tree is removed from within, name by name; what is there or gone already is not changed."""
        name = self._short(path)
        if "/" not in name:
            return f"{verb} {name}" if verb == "mkdir" else "remove within a tree"
        if isinstance(path, int) or os.path.lexists(path) == (verb != "mkdir"):
            return f"{verb} {name}"
        return None

    def _opened(self, args: tuple[Any, ...]) -> str | None:
        path, flags = args[0], args[2]
        if isinstance(path, int):
            return None
        name = self._short(path)
        if not flags & CHANGES:
            return f"read {name}" if FETCHED.match(name) else None
        if name.startswith("/dev/"):
            return None
        if flags & os.O_APPEND:
            after = f" after {self._last_fact()}" if name == "run/journal.jsonl" else ""
            return f"append {name}{after}"
        return f"write {name}"

    def _last_fact(self) -> str:
        lines = self._journal.read_bytes().splitlines()
        return str(json.loads(lines[-1][9:])["kind"]) if lines else "nothing"

    def _request(self, data: bytes) -> str | None:
        line = data.split(b"\r\n", 1)[0].decode("latin-1").removesuffix(" HTTP/1.1")
        if not re.match(r"[A-Z]+ /", line):
            return None  # a body that follows its head
        path, _, query = re.sub(r"/v[\d.]+/", "/", line).partition("?")
        called = [word for word in query.split("&") if word.startswith("name=")]
        return self._short(" ".join(["send", path, *called]))

    def _short(self, path: Any) -> str:
        name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        for root, word in self._roots:
            if name == root or name.startswith(root + "/"):
                name = word + name[len(root) :]
                break
        for pattern, word in UNSTABLE:
            name = pattern.sub(word, name)
        return name.replace(self._run, "RUN")


def _begin() -> None:
    import atexit

    folder = Path(sys.orig_argv[-1])
    stopper = Stopper(folder, os.environ[TRACE], os.environ.get(STOP, ""), os.environ[PIPE])
    atexit.register(stopper.boundary, "leave")
    sys.addaudithook(stopper)


if TRACE in os.environ and "launcher.driver" in sys.orig_argv:
    _begin()
