"""Which faults a seed lets loose and how hard, and which of them were met in which step.

Swarm: each class is off in most seeds and then mild or wild in others, so that rare company is met too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

RATES = (0.0, 0.0, 0.0, 0.03, 0.1, 0.3)
HARSH = (0.3, 0.6, 1.0)  # how much of it a seed gets

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
    "pause-lost-reply",
    "pause-ignored",
    "unpause-refused",
    "unpause-lost-reply",
    "unpause-ignored",
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
    "output-rewritten",
    "output-removed",
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

# Which fault has to be met in which step of at least one seed of a campaign.
_ASKS = ("provision", "connect", "start", "watch", "pull", "release")  # the provider is asked there
_TALKS = ("connect", "push", "start", "watch", "pull")  # the host is
_READS = (*_TALKS, "release")  # what nobody sealed is fetched there
_EACH = STEPS
_LONG = ("provision", "connect", "push", "start", "watch", "release")  # long enough to be met by chance
PAIRS: dict[str, tuple[str, ...]] = {
    "create-lost-reply": ("provision",),
    "create-no-effect": ("provision",),
    "create-ignored": ("provision",),
    "no-capacity": ("provision",),
    "listing-lag": ("provision",),
    "initial-gone": ("connect", "start", "watch", "release"),
    "api-unreachable": _ASKS,
    "too-fast": _ASKS,
    "terminate-lost-reply": ("release",),
    "terminate-ignored": ("release",),
    "pause-lost-reply": ("release",),
    "pause-ignored": ("release",),
    "unpause-refused": ("connect",),
    "unpause-lost-reply": ("connect",),
    "unpause-ignored": ("connect",),
    "link-cut": _READS,
    "link-lost-reply": _READS,
    "half-open": _READS,
    "corrupt-read": ("watch", "pull", "release"),
    "host-disk-full": _TALKS,
    "slow-call": _ASKS,
    "slow-boot": ("provision",),
    "never-boots": ("provision",),
    "price-change": ("provision",),
    "preemption": ("connect", "push", "start", "watch", "pull"),
    "instance-death": ("connect", "start", "watch", "pull", "release"),
    "agent-death": ("start", "watch", "pull"),
    "trainer-fails": ("start", "watch"),
    "ignores-term": ("watch",),
    "trainer-hangs": ("watch",),
    "nan": ("start", "watch"),
    "setup-fails": ("start",),
    "output-rewritten": ("watch",),
    "output-removed": ("watch",),
    "kill": _EACH,
    "power-cut": _EACH,
    "torn-append": _EACH,
    "disk-full": _EACH,
    "suspended": _LONG,
    "clock-jump": ("provision", "watch"),
    "second-launcher": _EACH,
    "ctrl-c": _LONG,
    "ctrl-c-twice": _LONG,
    "stop": _LONG,
    "stop-now": _LONG,
    "extend": _LONG,
    "pull": _LONG,
}


class Weather:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        harsh = rng.choice(HARSH)
        self.p = {name: rng.choice(RATES) * harsh for name in CLASSES}
        self.where: Callable[[], str] = lambda: "none"
        self.met_classes: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.calm = False
        self.told: Callable[[str], None] = lambda name: None

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
        self.told(name)
