"""`python3 agent.pyz TOKEN` is the agent; `python3 agent.pyz env …` makes an environment."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.argv[1] == "env":
        from .envs import main as make_environment

        sys.exit(make_environment(sys.argv[2:]))
    from .main import run

    os._exit(run(sys.argv[1]))  # a thread that hangs in a driver must not keep the machine


if __name__ == "__main__":
    main()
