"""Who a rented machine is: the key that its first words told over the provider's authenticated channel.

uses: an access whose host key is announced
produces: pinned (which boot of the machine has which key), before any socket is opened
"""

from __future__ import annotations

import re
from dataclasses import replace

from launcher.models import Access, Resource
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.world import World

_LINE = r"^launcher host-key {token} (ssh-ed25519 [A-Za-z0-9+/]+=*)\s*$"


def announced(console: str, token: str) -> str | None:
    """The newest boot's key, told together with what only this order knows."""
    found = re.findall(_LINE.format(token=re.escape(token)), console, re.MULTILINE)
    return str(found[-1]) if found else None


def trusted(w: World, a: Attempt, provider: Provider, resource: Resource, *, again: bool) -> Access | None:
    """The access with the key to believe and the key to show; None = it has not said yet who it is. With
    `again` what was believed of this boot is in doubt: its words may have been an earlier boot's."""
    access = resource.access
    if access is None or access.route is None or access.host_key != "announce":
        return access
    boot = resource.boot or ""
    key = a.pinned[1] if a.pinned is not None and a.pinned[0] == boot and not again else None
    if key is None:
        key = announced(provider.console(resource.id), a.token)
        if key is None:
            return None
        if a.pinned != (boot, key):
            w.drop_hosts()
            w.about(a, "pinned", instance=resource.id, boot_id=boot, key=key)
    private, _ = w.run_key()
    return replace(access, route=replace(access.route, keys=(private,), pins=(key,)))
