"""What holds for every order of commands, clocks and ends: the machine always goes, and never spins."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.protocol import (
    Action,
    Exited,
    HashCheckpoint,
    Hashed,
    Leave,
    Prepare,
    Prepared,
    Refused,
    Running,
    ScanCheckpoints,
    Seal,
    SealFailed,
    Seen,
    Signal,
    Start,
)
from tests.unit.mind_bench import JOB, SEALED, Bench

SECONDS = st.floats(0, 400, allow_nan=False)
COMMANDS = st.one_of(
    st.builds(lambda s: {"verb": "lease", "seconds": s}, SECONDS),
    st.just({"verb": "prepare", "argv": ["make"]}),
    st.builds(
        lambda t, s, g, i, c, k: {
            "verb": "start",
            "job": {
                **JOB,
                "max_time_s": t,
                "salvage_s": s,
                "grace_s": g,
                "idle_s": i,
                "checkpoint": c,
                "keep_s": k,
            },
        },
        SECONDS,
        st.floats(0, 60),
        st.floats(0, 90),
        st.one_of(st.none(), st.floats(1, 60)),
        st.sampled_from([None, "checkpoint"]),
        st.sampled_from([0, 30]),
    ),
    st.builds(lambda t, s: {"verb": "deadline", "max_time_s": t, "salvage_s": s}, SECONDS, st.floats(0, 60)),
    st.builds(lambda n: {"verb": "stop", "now": n, "why": "stop"}, st.booleans()),
    st.just({"verb": "rate", "seconds": 1}),
    st.builds(lambda s: {"verb": "hold", "seconds": s}, SECONDS),
    st.builds(lambda d: {"verb": "receipt", "digest": d}, st.sampled_from([SEALED.digest, "wrong"])),
    st.dictionaries(st.sampled_from(["verb", "seconds", "job"]), st.one_of(st.none(), st.text(max_size=3))),
)
WORLDS = st.fixed_dictionaries(
    {
        "script": st.lists(st.tuples(SECONDS, COMMANDS), max_size=12),
        "ends_by_itself": st.one_of(st.none(), st.floats(0, 300)),
        "hears_term": st.booleans(),
        "child_survives_kills": st.integers(0, 3),
        "refuses": st.booleans(),
        "seal_fails": st.integers(0, 2),
        "preempted": st.one_of(st.none(), SECONDS),
        "activity": st.sampled_from([True, False, None]),
        "reads": st.booleans(),
    }
)


class Played:
    """A small world that answers the mind's actions, driven by nothing but its own dates."""

    def __init__(self, world: dict[str, Any]) -> None:
        self.w = world
        self.b = Bench(ends_in=600, boot_limit=120)
        self.facts: dict[str, Any] = {}
        self.trainer: Any = None
        self.tree_empty = False
        self.survivors = world["child_survives_kills"]
        self.seal_fails = world["seal_fails"]
        self.left: tuple[float, str] | None = None
        self.started_at: float | None = None
        self.wakes = 0

    def play(self) -> Played:
        now = 0.0
        script = sorted(self.w["script"], key=lambda step: step[0])
        outside = {at for at, _ in script} | ({self.w["preempted"]} - {None})
        while self.left is None:
            commands = [self.b.command(**{"verb": "", **c}) for at, c in script if at == now]
            if now in outside:
                script = [step for step in script if step[0] > now]
            self._live(now)
            facts, self.facts = self.facts, {}
            facts.update(trainer=self.trainer, tree_empty=self.tree_empty, activity=self.w["activity"])
            actions = self.b.wake(now, *commands, term=now == self.w["preempted"], **facts)
            self.wakes += 1
            assert self.wakes < 1500, "it spins"
            for action in actions:
                self._do(now, action)
            outside = {at for at in outside if at > now}
            due = [self.b.mind.next_wake(now), *outside, *self._own_dates(now)]
            assert min(due) >= now
            now = now if self.facts or self._changed(now) else min(due)
        return self

    def _own_dates(self, now: float) -> list[float]:
        end = self.w["ends_by_itself"]
        if isinstance(self.trainer, Running) and end is not None and self.started_at is not None:
            return [max(now, self.started_at + end)]
        return []

    def _changed(self, now: float) -> bool:
        state = (type(self.trainer), self.tree_empty)
        changed, self._before = state != getattr(self, "_before", None), state
        return changed

    def _live(self, now: float) -> None:
        if self._own_dates(now) and self._own_dates(now)[0] <= now:
            self.trainer = Exited(7, 0)

    def _do(self, now: float, action: Action) -> None:
        if isinstance(action, Prepare):
            self.facts["prepared"] = Prepared(0, 1.0)
        elif isinstance(action, Start):
            self.trainer = Refused("no-command", "no") if self.w["refuses"] else Running(7)
            self.started_at = now
        elif isinstance(action, Signal) and action.kind == "kill":
            self.tree_empty = self.survivors == 0 and not isinstance(self.trainer, Running)
            self.survivors = max(0, self.survivors - 1)
            self._dies(None, 9)
        elif isinstance(action, Signal) and self.w["hears_term"]:
            self._dies(0, None)
        elif isinstance(action, Seal) and self.w["reads"]:
            self.seal_fails -= 1
            self.facts["sealed"] = SealFailed("full") if self.seal_fails >= 0 else SEALED
        elif isinstance(action, ScanCheckpoints) and self.w["reads"]:
            self.facts["checkpoints"] = (Seen("a", f"{now // 50}", False), Seen("b", "f", True))
        elif isinstance(action, HashCheckpoint):
            answer = Hashed(action.name, action.fingerprint, ())
            self.facts["hashed"] = (*self.facts.get("hashed", ()), answer)
        elif isinstance(action, Leave):
            self.left = (now, action.why)

    def _dies(self, code: int | None, signal: int | None) -> None:
        if isinstance(self.trainer, Running):
            self.trainer = Exited(7, code, signal)


