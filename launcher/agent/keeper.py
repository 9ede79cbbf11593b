"""A second process above the agent, for the moment in which somebody kills it.

The trainer dies with the agent, what it started need not: a child that left its session and cleared its
environment would belong to nobody. Here it comes to the keeper, which ends all of it and follows the agent in
the same way. The keeper does nothing else; killed itself, it leaves the agent as it was. The first process of
a container needs none: its end is everybody's. Knows processes only.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from .tree import Tree, is_marked

BURY_S = 10.0  # what cannot be killed for so long keeps nobody


def keep(token: str) -> None:
    """Returns in the process that is to be the agent."""
    if os.getpid() == 1 or is_marked(1, token):
        return
    tree = Tree(token)
    if tree.adopt_orphans() is not None:
        return
    agent = os.fork()
    if agent == 0:
        return
    for number in (signal.SIGTERM, signal.SIGINT):  # meant for whoever knows what to save
        signal.signal(number, lambda got, _: os.kill(agent, got))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _follow(_awaited(agent), tree)


def _awaited(agent: int) -> int:
    """How it ended. Orphans that end before it are buried on the way."""
    while True:
        pid, status = os.wait()
        if pid == agent:
            return status


def _follow(status: int, tree: Tree) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    until = time.monotonic() + BURY_S
    while not tree.kill() and time.monotonic() < until:
        tree.reap()
        time.sleep(0.01)  # the kernel takes its time to end what was killed
    if os.WIFSIGNALED(status):
        with suppress(OSError):  # nobody may be listening
            os.write(1, f"launcher keeper: signal {os.WTERMSIG(status)} ended the agent\n".encode())
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
