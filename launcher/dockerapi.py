"""The one way to a Docker engine: connecting, closing, and telling "no answer" from "it said no".

Where the engine is stands in DOCKER_HOST (and DOCKER_TLS_VERIFY, DOCKER_CERT_PATH), else it is this
machine's. Knows neither runs nor images. What the engine answers with an error stays the SDK's APIError.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient

if not os.environ.get("DOCKER_HOST", "").startswith("ssh://"):
    # The SDK loads a whole SSH library if there is one, 66 ms, and does without when it cannot.
    sys.modules.setdefault("docker.transport.sshconn", None)  # type: ignore[arg-type]  # None is how "not to be had" is said

DEFAULT = "unix:///var/run/docker.sock"
PATIENCE_S = 5


class NoAnswer(Exception):
    """`denied`: the way is shut for this user. `asked`: the engine may have heard the question."""

    def __init__(self, reason: str, *, denied: bool = False, asked: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.denied = denied
        self.asked = asked


def connect(timeout_s: int) -> APIClient:
    """A client whose every call has that deadline."""
    address = os.environ.get("DOCKER_HOST") or DEFAULT
    if address.startswith("unix://"):  # before the SDK is loaded, 0.1 s: most have no engine
        _knock(address.removeprefix("unix://"))
    from docker import APIClient
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    said = kwargs_from_env()
    address = said.get("base_url") or address
    try:
        return APIClient(timeout=timeout_s, **said)
    except (DockerException, OSError) as why:
        raise NoAnswer(f"no engine answers at {address}: {why}", asked=False) from why


@contextmanager
def answered() -> Iterator[None]:
    """Around calls: whatever cut the conversation is a NoAnswer."""
    from docker.errors import APIError
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError:  # the SDK's answer errors are requests' errors as well
        raise
    except (RequestException, HTTPError, OSError) as why:
        raise NoAnswer(f"the engine stopped answering: {why}") from why


def _knock(path: str) -> None:
    """The SDK hides why a socket does not open, and leaves its own open."""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(PATIENCE_S)
        try:
            door.connect(path)
        except OSError as why:
            denied = isinstance(why, PermissionError)
            raise NoAnswer(f"{path}: {why.strerror or why}", denied=denied, asked=False) from why
