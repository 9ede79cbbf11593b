"""The agent's own words: what it is told, what it sees, what it decides to do.

Plain records. Nothing here knows a clock, a disk or a process, and nothing imports anything of ours.
Times without a name are seconds since the boot guard began.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 1
MOST_S = 1e9  # no limit lasts thirty years
Event = dict[str, Any]


class BadCommand(Exception):
    """A command that cannot be meant: named in a `warned` event, never a crash."""


def number(data: Event, key: str, default: float | None = None) -> float:
    """A finite number that is not negative; anything else is refused by name."""
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_S:
        raise BadCommand(f"{key} must be a number from 0 to {MOST_S:.0f}, not {str(value)[:40]}")
    return float(value)


def text(data: Event, key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or "\0" in value:
        raise BadCommand(f"{key} must be a text, not {str(value)[:40]}")
    return value


def inside(data: Event, key: str, default: str) -> str:
    """A path below the spool folder."""
    path = text(data, key, default)
    if path.startswith("/") or ".." in path.split("/"):
        raise BadCommand(f"{key} must lie in the spool folder, not at {path[:80]!r}")
    return path


def words(data: Event, key: str) -> tuple[str, ...]:
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(w, str) and "\0" not in w for w in value):
        raise BadCommand(f"{key} must be a list of texts")
    return tuple(value)


def pairs(data: Event, key: str) -> tuple[tuple[str, str], ...]:
    value = data.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadCommand(f"{key} must map names to texts")
    if any(not name or "=" in name or "\0" in name or "\0" in v for name, v in value.items()):
        raise BadCommand(f"{key} holds a name or value that no environment can carry")
    return tuple(value.items())


@dataclass(frozen=True)
class Unsealed:
    """A trainer that ended in an earlier life of the spool, whose output was not sealed then."""

    place: str  # of the output, below the spool folder
    code: int | None
    signal: int | None
    why: str | None


@dataclass(frozen=True)
class Boot:
    """What is known when the agent begins: who it is and until when it may live."""

    token: str
    ends_at: float  # D as given at create, epoch seconds; infinite when only the duration was given
    ends_in: float  # the same D on the boot clock
    boot_limit: float
    hold: float
    boot: str = ""  # boot id and start of this process: changes when the machine was restarted
    pid: int = 0
    python: str = ""
    platform: str = ""
    taken: int = 0  # the highest command that an earlier life of this spool took
    executable: str = ""  # the Python that runs it
    gpus: str | None = None  # those that it was given, as CUDA_VISIBLE_DEVICES has them
    unsealed: Unsealed | None = None  # what an earlier life of this spool left to be sealed


def _pace(data: Event, key: str) -> float | None:
    return None if data.get(key) is None else max(1.0, number(data, key))


@dataclass(frozen=True)
class Job:
    """One trainer's run; paths are relative to the spool folder."""

    argv: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, str], ...]
    secret_file: str | None
    output: str
    checkpoint: str | None
    max_time_s: float
    salvage_s: float
    grace_s: float
    require_gpu: bool
    idle_s: float | None
    checkpoint_every_s: float
    keep_s: float
    early_every_s: float | None = None  # between two looks at the output; None = nobody fetches it early

    @staticmethod
    def parse(data: object) -> Job:
        if not isinstance(data, dict):
            raise BadCommand("job must be a record")
        no_checkpoint = data.get("checkpoint", "") is None
        return Job(
            argv=words(data, "argv"),
            cwd=inside(data, "cwd", "."),
            env=pairs(data, "env"),
            secret_file=None if data.get("secret_file") is None else inside(data, "secret_file", ""),
            output=inside(data, "output", "output"),
            checkpoint=None if no_checkpoint else inside(data, "checkpoint", "checkpoint"),
            max_time_s=number(data, "max_time_s"),
            salvage_s=number(data, "salvage_s"),
            grace_s=number(data, "grace_s", 10),
            require_gpu=data.get("require_gpu") is True,
            idle_s=None if data.get("idle_s") is None else number(data, "idle_s"),
            checkpoint_every_s=max(1.0, number(data, "checkpoint_every_s", 300)),
            keep_s=number(data, "keep_s", 0),
            early_every_s=_pace(data, "early_every_s"),
        )


