"""One file, one line a fact, appended and synced before anybody acts on it. It knows no meanings.

A line is `<crc> <json>\\n`. The checksum covers the line before it too, so a lost or swapped line is
seen. Only the last line can be torn, because each append is synced before the next: it lacks its end,
or a block of it never reached the disk and reads as zeros. A torn tail is cut before anything is
written; damage anywhere else, or of any other kind, is an error, never guessed around.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from launcher.codec import dump, iso, parse_iso
from launcher.errors import Exit, LauncherError
from launcher.files import Files
from launcher.models import Fact

SCHEMA = 1


@dataclass(frozen=True)
class Reading:
    """What a stretch of journal bytes holds: its facts, how many bytes are sound, the chain's state."""

    facts: tuple[Fact, ...]
    good: int
    crc: int


def _checksum(before: int, payload: bytes) -> int:
    return zlib.crc32(payload, before)


def encode(fact: Fact, before: int) -> tuple[bytes, int]:
    text = json.dumps(
        {"kind": fact.kind, "at": iso(fact.at), **dump(fact.data)}, ensure_ascii=False, separators=(",", ":")
    )
    payload = text.encode("utf-8", "backslashreplace")  # a name that is no text, as JSON's own escapes
    crc = _checksum(before, payload)
    return b"%08x %s\n" % (crc, payload), crc


def _decode(line: bytes, before: int) -> tuple[Fact, int] | None:
    """None when the line is not whole."""
    if len(line) < 11 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    payload = line[9:-1]
    crc = _checksum(before, payload)
    if line[:8] != b"%08x" % crc:
        return None
    value = json.loads(payload)
    at = parse_iso(value.pop("at"))
    return Fact(value.pop("kind"), at, value), crc


def read(data: bytes, before: int = 0) -> Reading:
    """Every whole fact of `data`; stops at a torn tail, raises on damage that is not a tail."""
    facts: list[Fact] = []
    good, crc = 0, before
    while good < len(data):
        end = data.find(b"\n", good) + 1
        line = data[good : end or len(data)]
        decoded = _decode(line, crc)
        if decoded is None:
            if end and (end < len(data) or b"\0" not in line):
                raise LauncherError(
                    "journal-corrupt",
                    f"the journal is damaged at byte {good}: the line there is not what was written",
                    exit=Exit.PROVIDER,
                    hint="doctor",
                    billed="unknown: the machine, if there is one, ends itself at its deadline",
                )
            break
        fact, crc = decoded
        facts.append(fact)
        good += len(line)
    return Reading(tuple(facts), good, crc)


class Journal:
    """The writer's side: one per run, under the run's lock."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        data = files.read(path) if files.exists(path) else b""
        reading = read(data)
        if data:  # without its torn tail, and lasting: who wrote the last line may have died before its sync
            files.cut(path, reading.good)
        else:  # the name lasts before any line stands under it
            files.write(path, b"")
        self.facts: list[Fact] = list(reading.facts)
        self._crc = reading.crc
        self._good = reading.good
        self._torn = False

    def append(self, kind: str, at: datetime, **data: Any) -> Fact:
        """The fact as it will be read back: what is in memory is what is on disk."""
        line, crc = encode(Fact(kind, at, data), self._crc)
        decoded = _decode(line, self._crc)
        assert decoded is not None
        if self._torn:
            self._mend()
        try:
            self._files.append(self._path, line, sync=True)
        except OSError:
            self._torn = True
            with suppress(OSError):  # the first error is the one to tell; the next append tries again
                self._mend()
            raise
        self._crc = crc
        self._good += len(line)
        self.facts.append(decoded[0])
        return decoded[0]

    def _mend(self) -> None:
        """A full disk may have taken half a line: nothing may ever stand behind it."""
        self._files.cut(self._path, self._good)
        self._torn = False
