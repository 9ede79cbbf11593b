"""The library's transport, whose end is always told in its own words.

Whatever breaks its thread is handed to the caller as it is: after a torn line that is another library's
InvalidTag, after a hostile message a ValueError. For everybody above these are one thing: the line broke.
"""

from __future__ import annotations

from paramiko import Transport
from paramiko.ssh_exception import SSHException


class Line(Transport):
    def get_exception(self) -> Exception | None:
        fault = super().get_exception()
        if fault is None or isinstance(fault, (SSHException, EOFError, OSError)):
            return fault
        broken = SSHException(f"what came over the line makes no sense ({type(fault).__name__})")
        broken.__cause__ = fault
        return broken
