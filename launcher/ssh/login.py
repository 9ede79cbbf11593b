"""Getting in with a key, or saying what the host would rather have. No password is ever asked for or sent.

Key files first, in the route's order, then what the user's ssh-agent holds: a file that is locked by a
passphrase is passed over, because the agent may have it open. Hosts end the talk after some six keys, so the
agent's keys that belong to the route's files go before its others.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.models import Route
from launcher.ssh.errors import LoginRefused

if TYPE_CHECKING:
    from paramiko import PKey, Transport

    from launcher.ssh.transport import Line

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def log_in(transport: Line, route: Route, until: float) -> None:
    """LoginRefused says what to do; anything else that is raised is the connection's matter."""
    from paramiko import AuthenticationException, BadAuthenticationType, SSHException

    keys = Keys(route)
    for name, key in keys:
        try:
            more = transport.let_in(route.user, key)
        except BadAuthenticationType as e:
            raise LoginRefused(_no_keys_wanted(route, e.allowed_types)) from e
        except AuthenticationException as e:
            if not transport.is_active() and not keys.refused:
                raise SSHException("the host ended the talk during the login") from e
            keys.refused.append(name)
            if not transport.is_active():
                raise LoginRefused(f"{_who(route)} ended the talk: {keys.told()}") from e
            if time.monotonic() >= until:
                raise SSHException("the host did not answer the login in time") from e
            continue
        if more:
            raise LoginRefused(f"{_who(route)} takes the key {name} and wants {_either(more)} besides")
        return
    raise LoginRefused(_not_let_in(transport, route, keys))


def _not_let_in(transport: Transport, route: Route, keys: Keys) -> str:
    """When no key did: what the host offers decides what there is to do."""
    from paramiko import AuthenticationException, BadAuthenticationType

    offered: Sequence[str] = ()
    try:
        transport.auth_none(route.user)
    except BadAuthenticationType as e:
        offered = e.allowed_types
    except AuthenticationException:
        pass  # it does not say
    if offered and "publickey" not in offered:
        return _no_keys_wanted(route, offered)
    port = "" if route.port == 22 else f"-p {route.port} "
    here = f"ssh-copy-id {port}{route.user}@{route.address}"
    return f"{_who(route)} lets none of our keys in: {keys.told()}. Put one there: {here}"


def _no_keys_wanted(route: Route, offered: Sequence[str]) -> str:
    return (
        f"{_who(route)} lets nobody in by a key, only by {_either(offered)}, and no password is ever sent: "
        "have PubkeyAuthentication switched on there"
    )


def _who(route: Route) -> str:
    return f"{route.user}@{route.address}:{route.port}"


def _either(ways: Sequence[str]) -> str:
    return " or ".join(sorted(ways))


class Keys:
    """What there is to try, and what became of it."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._files = [Path(name).expanduser() for name in route.keys]
        if not route.keys:
            self._files = [Path.home() / ".ssh" / name for name in DEFAULT_KEYS]
        self.refused: list[str] = []
        self._passed_over: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, PKey]]:
        for path in self._files:
            key = self._loaded(path)
            if key is not None:
                yield str(path), key
        if self._route.agent:
            yield from self._of_the_agent()

    def told(self) -> str:
        tried = f"tried {', '.join(self.refused)}" if self.refused else "there is none to try"
        return "; ".join([tried, *self._passed_over])

    def _loaded(self, path: Path) -> PKey | None:
        from paramiko import PasswordRequiredException, PKey
        from paramiko.pkey import UnknownKeyType

        if path.suffix == ".pub":
            return None  # its other half is the agent's
        try:
            return PKey.from_path(path)
        except FileNotFoundError:
            if self._route.keys:
                self._passed_over.append(f"{path} is not there")
        except (PasswordRequiredException, TypeError):  # how the library says that a passphrase is missing
            self._passed_over.append(f"{path} is locked by a passphrase: ssh-add {path}")
        except (OSError, ValueError, UnknownKeyType) as e:
            self._passed_over.append(f"{path} cannot be used: {e}")
        return None

    def _of_the_agent(self) -> Iterator[tuple[str, PKey]]:
        from paramiko import Agent, SSHException

        named = {public for path in self._files for public in _public_half(path)}
        try:
            agent = Agent()
        except (SSHException, OSError):
            return  # what answers there is no agent
        try:
            held = sorted(agent.get_keys(), key=lambda key: key.asbytes() not in named)
            for key in held:
                if self._route.agent_others or key.asbytes() in named:
                    yield f"{key.get_name()} {key.comment or ''} of the agent".replace("  ", " "), key
        finally:
            agent.close()


def _public_half(path: Path) -> Iterator[bytes]:
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    with suppress(OSError, ValueError, IndexError):
        yield base64.b64decode(public.read_text().split()[1], validate=True)
