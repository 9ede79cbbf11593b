"""A run that serves a page of its own, here or in a container, and a person who opens things beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.e2e.containers import DockerPerson
from tests.e2e.hosted import HostedPerson
from tests.e2e.person import Person, until

# Serves its words on a port of its loopback, writes TensorBoard's kind of file, and works until it is let go.
SERVES = """
import http.server, os, pathlib, sys, threading, time
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        words = ("page of " + os.environ["LAUNCHER_RUN"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
(out / "logs").mkdir(parents=True)
(out / "logs" / "events.out.tfevents.1.test").write_bytes(b"")
print("port", server.server_port, flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""


@dataclass
class Serving:
    """A detached run that serves."""

    person: Person
    name: str
    container: str | None = None
    port: int = field(init=False)

    def __post_init__(self) -> None:
        def told() -> str:
            return self.person.types("logs", self.name).stdout

        self.port = int(until(told, "its port").split()[1])

    @property
    def go(self) -> str:
        return "/tmp/go" if self.container else str(self.person.root / f"go-{self.name}")

    def is_let_go(self) -> None:
        if self.container is not None and isinstance(self.person, DockerPerson):
            self.person.inside(self.container, "touch", self.go)
        else:
            Path(self.go).touch()

    def has_ended(self) -> None:
        until(lambda: self.person.state(self.name) == "done", "its end")


def serving(person: Person, name: str) -> Serving:
    person.writes("serves.py", SERVES)
    if isinstance(person, HostedPerson):
        begun = person.hosted("ssh:box", "python3", "serves.py", "/tmp/go", flags=("--name", name, "-d"))
        assert begun.code == 0, begun.stderr
        return Serving(person, name)
    if isinstance(person, DockerPerson):
        begun = person.docked("python3", "serves.py", "/tmp/go", flags=("--name", name, "-d"))
        assert begun.code == 0, begun.stderr
        return Serving(person, name, person.containers(name)[0])
    go = str(person.root / f"go-{name}")
    begun = person.own(sys.executable, "serves.py", go, flags=("--name", name, "-d"))
    assert begun.code == 0, begun.stderr
    return Serving(person, name)


@dataclass
class Opened:
    """`open --json` under way, and its document."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def page(self, below: str = "") -> str:
        with urlopen(self.url + below, timeout=30) as answer:
            return str(answer.read().decode("utf-8", "replace"))

    def is_left(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        return self.ends()

    def ends(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def opened(person: Person, *words: str) -> Iterator[Opened]:
    process = person.begins("open", *words, "--json")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield Opened(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()


def in_somebodys_words(secret: str) -> list[str]:
    """Processes whose words, which every user may list, hold it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile
        if secret.encode() in words:
            found.append(words.decode(errors="replace"))
    return found
