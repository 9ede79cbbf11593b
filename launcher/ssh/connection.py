"""The one connection factory: a host that shows another key than the pinned ones is not talked to.

Everything over SSH in this house goes through `connect`. Every blocking call has a deadline and lets `tick`
in at least twice a second. No agent is forwarded, no password is asked for. A dead line is found within 30 s
(`pulse`), and a broken connection stays broken: there is no second layer of attempts here, the engine's steps
drop their hosts and open them again at their own pace, until the run's deadline. Knows no runs, no files and
no providers: what is said over a channel is the caller's matter.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources  # noqa: F401 - loaded before the thread that loads the library: see together.ask
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from launcher.errors import HostUnreachable
from launcher.models import Route
from launcher.remote.base import Done, Tick
from launcher.ssh.ending import is_fragile, let_end, let_go, shut
from launcher.ssh.errors import KeyMismatch, LoginRefused
from launcher.ssh.login import log_in
from launcher.ssh.pulse import Pulse
from launcher.ssh.quoting import line
from launcher.ssh.talk import converse
from launcher.ssh.waiting import left, patiently

if TYPE_CHECKING:
    from paramiko import Channel, Transport
    from paramiko.buffered_pipe import BufferedPipe

    from launcher.ssh.transport import Line

HELLO = "SSH-2.0-launcher"
CONNECT_S = 20.0
REKEY_AFTER = 32 << 30
GCM_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
SWITCH_S = 0.0005  # for so long a thread that computes may hold up the line's: ten times less than usual
AGAIN = 5
END_S = 2.0  # for its thread, when a connection is closed


def still() -> None:
    """A tick that nobody needs."""


class Connection:
    """One pinned connection; channels over it are cheap, and all of them end with it."""

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
        """One command to its end. A non-zero exit is an answer; more than `most` bytes of output is none.
        At the deadline the host hears no more of it; what it started there is the caller's matter."""
        until = time.monotonic() + timeout
        with self.session(line(argv), timeout=timeout, tick=tick) as channel:
            return converse(channel, stdin, until, tick, most)

    @contextmanager
    def session(self, command: bytes, *, timeout: float = 30, tick: Tick = still) -> Iterator[Channel]:
        """A command under way, its channel closed afterwards; the caller talks to it."""
        channel = self.open_session(command, timeout=timeout, tick=tick)
        try:
            yield channel
        finally:
            let_go(channel)

    def open_session(
        self, command: bytes | Callable[[], bytes], *, timeout: float = 30, tick: Tick = still
    ) -> Channel:
        """The command is asked for and mostly not waited for: what is sent to it travels along as far as the
        host has granted room. One that will not run it closes the channel. A command may be made when there
        is a channel for it, by a thread of its own."""
        until = time.monotonic() + timeout
        asked = functools.cache(lambda: command if isinstance(command, bytes) else command())

        def begin() -> Channel:
            with _way():
                return self._running(asked, timeout, until)

        return patiently(begin, shut, until, tick, "a command by ssh")

    def _running(self, asked: Callable[[], bytes], timeout: float, until: float) -> Channel:
        """A fragile host closes some before anything was asked of them: then it is tried again."""
        fragile = is_fragile(self._transport)
        for _ in range(AGAIN):
            if fragile:
                let_end(self._transport)
            channel = self._opened(until)
            if channel is None:
                continue
            channel.in_buffer = _pieces()  # nothing comes before something was asked for
            channel.settimeout(timeout)
            try:
                _ask_for(channel, asked())
                if not fragile or _agreed(channel, until):
                    return channel
            except BaseException:
                shut(channel)
                raise
        raise HostUnreachable("the host would not run the command")

    def _opened(self, until: float) -> Channel | None:
        """None: it was closed before the library came to look at it."""
        from paramiko.ssh_exception import ChannelException, SSHException

        try:
            return self._transport.open_session(timeout=left(until))
        except ChannelException:
            raise
        except SSHException:
            if not (is_fragile(self._transport) and self.alive) or time.monotonic() >= until:
                raise
            return None

    def open_port(self, port: int, *, timeout: float = 10, tick: Tick = still) -> Channel:
        """A way to what listens on the host's own loopback."""
        until = time.monotonic() + timeout

        def begin() -> Channel:
            with _way():
                return _beyond(self._transport, "127.0.0.1", port, until)

        return patiently(begin, shut, until, tick, f"port {port} by ssh")

    def close(self) -> None:
        """Afterwards nothing of it is left: no thread, no open file."""
        _end(self._transport)
        if self._below is not None:
            self._below.close()


