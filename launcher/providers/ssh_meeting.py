"""Meeting a host for the first time: the way there from what a person wrote, and whose key is believed.

A key comes from the user's known_hosts, from a fingerprint that the person was given, or from one yes.
It is never taken because somebody showed it. It writes nothing down.
"""

from __future__ import annotations

import getpass
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launcher.errors import (
    AuthRefused,
    Exit,
    HostUnreachable,
    KeyChanged,
    LauncherError,
    ProviderError,
    Unreachable,
    usage,
)
from launcher.hosts import NAME, HostBook, HostRecord, unknown
from launcher.hostwords import HostWish, Place, parse, written
from launcher.models import Route
from launcher.providers import ssh_keys
from launcher.ssh import config, known
from launcher.ssh.errors import KeyMismatch, fingerprint

MOST_KEY_BYTES = 1 << 16


def route(
    book: HostBook,
    name: str,
    address: str | None,
    keys: Sequence[str],
    via: str | None,
    *,
    look_up: bool = True,
) -> Route:
    """The way there: what was written, or the alias of that name in the user's own SSH configuration; with
    `look_up`, its key as known_hosts has it."""
    files = tuple(_key_file(key) for key in keys)
    if address is None:
        found = _of_alias(book, name)
        if found is None:
            raise usage(
                "unknown-host",
                f"'{name}' stands for no host in your SSH configuration, and no address was given",
                hint=f"host add {name} USER@ADDRESS",
            )
    else:
        place = _place(address)
        found = Route(place.address, place.port, place.user or getpass.getuser())
        found = replace(found, pins=known.pins(place.address, place.port) if look_up else ())
    if files:
        found = replace(found, keys=files, agent_others=False)
    return replace(found, via=_jump(book, via)) if via is not None else found


def _place(text: str) -> Place:
    try:
        return parse(text)
    except ValueError as fault:
        raise usage("bad-host", f"'{text}' {fault}", hint="host add lab USER@ADDRESS:22") from None


def _jump(book: HostBook, via: str) -> Route:
    """A host of the book, an alias, or an address whose key known_hosts has."""
    record = book.find(via) if NAME.fullmatch(via) else None
    found = record.route if record is not None else _of_alias(book, via)
    if found is None:
        found = route(book, via, via, (), None)
    if not found.pins:
        raise usage(
            "host-key-unknown",
            f"the key of the jump host {via} is not known",
            hint=f"host add jump {_where(found)}    then --via jump",
        )
    return found


def _of_alias(book: HostBook, name: str) -> Route | None:
    found = config.route_of(name)
    return replace(found, via=_believed(book, found.via)) if found is not None and found.via else found


def _believed(book: HostBook, hop: Route) -> Route:
    """A jump host of an alias: a key that known_hosts lacks may be in the book, under whatever name."""
    if hop.via is not None:
        hop = replace(hop, via=_believed(book, hop.via))
    if hop.pins:
        return hop
    added = (r.route for r in book.all() if r.route.via is None and hop.via is None)
    same = (r.pins for r in added if (r.address, r.port) == (hop.address, hop.port))
    pins = tuple(pin for one in same for pin in one if not known.revoked(pin, hop.address, hop.port))
    if not pins:
        raise usage(
            "host-key-unknown",
            f"the key of the jump host {_where(hop)} is not known",
            hint=f"host add jump {_where(hop)}",
            details=tuple(filter(None, (known.why_none(hop.address, hop.port),))),
        )
    return replace(hop, pins=pins)


def _key_file(text: str) -> str:
    """A private key that can be used, as far as a look at the file tells."""
    path = Path(text).expanduser().absolute()
    try:
        data, mode = path.read_bytes()[:MOST_KEY_BYTES], stat.S_IMODE(path.stat().st_mode)
    except OSError as e:
        raise usage(
            "bad-key-file", f"the key {text} cannot be read: {e.strerror}", hint="host add --help"
        ) from e
    if b"PRIVATE KEY" not in data:
        half = (
            f"it is the public half; name {path.with_suffix('')}"
            if path.suffix == ".pub"
            else "it holds none"
        )
        raise usage("bad-key-file", f"{text} is no private key: {half}", hint="host add --help")
    if mode & 0o077 and path.stat().st_uid == os.getuid():
        raise usage(
            "bad-key-file",
            f"the key {text} can be read by others (mode {mode:o})",
            hint=f"host add    again, after: chmod 600 {path}",
        )
    return str(path)


# --- whose key is believed --------------------------------------------------------------------------


