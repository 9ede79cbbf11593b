"""open: a program beside a run, or any port of its machine, at a port of ours."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import psutil
from click.shell_completion import CompletionItem

from launcher import attend
from launcher.cli import show
from launcher.cli.follow import Interrupts
from launcher.cli.here import home, json_option, project
from launcher.cli.live import Lines, harmless
from launcher.cli.machine import Machine, machine, over, reached
from launcher.errors import Exit, HostError, HostUnreachable, LauncherError, usage
from launcher.remote.base import Host
from launcher.remote.process import ProcessHost
from launcher.remote.tunnel import Tunnel
from launcher.report import versions
from launcher.report.view import RunView, find
from launcher.store import Versions

PROGRAMS = ("jupyter", "tensorboard")
LOOK_S = 0.2  # neither a run nor a program far away tells of its end
ASK_S = 5.0


class Left(Exception):
    """The person went away."""


def _complete(ctx: click.Context, _p: click.Parameter, begun: str) -> list[CompletionItem]:
    words = [*(home().names() if not ctx.params.get("words") else ()), *PROGRAMS]
    return [CompletionItem(word) for word in words if word.startswith(begun)]


@click.command("open")
@click.argument("words", nargs=-1, metavar="[RUN] jupyter|tensorboard|PORT", shell_complete=_complete)
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="LOCAL", help="The port here; else a free one."
)
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
@json_option
def command(words: tuple[str, ...], port: int | None, no_browser: bool, as_json: bool) -> None:
    """Jupyter, TensorBoard or any port of the run's machine, at a port here, until Ctrl-C or the run's end.

    RUN may also be a finished run or a version: `open VERSION tensorboard` shows its curves on this machine.
    """
    name, what = _meant(words)
    shown = partial(_shown, browser=not (no_browser or as_json), as_json=as_json)
    with Interrupts() as presses:

        def tick() -> None:
            if presses.count:
                raise Left

        try:
            view = _live(name)
            if view is not None:
                _beside(machine(view), what, port or 0, tick, shown)
            elif what == "tensorboard":
                _finished(name, port or 0, tick, shown)
            else:
                _no_machine(name, what)
        except Left:
            raise click.exceptions.Exit(Exit.VIEW_LEFT) from None


def _meant(words: tuple[str, ...]) -> tuple[str | None, str]:
    name, what = (None, *words) if len(words) == 1 else words if len(words) == 2 else (None, "")
    assert what is not None
    if what not in PROGRAMS and not (what.isdecimal() and 0 < int(what) < 65536):
        raise usage(
            "open-what",
            f"what is to be opened: {', '.join(PROGRAMS)} or a port" + (f", not {what!r}" if what else ""),
            hint="open RUN tensorboard",
        )
    return name, what


def _live(name: str | None) -> RunView | None:
    """The run that is meant, unless it is over or the name is a version's."""
    try:
        view = find(home(), name, project())
    except LauncherError as e:
        if e.code in ("unknown-run", "no-run") and versions.all_of(Versions(project())):
            return None
        raise
    ended = view.state.ended is not None and view.state.version is not None
    return None if ended else view


def _no_machine(name: str | None, what: str) -> None:
    try:
        machine(find(home(), name, project()))
    except LauncherError as e:
        if e.code != "unknown-run":
            raise
    label, folder = _version(name)
    raise usage(
        "not-on-a-version",
        f"{what} needs a machine, and {label} is a version: files here",
        hint=versions.look(label, folder),
    )


# --- on the run's machine ------------------------------------------------------------------------


def _beside(m: Machine, what: str, port: int, tick: Callable[[], None], shown: Callable[..., None]) -> None:
    run = m.view.plan.run
    with reached(m) as host:
        place, program, far, path = None, None, 0, ""
        if what.isdecimal():
            far = int(what)
            _looked(host, far)
        else:
            place, program = _place(m, host), _program(m, what)
            there = attend.begun(place, program, _telling(what, place.where), _until(m, tick))
            far, path = there.port, program.page.format(secret=there.secret)
            if there.reused:
                print(f"{what} runs there already and is used again", file=sys.stderr)
        with _tunnel(host, far, port) as tunnel:
            shown(run, what, tunnel.port, path, far)
            _look(m, tick, tunnel, place, program)
    print(f"{run} has ended, and {what} with it", file=sys.stderr)


def _looked(host: Host, far: int) -> None:
    """Whoever waits before an empty page shall know why; what listens only later is led here all the same."""
    try:
        host.connect(far).close()
    except HostUnreachable:
        raise
    except HostError as e:
        show.warning(f"{e}; it may still come")


def _look(
    m: Machine,
    tick: Callable[[], None],
    tunnel: Tunnel,
    place: attend.Place | None,
    program: attend.Program | None,
) -> None:
    """Until the run's end. A program that is gone before has a reason of its own."""
    asked, told = time.monotonic(), 0
    while not over(m.view):
        tick()
        told = _troubles(tunnel, told)
        time.sleep(LOOK_S)
        if place is None or program is None or time.monotonic() - asked < ASK_S:
            continue
        asked = time.monotonic()
        if attend.running(place, program) is None and not _ends_too(m, tick):
            raise attend.gone(place, program.name)


