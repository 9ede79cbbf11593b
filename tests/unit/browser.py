"""Headless Chromium over its own debugging pipe: open a page, ask what it shows, hear what it complains of.

Knows nothing of the pages it is shown. Nothing of the browser listens on a port.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
NOWHERE = "http://127.0.0.1:9"  # the discard port: whoever asks for anything outside gets no answer
FLAGS = (
    "--headless",
    "--no-sandbox",  # the tests may be root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    f"--proxy-server={NOWHERE}",
    "--proxy-bypass-list=<-loopback>",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of one browser. `events` is everything it said unasked, oldest first."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._rest = b""
        self._n = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def attach(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._n += 1
        message = {"id": self._n, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        n = self._n
        answer = self._until(lambda said: said.get("id") == n)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path) -> None:
        self.ask("Page.navigate", url=page.as_uri())
        if not self.said("Page.loadEventFired"):
            self._until(lambda said: said.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def said(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def _until(self, wanted: Any) -> dict[str, Any]:
        ends = time.monotonic() + PATIENCE_S
        while True:
            message = self._next(ends)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has gone"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """It reads from its descriptor 3 and writes to 4, and is gone with all of its children afterwards."""
    hear, ours_out = os.pipe()
    ours_in, tell = os.pipe()
    far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (hear, tell)]

    own = f"--user-data-dir={folder / 'profile'}"
    environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f'exec chromium "$@" 3<&{far[0]} 4>&{far[1]}', "bash", *FLAGS, own],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=far,
            start_new_session=True,
        )
    for fd in (hear, tell, *far):
        os.close(fd)
    try:
        browser = Browser(ours_out, ours_in)
        browser.attach()
        yield browser
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
