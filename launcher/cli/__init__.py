"""The command line: thin files, one a command, loaded when it is called. Only here is anything printed or
exited. `--help` imports no command: names and one-line helps stand in the table below.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

import click

from launcher import __version__
from launcher.errors import Exit, LauncherError, ProviderError

COMMANDS = {
    "run": "Train: plan, price, consent, rent, push, train, watch, fetch, end the machine.",
    "plan": "What `run` with the same words would do and cost. Spends nothing.",
    "ps": "Every run, what it costs, and what still bills.",
    "status": "One run: state, device, progress, guard.",
    "logs": "What the trainer printed; -f follows.",
    "watch": "The live view: progress, device, dollars, end.",
    "stop": "Checkpoint, fetch, end. --now skips the fetch.",
    "resume": "Go on after a dead engine or machine.",
    "extend": "More time or a higher ceiling.",
    "pull": "Fetch results, or checkpoints of a live run, now.",
    "rerun": "The same as a new run, perhaps elsewhere.",
    "ssh": "A shell, or one command, on the run's machine.",
    "ssh-config": "The run's machine for ssh, scp, rsync and editors, by the run's name.",
    "open": "Jupyter, TensorBoard or any port of the run's machine, here.",
    "host": "Your own machines: add, list, check, remove.",
    "prices": "What the price list knows of each target, and since when; refresh.",
    "models": "Versions: list, show, diff, verify, promote, report.",
    "doctor": "What works here, and the line that mends what does not.",
    "config": "Every setting with its origin; the schema for editors.",
}
COMPLETE = "_LAUNCHER_COMPLETE"  # the variable by which a shell asks, whatever we were called
QUIET = ("ps", "config", "watch", "resume")  # they say it themselves, or need not


def module(name: str) -> str:
    """Where a command is."""
    return f"launcher.cli.{name.replace('-', '_')}"


class ReaderLeft(Exception):
    """Whoever read our output went away."""


class Lazy(click.Group):
    """Placeholders until a command is called: suggestions and completion work, imports do not happen."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, line in COMMANDS.items():
            self.commands[name] = click.Command(name, help=line, short_help=line)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None and name in COMMANDS:
            command = import_module(module(name)).command
            if name not in QUIET and not ctx.resilient_parsing and not {"-h", "--help"} & set(rest):
                from launcher.cli.notice import notice

                notice()
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as e:
            raise ReaderLeft from e  # click would end with 1, which means a mistake of ours

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help(ctx, formatter)
        with formatter.section("Exit status"):
            formatter.write_text(
                "0 done · 1 our bug · 2 usage or profile · 3 keys · 4 nothing suitable to rent · "
                "5 provider · 6 unreachable · 7 trainer failed · 8 stopped by a limit or by you · "
                "9 may still be billing · 130 view left"
            )


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="launcher")
def group() -> None:
    """Rent a GPU machine with one command, train, bring verified artifacts home, leave nothing running.

    `run` without a target trains on this machine and never costs anything.
    """


def main() -> None:
    """The one place that turns what was raised into a status."""
    gc.set_threshold(50_000)  # what is loaded stays: looking for what may go takes a twentieth of `ps`
    sys.exit(_said(_main()))


def _said(status: int) -> int:
    """What stands in our buffers goes out now: at the interpreter's end a reader that went away, or a full
    disk, would put another status in place of ours."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError as e:
            _silence(stream)
            if stream is sys.stdout and status == Exit.DONE:
                status = Exit.VIEW_LEFT if isinstance(e, BrokenPipeError) else Exit.USAGE
    return status


def _tell(error: LauncherError) -> None:
    import launcher.cli.show as show

    if sys.stderr is None:  # closed before we began
        return
    with suppress(OSError):  # nobody reads it: the status says it still
        show.error(error)


def _silence(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _main() -> int:
    from launcher.cli.prog import prog

    try:
        outcome = group.main(prog_name=prog(), complete_var=COMPLETE, standalone_mode=False)
        return int(outcome) if isinstance(outcome, int) else 0
    except click.exceptions.Abort:
        print("aborted", file=sys.stderr)
        return Exit.VIEW_LEFT
    except click.ClickException as e:
        e.show()
        return Exit.USAGE
    except click.exceptions.Exit as e:
        return e.exit_code
    except KeyboardInterrupt:
        return Exit.VIEW_LEFT
    except ReaderLeft:
        return Exit.VIEW_LEFT  # whatever we looked at goes on: that is no "done"
    except LauncherError as e:
        _tell(e)
        return e.exit
    except ProviderError as e:
        _tell(LauncherError("provider", e.reason, exit=e.exit, hint="doctor"))
        return e.exit
    except Exception as e:
        return _our_bug(e)


def _our_bug(e: Exception) -> int:
    """No traceback in a user's face: it goes to a file, and the page says where."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="launcher-bug-", suffix=".txt", delete=False) as f:
        traceback.print_exception(e, file=f)
    _tell(
        LauncherError(
            "internal",
            f"this is our own mistake: {type(e).__name__}: {e}",
            exit=Exit.BUG,
            details=(f"the full story is in {f.name}",),
            hint="ps",
            billed="see ps: every machine ends itself at its deadline",
        )
    )
    return Exit.BUG
