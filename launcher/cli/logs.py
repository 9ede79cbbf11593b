"""logs: what the trainer printed, whole and in order."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import click

from launcher.cli.follow import FINAL, Interrupts
from launcher.cli.here import run_argument, the_run
from launcher.cli.live import Lines
from launcher.errors import Exit
from launcher.report.view import Tail


@click.command("logs")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--raw", is_flag=True, help="The bytes as they were written, escape sequences too.")
def command(run: str | None, follow: bool, raw: bool) -> None:
    """What the trainer printed. Leaving and coming back loses and repeats no line."""
    view = the_run(run)
    tail, lines = Tail(view.folder), Lines()

    def show() -> None:
        while data := tail.read(len(view.state.attempts)):
            if raw:
                sys.stdout.buffer.write(data)
            else:
                for line in lines.feed(data):
                    print(line)
            sys.stdout.flush()

    with Interrupts() as presses:
        while True:
            ended = view.shown(datetime.now(UTC)) in FINAL or not view.engine_alive
            view.refresh()
            show()
            if not follow or ended or presses.count:
                break
            time.sleep(0.2)  # the engine that writes them tells nobody
    if presses.count:
        raise click.exceptions.Exit(Exit.VIEW_LEFT)
    for line in lines.flush():
        print(line)
