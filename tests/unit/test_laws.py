"""The laws hold over the house, and each of them can be broken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.laws import house, rules, texts
from tests.laws.source import Tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.read(ROOT, ["launcher", "trainers", "tests", "bench"])


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return texts.tracked(ROOT)


def judge(breaches: Iterable[tuple[str, str]], excused: Mapping[str, str]) -> list[str]:
    """What stands against the law, and every excuse that nothing needs."""
    found = list(breaches)
    idle = excused.keys() - {where for where, _ in found}
    return [f"{where}: {what}" for where, what in found if where not in excused] + [
        f"{where}: the exception is not needed any more" for where in sorted(idle)
    ]


def hold(breaches: list[str]) -> None:
    if breaches:
        pytest.fail("\n".join(breaches), pytrace=False)


@pytest.mark.parametrize("name", rules.LAWS)
def test_the_house_keeps_the_law(tree: Tree, name: str) -> None:
    hold(judge(rules.LAWS[name](tree), house.EXCEPTIONS.get(name, {})))


@pytest.mark.parametrize("name", texts.LAWS)
def test_texts_keep_the_law(files: dict[str, str], name: str) -> None:
    hold(judge(texts.breaches(texts.LAWS[name], files), texts.EXCEPTIONS.get(name, {})))


def test_exceptions_are_about_laws_that_exist() -> None:
    assert house.EXCEPTIONS.keys() <= rules.LAWS.keys()
    assert texts.EXCEPTIONS.keys() <= texts.LAWS.keys()


# One small house per law that breaks it, with the place that must be named.
LONG = "def long() -> None:\n" + "    pass\n" * 60
BROKEN: list[tuple[str, str, dict[str, str]]] = [
    ("every file has a room", "launcher.helpers", {"launcher/helpers.py": ""}),
    (
        "imports go downwards",
        "launcher.plan",
        {"launcher/plan.py": "from launcher import store", "launcher/store.py": ""},
    ),
    (
        "imports go downwards",
        "launcher.artifacts",
        {"launcher/artifacts.py": "def f() -> None:\n    from launcher.engine import go"},
    ),
    (
        "imports go downwards",
        "launcher.remote.process",
        {"launcher/remote/process.py": "from ..steps import push", "launcher/steps/push.py": ""},
    ),
    (
        "effects are strangers",
        "launcher.providers.docker",
        {
            "launcher/providers/docker.py": "from launcher.remote.container import X",
            "launcher/remote/container.py": "",
        },
    ),
    (
        "effects are strangers",
        "launcher.providers.aws",
        {
            "launcher/providers/aws.py": "from launcher.providers import docker",
            "launcher/providers/docker.py": "",
        },
    ),
    (
        "nobody imports in circles",
        "launcher.engine",
        {
            "launcher/engine.py": "import launcher.world",
            "launcher/world.py": "def f() -> None:\n    import launcher.engine",
        },
    ),
    ("decisions touch nothing", "launcher.guard", {"launcher/guard.py": "from time import monotonic"}),
    (
        "decisions touch nothing",
        "launcher.plan",
        {"launcher/plan.py": "from datetime import datetime\nx = datetime.now()"},
    ),
    ("decisions touch nothing", "launcher.agent.mind", {"launcher/agent/mind.py": "import os"}),
    (
        "the engine reaches the world only through its world",
        "launcher.steps.push",
        {"launcher/steps/push.py": "import threading"},
    ),
    (
        "the engine reaches the world only through its world",
        "launcher.engine",
        {"launcher/engine.py": "import datetime\nx = datetime.datetime.now()"},
    ),
    (
        "the agent is the standard library alone",
        "launcher.agent.main",
        {"launcher/agent/main.py": "import psutil"},
    ),
    (
        "the agent is the standard library alone",
        "launcher.agent.main",
        {"launcher/agent/main.py": "from launcher import errors", "launcher/errors.py": ""},
    ),
    (
        "a library stays in its room",
        "launcher.cli.ps",
        {"launcher/cli/ps.py": "from rich.table import Table"},
    ),
    ("a library stays in its room", "launcher.engine", {"launcher/engine.py": "import docker"}),
    (
        "heavy imports wait until they are used",
        "launcher.images",
        {"launcher/images.py": "try:\n    import docker\nexcept ImportError:\n    pass"},
    ),
    (
        "a provider is named in its own file and the registry",
        "launcher.plan",
        {"launcher/plan.py": "def f(x: str) -> bool:\n    return x == 'runpod'"},
    ),
    (
        "a provider is named in its own file and the registry",
        "launcher.providers.aws",
        {"launcher/providers/aws.py": "x = 'docker:cpu'"},
    ),
    (
        "adapters ask and never wait",
        "launcher.providers.aws",
        {"launcher/providers/aws.py": "import time\ntime.sleep(1)"},
    ),
    (
        "only the command line and the agent end a process",
        "launcher.plan",
        {"launcher/plan.py": "raise SystemExit(2)"},
    ),
    (
        "broad except is for the engine and the command line",
        "launcher.journal",
        {"launcher/journal.py": "try:\n    x = 1\nexcept (ValueError, Exception):\n    pass"},
    ),
    (
        "broad except is for the engine and the command line",
        "launcher.journal",
        {"launcher/journal.py": "from contextlib import suppress\nwith suppress(Exception):\n    x = 1"},
    ),
    (
        "every function says what it gives",
        "launcher.plan:A.f",
        {"launcher/plan.py": "class A:\n def f(self): ..."},
    ),
    ("no file is too long", "launcher.plan", {"launcher/plan.py": "x = 1\n" * 401}),
    ("no function is too long", "launcher.plan:long", {"launcher/plan.py": LONG}),
    (
        "most functions are short",
        "launcher",
        {"launcher/plan.py": LONG.replace("    pass\n" * 60, "    pass\n" * 30)},
    ),
    ("an ignore has a reason", "launcher.plan", {"launcher/plan.py": "x = 1  # type: ignore[assignment]"}),
    ("an ignore has a reason", "launcher.plan", {"launcher/plan.py": "x = 1  # noqa: E501"}),
    ("a module of ours says what it is for", "launcher.plan", {"launcher/plan.py": "x = 1"}),
]


@pytest.mark.parametrize(("name", "where", "house_of_cards"), BROKEN)
def test_a_breach_is_seen(name: str, where: str, house_of_cards: dict[str, str]) -> None:
    assert where in [place for place, _ in rules.LAWS[name](Tree.of(house_of_cards))]


def test_every_law_is_shown_to_be_breakable() -> None:
    assert {name for name, _, _ in BROKEN} == set(rules.LAWS)


GOOD = {
    "launcher/plan.py": '"""Decides."""\nfrom decimal import Decimal\nfrom launcher.models import Need',
    "launcher/models.py": '"""Words."""',
    "launcher/providers/aws.py": '"""One."""\ndef f() -> str:\n    import boto3\n    return "aws:p4"',
    "launcher/providers/aws_keys.py": '"""Two."""\nimport launcher.providers.aws',
    "launcher/providers/docker_forms.py": (
        '"""Forms."""\ndef f() -> str:\n    import docker\n    return "docker"'
    ),
    "launcher/engine.py": (
        '"""Loop."""\nfrom launcher.models import Need\ntry:\n    x = 1\n'
        "except Exception:  # noqa: BLE001 - leaves a fact whatever happens\n    pass"
    ),
    "launcher/images.py": (
        '"""Pictures."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import docker'
    ),
}


@pytest.mark.parametrize("name", rules.LAWS)
def test_good_code_is_left_in_peace(name: str) -> None:
    assert list(rules.LAWS[name](Tree.of(GOOD))) == []


def piece(*parts: str) -> str:
    """So that this file keeps the laws that it tests."""
    return "".join(parts)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("machine paths", piece("see /ho", "me/kim/run")),
        ("registry hosts", piece("https://py", "pi.org/simple")),
        ("foreign words", piece("as in issue", " 12")),
    ],
)
def test_a_foreign_text_is_seen(name: str, line: str) -> None:
    assert list(texts.breaches(texts.LAWS[name], {"a": line})) != []


def test_an_idle_exception_is_a_breach() -> None:
    assert judge([], {"launcher.plan": "was long once"}) == [
        "launcher.plan: the exception is not needed any more"
    ]
