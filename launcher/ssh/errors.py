"""How a host says no before anything was said to it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.errors import HostUnreachable


def fingerprint(key: str) -> str:
    """`ssh-ed25519 AAAA…` as OpenSSH prints it: SHA256:… without padding."""
    digest = hashlib.sha256(base64.b64decode(key.split(maxsplit=2)[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@contextmanager
def as_of_a_socket() -> Iterator[None]:
    """What the library raises when a way breaks under a channel, as a socket would say it."""
    from paramiko.ssh_exception import SSHException

    try:
        yield
    except (SSHException, EOFError) as e:
        raise ConnectionError(str(e) or "the connection has ended") from e


class KeyMismatch(HostUnreachable):
    """Whoever answers there is not who we know. Not a byte of ours was sent; only a person can mend it."""

    def __init__(self, address: str, port: int, shown: str, *, known: bool) -> None:
        why = "which is not the pinned one" if known else "and none is pinned"
        super().__init__(
            f"{address}:{port} shows the key {shown.split(maxsplit=1)[0]} {fingerprint(shown)}, {why}"
        )
        self.shown = shown
        self.known = known


class LoginRefused(HostUnreachable):
    """The host is who it says and lets none of our keys in."""
