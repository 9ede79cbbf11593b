"""A mind on a virtual clock: say when and what is seen, read what it decides."""

from __future__ import annotations

from math import inf
from typing import Any

from launcher.agent.mind import Mind
from launcher.agent.protocol import Action, Boot, Emit, Event, Exited, Running, Seal, Sealed, Sight

WALL = 1_800_000_000.0
JOB: dict[str, Any] = {
    "argv": ["train", "--fast"],
    "cwd": ".",
    "env": {},
    "secret_file": None,
    "output": "output",
    "checkpoint": None,
    "max_time_s": 100,
    "salvage_s": 30,
    "grace_s": 5,
    "require_gpu": False,
    "idle_s": None,
    "checkpoint_every_s": 20,
    "keep_s": 0,
}
SEALED = Sealed("d" * 64, 2, 20, ("link",))


class Bench:
    """`wall` follows the boot clock unless a test sets `skew`."""

    def __init__(
        self, *, ends_at: float = inf, ends_in: float = 300, boot_limit: float = 50, **more: Any
    ) -> None:
        self.mind = Mind(Boot("tok", ends_at, ends_in, boot_limit, hold=40, **more))
        self.skew = 0.0
        self.n = 0
        self.events: list[Event] = []
        self.state: dict[str, Any] = {"trainer": None, "tree_empty": False, "activity": None}

    def wake(self, now: float, *commands: Event, **seen: Any) -> list[Action]:
        self.state.update({k: seen[k] for k in self.state if k in seen})
        facts = {**self.state, **seen}
        actions = self.mind.wake(now, Sight(wall=WALL + now + self.skew, commands=commands, **facts))
        self.events += [a.event for a in actions if isinstance(a, Emit)]
        return [a for a in actions if not isinstance(a, Emit)]

    def command(self, verb: str, **data: Any) -> Event:
        self.n += 1
        return {"n": self.n, "verb": verb, **data}

    def say(self, at: float, verb: str, **data: Any) -> list[Action]:
        return self.wake(at, self.command(verb, **data))

    def start(self, now: float = 1.0, **job: Any) -> None:
        """Until the trainer runs, as pid 7."""
        self.say(now, "start", job={**JOB, **job})
        self.wake(now, trainer=Running(7))

    def finish(self, now: float, code: int | None = 0, signal: int | None = None) -> None:
        """Until the output is sealed: the trainer goes, nobody is left, every list is made."""
        self.wake(now, trainer=Exited(7, code, signal))
        actions = self.wake(now, tree_empty=True)
        assert actions == [Seal()]
        self.wake(now, sealed=SEALED)

    def kinds(self) -> list[str]:
        return [e["ev"] for e in self.events]

    def last(self, kind: str) -> Event:
        return next(e for e in reversed(self.events) if e["ev"] == kind)

    def warned(self) -> list[str]:
        return [e["code"] for e in self.events if e["ev"] == "warned"]
