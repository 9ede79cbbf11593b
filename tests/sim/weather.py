"""Which faults a seed lets loose and how hard, and which of them were met in which step.

Swarm: each class is off in most seeds and then mild or wild in others, so that rare company is met too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

RATES = (0.0, 0.0, 0.0, 0.03, 0.1, 0.3)

# Each may strike at any call of its kind.
AT_CALLS = (
    "create-lost-reply",
    "create-no-effect",
    "create-ignored",
    "no-capacity",
    "listing-lag",
    "initial-gone",
    "api-unreachable",
    "too-fast",
    "terminate-lost-reply",
    "terminate-ignored",
    "link-cut",
    "link-lost-reply",
    "half-open",
    "corrupt-read",
    "host-disk-full",
    "slow-call",
)
# Each is drawn once for a machine.
OF_MACHINES = (
    "slow-boot",
    "never-boots",
    "price-change",
    "preemption",
    "instance-death",
    "agent-death",
    "trainer-fails",
    "ignores-term",
    "trainer-hangs",
    "nan",
    "setup-fails",
)
# Each is drawn a few times for a life of the client.
OF_CLIENTS = (
    "kill",
    "power-cut",
    "torn-append",
    "disk-full",
    "suspended",
    "clock-jump",
    "second-launcher",
    "ctrl-c",
    "ctrl-c-twice",
    "stop",
    "stop-now",
    "extend",
    "pull",
    "reopen",
)
CLASSES = AT_CALLS + OF_MACHINES + OF_CLIENTS
STEPS = ("provision", "connect", "push", "start", "watch", "pull", "release")


class Weather:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.p = {name: rng.choice(RATES) for name in CLASSES}
        self.where: Callable[[], str] = lambda: "none"
        self.met_classes: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.calm = False

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self.calm = True
        self.p = dict.fromkeys(CLASSES, 0.0)

    def strikes(self, name: str, share: float = 1.0) -> bool:
        """Whether it happens now. It counts as met."""
        p = self.p[name]
        if p and self._rng.random() < p * share:
            self.met(name)
            return True
        return False

    def drawn(self, name: str, share: float = 1.0) -> bool:
        """Whether it is to happen some time. It counts once it does."""
        p = self.p[name]
        return bool(p) and self._rng.random() < p * share

    def met(self, name: str) -> None:
        self.met_classes[name] += 1
        self.pairs[self.where(), name] += 1
