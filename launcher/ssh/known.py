"""What the user's known_hosts files say of a host: which keys are his, and which must never be believed.

Reads, and never writes. A certificate authority is not a key: `why_none` says so where only one is there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

USERS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEMS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
PORT = 22
HASHED = "|1|"


@dataclass(frozen=True)
class Line:
    marker: str  # "", "@revoked" or "@cert-authority"
    hosts: str
    key: str  # "ssh-ed25519 AAAA…"


def pins(
    address: str, port: int = PORT, *, alias: str | None = None, files: Sequence[str] = (*USERS, *SYSTEMS)
) -> tuple[str, ...]:
    """The keys of this host, revoked ones left out. `alias` stands for the address whatever the port, as
    HostKeyAlias does. Keys under the bare address hold for another port only when that port has none."""
    lines = list(_lines(files))
    never = {
        line.key
        for line in lines
        if line.marker == "@revoked" and _is_for(line, _names(address, port, alias))
    }
    for name in _names(address, port, alias):
        found = [line.key for line in lines if line.marker == "" and _is_for(line, (name,))]
        kept = tuple(dict.fromkeys(key for key in found if key not in never))
        if found:
            return kept
    return ()


def revoked(
    key: str,
    address: str,
    port: int = PORT,
    *,
    alias: str | None = None,
    files: Sequence[str] = (*USERS, *SYSTEMS),
) -> bool:
    """Whether this key of that host must never be believed, whoever vouches for it."""
    names = _names(address, port, alias)
    bare = " ".join(key.split()[:2])
    return any(
        line.marker == "@revoked" and line.key == bare and _is_for(line, names) for line in _lines(files)
    )


def why_none(
    address: str, port: int = PORT, *, alias: str | None = None, files: Sequence[str] = (*USERS, *SYSTEMS)
) -> str | None:
    """What stands there of a host that has no usable key: a revoked one, or only an authority's."""
    names = _names(address, port, alias)
    markers = {line.marker for line in _lines(files) if line.marker and _is_for(line, names)}
    if "@cert-authority" in markers:
        return (
            "known_hosts trusts a certificate authority for it, and host certificates are not understood here"
        )
    return "known_hosts has only revoked keys of it" if markers else None


def _names(address: str, port: int, alias: str | None) -> tuple[str, ...]:
    """What to look for, the most exact first."""
    if alias is not None:
        return (alias.lower(),)
    address = address.lower()
    return (address,) if port == PORT else (f"[{address}]:{port}", address)


def _lines(files: Sequence[str]) -> Iterator[Line]:
    for name in files:
        try:
            text = Path(name).expanduser().read_text("utf-8", "replace")
        except OSError:  # it is not there, or not for us: then it says nothing
            continue
        for raw in text.splitlines():
            line = _parsed(raw.split())
            if line is not None:
                yield line


def _parsed(words: list[str]) -> Line | None:
    """Lines that are none are passed over, as OpenSSH does; so are markers that nobody knows."""
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked", "@cert-authority"):
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = words[1].encode()
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind):
        return None  # the key is not of the kind it is said to be
    return Line(marker, words[0], f"{words[1]} {words[2]}")


def _is_for(line: Line, names: Sequence[str]) -> bool:
    if line.hosts.startswith(HASHED):
        return any(_hashes_to(line.hosts, name) for name in names)
    patterns = line.hosts.lower().split(",")
    return any(listed(patterns, name) for name in names)


def _hashes_to(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed[len(HASHED) :].split("|"))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def listed(patterns: Sequence[str], name: str) -> bool:
    """OpenSSH's pattern lists: one must fit, and none with a `!` may."""
    yes = False
    for pattern in patterns:
        if fits(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            yes = True
    return yes


def fits(pattern: str, name: str) -> bool:
    """Only `*` and `?` mean something; brackets stand for themselves."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    return re.match(translate(pattern.replace("[", "[[]")), name) is not None
