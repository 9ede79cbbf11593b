"""See the trainer to its end: streams home, checkpoints home, requests answered, the deadline kept.

uses: started
produces: checkpoint (verified here), sealed, or over (the machine was lost, or outlived its deadline)
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from launcher import guard
from launcher.errors import Corrupt, HostError, ProviderError
from launcher.models import Json, Limits
from launcher.providers.base import Provider
from launcher.remote.base import Listed
from launcher.runstate import Attempt, Checkpoint
from launcher.steps import sight
from launcher.steps.link import Link, link, partial, sha256
from launcher.world import World

KEEP_CHECKPOINTS = 2
ASK_S = 5.0  # between two questions to a provider that bills; what is here is asked each second


def watch(w: World) -> None:
    a = w.attempt()
    provider = w.provider(a.choice)
    if a.sealed is not None:
        _hold(w, a, provider)
        return
    line = link(w, a)
    asked = pulled = w.clock.now().timestamp()
    every = ASK_S if provider.traits.bills else 1.0
    while w.attempt().sealed is None and w.attempt().over is None:
        w.tick_quietly()
        if w.state.stop is not None and w.state.stop.now:
            return
        try:
            _steer(w, a, line)
            line.sync()
            now = w.clock.now().timestamp()
            if w.pull_now or now - pulled >= w.plan.limits.checkpoint_every_s:
                pulled, w.pull_now = now, False
                fetch_checkpoints(w, line)
        except HostError:
            w.drop_hosts()  # the next look connects anew; until then the agent goes on by itself
        if line.last("sealed") is not None:
            record_sealed(w, a, line)
            return
        if w.clock.now().timestamp() - asked >= every:
            asked = w.clock.now().timestamp()
            _look(w, a, provider, line)
        w.clock.wait(w.pace_s)


def _hold(w: World, a: Attempt, provider: Provider) -> None:
    """Its results could not be fetched. Its agent holds them for a while and then ends the machine; we stay,
    for whoever asks for another pull, and to end it should nobody else do so."""
    while w.state.pull_failed is not None:
        if sight.vanished(provider, w, a):
            w.about(a, "over", why="the machine ended before its results were here", blame=False)
            return
        if sight.outlived(provider, w, a):
            w.about(a, "over", why="deadline", blame=False)
            return
        w.wait(ASK_S)


def _steer(w: World, a: Attempt, line: Link) -> None:
    """Tell the agent what changed: a stop, another deadline, somebody who looks."""
    memory = w.memory
    stop = w.state.stop
    if stop is not None and memory.get(f"stop-sent:{a.n}") is None:
        line.send("stop", now=False, why="stop")
        memory[f"stop-sent:{a.n}"] = True
    wanted = (a.n, w.state.max_time_s, w.state.max_cost)
    if memory.get("granted") != wanted:
        _grant(w, a, line)
        memory["granted"] = wanted
    now = w.clock.now().timestamp()
    if now - memory.get("rate-sent", 0.0) >= 10 and w.watched():
        line.send("rate", seconds=1)
        memory["rate-sent"] = now


def _grant(w: World, a: Attempt, line: Link) -> None:
    assert a.begun is not None
    limits = granted(w, a, a.begun)
    deadline = guard.ends_at_start(a.begun, limits)
    if deadline != w.attempt().deadline:
        line.send("deadline", max_time_s=limits.max_time_s, salvage_s=limits.salvage_s)
        w.about(a, "deadline", deadline=deadline)


def granted(w: World, a: Attempt, begun: datetime) -> Limits:
    """T and S for a trainer that begins then: what is wanted by now, as far as the money goes. A machine that
    was long in getting ready has eaten into it."""
    limits = replace(w.plan.limits, max_time_s=w.state.max_time_s)
    ceiling = w.ceiling()
    if not w.plan.choices[a.choice].offer.bills or ceiling is None:
        return limits
    left = ceiling - w.state.spent_besides(a, w.clock.now())
    overrun_s = w.provider(a.choice).traits.overrun_s
    return guard.limits_at_start(begun, limits, guard.paid_until(a.asked_at, a.usd_per_hour, left, overrun_s))


def _look(w: World, a: Attempt, provider: Provider, line: Link) -> None:
    """Only positive evidence ends an attempt: gone by the provider's word, or past every deadline."""
    try:
        ended = sight.instance_ended(provider, a)
        if ended and sight.surely_gone(provider, w, a):
            _last_look(w, a, line)
            return
    except ProviderError:
        pass  # no answer is no evidence; the deadline below still counts
    if sight.outlived(provider, w, w.attempt()):
        _last_look(w, a, line)
        if w.attempt().sealed is None and w.attempt().over is None:
            w.about(a, "over", why="deadline", blame=False)


