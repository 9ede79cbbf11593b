"""A container as a host, and the volume that outlives it.

One courier process per connection answers every call over an attached stream, so that a read costs a
round trip and not a new process. When the container is gone, a helper container with the same volume,
read-only and without network, serves reads; it ends when the connection does. Knows the engine's API,
nothing of runs beyond the labels it copies onto the helper.
"""

from __future__ import annotations

import importlib.resources
import posixpath
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from launcher.dockerapi import NoAnswer, answered, connect
from launcher.errors import HostUnreachable, PlaceGone
from launcher.models import Access
from launcher.remote.base import (
    Digests,
    Done,
    Listed,
    Pipe,
    Progress,
    Sending,
    Tick,
    Tree,
    Wanted,
    unprepared,
    unseen,
)
from launcher.remote.channel import Channel, Wire
from launcher.remote.couriered import ANSWER_S, CHUNK, TOKEN, Couriered
from launcher.remote.fetching import fetch
from launcher.remote.frames import EngineFrames
from launcher.remote.relayed import Relayed
from launcher.remote.sending import below, counted

if TYPE_CHECKING:
    from docker import APIClient

CONTROL_S = 25  # one call to the engine
_ENDED = "the container has ended; its files can only be read"


class ContainerHost:
    def __init__(self, access: Access) -> None:
        self.root = access.root
        self._access = access
        self._client: APIClient | None = None
        self._courier = Couriered(self._open_channel)
        self._one_at_a_time = threading.Lock()  # a tunnel's threads share the client

    # The verbs of a host.

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        return self._courier.run(argv, stdin=stdin, cwd=cwd, timeout=timeout)

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        # By the engine and not by the courier, whose children would end with their stdout.
        with _engine("start a process"):
            client = self._connected()
            made = client.exec_create(
                self._access.address,
                list(argv),
                stdout=False,
                stderr=False,
                workdir=posixpath.normpath(posixpath.join(self.root, cwd)),
            )
            client.exec_start(made["Id"], detach=True)

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        return self._courier.read(path, offset, limit)

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        return self._courier.read_many(wanted)

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        return self._courier.digests(base, after, tick)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        self._courier.write(path, data, mode)

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        self._courier.put(files, tick)

    expecting = staticmethod(unprepared)

    def put_tree(self, to: str, tree: Tree, tick: Tick, progress: Progress = unseen) -> None:
        self.put(counted(below(to, tree), tree.size, progress), tick)

    def get(
        self,
        base: str,
        listing: Sequence[Listed],
        staging: Path,
        tick: Tick,
        progress: Progress = unseen,
    ) -> None:
        read = partial(self._courier.read, base=base, tick=tick)
        fetch(read, base, listing, staging, tick, chunk=CHUNK, progress=progress)

    def connect(self, port: int) -> Pipe:
        with self._one_at_a_time, _engine("reach the container"):
            client = self._connected()
            stream = self._exec(client, _program("relay.py", str(port)))
        return Relayed(_pipe(stream), stream.close, port, ANSWER_S)

    def close(self) -> None:
        self._courier.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    # The way there.

    def _open_channel(self) -> Channel:
        with _engine("reach the container"):
            return self._into_container() or self._into_volume()

    def _connected(self) -> APIClient:
        if self._client is None:
            self._client = connect(CONTROL_S)
        return self._client

    def _into_container(self) -> Channel | None:
        """A courier in the container, or None when it no longer runs."""
        from docker.errors import NotFound

        client, name = self._connected(), self._access.address
        try:
            facts = client.inspect_container(name)
        except NotFound:
            return None
        if facts["State"]["Status"] in ("created", "restarting", "paused"):
            raise HostUnreachable(f"the container {name} is {facts['State']['Status']}")
        if not facts["State"]["Running"]:
            return None
        token = (facts["Config"]["Labels"] or {}).get("launcher.token", "")
        socket = self._exec(client, _courier(self.root, token))
        return Channel(_wire(socket), socket.close)

    def _exec(self, client: APIClient, argv: list[str]) -> Any:
        # Without our token in its environment, or the agent would end it among the trainer's strays.
        made = client.exec_create(self._access.address, argv, stdin=True, environment={TOKEN: ""})
        return client.exec_start(made["Id"], socket=True)

    def _into_volume(self) -> Channel:
        """A courier in a helper container over what the container left; it ends with the connection."""
        from docker.errors import NotFound

        client, access = self._connected(), self._access
        if access.volume is None or access.image is None:
            raise PlaceGone(f"the container {access.address} is gone and left no volume")
        try:
            labels: dict[str, str] = client.inspect_volume(access.volume)["Labels"] or {}
        except NotFound as why:
            raise PlaceGone(f"the container {access.address} and its volume are gone") from why
        name = f"{access.address}-reader-{uuid4().hex[:8]}"
        client.create_container(
            access.image,
            _courier(self.root, ""),
            name=name,
            user="0:0",
            entrypoint=[""],
            stdin_open=True,
            labels={**labels, "launcher.kind": "volume-reader"},
            host_config=_reads_only(client, _mount(self.root, access.volume)),
        )
        with ExitStack() as let_go:
            let_go.callback(_remove, client, name)
            socket = client.attach_socket(name, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            let_go.callback(socket.close)
            client.start(name)
            return Channel(_wire(socket), let_go.pop_all().close, _ENDED)


def _reads_only(client: APIClient, mount: Any) -> Any:
    from docker.types import LogConfig

    return client.create_host_config(
        auto_remove=True,
        mounts=[mount],
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        cap_add=["DAC_READ_SEARCH"],
        security_opt=["no-new-privileges:true"],
        log_config=LogConfig(type="none"),  # or each byte read would be kept as a log
    )


def _remove(client: APIClient, name: str) -> None:
    """Its stdin has ended, so it goes by itself as well; asking only makes it quick."""
    from docker.errors import APIError, NotFound

    with suppress(NoAnswer, NotFound):
        try:
            with answered():
                client.remove_container(name, force=True)
        except APIError as why:
            if why.status_code != 409:  # 409: its own removal is under way
                raise


def _courier(root: str, token: str) -> list[str]:
    return _program("courier.py", root, token)


def _program(name: str, *words: str) -> list[str]:
    source = importlib.resources.files("launcher.remote").joinpath(name).read_text("utf-8")
    return ["python3", "-I", "-c", source, *words]


def _mount(root: str, volume: str) -> Any:
    from docker.types import Mount

    return Mount(target=root, source=volume, type="volume", read_only=True, no_copy=True)


def _wire(stream: Any) -> Wire:
    return Wire(_pipe(stream), EngineFrames(), "the container")


def _pipe(stream: Any) -> Pipe:
    """The socket itself: over plain ways the SDK hands out a file over it, which keeps no deadline."""
    return cast(Pipe, getattr(stream, "_sock", stream))


@contextmanager
def _engine(doing: str) -> Iterator[None]:
    """The engine's errors as the closed set of hosts."""
    try:
        with answered():
            yield
    except NoAnswer as why:
        raise HostUnreachable(f"the Docker engine does not answer ({doing}): {why.reason}") from why
    except _api_error() as why:
        raise HostUnreachable(f"the Docker engine refused to {doing}: {why}") from why


def _api_error() -> type[Exception]:
    from docker.errors import APIError

    return APIError
