"""What a person typed to begin a run, kept beside the plan so that `rerun` can say it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.cli.options import flags
from launcher.keys import KEYS


@dataclass(frozen=True)
class Words:
    trainer: str | None
    command: tuple[str, ...]
    flags: dict[str, Any]
    cwd: str = field(default_factory=os.getcwd)


# What belongs to the place or to the moment, not to the work.
ELSEWHERE = frozenset(
    ("on", "gpu", "project", "name", "version", "json", "detach", "yes", "dry_run", "device", "allow_cpu")
)


def line(words: Words, *more: str) -> str:
    """All of it, to paste."""
    whole = ["run", *([words.trainer] if words.trainer else []), *repeated(words, frozenset()), *more]
    return shlex.join([*whole, *(["--", *words.command] if words.command else [])])


def repeated(words: Words, without: frozenset[str] = ELSEWHERE) -> list[str]:
    """The flags that make the run what it is, as they would be typed for the same run in another place."""
    said: list[str] = []
    for name, value in words.flags.items():
        flag = KEYS[name].flag
        if name in without or not flag:
            continue
        if value is True:
            said.append(flag)
            continue
        for one in value if isinstance(value, (tuple, list)) else (value,):
            said += [flag, str(one)]
    return said


def typed(params: Mapping[str, object]) -> dict[str, object]:
    """The flags that were really given."""
    return {name: value for name, value in flags(params).items() if value not in (None, False, ())}
