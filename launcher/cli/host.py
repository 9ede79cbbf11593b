"""host: the user's own machines: whose key is believed, what they have, whether they are free."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import click
from click.shell_completion import CompletionItem

from launcher import together, values
from launcher.cli import show
from launcher.cli.here import home, json_option
from launcher.cli.prog import prog
from launcher.errors import LauncherError, ProviderError, usage
from launcher.hosts import Facts, Holding, HostBook, HostRecord, check_name
from launcher.hostwords import written
from launcher.models import Json, Route
from launcher.report.view import by_age

KIND = "ssh"
CHECK_S = 20.0
CLOCK_OFF_S = 60


def _complete(_c: click.Context, _p: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in HostBook(home()).names() if name.startswith(begun)]


@click.group("host")
def command() -> None:
    """Your own machines: add, list, check, remove. Runs go there with --on ssh:NAME, or ssh:any."""


@command.command()
@click.argument("name")
@click.argument("address", required=False, metavar="[USER@ADDRESS[:PORT]]")
@click.option(
    "--key", "keys", multiple=True, metavar="FILE", help="Private key that lets you in; repeatable."
)
@click.option("--fingerprint", metavar="SHA256:…", help="The host's key, as whoever runs the host told you.")
@click.option(
    "--usd-per-hour", metavar="USD", help="What an hour there costs you, so that plans can compare."
)
@click.option("--via", metavar="HOST", help="Jump host before it: a host you added, an alias, or an address.")
def add(
    name: str,
    address: str | None,
    keys: tuple[str, ...],
    fingerprint: str | None,
    usd_per_hour: str | None,
    via: str | None,
) -> None:
    """Add a machine. Without an address, NAME is an alias of your SSH configuration.

    Its key is believed if known_hosts has it, if you give its fingerprint, or after one yes of yours.
    """
    from launcher.providers import ssh_meeting as meeting

    book = HostBook(home())
    check_name(name)
    price = _price(usd_per_hour)
    way = meeting.route(book, name, address, keys, via, look_up=fingerprint is None)
    flags = [*(("--key", key) for key in keys), ("--via", via), ("--usd-per-hour", usd_per_hour)]
    line = ["host", "add", name, *([address] if address else [])]
    line += [word for flag, value in flags if value for word in (flag, value)]
    if fingerprint is not None:
        way = meeting.with_fingerprint(way, fingerprint, name)
        line += ["--fingerprint", fingerprint]
    elif not way.pins:
        way = _asked(way, line)
    before = book.find(name)
    if before is not None and _where(before.route) != _where(way) and not _same_host(before.route, way):
        _refuse_in_use(name)
    record = HostRecord(name, way, price, origin="host add" if address else f"alias {name}")
    facts = _looked(record, shlex.join(line))
    book.save(replace(record, facts=facts))
    print(f"{name}: {_where(way)} is known now")
    _card(record, facts)
    print(f"run there: {prog()} run --on {KIND}:{name}")


def _price(text: str | None) -> Decimal:
    try:
        return values.money(text, high=1000) if text is not None else Decimal(0)
    except ValueError as fault:
        raise usage("bad-host", f"--usd-per-hour {fault}", hint="host add --help") from None


def _asked(way: Route, line: list[str]) -> Route:
    """The one interactive yes; `line` is what was typed."""
    from launcher.providers import ssh_meeting as meeting
    from launcher.ssh.errors import fingerprint

    key = meeting.shown_key(way)
    kind, print_ = key.split()[0], fingerprint(key)
    look = f"On the host itself it is told by: ssh-keygen -lf /etc/ssh/ssh_host_{_file(kind)}_key.pub"
    if not sys.stdin.isatty():
        raise usage(
            "host-key-unknown",
            f"{_where(way)} shows the key {kind} {print_}, and nothing here says that it is the right one",
            hint=shlex.join([*line, "--fingerprint", print_]),
            details=(
                look,
                "Without a terminal nobody can be asked: give the fingerprint once you compared it.",
            ),
        )
    print(f"{_where(way)} shows the key\n  {kind} {print_}\n{look}", file=sys.stderr)
    click.confirm("Is that its key?", abort=True, err=True)
    return replace(way, pins=(key,))


def _file(kind: str) -> str:
    return kind.removeprefix("ssh-") if kind.startswith("ssh-") else kind.partition("-")[0]


def _damaged(_name: str, fault: LauncherError) -> None:
    show.warning(fault.message)


def _where(way: Route) -> str:
    return written(way.user, way.address, way.port)


def _same_host(one: Route, other: Route) -> bool:
    """By its key: an address is only where it is met."""
    return one.user == other.user and not set(one.pins).isdisjoint(other.pins)


def _looked(record: HostRecord, hint: str) -> Facts:
    """A host that lets us in and can be used; one that does not is not added."""
    from launcher.providers.ssh import SshProvider
    from launcher.providers.ssh_meeting import page

    host = SshProvider(record)
    try:
        return host.facts()
    except ProviderError as e:
        raise page(record, e, hint) from e
    finally:
        host.close()


def _refuse_in_use(name: str) -> None:
    """A run that lives there, or whose results wait there, would be lost sight of."""
    views = by_age(home(), lambda run, e: print(f"warning: {run}: {e.message}", file=sys.stderr))
    for view in views:
        for a in view.state.attempts:
            there = view.plan.choices[a.choice].offer.provider == f"{KIND}:{name}"
            if there and (a.open or (a.kept and view.state.wants_pull)):
                waits = "waits for its results there" if not a.open else "is there"
                raise usage("host-in-use", f"{view.plan.run} {waits}", hint=f"stop {view.plan.run}")


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Every machine, as it was last seen. Asks nobody."""
    records, now = HostBook(home()).all(_damaged), datetime.now(UTC)
    if as_json:
        show.json([_document(record, record.facts) for record in records])
        return
    if not records:
        print(_no_hosts())
        return
    rows = [
        (
            record.name,
            _where(record.route),
            _gpus(record.facts),
            _state(record.facts),
            f"{record.usd_per_hour:.2f}" if record.usd_per_hour else "0",
            f"{_ago(record.facts.at, now)} ago" if record.facts else "never",
            record.origin,
        )
        for record in records
    ]
    show.table(("host", "address", "GPU", "as last seen", "$ per hour", "seen", "from"), rows)


