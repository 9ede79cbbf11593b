"""A trainer's command line: `--batch_size` is `--batch-size`, nothing is abbreviated, and a wrong
argument ends with status 2 and the nearest right one."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

USAGE = 2


class Arguments(argparse.ArgumentParser):
    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def contract(self) -> Arguments:
        """What every trainer takes besides its own."""
        add = self.add_argument
        add("--seed", type=whole(0, 2**32 - 1), help="default: LAUNCHER_SEED, else 7")
        add("--device", choices=("auto", "cpu", "cuda"), help="default: DEVICE, else auto")
        add("--require-gpu", action="store_true", help="fail where no GPU can be used")
        add("--output", help="folder for results (default: LAUNCHER_OUTPUT)")
        add("--checkpoint", help="folder for checkpoints (default: LAUNCHER_CHECKPOINT)")
        return self

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        known, unknown = self.parse_known_args([dashed(word) for word in argv])
        if unknown:
            options = [word for word in unknown if word.startswith("-")]  # the others may be their values
            self.error("; ".join(self._unknown(word) for word in options or unknown))
        return known

    def error(self, message: str) -> NoReturn:
        sys.exit(refused(self.prog, message, USAGE))

    def _unknown(self, word: str) -> str:
        name = word.partition("=")[0]
        options = sorted(one[2:] for one in self._option_string_actions if one.startswith("--"))
        near = difflib.get_close_matches(name.lstrip("-"), options, n=2, cutoff=0.6)
        if not name.startswith("-"):
            return f"{word!r} is no argument of this trainer"
        hint = f", did you mean --{' or --'.join(near)}?" if near else f"; it knows --{' --'.join(options)}"
        return f"unknown argument {name}{hint}"


def refused(trainer: str, why: object, status: int) -> int:
    """One line and the exit status, which is handed back."""
    print(f"error: {trainer}: {why}", file=sys.stderr, flush=True)
    return status


def dashed(word: str) -> str:
    """Only the option's name is touched, never its value."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return number


def number(low: float, high: float) -> Callable[[str], float]:
    def between(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not low <= value <= high:  # false for NaN, as it must be
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return between
