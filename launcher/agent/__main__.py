"""`python3 agent.pyz TOKEN` is the agent; `python3 agent.pyz env …` makes an environment; `python3 agent.pyz
list OUTPUT FILE`, in the spool of one that was killed, lists what its trainer had written."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.argv[1] == "env":
        from .envs import main as make_environment

        sys.exit(make_environment(sys.argv[2:]))
    if sys.argv[1] == "list":
        from .seal import main as make_list

        sys.exit(make_list(sys.argv[2:]))
    from .main import run

    os._exit(run(sys.argv[1]))  # a thread that hangs in a driver must not keep the machine


if __name__ == "__main__":
    main()
