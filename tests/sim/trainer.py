"""A trainer as the agent sees one: lines, checkpoints, an end of its own, and bad manners."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from launcher.agent.protocol import File, Seen

EARLY_S = 6.0


@dataclass(frozen=True)
class Manners:
    """How this one behaves."""

    seconds: float = 200.0
    exit_code: int = 0
    ignores_term: bool = False
    hangs: bool = False
    nan: bool = False
    term_s: float = 2.0  # from SIGTERM to its end
    line_s: float = 7.0
    checkpoint_s: float = 60.0
    setup_exit: int = 0
    rewrites_s: float | None = None  # a file that stood still is written anew then
    removes_s: float | None = None  # and another one is thrown away


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Trainer:
    """From its start to its end; what it wrote until a moment follows from the moment."""

    def __init__(self, manners: Manners, started: float, seed: str, done: int) -> None:
        self.manners = manners
        self.started = started
        self.seed = seed
        self.done = done  # checkpoints it was given: it goes on from there
        self.ended: float | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self.log = bytearray()
        self._lines = 0

    @property
    def due(self) -> float | None:
        """When it would end by itself."""
        if self.manners.hangs:
            return None
        left = max(1.0, self.manners.seconds - self.done * self.manners.checkpoint_s)
        return self.started + left

    def end(self, now: float, code: int | None, signal: int | None) -> None:
        self.write_until(now)
        self.ended, self.code, self.signal = now, code, signal
        self.log += f"{self.seed} end {code} {signal}\n".encode()

    def write_until(self, now: float) -> None:
        if self.ended is not None:
            return
        lines = int((now - self.started) / self.manners.line_s)
        while self._lines < lines:
            self._lines += 1
            self.log += b"%s step %d\n" % (self.seed.encode(), self._lines)

    def checkpoints(self, now: float) -> tuple[Seen, ...]:
        until = now if self.ended is None else self.ended
        made = self.done + int((until - self.started) / self.manners.checkpoint_s)
        return tuple(
            Seen(f"step-{k}", f"{self.seed}:{k}", marked=True) for k in range(max(1, made - 1), made + 1)
        )

    def early(self, now: float) -> dict[str, bytes]:
        """Large files that it writes soon and leaves alone, or does not."""
        past = (now if self.ended is None else self.ended) - self.started
        m = self.manners
        if past < EARLY_S:
            return {}
        again = m.rewrites_s is not None and past >= m.rewrites_s
        found = {"early/weights.bin": f"{'second' if again else 'first'} of {self.seed}\n".encode() * 3}
        if m.removes_s is None or past < m.removes_s:
            found["early/passing.bin"] = b"passing\n"
        return found

    def output(self) -> dict[str, bytes]:
        """What it leaves behind: everything when it ended well, else what was there by then."""
        if self.ended is None or self.ended - self.started < 5:
            return {}
        found = self.early(self.ended) | {
            "metrics.jsonl": b'{"step": 1, "name": "loss", "value": 0.5}\n',
            "results/part.txt": b"part\n",
        }
        if self.signal is None and self.code == 0:
            found["model.bin"] = f"model {self.seed}".encode() * 9
            found["result.json"] = b'{"device": "cpu", "metrics": {"loss": 0.5}}'
        return found


def checkpoint_files(name: str) -> dict[str, bytes]:
    return {"complete": b"", "weights": f"{name} of a training\n".encode()}  # the same whoever trained it


def listed(path: str, data: bytes) -> File:
    return File(path, len(data), sha(data))
