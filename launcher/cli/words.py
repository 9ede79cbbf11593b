"""What a person typed to begin a run, kept beside the plan so that `rerun` can say it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.cli.options import flags


@dataclass(frozen=True)
class Words:
    trainer: str | None
    command: tuple[str, ...]
    flags: dict[str, Any]
    cwd: str = field(default_factory=os.getcwd)


def typed(params: Mapping[str, object]) -> dict[str, object]:
    """The flags that were really given."""
    return {name: value for name, value in flags(params).items() if value not in (None, False, ())}
