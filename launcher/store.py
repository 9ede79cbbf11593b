"""The data folder: every path of ours is named here and nowhere else."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from launcher.errors import usage
from launcher.files import Disk, sync_folder

SCHEMA = "1"


@dataclass(frozen=True)
class AttemptFolder:
    """One machine's share of a run: what was read from it, byte for byte."""

    root: Path

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def telemetry(self) -> Path:
        return self.root / "telemetry.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def setup_log(self) -> Path:
        return self.root / "setup.log"

    @property
    def sealed(self) -> Path:
        return self.root / "sealed.json"

    @property
    def heard(self) -> Path:
        """As old as the last answer of the machine."""
        return self.root / "heard"

    @property
    def spool(self) -> Path:
        """The host's folder when the host is this machine."""
        return self.root / "spool"


@dataclass(frozen=True)
class RunFolder:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def words(self) -> Path:
        """What the person typed, for `rerun`."""
        return self.root / "words.json"

    @property
    def listed(self) -> Path:
        """An ended run's line of `ps`: many old runs cost a list nothing. Gone while an engine drives."""
        return self.root / "listed.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @cached_property  # asked for at every tick
    def requests(self) -> Path:
        return self.root / "requests"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def watched(self) -> Path:
        """Touched by a view while somebody looks."""
        return self.root / "watched"

    @property
    def shown(self) -> Path:
        """How much of the trainer's output the views of this run have shown."""
        return self.root / "shown"

    @property
    def transfer(self) -> Path:
        """How far the engine's present transfer is; not there when nothing travels."""
        return self.root / "transfer.json"

    @property
    def engine_log(self) -> Path:
        return self.root / "engine.log"

    @property
    def ssh(self) -> Path:
        """What the system's ssh client is told about this run's machine."""
        return self.root / "ssh"

    def attempt(self, n: int) -> AttemptFolder:
        return AttemptFolder(self.root / "attempts" / str(n))


@dataclass(frozen=True)
class Versions:
    """<project>/models: finished versions and what is still being fetched."""

    project: Path

    @property
    def root(self) -> Path:
        return self.project / "models"

    def version(self, name: str) -> Path:
        return self.root / name

    def manifest(self, name: str) -> Path:
        return self.root / name / "manifest.json"

    def partial(self, run: str) -> Path:
        return self.root / f".partial.{run}"

    def rescued(self, run: str, attempt: int, token: str) -> Path:
        """What a machine held whose agent was killed: no version. Another data folder may have a run of that
        name; no other machine has the token."""
        return self.root / f".rescued.{run}.{attempt}.{token[:6]}"

    def leftovers(self) -> tuple[tuple[Path, str | None], ...]:
        """What came home and became no version; of what is not whole with the run that may still go on with
        it."""
        told = [(name, *name.split(".", 2)) for name in Disk().names(self.root) if name.count(".") > 1]
        return tuple(
            (self.root / name, run if kind == "partial" else None)
            for name, before, kind, run in told
            if not before and kind in ("partial", "rescued")  # versions begin with a letter or a digit
        )

    @property
    def latest(self) -> Path:
        return self.root / "latest.json"

    @property
    def choosing(self) -> Path:
        """Locked by whoever compares a version with the latest one and may put it in its place."""
        return self.root / ".choosing"

    def usable(self, *, to_write: bool) -> Versions:
        """Itself, unless the folder cannot be used so: whoever trains wants to know before, not after it. One
        that is not there yet is made in the nearest folder above."""
        place = next(p for p in (self.root, *self.root.parents) if os.path.lexists(p))
        wanted = os.R_OK | os.X_OK | (os.W_OK if to_write else 0)
        if place.is_dir() and os.access(place, wanted):
            return self
        why = "is no folder"
        if place.is_dir():
            closed = to_write and os.statvfs(place).f_flag & os.ST_RDONLY
            verb = "written to" if to_write else "read"
            why = f"cannot be {verb}: {'Read-only file system' if closed else 'Permission denied'}"
        raise usage("models-unusable", f"versions lie in {self.root}, and {place} {why}")


@dataclass(frozen=True)
class Home:
    """LAUNCHER_HOME, or the platform's data folder."""

    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def envs(self) -> Path:
        return self.root / "envs"

    @property
    def scans(self) -> Path:
        """What was seen of the files that are pushed, so that the same are not read again."""
        return self.root / "scans"

    @property
    def prices(self) -> Path:
        return self.root / "prices.json"

    @property
    def ssh(self) -> Path:
        """Files that the user's ~/.ssh/config includes, one for each run that was asked for and lives."""
        return self.root / "ssh"

    @property
    def boards(self) -> Path:
        """What programs over finished versions keep while they are looked at."""
        return self.root / "boards"

    @property
    def hosts(self) -> Path:
        """The user's own machines, a file for each."""
        return self.root / "hosts"

    def host(self, name: str) -> Path:
        return self.hosts / f"{name}.json"

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.runs / name)

    def names(self) -> tuple[str, ...]:
        """Every run's name, oldest first by the time its plan was written."""
        written: list[tuple[int, str]] = []
        with suppress(FileNotFoundError):
            for name in os.listdir(self.runs):
                with suppress(FileNotFoundError, NotADirectoryError):  # no run, or removed this very moment
                    written.append((os.stat(self.run(name).plan).st_mtime_ns, name))
        return tuple(name for _, name in sorted(written))

    def owner(self) -> str:
        """Random, once per data folder: tells ours from others' in a shared account."""
        import secrets  # hashes come with it: once per data folder

        path = self.root / "owner"
        if not path.exists():
            word = secrets.token_hex(8)
            own = self.root / f".owner.{word}"
            Disk().write(own, word.encode())
            with suppress(FileExistsError):  # of two that start together, one names both
                os.link(own, path)
            own.unlink()
            sync_folder(self.root)
        return path.read_text().strip()


def open_home(environ: dict[str, str]) -> Home:
    """The data folder, made and checked; a folder of another layout or one that cannot be written is said."""
    place = environ.get("LAUNCHER_HOME")
    if place:
        root = Path(place).expanduser()
    else:
        import platformdirs  # 17 ms: only when the variable is not set

        root = Path(platformdirs.user_data_dir("launcher", appauthor=False))
    if not root.is_absolute():
        raise usage(
            "home-relative",
            f"the data folder {root} would be another one elsewhere, and what bills not be seen there",
            hint=f"ps    with LAUNCHER_HOME={shlex.quote(str(root.absolute()))}",
        )
    home = Home(root)
    try:
        home.runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        schema = root / "schema"
        if not schema.exists():
            Disk().write(schema, SCHEMA.encode())
        found = schema.read_text().strip()
        if not os.access(home.runs, os.W_OK):
            raise PermissionError(13, "Permission denied", str(home.runs))
    except OSError as e:
        raise usage(
            "home-unwritable",
            f"the data folder {root} cannot be written: {e.strerror}",
            hint="doctor    with LAUNCHER_HOME=<a folder you own>",
        ) from e
    if found != SCHEMA:
        raise usage(
            "home-schema",
            f"the data folder {root} has layout {found}, this launcher knows layout {SCHEMA}",
            hint="doctor    with the launcher that made it, or LAUNCHER_HOME=<another folder>",
        )
    return home