@command.command()
@click.argument("name", required=False, shell_complete=_complete)
@click.option("--all", "everybody", is_flag=True, help="Every machine, side by side.")
@json_option
def check(name: str | None, everybody: bool, as_json: bool) -> None:
    """Ask machines what they have and whether they are free."""
    book = HostBook(home())
    if (name is None) != everybody:
        raise usage("bad-host", "either one host is checked or --all", hint="host check --all")
    records = [book.get(name)] if name is not None else list(book.all(_damaged))
    found = together.ask({record.name: _question(record) for record in records}, CHECK_S)
    for record in records:
        answer = found[record.name]
        if isinstance(answer, Facts):
            book.seen(record.name, answer)
        if not as_json:
            _card(record, answer)
    if not records and not as_json:
        print(_no_hosts())
    if as_json:
        show.json([_document(record, found[record.name]) for record in records])
    faults = [fault for fault in found.values() if isinstance(fault, LauncherError)]
    if len(records) == 1 and faults:
        raise faults[0]
    if faults:
        raise click.exceptions.Exit(max(fault.exit for fault in faults))


def _question(record: HostRecord) -> together.Question[Facts]:
    return lambda: _looked(record, f"host check {record.name}")


@command.command()
@click.argument("name", shell_complete=_complete)
def remove(name: str) -> None:
    """Forget a machine. Nothing is changed there."""
    book = HostBook(home())
    if name not in book.names():
        book.get(name)
    _refuse_in_use(name)
    book.remove(name)
    print(f"{name} is forgotten; what runs kept there lies in its ~/.launcher")


# --- how it is told ---------------------------------------------------------------------------------


def _no_hosts() -> str:
    return f"no hosts yet: {prog()} host add NAME USER@ADDRESS"