def connect(route: Route, *, timeout: float = CONNECT_S, tick: Tick = still) -> Connection:
    """Raises KeyMismatch, LoginRefused, or HostUnreachable when there is no way within the time."""
    until = time.monotonic() + timeout
    sys.setswitchinterval(SWITCH_S)
    with _way_below(route, until, tick) as below:

        def shake_hands() -> Connection:
            with _reaching(route):
                transport = _greeted(route, below, until)
                try:
                    _believe(transport, route)
                    log_in(transport, route, until)
                    _watched(transport)
                except BaseException:
                    _end(transport)
                    raise
                return Connection(transport, transport.rtt_s, below)

        return patiently(shake_hands, Connection.close, until, tick, f"ssh to {route.address}:{route.port}")


def shown_key(route: Route, *, timeout: float = CONNECT_S, tick: Tick = still) -> str:
    """What the host shows now, as "type base64", trusted by nobody yet; not even a user's name is sent. A
    jump host on the way must show its own pinned key. A kind of key that is pinned is asked for first."""
    until = time.monotonic() + timeout
    with _way_below(route, until, tick) as below:

        def look() -> str:
            with _reaching(route):
                transport = _greeted(route, below, until)
                try:
                    return _shown(transport)
                finally:
                    _end(transport)

        try:
            return patiently(look, lambda _: None, until, tick, f"ssh to {route.address}:{route.port}")
        finally:
            if below is not None:
                below.close()


def _greeted(route: Route, below: Connection | None, until: float) -> Line:
    """As far as the host's key, which nobody has looked at yet. The library is loaded while the host makes
    its first words: both take a tenth of a second."""
    pulse = Pulse(_stream(route, below, until), f"{HELLO}\r\n".encode())
    try:
        with _lean():
            from launcher.ssh.transport import Line

        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its complaints go to stderr
        transport = Line(pulse)
        transport.local_version = HELLO
    except BaseException:
        pulse.close()
        raise
    try:
        _tune(transport, route, until)
        transport.start_client(timeout=left(until))
    except BaseException:
        _end(transport)
        raise
    return transport


@contextmanager
def _lean() -> Iterator[None]:
    """The library asks for `invoke`, does as well without, and with it takes half as long again to load."""
    missing = "invoke" not in sys.modules
    if missing:
        sys.modules["invoke"] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        yield
    finally:
        if missing:
            del sys.modules["invoke"]


def _end(transport: Transport) -> None:
    """Its socket too when it broke by itself; its thread is waited for a little."""
    transport.close()
    transport.sock.close()
    if transport.ident is not None:
        transport.join(END_S)


def _stream(route: Route, below: Connection | None, until: float) -> Any:
    if below is not None:
        return _beyond(below._transport, route.address, route.port, until)
    stream = socket.create_connection((route.address, route.port), timeout=left(until))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 44 ms a request without it
    return stream


def _beyond(transport: Transport, address: str, port: int, until: float) -> Channel:
    return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=left(until))


def _tune(transport: Transport, route: Route, until: float) -> None:
    options = transport.get_security_options()
    options.ciphers = [*GCM_FIRST, *(c for c in options.ciphers if c not in GCM_FIRST)]
    # A host shows the kind of key that is asked for first; the others are asked for so that a changed key is
    # seen and named.
    kinds = list(options.key_types)
    options.key_types = sorted(kinds, key=lambda kind: not any(_fits(kind, pin) for pin in route.pins))
    transport.banner_timeout = transport.auth_timeout = left(until)
    packetizer: Any = transport.packetizer
    packetizer.REKEY_BYTES = packetizer.REKEY_PACKETS = REKEY_AFTER


