"""How decisions leave: the list of what is to be done at this wake, events stamped with its time."""

from __future__ import annotations

from datetime import datetime, timezone

from .protocol import Action, Emit, Event


class Voice:
    def __init__(self) -> None:
        self.now = 0.0
        self.wall = 0.0
        self.actions: list[Action] = []

    def begin(self, now: float, wall: float) -> None:
        self.now, self.wall, self.actions = now, wall, []

    def do(self, *actions: Action) -> None:
        self.actions += actions

    def emit(self, ev: str, sync: bool = False, **rest: object) -> None:
        at = datetime.fromtimestamp(self.wall, timezone.utc).isoformat(timespec="milliseconds")
        event: Event = {"ev": ev, "t": round(self.now, 3), "at": at[:-6] + "Z", **rest}
        self.actions.append(Emit(event, sync))

    def warn(self, code: str, message: str) -> None:
        self.emit("warned", code=code, message=message)
