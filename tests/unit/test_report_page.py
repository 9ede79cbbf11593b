"""The page about one version: everything is told, everything foreign stays text, and it has a bound."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.codec import dump, iso
from launcher.errors import LauncherError
from launcher.files import Disk
from launcher.journal import Journal
from launcher.models import Fact
from launcher.report import page
from launcher.report.content import costs
from launcher.store import Home
from tests.conftest import Cli
from tests.unit.pages_shape import Shape, stands_alone
from tests.unit.report_bench import (
    DIGEST,
    EVENTS,
    NAME,
    NOON,
    Made,
    at,
    jsonl,
    metric,
    plan,
    sample,
)

# --- what is told ------------------------------------------------------------------------------


def test_everything_of_a_version_is_told(tmp_path: Path) -> None:
    text = Made(tmp_path).page()
    shape = stands_alone(text)
    for said in (
        NAME,
        "run demo-abcd · demo · cuda (RTX 4090) on cloud · 2026-03-04 13:01:00 UTC",
        "The trainer ended with status 0.",
        "Your GPU was 20 % busy while the CPU was full",
        "time 58 min 59 s",
        "cost $0.73",
        "test_auc 0.9151",
        "parameters 1,284,312",
        "loss by step",
        "GPU busy",
        "GPU memory GB of 24",
        "CPU busy",
        "Memory GB of 64",
        "setting up 1 min 1 s",
        "checkpoint step-600",
        "warning: valid/loss is nan at step 700",
        "the output was sealed: 3 files, 12,345 bytes",
        "b827890bfb96857153885348ab245cb8d6621e20",
        "with changes that were not committed",
        "input spadl 0a4e88",
        "$0.72/h (price list of 2026-01-23, 40 days old when planned)",
        "$0.62 likely, $0.31 to $0.90",
        "args.rounds 120",
        "2 files, 170,139 bytes, as they were sealed",
        f"model.json 134,706 {DIGEST[::-1]}",
        "first second",
    ):
        assert said in shape.text, said


def test_train_and_valid_share_a_chart_and_keep_their_colours(tmp_path: Path) -> None:
    text = Made(tmp_path).page()
    loss = next(f for f in text.split("<figure") if "<figcaption>loss" in f)
    auc = next(f for f in text.split("<figure") if "<figcaption>auc" in f)
    assert 'class="line c0"' in loss and 'class="line c1"' in loss
    assert 'class="line c1"' in auc and "c0" not in auc
    assert "1 without a number" in loss


def test_a_metric_of_one_moment_has_no_chart(tmp_path: Path) -> None:
    text = Made(tmp_path, metrics=jsonl([metric(120, "test", "auc", 0.9)])).page()
    assert "Curves" not in text


def test_without_the_trainers_file_the_values_seen_while_it_ran_are_drawn(tmp_path: Path) -> None:
    samples = [
        {**sample(s), "step": s, "metrics": {"loss": 1 / (s + 1), "valid/loss": 2.0}} for s in range(20)
    ]
    text = Made(tmp_path, metrics=None, telemetry=jsonl(samples)).page()
    loss = next(f for f in text.split("<figure") if "<figcaption>loss" in f)
    assert 'class="line c0"' in loss and 'class="line c1"' in loss


def test_a_machine_without_a_gpu_has_no_chart_of_one(tmp_path: Path) -> None:
    text = Made(tmp_path, telemetry=jsonl(sample(s, util=None) for s in range(60))).page()
    assert "GPU busy" not in text and "CPU busy" in text


@pytest.mark.parametrize(
    ("exited", "said"),
    [
        ({"exit_code": 3, "signal": None, "why": None}, "The trainer ended with status 3."),
        ({"exit_code": None, "signal": 9, "why": None}, "The trainer ended by signal 9 (SIGKILL)."),
        ({"exit_code": None, "signal": 99999, "why": None}, "by signal 99999."),
        (
            {"exit_code": 0, "signal": None, "why": "limit"},
            "ended by its time limit, and left with status 0.",
        ),
        ({"exit_code": 0, "signal": None, "why": "moon"}, "was ended: moon, and left with status 0."),
    ],
)
def test_why_it_ended(tmp_path: Path, exited: dict[str, Any], said: str) -> None:
    events = [*EVENTS[:4], {"ev": "exited", "at": at(9), **exited}]
    assert said in Shape(Made(tmp_path, events=jsonl(events)).page()).text


def test_a_refusal_is_the_reason(tmp_path: Path) -> None:
    events = [EVENTS[0], {"ev": "refused", "at": at(2), "why": "no-gpu", "message": "there is no GPU"}]
    assert "Not started: there is no GPU." in Made(tmp_path, events=jsonl(events)).page()


# --- money -------------------------------------------------------------------------------------


def test_what_did_not_bill_has_no_curve_of_cost(tmp_path: Path) -> None:
    assert "<figcaption>Cost" not in Made(tmp_path, plan=plan(bills=False)).page()


def test_the_version_alone_tells_cost_by_the_hourly_price(tmp_path: Path) -> None:
    content = Made(tmp_path).content()
    assert costs(content) == [(0.0, pytest.approx(0.732 - 0.72 * 3660 / 3600)), (3660.0, 0.732)]
    assert "<figcaption>Cost" in page.page(content)


def record_run(home: Home, project: Path) -> None:
    """Two machines: one for ten minutes at $0.60, then an hour's one at $0.72, five minutes later."""
    folder = home.run("demo-abcd")
    folder.root.mkdir(parents=True)
    folder.plan.write_text(json.dumps(dump(plan(project=str(project)))))
    asked = [(1, 0, 600, "0.60"), (2, 900, 4500, "0.72")]
    facts: list[Fact] = []
    for n, begin, end, rate in asked:
        order = {"attempt": n, "token": f"t{n}", "choice": 0, "ends_at": iso(NOON + timedelta(hours=9))}
        facts += [
            Fact("create-asked", NOON + timedelta(seconds=begin), {**order, "usd_per_hour": rate}),
            Fact("over", NOON + timedelta(seconds=end), {"attempt": n, "why": f"over {n}", "blame": False}),
            Fact("gone", NOON + timedelta(seconds=end), {"attempt": n}),
        ]
    where = {"version": NAME, "path": str(project / "models" / NAME)}
    facts.append(Fact("versioned", NOON + timedelta(seconds=4400), where))
    book = Journal(Disk(), folder.journal)
    for fact in facts:
        book.append(fact.kind, fact.at, **fact.data)