def _last_look(w: World, a: Attempt, line: Link) -> None:
    """Where output outlives the machine, its last words may still be read."""
    try:
        line.drain()
        fetch_checkpoints(w, line)
    except HostError:
        pass  # nothing outlived it
    if line.last("sealed") is not None:
        record_sealed(w, a, line)
        return
    ending = line.last("ending")
    over = ending is not None and ending.get("why") in ("deadline", "boot-limit")
    w.about(a, "over", why="deadline" if over else "the machine was lost", blame=False)


def record_sealed(w: World, a: Attempt, line: Link) -> None:
    """The trainer is gone: what it left is vouched for by the agent's list."""
    event = line.last("sealed")
    assert event is not None
    try:
        line.drain()
        fetch_checkpoints(w, line)
    except HostError:
        pass  # the pull reads the rest, or says why it cannot
    refused = line.last("refused")
    w.about(
        a,
        "sealed",
        digest=str(event["digest"]),
        count=int(event["count"]),
        size=int(event["bytes"]),
        exit_code=event.get("exit_code"),
        signal=event.get("signal"),
        why=event.get("why"),
        left_out=[str(name) for name in event.get("skipped") or ()],
        refused=str(refused.get("message") or refused.get("why")) if refused else None,
    )
    if event.get("why") == "preempted":
        w.about(a, "over", why="preempted", blame=False)


# --- checkpoints -----------------------------------------------------------------------------------


def fetch_checkpoints(w: World, line: Link) -> None:
    """Complete ones that are not here yet, newest first: after a loss only the newest matters."""
    announced: dict[str, Json] = {}
    for event in line.events:
        if event["ev"] == "checkpoint" and event.get("complete"):
            announced.pop(str(event["name"]), None)
            announced[str(event["name"])] = event
    by_age = sorted(announced.items(), key=lambda item: float(item[1].get("written", 0.0)))
    for name, event in reversed(by_age[-KEEP_CHECKPOINTS:]):
        digest = sha256(json.dumps(event["files"], sort_keys=True).encode())
        if Checkpoint(name, digest) not in w.state.checkpoints:
            _fetch_one(w, line, name, event, digest)
    _keep_last(w)


def _fetch_one(w: World, line: Link, name: str, event: Json, digest: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        return  # a name from another machine never becomes a path of ours
    place = w.folder.checkpoints / name
    staging = partial(place)
    listing = [Listed(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in event["files"]]
    w.files.make_folder(staging)
    try:
        line.host.get(
            f"checkpoint/{name}" if _is_folder(event) else "checkpoint", listing, staging, w.tick_quietly
        )
    except Corrupt:
        w.files.remove(staging)  # replaced while we read: the agent announces it again
        return
    w.files.sync_tree(staging)
    if w.files.exists(place):
        w.files.remove(place)
    w.files.move(staging, place)
    size, written = sum(f.size for f in listing), float(event.get("written", 0.0))
    w.about(w.attempt(), "checkpoint", name=name, digest=digest, size=size, written=written)


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
