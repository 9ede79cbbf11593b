"""What every provider promises: seven verbs and its differences as data.

An adapter asks. It never sleeps, waits, retries, prints or remembers: waiting is the engine's, retry
is wrap.py's, words are cli's, memory is the journal's. Errors leave as the closed set of errors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from launcher.models import Need, Offer, Order, Resource, Traits


@dataclass(frozen=True)
class Check:
    """One thing that must work, and the line that mends it when it does not."""

    name: str
    ok: bool
    detail: str = ""
    fix: str | None = None


class Pausing(Protocol):
    """What a provider can besides whose traits name the verbs."""

    def pause(self, id: str) -> None:
        """Ask for the end of computing; the disk stays. Proves as little as terminate."""

    def unpause(self, id: str) -> None:
        """Ask for another boot on the same disk, without a GPU where that can be had."""


class Billing(Protocol):
    def billed(self, id: str) -> Decimal | None:
        """USD so far by the provider's own books; None = they do not know of it yet."""


class Provider(Protocol):
    name: str
    traits: Traits

    def check(self) -> tuple[Check, ...]:
        """What works and what does not; never raises for a missing engine or key."""

    def offers(self, need: Need) -> tuple[Offer, ...]:
        """What could be rented now. Empty is an answer."""

    def create(self, order: Order) -> Resource:
        """Ask for one instance, labelled in the same call with run, token, owner and end of life.
        With the same token again it either returns the same instance or raises; the caller looks first."""

    def get(self, id: str) -> Resource:
        """The instance as it is now. Raises Gone when the provider does not know it."""

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        """Every resource of ours that is not ended: instances and side objects, of one run or of all."""

    def terminate(self, id: str) -> None:
        """Ask for the end of an instance or side object. Twice is silent. Busy = another must go first.
        Returning proves nothing: only list and get do."""

    def console(self, id: str) -> str:
        """What the authenticated channel holds of the boot so far, maybe nothing."""