def _card(record: HostRecord, answer: object) -> None:
    if not isinstance(answer, Facts):
        words = answer.message if isinstance(answer, LauncherError) else str(answer)
        show.card(
            f"{record.name}: not reached", [("address", _where(record.route)), ("why", words)], good=False
        )
        return
    rows = [
        ("address", _where(record.route)),
        ("GPU", _gpus(answer)),
        ("held by", "\n".join(_holder(one, answer) for one in answer.held)),
        ("memory", _memory(answer)),
        ("driver", answer.driver or ""),
        ("machine", f"{answer.cores} cores, {answer.ram_gb:.0f} GB of memory"),
        ("disk", f"{answer.disk_free_gb:.0f} of {answer.disk_gb:.0f} GB free"),
        ("python", _python(answer)),
        ("docker", answer.docker or "none that answers"),
        ("clock", _clock(answer)),
        ("sessions", "" if answer.leaves_alone else _LINGER),
        ("fault", answer.fault or ""),
    ]
    show.card(f"{record.name}: {_state(answer)}", [(n, t) for n, t in rows if t], good=answer.fault is None)


_LINGER = "systemd ends your processes when you log out (KillUserProcesses=yes); mend: loginctl enable-linger"


def _gpus(facts: Facts | None) -> str:
    if facts is None:
        return "not known"
    if not facts.devices:
        return f"none ({facts.no_gpu})" if facts.no_gpu else "not known"
    names = [device.name for device in facts.devices]
    return ", ".join(f"{names.count(n)}× {n}" if names.count(n) > 1 else n for n in dict.fromkeys(names))


def _memory(facts: Facts) -> str:
    each = zip(facts.devices, facts.free_mb, strict=False)
    told = ((f"{free / 1024:.1f}" if free >= 0 else "?", device.memory_mb / 1024) for device, free in each)
    return ", ".join(f"{free} of {whole:.1f} GiB free" for free, whole in told)


def _holder(one: Holding, facts: Facts) -> str:
    at = next((n for n, device in enumerate(facts.devices) if device.uuid == one.uuid), None)
    where = f"GPU {at}: " if at is not None else ""
    if one.run:
        return f"{where}{one.user}, run {one.run}"
    if one.pid is None:
        return f"{where}{one.user}, by its lease alone"
    memory = f", {one.used_mb / 1024:.1f} GiB" if one.used_mb is not None else ""
    return f"{where}{one.user}, process {one.pid}{memory}"


def _state(facts: Facts | None) -> str:
    if facts is None:
        return "not known"
    if facts.fault:
        return "cannot be used"
    if not facts.devices:
        return "free"
    if len(facts.devices) == 1:
        return "busy" if facts.busy else "free"
    return f"{len(facts.free)} of {len(facts.devices)} free"


def _python(facts: Facts) -> str:
    ways = [word for word, there in (("venv and pip", facts.makes_envs), ("uv", facts.uv)) if there]
    makes = (
        f"environments by {' or '.join(ways)}"
        if ways
        else "makes no environments: install python3-venv, or uv"
    )
    return f"{facts.python}; {makes}"


def _clock(facts: Facts) -> str:
    if abs(facts.skew_s) < CLOCK_OFF_S:
        return "agrees with ours"
    off = values.written_duration(round(abs(facts.skew_s) / 60) * 60)
    return f"{off} {'ahead of' if facts.skew_s > 0 else 'behind'} ours"


def _ago(at: datetime, now: datetime) -> str:
    return values.written_duration(max(0, int((now - at).total_seconds())) // 60 * 60) if now > at else "0s"


def _document(record: HostRecord, answer: object) -> Json:
    facts = answer if isinstance(answer, Facts) else None
    return {
        "name": record.name,
        "target": f"{KIND}:{record.name}",
        "address": _where(record.route),
        "usd_per_hour": record.usd_per_hour,
        "from": record.origin,
        "state": _state(facts),
        "fault": answer.message if isinstance(answer, LauncherError) else (facts.fault if facts else None),
        "checked": facts.at if facts else None,
        "gpus": [
            {
                "name": device.name,
                "uuid": device.uuid,
                "memory_mb": device.memory_mb,
                "held_by": [_holder(one, facts) for one in facts.held if one.uuid == device.uuid],
            }
            for device in facts.devices
        ]
        if facts
        else [],
        **({name: getattr(facts, name) for name in _TOLD} if facts else {}),
    }


_TOLD = (
    "driver",
    "cores",
    "ram_gb",
    "disk_gb",
    "disk_free_gb",
    "python",
    "makes_envs",
    "uv",
    "docker",
    "skew_s",
)
