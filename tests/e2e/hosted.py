"""A person with machines of their own: real sshds in containers, known by name, and what is left on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.ssh.errors import fingerprint
from tests.conftest import Outcome, run_command
from tests.e2e.containers import STEPS
from tests.e2e.person import COMMAND, HANGS_S, Person
from tests.hosts.boxes import HOME, Box

RUNS = f"{HOME}/.launcher/runs"


class HostedPerson(Person):
    def knows(self, name: str, box: Box, *flags: str) -> Outcome:
        """Adds the host as somebody would who was told its fingerprint."""
        way = box.route
        words = (name, f"{way.user}@{way.address}:{way.port}", "--key", way.keys[0])
        said = self.types("host", "add", *words, "--fingerprint", fingerprint(way.pins[0]), *flags)
        assert said.code == 0, said.stderr
        return said

    def hosted(self, target: str, *words: str, flags: Sequence[str] = (), **env: str) -> Outcome:
        """A run of the person's own project there, as one JSON document."""
        line = ("run", "--project", ".", "--on", target, "--json", *flags)
        return run_command([*COMMAND, *line, "--", *words], self.project, self.environ(**env), "", HANGS_S)

    def steps(self, name: str, target: str, pause: int = 3, flags: Sequence[str] = (), **env: str) -> str:
        """A detached run called `name` that has done `pause` steps and waits; its instance."""
        self.writes("steps.py", STEPS)
        begun = self.hosted(
            target, "python3", "steps.py", str(pause), flags=("--name", name, "-d", *flags), **env
        )
        assert begun.code == 0, begun.stderr
        return str(begun.json()["instance"])

    def leaves_nothing(self, box: Box) -> None:
        """Neither processes, here or there, nor folders of runs."""
        self.alone()
        assert left_in(box) == []


def left_in(box: Box) -> list[str]:
    """The folders of runs that a host keeps."""
    return box.sh(f"ls {RUNS} 2>/dev/null; true").split()


def lets_go(box: Box) -> None:
    box.sh("touch /tmp/go", user="dev")


def result(version: str) -> tuple[str, int]:
    """What the steps came to, and how many were done before the trainer that finished them began."""
    folder = Path(version)
    return (folder / "model.txt").read_text(), int((folder / "resumed").read_text())


def manifest(outcome: Outcome) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(Path(outcome.json()["artifacts"], "manifest.json").read_text())
    return held
