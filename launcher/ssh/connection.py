"""The one connection factory: a host that shows another key than the pinned ones is not talked to.

Everything over SSH in this house goes through `connect`. Every blocking call has a deadline and lets
`tick` in at least twice a second. No agent is forwarded, no password is asked for. Knows no runs, no
files and no providers: what is said over a channel is the caller's matter.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import HostUnreachable
from launcher.models import Route
from launcher.remote.base import Done, Tick
from launcher.ssh.errors import KeyMismatch, LoginRefused
from launcher.ssh.quoting import line

if TYPE_CHECKING:
    from paramiko import Channel, PKey, Transport

CONNECT_S = 20.0
WINDOW = 64 << 20  # ours to grant: it is what lets a pull fill a long link
PACKET = 256 << 10
PIECE = 256 << 10
REKEY_AFTER = 32 << 30
KEEPALIVE_S = 5
GCM_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
SLICE_S = 0.25  # how long a wait may last before tick() is due
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def still() -> None:
    """A tick that nobody needs."""


class Connection:
    """One pinned connection; channels over it are cheap."""

    def __init__(self, transport: Transport, rtt_s: float, below: Connection | None) -> None:
        self._transport = transport
        self._below = below  # the jump host's, which ends with ours
        self.rtt_s = rtt_s

    @property
    def alive(self) -> bool:
        return bool(self._transport.is_active())

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 30,
        tick: Tick = still,
        most: int = 64 << 20,
    ) -> Done:
        """One command to its end. A non-zero exit is an answer; more than `most` bytes of output is none."""
        with self.session(line(argv), timeout=timeout) as channel:
            return _conversed(channel, stdin, time.monotonic() + timeout, tick, most)

    @contextmanager
    def session(self, command: bytes, *, timeout: float = 30) -> Iterator[Channel]:
        """A command under way, its channel closed afterwards; the caller talks to it."""
        channel = self.open_session(command, timeout=timeout)
        try:
            yield channel
        finally:
            channel.close()

    def open_session(self, command: bytes, *, timeout: float = 30) -> Channel:
        with _way(self):
            channel = self._transport.open_session(timeout=timeout)
            channel.settimeout(timeout)
            try:
                channel.exec_command(command)
            except BaseException:
                channel.close()
                raise
        return channel

    def open_port(self, port: int, *, timeout: float = 10) -> Channel:
        """A way to what listens on the host's own loopback."""
        with _way(self):
            return self._transport.open_channel(
                "direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=timeout
            )

    def close(self) -> None:
        self._transport.close()
        if self._below is not None:
            self._below.close()


def connect(route: Route, *, timeout: float = CONNECT_S, tick: Tick = still) -> Connection:
    """Raises KeyMismatch, LoginRefused, or HostUnreachable when there is no way within the time."""
    until = time.monotonic() + timeout
    below = connect(route.via, timeout=timeout, tick=tick) if route.via is not None else None
    try:
        return _in_time(lambda: _handshake(route, below, until), until, tick, route)
    except BaseException:
        if below is not None:
            below.close()
        raise


def _handshake(route: Route, below: Connection | None, until: float) -> Connection:
    from paramiko import Transport
    from paramiko.ssh_exception import AuthenticationException, SSHException

    began = time.monotonic()
    stream = _stream(route, below, until)
    rtt_s = time.monotonic() - began
    transport = Transport(stream, default_window_size=WINDOW, default_max_packet_size=PACKET)
    try:
        _tune(transport, route, until)
        transport.start_client(timeout=_left(until))
        _believe(transport, route)
        _log_in(transport, route)
        transport.set_keepalive(KEEPALIVE_S)
    except AuthenticationException as e:
        transport.close()
        raise LoginRefused(f"{route.user}@{route.address} let none of our keys in: {e}") from e
    except (SSHException, EOFError, OSError) as e:
        transport.close()
        raise HostUnreachable(f"{route.address}:{route.port} did not get as far as SSH: {e}") from e
    except BaseException:
        transport.close()
        raise
    return Connection(transport, rtt_s, below)


def _stream(route: Route, below: Connection | None, until: float) -> Any:
    if below is not None:
        with _way(below):
            return below._transport.open_channel(
                "direct-tcpip", (route.address, route.port), ("127.0.0.1", 0), timeout=_left(until)
            )
    try:
        stream = socket.create_connection((route.address, route.port), timeout=_left(until))
    except OSError as e:
        raise HostUnreachable(f"{route.address}:{route.port} does not answer: {e.strerror or e}") from e
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 44 ms a request without it
    return stream


