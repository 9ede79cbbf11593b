"""The words of a view, from facts alone: what it costs, how far it is, what somebody must do."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import journal
from launcher.cli import ending
from launcher.codec import dump
from launcher.errors import LauncherError
from launcher.files import Disk
from launcher.models import Choice, Json, State
from launcher.report import documents, lines
from launcher.report.view import RunView, Tail, by_age, find
from launcher.steps import watch
from launcher.store import Home, RunFolder
from launcher.telemetry import Gpu, Sample
from tests.unit.journals import stories
from tests.unit.journals.stories import NOON, Story, begin, plan

PAID = stories.choice("rented", "0.69")


def told(folder: RunFolder, story: Story) -> RunView:
    """The run that this story left on a disk."""
    disk = Disk()
    disk.make_folder(folder.root)
    disk.write(folder.plan, json.dumps(dump(story.plan)).encode())
    book = journal.Journal(disk, folder.journal)
    for fact in story.facts:
        book.append(fact.kind, fact.at, **fact.data)
    return RunView(folder)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "quickstart-abcd")


def sample(folder: RunFolder, n: int = 1, **values: object) -> None:
    path = folder.attempt(n).telemetry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"at": "2026-03-04T12:00:00Z", **values}) + "\n")


# --- small words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "shown"), [("0", "$0.00"), ("0.69", "$0.69"), ("12.346", "$12.35"), ("0.0042", "$0.0042")]
)
def test_money(usd: str, shown: str) -> None:
    assert lines.money(Decimal(usd)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.99, "10.0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s")],
)  # fmt: skip
def test_duration(seconds: float, shown: str) -> None:
    assert lines.duration(seconds) == shown


def test_progress_is_the_step_and_three_metrics() -> None:
    said = lines.progress(Sample("t", step=7, metrics={"loss": 0.25, "bad": None, "auc": 0.9, "more": 1}))
    assert said == ["step 7", "loss 0.25", "bad NaN", "auc 0.9"] and lines.progress(None) == []


def test_the_device_is_said_as_far_as_it_is_known() -> None:
    full = Sample("t", (Gpu("A", 97, 10.24, 24),), cpu=12, ram_used_gb=3.1, ram_gb=16)
    assert lines.device(full) == ["GPU 97 %", "10.2/24 GB", "CPU 12 %", "RAM 3.1/16 GB"]
    assert lines.device(Sample("t", (Gpu("A"),))) == [] == lines.device(None)


# --- what was tried, what sleeps, what the books say --------------------------------------------------


def offer_of(region: str | None, gpu: str, count: int = 1) -> Choice:
    offer = replace(PAID.offer, cloud="secure", region=region, gpu=gpu, gpu_count=count)
    return replace(PAID, offer=offer)


def test_each_machine_that_did_not_do_is_told_from_the_others(folder: RunFolder) -> None:
    several = plan(offer_of("EU-RO-1", "RTX 4090"), offer_of(None, "RTX 3090", 2), offer_of(None, "A40"))
    story = begin(several).asked()("not-created", attempt=1, reason="none free", blame=True)
    story.created(2, 1)("over", attempt=2, why="its image has no sshd", blame=True).released(2).created(3, 2)
    first, second = "rented RTX 4090 (secure, EU-RO-1)", "rented 2 x RTX 3090 (secure)"
    view = told(folder, story)
    assert lines.passed_over(view, 0) == [
        f"{first}: none free; next: {second}",
        f"{second}: its image has no sshd; next: rented A40 (secure)",
    ]
    assert documents.status(view, story.now)["tried"] == [
        f"{first}: none free",
        f"{second}: its image has no sshd",
    ]


def test_a_trainer_s_time_is_its_own_however_late_its_end_was_heard_of(folder: RunFolder) -> None:
    story = begin(plan(PAID)).started()
    seal = {"digest": "d", "count": 1, "size": 1, "exit_code": 0, "signal": None, "why": None}
    story("sealed", attempt=1, **seal, ran_s=5.25)
    assert told(folder, story).seconds(story.now) == 5.25


@pytest.mark.parametrize(
    ("began", "ended", "ran_s"),
    [
        ({"t": 2.5}, {"t": 4.0}, 1.5),
        (None, {"t": 4.0}, None),
        ({"t": 2.5}, {"t": "soon"}, None),
        ({"t": 5}, {"t": 4}, None),
        ({"t": 5}, {"t": float("nan")}, None),
        ({"t": 5}, {"t": float("inf")}, None),
    ],
)
def test_what_an_agent_says_of_its_trainer_s_time_is_believed_where_it_can_be(
    began: Json | None, ended: Json, ran_s: float | None
) -> None:
    assert watch.ran_s({"started": began, "exited": ended}.get) == ran_s


@pytest.mark.parametrize(
    ("fault", "typed"),
    [
        ("NoCapacity", "rerun quickstart-abcd --gpu any-24gb"),
        ("BadOrder", "rerun quickstart-abcd    with what was refused said anew"),
        (None, "rerun quickstart-abcd"),
    ],
)
def test_where_no_machine_was_ever_had_there_is_no_log_to_look_at(
    folder: RunFolder, fault: str | None, typed: str
) -> None:
    story = begin(plan(PAID)).asked()("not-created", attempt=1, reason="no", blame=True, code=fault)
    view = told(folder, story("ended", state="failed"))
    trouble = ending.trouble(view, State.FAILED)
    assert trouble is not None and (trouble.code, trouble.hint) == ("run-failed", typed)


def test_a_machine_that_somebody_took_is_told_apart_from_a_run_that_is_over(folder: RunFolder) -> None:
    story = begin(plan(offer_of(None, "A40"))).started()("over", attempt=1, why="preempted", blame=False)
    [line] = lines.passed_over(told(folder, story.released().created(2)), 0)
    assert line == (
        "rented A40 (secure): the machine was told to stop, and not by this run; next: rented A40 (secure); "
        "`stop` ends the run itself"
    )


def asleep(story: Story) -> Story:
    gone = {"evidence": "twice", "kept": True, "asleep": True, "billed_until": story.now}
    return story("end-asked", attempt=1)("gone", attempt=1, storage_usd_per_hour=Decimal("0.003"), **gone)


def test_a_machine_that_sleeps_says_what_it_costs(folder: RunFolder) -> None:
    story = asleep(begin(plan(PAID)).started())
    view = told(folder, story)
    assert lines.attention(view, story.now, "launcher") == (
        "quickstart-abcd: results wait on a stopped machine ($0.07/day of storage); "
        "fetch: launcher pull quickstart-abcd"
    )
    assert "  stopped   rented keeps the machine's disk for $0.07/day" in lines.board(view, story.now)
    document = documents.status(view, story.now)
    assert (document["usd_per_hour"], document["storage_usd_per_day"]) == (0.003, 0.072)
    assert documents.run(view, story.now)["seconds"] is None, "when its trainer ended nobody knows"
    assert "  time      not known until its results are here" in lines.board(view, story.now)
    assert ("time", "not known until its results are here") in ending.card(view, State.WAITING, story.now)
    assert ending.trouble(view, State.WAITING) is not None
    assert "$0.07/day of storage for i-1" in str(getattr(ending.trouble(view, State.WAITING), "billed", ""))


@pytest.mark.parametrize(
    ("usd", "words"),
    [
        ("0.501", "$0.50 in the provider's books so far, as counted here"),
        ("0.60", "$0.60 in the provider's books so far, $0.10 more than counted here"),
        ("0.45", "$0.45 in the provider's books so far, $0.05 less than counted here"),
    ],
)
def test_the_books_are_told_beside_what_was_counted(folder: RunFolder, usd: str, words: str) -> None:
    story = begin(plan(PAID)).started().sealed().versioned().released()
    story("billed", attempt=1, usd=usd, counted_usd="0.5")("ended", state="done")
    view = told(folder, story)
    assert ("billed", words) in ending.card(view, State.DONE, story.now)
    assert documents.status(view, story.now)["billed_usd"] == float(usd)


def test_where_none_is_free_something_else_is_proposed(folder: RunFolder) -> None:
    refusal = {"reason": "none free", "blame": True, "exit": 4, "code": "NoCapacity"}
    story = begin(plan(PAID)).asked()("not-created", attempt=1, **refusal)("ended", state="failed")
    error = ending.trouble(told(folder, story), State.FAILED)
    assert error is not None and error.hint == "rerun quickstart-abcd --gpu any-24gb"


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("AuthRefused", 3, "account-refused"), ("QuotaReached", 4, "quota-reached")]
)
def test_an_account_that_is_refused_has_words_of_its_own(
    folder: RunFolder, fault: str, status: int, code: str
) -> None:
    refusal = {"reason": "no", "blame": True, "exit": status, "code": fault, "everywhere": True}
    story = begin(plan(PAID)).asked()("not-created", attempt=1, **refusal)("ended", state="failed")
    error = ending.trouble(told(folder, story), State.FAILED)
    assert error is not None and (error.code, error.message, int(error.exit)) == (code, "no", status)
    assert (error.hint, error.billed) == ("doctor", "nothing") and not error.details
    kept = begin(plan(PAID)).started()("checkpoint", name="step-10", digest="c1", size=5)
    kept("over", attempt=1, why="taken", blame=False).released().asked(2)("not-created", attempt=2, **refusal)
    error = ending.trouble(told(folder, kept("ended", state="failed")), State.FAILED)
    assert error is not None and "resume quickstart-abcd goes on" in error.details[-1]


# --- money so far and forecast -----------------------------------------------------------------------


def test_what_costs_nothing_says_so(folder: RunFolder) -> None:
    assert lines.cost(told(folder, begin().started()), NOON) == ["$0.00"]


def test_so_far_the_ceiling_the_forecast_and_the_rate(folder: RunFolder) -> None:
    story = begin(plan(PAID)).started()
    view = told(folder, story)
    a = view.state.attempts[0]
    halfway = a.asked_at + timedelta(minutes=30)
    whole = Decimal("0.69") * Decimal((a.d - a.asked_at).total_seconds()) / 3600
    assert lines.cost(view, halfway) == ["$0.34 of $2.00", f"at most ${whole:.2f}", "$0.69/h"]
    late = a.d + timedelta(hours=1)  # past its end nothing more is foreseen than what was spent
    assert lines.cost(view, late)[1] == f"at most {lines.money(view.usd(late))}"


# --- whole views -------------------------------------------------------------------------------------


def test_the_meter_says_all_in_one_line(folder: RunFolder) -> None:
    view = told(folder, begin(plan(PAID)).started())
    sample(folder, step=3, metrics={"loss": 0.5}, cpu=50, gpu=[{"util": 90}])
    lock = Disk().lock(folder.lock, "{}")
    assert lock is not None
    line = lines.meter(view, NOON + timedelta(minutes=5))
    lock.release()
    assert line.startswith("quickstart-abcd · step 3 · loss 0.5 · GPU 90 % · CPU 50 % · $0.0")
    assert "ends by" in line and "\n" not in line


def test_the_board_names_what_was_warned_of_last(folder: RunFolder) -> None:
    view = told(folder, begin().started())
    events = folder.attempt(1).events
    events.parent.mkdir(parents=True)
    events.write_bytes(b'{"ev":"warned","message":"loss is nan"}\n{"ev":"warned","mess')
    assert view.warnings() == ("loss is nan",)
    with events.open("ab") as f:
        f.write(b'age":"auc is inf"}\nnonsense\n{"ev":"took","n":1}\n')
    assert view.warnings() == ("loss is nan", "auc is inf")
    board = lines.board(view, NOON)
    assert [line.split()[0] for line in board] == ["run", "progress", "machine", "money", "time", "warning"]
    assert board[-1].endswith("auc is inf")


def test_a_trainer_that_tells_no_steps_is_known_by_its_last_line(folder: RunFolder) -> None:
    view = told(folder, begin().started())
    assert "nothing said yet" in lines.board(view, NOON)[1]
    log = folder.attempt(1).log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"loading\n 10 %\r 20 %\x1b[2J\n\n")
    assert lines.board(view, NOON)[1].endswith("progress  20 %?[2J")


def test_what_an_engine_noticed_is_a_warning(folder: RunFolder) -> None:
    view = told(folder, begin().started()("noticed", attempt=1, code="disk-full", message="its disk is full"))
    assert view.warnings() == ("its disk is full",) and view.state.attempts[0].noticed == "disk-full"


def test_every_machine_that_would_not_is_told_of_with_its_own_reason(folder: RunFolder) -> None:
    lab = stories.choice("lab", "0")
    story = begin(plan(*(replace(lab, offer=replace(lab.offer, gpu=gpu)) for gpu in ("A", "B"))))
    for n, why in ((1, "lab: no such image"), (2, "lab: a B cannot be had: held by ada")):
        story.asked(n, n - 1)("not-created", attempt=n, reason=why, blame=True, exit=4, code="BadOrder")
    view = told(folder, story)
    assert view.why() == "lab: a B cannot be had: held by ada"
    assert lines.other_refusals(view) == ["A: lab: no such image"]


def test_a_halted_run_says_why_and_how_it_goes_on(folder: RunFolder) -> None:
    story = begin().started()("halted", code="host-key-changed", why="lab shows another key", exit=6)
    line = lines.attention(told(folder, story), NOON, "./launch") or ""
    assert line.startswith("quickstart-abcd: lab shows another key; its machine, $0, ends itself by ")
    assert line.endswith("go on: ./launch resume quickstart-abcd")


def test_where_only_output_stays_no_machine_is_spoken_of(folder: RunFolder) -> None:
    story = begin().started()("halted", code="output-stays", why="it stays: no space left", exit=5)
    view = told(folder, story)
    line = lines.attention(view, NOON, "./launch")
    assert line == "quickstart-abcd: it stays: no space left; go on: ./launch resume quickstart-abcd"
    assert "ends by" not in "".join([*lines.board(view, NOON), lines.meter(view, NOON)])
    assert documents.row(view, NOON)["deadline"] is None
    assert documents.status(view, NOON)["guard"] == {"armed": False, "deadline": None, "layers": ["agent"]}


def test_nothing_is_asked_of_a_person_while_all_is_well(folder: RunFolder) -> None:
    assert lines.attention(told(folder, stories.happy()), NOON, "./launch") is None


def test_a_dead_engine_asks_for_resume(folder: RunFolder) -> None:
    line = lines.attention(told(folder, begin(plan(PAID)).started()), NOON, "./launch") or ""
    assert "engine died; its machine, $0.69/h while it runs, ends itself by " in line
    assert line.endswith("go on: ./launch resume quickstart-abcd")


def test_waiting_results_ask_for_pull(folder: RunFolder) -> None:
    line = lines.attention(told(folder, stories.waiting()), NOON, "./launch") or ""
    assert line == "quickstart-abcd: results wait; fetch: ./launch pull quickstart-abcd"


def test_an_end_that_nobody_confirmed_is_said(folder: RunFolder) -> None:
    story = begin(plan(PAID)).started()("stop", id="r", now=True)("end-asked", attempt=1)
    view, later = told(folder, story), story.now + timedelta(minutes=5)
    assert "may still be billing" in (lines.attention(view, later, "launcher") or "")
    row = documents.row(view, later)
    assert (row["state"], row["usd_per_hour"]) == ("maybe-billing", 0.69) and row["deadline"]


# --- reading -----------------------------------------------------------------------------------------


def test_a_view_reads_only_what_is_new_and_leaves_a_torn_tail(folder: RunFolder) -> None:
    story = begin().started()
    view = told(folder, story)
    whole = folder.journal.read_bytes()
    story("over", attempt=1, why="lost", blame=False)
    book = journal.Journal(Disk(), folder.journal)
    book.append("over", story.now, attempt=1, why="lost", blame=False)
    full = folder.journal.read_bytes()
    folder.journal.write_bytes(full[: len(whole) + 9])
    view.refresh()
    assert view.state.attempts[0].over is None
    folder.journal.write_bytes(full)
    view.refresh()
    assert view.state.attempts[0].over == "lost"


def test_a_tail_goes_over_all_attempts_once(folder: RunFolder) -> None:
    for n, text in ((1, b"one"), (3, b"three")):
        folder.attempt(n).root.mkdir(parents=True)
        folder.attempt(n).log.write_bytes(text)
    tail = Tail(folder)
    assert [tail.read(3), tail.read(3), tail.read(3)] == [b"one", b"three", b""]
    with folder.attempt(3).log.open("ab") as f:
        f.write(b" more")
    assert Tail(folder, attempt=tail.attempt, offset=tail.offset).read(3) == b" more"


def test_runs_that_cannot_be_read_are_told_of_and_hide_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    told(home.run("good"), begin().started())
    told(home.run("torn"), begin())
    home.run("torn").plan.write_text("{")
    told(home.run("mixed"), begin().started())
    home.run("mixed").journal.write_bytes(b"0" * 20 + b"\n" + home.run("mixed").journal.read_bytes())
    told_of: list[tuple[str, str]] = []
    views = by_age(home, lambda name, e: told_of.append((name, e.code)))
    assert [v.folder.name for v in views] == ["good"]
    assert set(told_of) == {("torn", "run-damaged"), ("mixed", "journal-corrupt")}
    with pytest.raises(LauncherError) as refused:
        find(home, "torn", tmp_path)
    assert refused.value.code == "run-damaged" and "unknown" in refused.value.billed


def test_what_only_the_user_can_bring_is_followed_by_the_line_to_go_on(folder: RunFolder) -> None:
    story = begin(plan(PAID)).created()
    why = "the secret T is to come from $T, which is not set"
    story("over", attempt=1, why=why, blame=True, exit=2, code="LauncherError").released()
    error = ending.trouble(told(folder, story("ended", state="failed")), State.FAILED)
    assert error is not None and (error.message, int(error.exit)) == (why, 2)
    assert (error.hint or "").startswith("resume quickstart-abcd")


def test_a_new_engine_has_not_missed_what_nobody_listened_to(folder: RunFolder) -> None:
    """The machine was last heard by the engine that died."""
    story = begin(plan(PAID)).started()("engine", pid=2)
    view, engine_at = told(folder, story), story.facts[-1].at
    heard = folder.attempt(1).heard
    heard.parent.mkdir(parents=True, exist_ok=True)
    heard.touch()
    os.utime(heard, ((engine_at - timedelta(minutes=5)).timestamp(),) * 2)
    lock = Disk().lock(folder.lock, "{}")
    assert lock is not None
    assert view.silent_s(engine_at + timedelta(seconds=2)) is None
    assert view.silent_s(engine_at + timedelta(seconds=9)) == 9
    lock.release()
