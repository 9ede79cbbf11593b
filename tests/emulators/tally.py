"""What all emulated clouds of this process were asked, and what of it broke their contract: one count for a
whole session of tests, whichever of them began the cloud. What a test does wrong on purpose it takes back
from `offences` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Counted(Protocol):
    @property
    def heard(self) -> Sequence[object]: ...

    @property
    def offences(self) -> Sequence[str]: ...

    @property
    def faulty_answers(self) -> Sequence[str]: ...


_serving: list[Counted] = []
_ended: list[tuple[int, list[str]]] = []  # of clouds that serve no more


def begin(cloud: Counted) -> None:
    _serving.append(cloud)


def end(cloud: Counted) -> None:
    """Its numbers are kept, and nothing else of it."""
    _serving.remove(cloud)
    _ended.append(_of(cloud))


def counted() -> tuple[int, list[str]]:
    """Requests, and each violation in a line."""
    told = [*_ended, *map(_of, _serving)]
    return sum(requests for requests, _ in told), [line for _, lines in told for line in lines]


def _of(cloud: Counted) -> tuple[int, list[str]]:
    faulty = [f"the emulator itself: {line}" for line in cloud.faulty_answers]
    return len(cloud.heard), [*cloud.offences, *faulty]
