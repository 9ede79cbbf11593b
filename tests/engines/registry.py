"""A real registry of images on this machine's loopback, which lets nobody in without a login."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/held}}}}
http: {{addr: "127.0.0.1:0"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/logins}}}}
"""
LISTENS = re.compile(r"listening on (127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class Registry:
    address: str
    user: str
    password: str


@contextmanager
def registry(folder: Path, user: str = "me", password: str = "r3gistry-canary") -> Iterator[Registry]:
    import bcrypt

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    (folder / "logins").write_text(f"{user}:{hashed}\n")
    (folder / "registry.yml").write_text(CONFIG.format(folder=folder))
    process = subprocess.Popen(
        ["docker-registry", "serve", folder / "registry.yml"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    listener = threading.Thread(target=process.stderr.read, daemon=True)  # it goes on speaking
    try:
        said = next((found for line in process.stderr if (found := LISTENS.search(line))), None)
        assert said is not None, "the registry does not start"
        listener.start()
        yield Registry(said[1], user, password)
    finally:
        process.terminate()
        process.wait(20)
        listener.join(20)
        process.stderr.close()
