"""What every adapter gets around it and none has inside: retry of questions, pacing, a log of calls, and
a read-only mood for planning.

Only questions are retried here. `create` is asked once, because what became of a lost answer is the
engine's to find out; `terminate` is repeated by the step that must not give up. An answer that an adapter
stumbles over leaves as a VendorBug: no answer is no evidence, and must not look like a fault of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol, TypeVar, cast

from launcher.errors import ProviderError, TooFast, Unreachable, VendorBug
from launcher.models import Need, Offer, Order, Resource
from launcher.providers.base import Billing, Check, Pausing, Provider

T = TypeVar("T")
TRIES = 3
PATIENCE_S = 10.0  # who asks for a longer pause is answered by the engine, which keeps an open ear


# How Python says that what was read has not the shape that was promised.
MISREAD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def misread(name: str, why: Exception) -> VendorBug:
    return VendorBug(f"an answer of {name} could not be understood ({type(why).__name__}: {why})")


class Pause(Protocol):
    def wait(self, seconds: float) -> None: ...


class ReadOnly(Exception):
    """A plan tried to change something: our own bug, and the last thing that may happen."""


class Wrapped:
    def __init__(
        self, inner: Provider, clock: Pause, log: Callable[[str, str], None], *, read_only: bool = False
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._log = log
        self._read_only = read_only
        self.name = inner.name
        self.traits = inner.traits

    def check(self) -> tuple[Check, ...]:
        return self._inner.check()

    def offers(self, need: Need) -> tuple[Offer, ...]:
        return self._ask("offers", lambda: self._inner.offers(need))

    def create(self, order: Order) -> Resource:
        self._may_change("create")
        return self._logged("create", order.token[:8], lambda: self._inner.create(order))

    def get(self, id: str) -> Resource:
        return self._ask("get", lambda: self._inner.get(id))

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        return self._ask("list", lambda: self._inner.list(run_id))

    def terminate(self, id: str) -> None:
        self._may_change("terminate")
        self._logged("terminate", id, lambda: self._inner.terminate(id))

    def pause(self, id: str) -> None:
        self._may_change("pause")
        self._logged("pause", id, lambda: self._pausing().pause(id))

    def unpause(self, id: str) -> None:
        self._may_change("unpause")
        self._logged("unpause", id, lambda: self._pausing().unpause(id))

    def billed(self, id: str) -> Decimal | None:
        """Asked once: nothing waits for a bill."""
        return self._logged("billed", id, lambda: cast(Billing, self._inner).billed(id))

    def console(self, id: str) -> str:
        return self._ask("console", lambda: self._inner.console(id))

    def _pausing(self) -> Pausing:
        return cast(Pausing, self._inner)

    def _may_change(self, verb: str) -> None:
        if self._read_only:
            raise ReadOnly(f"{verb} was called on {self.name} while planning")

    def _logged(self, verb: str, what: str, call: Callable[[], T]) -> T:
        try:
            answer = self._understood(verb, call)
        except ProviderError as e:
            self._log(f"{self.name}.{verb}", f"{what} -> {type(e).__name__}: {e.reason}")
            raise
        self._log(f"{self.name}.{verb}", f"{what} -> ok")
        return answer

    def _understood(self, verb: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except MISREAD as e:  # which may be our own fault: the log has all of it
            import traceback

            self._log(f"{self.name}.{verb}", "".join(traceback.format_exception(e)))
            raise misread(self.name, e) from e

    def _ask(self, verb: str, call: Callable[[], T]) -> T:
        for attempt in range(1, TRIES + 1):
            try:
                return self._understood(verb, call)
            except (Unreachable, TooFast) as e:
                self._log(f"{self.name}.{verb}", f"try {attempt}: {type(e).__name__}: {e.reason}")
                pause_s = e.wait_s if isinstance(e, TooFast) else 0.2 * 2**attempt
                if attempt == TRIES or pause_s > PATIENCE_S:
                    raise
                self._clock.wait(pause_s)
        raise AssertionError("unreachable")
