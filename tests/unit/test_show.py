"""What a person and what a script gets to see of a plan and of an error."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import catalogue
from launcher.cli import show
from launcher.cli.prog import prog
from launcher.errors import Exit, LauncherError
from launcher.guard import usd
from launcher.models import Job, Need, Offer, Range, Runtime, RuntimeKind
from launcher.plan import Ask, Decision, Target, Way, make
from launcher.pushset import Outlook

SENT = Outlook(12, 5_300_000, (("data.csv", 5_000_000), ("train\x1b.py", 4_000)), (".env",))
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def decision(*targets: str, bounds: bool = True) -> Decision:
    book = catalogue.load()
    need = Need(gpus=("RTX 4090",))
    free = Offer("here", "here", "here", Decimal(0), "this machine")
    env = Runtime(RuntimeKind.ENV, None, "your own environment")
    image = Runtime(RuntimeKind.IMAGE, "1", "the machine is the image", "x:1", prepare_s=120)
    ways = tuple(Way(offer, image, 60) for offer in book.offers(need, "runpod", NOW))
    hours = (("cpu", Range(Decimal(1), Decimal(2), Decimal(3))),) if bounds else ()
    ask = Ask(
        run="x-abcd",
        label="x",
        trainer="x",
        project="/p",
        job=Job(argv=("python",), folder="/p"),
        need=need,
        offered=(Target("here", (Way(free, env),), here=True), Target("runpod", ways, bills=True)),
        targets=targets,
        bounds=hours,
    )
    return make(ask, NOW)


def test_the_document_is_the_contract() -> None:
    document = json.loads(json.dumps(show.plain(show.document(decision("runpod"), SENT))))
    assert [offer["target"] for offer in document["offers"]] == ["runpod", "here"]
    chosen = document["chosen"]
    assert chosen == document["offers"][0]
    assert {
        "target": "runpod",
        "provider": "runpod",
        "region": None,
        "instance_type": None,
        "gpu": "RTX 4090",
        "gpu_count": 1,
        "vram_gb": 24.0,
        "spot": False,
        "price_source": "planning notes",
        "price_as_of": "2025-09-01T00:00:00Z",
    }.items() <= chosen.items()
    assert 0.69 <= chosen["usd_per_hour"] < 0.70
    for part in ("hours", "usd"):
        assert 0 < chosen[part]["low"] < chosen[part]["likely"] < chosen[part]["high"]
        total = sum(line[part]["likely"] for line in chosen["lines"])
        assert chosen[part]["likely"] == pytest.approx(total)
    assert document["limits"]["max_time_s"] == 6 * 3600
    assert document["limits"]["max_cost"] > chosen["usd"]["high"]
    assert document["limits"]["ends_by"] == "2026-03-04T18:30:00Z"
    assert document["refused"] == []


def test_what_nobody_can_tell_is_null_and_the_bound_is_a_number() -> None:
    document = show.plain(show.document(decision("runpod", bounds=False), SENT))
    assert document["chosen"]["hours"]["likely"] is None
    assert document["chosen"]["hours"]["high"] > 24
    assert document["offers"][1]["usd"] == {"low": 0.0, "likely": 0.0, "high": 0.0}


def test_the_question_names_ceiling_forecast_and_end() -> None:
    asked = show.question(decision("runpod"))
    assert re.fullmatch(
        r"Rent it for at most \$4\.\d\d \(likely \$1\.\d\d\), ended by (\d\d-\d\d )?\d\d:\d\d\?", asked
    )
    assert "likely" not in show.question(decision("runpod", bounds=False))


def test_a_pipe_gets_full_values_and_a_terminal_a_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show.plan(decision(), SENT)
    piped = capsys.readouterr().out
    assert "run\there\t-\t-\t0\t2.0 h (60 min–3.2 h)\t0\tthis machine" in piped
    assert "planning notes, 184 days old" in piped
    assert "\x1b" not in piped
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", drawn := Terminal())
    show.table(("run", "$ spent"), [("[bold]x[/bold]", "1.00"), ("\x1b[2Jy", "2")])
    assert "[bold]x[/bold]" in drawn.getvalue(), "what a user called something is no markup"
    assert "\x1b[2J" not in drawn.getvalue()


def test_a_table_too_wide_for_its_terminal_breaks_between_cells_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "40"), ("LINES", "30"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", drawn := Terminal())
    rows = [
        ("quickstart-abcd", "running", "-", "훈련 " * 3 + "훈련"),
        ("b", "done", "3 min (93 s–8 min)", ""),
    ]
    show.table(("run", "state", "hours", "price from"), rows)
    assert drawn.getvalue().splitlines() == [
        "run quickstart-abcd · state running",
        "    price from 훈련 훈련 훈련 훈련",
        "run b · state done",
        "    hours 3 min (93 s–8 min)",
    ]


def test_a_table_a_little_too_wide_breaks_its_last_column_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "40"), ("LINES", "30"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", drawn := Terminal())
    rows = [("g4dn.xlarge us", "public price list, 332 days old"), ("b", "here")]
    show.table(("machine", "price from"), rows)
    assert [line.rstrip() for line in drawn.getvalue().splitlines()] == [
        "machine         price from",
        "g4dn.xlarge us  public price list, 332",
        "                days old",
        "b               here",
    ]


def test_a_printed_command_can_be_pasted_from_wherever_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = tmp_path / "my tools" / "launch"
    called.parent.mkdir()
    called.touch(mode=0o755)
    for typed, shown in (("./launch", "./launch"), ("../launch", "../launch"), ("launcher", "launcher")):
        monkeypatch.setenv("LAUNCHER_PROG", typed)
        assert prog() == shown
    monkeypatch.setenv("LAUNCHER_PROG", str(called))
    assert prog() == f"'{called}'"
    monkeypatch.setenv("PATH", str(called.parent))
    assert prog() == "launch"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_left_out_on_request(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert show.coloured(Terminal())
    monkeypatch.setenv(variable, value)
    assert not show.coloured(Terminal())
    monkeypatch.setattr(sys, "stdout", drawn := Terminal())
    show.table(("run",), [("x",)])
    show.card("done", [("took", "1 s")])
    assert "\x1b" not in drawn.getvalue()


def test_an_error_is_a_small_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_PROG", "./launch")
    e = LauncherError(
        "no-capacity",
        "none left\x1b[2J",
        exit=Exit.NO_OFFER,
        hint="plan x --gpu any-24gb",
        details=("asked 3 offers\nat once", "none left"),
        billed="nothing",
    )
    show.error(e)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: no-capacity\n"
        "  none left\n"
        "  asked 3 offers\n"
        "  at once\n"
        "  still billed: nothing\n"
        "  hint: ./launch plan x --gpu any-24gb\n"
        "  more: docs/errors.md#no-capacity\n"
    )


def test_a_card_shows_labelled_values(capsys: pytest.CaptureFixture[str]) -> None:
    show.card("x-abcd: done", [("time", "3 s"), ("version", "/a\n/b")])
    assert capsys.readouterr().out == "x-abcd: done\n  time     3 s\n  version  /a\n           /b\n"


def test_a_problem_and_reasons_are_said_beside_the_prices(capsys: pytest.CaptureFixture[str]) -> None:
    bare = decision()
    problem = LauncherError("no-offer", "nothing here", exit=Exit.NO_OFFER, details=("because",))
    shown = replace(bare, plan=replace(bare.plan, choices=()), problem=problem, warnings=("old",))
    show.plan(shown, SENT)
    captured = capsys.readouterr()
    assert "run would stop here: nothing here\n    because" in captured.out
    assert captured.err == "warning: old\n"
    document = show.document(shown, SENT)
    assert document["chosen"] is None
    assert document["problem"] == {"code": "no-offer", "message": "nothing here"}


@pytest.mark.parametrize(
    ("amount", "words"),
    [("0", "0 s"), ("0.01", "36 s"), ("0.5", "30 min"), ("1.5", "90 min"), ("4.26", "4.3 h")],
)
def test_short_times_are_said_in_seconds_and_minutes(amount: str, words: str) -> None:
    assert show.hours(Decimal(amount)) == words


@pytest.mark.parametrize(
    ("amount", "written"),
    [("0.691", "0.70"), ("1.006", "1.01"), ("2", "2.00"), ("0.0001", "0.01"), ("0", "0.00")],
)
def test_dollars_are_never_understated(amount: str, written: str) -> None:
    assert usd(Decimal(amount)) == written


def test_a_plan_says_what_would_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    show.plan(decision(), SENT)
    out = capsys.readouterr().out
    assert "12 files, 5.3 MB\n              biggest: data.csv 5.0 MB · train·.py 4.0 kB" in out
    assert "not sent    secrets by their look: .env" in out and "\x1b.py" not in out
    assert show.document(decision(), SENT)["push"] == {
        "files": 12,
        "size": 5_300_000,
        "biggest": [{"path": "data.csv", "size": 5_000_000}, {"path": "train\x1b.py", "size": 4_000}],
        "withheld": [".env"],
    }


def test_much_to_send_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    much = replace(SENT, size=300_000_000)
    show.plan(decision(), much)
    assert "300 MB would be sent, most of it data.csv" in " ".join(capsys.readouterr().err.split())
    assert any("300 MB" in w for w in show.document(decision(), much)["warnings"])
