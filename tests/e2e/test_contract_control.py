"""Seeing and steering runs: one test for each promise of ps, status, logs, stop, resume, extend, pull, rerun,
models and doctor.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.person import Person, until

PY = sys.executable


@pytest.fixture
def working(person: Person) -> tuple[Person, Path]:
    """A detached run called work-one, and the file that lets it end."""
    go, _ = person.worker("work-one")
    return person, go


@pytest.fixture(scope="module")
def over(regular: Person) -> Person:
    regular.own("true", flags=("--name", "over"))
    return regular


# --- which run ---------------------------------------------------------------------------------------


def test_any_unique_prefix_names_a_run(working: tuple[Person, Path]) -> None:
    person, _ = working
    assert person.types("status", "work", "--json").json()["run"] == "work-one"


def test_an_ambiguous_prefix_is_refused_with_the_names(person: Person) -> None:
    person.own("true", flags=("--name", "twin-a"))
    person.own("true", flags=("--name", "twin-b"))
    done = person.types("status", "twin")
    assert done.code == 2 and "twin-a" in done.stderr and "twin-b" in done.stderr
    assert person.types("status", "twin-b", "--json").json()["run"] == "twin-b"


def test_an_unknown_run_is_refused_with_the_nearest(over: Person) -> None:
    done = over.types("status", "ovre")
    assert done.code == 2 and "did you mean over?" in done.stderr


def test_left_out_it_is_the_newest_run_of_this_project(person: Person, tmp_path: Path) -> None:
    person.own("true", flags=("--name", "older"))
    person.own("true", flags=("--name", "newer"))
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = ("run", "--project", str(other), "--on", "local", "--name", "foreign", "--", "true")
    assert person.types(*elsewhere, cwd=other).code == 0
    assert person.types("status", "--json").json()["run"] == "newer"
    assert person.types("status", "--json", cwd=other).json()["run"] == "foreign"


def test_without_any_run_of_this_project_it_says_so(person: Person) -> None:
    done = person.types("status")
    assert done.code == 2 and "no-run" in done.stderr


def test_whoever_asks_from_another_folder_is_told_where_the_newest_run_is_from(over: Person) -> None:
    done = over.types("status", cwd=over.root)
    assert done.code == 2 and "no-run" in done.stderr
    assert f"over, of {over.project}" in done.stderr and " ps\n" in done.stderr


# --- ps ----------------------------------------------------------------------------------------------


def test_ps_ends_with_the_sentence_that_lets_one_close_the_laptop(person: Person) -> None:
    assert person.types("ps").stdout.splitlines()[-1].startswith("nothing runs, nothing bills")
    go, _ = person.worker("busy")
    assert person.types("ps").stdout.splitlines()[-1] == "1 running here, nothing bills"
    go.write_text("")
    person.types("watch", "busy")
    assert person.types("ps").stdout.splitlines()[-1].startswith("nothing runs, nothing bills")


def test_ps_lists_ended_runs_too_the_newest_last(person: Person) -> None:
    for name in ("one", "two"):
        person.own("true", flags=("--name", name))
    assert [row["run"] for row in person.types("ps", "--json").json()] == ["one", "two"]
    lines = person.types("ps").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[1:3]] == ["one", "two"]


# --- stop --------------------------------------------------------------------------------------------


def test_stop_checkpoints_fetches_and_ends(working: tuple[Person, Path]) -> None:
    person, _ = working
    done = person.types("stop", "work-one", "--json")
    said = done.json()
    assert (done.code, said["state"]) == (0, "stopped")
    assert Path(said["artifacts"], "left").read_text() == "politely"
    assert (person.run_folder("work-one") / "checkpoints" / "last" / "step").read_text() == "7"
    person.alone()


def test_stop_now_skips_the_fetch(working: tuple[Person, Path]) -> None:
    person, _ = working
    done = person.types("stop", "work-one", "--now", "--json")
    assert (done.code, done.json()["state"], done.json()["version"]) == (0, "stopped", None)
    assert not (person.project / "models").exists()
    person.alone()


def test_stop_asks_when_the_run_is_left_out(working: tuple[Person, Path]) -> None:
    person, _ = working
    done = person.types("stop")
    assert done.code == 2 and "work-one" in done.stderr and person.state("work-one") == "running"
    with person.terminal("stop") as screen:
        screen.sees("stop work-one\\?")
        screen.types("n\n")
        assert screen.ends() == 130
    assert person.state("work-one") == "running"
    assert person.types("stop", "--yes").code == 0 and person.state("work-one") == "stopped"


def test_stop_of_an_ended_run_says_so_and_changes_nothing(over: Person) -> None:
    facts = over.facts("over")
    done = over.types("stop", "over")
    assert done.code == 0 and "already ended" in done.stderr and over.facts("over") == facts


@pytest.mark.alone
def test_a_request_is_answered_within_a_second(working: tuple[Person, Path]) -> None:
    person, _ = working
    begun = time.monotonic()
    person.types("extend", "work-one", "--by", "1m")
    assert time.monotonic() - begun < 2  # the command's own start included


# --- resume ------------------------------------------------------------------------------------------


def test_resume_of_a_run_that_a_living_engine_drives_shows_it(working: tuple[Person, Path]) -> None:
    person, go = working
    engine = person.engine("work-one")
    seen = person.begins("resume", "work-one", "--json")
    until((person.run_folder("work-one") / "watched").exists, "the view")
    go.write_text("")
    out, _ = seen.communicate(timeout=60)
    assert seen.returncode == 0 and json.loads(out)["state"] == "done"
    assert [f["pid"] for f in person.facts("work-one") if f["kind"] == "engine"] == [engine]


def test_resume_after_stop_goes_on_from_the_checkpoint(working: tuple[Person, Path]) -> None:
    person, go = working
    person.types("stop", "work-one")
    go.write_text("")
    done = person.types("resume", "work-one", "--json")
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    assert Path(done.json()["artifacts"], "model.bin").exists()
    put_back = [f for f in person.facts("work-one") if f["kind"] == "create-asked"]
    assert len(put_back) == 2
    person.alone()


def test_the_newest_checkpoint_is_put_back_on_the_next_machine(person: Person) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "m = pathlib.Path(os.environ['LAUNCHER_CHECKPOINT']) / 'c1'\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT']) / 'found'\n"
        "if m.exists(): out.write_text((m / 'step').read_text()); sys.exit(0)\n"
        "m.mkdir(); (m / 'step').write_text('41'); (m / 'complete').write_text('')\n"
        "print('saved', flush=True); time.sleep(60)\n"
    )
    person.writes("t.py", code)
    words = ("--on", "local", "--name", "again", "-d", "--", PY, "t.py")
    assert person.types("run", "--project", ".", *words).code == 0
    until(lambda: "saved" in person.types("logs", "again").stdout, "the checkpoint")
    assert person.types("stop", "again").code == 0
    done = person.types("resume", "again", "--json")
    assert done.code == 0 and Path(done.json()["artifacts"], "found").read_text() == "41"


def test_resume_of_a_finished_run_changes_nothing(over: Person) -> None:
    facts = over.facts("over")
    done = over.types("resume", "over", "--json")
    assert (done.code, done.json()["state"]) == (0, "done") and over.facts("over") == facts


# --- extend, pull, rerun -----------------------------------------------------------------------------


def test_extend_gives_the_trainer_more_time(person: Person) -> None:
    go, _ = person.worker("longer", "--max-time", "6s")
    before = person.ps()["longer"]["deadline"]
    done = person.types("extend", "longer", "--by", "30m", "--json")
    assert done.code == 0 and done.json()["max_time_s"] == 1806
    until(lambda: person.ps()["longer"]["deadline"] > before, "a later deadline")
    time.sleep(8)  # nobody but time tells that the old limit is over
    assert person.state("longer") == "running"
    go.write_text("")
    assert person.types("watch", "longer").code == 0


def test_extend_beyond_a_day_is_refused_with_status_8(working: tuple[Person, Path]) -> None:
    person, _ = working
    done = person.types("extend", "work-one", "--by", "200h")
    assert done.code == 8 and "7 days" in done.stderr and person.state("work-one") == "running"


@pytest.mark.parametrize(("flag", "value"), [("--by", "soon"), ("--max-cost", "two")])
def test_extend_by_what_cannot_be_meant_names_the_flag(
    working: tuple[Person, Path], flag: str, value: str
) -> None:
    person, _ = working
    done = person.types("extend", "work-one", "--by", "1m", flag, value)
    assert done.code == 2 and "bad-setting" in done.stderr and f"{flag} needs" in done.stderr


def test_extend_of_what_does_not_run_is_refused(over: Person) -> None:
    done = over.types("extend", "over", "--by", "1h")
    assert done.code == 2 and "over is done" in done.stderr and "rerun over" in done.stderr
    assert over.types("extend", "over").code == 2


def test_pull_of_a_live_run_fetches_its_checkpoints_and_leaves_it_running(person: Person) -> None:
    code = (
        "import os, pathlib, time\n"
        "m = pathlib.Path(os.environ['LAUNCHER_CHECKPOINT']) / 'c1'\n"
        "m.mkdir(); (m / 'step').write_text('5'); (m / 'complete').write_text('')\n"
        "print('saved', flush=True); time.sleep(60)\n"
    )
    person.writes("t.py", code)
    words = ("--on", "local", "--name", "live", "-d", "--", PY, "t.py")
    assert person.types("run", "--project", ".", *words, LAUNCHER_CHECKPOINT_EVERY="1s").code == 0
    assert person.types("pull", "live").code == 0
    step = person.run_folder("live") / "checkpoints" / "c1" / "step"
    until(step.exists, "the checkpoint")
    assert step.read_text() == "5" and person.state("live") == "running"


def test_results_that_wait_are_pulled_and_the_state_is_what_the_end_was(person: Person) -> None:
    go, _ = person.worker("waits")
    engine = person.engine("waits")
    models = person.project / "models"
    models.write_text("in the way")  # the results cannot be brought here
    go.write_text("")
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's end")
    assert person.state("waits") == "waiting"
    assert "pull waits" in person.types("ps").stdout
    why = person.types("status", "waits").stdout
    assert f"why       {models}/.partial.waits: Not a directory" in why, why
    models.unlink()
    done = person.types("pull", "waits", "--json")
    assert (done.code, done.json()["state"]) == (0, "done") and person.state("waits") == "done"
    assert Path(done.json()["artifacts"], "model.bin").read_bytes() == b"weights"
    person.alone()


def test_rerun_is_a_new_run_of_the_same_words(person: Person) -> None:
    person.trainer()
    first = person.types("run", "mini", "--on", "local", "--json", "--", "--epochs", "9").json()
    again = person.types("rerun", first["run"], "--json")
    assert again.code == 0 and again.json()["run"] != first["run"]
    for one in (first, again.json()):
        argv = json.loads(Path(one["artifacts"], "argv.json").read_text())
        assert argv[argv.index("--epochs") + 1] == "9"


def test_rerun_takes_other_flags_and_arguments(person: Person) -> None:
    person.trainer()
    first = person.types("run", "mini", "--on", "local", "--json", "--", "--epochs", "9").json()
    words = ("rerun", first["run"], "--json", "--version", "second", "--", "--epochs", "2")
    again = person.types(*words).json()
    assert again["version"] == "second"
    argv = json.loads(Path(again["artifacts"], "argv.json").read_text())
    assert argv[argv.index("--epochs") + 1] == "2"


# --- logs, status, watch -----------------------------------------------------------------------------


def test_logs_has_every_line_whole_and_in_order(person: Person) -> None:
    lines = [f"line {n} é" for n in range(500)]
    person.own(PY, "-c", "for n in range(500): print(f'line {n} é')", flags=("--name", "talk"))
    assert person.types("logs", "talk").stdout.splitlines() == lines


def test_logs_cannot_move_the_cursor_unless_raw(person: Person) -> None:
    person.own("printf", "\\033[2Jgone\\n", flags=("--name", "rude"))
    assert person.types("logs", "rude").stdout == "gone\n"
    assert person.types("logs", "rude", "--raw").stdout == "\033[2Jgone\n"


def test_a_metric_that_is_no_number_is_warned_of_at_once(person: Person) -> None:
    code = (
        "import json, os, pathlib, time\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT'])\n"
        "row = {'ts': 1, 'step': 3, 'split': 'train', 'name': 'loss', 'value': float('nan')}\n"
        "(out / 'metrics.jsonl').write_text(json.dumps(row) + '\\n')\n"
        "print('diverged', flush=True)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.02)\n"
    )
    person.writes("t.py", code)
    go = person.root / "go"
    words = ("--on", "local", "--name", "bad", "--env", f"GO={go}", "--", PY, "t.py")
    seen = person.begins("run", "--project", ".", *words)
    told = until(lambda: person.types("status", "bad", "--json", timeout=20).json()["warnings"]
                 if (person.run_folder("bad") / "plan.json").exists() else None, "a warning", 15)  # fmt: skip
    assert "loss" in told[0] and "nan" in told[0].lower()
    assert "warning" in person.types("status", "bad").stdout
    go.write_text("")
    _, err = seen.communicate(timeout=60)
    assert "warning: " in err and "loss" in err
    assert seen.returncode == 0  # the state is the trainer's own end


def test_watch_shows_progress_machine_money_and_end(person: Person) -> None:
    code = (
        "import json, os, pathlib, time\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT'])\n"
        "row = {'ts': 1, 'step': 3, 'split': 'train', 'name': 'loss', 'value': 0.25}\n"
        "(out / 'metrics.jsonl').write_text(json.dumps(row) + '\\n')\n"
        "time.sleep(60)\n"
    )
    person.writes("t.py", code)
    assert person.types(
        "run", "--project", ".", "--on", "local", "--name", "seen", "-d", "--", PY, "t.py"
    ).code == 0  # fmt: skip
    with person.terminal("watch", "seen") as screen:
        screen.sees("step 3")
        for what in (
            r"loss 0\.25",
            r"CPU \d+ %",
            r"RAM [\d.]+/\d+ GB",
            r"\$0\.00",
            r"ends by (\d\d-\d\d )?\d\d:\d\d",
        ):
            screen.sees(what)


# --- models ------------------------------------------------------------------------------------------


def test_models_verify_finds_what_was_changed(person: Person) -> None:
    person.trainer()
    made = person.types("run", "mini", "--on", "local", "--json").json()
    assert person.types("models", "verify").code == 0
    (Path(made["artifacts"]) / "argv.json").write_text("[1]")
    done = person.types("models", "verify")
    assert done.code == 5 and "version-damaged" in done.stderr and "argv.json" in done.stderr


def test_models_promote_moves_latest_only_to_what_is_sound_and_done(person: Person) -> None:
    person.trainer()
    made = [person.types("run", "mini", "--on", "local", "--json", "--version", v).json() for v in ("a", "b")]
    latest = person.project / "models" / "latest.json"
    assert json.loads(latest.read_text())["version"] == "b"
    assert person.types("models", "promote", "a").code == 0
    assert json.loads(latest.read_text())["version"] == "a"
    (Path(made[1]["artifacts"]) / "argv.json").write_text("[1]")
    assert person.types("models", "promote", "b").code == 5
    assert json.loads(latest.read_text())["version"] == "a"


# --- doctor ------------------------------------------------------------------------------------------


def stray(person: Person) -> int:
    """A labelled process that no run of this data folder knows."""
    person.worker("lost")
    engine = person.engine("lost")
    os.kill(engine, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's death")
    shutil.rmtree(person.run_folder("lost"))
    return len(person.processes())


def test_doctor_finds_strays_and_ends_them_only_with_a_yes(person: Person) -> None:
    assert stray(person) > 0
    said = person.types("doctor", "--json").json()["orphans"]
    assert len(said) == 1
    assert set(said[0]) >= {"target", "instance", "kind", "usd_per_hour", "since", "owner"}
    assert said[0]["target"] == "local" and said[0]["usd_per_hour"] == 0
    refused = person.types("doctor", "--end-orphans")
    assert refused.code == 2 and "needs-yes" in refused.stderr and person.processes()
    assert person.types("doctor", "--end-orphans", "--yes").code == 0
    person.alone()


def test_doctor_leaves_living_runs_alone(working: tuple[Person, Path]) -> None:
    person, _ = working
    assert person.types("doctor", "--json").json()["orphans"] == []
    assert person.types("doctor", "--end-orphans", "--yes").code == 0
    assert person.state("work-one") == "running"
