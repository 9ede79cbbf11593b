"""The pages that are made: docs/cli.md from the commands, docs/settings.md from the table of settings,
docs/lab.md from what bench/ measured. A test holds them equal to what is committed.

    python -m tests.docs.generated        writes them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from launcher.cli import COMMANDS, group, module
from launcher.errors import Exit
from launcher.keys import KEYS, Group, Key, Kind
from launcher.values import written_duration

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"

STATUSES = {
    Exit.DONE: "done",
    Exit.BUG: "our own bug",
    Exit.USAGE: "usage, or a profile with faults",
    Exit.KEYS: "keys refused or missing",
    Exit.NO_OFFER: "nothing suitable to rent",
    Exit.PROVIDER: "a provider, or what lies on disk, is at fault",
    Exit.UNREACHABLE: "unreachable",
    Exit.TRAINER: "the trainer failed",
    Exit.LIMIT: "ended by a limit, or stopped by a person",
    Exit.MAYBE_BILLING: "something may still be billing; beats every other status",
    Exit.VIEW_LEFT: "you left the view; the run goes on",
}


def cli_page() -> str:
    """Every command with its arguments and options, the statuses, and the JSON documents."""
    out = ["# Commands", "", f"Made from the commands themselves by `{_us()}`; do not edit.", ""]
    out += ["| command | |", "|---|---|"]
    out += [f"| [`{name}`](#{name}) | {_cell(line)} |" for name, line in COMMANDS.items()]
    out += ["", "RUN is a run's name or any unique beginning of it; left out, it is the newest run of this"]
    out += ["folder (`stop` asks first). What stands after `--` is the trainer's, unchanged.", ""]
    out += [
        "Commands, options and runs are completed by bash, zsh and fish once the shell has read this (zsh:"
    ]
    out += ["`zsh_source`, fish: `fish_source`); for good, with the path you type, in its start-up file:"]
    out += ["", "```sh", 'eval "$(_LAUNCHER_COMPLETE=bash_source ./launch)"', "```", ""]
    for name in COMMANDS:
        command = import_module(module(name)).command
        out += _command(command, name, click.Context(group, info_name="launcher"), "##")
    out += ["## Exit statuses", "", "| status | |", "|---|---|"]
    out += [f"| {int(status)} | {text} |" for status, text in STATUSES.items()]
    return "\n".join([*out, "", (HERE / "json.md").read_text()])


def _command(command: click.Command, path: str, above: click.Context, level: str) -> Iterator[str]:
    context = command.context_class(command, info_name=command.name, parent=above)
    yield from (f"{level} {path}", "", " ".join((command.help or "").split()), "")
    yield from ("```text", " ".join([f"launcher {path}", *command.collect_usage_pieces(context)]), "```", "")
    options = [p for p in command.get_params(context) if isinstance(p, click.Option) and "-h" not in p.opts]
    if options:
        yield from ("| option | |", "|---|---|")
        yield from (_option(one, context) for one in options)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, f"{path} {name}", context, "###")


def _option(option: click.Option, context: click.Context) -> str:
    words = ", ".join(sorted(option.opts, key=len, reverse=True))
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    return f"| `{_cell(words + value)}` | {_cell(option.help or '')} |"


def settings_page() -> str:
    out = ["# Settings", "", f"Made from the table of settings by `{_us()}`; do not edit.", ""]
    out += [(HERE / "settings_head.md").read_text()]
    for section in Group:
        rows = [key for key in KEYS.values() if key.group is section]
        out += [f"## {section.value}", "", "| key | flag | value | default | |", "|---|---|---|---|---|"]
        out += [*map(_setting, rows), ""]
    return "\n".join([*out, (HERE / "settings_tail.md").read_text()])


def _setting(key: Key) -> str:
    flags = " ".join(f"`{flag}`" for flag in key.flags) or "–"
    name = f"`{key.name}`" if key.in_profile else f"`{key.name}` ¹"
    return f"| {name} | {flags} | {_cell(_values(key))} | {_default(key)} | {_cell(key.help)} |"


def _values(key: Key) -> str:
    if key.choices:
        return ", ".join(key.choices)
    if key.high is None:
        return key.kind.value
    if key.kind is Kind.MONEY:  # a lower bound of money only means that nothing is too little
        return f"{'above $0' if key.low else '$0'} to ${key.high}"
    word = written_duration if key.kind is Kind.DURATION else str
    return f"{key.kind.value}, {word(key.low or 0)} to {word(key.high)}"


def _default(key: Key) -> str:
    if key.default in (None, (), {}):
        return "–"
    if key.kind is Kind.DURATION:
        return written_duration(key.default)
    return str(key.default).lower() if key.kind is Kind.BOOL else str(key.default)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _us() -> str:
    return "python -m tests.docs.generated"


def lab_page() -> str:
    """Only what lies in bench/results, with its command."""
    out = [
        "# Lab",
        "",
        f"The figures are made from `bench/results/` by `{_us()}`; do not edit them here. Medians.",
        "",
    ]
    for file in sorted((DOCS.parent / "bench" / "results").glob("*.json")):
        found = json.loads(file.read_text())
        machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found["machine"].items())
        out += [f"## {file.stem.replace('_', ' ').capitalize()}", ""]
        out += [f"`{found['command']}` on {found['date'][:10]}; {machine}.", ""]
        out += ["| | measured | bound |", "|---|---|---|"]
        bounds = found.get("bounds", {})
        out += [
            f"| {_cell(name)} | {value} | {bounds.get(name, '–')} |"
            for name, value in found["figures"].items()
        ]
        out += [""]
    return "\n".join([*out, (HERE / "lab_tail.md").read_text()])


PAGES = {"cli.md": cli_page, "settings.md": settings_page, "lab.md": lab_page}


def main() -> int:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
