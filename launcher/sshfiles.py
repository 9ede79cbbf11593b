"""What the system's ssh client is told about a run's machine: the way, the pin, the keys; nothing else.

A block of its configuration and a file of known hosts, both 0600 in the run's folder; on demand an include
file in the data folder, gone with the run. Keys are named, never copied. Makes text and files; opens no
connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from launcher.errors import Exit, LauncherError
from launcher.files import Disk
from launcher.models import Route
from launcher.store import Home, RunFolder

SUFFIX = ".conf"
_WORD = re.compile(r"[A-Za-z0-9._:%@\[\]-]+")


def block(alias: str, route: Route, known: Path) -> str:
    """Host blocks: the machine's, then those of the jump hosts before it."""
    hops = list(_hops(alias, route))
    lines: list[str] = []
    for at, (name, hop) in enumerate(hops):
        jump = hops[at + 1][0] if at + 1 < len(hops) else "none"
        lines += [
            f"Host {name}",
            f"  HostName {_word(hop.address)}",
            f"  Port {hop.port}",
            f"  User {_word(hop.user)}",
            *(f"  IdentityFile {_path(Path(key).expanduser())}" for key in hop.keys),
            f"  IdentitiesOnly {'yes' if hop.keys or not hop.agent_others else 'no'}",
            *(() if hop.agent else ("  IdentityAgent none",)),
            f"  ProxyJump {jump}",
            f"  HostKeyAlias {name}",
            f"  UserKnownHostsFile {_path(known)}",
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  UpdateHostKeys no",
            "  ForwardAgent no",
            "  ServerAliveInterval 10",
            "  ServerAliveCountMax 3",
        ]
    return "".join(f"{line}\n" for line in lines)


def known_hosts(alias: str, route: Route) -> str:
    """By alias, so that an address that somebody else gets later proves nothing."""
    pins = [(name, " ".join(pin.split()[:2])) for name, hop in _hops(alias, route) for pin in hop.pins]
    if any("\n" in pin for _, pin in pins):
        raise _odd("a host key")
    return "".join(f"{name} {pin}\n" for name, pin in pins)


def write(folder: RunFolder, route: Route) -> Path:
    """Both files for our own use of the client; the configuration's path."""
    disk = Disk()
    disk.make_folder(folder.ssh)
    known, config = folder.ssh / "known_hosts", folder.ssh / "config"
    disk.write(known, known_hosts(folder.name, route).encode())
    disk.write(config, block(folder.name, route, known).encode())
    return config


def offer(home: Home, folder: RunFolder, route: Route) -> Path:
    """The include file that the user's own configuration finds by a pattern."""
    disk = Disk()
    text = write(folder, route).read_bytes()
    disk.make_folder(home.ssh)
    file = home.ssh / f"{folder.name}{SUFFIX}"
    disk.write(file, text)
    return file


def include(home: Home) -> str:
    """The one line for ~/.ssh/config, before any of its Host blocks."""
    return f'Include {_path(home.ssh)[:-1]}/*{SUFFIX}"'


def forget(home: Home, name: str) -> None:
    """The run has ended: nothing leads to its machine any more."""
    with suppress(FileNotFoundError):
        (home.ssh / f"{name}{SUFFIX}").unlink()
    for file in ("config", "known_hosts"):
        with suppress(FileNotFoundError):
            (home.run(name).ssh / file).unlink()


def offered(home: Home) -> tuple[str, ...]:
    """The runs that have an include file."""
    try:
        return tuple(sorted(file.stem for file in home.ssh.iterdir() if file.suffix == SUFFIX))
    except FileNotFoundError:
        return ()


def _hops(alias: str, route: Route) -> Iterator[tuple[str, Route]]:
    hop: Route | None = route
    at = 0
    while hop is not None:
        yield (alias if at == 0 else f"{alias}-jump{at}"), hop
        hop, at = hop.via, at + 1


def _word(text: str) -> str:
    """An address or a name that somebody else told us: one word, or it could say more than it should."""
    if not _WORD.fullmatch(text) or text.startswith("-"):
        raise _odd(repr(text))
    return text.replace("%", "%%")


def _path(path: Path) -> str:
    text = str(path)
    if '"' in text or "\n" in text:
        raise _odd(repr(text))
    return '"' + text.replace("%", "%%") + '"'


def _odd(what: str) -> LauncherError:
    return LauncherError(
        "ssh-config-odd",
        f"{what} cannot stand in a configuration of the ssh client",
        exit=Exit.USAGE,
        hint="open    leads to a port without it",
    )
