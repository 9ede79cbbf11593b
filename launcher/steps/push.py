"""Bring the project, the inputs and the newest checkpoint.

uses: connected
produces: pushed (the digest of what lies on the host)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.errors import Corrupt, Exit, HostDiskFull, HostUnreachable, NoFile
from launcher.files import refusal
from launcher.remote.base import Host, Sending
from launcher.runstate import USERS, Attempt
from launcher.steps import anew
from launcher.steps.link import Link, link
from launcher.world import PushSet, World

TRIES = 3  # a project that changes while it is sent is read again


def push(w: World) -> None:
    a = w.attempt()
    line = link(w, a)
    why: Corrupt | _Unreadable | None = None
    try:
        for _ in range(TRIES):
            try:
                with line.host.expecting(w.push_key()):
                    files = _gathered(w)
                    _bring(w, line, files)
            except (Corrupt, _Unreadable) as e:
                why = e
                continue
            project = files.project
            w.about(a, "pushed", digest=project.digest, files=len(project.files), size=project.size)
            return
    except HostUnreachable:
        _cut(w, a)
        return
    except HostDiskFull as e:
        w.about(a, "over", why=f"the machine's disk is full: {e}", blame=True)
        return
    if isinstance(why, _Unreadable):  # nor could it be read for another machine
        told = f"what is to be sent cannot be read: {why}"
        w.about(a, "over", why=told, blame=False, exit=int(Exit.USAGE), code=USERS)
    else:
        w.about(a, "over", why=f"what is sent changes all the time: {why}", blame=False)


class _Unreadable(Exception):
    """A file of the user's, not this machine's disk: waiting for it is paid for, and may be in vain."""


def _gathered(w: World) -> PushSet:
    try:
        return w.push_set()
    except OSError as e:
        raise _Unreadable(refusal(e)) from e


def _bring(w: World, line: Link, files: PushSet) -> None:
    project = files.project
    marker = f"project/{project.digest}.complete"

    def tick() -> None:
        w.tick()
        line.lease()

    line.lease()
    if _there(line.host, marker):
        return
    with w.transfer("push", "project") as told:
        line.host.put_tree(f"project/{project.digest}", project, tick, told)
    for folder, tree in files.inputs:
        with w.transfer("push", folder) as told:
            line.host.put_tree(folder, tree, tick, told)
    _put_back(w, line.host)
    line.host.write(marker, b"")


def _there(host: Host, marker: str) -> bool:
    try:
        host.read(marker, 0, 1)
    except NoFile:
        return False
    return True


def _cut(w: World, a: Attempt) -> None:
    """The way is cut: perhaps the machine with it. Look again from the start, the boot limit runs there."""
    if w.clock.now() > a.d:
        w.about(a, "over", why="the machine could not be reached until its deadline", blame=True)
        return
    if not anew.follow(w, a, w.provider(a.choice)):
        w.drop_hosts()
        w.about(a, "rebooted")
    w.wait(2)


def _put_back(w: World, host: Host) -> None:
    """The newest verified checkpoint: a new machine goes on where the last one was known to be."""
    have = [c.name for c in w.state.checkpoints if w.files.exists(w.folder.checkpoints / c.name)]
    if not have:
        return
    root = w.folder.checkpoints / have[-1]
    lone_file = w.files.names(root) == (have[-1],)
    to = Path("checkpoint") if lone_file else Path("checkpoint") / have[-1]
    host.put(tuple(_walk(w, root, to)), w.tick_quietly)


def _walk(w: World, source: Path, to: Path) -> Iterator[Sending]:
    names = w.files.names(source)
    if not names:
        yield Sending(to=to.as_posix(), data=w.files.read(source))
    for name in names:
        yield from _walk(w, source / name, to / name)
