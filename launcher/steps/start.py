"""Make the environment, hand over the secrets, start the trainer.

uses: pushed
produces: start-asked (before the order), started (and with it the deadline), or sealed when the agent
refused, or over
"""

from __future__ import annotations

import json
from datetime import datetime

from launcher import guard, plan
from launcher.codec import parse_iso
from launcher.errors import HostDiskFull, HostError
from launcher.models import Access, DeviceWish, Json, RuntimeKind
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.steps import anew, halting, sight
from launcher.steps.link import Link, link
from launcher.steps.watch import granted, record_sealed
from launcher.world import World

GRACE_SHARE = 3  # of S: the trainer's time to write a last checkpoint, the rest is for sealing and pulling


def start(w: World) -> None:
    a = w.attempt()
    line = link(w, a)
    try:
        if a.start_asked:  # by an engine that died: an order that nobody hears now, another boot would obey
            line.drain()
        python = _prepared(w, a, line)
        if w.attempt().over is not None:
            return
        if line.last("started", "sealed") is None:
            _command(w, a, line, python)
            _await(w, a, line, "started", "sealed")
        if (event := line.last("started")) is not None:
            _started(w, a, line, event)
        elif line.last("sealed") is not None:
            record_sealed(w, a, line)
    except HostError as e:
        provider = w.provider(a.choice)
        w.drop_hosts()
        if halting.is_elsewhere(w, a, provider, e):
            return
        if isinstance(e, HostDiskFull) and line.last("started") is None:  # no order fits there, however often
            w.about(a, "over", why=f"the machine's disk is full: {e}", blame=True)
            return
        if anew.follow(w, a, provider):
            return
        if sight.vanished(provider, w, a):
            w.about(a, "over", why=f"the machine ended while it was made ready: {e}", blame=False)
        elif sight.outlived(provider, w, a) and not _may_hold(w, a, provider, str(e)):
            w.about(a, "over", why="deadline", blame=False)
        else:
            w.wait(1)


def _may_hold(w: World, a: Attempt, provider: Provider, unheard: str) -> bool:
    """The order to start was given, and what came of it lies on a host that does not answer."""
    return w.attempt().start_asked and halting.out_of_reach(w, a, provider, unheard)


def _started(w: World, a: Attempt, line: Link, event: Json) -> None:
    """Its end counts from here. What the agent was told at the start may be too long for the money by now, or
    an engine that died told it: then it is told again."""
    begun = _begun(w, a, event)
    limits = granted(w, a, begun)
    if w.memory.get(f"granted:{a.n}") != limits:
        line.send("deadline", max_time_s=limits.max_time_s, salvage_s=limits.salvage_s)
    w.about(a, "started", deadline=guard.ends_at_start(begun, limits), pid=event.get("pid"), begun=begun)


def _begun(w: World, a: Attempt, event: Json) -> datetime:
    """The host's own word for when it began, held inside what we know: its clock may be off by a day."""
    try:
        told = parse_iso(str(event["at"]))
    except (KeyError, ValueError):
        return w.clock.now()
    return max(a.asked_at, min(w.clock.now(), told))


def _await(w: World, a: Attempt, line: Link, *kinds: str) -> Json | None:
    """Until the agent says one of these, or it is gone, or its boot limit would be over."""
    looked = w.clock.now().timestamp()
    while (event := line.last(*kinds)) is None:
        w.tick()
        line.lease()
        line.sync(("events.jsonl", "setup.log", "log"))
        now = w.clock.now().timestamp()
        if now - looked >= 2:
            looked = now
            if sight.outlived(w.provider(a.choice), w, a):
                w.about(a, "over", why="deadline", blame=False)
                return None
            if sight.vanished(w.provider(a.choice), w, a):
                line.drain()
                if line.last(*kinds) is None:
                    w.about(a, "over", why="the machine ended while it was made ready", blame=False)
                    return None
        w.clock.wait(w.pace_s / 5)
    return event


def _prepared(w: World, a: Attempt, line: Link) -> str | None:
    """The environment's python, or None where the machine's own is used."""
    runtime = w.plan.choices[a.choice].runtime
    if runtime.requirements is None and not runtime.setup:
        return None
    event = line.last("prepared")
    if event is None:
        if w.memory.get(f"prepare:{a.n}") is None:
            line.send("prepare", argv=_prepare_argv(w, a, line), cwd=f"project/{a.pushed}", env={})
            w.memory[f"prepare:{a.n}"] = True
        event = _await(w, a, line, "prepared", "sealed")
    if event is None or event["ev"] == "sealed":  # it starts nothing any more: an earlier boot left results
        return None
    line.sync(("setup.log",))
    if event["exit_code"] != 0:
        tail = event.get("tail") or ["no output"]
        last = tail[-1] if isinstance(tail, list) else str(tail).strip().splitlines()[-1]
        w.about(a, "over", why=f"the environment could not be made: {last[:300]}", blame=True)
        return None
    return _python(event)