def _fits(kind: str, pin: str) -> bool:
    """rsa-sha2-512 is a signature by a key of the kind ssh-rsa."""
    pinned = pin.split(maxsplit=1)[0]
    return kind == pinned or (pinned == "ssh-rsa" and kind.startswith("rsa-sha2-"))


def _shown(transport: Transport) -> str:
    key = transport.get_remote_server_key()
    return f"{key.get_name()} {base64.b64encode(key.asbytes()).decode()}"


def _believe(transport: Transport, route: Route) -> None:
    shown = _shown(transport)
    if not any(" ".join(pin.split()[:2]) == shown for pin in route.pins):
        raise KeyMismatch(route.address, route.port, shown, known=bool(route.pins))


def _watched(transport: Transport) -> None:
    """From now on the host is asked whenever it was silent; any answer will do, a refusal is one."""
    from paramiko import Message
    from paramiko.common import cMSG_GLOBAL_REQUEST

    def ask() -> None:  # in the connection's own thread: it must not wait for the answer
        if transport.clear_to_send.is_set():
            question = Message()
            question.add_byte(cMSG_GLOBAL_REQUEST)
            question.add_string("keepalive@openssh.com")
            question.add_boolean(True)
            transport._send_message(question)  # type: ignore[attr-defined]  # the public way waits

    transport.sock.ask = ask  # type: ignore[union-attr]  # its socket is a Pulse


def _ask_for(channel: Channel, command: bytes) -> None:
    """As the library's exec_command, which waits for the answer deaf and for ever."""
    from paramiko import Message
    from paramiko.common import cMSG_CHANNEL_REQUEST

    request = Message()
    request.add_byte(cMSG_CHANNEL_REQUEST)
    request.add_int(channel.remote_chanid)
    request.add_string("exec")
    request.add_boolean(True)
    request.add_string(command)
    with channel.lock:  # once it is closed the number may be another's
        if not channel.closed:
            channel.get_transport()._send_user_message(request)  # type: ignore[attr-defined]  # not public, so the stubs leave it out


def _agreed(channel: Channel, until: float) -> bool:
    """The host runs what it was asked for; not: it closed the channel, which may be no answer to it."""
    if not channel.event.wait(left(until)):
        raise HostUnreachable("the host did not answer in time")
    if not channel.get_transport().is_active():
        raise HostUnreachable("the connection broke before the command began")
    return channel.event_ready


@contextmanager
def _way_below(route: Route, until: float, tick: Tick) -> Iterator[Connection | None]:
    """The connection to the jump host, closed when nothing comes of it."""
    if route.via is None:
        yield None
        return
    below = connect(route.via, timeout=left(until), tick=tick)
    try:
        yield below
    except BaseException:
        below.close()
        raise


@contextmanager
def _reaching(route: Route) -> Iterator[None]:
    """The library is not asked for its faults before there is one: it is loaded when the host is asked."""
    where = f"{route.address}:{route.port}"
    try:
        yield
    except (KeyMismatch, LoginRefused, HostUnreachable):
        raise
    except _library().ChannelException as e:
        raise HostUnreachable(f"the jump host opens no way to {where}: {e.text}") from e
    except OSError as e:
        raise HostUnreachable(f"{where} does not answer: {e.strerror or e}") from e
    except (_library().SSHException, EOFError) as e:
        raise HostUnreachable(f"{where} did not get as far as SSH: {e}") from e


def _pieces() -> BufferedPipe[Any]:
    from launcher.ssh.transport import Pieces

    return Pieces()


def _library() -> Any:
    from paramiko import ssh_exception

    return ssh_exception


@contextmanager
def _way() -> Iterator[None]:
    """What the library says of a broken way, in the words of hosts."""
    from paramiko.ssh_exception import ChannelException, SSHException

    try:
        yield
    except ChannelException as e:
        raise HostUnreachable(f"the host opened no channel: {e.text}") from e
    except (SSHException, EOFError, OSError) as e:
        raise HostUnreachable(f"the connection broke: {e}") from e
