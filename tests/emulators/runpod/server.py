"""The emulator's front: REST v2 and GraphQL over HTTP, with the faults that were asked for.

Checks every body against its shape before anything is done, and every answer of its own before it leaves.
What a client did wrong is kept in `offences`, what it sent (without its key's header) in `heard`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulators import tally
from tests.emulators.runpod import checking
from tests.emulators.runpod.cloud import Broken, Caller, Cloud, Refused
from tests.emulators.runpod.faults import Fault, How
from tests.emulators.runpod.graphql import BadQuery, Business, Graph
from tests.emulators.runpod.pods import stamp
from tests.emulators.runpod.quota import Quota
from tests.emulators.runpod.routes import ROUTES, Call, Logs, Route

Json = dict[str, Any]
TICK_S = 0.1
TRICKLE_S = 0.1  # between two bytes


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    query: str
    body: str
    status: int


@dataclass
class Front:
    """What all connections share."""

    cloud: Cloud
    heard: list[Heard] = field(default_factory=list)
    offences: list[str] = field(default_factory=list)
    faulty_answers: list[str] = field(default_factory=list)  # our own, against the shapes
    quota: Quota = field(default_factory=Quota)
    ended: threading.Event = field(default_factory=threading.Event)

    def too_early_s(self) -> float | None:
        """Counts this request; one too many within the window: when the next is welcome."""
        c = self.cloud.conditions
        return self.quota.ask(c.quota, c.quota_window_s, time.monotonic())

    def rate_headers(self) -> dict[str, str]:
        c = self.cloud.conditions
        return self.quota.headers(c.quota, c.quota_window_s, time.monotonic())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front
    sent_body = ""
    told_to_wait_s = 1.0

    def log_message(self, format: str, *args: object) -> None:
        """Silent: what was asked is in `heard`."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815 - the library's names

    # --- one request -------------------------------------------------------------------------

    def _serve(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.sent_body = self.rfile.read(length).decode("utf-8", "replace")
        if self.front.cloud.key in self.path:
            self.front.offences.append("the key stands in a URL")
        found = self._route(split.path)
        if found is None:
            self.front.offences.append(f"{self.command} {split.path}: there is no such route")
            self._say(404, self._problem(404, "resource not found"))
            return
        route, ids = found
        fault = self.front.cloud.faults.next(route.name if route.name != "action" else self._action())
        if fault is not None and not fault.after:
            self._fail(fault, None)
            return
        status, answer = self._answer(route, ids, dict(parse_qsl(split.query, keep_blank_values=True)))
        if fault is not None:
            self._fail(fault, json.dumps(answer))
        elif isinstance(answer, Logs):
            self._stream(answer)
        else:
            self._say(status, answer)

    def _route(self, path: str) -> tuple[Route, list[str]] | None:
        parts = path.strip("/").split("/")
        for route in ROUTES:
            if route.method == self.command and (ids := route.matches(parts)) is not None:
                return route, ids
        return None

    def _action(self) -> str:
        try:
            return str(json.loads(self.sent_body)["action"])
        except (ValueError, KeyError, TypeError):
            return "action"

    def _answer(self, route: Route, ids: list[str], query: dict[str, str]) -> tuple[int, Any]:
        try:
            if (wait_s := self.front.too_early_s()) is not None:
                self.told_to_wait_s = wait_s
                raise Refused(429, "rate limit exceeded for the minute window")
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            with self.front.cloud.lock:
                self.front.cloud.tick()
                if route.name == "graphql":
                    return self._graphql(key)
                caller = self.front.cloud.caller(key)
                call = Call(self.front.cloud, caller, ids, query, self._checked(route, query))
                self._allowed(route, call)
                answer = route.do(call)
        except Refused as no:
            if isinstance(no, Broken):
                self.front.offences.append(f"{route.name}: {no.detail}")
            return no.status, self._problem(no.status, no.detail, no.errors)
        except BadQuery as no:
            self.front.offences.append(f"GraphQL: {no}") if "variables" in str(no) else None
            return 400, {"errors": [{"message": str(no)}]}
        except Exception as bug:  # the emulator's own must fail the test, and not look like an outage
            self.front.faulty_answers.append(f"{route.name}: {bug!r}")
            return 500, self._problem(500, "the emulator failed")
        if route.gives is not None:
            for fault in checking.faults(answer, route.gives):
                self.front.faulty_answers.append(f"{route.name}: {fault}")
        return (route.status, answer) if answer is not None else (204, None)

    def _checked(self, route: Route, query: dict[str, str]) -> Json:
        for name in sorted(query.keys() - route.query):
            self.front.offences.append(f"{route.name}: nobody reads the query parameter {name}")
        if route.takes is None:
            return {}
        try:
            sent = json.loads(self.sent_body)
        except ValueError:
            sent = None
        errors = (
            tuple(checking.faults(sent, route.takes)) if isinstance(sent, dict) else ("$: not an object",)
        )
        if errors:
            self.front.offences.extend(f"{route.name}: {error}" for error in errors if not _is_newer(error))
            raise Refused(422, "Request validation failed.", errors)
        assert isinstance(sent, dict)
        return sent

    def _allowed(self, route: Route, call: Call) -> None:
        caller = call.caller
        if caller.kind == "all" or (caller.kind == "read" and self.command == "GET"):
            return
        conditions = self.front.cloud.conditions
        own = caller.kind == "pod" and call.ids == [caller.pod] and conditions.pod_key_on_rest
        verb = {"delete": "terminate", "action": call.body.get("action")}.get(route.name)
        if own and (route.name == "get" or verb in conditions.pod_key_may):
            return
        raise Refused(403, "access denied")

    def _graphql(self, key: str | None) -> tuple[int, Any]:
        if self.front.cloud.conditions.spot == "gone":
            return 410, {"errors": [{"message": "The GraphQL API is gone. Use the REST API."}]}
        try:
            sent = json.loads(self.sent_body)
            query, variables = str(sent["query"]), sent.get("variables") or {}
        except (ValueError, KeyError, TypeError):
            raise BadQuery("Must provide query string.") from None
        caller: Caller | None = self.front.cloud.caller(key) if key is not None else None
        try:
            return 200, Graph(self.front.cloud).answer(caller, query, variables)
        except Business as no:
            return 200, {"errors": [{"message": str(no)}], "data": None}

    # --- answers -----------------------------------------------------------------------------

    @staticmethod
    def _problem(status: int, detail: str, errors: tuple[str, ...] = ()) -> Json:
        problem: Json = {"title": TITLES.get(status, "Error"), "status": status, "detail": detail}
        return problem | ({"errors": list(errors)} if errors else {})

    def _say(self, status: int, answer: Any, more: dict[str, str] | None = None) -> None:
        kind = "application/problem+json" if status >= 400 else "application/json"
        data = b"" if answer is None else json.dumps(answer).encode()
        self._send(status, kind, data, len(data), more or {})

    def _send(self, status: int, kind: str, data: bytes, length: int, more: dict[str, str]) -> None:
        split = urlsplit(self.path)
        self.front.heard.append(Heard(self.command, split.path, split.query, self.sent_body, status))
        self.send_response(status)
        headers = {**self.front.rate_headers(), **more}
        if status == 429:
            headers.setdefault("Retry-After", str(ceil(self.told_to_wait_s)))
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, fault: Fault, true_answer: str | None) -> None:
        if fault.how is How.STATUS:
            more = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s is not None else {}
            self._say(fault.status, self._problem(fault.status, fault.detail), more)
        elif fault.how is How.HTML:
            page = f"<html><head><title>{fault.status}</title></head><body>nginx</body></html>".encode()
            self._send(fault.status, "text/html", page, len(page), {})
        elif fault.how is How.TRUNCATED:
            whole = (true_answer or '{"id": "never"}').encode()
            self._send(200, "application/json", whole[: len(whole) // 2], len(whole), {})
            self.close_connection = True
        elif fault.how in (How.TRICKLING, How.SLOW_BODY):
            data = (true_answer or '{"id": "never"}').encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            self._trickle(head + data, len(head) if fault.how is How.SLOW_BODY else 0)
        else:
            if fault.how is How.SILENT:
                self.front.ended.wait(fault.silence_s)
            self.close_connection = True

    def _trickle(self, data: bytes, first: int) -> None:
        self.close_connection = True
        with suppress(OSError):  # whoever asked has left
            self.wfile.write(data[:first])
            for byte in data[first:]:
                self.wfile.write(bytes([byte]))
                if self.front.ended.wait(TRICKLE_S):
                    return

    def _stream(self, logs: Logs) -> None:
        """Server-sent events: what is there, then what comes, until the client leaves."""
        split = urlsplit(self.path)
        self.front.heard.append(Heard(self.command, split.path, split.query, "", 200))
        self.send_response(200)
        for name, value in {**self.front.rate_headers(), **SSE_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        told = 0
        try:
            while not self.front.ended.is_set():
                with self.front.cloud.lock:
                    said = logs.read()
                first = max(0, len(said) - logs.tail) if told == 0 else told
                for n, (source, one) in enumerate(said[first:], first):
                    data = json.dumps({"ts": stamp(one.at), "source": source, "line": one.line})
                    self._chunk(f"id: {stamp(one.at)}/{n:012d}\ndata: {data}\n\n".encode())
                told = max(told, len(said))
                self.front.ended.wait(0.05)
                self._chunk(b": \n\n")  # a comment: it shows whether anybody still listens
        except OSError:
            self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


# What only later deployments know: a client may try whether this one does.
NEWER = ("minRamPerGpu", "minVcpuCountPerGpu", "entrypoint", "cmd")


def _is_newer(error: str) -> bool:
    return "additional properties" in error and any(repr(word) in error for word in NEWER)


SSE_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
    "Transfer-Encoding": "chunked",
}
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


@contextmanager
def serving(cloud: Cloud, address: str = "127.0.0.1", *, ticking: bool = False) -> Iterator[Front]:
    """The cloud at an address of this machine, as long as the block; `cloud.root` says where."""
    front = Front(cloud)
    handler = type("Bound", (Handler,), {"front": front})
    server = ThreadingHTTPServer((address, 0), handler)
    server.daemon_threads = True
    cloud.root = f"http://{address}:{server.server_address[1]}"
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)]
    if ticking:
        threads.append(threading.Thread(target=_keep_ticking, args=(front,), daemon=True))
    for thread in threads:
        thread.start()
    tally.begin(front)
    try:
        yield front
    finally:
        tally.end(front)
        front.ended.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join(10)


def _keep_ticking(front: Front) -> None:
    while not front.ended.wait(TICK_S):
        with front.cloud.lock:
            front.cloud.tick()