def with_fingerprint(way: Route, wanted: str, name: str) -> Route:
    """Believed if one of the keys there has this fingerprint; otherwise it is not who was meant."""
    if not wanted.startswith("SHA256:"):
        raise usage(
            "bad-host",
            f"a fingerprint looks like SHA256:…, and '{wanted[:60]}' does not",
            hint=f"host add {name} --fingerprint SHA256:…",
        )
    with _reached():
        key, seen = ssh_keys.with_fingerprint(way, wanted)
    if key is None:
        told = ", ".join(f"{one.split()[0]} {fingerprint(one)}" for one in seen)
        what = f"{name} ({_where(way)}) shows {told}, and not {wanted}"
        raise _changed(name, way, what, lambda pins: not set(pins) & set(seen))
    return replace(way, pins=(key,))


def shown_key(way: Route) -> str:
    """The key that is shown there, unbelieved."""
    with _reached():
        return ssh_keys.shown(way)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except KeyMismatch as e:
        raise LauncherError("host-key-changed", str(e), exit=Exit.UNREACHABLE, hint="host list") from e
    except HostUnreachable as e:
        raise LauncherError("host-unreachable", str(e), exit=Exit.UNREACHABLE, hint="host list") from e


def _where(way: Route) -> str:
    return written(way.user, way.address, way.port)


def _changed(name: str, way: Route, what: str, old: Callable[[tuple[str, ...]], bool]) -> LauncherError:
    """`old`: whether keys that known_hosts has of it are no longer its own."""
    keys = [word for key in way.keys for word in ("--key", key)]
    again = ("host", "add", name, _where(way), *keys, "--fingerprint")
    listed = known.pins(way.address, way.port)
    entry = way.address if way.port == known.PORT else f"[{way.address}]:{way.port}"
    mend = f"; known_hosts still has the old key: ssh-keygen -R {shlex.quote(entry)}"
    return LauncherError(
        "host-key-changed",
        what,
        exit=Exit.UNREACHABLE,
        details=(
            "Either the host was set up anew, or somebody stands between you and it: ask who runs it.",
            f"If it is right, give its fingerprint{mend if listed and old(listed) else ''}.",
        ),
        hint=f"{shlex.join(again)} SHA256:…",
    )


def met(book: HostBook, name: str) -> Route:
    """An alias of the user's own SSH configuration whose key is known already."""
    found = _of_alias(book, name) if NAME.fullmatch(name) else None
    if found is None:
        raise unknown(name, book.names())
    if not found.pins:
        raise usage(
            "host-key-unknown",
            f"{name} is {_where(found)} by your SSH configuration, and no known_hosts has its key",
            hint=f"host add {name}",
            details=tuple(filter(None, (known.why_none(found.address, found.port),))),
        )
    return found


def wished(book: HostBook, name: str, wish: HostWish, before: HostRecord | None, origin: str) -> HostRecord:
    """A host as a profile describes it. What was seen of it before still counts while it is the same one."""
    place = f"{wish.place.user}@" if wish.place.user else ""
    way = route(book, name, place + wish.place.bare, wish.keys, wish.via)
    fits = [pin for pin in way.pins if wish.fingerprint in (None, fingerprint(pin))]
    same = before is not None and replace(before.route, pins=()) == replace(way, pins=())
    if before is not None and same and before.fingerprint == wish.fingerprint and not fits:
        fits = list(before.route.pins)
    if not fits and wish.fingerprint is None:
        raise usage(
            "host-key-unknown",
            f"the host {name} of {origin} has no fingerprint there, and no known_hosts has its key",
            hint=f"host add {name} {wish.place}",
        )
    return HostRecord(
        name,
        replace(way, pins=tuple(fits)),
        wish.usd_per_hour,
        origin,
        before.facts if before is not None and same else None,
        wish.fingerprint,
    )


def page(record: HostRecord, error: ProviderError, hint: str) -> LauncherError:
    """What a host answered, for the person who asked only it."""
    if isinstance(error, KeyChanged):
        pinned = set(record.route.pins)
        return _changed(record.name, record.route, error.reason, lambda pins: bool(pinned & set(pins)))
    if isinstance(error, AuthRefused):
        return LauncherError("host-login-refused", error.reason, exit=Exit.KEYS, hint="host add --help")
    if isinstance(error, Unreachable):
        return LauncherError("host-unreachable", error.reason, exit=Exit.UNREACHABLE, hint=hint)
    return LauncherError("host-unfit", error.reason, exit=error.exit, hint=hint)
