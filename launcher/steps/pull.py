"""Bring the sealed output home as one complete version, and confirm it only then.

uses: sealed
produces: versioned, then receipt; or pull-failed (what the machine holds stays there)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import accumulate
from pathlib import Path

from launcher import artifacts, judging, runstate
from launcher.codec import foreign_json, iso
from launcher.errors import Corrupt, HostError, HostUnreachable, Stopped
from launcher.files import refusal
from launcher.models import Json, State
from launcher.remote.base import Listed, Progress
from launcher.runstate import Attempt, Sealed
from launcher.steps import anew, halting, sight
from launcher.steps.link import link
from launcher.transfers import Told
from launcher.world import World

HOLD_EVERY_S = 60
CORRUPT_TRIES = 3
CHOOSING_S = 30
ENDED = "the machine ended before its results were here"
CUT = "it was awake for its boot limit, which was too short for all of it; the next pull goes on from there"


def pull(w: World) -> None:
    a = next(a for a in reversed(w.state.attempts) if a.sealed is not None)
    sealed = a.sealed
    assert sealed is not None
    try:
        if w.state.version is None:
            _bring(w, a, sealed)
        if a.open and a.receipt_at is None:
            _confirm(w, a, sealed)
    except (HostError, OSError) as e:
        if w.state.version is not None and a.open:
            # The version stands; the machine did not hear of it. Its end does not depend on that.
            w.about(a, "over", why="results are here", blame=False)
        elif not _again(w, a, sealed, e):
            why = refusal(e) if isinstance(e, OSError) else str(e)
            w.record("pull-failed", message=why or type(e).__name__)


def _again(w: World, a: Attempt, sealed: Sealed, error: Exception) -> bool:
    """A cut line or a flipped bit is no reason to give up while the machine holds what it sealed."""
    provider = w.provider(a.choice)
    w.drop_hosts()
    if halting.is_elsewhere(w, a, provider, error):
        return True
    rests = provider.traits.keeps_output and not sight.pauses(provider)
    if a.open and not rests and sight.vanished(provider, w, a):
        w.about(a, "over", why=CUT if a.woken else ENDED, blame=False)
        return True
    if a.open and anew.follow(w, a, provider):
        return True
    tries = w.memory[f"pulls:{a.n}"] = w.memory.get(f"pulls:{a.n}", 0) + 1
    held = w.clock.now() < sealed.at + timedelta(seconds=w.plan.limits.hold_s)
    passing = isinstance(error, HostUnreachable) and held
    if not passing and not (isinstance(error, Corrupt) and tries < CORRUPT_TRIES):
        return False
    w.wait(min(30.0, 2.0 * tries))
    return True


def _bring(w: World, a: Attempt, sealed: Sealed) -> None:
    versions = w.versions
    name = artifacts.version_of(w.files, versions, w.plan.run, sealed.digest, a.instance)
    if name is None:
        files = _fetch(w, a, sealed)
        link(w, a).drain()  # the log's end too, should the line have been cut when it was sealed
        partial = versions.partial(w.plan.run)
        own = artifacts.add_own(w.files, partial, _own(w, a))
        body = artifacts.manifest((*files, *own), _facts(w, a, sealed, files))
        name = artifacts.finish(w.files, versions, partial, lambda k: _name(w, sealed, k), body)
    else:
        w.files.sync_tree(versions.version(name))  # whoever renamed it may have died before it lasted
    if runstate.outcome(w.state) is State.DONE:
        _stand(w, name)
    w.record("versioned", version=name, path=str(versions.version(name)))


def _stand(w: World, name: str) -> None:
    """As the latest version, unless it is beaten. Of two runs that finish together the better one stays. Who
    chooses for longer than a comparison takes is not waited for: a machine may bill meanwhile."""
    until = w.clock.now() + timedelta(seconds=CHOOSING_S)
    while (held := w.files.lock(w.versions.choosing, w.plan.run)) is None:
        if w.clock.now() >= until:
            told = f"another process has chosen the latest version for {CHOOSING_S} s: models promote {name}"
            w.record("noticed", code="latest-held", message=f"{told} compares this one once that has ended")
            return
        w.wait_quietly(0.05)
    try:
        if not _beaten(w, name):
            artifacts.point_latest(w.files, w.versions, name, w.plan.run, w.clock.now())
    finally:
        held.release()


def _beaten(w: World, name: str) -> bool:
    """The version that is latest was judged on the same rows, and this one is not better there."""
    champion = artifacts.latest(w.files, w.versions)
    if champion is None or champion == name:
        return False
    held = artifacts.read_manifest(w.files, w.versions, champion)
    new = artifacts.read_manifest(w.files, w.versions, name)
    return judging.duel(new, held).verdict is judging.Verdict.NOT_BETTER


def _fetch(w: World, a: Attempt, sealed: Sealed) -> tuple[Listed, ...]:
    host = w.host(a)
    data = b""
    while chunk := host.read("sealed.json", len(data)):
        data += chunk
    w.files.write(w.attempt_folder(a).sealed, data)
    files = artifacts.parse_sealed(data, sealed.digest)
    partial = w.versions.partial(w.plan.run)
    w.files.make_folder(partial, private=False)  # the version to be is as open as its project
    held = [0.0]

    def tick() -> None:
        try:
            w.tick()
        except Stopped as e:
            if e.why == "now":
                raise
        now = w.clock.now().timestamp()
        if a.open and now - held[0] >= HOLD_EVERY_S:
            held[0] = now
            with suppress(HostError):  # an agent that has gone, or whose disk is full, may still be read from
                link(w, a).send("hold", seconds=w.plan.limits.hold_s)

    artifacts.drop_unlisted(w.files, partial, files)
    with w.transfer("pull") as told:
        host.get(artifacts.output_of(w.plan, a.project), files, partial, tick, _counted(told, files))
    return files


def _counted(told: Told, files: tuple[Listed, ...]) -> Progress:
    """With how many of the files are here: they come one after the other."""
    ends = list(accumulate(f.size for f in files))

    def progress(done: int, total: int) -> None:
        told.part = f"{bisect_right(ends, done)} of {len(files)} files"
        told(done, total)

    return progress


def _own(w: World, a: Attempt) -> dict[str, bytes]:
    folder = w.attempt_folder(a)
    named = {"log": folder.log, "telemetry.jsonl": folder.telemetry, "events.jsonl": folder.events}
    found = {name: w.files.read(path) for name, path in named.items() if w.files.exists(path)}
    return {"plan.json": w.files.read(w.folder.plan), **found}


def _name(w: World, sealed: Sealed, k: int) -> str:
    base = w.plan.version or f"{sealed.at:%Y%m%d_%H%M%S}_{w.plan.label}"
    return base if k == 1 else f"{base}-{k}"


def _facts(w: World, a: Attempt, sealed: Sealed, files: tuple[Listed, ...]) -> Mapping[str, object]:
    plan, now = w.plan, w.clock.now()
    choice = plan.choices[a.choice]
    result = _result(w, files)
    state = runstate.outcome(w.state)
    return {
        "run": plan.run,
        "sealed": sealed.digest,
        "created": iso(now),
        "state": state.value,
        "exit_code": sealed.exit_code,
        "trainer": plan.trainer,
        "command": list(plan.job.argv),
        "settings": dict(plan.settings),
        "code": dict(plan.code),
        "runtime": {
            "kind": choice.runtime.kind.value,
            "digest": choice.runtime.digest,
            "image": choice.runtime.image,
        },
        "profile": plan.profile,
        "inputs": {i.name or Path(i.path).name: i.digest for i in plan.job.inputs},
        "pushed": a.project,
        "seed": plan.job.seed,
        "secrets": [s.name for s in plan.job.secrets],
        "target": choice.offer.target,
        "instance": a.instance,
        "left_out": list(sealed.left_out),
        "device": result.get("device"),
        "metrics": result.get("metrics"),
        "judged": result.get("judged"),
        "seconds": round(_seconds(sealed, a), 3),
        "usd": float(round(w.state.spent(now), 6)),
    }


def _seconds(sealed: Sealed, a: Attempt) -> float:
    told = sealed.ran_s
    return (sealed.at - (a.started_at or sealed.at)).total_seconds() if told is None else told


def _result(w: World, files: tuple[Listed, ...]) -> Json:
    """result.json is the trainer's word; absent or broken it is just not there."""
    if not any(f.path == "result.json" for f in files):
        return {}
    try:
        value = foreign_json(w.files.read(w.versions.partial(w.plan.run) / "result.json"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _confirm(w: World, a: Attempt, sealed: Sealed) -> None:
    """Local rename and sync lie behind us: now, and only now, the machine may let go of it."""
    link(w, a).send("receipt", digest=sealed.digest)
    w.about(a, "receipt")
