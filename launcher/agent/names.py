"""What may be called how in a version: mostly as it is."""

from __future__ import annotations

import hashlib

NAME_BYTES = 240  # of one name, where it had to be written anew
RESERVED = ("manifest.json", ".launcher")  # in a finished version these are not the trainer's


def can_be_kept(name: str) -> bool:
    """Whether a version may hold it: the client refuses a list with such a name whole, and rightly."""
    return not any(map(_odd, name)) and name.split("/", maxsplit=1)[0] not in RESERVED


def _odd(char: str) -> bool:
    return char < " " or "\x7f" <= char < "\xa0" or "\ud800" <= char < "\ue000"


def kept_as(raw: bytes, top: bool) -> bytes:
    """The name of one file or folder as a version can hold it: mostly as it is."""
    name = raw.decode("utf-8", "surrogateescape")
    if can_be_kept(name if top else f"x/{name}"):
        return raw
    plain = [not _odd(char) and char != "%" for char in name]
    if all(plain):
        plain[0] = False  # it is one of ours
    pairs = zip(name, plain, strict=True)
    fresh = "".join(char if is_plain else _escaped(char) for char, is_plain in pairs).encode()
    if len(fresh) > NAME_BYTES:
        mark = hashlib.sha256(raw).hexdigest()[:8]
        fresh = fresh[: NAME_BYTES - 10].decode("utf-8", "ignore").encode() + f"%{mark}".encode()
    return fresh


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
