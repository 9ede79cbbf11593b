"""Own projects: one test for each thing that the contract says of them. One run serves most of them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.e2e.person import Person

# Writes down everything it can see, into OUT.
LOOKER = """
import json, os, pathlib, shutil, sys
here = pathlib.Path.cwd()
inputs = pathlib.Path(os.environ["LAUNCHER_INPUT"])
seen = {
    "cwd": str(here),
    "files": sorted(str(p.relative_to(here)) for p in here.rglob("*") if p.is_file()),
    "env": dict(os.environ),
    "inputs": {str(p.relative_to(inputs)): [oct(p.stat().st_mode & 0o777), p.read_text()]
               for p in sorted(inputs.rglob("*")) if p.is_file()},
    "python": shutil.which("python3"),
    "argv": sys.argv[1:],
}
pathlib.Path("notes.txt").write_text("scribbled")
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "deep").mkdir(parents=True, exist_ok=True)
(out / "deep" / "weights.bin").write_bytes(b"weights")
(out / "seen.json").write_text(json.dumps(seen))
print("looked")
"""
COPY = "import os, shutil; given, out = os.environ['LAUNCHER_INPUT'], os.environ['LAUNCHER_OUTPUT'];"


@pytest.fixture(scope="module")
def looked(regular: Person) -> tuple[Person, Outcome, Path, dict[str, Any]]:
    """A finished run of a repository with ignored files, inputs, secrets around and keys in the shell."""
    p = regular
    p.writes("look.py", LOOKER)
    p.writes("kept.txt", "tracked")
    p.writes(".gitignore", "data/\n*.tmp\n")
    p.writes(".launcherignore", "private/\n")
    p.writes("private/diary.txt", "mine")
    p.git()
    p.writes("new.txt", "not tracked yet, not ignored")
    p.writes("scratch.tmp", "ignored")
    p.writes("data/season.csv", "1,2,3")
    p.writes("data/more/a.txt", "a")
    p.writes("models/20200101_000000_old/manifest.json", "{}")
    done = p.own(
        "python3",
        "look.py",
        "--as",
        "it is",
        flags=("--input", "data/season.csv", "--input", "MORE=data/more", "--output", "out", "--seed", "7"),
        RUNPOD_API_KEY="rk-canary",
        AWS_SECRET_ACCESS_KEY="aws-canary",
        MINE="the caller's own",
        PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        VIRTUAL_ENV=sys.prefix,
    )
    assert done.code == 0, done.stderr
    folder = Path(done.json()["artifacts"])
    return p, done, folder, json.loads((folder / "seen.json").read_text())


def test_the_command_runs_in_a_private_copy(looked: Any) -> None:
    p, _, _, seen = looked
    assert Path(seen["cwd"]) != p.project
    assert not (p.project / "notes.txt").exists() and not (p.project / "out").exists()


def test_the_copy_is_what_git_lists(looked: Any) -> None:
    seen = looked[3]
    assert {"look.py", "kept.txt", "new.txt"} <= set(seen["files"])
    assert not {"scratch.tmp", "data/season.csv"} & set(seen["files"])


def test_launcherignore_keeps_files_at_home(looked: Any) -> None:
    assert "private/diary.txt" not in looked[3]["files"]


def test_models_are_never_pushed(looked: Any) -> None:
    assert not [name for name in looked[3]["files"] if name.startswith("models/")]


def test_out_becomes_the_version_with_its_files_at_the_root(looked: Any) -> None:
    p, done, folder, _ = looked
    assert folder == p.project / "models" / done.json()["version"]
    assert (folder / "deep" / "weights.bin").read_bytes() == b"weights"


def test_our_own_files_lie_in_dot_launcher_except_the_manifest(looked: Any) -> None:
    folder = looked[2]
    assert {one.name for one in folder.iterdir()} == {"seen.json", "deep", ".launcher", "manifest.json"}
    assert {"plan.json", "log"} <= {one.name for one in (folder / ".launcher").iterdir()}
    assert "looked\n" in (folder / ".launcher" / "log").read_text()


def test_the_manifest_names_every_file_with_size_and_sha256(looked: Any) -> None:
    folder = looked[2]
    listed = {f["path"]: f for f in json.loads((folder / "manifest.json").read_text())["files"]}
    here = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
    assert set(here) - {"manifest.json"} == set(listed)
    for path, entry in listed.items():
        data = here[path].read_bytes()
        assert entry == {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_manifest_tells_the_lineage(looked: Any) -> None:
    said = json.loads((looked[2] / "manifest.json").read_text())
    assert said["run"] == looked[1].json()["run"] and said["state"] == "done" and said["exit_code"] == 0
    assert said["code"]["dirty"] == "yes" and len(said["code"]["commit"]) == 40
    assert said["seed"] == 7 and said["usd"] == 0 and said["seconds"] > 0 and said["target"] == "local"
    assert set(said["inputs"]) == {"season.csv", "MORE"} and all(
        len(d) >= 16 for d in said["inputs"].values()
    )


def test_latest_points_at_the_verified_version(looked: Any) -> None:
    p, done, _, _ = looked
    assert json.loads((p.project / "models" / "latest.json").read_text())["version"] == done.json()["version"]


def test_no_folder_of_unfinished_versions_stays(looked: Any) -> None:
    assert not (looked[0].project / "models" / ".partial").exists()


def test_inputs_arrive_even_if_git_ignores_them(looked: Any) -> None:
    inputs = looked[3]["inputs"]
    assert inputs["season.csv"][1] == "1,2,3"  # without a name: under its own
    assert inputs["MORE/a.txt"][1] == "a"  # with NAME: at $LAUNCHER_INPUT/NAME


def test_inputs_are_read_only(looked: Any) -> None:
    assert {mode for mode, _ in looked[3]["inputs"].values()} == {"0o444"}


@pytest.mark.parametrize("name", ["RUN", "OUTPUT", "CHECKPOINT", "INPUT", "SEED"])
def test_the_command_is_told_what_it_needs(looked: Any, name: str) -> None:
    assert looked[3]["env"][f"LAUNCHER_{name}"]


def test_the_seed_is_the_one_that_was_asked_for(looked: Any) -> None:
    assert looked[3]["env"]["LAUNCHER_SEED"] == "7"
    assert looked[3]["env"]["LAUNCHER_USD_PER_HOUR"] == "0"


def test_the_command_is_told_the_device(looked: Any) -> None:
    assert looked[3]["env"]["DEVICE"] == "auto"


def test_the_callers_own_environment_is_kept_here(looked: Any) -> None:
    assert looked[3]["env"]["MINE"] == "the caller's own"


def test_no_key_of_a_provider_is_seen(looked: Any) -> None:
    env = looked[3]["env"]
    assert not [name for name in env if name.startswith(("AWS_", "RUNPOD_"))]
    assert "canary" not in json.dumps(env)


def test_the_launchers_own_environment_is_not_seen(looked: Any) -> None:
    seen = looked[3]
    assert os.path.dirname(sys.executable) not in seen["env"]["PATH"].split(os.pathsep)
    assert "VIRTUAL_ENV" not in seen["env"]
    assert seen["python"] and os.path.dirname(seen["python"]) != os.path.dirname(sys.executable)


def test_words_after_the_dashes_arrive_unchanged(looked: Any) -> None:
    assert looked[3]["argv"] == ["--as", "it is"]


def test_an_unchanged_project_has_the_same_digest(looked: Any) -> None:
    p, _, folder, _ = looked
    again = p.own("python3", "look.py", flags=("--input", "data/season.csv", "--output", "out"))
    first, second = (
        json.loads((Path(f) / "manifest.json").read_text()) for f in (folder, again.json()["artifacts"])
    )
    assert first["pushed"] == second["pushed"]
    assert first["inputs"]["season.csv"] == second["inputs"]["season.csv"]


# --- what needs a run of its own ---------------------------------------------------------------------


def test_without_output_the_results_lie_at_launcher_output(person: Person) -> None:
    code = "import os, pathlib; pathlib.Path(os.environ['LAUNCHER_OUTPUT'], 'a').write_text('1')"
    done = person.own(sys.executable, "-c", code)
    assert (done.code, Path(done.json()["artifacts"], "a").read_text()) == (0, "1")


def test_a_relative_out_in_the_working_folder_is_launcher_output(person: Person) -> None:
    code = "import os, pathlib; pathlib.Path('res/a').write_text(os.environ['LAUNCHER_OUTPUT'])"
    done = person.own(sys.executable, "-c", code, flags=("--output", "res"))
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "a").read_text().endswith("/res")


def test_one_unnamed_folder_is_launcher_input_itself(person: Person) -> None:
    person.writes("data/x.txt", "x")
    code = f"{COPY} shutil.copy(given + '/x.txt', out)"
    done = person.own(sys.executable, "-c", code, flags=("--input", "data"))
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "x.txt").read_text() == "x"


def test_a_linked_folder_of_an_input_arrives_and_a_link_to_nowhere_is_told_first(person: Person) -> None:
    person.writes("disk/x.txt", "x")
    (person.project / "data").mkdir()
    (person.project / "data/season").symlink_to("../disk")
    code = f"{COPY} shutil.copy(given + '/season/x.txt', out)"
    flags = ("--input", "data")
    done = person.own(sys.executable, "-c", code, flags=flags)
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "x.txt").read_text() == "x"
    (person.project / "disk/deep").symlink_to("gone")
    for command in ("plan", "run"):
        refused = person.types(command, "--project", ".", *flags, "--", "true")
        assert refused.code == 2 and refused.stderr.startswith("error: input-unreadable\n"), refused.stderr
        assert "these are links that lead nowhere: season/deep (mend or remove them)" in refused.stderr
    assert len(person.ps()) == 1


def test_inputs_in_a_profile_and_a_recipe_file_are_the_same_words(person: Person) -> None:
    person.writes("data/x.txt", "x")
    person.writes("launcher.yaml", "inputs: {spadl: data/x.txt}\n")
    code = f"{COPY} shutil.copy(given + '/spadl', out)"
    done = person.own(sys.executable, "-c", code)
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "spadl").read_text() == "x"


def test_a_changed_project_during_the_run_changes_nothing(person: Person) -> None:
    person.writes("fixed.txt", "before")
    person.writes(
        "wait.py",
        "import os, pathlib, sys, time\nprint('up', flush=True)\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT'])\n"
        "(out / 'saw').write_text(pathlib.Path('fixed.txt').read_text())",
    )
    go = person.root / "go"
    words = ("run", "--project", ".", "--on", "local", "--json", "--name", "calm", "-d", "--")
    assert person.types(*words, sys.executable, "wait.py", str(go)).code == 0
    person.writes("fixed.txt", "after")
    go.write_text("")
    done = person.types("watch", "calm", "--json")
    assert Path(done.json()["artifacts"], "saw").read_text() == "before"


def test_manifest_json_is_a_name_that_out_may_not_use(person: Person) -> None:
    """What was written there is kept under another name, and told; the rest comes home as it is."""
    code = (
        "import os; f = os.environ['LAUNCHER_OUTPUT']; open(f + '/manifest.json', 'w'); open(f + '/a', 'w')"
    )
    words = ("run", "--project", ".", "--on", "local", "--version", "v")
    done = person.types(*words, "--", sys.executable, "-c", code)
    assert done.code == 0 and "'manifest.json' as '%6Danifest.json'" in done.stderr, done.stderr
    folder = person.project / "models" / "v"
    listed = [f["path"] for f in json.loads((folder / "manifest.json").read_text())["files"]]
    assert [path for path in listed if not path.startswith(".launcher/")] == ["%6Danifest.json", "a"]


def test_no_out_is_no_version_and_a_failure(person: Person) -> None:
    done = person.own(sys.executable, "-c", "print('nothing written')", flags=("--output", "out"))
    assert done.code == 7 and done.json()["version"] is None
    assert not (person.project / "models").exists()


def test_a_link_out_of_out_is_left_at_home(person: Person) -> None:
    code = "import os; o = os.environ['LAUNCHER_OUTPUT']; open(o + '/a', 'w'); os.symlink('/etc', o + '/etc')"
    done = person.own(sys.executable, "-c", code)
    folder = Path(done.json()["artifacts"])
    assert done.code == 0 and (folder / "a").exists() and not os.path.lexists(folder / "etc")


def test_the_modes_of_pushed_files_are_kept(person: Person) -> None:
    tool = person.writes("tool.sh", '#!/bin/sh\necho ran > "$LAUNCHER_OUTPUT/a"\n')
    tool.chmod(0o755)
    assert stat.S_IMODE(tool.stat().st_mode) == 0o755
    done = person.own("./tool.sh")
    assert done.code == 0, done.stderr
    assert Path(done.json()["artifacts"], "a").read_text() == "ran\n"
