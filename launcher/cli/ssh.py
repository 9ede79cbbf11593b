"""ssh: a shell, or one command, on the run's machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from launcher import sshfiles
from launcher.cli.asking import Dashed, after_dashes
from launcher.cli.here import run_argument, the_run
from launcher.cli.machine import Machine, machine, unreachable
from launcher.errors import HostError, usage
from launcher.remote.inside import entering
from launcher.ssh.quoting import line

SHELL = 'exec "${SHELL:-$(command -v bash || command -v sh)}"'


class Led(Dashed):
    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*click.Command.collect_usage_pieces(self, ctx), "[-- CMD]"]


@click.command("ssh", cls=Led)
@run_argument
@click.option("-t", "--tty", is_flag=True, help="A terminal for the command, too: it draws or asks.")
def command(run: str | None, tty: bool) -> None:
    """A shell where the run lives, in its project folder; or CMD, whose exit status becomes ours."""
    m, words = machine(the_run(run)), after_dashes()
    tty = (tty or not words) and sys.stdin.isatty() and sys.stdout.isatty()
    if m.access.kind == "process":
        _here(m, words)
    elif m.access.kind == "container":
        raise click.exceptions.Exit(_in_container(m, words, tty))
    _by_ssh(m, words, tty)


def _here(m: Machine, words: Sequence[str]) -> None:
    """This machine: the shell takes our place."""
    argv = list(words) or [os.environ.get("SHELL") or "/bin/sh"]
    _become(m, argv, {**os.environ, **m.env}, m.folder)


def _by_ssh(m: Machine, words: Sequence[str], tty: bool) -> None:
    if m.access.route is None:
        raise unreachable(m, "nothing is known of the way to it")
    if shutil.which("ssh") is None:
        raise usage(
            "no-ssh-client",
            "there is no ssh client on this machine",
            hint=f"open {m.view.plan.run} jupyter    has a terminal and needs none",
            details=("Debian, Ubuntu: apt-get install openssh-client",),
        )
    config = sshfiles.write(m.view.folder, m.access.route)
    env = [f"{name}={value}" for name, value in m.env.items()]
    there = list(words) or ["sh", "-c", SHELL]
    # The shell over there reads one line again: it goes to the folder, which may be gone, then on.
    far = line(["cd", m.folder]) + b" && exec " + line(["env", *env, *there])
    if m.access.container is not None:
        far = b"exec " + line(entering(m.access.container, ["sh", "-c", os.fsdecode(far)], tty=tty))
    argv = [
        "ssh",
        "-F",
        str(config),
        *(["-t"] if tty else ["-T"]),
        "--",
        m.view.folder.name,
        os.fsdecode(far),
    ]
    _become(m, argv, dict(os.environ), os.getcwd())


def _become(m: Machine, argv: Sequence[str], env: dict[str, str], cwd: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), env)  # noqa: S606 - a list of words, no shell reads them
    except OSError as e:
        if not os.path.isdir(cwd):
            raise unreachable(m, f"its folder {cwd} is gone") from e
        print(f"{argv[0]}: {e.strerror}", file=sys.stderr)
        raise click.exceptions.Exit(127 if isinstance(e, FileNotFoundError) else 126) from e


def _in_container(m: Machine, words: Sequence[str], tty: bool) -> int:
    from launcher.remote.shell import ContainerShell

    # Through a shell of theirs, for what one says of a command that is not there.
    argv = ["sh", "-c", 'exec "$@"', "sh", *words] if words else ["sh", "-c", SHELL]
    env = {**m.env, "TERM": os.environ.get("TERM", "xterm")} if tty else m.env
    shell = ContainerShell(m.access, argv, m.folder, env)
    streams = (sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno())
    sys.stdout.flush()
    try:
        if not tty:
            return shell.run(*streams)
        with _raw(streams[0]):
            return shell.run(*streams, size=lambda: os.get_terminal_size(streams[1]))
    except HostError as e:
        raise unreachable(m, str(e)) from e


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too; given back as it was found."""
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead stays
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
