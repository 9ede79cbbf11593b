"""Output of a machine whose agent was killed: nobody sealed it. Where it costs nothing to let it lie, it
comes home as it is, to a folder of its own and no version, before its place goes.

uses: a trainer that may have begun, no sealed list, and nothing of it that runs any more
produces: rescued (with the folder, if there was anything), or halted (it stays, and a person is told why)
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher import artifacts
from launcher.attempt import STAYS
from launcher.errors import Corrupt, Exit, HostError, HostUnreachable, PlaceGone, Stopped
from launcher.files import refusal
from launcher.providers.base import Provider
from launcher.remote.base import Host, Listed, Progress
from launcher.runstate import Attempt
from launcher.steps import halting
from launcher.world import World

CORRUPT_TRIES = 3
CUT_TRIES = 30  # whoever is asked about the machine answers all the while
NAMED = 20  # of what was left out


@dataclass(frozen=True)
class Found:
    """What lies there, as far as it was hashed: a line that was cut costs no more than the file at hand."""

    files: tuple[Listed, ...] = ()
    left_out: tuple[str, ...] = ()
    last: str | None = ""


def is_due(w: World, a: Attempt, provider: Provider) -> bool:
    free = provider.traits.keeps_output and not provider.traits.bills
    return free and not a.rescued and w.state.unseen(a) and not w.state.stop_now


def rescue(w: World, a: Attempt, provider: Provider) -> None:
    try:
        _bring(w, a)
    except PlaceGone as e:  # whoever removed it knew what it held, or did not ask
        w.about(a, "rescued", path=None, message=f"{e}, and with it whatever the trainer had written there")
    except HostUnreachable as e:
        w.drop_hosts()
        elsewhere = halting.is_elsewhere(w, a, provider, e) or halting.out_of_reach(w, a, provider, str(e))
        if elsewhere:
            w.wait_quietly(2.0)
        elif not _again(w, f"rescue-cuts:{a.n}", CUT_TRIES):
            _stays(w, str(e))
    except Corrupt as e:
        w.memory.pop(_found(a), None)  # it is not what was hashed
        if not _again(w, f"rescues:{a.n}", CORRUPT_TRIES):
            _stays(w, str(e))
    except HostError as e:
        _stays(w, str(e) or type(e).__name__)
    except OSError as e:
        _stays(w, refusal(e))


def _again(w: World, what: str, most: int) -> bool:
    w.memory[what] = w.memory.get(what, 0) + 1
    if w.memory[what] >= most:
        return False
    w.wait_quietly(2.0)
    return True


def _stays(w: World, why: str) -> None:
    told = f"what the trainer had written stays where it is, since it could not be fetched: {why}"
    halting.halt(w, STAYS, told, Exit.PROVIDER)


def _bring(w: World, a: Attempt) -> None:
    to, left_out = w.versions.rescued(w.plan.run, a.n, a.token), ""
    if not w.files.exists(to):
        host, output = w.host(a), artifacts.output_of(w.plan, a.project)
        found = _list(w, a, host, output)
        left_out = _told(found.left_out)
        if not found.files:
            message = f"its agent was killed; the trainer had written nothing{left_out}" if left_out else None
            w.about(a, "rescued", path=None, message=message)
            return
        files = artifacts.as_kept(found.files)
        partial = w.versions.partial(w.plan.run)  # some of it may have come home early
        w.files.make_folder(partial, private=False)
        artifacts.drop_unlisted(w.files, partial, files)
        with w.transfer("pull", "what was not sealed") as told:
            host.get(output, files, partial, lambda: _tick(w), _heard(w, a, told))
        w.files.sync_tree(partial)
        w.files.move(partial, to)
    kept = f"what the trainer had written until then is in {to}, and is no version"
    w.about(a, "rescued", path=str(to), message=f"its agent was killed; {kept}{left_out}")


def _list(w: World, a: Attempt, host: Host, output: str) -> Found:
    """All that lies there, hashed there."""
    found: Found = w.memory.get(_found(a), Found())
    while found.last is not None:
        _tick(w)
        more = host.digests(output, found.last, lambda: _tick(w))
        found = Found((*found.files, *more.files), (*found.left_out, *more.left_out), more.last)
        w.memory[_found(a)] = found
        w.heard(a)
    return found


def _heard(w: World, a: Attempt, told: Progress) -> Progress:
    """For whoever watches: while bytes come, nobody is silent."""

    def heard(done: int, total: int) -> None:
        w.heard(a)
        told(done, total)

    return heard


def _found(a: Attempt) -> str:
    return f"rescue-found:{a.n}"


def _told(left_out: tuple[str, ...]) -> str:
    """In letters that no terminal obeys."""
    if not left_out:
        return ""
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return f"; left out, as no plain file or not to be read: {', '.join(map(repr, left_out[:NAMED]))}{more}"


def _tick(w: World) -> None:
    w.tick_quietly()
    if w.state.stop_now:
        raise Stopped("now")
