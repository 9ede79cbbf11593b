"""A host of the user's own OpenSSH configuration, as a route.

Read as OpenSSH reads it: from the top, the first value of a key counts, blocks count when their Host or Match
line does, Include counts where it stands. What cannot be followed is refused with its file and line, where it
decides about this host: ProxyCommand and `Match exec` are programs, and none is run here. Not looked at:
certificates, canonical host names, agents other than the one in SSH_AUTH_SOCK.
"""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.errors import LauncherError, usage
from launcher.models import Route
from launcher.ssh import known
from launcher.ssh.known import PORT, SYSTEMS, USERS, fits, listed

USER_FILE = "~/.ssh/config"
SYSTEM_FILE = "/etc/ssh/ssh_config"
DEEPEST = 16  # files that include files
SHARED = {"proxycommand": "proxyjump"}  # whichever comes first counts
MATCHES = {"host": "host", "originalhost": "name", "user": "user", "localuser": "localuser"}


@dataclass(frozen=True)
class Said:
    words: tuple[str, ...]
    key: str  # as written: proxyjump and proxycommand share a place
    place: str  # file:line


@dataclass
class Reading:
    """What the files come to for one name."""

    name: str
    said: dict[str, Said] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    named: bool = False  # by a block that means it by more than `*`
    final: bool = False
    wants_final: bool = False

    def first(self, key: str, default: str = "") -> str:
        said = self.said.get(key)
        return said.words[0] if said is not None and said.words else default

    def words(self, key: str) -> tuple[str, ...]:
        said = self.said.get(key)
        return said.words if said is not None else ()


def route_of(name: str, *, files: tuple[str, ...] = (USER_FILE, SYSTEM_FILE)) -> Route | None:
    """The way to the host that this name stands for, with the keys that known_hosts has of it; None when no
    block names it. A LauncherError says what of it cannot be followed."""
    reading = _read(name, files)
    return _route(reading, files, (name,)) if reading.named else None


def _route(reading: Reading, files: tuple[str, ...], chain: tuple[str, ...], jump: bool = True) -> Route:
    address, port, user = _place(reading)
    alias = reading.first("hostkeyalias") or None
    hosts = tuple(
        path
        for key, usual in (("userknownhostsfile", USERS), ("globalknownhostsfile", SYSTEMS))
        for path in (_paths(reading, key) if key in reading.said else usual)
    )
    agent = reading.first("identityagent") != "none"
    return Route(
        address,
        port,
        user,
        keys=tuple(_filled(reading, key, "IdentityFile") for key in reading.keys if key != "none"),
        agent=agent,
        agent_others=reading.first("identitiesonly").lower() not in ("yes", "true"),
        pins=known.pins(address, port, alias=alias, files=hosts),
        via=_via(reading, files, chain) if jump else None,
    )


def _place(reading: Reading) -> tuple[str, int, str]:
    text = reading.first("hostname", reading.name)
    address = text.replace("%%", "%") if "%" not in text.replace("%%", "") else _with_name(text, reading)
    port = reading.first("port", str(PORT))
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise _refused(reading, f"{reading.said['port'].place}: Port {port} is no port")
    return address, int(port), reading.first("user") or getpass.getuser()


def _with_name(text: str, reading: Reading) -> str:
    return text.replace("%%", "\0").replace("%h", reading.name).replace("\0", "%")


def _via(reading: Reading, files: tuple[str, ...], chain: tuple[str, ...]) -> Route | None:
    """The jump hosts before it, outermost first; each may be an alias itself."""
    said = reading.said.get("proxyjump")
    if said is None or said.words[0].lower() == "none":
        return None
    if said.key == "proxycommand":
        raise _refused(
            reading,
            f"{said.place}: it is reached by a ProxyCommand, and no program is run for that (ProxyJump is)",
        )
    below: Route | None = None
    for hop in _filled(reading, said.words[0], "ProxyJump").split(","):
        user, name, port = _hop(hop.strip(), reading, said.place)
        if name in chain:
            raise _refused(
                reading, f"{said.place}: its jump hosts lead in a circle: {' > '.join((*chain, name))}"
            )
        stop = _read(name, files)
        for key, value in (("port", port), ("user", user)):
            if value:
                stop.said[key] = Said((value,), key, said.place)
        found = _route(stop, files, (*chain, name), jump=below is None)
        below = replace(found, via=below) if below is not None else found
    return below


def _hop(text: str, reading: Reading, place: str) -> tuple[str, str, str]:
    """[ssh://][user@]host[:port], IPv6 addresses in brackets."""
    rest = text.removeprefix("ssh://").rstrip("/")
    user, _, rest = rest.rpartition("@")
    name, bracket, port = rest[1:].partition("]:") if rest.startswith("[") else rest.rpartition(":")
    if rest.startswith("["):
        name = name.rstrip("]")
    elif not bracket:
        name, port = rest, ""
    if not name or (port and not port.isdecimal()):
        raise _refused(reading, f"{place}: '{text}' is no jump host")
    return user, name, port


def _paths(reading: Reading, key: str) -> tuple[str, ...]:
    return tuple(_filled(reading, word, key) for word in reading.words(key) if word != "none")


