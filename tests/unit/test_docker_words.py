"""What the Docker adapter says of an engine that answers badly: with the line that mends it, or with none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from launcher.providers.docker import DockerProvider

Engine = Callable[[int, str], None]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Says which version it speaks, and answers everything else with one status and one sentence."""
    told: dict[str, Any] = {"status": 500, "message": ""}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            greets = self.path == "/version"
            body = json.dumps({"ApiVersion": "1.44"} if greets else told).encode()
            self.send_response(200 if greets else told["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")

    def answers(status: int, sentence: str) -> None:
        told.update(status=status, message=sentence)

    yield answers
    server.shutdown()
    server.server_close()


def test_who_may_not_use_the_engine_is_told_of_its_group(engine: Engine) -> None:
    engine(403, "not you")
    (check,) = DockerProvider().check()
    assert not check.ok and "not you" in check.detail and "group docker" in str(check.fix)


def test_an_engine_with_a_fault_of_its_own_is_not_mended_by_a_group(engine: Engine) -> None:
    engine(500, "its store is damaged")
    (check,) = DockerProvider().check()
    assert not check.ok and "store is damaged" in check.detail and check.fix is None
