"""SSH as this house speaks it: pinned, tuned, with a deadline on every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Channel as Channel  # what a session is, for whoever talks over one
