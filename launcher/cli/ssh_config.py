"""ssh-config: the run's machine under the run's name for everything that speaks SSH."""

from __future__ import annotations

import sys

import click

from launcher import sshfiles
from launcher.cli import show
from launcher.cli.here import home, json_option, run_argument, the_run
from launcher.cli.machine import Machine, machine, unreachable
from launcher.cli.prog import prog
from launcher.errors import usage


@click.command("ssh-config")
@run_argument
@click.option(
    "--print", "printed", is_flag=True, help="The block itself on stdout, to be put where you like."
)
@json_option
def command(run: str | None, printed: bool, as_json: bool) -> None:
    """Write an include file for the ssh client: its alias is the run's name, and it is gone with the run."""
    m = machine(the_run(run))
    route = m.access.route
    if m.access.kind != "ssh":
        raise _no_ssh(m)
    if route is None:
        raise unreachable(m, "nothing is known of the way to it")
    place, name = home(), m.view.plan.run
    file, line = sshfiles.offer(place, m.view.folder, route), sshfiles.include(place)
    text = file.read_text()
    if m.access.container is not None:
        print(
            f"{name} lives in the container {m.access.container} there; the alias leads to the host itself, "
            f"where its files are. Inside: {prog()} ssh {name}",
            file=sys.stderr,
        )
    if as_json:
        show.json({"run": name, "host": name, "file": str(file), "include": line, "block": text})
    elif printed:
        print(text, end="")
    else:
        print(line)
        print(
            f"Once, as the first line of ~/.ssh/config. Then, until the run has ended:\n"
            f"  ssh {name}    scp {name}:…    rsync -a {name}:…    an editor's SSH host {name}\n"
            f"  the run's folder there: {m.folder}",
            file=sys.stderr,
        )


def _no_ssh(m: Machine) -> Exception:
    name = m.view.plan.run
    where = "this machine" if m.access.kind == "process" else "a container of the engine"
    return usage(
        "no-ssh-there",
        f"{name} runs on {where}: nothing there speaks SSH",
        hint=f"ssh {name}",
        details=(
            f"For files: {m.folder}"
            if m.access.kind == "process"
            else f"For files: docker cp {m.access.address}:{m.folder} .   Editors attach to the container.",
            f"For a port: {prog()} open {name} PORT",
        ),
    )