def _ends_too(m: Machine, tick: Callable[[], None]) -> bool:
    """A run's programs end a moment before it is known to have ended."""
    until = time.monotonic() + ASK_S
    while not over(m.view):
        tick()
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


def _until(m: Machine, tick: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        tick()
        if over(m.view):
            machine(m.view)

    return both


def _program(m: Machine, what: str) -> attend.Program:
    if what == "tensorboard":
        return attend.tensorboard(m.output)
    return attend.jupyter(m.folder, f"{m.access.root}/{attend.FOLDER}", m.view.plan.run)


def _place(m: Machine, host: Host) -> attend.Place:
    agent = m.agent()
    return attend.Place(
        host=host,
        python=m.python,
        pythons=attend.interpreters(m.prepared(), m.view.plan.job.argv),
        make=(m.python, "-I", f"{m.access.root}/agent.pyz", "env"),
        into=m.envs(home()),
        cwd=m.folder,
        env=m.env,
        mark=m.attempt.token,
        lives_with=agent,
        ends_at=None if agent is not None else m.attempt.d.timestamp(),
    )


def _telling(what: str, where: str) -> attend.Telling:
    lines = Lines()

    def making(of: str) -> None:
        print(
            f"the job's own Python on {where} has no {what}: an environment of {of} serves it, made now"
            " unless it is there already",
            file=sys.stderr,
        )

    def line(data: bytes) -> None:
        for text in lines.feed(data):
            print(f"  {text}", file=sys.stderr, flush=True)

    return attend.Telling(making, line)


@contextmanager
def _tunnel(host: Host, far: int, port: int) -> Iterator[Tunnel]:
    try:
        tunnel = Tunnel(partial(host.connect, far), port)
    except OSError as e:
        raise _taken(port, e) from e
    with tunnel:
        yield tunnel


def _taken(port: int, e: OSError) -> LauncherError:
    return usage(
        "port-taken",
        f"port {port} of this machine cannot be used: {e.strerror}",
        hint="open    without --port takes a free one",
    )


def _troubles(tunnel: Tunnel, told: int) -> int:
    """Each reason once in a row: a browser that tries again and again says it no oftener."""
    for text in list(tunnel.troubles)[told:]:
        show.warning(text)
    if len(tunnel.troubles) > 1:
        last = tunnel.troubles[-1]
        tunnel.troubles.clear()
        tunnel.troubles.append(last)
    return len(tunnel.troubles)


# --- a finished version, here --------------------------------------------------------------------


def _finished(name: str | None, port: int, tick: Callable[[], None], shown: Callable[..., None]) -> None:
    label, folder = _version(name)
    if not versions.has_events(folder):
        raise usage(
            "no-events",
            f"{label} holds no TensorBoard events",
            hint=f"models report {label}",
            details=("Its curves, if it wrote metrics.jsonl, stand in its report.",),
        )
    own = _own_folder(home().boards)
    try:
        me = attend.Place(
            host=ProcessHost(str(own)),
            python=sys.executable,
            pythons=("python3", "python", sys.executable),
            make=(sys.executable, "-I", "-m", "launcher.agent", "env"),
            into=str(home().envs),
            cwd=str(folder),
            env={},
            lives_with=os.getpid(),
            where="this machine",
        )
        program = attend.tensorboard(str(folder))
        there = attend.begun(me, program, _telling("tensorboard", me.where), tick, port=port)
        shown(label, "tensorboard", there.port, program.page.format(secret=there.secret), there.port)
        while attend.answers(me.host, there.port):
            until = time.monotonic() + ASK_S
            while time.monotonic() < until:
                tick()
                time.sleep(LOOK_S)
        print("tensorboard has ended", file=sys.stderr)
    finally:
        _remove(own)


def _version(name: str | None) -> tuple[str, Path]:
    """By run or by version."""
    try:
        view = find(home(), name, project())
    except LauncherError as e:
        if e.code not in ("unknown-run", "no-run"):
            raise
        v = versions.find(Versions(project()), name)
        return v.name, v.path
    assert view.state.version is not None and view.state.version_path is not None
    return view.state.version, Path(view.state.version_path)


def _own_folder(boards: Path) -> Path:
    """Named after us, so that what a killed command left can be told from what is looked at now."""
    boards.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in boards.iterdir():
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            _remove(left)
    own = boards / f"{os.getpid()}-{secrets.token_hex(4)}"
    own.mkdir(mode=0o700)
    return own


def _remove(own: Path) -> None:
    """The program sees our end and goes; what it still writes goes with the next one."""
    shutil.rmtree(own, ignore_errors=True)


# --- words ---------------------------------------------------------------------------------------


def _shown(run: str, what: str, port: int, path: str, far: int, *, browser: bool, as_json: bool) -> None:
    url = f"http://127.0.0.1:{port}/{path}"
    if as_json:
        show.json({"run": run, "what": what, "url": url, "port": port, "there": far})
    else:
        print(url)
        print(f"{harmless(what)} of {harmless(run)}, port {far} there; Ctrl-C leaves", file=sys.stderr)
    sys.stdout.flush()
    if browser and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(url)