def _python(event: Json) -> str | None:
    tail = event.get("tail") or ""
    lines = tail if isinstance(tail, list) else str(tail).splitlines()
    try:
        return str(json.loads(lines[-1])["python"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def _own_python(access: Access, line: Link) -> str:
    """Far away the one that runs the agent: python3 there may be too old for it, with a newer one beside."""
    if access.kind != "ssh":
        return "python3"
    if line.last("hello") is None:
        line.sync(("events.jsonl",))
    return str((line.last("hello") or {}).get("executable") or "python3")


def _prepare_argv(w: World, a: Attempt, line: Link) -> list[str]:
    runtime = w.plan.choices[a.choice].runtime
    access = a.access
    assert access is not None
    kept = w.envs if access.kind == "process" else access.envs
    into = kept or f"{access.root}/envs"
    argv = [_own_python(access, line), "-I", f"{access.root}/agent.pyz", "env", "--into", into]
    if runtime.requirements is not None:
        argv += ["--requirements", runtime.requirements]
    if runtime.setup:
        # Its command runs in the project, and may read anything there: so all of it is part of the digest.
        argv += ["--setup", json.dumps(list(runtime.setup)), "--project", "."]
    return argv


def _command(w: World, a: Attempt, line: Link, python: str | None) -> None:
    job = w.plan.job
    limits = w.memory[f"granted:{a.n}"] = granted(w, a, w.clock.now())
    secrets = w.secrets(job.secrets)
    if secrets:
        line.host.write("secret.json", json.dumps(dict(secrets)).encode(), 0o600)
    w.about(a, "start-asked")  # the last before the order: what fails until here leaves nothing to look for
    assert a.access is not None
    cwd = f"project/{a.pushed}"
    output = f"{cwd}/{job.output}" if job.output else "output"
    line.send(
        "start",
        job={
            "argv": _argv(w, a, python, line),
            "cwd": cwd,
            "env": _env(w, a, a.access, output),
            "secret_file": "secret.json" if secrets else None,
            "output": output,
            "checkpoint": "checkpoint",
            "max_time_s": limits.max_time_s,
            "salvage_s": limits.salvage_s,
            "grace_s": max(5, limits.salvage_s // GRACE_SHARE),
            "require_gpu": _requires_gpu(w, a),
            "idle_s": limits.idle_s,
            "checkpoint_every_s": limits.checkpoint_every_s,
            "early_every_s": limits.checkpoint_every_s,
            "keep_s": limits.keep_s,
        },
    )


def _argv(w: World, a: Attempt, python: str | None, line: Link) -> list[str]:
    """`python` in the command means the environment's; an image without one has python3, and a host the one
    that its agent runs by."""
    argv = list(w.plan.job.argv)
    runtime = w.plan.choices[a.choice].runtime
    if argv[0] in ("python", "python3"):
        if python is not None:
            argv[0] = python
        elif runtime.kind is RuntimeKind.ENV and a.access is not None and a.access.kind == "ssh":
            argv[0] = _own_python(a.access, line)
        elif runtime.kind is RuntimeKind.IMAGE or (a.access is not None and a.access.kind == "ssh"):
            argv[0] = "python3"
    return argv


def _requires_gpu(w: World, a: Attempt) -> bool:
    return plan.requires_gpu(w.plan, w.plan.choices[a.choice].offer)


def _env(w: World, a: Attempt, access: Access, output: str) -> dict[str, str]:
    job, root = w.plan.job, access.root
    env = {
        "LAUNCHER_RUN": w.plan.run,
        "LAUNCHER_OUTPUT": f"{root}/{output}",
        "LAUNCHER_CHECKPOINT": f"{root}/checkpoint",
        "LAUNCHER_INPUT": f"{root}/input",
        "LAUNCHER_SEED": str(job.seed),
        "LAUNCHER_USD_PER_HOUR": str(a.usd_per_hour),
        "PYTHONUNBUFFERED": "1",  # a line is worth seeing when it is printed
    }
    if job.device is not DeviceWish.AUTO:
        env["DEVICE"] = job.device.value
    if _requires_gpu(w, a):
        env["LAUNCHER_REQUIRE_GPU"] = "1"
    return {**env, **dict(job.env)}
