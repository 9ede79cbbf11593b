"""A real agent under its real boot guard in a folder of its own: commands go in, events are awaited."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

from launcher.agentpack import agent_bytes, boot_guard

PATIENCE_S = 60.0
Event = dict[str, Any]


def until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Look until it holds; the answer that held."""
    end = time.monotonic() + patience_s
    while True:
        if answer := holds():
            return answer
        assert time.monotonic() < end, f"waited {patience_s} s for {what}"
        time.sleep(0.01)  # of all kinds of things, most of them files of other processes


def alive(pid: int) -> bool:
    """A zombie is dead: it only waits for its burial."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Live:
    def __init__(self, folder: Path, env: Mapping[str, str], wrap: Sequence[str] = ()) -> None:
        self.root = folder / "spool"
        self.token = token_hex(16)
        self.n = 0
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        ends_at = datetime.now(UTC) + timedelta(seconds=float(env.get("LAUNCHER_ENDS_IN", "120")))
        self.env = {
            **kept,
            "LAUNCHER_INSTANCE": self.token,
            "LAUNCHER_RUN": "quick-abcd",
            "LAUNCHER_OWNER": "owner",
            "LAUNCHER_ENDS_AT": ends_at.isoformat().replace("+00:00", "Z"),
            "LAUNCHER_ENDS_IN": "120",
            "LAUNCHER_BOOT_LIMIT": "60",
            "LAUNCHER_HOLD": "60",
            "LAUNCHER_SPOOL": str(self.root),
            "LAUNCHER_CONSOLE": "file",
            **env,
        }
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-I", "-c", boot_guard(), self.token],
            env=self.env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def deliver(self) -> Live:
        """The agent arrives by rename, as a client does it."""
        until((self.root / "in").is_dir, "the guard's folders")
        (self.root / ".agent").write_bytes(agent_bytes())
        (self.root / ".agent").rename(self.root / "agent.pyz")
        return self

    def armed(self) -> Live:
        self.deliver().event("armed")
        return self

    def put(self, data: bytes | str, name: str | None = None) -> None:
        """A command file, by rename."""
        beside = self.root / "in" / ".beside"
        beside.write_bytes(data.encode() if isinstance(data, str) else data)
        beside.rename(self.root / "in" / (name or f"{self.n:06d}.json"))

    def say(self, verb: str, **data: Any) -> None:
        self.n += 1
        self.put(json.dumps({"n": self.n, "verb": verb, **data}))

    def start(self, *argv: str, **job: Any) -> None:
        defaults = {"cwd": ".", "max_time_s": 60, "salvage_s": 20, "grace_s": 5, "checkpoint_every_s": 1}
        self.say("start", job={"argv": list(argv), **defaults, **job})

    def python(self, source: str, **job: Any) -> None:
        """Start a trainer written in Python."""
        (self.root / "train.py").write_text(source)
        self.start(sys.executable, "train.py", **job)

    def events(self) -> list[Event]:
        path = self.root / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def agent(self) -> int:
        """Below its keeper, which is the process that was begun."""
        return int(self.event("hello")["pid"])

    def samples(self) -> list[Event]:
        path = self.root / "telemetry.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def event(self, kind: str, patience_s: float = PATIENCE_S, **facts: Any) -> Event:
        def look() -> Event | None:
            return next(
                (
                    e
                    for e in self.events()
                    if e["ev"] == kind and all(e.get(k) == v for k, v in facts.items())
                ),
                None,
            )

        found = until(look, f"{kind} {facts} in {self.kinds()}", patience_s)
        assert isinstance(found, dict)
        return found

    def kinds(self) -> list[str]:
        return [e["ev"] for e in self.events()]

    def sealed(self) -> dict[str, str]:
        """path -> sha256 of the sealed list, whose digest was announced."""
        event = self.event("sealed")
        data = (self.root / "sealed.json").read_bytes()
        assert hashlib.sha256(data).hexdigest() == event["digest"]
        files = json.loads(data)["files"]
        assert (len(files), sum(f["size"] for f in files)) == (event["count"], event["bytes"])
        return {f["path"]: f["sha256"] for f in files}

    def receipt(self) -> None:
        self.say("receipt", digest=self.event("sealed")["digest"])

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """The agent's exit status, once it is gone and nothing of it is left."""
        code = self.process.wait(patience_s)
        assert list(self.marked()) == []
        return code

    def marked(self) -> Iterator[int]:
        """Processes that carry this instance's token."""
        mark = f"LAUNCHER_INSTANCE={self.token}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and alive(int(entry.name)):
                try:
                    if mark in (entry / "environ").read_bytes():
                        yield int(entry.name)
                except OSError:
                    continue

    def written(self, name: str) -> str:
        """What a trainer wrote into a file, once it is whole (it ends with a newline)."""
        path = self.root / name

        def look() -> str | None:
            text = path.read_text() if path.exists() else ""
            return text if text.endswith("\n") else None

        return str(until(look, name)).strip()

    def pid_in(self, name: str) -> int:
        return int(self.written(name))

    def clean(self) -> None:
        """Whatever a failed test left."""
        for pid in [*self.marked(), self.process.pid]:
            if self.process.poll() is None or pid != self.process.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


class Begin(Protocol):
    def __call__(self, wrap: Sequence[str] = (), **env: str) -> Live: ...


@contextmanager
def nursery(folder: Path) -> Iterator[Begin]:
    """Lives in folders of their own; whatever a failed test leaves of them is ended."""
    lives: list[Live] = []

    def begin(wrap: Sequence[str] = (), **env: str) -> Live:
        lives.append(Live(folder / f"life{len(lives)}", env, wrap))
        return lives[-1]

    try:
        yield begin
    finally:
        for live in lives:
            live.clean()
