"""Hosts: from an access (a value) to something that can be talked to."""

from __future__ import annotations

from launcher.models import Access
from launcher.remote.base import Host, Tick


def open_host(access: Access, tick: Tick = lambda: None) -> Host:
    """The only place where an access becomes a Host; each kind is loaded when it is first met. `tick` is let
    in where a far machine keeps us waiting."""
    if access.kind == "process":
        from launcher.remote.process import ProcessHost

        return ProcessHost(access.root)
    if access.kind == "container":
        from launcher.remote.container import ContainerHost

        return ContainerHost(access)
    if access.kind == "ssh":
        from launcher.remote.ssh import SshHost

        return SshHost(access, tick)
    raise ValueError(f"no way to reach a host by {access.kind!r}")