@settings(max_examples=400, deadline=None)
@given(WORLDS)
def test_every_machine_goes_in_time_and_says_why(world: dict[str, Any]) -> None:
    played = Played(world).play()
    assert played.left is not None
    at, why = played.left
    kinds = played.b.kinds()
    assert at <= max(played.b.mind.ends, 0.0) + 1e-6 or why == "deadline"
    assert why in ("receipt", "hold", "deadline", "boot-limit", "end")
    assert played.b.events[-1]["ev"] == "ending" and played.b.events[-1]["why"] == why
    assert kinds[:2] == ["hello", "armed"]
    for once in ("hello", "armed", "started", "refused", "stopping", "exited", "sealed", "ending"):
        assert kinds.count(once) <= 1, once
    if why == "receipt":
        assert "sealed" in kinds
    if "exited" in kinds:
        assert kinds.index("started") < kinds.index("exited")
    if "sealed" in kinds and "started" in kinds:
        assert kinds.index("exited") < kinds.index("sealed")
    if played.started_at is None:
        assert at <= 600


@settings(max_examples=100, deadline=None)
@given(WORLDS)
def test_the_same_world_is_the_same_story(world: dict[str, Any]) -> None:
    assert Played(world).play().b.events == Played(world).play().b.events


@settings(max_examples=200, deadline=None)
@given(WORLDS)
def test_a_trainer_deaf_to_sigterm_never_outlives_d(world: dict[str, Any]) -> None:
    played = Played({**world, "ends_by_itself": None, "hears_term": False, "refuses": False}).play()
    kills = [e for e in played.b.events if e["ev"] in ("exited", "ending")]
    if played.started_at is not None:
        assert kills, "nothing ended it"
        assert not isinstance(played.trainer, Running)


def test_time_runs_forward_in_the_events() -> None:
    played = Played(
        {
            "script": [(1.0, {"verb": "start", "job": JOB})],
            "ends_by_itself": 5.0,
            "hears_term": True,
            "child_survives_kills": 0,
            "refuses": False,
            "seal_fails": 0,
            "preempted": None,
            "activity": None,
            "reads": True,
        }
    ).play()
    times = [e["t"] for e in played.b.events]
    assert times == sorted(times)
    assert played.left == (46.0, "hold")