def _tune(transport: Transport, route: Route, until: float) -> None:
    options = transport.get_security_options()
    options.ciphers = [*GCM_FIRST, *(c for c in options.ciphers if c not in GCM_FIRST)]
    wanted = [kind for kind in options.key_types if any(_fits(kind, pin) for pin in route.pins)]
    if wanted:  # a host shows the kind of key that we ask for: only a pinned one can be believed
        options.key_types = wanted
    transport.banner_timeout = transport.auth_timeout = _left(until)
    packetizer: Any = transport.packetizer
    packetizer.REKEY_BYTES = packetizer.REKEY_PACKETS = REKEY_AFTER


def _fits(kind: str, pin: str) -> bool:
    """rsa-sha2-512 is a signature by a key of the kind ssh-rsa."""
    pinned = pin.split(maxsplit=1)[0]
    return kind == pinned or (pinned == "ssh-rsa" and kind.startswith("rsa-sha2-"))


def _believe(transport: Transport, route: Route) -> None:
    shown = transport.get_remote_server_key()
    text = f"{shown.get_name()} {base64.b64encode(shown.asbytes()).decode()}"
    if not any(" ".join(pin.split()[:2]) == text for pin in route.pins):
        raise KeyMismatch(route.address, route.port, text, known=bool(route.pins))


def _log_in(transport: Transport, route: Route) -> None:
    from paramiko import AuthenticationException

    last: AuthenticationException = AuthenticationException("there is no key to try")
    for key in _keys(route):
        try:
            transport.auth_publickey(route.user, key)
        except AuthenticationException as e:
            last = e
            continue
        return
    raise last


def _keys(route: Route) -> Iterator[PKey]:
    from paramiko import Agent, PKey
    from paramiko.ssh_exception import SSHException

    files = route.keys or tuple(str(Path.home() / ".ssh" / name) for name in DEFAULT_KEYS)
    for name in files:
        with suppress(
            OSError, SSHException, ValueError
        ):  # absent, or locked by a passphrase: the agent may have it
            yield PKey.from_path(Path(name).expanduser())
    if route.agent:
        with suppress(SSHException):
            yield from Agent().get_keys()


def _conversed(channel: Channel, stdin: bytes, until: float, tick: Tick, most: int) -> Done:
    """Feed stdin while both outputs are read, or the far end would block on one of them."""
    out, err = bytearray(), bytearray()
    at = 0
    channel.settimeout(SLICE_S)
    if not stdin:
        channel.shutdown_write()
    while not (channel.exit_status_ready() and channel.eof_received):
        tick()
        if time.monotonic() >= until:
            raise HostUnreachable("the host did not answer in time")
        _drain(channel, out, err, most)
        if at < len(stdin):
            at += _fed(channel, stdin[at : at + PIECE])
            if at >= len(stdin):
                channel.shutdown_write()
        elif not channel.recv_ready():
            channel.status_event.wait(0.005)
        if channel.closed and not channel.exit_status_ready():
            break
    _drain(channel, out, err, most)
    if not channel.exit_status_ready():
        raise HostUnreachable("the connection broke before the command's end was told")
    return Done(channel.recv_exit_status(), bytes(out), bytes(err))


def _drain(channel: Channel, out: bytearray, err: bytearray, most: int) -> None:
    while channel.recv_ready():
        out += channel.recv(PIECE)
    while channel.recv_stderr_ready():
        err += channel.recv_stderr(PIECE)
    if len(out) + len(err) > most:
        raise HostUnreachable("the host answered with more than can be meant")


def _fed(channel: Channel, data: bytes) -> int:
    if not channel.send_ready():
        return 0
    try:
        return channel.send(data)
    except TimeoutError:
        return 0


@contextmanager
def _way(connection: Connection) -> Iterator[None]:
    """What the library says of a broken way, in the words of hosts."""
    from paramiko.ssh_exception import ChannelException, SSHException

    try:
        yield
    except ChannelException as e:
        raise HostUnreachable(f"the host opened no channel: {e.text}") from e
    except (SSHException, EOFError, OSError) as e:
        raise HostUnreachable(f"the connection broke: {e}") from e


def _in_time(work: Callable[[], Connection], until: float, tick: Tick, route: Route) -> Connection:
    """The handshake in a thread of its own: the library waits deaf, and a stop must not."""
    made: list[Connection] = []
    failed: list[BaseException] = []
    given_up = threading.Event()

    def go() -> None:
        try:
            connection = work()
        except BaseException as e:  # noqa: BLE001 - handed to the caller's thread, whatever it is
            failed.append(e)
            return
        made.append(connection)
        if given_up.is_set():
            connection.close()

    thread = threading.Thread(target=go, name=f"ssh to {route.address}", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(SLICE_S)
            tick()
            if time.monotonic() >= until + 1:
                raise HostUnreachable(f"{route.address}:{route.port} did not answer in time")
    except BaseException:
        given_up.set()
        raise
    if failed:
        raise failed[0]
    return made[0]


def _left(until: float) -> float:
    return max(0.1, until - time.monotonic())
