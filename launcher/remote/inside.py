"""The container in which a run lives on a machine that is reached by SSH: how one gets from there into it.

Its files lie on that machine under the same names, so only what runs, or listens on a port, is inside. Words
for an SSH session and a Pipe over one; opens no connection.
"""

from __future__ import annotations

import importlib.resources
import posixpath
from collections.abc import Sequence

from launcher.remote.relayed import Relayed
from launcher.remote.sessions import ARRIVED, Session

OURS = "LAUNCHER_INSTANCE"  # without it, or the agent would end the way in among the trainer's strays
# A login shell may print before the first byte of it.
_ARRIVE = f'echo; echo {ARRIVED}; exec "$@"'


def entering(container: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
    """A command inside, spoken with from outside."""
    return ["docker", "exec", "-i", *(["-t"] if tty else []), "-e", f"{OURS}=", container, *argv]


def left_there(container: str, argv: Sequence[str], folder: str) -> list[str]:
    """A command inside that goes on by itself; it is the run's own."""
    return ["docker", "exec", "-d", "-w", posixpath.normpath(folder), container, *argv]


def relay(container: str, port: int) -> list[str]:
    """Leads one connection on to the loopback in there."""
    source = importlib.resources.files("launcher.remote").joinpath("relay.py").read_text("utf-8")
    words = entering(container, ["python3", "-I", "-c", source, str(port)])
    return ["sh", "-c", _ARRIVE, "sh", *words]


class _Begun:
    """A session whose first bytes were read already, with what greeted us."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._first = session.wire.ready

    def recv(self, count: int, /) -> bytes:
        if not self._first:
            return self._session.recv(count)
        data, self._first = self._first[:count], self._first[count:]
        return data

    def send(self, data: bytes | memoryview, /) -> int:
        return self._session.send(data)

    def settimeout(self, seconds: float | None, /) -> None:
        self._session.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        self._session.shutdown(how)

    def close(self) -> None:
        self._session.close()


def led_on(session: Session, port: int, patience_s: float) -> Relayed:
    return Relayed(_Begun(session), lambda: None, port, patience_s, session)
