"""Cutting what is sent into messages: many small things in one, one large file in several.

Reads local files as it goes, so that no more than one message is in memory. Knows no transport.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from launcher.remote.base import Progress, Sending, Tree

Item = dict[str, Any]
Batch = tuple[list[Item], bytes]

MOST_ITEMS = 500


def below(to: str, tree: Tree) -> Iterator[Sending]:
    """A tree as single things to put, for a host that keeps nothing between runs."""
    yield Sending(to=to, mode=0o755)
    for file in tree.files:
        yield file._replace(to=f"{to}/{file.to}")


def counted(files: Iterable[Sending], total: int, progress: Progress) -> Iterator[Sending]:
    """Tells how many bytes were handed on, each time the next file is asked for."""
    done = 0
    for file in files:
        yield file
        done += len(file.data) if file.data is not None else 0
        done += os.stat(file.source).st_size if file.source is not None else 0
        progress(done, total)


def enterable(mode: int) -> int:
    """Who may read a folder must be able to enter it."""
    return mode | (mode & 0o444) >> 2


def batches(files: Iterable[Sending], most: int) -> Iterator[Batch]:
    """Messages of at most `most` payload bytes, in order; a file's parts follow each other."""
    items: list[Item] = []
    payload = bytearray()
    for file in files:
        for item, data in _pieces(file, most):
            if items and (len(payload) + len(data) > most or len(items) >= MOST_ITEMS):
                yield items, bytes(payload)
                items, payload = [], bytearray()
            items.append(item)
            payload += data
    if items:
        yield items, bytes(payload)


def _pieces(file: Sending, most: int) -> Iterator[tuple[Item, bytes]]:
    if file.link is not None:
        yield {"kind": "link", "to": file.to, "link": file.link}, b""
    elif file.source is None and file.data is None:
        yield {"kind": "folder", "to": file.to, "mode": enterable(file.mode)}, b""
    else:
        at = 0
        for data, last in _chunks(file, most):
            yield _file(file, at, len(data), last), data
            at += len(data)


def _file(file: Sending, at: int, size: int, last: bool) -> Item:
    return {"kind": "file", "to": file.to, "mode": file.mode, "at": at, "size": size, "last": last}


def _chunks(file: Sending, most: int) -> Iterator[tuple[bytes, bool]]:
    """Never an empty last piece except for an empty file: one chunk is read ahead."""
    if file.data is not None:
        for at in range(0, max(len(file.data), 1), most):
            yield file.data[at : at + most], at + most >= len(file.data)
        return
    assert file.source is not None
    with open(file.source, "rb") as source:
        data = source.read(most)
        while True:
            ahead = source.read(most) if len(data) == most else b""
            yield data, not ahead
            if not ahead:
                return
            data = ahead
