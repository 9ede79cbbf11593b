"""The options of `run`, `plan` and `rerun`, made from the table of settings.

It must not know what a setting means; values travel as they were typed, and settings.py reads them, so that
a flag, a variable and a profile are refused in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from launcher.keys import KEYS, Group, Key, Kind

Command = TypeVar("Command", bound=Callable[..., Any])
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def run_options(command: Command) -> Command:
    """Adds one option per setting that has a flag, in the table's order."""
    for key in reversed([key for key in KEYS.values() if key.flags]):
        command = _option(key)(command)
    return command


def flags(params: Mapping[str, object]) -> dict[str, object]:
    """What `settings.resolve` takes, out of a command's parameters."""
    return {name: value for name, value in params.items() if name in KEYS}


def valued(args: list[str]) -> list[str]:
    """A flag that may stand alone takes the next word only where that is one of its choices."""
    said: list[str] = []
    for at, word in enumerate(args):
        key = next((key for key in KEYS.values() if key.alone and word in key.flags), None)
        after = args[at + 1] if at + 1 < len(args) else None
        said.append(word if key is None or after in key.choices else f"{word}={key.alone}")
    return said


def grouped(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The help page's options under the table's headings; what is not in the table stands last."""
    options = [param for param in ctx.command.get_params(ctx) if isinstance(param, click.Option)]
    told = {param.name: param.get_help_record(ctx) for param in options}
    for group in Group:
        rows = [told.pop(key.name) for key in KEYS.values() if key.group is group and key.name in told]
        _section(formatter, group.value, rows)
    _section(formatter, "Options", list(told.values()))


def _section(formatter: click.HelpFormatter, name: str, rows: list[tuple[str, str] | None]) -> None:
    shown = [row for row in rows if row is not None]
    if shown:
        with formatter.section(name):
            formatter.write_dl(shown)


def _option(key: Key) -> Callable[[Command], Command]:
    help_text = f"{key.help[:-1]} [{_default(key)}]." if _default(key) else key.help
    if key.kind is Kind.BOOL:
        # Three answers: a flag that was left out must not overrule a profile.
        return click.option(*key.flags, key.name, is_flag=True, default=None, help=help_text)
    alone: dict[str, Any] = {"is_flag": False, "flag_value": key.alone} if key.alone else {}
    return click.option(
        *key.flags,
        key.name,
        **alone,
        type=str,
        multiple=key.several,
        metavar=_metavar(key),
        help=help_text,
        shell_complete=_targets if key.name == "on" else _completer(key.choices) if key.choices else None,
    )


def _metavar(key: Key) -> str:
    choices = "|".join(key.choices)
    return f"[{choices}]" if key.alone else choices or key.metavar


def _default(key: Key) -> str:
    from launcher.values import written_duration

    if key.kind is Kind.DURATION and key.default:
        return f"default {written_duration(key.default)}"
    return f"default {key.default}" if key.kind in (Kind.CHOICE, Kind.INT) and key.default is not None else ""


def _targets(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from launcher.cli.here import home
    from launcher.providers import registry

    return [CompletionItem(name) for name in registry.targets(home()) if name.startswith(begun)]


def _completer(choices: tuple[str, ...]) -> Complete:
    def complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(choice) for choice in choices if choice.startswith(begun)]

    return complete