def test_the_runs_own_facts_tell_every_machine(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    record_run(home, tmp_path)
    content = Made(tmp_path, manifest={"usd": 0.82}).content(home)
    assert costs(content) == [
        (0.0, 0.0),
        (600.0, pytest.approx(0.1)),
        (900.0, pytest.approx(0.1)),
        (4500.0, pytest.approx(0.82)),
    ]
    shape = stands_alone(page.page(content))
    assert "spent $0.82" in shape.text
    assert "$0.60/h over 1" in shape.text


def test_another_projects_run_of_that_name_is_not_asked(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    record_run(home, tmp_path / "elsewhere")
    assert Made(tmp_path).content(home).state is None


def test_a_run_that_cannot_be_read_any_more_is_not_asked(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    record_run(home, tmp_path)
    home.run("demo-abcd").plan.write_bytes(b"{")
    assert Made(tmp_path).content(home).state is None


# --- the document --------------------------------------------------------------------------------


def test_no_address_is_in_it_and_its_sheet_is_the_only_thing_let_in(tmp_path: Path) -> None:
    text = Made(tmp_path).page()
    assert re.findall(r"http(?!-equiv)", text) == []
    assert "url(" not in text and "@import" not in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text


def test_every_class_is_known_to_the_sheet(tmp_path: Path) -> None:
    shape = Shape(Made(tmp_path).page())
    used = {c for name, value in shape.attributes if name == "class" for c in (value or "").split()}
    assert {f".{c}" for c in used} <= set(re.findall(r"\.[a-z]\w*", page.SHEET.read_text()))


def test_the_same_version_gives_the_same_page(tmp_path: Path) -> None:
    content = Made(tmp_path).content()
    assert page.page(content) == page.page(content)


# --- where it goes -------------------------------------------------------------------------------


def test_it_lies_beside_the_caller_and_the_version_stays_sealed(tmp_path: Path) -> None:
    version = Made(tmp_path).write()
    before = sorted(version.path.rglob("*"))
    assert page.save(version, None, None, tmp_path) == tmp_path / f"{NAME}.html"
    assert page.save(version, None, Path("x.html"), tmp_path) == tmp_path / "x.html"
    (tmp_path / "pages").mkdir()
    assert page.save(version, None, Path("pages"), tmp_path) == tmp_path / "pages" / f"{NAME}.html"
    assert sorted(version.path.rglob("*")) == before


@pytest.mark.parametrize("below", ["x.html", ".", "results/../x.html", ".launcher/log"])
def test_it_is_never_written_into_the_version(tmp_path: Path, below: str) -> None:
    version = Made(tmp_path).write()
    with pytest.raises(LauncherError) as raised:
        page.save(version, None, version.path / below, tmp_path)
    assert raised.value.code == "report-inside"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    version = Made(tmp_path).write()
    with pytest.raises(LauncherError) as raised:
        page.save(version, None, Path("no/such/folder.html"), tmp_path)
    assert raised.value.code == "report-unwritable"


def test_the_command_prints_the_path_and_opens_it(tmp_path: Path, cli: Cli) -> None:
    work = tmp_path / "work"
    Made(work).write()
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    done = cli("models", "report", "--open", "--out", "page.html", BROWSER=f"{browser} %s")
    assert (done.code, done.stdout, done.stderr) == (0, f"{work / 'page.html'}\n", "")
    assert (tmp_path / "opened").read_text().strip() == (work / "page.html").as_uri()
    stands_alone((work / "page.html").read_text())


def test_a_price_is_as_old_as_it_was_when_planned() -> None:
    assert page.age(timedelta(days=40)) == "40 days"
    assert page.age(timedelta(hours=7)) == "7 h"
    assert page.age(timedelta(hours=-1)) == "0 h"
