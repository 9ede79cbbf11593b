"""`python -m launcher`: the command line, started."""

from launcher.cli import main

main()