# ── what is seen ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Running:
    pid: int


@dataclass(frozen=True)
class Exited:
    pid: int
    code: int | None  # None when a signal ended it
    signal: int | None = None


@dataclass(frozen=True)
class Refused:
    """The trainer could not be started."""

    why: str  # gpu-missing | no-command | no-secret | ...
    message: str


@dataclass(frozen=True)
class Prepared:
    exit_code: int  # negative: ended by that signal
    seconds: float
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One child of the checkpoint folder, or one file of the output, as a look found it."""

    name: str
    fingerprint: str  # equal = nothing of it changed
    marked: bool  # it holds a file `complete`


@dataclass(frozen=True)
class File:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Hashed:
    """The answer to HashCheckpoint and HashOutput; files None = it changed or went away meanwhile."""

    name: str
    fingerprint: str
    files: tuple[File, ...] | None
    written: float = 0.0  # when its newest file was, by this machine's clock: only to tell older from newer


@dataclass(frozen=True)
class Sealed:
    digest: str
    count: int
    bytes: int
    skipped: tuple[str, ...] = ()
    full: bool = False  # the disk had no room left
    renamed: tuple[str, ...] = ()  # what no version could have held by the name it had


@dataclass(frozen=True)
class SealFailed:
    message: str


@dataclass
class Sight:
    """What the world looks like at one wake. States (trainer, tree_empty, activity) stay until they
    change; all others are handed over exactly once."""

    wall: float  # epoch seconds
    commands: tuple[Event, ...] = ()
    trainer: Running | Exited | Refused | None = None
    prepared: Prepared | None = None
    tree_empty: bool = False  # the newest Look or kill found no process of ours
    sealed: Sealed | SealFailed | None = None
    activity: bool | None = None  # since the wake before: False = idle, None = unreadable
    checkpoints: tuple[Seen, ...] | None = None  # the answer to ScanCheckpoints
    hashed: tuple[Hashed, ...] = ()
    outputs: tuple[Seen, ...] | None = None  # the answer to ScanOutput
    hashed_outputs: tuple[Hashed, ...] = ()
    term: bool = False  # the agent itself was asked to leave (SIGTERM)
    warnings: tuple[tuple[str, str], ...] = ()  # (code, message) from whoever looked


# ── what is decided ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Emit:
    """One line of events.jsonl. `sync` = it must survive a power cut before anything follows."""

    event: Event = field(hash=False)
    sync: bool = False


@dataclass(frozen=True)
class Prepare:
    argv: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Start:
    job: Job


@dataclass(frozen=True)
class Signal:
    """term: the trainer's group and every group led by a descendant. kill: every process of ours."""

    kind: str  # term | kill


@dataclass(frozen=True)
class Look:
    """Find out whether any process of ours is left."""


@dataclass(frozen=True)
class ScanCheckpoints:
    pass


@dataclass(frozen=True)
class HashCheckpoint:
    name: str
    fingerprint: str


@dataclass(frozen=True)
class ScanOutput:
    pass


@dataclass(frozen=True)
class HashOutput:
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Seal:
    place: str = "output"


@dataclass(frozen=True)
class Rate:
    """Sample telemetry each `interval_s` for `for_s` seconds."""

    interval_s: float
    for_s: float


@dataclass(frozen=True)
class Leave:
    why: str


Action = (
    Emit
    | Prepare
    | Start
    | Signal
    | Look
    | ScanCheckpoints
    | HashCheckpoint
    | ScanOutput
    | HashOutput
    | Seal
    | Rate
    | Leave
)
