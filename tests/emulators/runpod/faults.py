"""What may go wrong with one answer, and who is next to get it.

A fault is about an operation ("create", "get", "list", "delete", "stop", "logs", "gpus", "graphql", …) and
comes before or after its effect. Conditions are what is wrong with the world as long as it lasts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from typing import Literal


class How(StrEnum):
    STATUS = "status"  # problem+json with the status and detail
    HTML = "html"  # a proxy's page with the status
    TRUNCATED = "truncated"  # the true answer, cut in its middle
    DROPPED = "dropped"  # the connection closes without a byte
    TRICKLING = "trickling"  # the true answer, byte by byte
    SLOW_BODY = "slow body"  # its head at once, and then the same
    SILENT = "silent"  # nothing is said for a while, then the connection closes


@dataclass(frozen=True)
class Fault:
    how: How
    status: int = 500
    detail: str = "Something went wrong. Please try again later or contact support."
    after: bool = False  # what was asked for is done all the same
    retry_after_s: int | None = None
    silence_s: float = 60.0


def too_many(retry_after_s: int = 1) -> Fault:
    detail = "rate limit exceeded for the minute window"
    return Fault(How.STATUS, 429, detail, retry_after_s=retry_after_s)


CAPACITY = (
    (
        "There are no longer any instances available with the requested specifications. "
        "Please refresh and try again."
    ),
    "There are no instances available with the request specifications. Please try again later.",
)


class Faults:
    """Queues by operation; each fault is met once for every time it was added."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._lock = RLock()

    def add(self, operation: str, fault: Fault, times: int = 1) -> None:
        with self._lock:
            self._queues[operation].extend([fault] * times)

    def always(self, operation: str, fault: Fault | None) -> None:
        """From now on every answer; None ends it."""
        with self._lock:
            self._always.pop(operation, None)
            if fault is not None:
                self._always[operation] = fault

    def next(self, operation: str) -> Fault | None:
        with self._lock:
            queue = self._queues[operation]
            return queue.popleft() if queue else self._always.get(operation)


@dataclass
class Conditions:
    """The state of the world. Seconds count from the pod's creation or, for ports, from its boot."""

    list_lag_s: float = 0.0  # until a new pod is listed
    get_lag_s: float = 0.0  # until it is known by its id, for get, delete and actions alike
    provision_s: float = 0.0
    ports: Literal["mapped", "never"] = "mapped"
    ports_late_s: float = 0.0
    ports_stale_s: float = 0.0  # after a restart the old port is told for that long
    price_factor: float = 1.0  # what create takes, against what the catalog says
    balance: float = 100.0  # in USD, before what the ledger says was spent
    capacity_words: int = 0  # which of the phrasings
    spot: Literal["removed", "gone", "offered"] = "removed"  # no such field, HTTP 410, or as it once was
    pod_key_may: frozenset[str] = frozenset({"stop", "terminate"})
    pod_key_on_rest: bool = True
    stops_with_volume: bool = True  # a pod with a network volume; else it can only be terminated
    broken_images: set[str] = field(default_factory=set)  # they cannot be pulled
    pull_gives_up_s: float | None = None  # then such a pod is in ERROR; None = it is tried for ever
    refused_images: set[str] = field(default_factory=set)  # they are refused at create
    unfit_images: set[str] = field(default_factory=set)  # the host's driver is too old: RUNNING, never up
    zero_gpu: bool = False  # by GraphQL a stopped pod is started without any GPU
    extras: bool = True  # answers hold words that the document does not know
    quota: int = 6000  # requests within the window
    quota_window_s: float = 60.0