def _filled(reading: Reading, text: str, key: str) -> str:
    """Tokens, environment and ~ of a value."""
    address, port, user = _place(reading)
    home = str(Path.home())
    known_as = reading.first("hostkeyalias") or address
    tokens = {"%": "%", "h": address, "n": reading.name, "p": str(port), "r": user, "d": home, "k": known_as}
    tokens |= {"u": getpass.getuser(), "i": str(os.getuid()), "l": os.uname().nodename}
    tokens["L"] = tokens["l"].partition(".")[0]
    out: list[str] = []
    rest = iter(text)
    for letter in rest:
        if letter != "%":
            out.append(letter)
            continue
        token = next(rest, "")
        if token not in tokens:
            raise _refused(reading, f"{key} {text}: %{token} is not understood here")
        out.append(tokens[token])
    filled = os.path.expandvars("".join(out)) if "${" in text else "".join(out)
    return str(Path(filled).expanduser()) if key != "ProxyJump" else filled


def _refused(reading: Reading, why: str) -> LauncherError:
    return usage(
        "bad-host",
        f"the host {reading.name} of your SSH configuration cannot be used: {why}",
        hint=f"host add {reading.name} USER@ADDRESS",
    )


# --- the files --------------------------------------------------------------------------------------


def _read(name: str, files: tuple[str, ...]) -> Reading:
    reading = Reading(name)
    for _ in range(2):
        for file in files:
            _read_file(Path(file).expanduser(), reading, active=True, depth=0)
        if not reading.wants_final or reading.final:
            break
        reading.final = True
    return reading


def _read_file(path: Path, reading: Reading, *, active: bool, depth: int) -> None:
    if depth > DEEPEST:
        raise _refused(reading, f"{path}: files include each other too deep")
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:  # it is not there, or not for us: then it says nothing
        return
    outer = active
    for number, raw in enumerate(text.splitlines(), 1):
        place = f"{path}:{number}"
        key, words = _split(raw, reading, place)
        if not key:
            continue
        if key in ("host", "match"):
            counts = _host(words, reading) if key == "host" else _match(words, reading, place, outer)
            active = outer and counts
        elif key == "include":
            for included in _included(words, path):
                _read_file(included, reading, active=active, depth=depth + 1)
        elif active and words:
            _take(reading, key, words, place)


def _split(raw: str, reading: Reading, place: str) -> tuple[str, tuple[str, ...]]:
    """`Key value …`, `Key=value`; quotes keep blanks together, # begins a comment where a word may begin."""
    line = raw.strip()
    if not line or line.startswith("#"):
        return "", ()
    end = next((at for at, letter in enumerate(line) if letter in " \t="), len(line))
    key, rest = line[:end].lower(), line[end:].lstrip(" \t").removeprefix("=").strip()
    if key == "proxycommand":  # the rest of the line, whatever is in it
        return key, (rest,)
    lexer = shlex.shlex(rest, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", "\\"
    try:
        words = list(lexer)
    except ValueError as e:
        raise _refused(reading, f"{place}: the quotes do not close") from e
    comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    return key, tuple(words[:comment])


def _take(reading: Reading, key: str, words: tuple[str, ...], place: str) -> None:
    if key == "identityfile":
        if words[0] not in reading.keys:
            reading.keys.append(words[0])
        return
    reading.said.setdefault(SHARED.get(key, key), Said(words, key, place))


def _host(patterns: tuple[str, ...], reading: Reading) -> bool:
    counts = listed(patterns, reading.name)
    reading.named |= counts and any(p != "*" and fits(p, reading.name) for p in patterns)
    return counts


def _match(words: tuple[str, ...], reading: Reading, place: str, asked: bool) -> bool:
    """All of the line's conditions, looked at in turn; the first that does not hold ends it."""
    rest = iter(words)
    for word in rest:
        negated, kind = word.startswith("!"), word.removeprefix("!").lower()
        if kind in ("all", "canonical", "final"):
            reading.wants_final |= kind == "final"
            holds = kind == "all" or (kind == "final" and reading.final)
        else:
            value = next(rest, None)
            if value is None:
                raise _refused(reading, f"{place}: Match {kind} wants a value")
            if kind not in MATCHES:
                if not asked:
                    return False
                raise _refused(reading, f"{place}: 'Match {kind}' cannot be decided here")
            holds = listed(value.split(","), _now(reading, kind))
            if kind == "originalhost" and holds and not negated and value != "*":
                reading.named = True
        if holds == negated:
            return False
    return True


def _now(reading: Reading, kind: str) -> str:
    """What a Match condition is about, as far as the lines above it have said."""
    if kind == "host":
        return reading.first("hostname", reading.name).replace("%h", reading.name)
    if kind == "user":
        return reading.first("user") or getpass.getuser()
    return reading.name if kind == "originalhost" else getpass.getuser()


def _included(words: tuple[str, ...], path: Path) -> Iterator[Path]:
    """Relative names lie where OpenSSH looks: beside the user's file, or the system's."""
    base = path.parent if path.is_relative_to("/etc/ssh") else Path.home() / ".ssh"
    for word in words:
        pattern = Path(word).expanduser()
        whole = pattern if pattern.is_absolute() else base / pattern
        yield from sorted(
            whole.parent.glob(whole.name) if not _deep(whole) else Path("/").glob(str(whole)[1:])
        )


def _deep(pattern: Path) -> bool:
    return any(letter in str(pattern.parent) for letter in "*?[")
