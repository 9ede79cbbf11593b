"""Trainers that go wrong, and two launchers on one run: a page that says it, and nothing is left over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.person import Person, until

PY = sys.executable


def test_a_trainer_that_ends_with_an_error_shows_its_last_lines(person: Person) -> None:
    code = "import sys\nfor n in range(50): print('line', n)\nsys.exit('it broke')"
    done = person.own(PY, "-c", code)
    assert done.code == 7 and done.json()["state"] == "failed" and done.json()["exit_code"] == 1
    page = done.stderr.split("\n\n", 1)[1].splitlines()
    assert page[19] == "  | it broke" and page[0] == "  | line 31" and page[20] == "error: trainer-failed"
    assert "ended with status 1" in done.stderr
    person.alone()


def test_the_same_on_a_rented_card_is_offered_to_whoever_got_something_and_only_as_far_as_it_is_known(
    person: Person,
) -> None:
    person.trainer()
    words = ("run", "mini", "--on", "local")
    assert re.search(r"rented RTX 4090: \$\d+\.\d\d to \$\d", person.types(*words).stdout)
    recipe = person.project / "trainers" / "mini" / "trainer.yaml"
    recipe.write_text(re.sub(r"hours: .*\n", "", recipe.read_text()))
    unknown = person.types(*words, "--", "--epochs", "4").stdout
    assert re.search(r"rented RTX 4090: at most \$\d", unknown), unknown
    person.writes("trainers/mini/train.py", "raise SystemExit(3)\n")
    failed = person.types(*words)
    assert failed.code == 7 and "rented" not in failed.stdout, failed.stdout


def test_a_trainer_that_dies_of_a_signal(person: Person) -> None:
    done = person.own(PY, "-c", "import os; os.kill(os.getpid(), 11)")
    assert (done.code, done.json()["exit_code"]) == (7, None)
    assert "signal 11 (SIGSEGV)" in done.stderr
    person.alone()


def test_a_trainer_that_leaves_children_behind(person: Person) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True)"
    done = person.own(PY, "-c", code)
    assert done.code == 0
    person.alone()


def test_an_argument_of_bytes_that_are_no_text_arrives_as_it_is(person: Person) -> None:
    code = (
        "import os, sys; open(os.environ['LAUNCHER_OUTPUT'] + '/got', 'wb').write(os.fsencode(sys.argv[1]))"
    )
    done = person.own(PY, "-c", code, "\udcff 한국어")
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    assert (Path(done.json()["artifacts"]) / "got").read_bytes() == b"\xff " + "한국어".encode()
    shown = person.types("models", "show", "--json")
    assert shown.json()["command"][-1] == "\udcff 한국어"


def test_a_command_that_is_not_there(person: Person) -> None:
    done = person.own("no-such-program")
    assert done.code == 7 and "no-such-program" in done.stderr and "trainer-refused" in done.stderr
    person.alone()


def test_an_environment_that_cannot_be_made_says_why(person: Person) -> None:
    done = person.own("true", flags=("--setup", "sh -c 'echo no compiler here >&2; exit 3'"))
    assert done.code in (5, 7) and "no compiler here" in done.stderr
    person.alone()


def test_out_that_becomes_a_link_elsewhere_brings_nothing_from_there(person: Person) -> None:
    code = "import os; os.rmdir('out'); os.symlink('/etc', 'out')"
    done = person.own(PY, "-c", code, flags=("--output", "out"))
    assert done.code == 7 and done.json()["version"] is None
    assert not (person.project / "models").exists()


def test_a_trainer_that_floods_its_log_is_shown_and_kept(person: Person) -> None:
    done = person.own(PY, "-c", "for n in range(20000): print('x' * 99)", flags=("--name", "flood"))
    assert done.code == 0 and len(person.types("logs", "flood").stdout) == 20000 * 100


# --- two launchers -----------------------------------------------------------------------------------


def test_two_launchers_on_one_run_are_one_engine(person: Person) -> None:
    go, _ = person.worker("shared")
    engine = person.engine("shared")
    others = [person.begins("resume", "shared", "--json") for _ in range(2)]
    second = subprocess.run(
        [PY, "-I", "-m", "launcher.driver", str(person.run_folder("shared"))],
        env=person.environ(),
        timeout=20,
    )
    assert second.returncode == 0 and person.engine("shared") == engine
    go.write_text("")
    for one in others:
        one.communicate(timeout=60)
        assert one.returncode == 0
    assert [f["pid"] for f in person.facts("shared") if f["kind"] == "engine"] == [engine]
    person.alone()


def test_two_resumes_of_a_dead_run_make_one_engine(person: Person) -> None:
    go, _ = person.worker("shared")
    engine = person.engine("shared")
    os.kill(engine, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's death")
    others = [person.begins("resume", "shared", "--json") for _ in range(3)]
    until(lambda: len([f for f in person.facts("shared") if f["kind"] == "engine"]) == 2, "a new engine")
    go.write_text("")
    for one in others:
        one.communicate(timeout=60)
        assert one.returncode == 0
    kinds = [f["kind"] for f in person.facts("shared")]
    # A terminal that comes late may start an engine on the ended run: it must find nothing to do.
    assert kinds[: kinds.index("ended")].count("engine") == 2
    assert set(kinds[kinds.index("ended") + 1 :]) <= {"engine"}
    assert len(list((person.project / "models").glob("*_*"))) == 1


def test_two_runs_that_want_one_name_are_one_run(person: Person) -> None:
    words = ("run", "--project", ".", "--on", "local", "--name", "same", "--json", "--", "true")
    both = [person.begins(*words) for _ in range(2)]
    ended = [one.communicate(timeout=60) for one in both]
    codes = sorted(one.returncode for one in both)
    assert codes == [0, 2], ended
    assert "run-name-taken" in "".join(err for _, err in ended)
