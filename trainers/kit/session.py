"""What surrounds a training: its folders and seed from the environment, its log, a polite end, its result."""

from __future__ import annotations

import errno
import importlib.metadata
import platform
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from trainers.kit.device import Device
from trainers.kit.files import write_json

UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST,
)  # fmt: skip
LEFT = 143  # the exit code of a training that was asked to leave and left a checkpoint


@dataclass(frozen=True)
class Place:
    """Where a training reads and writes. Flags win over the environment, which wins over the defaults."""

    output: Path
    checkpoint: Path
    input: Path | None
    run: str | None
    seed: int

    @classmethod
    def find(
        cls,
        environ: Mapping[str, str],
        *,
        output: str | None = None,
        checkpoint: str | None = None,
        seed: int | None = None,
        default_seed: int = 7,
    ) -> Place:
        """Raises ValueError with words for the user."""
        where = output or environ.get("LAUNCHER_OUTPUT")
        if not where:
            raise ValueError("where to? give --output DIR (inside a run LAUNCHER_OUTPUT says it)")
        out = Path(where)
        given = environ.get("LAUNCHER_INPUT")
        chosen = environ.get("LAUNCHER_SEED") or str(default_seed)
        if seed is None and not chosen.isdecimal():
            raise ValueError(f"LAUNCHER_SEED={chosen}: expected a whole number from 0 up")
        return cls(
            output=out,
            checkpoint=Path(checkpoint or environ.get("LAUNCHER_CHECKPOINT") or out / "checkpoints"),
            input=Path(given) if given else None,
            run=environ.get("LAUNCHER_RUN") or None,
            seed=int(chosen) if seed is None else seed,
        )

    def unwritable(self, wrong: OSError) -> str:
        """What to tell whoever chose the folders; raises what is not about writing there."""
        if wrong.errno not in UNWRITABLE:
            raise wrong
        return f"cannot write results into {self.output} and checkpoints into {self.checkpoint}: {wrong}"


class Log:
    """Plain lines to stdout at once, and into training.log once the output folder is known."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._early: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self._early.append(line)
        if self._path is not None:
            self._write()

    def open(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / "training.log"
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        with open(self._path, "a", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in self._early)
        self._early.clear()


class Leave:
    """SIGTERM, or a first Ctrl-C, asks a training to leave; the loop looks here between two steps."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever cannot wait presses again


def versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in packages}


def write_result(
    place: Place,
    *,
    trainer: str,
    metrics: Mapping[str, float],
    device: Device,
    seconds: float,
    packages: Iterable[str],
    more: Mapping[str, Any],
) -> None:
    """`result.json`, the last file a training writes: what came out and what it really ran on."""
    result = {
        "trainer": trainer,
        "run": place.run,
        "metrics": dict(metrics),
        "device": {"used": device.kind, "name": device.name, "wish": device.wish, "source": device.source},
        "seed": place.seed,
        "seconds": round(seconds, 3),
        "versions": versions(packages),
    }
    write_json(place.output / "result.json", result | dict(more))
