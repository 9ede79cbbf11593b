"""The data folder: one name per path, an owner word per folder, and folders that are not ours refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import Exit, LauncherError
from launcher.store import Home, RunFolder, Versions, open_home


def test_a_new_data_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    home = open_home({"LAUNCHER_HOME": str(tmp_path / "deep" / "home")})
    assert home.root == tmp_path / "deep" / "home"
    assert home.runs.stat().st_mode & 0o777 == 0o700
    assert (home.root / "schema").read_text() == "1"
    assert open_home({"LAUNCHER_HOME": str(home.root)}) == home


def test_a_relative_data_folder_would_hide_what_bills_from_the_next_folder(tmp_path: Path) -> None:
    where = os.path.relpath(tmp_path / "home")
    with pytest.raises(LauncherError) as refused:
        open_home({"LAUNCHER_HOME": where})
    assert refused.value.code == "home-relative"
    assert os.path.abspath(where) in os.path.normpath(str(refused.value.hint).partition("=")[2])
    assert not (tmp_path / "home").exists()


def test_without_the_variable_it_is_the_platforms_data_folder(tmp_path: Path) -> None:
    ask = "from launcher.store import open_home; print(open_home({}).root)"
    env = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-c", ask], env={**env, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.decode().strip()).is_relative_to(tmp_path)


def test_a_folder_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "schema").write_text("7\n")
    with pytest.raises(LauncherError, match="has layout 7") as caught:
        open_home({"LAUNCHER_HOME": str(tmp_path)})
    assert (caught.value.code, caught.value.exit) == ("home-schema", Exit.USAGE)


@pytest.mark.parametrize("place", ["file", "file/below", "readonly/home"])
def test_a_data_folder_that_cannot_be_written_is_said(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "readonly").symlink_to("/proc")  # where not even root can make a folder
    with pytest.raises(LauncherError, match="cannot be written") as caught:
        open_home({"LAUNCHER_HOME": str(tmp_path / place)})
    assert (caught.value.code, caught.value.exit) == ("home-unwritable", Exit.USAGE)


def test_runs_are_listed_oldest_first_and_only_with_a_plan(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.names() == ()
    for name, at in (("late-b", 300), ("early-a", 100), ("late-a", 300)):
        home.run(name).root.mkdir(parents=True)
        home.run(name).plan.write_text("{}")
        os.utime(home.run(name).plan, ns=(at, at))
    (home.runs / "half-made").mkdir()
    (home.runs / "stray").write_text("no run")
    assert home.names() == ("early-a", "late-a", "late-b")


def test_the_owner_word_is_random_kept_and_beside_the_runs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    word = Home(tmp_path).owner()
    assert len(word) == 16 and int(word, 16) >= 0
    assert Home(tmp_path).owner() == word
    assert Home(tmp_path / "other").owner() != word
    assert sorted(os.listdir(tmp_path)) == ["other", "owner"]


def test_all_who_start_together_have_one_owner_word(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from launcher.store import Home;"
        "print('ready', flush=True); sys.stdin.readline(); print(Home(Path(sys.argv[1])).owner())"
    )
    pipe = subprocess.PIPE
    several = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=pipe, stdout=pipe)
        for _ in range(3)
    ]
    for one in several:
        assert one.stdout is not None
        assert one.stdout.readline() == b"ready\n"
    for one in several:
        assert one.stdin is not None
        one.stdin.write(b"go\n")
        one.stdin.flush()
    said = {one.communicate(timeout=20)[0] for one in several}
    assert said == {Home(tmp_path).owner().encode() + b"\n"}
    assert os.listdir(tmp_path) == ["owner"]


def test_every_path_of_a_run_lies_in_its_folder_and_has_its_own_place(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "quickstart-abcd")
    attempt = run.attempt(2)
    assert run.name == "quickstart-abcd"
    places = [
        run.plan,
        run.journal,
        run.lock,
        run.requests,
        run.keys,
        run.checkpoints,
        run.watched,
        run.engine_log,
    ]
    places += [
        attempt.events,
        attempt.telemetry,
        attempt.log,
        attempt.setup_log,
        attempt.sealed,
        attempt.spool,
    ]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(run.root) for place in places)
    assert all(place.parent == run.root / "attempts" / "2" for place in places[-6:])
    versions = Versions(tmp_path)
    assert versions.manifest("v") == tmp_path / "models" / "v" / "manifest.json"
    assert versions.partial("r").name.startswith(".")
    assert {versions.latest.parent, versions.version("v").parent} == {versions.root}
    assert {Home(tmp_path).envs, Home(tmp_path).prices} == {tmp_path / "envs", tmp_path / "prices.json"}


def test_a_version_may_be_called_as_if_it_came_from_a_lost_machine(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    folders = [versions.rescued("exp", 2, "0123456789"), versions.partial("exp")]
    for folder in (*folders, versions.version("exp.rescued.2"), versions.version("exp.partial.exp")):
        folder.mkdir(parents=True)
    assert sorted(versions.leftovers()) == [(folders[1], "exp"), (folders[0], None)]
