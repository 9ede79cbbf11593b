"""What comes home while the trainer still runs: complete checkpoints, and output files that stand still.

uses: what the agent announced
produces: checkpoint (verified here); output in the folder of the version to be, which only the sealed list
and its pull make a version. Nothing depends on the second: what is late, changed or lost comes at the end
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from launcher import artifacts
from launcher.errors import HostError, HostUnreachable
from launcher.models import Json
from launcher.remote.base import Host, Listed, Tick
from launcher.remote.fetching import name_fault
from launcher.runstate import Attempt, Checkpoint
from launcher.steps.link import Link, partial, sha256
from launcher.world import World

KEEP_CHECKPOINTS = 2
NO_ROOM = "no-room-here"  # what was noticed of this machine
ODD_NAME = "odd-name"  # of a checkpoint
AGAIN_S = 10.0  # after the way was cut


@dataclass
class Book:
    """What this process knows of the announcements of one machine."""

    read: int = 0  # of the events
    checkpoints_at: float = inf  # when to fetch them: at once when one is announced
    changed: bool = False  # the list of files has changed since the folder was set right
    files: dict[str, Listed] = field(default_factory=dict)
    done: set[Listed] = field(default_factory=set)  # here, or not to be had as announced
    again_at: float = 0.0

    def hear(self, events: list[Json]) -> None:
        for event in events[self.read :]:
            if event["ev"] == "checkpoint":
                self.checkpoints_at = 0.0
            elif event["ev"] == "output":
                self.changed = True
                _take(self.files, event)
        self.read = len(events)


def _take(files: dict[str, Listed], event: Json) -> None:
    try:
        path = str(event["path"])
        files.pop(path, None)
        if not event.get("gone") and not artifacts.reserved(path):
            files[path] = Listed(path, int(event["size"]), str(event["sha256"]))
    except (KeyError, ValueError, TypeError):
        pass  # words of another machine; the sealed list will tell


def bring(w: World, a: Attempt, line: Link, tick: Tick) -> None:
    """Whatever is announced and not here yet. `tick` looks after everything else meanwhile, over a way of its
    own, and may raise Stopped: what came so far is gone on from."""
    book, now = _book(w, a), w.clock.now().timestamp()
    if w.pull_now:
        w.pull_now, book.again_at, book.checkpoints_at = False, 0.0, 0.0
    if now < book.again_at:
        return
    book.hear(line.events)
    every = w.plan.limits.checkpoint_every_s
    if now >= book.checkpoints_at:
        book.again_at = now + AGAIN_S  # unless all goes well
        whole = checkpoints(w, line, w.host(a, beside=True), tick)
        book.checkpoints_at, book.again_at = inf if whole else now + every, 0.0
    if book.changed or any(f not in book.done for f in book.files.values()):
        book.again_at = now + AGAIN_S
        try:
            _outputs(w, a, book, w.host(a, beside=True), tick)
            book.again_at = 0.0
        except OSError as e:  # this disk is full, perhaps of what the trainer throws away itself
            book.again_at = now + every
            _tell_no_room(w, "output that is here before the end", e)


def _book(w: World, a: Attempt) -> Book:
    found = w.memory.setdefault(f"early:{a.n}:{a.boot}", Book())
    assert isinstance(found, Book)
    return found


# --- output ----------------------------------------------------------------------------------------


def _outputs(w: World, a: Attempt, book: Book, host: Host, tick: Tick) -> None:
    to = w.versions.partial(w.plan.run)
    w.files.make_folder(to, private=False)
    if book.changed:
        artifacts.drop_unlisted(w.files, to, tuple(book.files.values()))
        book.changed = False
    late = [f for f in book.files.values() if f not in book.done]
    for at, wanted in enumerate(late, 1):
        of = f" ({at} of {len(late)})" if len(late) > 1 else ""
        try:
            with w.transfer("pull", f"{wanted.path}{of}") as told:
                host.get(artifacts.output_of(w.plan, a.project), [wanted], to, tick, told)
        except HostUnreachable:
            raise
        except HostError:
            pass  # changed or gone since: it is announced anew, or comes with the end
        book.done.add(wanted)


# --- checkpoints -----------------------------------------------------------------------------------


def checkpoints(w: World, line: Link, host: Host, tick: Tick) -> bool:
    """Complete ones that are not here yet, newest first: after a loss only the newest matters. Whether all
    of them are here."""
    announced: dict[str, Json] = {}
    for event in line.events:
        if event["ev"] == "checkpoint" and event.get("complete"):
            announced.pop(str(event["name"]), None)
            announced[str(event["name"])] = event
    by_age = sorted(announced.items(), key=lambda item: float(item[1].get("written", 0.0)))
    whole = True
    for name, event in reversed(by_age[-KEEP_CHECKPOINTS:]):
        digest = sha256(json.dumps(event["files"], sort_keys=True).encode())
        if Checkpoint(name, digest) not in w.state.checkpoints:
            whole = _fetched(w, host, name, event, digest, tick) and whole
    _keep_last(w)
    return whole


def _fetched(w: World, host: Host, name: str, event: Json, digest: str, tick: Tick) -> bool:
    """One that this disk does not take must keep nothing else from it: not the log, nor the results."""
    try:
        return _fetch_one(w, host, name, event, digest, tick)
    except OSError as e:
        with suppress(OSError):
            w.files.remove(partial(w.folder.checkpoints / name))
        _tell_no_room(w, f"the checkpoint {name}", e)
        return False


def _tell_no_room(w: World, what: str, why: OSError) -> None:
    """Whoever reads it can make room."""
    message = f"this machine's disk does not take {what}: {why.strerror or why}; it is tried again"
    _tell(w, what, NO_ROOM, message)


def _tell(w: World, what: str, code: str, message: str) -> None:
    """Once, by this process, and of the run: what is noticed of a machine is another matter."""
    told = w.memory.setdefault("told-early", set())
    if what not in told:
        with suppress(OSError):  # a full disk does not take these words either; later it may
            w.record("noticed", code=code, message=message)
            told.add(what)


def _fetch_one(w: World, host: Host, name: str, event: Json, digest: str, tick: Tick) -> bool:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        return True  # a name from another machine never becomes a path of ours
    place = w.folder.checkpoints / name
    staging = partial(place)
    listing = tuple(Listed(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in event["files"])
    for path in (f.path for f in listing):
        if fault := name_fault(path):  # which no later look mends
            _tell(w, name, ODD_NAME, f"the checkpoint {name} stays on its machine: of {path!r}, {fault}")
            return True
    w.files.make_folder(staging)
    artifacts.drop_unlisted(w.files, staging, listing)  # a cut may lie between two of the same name
    base = f"checkpoint/{name}" if _is_folder(event) else "checkpoint"
    try:
        with w.transfer("checkpoint", name) as told:
            host.get(base, listing, staging, tick, told)
    except HostUnreachable:
        raise
    except HostError:
        w.files.remove(staging)  # replaced or thrown away while we read: the agent announces what comes next
        return False
    w.files.sync_tree(staging)
    if w.files.exists(place):
        w.files.remove(place)
    w.files.move(staging, place)
    size, written = sum(f.size for f in listing), float(event.get("written", 0.0))
    w.about(w.attempt(), "checkpoint", name=name, digest=digest, size=size, written=written)
    return True


def _is_folder(event: Json) -> bool:
    """A checkpoint that is one file is announced under its own name."""
    files = event["files"]
    return not (len(files) == 1 and files[0]["path"] == event["name"])


def _keep_last(w: World) -> None:
    """The last two and the best (the one that holds a file named `best`)."""
    here = frozenset(w.files.names(w.folder.checkpoints))
    have = [c.name for c in w.state.checkpoints if c.name in here]
    best = [n for n in have if w.files.exists(w.folder.checkpoints / n / "best")]
    keep = {*have[-KEEP_CHECKPOINTS:], *best[-1:]}
    for name in have:
        if name not in keep:
            w.files.remove(Path(w.folder.checkpoints / name))
