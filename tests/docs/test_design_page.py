"""The tables of docs/design.md name every fact, command, event, library and floor there is, and no other."""

from __future__ import annotations

import ast
import re
import tomllib

from launcher import attempt, runstate
from launcher.agent.mind import Mind
from launcher.agent.protocol import Boot
from tests.docs.pages import ROOT, read
from tests.laws import house

PAGE = "docs/design.md"
WORD = re.compile(r"`([a-z]+(?:-[a-z]+)*)[ `]")


def table(head: str) -> list[list[str]]:
    """The rows below a table's head line."""
    body = read(PAGE).split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in body]


def test_every_fact_is_there() -> None:
    told = {word for row in table("| about | facts |") for word in WORD.findall(row[1])}
    assert told == {"create-asked", *attempt.CHANGES, *runstate._RUN_FACTS}


def test_every_command_of_the_agent_is_there() -> None:
    told = [WORD.findall(row[0])[0] for row in table("| command | |")]
    assert sorted(told) == sorted(Mind(Boot("t", 1, 1, 1, 1))._verbs)


def test_every_event_of_the_agent_is_there() -> None:
    told = {word for row in table("| event | |") for word in WORD.findall(row[0])}
    emitted = {"checkpoint", "output"}  # made by the watchbook and the outbook, as records
    for path in (ROOT / "launcher" / "agent").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "emit"
            ):
                emitted |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    assert told == emitted


def test_every_library_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["docker"], *extras["runpod"]]
    libraries = {re.split(r"[<>=~! ]", line)[0] for line in named}
    assert {row[0] for row in table("| library | why | where |")} == libraries | {"the agent"}


def test_every_room_stands_on_its_floor() -> None:
    text = "\n".join(row[1] for row in table("| floor | rooms | may not know |"))
    told = {
        place.removesuffix(".py").rstrip("/").replace("/", ".") for place in re.findall(r"`([^`]+)`", text)
    }
    rooms = {room for _, rooms in house.FLOORS for room in rooms} - {"launcher", "launcher.__main__"}
    bases = {"launcher.providers.base", "launcher.remote.base"}
    assert told - bases == rooms - bases
