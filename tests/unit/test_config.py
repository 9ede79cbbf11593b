"""The `config` command and the options made from the table."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from launcher.cli.config import command, schema_text
from launcher.cli.options import flags, run_options
from launcher.cli.run import command as run_command
from launcher.keys import KEYS


def run_cli(*argv: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cwd / "none"))
    result = CliRunner().invoke(command, argv, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_config_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launcher.yaml").write_text("\nmax_cost: 2\n")
    lines = run_cli("show", "--origin", cwd=tmp_path, monkeypatch=monkeypatch).splitlines()
    assert ["max_cost", "$2", "launcher.yaml:2"] in [line.split() for line in lines]
    document = json.loads(run_cli("show", "--json", cwd=tmp_path, monkeypatch=monkeypatch))
    assert {"name": "max_cost", "value": 2.0, "origin": "launcher.yaml:2"} in document["settings"]
    assert "launcher.yaml" in run_cli("path", cwd=tmp_path, monkeypatch=monkeypatch)


def test_run_options_cover_every_flag_and_speak_three_ways() -> None:
    seen: dict[str, object] = {}

    @click.command()
    @run_options
    def run(**params: object) -> None:
        seen.update(flags(params))

    CliRunner().invoke(
        run, ["-y", "--bid-price", "1", "--on", "local", "--on", "docker"], catch_exceptions=False
    )
    assert set(seen) == {key.name for key in KEYS.values() if key.flags}
    assert (seen["yes"], seen["spot"], seen["max_price"], seen["on"]) == (
        True,
        None,
        "1",
        ("local", "docker"),
    )


def test_the_help_page_has_every_flag_once_under_its_heading() -> None:
    page = CliRunner().invoke(run_command, ["--help"], catch_exceptions=False).output
    parts = dict(part.split(":\n", 1) for part in page.split("\n\n") if ":\n" in part)
    for key in KEYS.values():
        if key.flag:
            assert [name for name, part in parts.items() if key.flag in part.replace(",", " ").split()] == [
                key.group.value
            ]
    assert parts["Options"].strip().startswith("--help")


def test_warnings_go_to_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHER_MAX_COTS", "1")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["show", "--json"], catch_exceptions=False)
    assert result.stderr == "warning: LAUNCHER_MAX_COTS is no setting, did you mean LAUNCHER_MAX_COST?\n"
    assert json.loads(result.stdout)["profile"] is None


def test_config_schema_prints_what_editors_are_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli("schema", cwd=tmp_path, monkeypatch=monkeypatch) == schema_text()


def test_choices_complete() -> None:
    run = click.Command("run", params=run_options(click.Command("run")).params)
    device = next(one for one in run.params if one.name == "device")
    context = click.Context(run)
    assert [item.value for item in device.shell_complete(context, "c")] == ["cpu", "cuda"]
