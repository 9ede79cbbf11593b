"""The near end of the program on the host: one question, one answer, over one pinned connection.

It knows the connection and the errors of providers, and nothing of orders and instances. What is broken is
dropped, and the next question connects anew; a host that did not answer a moment ago is not asked again yet.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace
from importlib import resources
from typing import Any, Protocol

from launcher.errors import (
    AuthRefused,
    BadOrder,
    Busy,
    HostUnreachable,
    KeyChanged,
    NoCapacity,
    ProviderError,
    Unreachable,
    VendorBug,
)
from launcher.models import Json, Route
from launcher.providers import ssh_keys
from launcher.remote.base import Tick
from launcher.ssh.connection import Connection, connect, still
from launcher.ssh.errors import KeyMismatch, LoginRefused, as_of_a_socket
from launcher.ssh.quoting import line
from launcher.ssh.waiting import SLICE_S, Ticker

CONNECT_S = 8.0
CONTROL_S = 25.0
MOST_BYTES = 16 << 20  # of an answer, and of what comes before it
SULKS_S = 2.0
MARK = b"launcher-far "
NO_PROGRAM, NOT_TOLD, TOO_OLD = 127, -1, 97
PROGRAM = tuple(f"launcher.providers.{name}" for name in ("ssh_far_gpus", "ssh_far_docker", "ssh_far"))
# What a python of the host is told to do: take the program in, unless it is too old to understand it.
BOOT = f"""
import sys
if sys.version_info < (3, 10):
    sys.exit({TOO_OLD})
import json, types
for name, size in json.loads(sys.stdin.buffer.readline()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(sys.stdin.buffer.read(size), name, "exec"), module.__dict__)
module.main()
"""
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(19, 9, -1)), "python")
# The first that is new enough becomes it all; where none is, the newest word of theirs is told.
FIND = f"""
for p in {" ".join(PYTHONS)}; do
    command -v "$p" >/dev/null || continue
    "$p" -I -c "$1"; s=$?
    [ $s = {TOO_OLD} ] || exit $s
    old=$("$p" -I -c 'import sys; sys.stdout.write("%d.%d.%d" % sys.version_info[:3])')
