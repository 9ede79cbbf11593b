"""A host to push to that is this machine behind a line: its own sshd on the loopback, a relay that makes it
far, and the launcher's push as a process of its own. Needs sshd; what arrives lies in memory if it can.

    python bench/farhost.py '{"route": …, "project": …}'      one push, then one more for each line on stdin
"""

from __future__ import annotations

import getpass
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
MEMORY = Path("/dev/shm")
CIPHER = "aes128-gcm@openssh.com"


@dataclass(frozen=True)
class Far:
    """Where it listens, how one is let in, and what it may fill."""

    port: int
    user: str
    key: Path
    pin: str
    folder: Path

    def ssh(self, port: int, *more: str) -> list[str]:
        known = (
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        )
        alone = ("-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none")
        return ["ssh", "-p", str(port), "-i", str(self.key), *known, *alone, *more]

    @property
    def at(self) -> str:
        return f"{self.user}@127.0.0.1"


@contextmanager
def far_host() -> Iterator[Far]:
    """Whoever is let in has a home of their own there: what this machine's user has a login shell do first is
    no part of any push, and we would do it once for each channel."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path=SBIN)
    if sshd is None:
        raise SystemExit("this benchmark needs sshd; Debian: apt-get install openssh-server")
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with _folder(place) as folder:
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "allowed").write_text((folder / "client.pub").read_text())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        words = {"HostKey": folder / "host", "AuthorizedKeysFile": folder / "allowed", "PidFile": "none"}
        words |= {
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        (folder / "home").mkdir()
        words["SetEnv"] = f"HOME={folder / 'home'}"
        (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in words.items()))
        where = ["-o", "ListenAddress=127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", folder / "config", *where], stderr=subprocess.DEVNULL
        )
        try:
            _answers(port)
            pin = " ".join((folder / "host.pub").read_text().split()[:2])
            (folder / "disk").mkdir()
            yield Far(port, getpass.getuser(), folder / "client", pin, folder / "disk")
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _folder(place: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="launcher-far-", dir=place))
    try:
        yield folder
    finally:
        until = time.monotonic() + 30
        while folder.exists() and time.monotonic() < until:  # the next run's copy may be in the making
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.2)  # whoever makes it is a process of the host's, not ours to wait for


def _answers(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)  # a port that opens tells nobody


def source_tree(root: Path, files: int, per_folder: int = 50) -> None:
    """Small files of text, as a project has them: about 3 kB each."""
    dice = random.Random(1)
    words = [f"word{n}".encode() for n in range(3000)]
    for n in range(files):
        folder = root / f"package{n // per_folder % 40}" / f"part{n // 2000}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{n}.py").write_bytes(b" ".join(dice.choices(words, k=430)))


def noise(path: Path, size: int) -> None:
    """What no compression makes smaller."""
    dice = random.Random(size)
    with path.open("wb") as f:
        for at in range(0, size, 1 << 20):
            f.write(dice.randbytes(min(1 << 20, size - at)))


def touched(root: Path, every: int, word: str) -> None:
    """Other content in one file out of so many."""
    for path in sorted(root.rglob("*.py"))[::every]:
        path.write_text(f"changed {word}\n" * 200)


class Client:
    """A process of the launcher's with an open connection: one push for each line."""

    def __init__(self, order: dict[str, Any]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(client(order, stay=True), stdin=pipe, stdout=pipe, text=True)
        self._asked("wait")

    def push(self) -> float:
        return float(self._asked("push"))

    def _asked(self, word: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the pushing process ended")
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def client(order: dict[str, Any], *, stay: bool = False) -> list[str]:
    return [sys.executable, str(Path(__file__)), json.dumps(order | {"stay": stay})]


def order(far: Far, port: int, project: Path, name: str) -> dict[str, Any]:
    """What a pushing process needs to know; `name` tells one kept tree from another."""
    pins = {"port": port, "user": far.user, "key": str(far.key), "pin": far.pin}
    return pins | {
        "project": str(project),
        "base": str(far.folder / name),
        "scans": str(far.folder / "scans"),
    }


def _main(words: dict[str, Any]) -> int:
    """The connection is made while the project is looked at, as in a run it is there before."""
    from launcher.models import Job, Route
    from launcher.ssh.connection import connect

    route = Route(
        "127.0.0.1", words["port"], words["user"], (words["key"],), agent=False, pins=(words["pin"],)
    )
    with ThreadPoolExecutor(1) as beside:
        connecting = beside.submit(connect, route)
        from launcher import pushset
        from launcher.remote import treesync

        job = Job(argv=("true",), folder=words["project"])

        def begin() -> treesync.Begun:
            return treesync.Begun(connecting.result(), words["base"], pushset.key(job))

        def push() -> None:
            beginning = beside.submit(begin)
            tree = pushset.gather(job, Path(words["scans"])).project
            begun = beginning.result()
            to = f"{words['base']}/runs/{time.time_ns()}/project/{tree.digest}"
            connection = connecting.result()
            treesync.send(connection, words["base"], to, tree, lambda: None, lambda done, total: None, begun)

        if not words["stay"]:
            push()
            return 0
        for line in sys.stdin:
            began = time.perf_counter()
            if line.strip() == "push":
                push()
            print(time.perf_counter() - began, flush=True)
        return 0


def main(argv: Sequence[str]) -> int:
    status = _main(json.loads(argv[1]))
    os._exit(status)  # what Python tidies up after 20,000 files is no part of a push


if __name__ == "__main__":
    sys.exit(main(sys.argv))
