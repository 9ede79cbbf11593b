"""Output of a machine of the user's own whose agent was killed: nobody sealed it. What lies there comes home
as it is, to a folder of its own and no version, before its place goes.

uses: a trainer that may have begun, no sealed list, and nothing of it that runs any more
produces: rescued (with the folder, if there was anything), or halted (it stays, and a person is told why)
"""

from __future__ import annotations

from launcher import artifacts
from launcher.attempt import STAYS
from launcher.errors import Corrupt, Exit, HostError, HostUnreachable, NoFile, Stopped
from launcher.providers.base import Provider
from launcher.remote.base import Host
from launcher.runstate import Attempt
from launcher.steps import halting
from launcher.steps.link import link, sha256
from launcher.world import World

CORRUPT_TRIES = 3
LISTED_S = 1800.0  # a list is a digest of every byte
LIST, STATUS = "rest.json", "rest.status"
# Its status is there once it has ended, however that was; it may take longer than one question may.
_BESIDE = f"""
rm -f {LIST} {STATUS}
( "$@"; echo $? >{STATUS}.part; mv {STATUS}.part {STATUS} ) </dev/null >/dev/null 2>&1 &
"""


def is_due(w: World, a: Attempt, provider: Provider) -> bool:
    """Where a container was the whole machine, what it left can only be read: nothing there makes a list."""
    traits = provider.traits
    own = traits.keeps_output and not traits.bills and traits.boots != "image"
    return own and not a.rescued and w.state.unseen(a) and not w.state.stop_now


def rescue(w: World, a: Attempt, provider: Provider) -> None:
    try:
        _bring(w, a)
    except HostUnreachable as e:
        w.drop_hosts()
        if not halting.is_elsewhere(w, a, provider, e) and not halting.out_of_reach(w, a, provider, str(e)):
            _stays(w, str(e))
        w.wait_quietly(2.0)
    except (HostError, OSError) as e:
        tries = w.memory[f"rescues:{a.n}"] = w.memory.get(f"rescues:{a.n}", 0) + 1
        if isinstance(e, Corrupt) and tries < CORRUPT_TRIES:
            w.wait_quietly(2.0 * tries)
            return
        _stays(w, str(e) or type(e).__name__)


def _stays(w: World, why: str) -> None:
    told = f"what the trainer had written stays where it is, since it could not be fetched: {why}"
    halting.halt(w, STAYS, told, Exit.PROVIDER)


def _bring(w: World, a: Attempt) -> None:
    host, to = w.host(a), w.versions.rescued(w.plan.run, a.n)
    if not w.files.exists(to):
        output = artifacts.output_of(w.plan, a.pushed)
        data = _list(w, a, host, output) if _is_there(host) else b""
        files = artifacts.parse_sealed(data, sha256(data)) if data else ()
        if not files:
            w.about(a, "rescued", path=None, message=None)
            return
        partial = w.versions.partial(w.plan.run)  # some of it may have come home early
        w.files.make_folder(partial, private=False)
        artifacts.drop_unlisted(w.files, partial, files)
        with w.transfer("pull", "what was not sealed") as told:
            host.get(output, files, partial, lambda: _tick(w), told)
        w.files.sync_tree(partial)
        w.files.move(partial, to)
    message = f"its agent was killed; what the trainer had written until then is in {to}, and is no version"
    w.about(a, "rescued", path=str(to), message=message)


def _list(w: World, a: Attempt, host: Host, output: str) -> bytes:
    """Of all that lies there, made by the agent's own program."""
    hello = link(w, a).last("hello") or {}
    assert a.access is not None
    inside = a.access.container is not None  # its python is not the host's
    python = "python3" if inside else str(hello.get("executable") or "python3")
    argv = [python, "-I", "agent.pyz", "list", output, LIST]
    done = host.run(["sh", "-c", _BESIDE, "sh", *argv])
    if done.exit_code:
        raise HostError(f"no list of it could be asked for: {done.stderr.decode('utf-8', 'replace').strip()}")
    until = w.clock.now().timestamp() + LISTED_S
    while (status := _read(host, STATUS)) is None:
        if w.clock.now().timestamp() >= until:
            raise HostError("the list of it was not made in time")
        w.wait_quietly(0.5)
        _tick(w)
    if status.strip() != b"0":
        raise HostError("no list of it could be made there")
    data = _read(host, LIST)
    if not data:
        raise HostError("the list of it is empty")
    return data


def _is_there(host: Host) -> bool:
    """A person may have cleared it away."""
    try:
        host.read("events.jsonl", 0, 1)
    except NoFile:
        return False
    return True


def _read(host: Host, path: str) -> bytes | None:
    data = b""
    try:
        while chunk := host.read(path, len(data)):
            data += chunk
    except NoFile:
        return None
    return data


def _tick(w: World) -> None:
    w.tick_quietly()
    if w.state.stop_now:
        raise Stopped("now")
