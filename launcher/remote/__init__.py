"""Hosts: from an access (a value) to something that can be talked to."""

from __future__ import annotations

from launcher.models import Access
from launcher.remote.base import Host


def open_host(access: Access) -> Host:
    """The only place where an access becomes a Host; each kind is loaded when it is first met."""
    if access.kind == "process":
        from launcher.remote.process import ProcessHost

        return ProcessHost(access.root)
    if access.kind == "container":
        from launcher.remote.container import ContainerHost

        return ContainerHost(access)
    if access.kind == "ssh":
        from launcher.remote.ssh import SshHost

        return SshHost(access)
    raise ValueError(f"no way to reach a host by {access.kind!r}")