done
[ -n "$old" ] || exit {NO_PROGRAM}
echo; echo 'launcher-far {{"old": "'$old'"}}'
"""
REFUSALS: dict[str, type[NoCapacity] | type[BadOrder] | type[Busy] | type[VendorBug]] = {
    "busy": NoCapacity,
    "full": NoCapacity,
    "bad": BadOrder,
    "busy-folder": Busy,
}


class Channel(Protocol):
    """What is asked of one session of the connection."""

    closed: bool
    status_event: threading.Event

    def settimeout(self, timeout: float, /) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, count: int, /) -> bytes: ...
    def recv_stderr(self, count: int, /) -> bytes: ...
    def recv_stderr_ready(self) -> bool: ...
    def exit_status_ready(self) -> bool: ...
    def recv_exit_status(self) -> int: ...


class Way:
    def __init__(
        self,
        name: str,
        route: Route,
        fingerprint: str | None = None,
        connect_s: float = CONNECT_S,
        tick: Tick = still,
    ) -> None:
        self._name, self.route, self._connect_s = name, route, connect_s
        self._tick = Ticker(tick)
        self._fingerprint = fingerprint
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._rest = b""
        self._failed: tuple[float, ProviderError] | None = None

    def ask(self, verb: str, **question: Any) -> Json:
        """Raises the closed set. A question whose answer is lost may have had its effect."""
        sys.audit("launcher.providers.ask", verb)  # as Python tells of opened files
        channel = self._open()
        try:
            answer = self._converse(channel, json.dumps({"verb": verb, **question}).encode() + b"\n")
        except BaseException:  # a tick that raised, too: the next question must not read this one's answer
            self.close()
            raise
        if "ok" in answer:
            told: Json = answer["ok"]
            return told
        text = f"{self._name}: {answer.get('text', 'no reason was given')}"
        raise REFUSALS.get(str(answer.get("no")), VendorBug)(text)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._channel = None
        self._rest = b""

    # --- the way there -----------------------------------------------------------------------

    def _open(self) -> Channel:
        lives = self._connection is not None and self._connection.alive
        if lives and self._channel is not None and not self._channel.closed:
            return self._channel
        self.close()
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        try:
            self._connection = self._connected()
            self._channel = self._begun(self._connection)
        except ProviderError as e:
            self.close()
            self._failed = (time.monotonic() + SULKS_S, e)
            raise
        self._failed = None
        return self._channel

    def _connected(self) -> Connection:
        try:
            if not self.route.pins and self._fingerprint is not None:
                self.route = self._pinned(self._fingerprint)
            return connect(self.route, timeout=self._connect_s, tick=self._tick)
        except KeyMismatch as e:
            raise KeyChanged(f"{self._name}: {e}", surely_no_effect=True) from e
        except LoginRefused as e:
            raise AuthRefused(f"{self._name}: {e}") from e
        except HostUnreachable as e:
            raise Unreachable(f"{self._name} cannot be reached: {e}", surely_no_effect=True) from e

    def _pinned(self, fingerprint: str) -> Route:
        """From a fingerprint to the key that has it."""
        key, _ = ssh_keys.with_fingerprint(self.route, fingerprint)
        if key is None:
            raise KeyChanged(f"{self._name} shows no key with {fingerprint}", surely_no_effect=True)
        return replace(self.route, pins=(key,))

    def _begun(self, connection: Connection) -> Channel:
        """The program runs there once its python3 has taken it in: nothing of ours happened before."""
        sources = [(name, _source(name)) for name in PROGRAM]
        head = json.dumps([(name, len(source)) for name, source in sources]).encode() + b"\n"
        try:
            begin = line(["sh", "-c", FIND, "sh", BOOT])
            channel = connection.open_session(begin, timeout=self._connect_s, tick=self._tick)
            channel.settimeout(CONTROL_S)
        except (HostUnreachable, OSError) as e:
            raise Unreachable(f"{self._name} cannot be asked: {e}", surely_no_effect=True) from e
        try:
            with as_of_a_socket():
                channel.sendall(head + b"".join(source for _, source in sources))
        except OSError as e:
            if channel.closed:
                raise self._ended(channel) from e  # it did not even listen
            raise Unreachable(f"{self._name} cannot be asked: {e}", surely_no_effect=True) from e
        return channel

    def _converse(self, channel: Channel, question: bytes) -> Json:
        until = time.monotonic() + CONTROL_S
        try:
            channel.settimeout(CONTROL_S)
            with as_of_a_socket():
                channel.sendall(question)
            channel.settimeout(SLICE_S)
            while (answer := self._taken()) is None:
                self._listen(channel, until)
        except TimeoutError as e:
            raise Unreachable(f"{self._name} did not answer in time") from e
        except OSError as e:
            if channel.exit_status_ready():
                raise self._ended(channel) from e
            raise Unreachable(f"the connection to {self._name} broke: {e}") from e
        if "old" in answer:
            raise BadOrder(f"{self._name}: the python there is {answer['old']}, and 3.10 or newer is needed")
        return answer

    def _listen(self, channel: Channel, until: float) -> None:
        """A little more of its answer, or a moment of waiting."""
        self._tick()
        try:
            with as_of_a_socket():
                data = channel.recv(1 << 16)
        except TimeoutError:
            if time.monotonic() >= until:
                raise
            return
        if not data:
            raise self._ended(channel)
        self._rest += data
        if len(self._rest) > MOST_BYTES:
            raise VendorBug(f"{self._name} answers with more than can be meant")

    def _taken(self) -> Json | None:
        """The next answer, past whatever the user's shell prints before it."""
        while b"\n" in self._rest:
            text, _, self._rest = self._rest.partition(b"\n")
            if text.startswith(MARK):
                return self._read(text.removeprefix(MARK))
        return None

    def _read(self, text: bytes) -> Json:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise VendorBug(f"{self._name} answers what cannot be read") from e
        if not isinstance(answer, dict):
            raise VendorBug(f"{self._name} answers what cannot be read")
        return answer

    def _ended(self, channel: Channel) -> ProviderError:
        """It went without an answer: no python3, another shell than ours, or the host itself."""
        channel.status_event.wait(1)
        status = channel.recv_exit_status() if channel.exit_status_ready() else NOT_TOLD
        if status == NOT_TOLD:
            return Unreachable(f"the connection to {self._name} broke")
        if status == NO_PROGRAM:
            return BadOrder(f"{self._name} has no python3, and 3.10 or newer is needed there")
        told = (
            channel.recv_stderr(2000).decode("utf-8", "replace").strip()
            if channel.recv_stderr_ready()
            else ""
        )
        last = told.splitlines()[-1] if told else "and said nothing"
        return VendorBug(f"{self._name}: the program there ended with status {status}: {last[:300]}")


def _source(name: str) -> bytes:
    package, _, module = name.rpartition(".")
    return (resources.files(package) / f"{module}.py").read_bytes()
