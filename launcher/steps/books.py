"""What a machine cost by its provider's own books, asked once when all is over.

uses: attempts that are gone
produces: billed, where the books answer; they lag, so it is a figure so far
"""

from __future__ import annotations

from typing import cast

from launcher.errors import ProviderError
from launcher.providers.base import Billing
from launcher.world import World


def reconcile(w: World) -> None:
    for a in w.state.attempts:
        if a.instance is None or a.open or a.asleep or a.billed_usd is not None:
            continue
        provider = w.provider(a.choice)
        if "billed" not in provider.traits.verbs:
            continue
        try:
            usd = cast(Billing, provider).billed(a.instance)
        except ProviderError:
            continue  # no end waits for a bill
        if usd is not None:
            w.about(a, "billed", usd=usd, counted_usd=a.cost(w.clock.now()))
