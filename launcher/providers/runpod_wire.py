"""Connections on which a whole answer, its head and its body, has the time that one call may take. The
library's own limit is for each piece that comes: to one that trickles it would listen for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requests import Session


class _Bounded(io.RawIOBase):
    """What comes from a socket, until the time is over that it had for its first piece."""

    def __init__(self, sock: socket.socket) -> None:
        limit = sock.gettimeout()
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._until = None if limit is None else monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left, limit = self._until - monotonic(), self._sock.gettimeout()
            if left <= 0:
                raise TimeoutError("the answer took too long")
            if limit is None or limit > left:
                self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *words: Any, **named: Any) -> None:
        super().__init__(sock, *words, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Bounded(sock))


def session() -> Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import PoolManager, ProxyManager
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        response_class = _Answer

    class Secure(HTTPSConnection):
        response_class = _Answer

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *words: Any, **named: Any) -> None:
            super().init_poolmanager(*words, **named)
            self._bound(self.poolmanager)

        def proxy_manager_for(self, *words: Any, **named: Any) -> ProxyManager:
            found: ProxyManager = super().proxy_manager_for(*words, **named)
            self._bound(found)
            return found

        def _bound(self, manager: PoolManager) -> None:
            manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, Adapter())
    return made
