"""How a person writes down a machine: user@address[:port], IPv6 in brackets. Pure; raises ValueError with a
sentence. It must not know whether anybody answers there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from launcher import values

SSH_PORT = 22
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")


@dataclass(frozen=True)
class Place:
    user: str | None  # None: as the caller is called here
    address: str
    port: int

    @property
    def bare(self) -> str:
        return written(None, self.address, self.port)

    def __str__(self) -> str:
        return written(self.user, self.address, self.port)


@dataclass(frozen=True)
class HostWish:
    """A machine as a profile describes it."""

    place: Place
    keys: tuple[str, ...] = ()
    fingerprint: str | None = None
    usd_per_hour: Decimal = Decimal(0)
    via: str | None = None

    def __str__(self) -> str:
        return str(self.place)


def wish(raw: object) -> HostWish:
    """user@address[:port], or a mapping with more."""
    if isinstance(raw, str):
        return HostWish(parse(raw))
    if not isinstance(raw, Mapping):
        raise ValueError(
            "needs user@address[:port], or a mapping with address, key, fingerprint, usd_per_hour, via"
        )
    strange = sorted(set(map(str, raw)) - set(_FIELDS))
    if strange:
        raise ValueError(f"has no '{strange[0]}'{values.did_you_mean(strange[0], _FIELDS)}")
    if "address" not in raw:
        raise ValueError("needs an address")
    given = {name: values.text(value) for name, value in raw.items()}
    price = values.money(given["usd_per_hour"], high=1000) if "usd_per_hour" in given else Decimal(0)
    keys = (given["key"],) if "key" in given else ()
    return HostWish(parse(given["address"]), keys, given.get("fingerprint"), price, given.get("via"))


_FIELDS = ("address", "key", "fingerprint", "usd_per_hour", "via")


def written(user: str | None, address: str, port: int) -> str:
    """As it would be typed."""
    name = f"[{address}]" if ":" in address and port != SSH_PORT else address
    return (f"{user}@" if user else "") + name + (f":{port}" if port != SSH_PORT else "")


def parse(text: str) -> Place:
    head, at, rest = text.strip().rpartition("@")
    if at and not _USER.fullmatch(head):
        raise ValueError(f"needs user@address[:port], and '{head}' is no user's name")
    address, port = _split(rest)
    fits = _IPV6.fullmatch(address) if ":" in address else _ADDRESS.fullmatch(address)
    if not fits:
        raise ValueError(f"needs user@address[:port], and '{address or text}' is no address")
    return Place(head or None, address, port)


def _split(text: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        address, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, None
    if port is None:
        return address, SSH_PORT
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"needs user@address[:port], and '{port}' is no port")
    return address, int(port)
