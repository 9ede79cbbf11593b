"""A host of the user's own, as tests of its provider use it: something is begun there, and all is ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from launcher.errors import ProviderError
from launcher.hosts import HostRecord
from launcher.models import Need, Order, Resource, Route, Runtime, RuntimeKind
from launcher.providers.ssh import SshProvider
from tests.contract.conftest import GUARD, OWNER, eventually
from tests.hosts.boxes import Box


def provider(box: Box, route: Route | None = None) -> SshProvider:
    return SshProvider(HostRecord("box", route or box.route))


def clear(host: SshProvider) -> None:
    def nothing() -> bool:
        left = host.list()
        for resource in sorted(left, key=lambda r: r.kind != "instance"):
            try:
                host.terminate(resource.id)
            except ProviderError:
                continue
        return not left

    eventually(nothing)


def order(host: SshProvider, guard: str = GUARD, **changes: Any) -> Order:
    made = Order(
        run=f"own-{token_hex(3)}",
        attempt=1,
        token=token_hex(16),
        owner=OWNER,
        offer=host.offers(Need())[0],
        runtime=Runtime(RuntimeKind.ENV, None, "a test"),
        need=Need(),
        ends_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60),
        ends_in_s=60,
        boot_limit_s=60,
        hold_s=5,
        folder="/not/used",
        boot_guard=guard,
    )
    return replace(made, **changes)


def begun(host: SshProvider, wish: Order) -> Resource:
    made = host.create(wish)
    eventually(lambda: wish.token in host.console(made.id))
    return made
