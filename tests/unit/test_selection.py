"""Which names travel: git's rules with and without git, and what is held back as a secret."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.selection import _asked, select, walk

PATTERNS = """*.log|build/|!build/|/a|a/*|!a/keep|!a/keep/|*|!*/|!*.py|**/c|c/**|a/**/d.py|/b/c/|#x|\\#x"""
PATTERNS += """|x.py|!x.py|*.p[yx]|d.py |d.py\\ |keep|!keep|b|/*|!/a|?.py|a/b/|!a/b/c/x.py|**|c/|!c"""
FOLDERS, FILES = ["a", "b", "c", "keep", "build"], ["x.py", "d.py", "e.log", "#x", "y.px", "d.py "]


def git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True).stdout


@pytest.mark.parametrize("seed", range(40))
def test_the_walk_agrees_with_git(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(14):
        folder = tmp_path.joinpath(*(dice.choice(FOLDERS) for _ in range(dice.randrange(4))))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / dice.choice(FILES)).write_text("")
    folders = [tmp_path, *(p for p in sorted(tmp_path.rglob("*")) if p.is_dir())]
    for folder in dice.sample(folders, min(len(folders), dice.randrange(1, 4))):
        rules = "\n".join(dice.choices(PATTERNS.split("|"), k=dice.randrange(1, 4)))
        (folder / ".gitignore").write_text(rules + "\n")
    walked = {n for n in walk(tmp_path, None) if not (tmp_path / n).is_dir()}
    git(tmp_path, "init", "-q")
    listed = git(tmp_path, "ls-files", "-zco", "--exclude-standard").split(b"\0")
    assert walked == {os.fsdecode(n) for n in listed if n}


def made(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def chosen(root: Path) -> tuple[set[str], set[str]]:
    found = select(root)
    return {t.name for t in found.things}, set(found.withheld)


@pytest.mark.parametrize("with_git", [False, True])
def test_secrets_stay_at_home_and_are_told(tmp_path: Path, with_git: bool) -> None:
    secret = (".env", "sub/.env.local", ".netrc", "keys/id_rsa", "id_ed25519", "x.p12", ".aws/credentials")
    plain = (".env.example", "id_rsa.pub", "keys.py", "ca.pem", "slides.key", "env", "a.envx")
    made(tmp_path, *secret, *plain)
    (tmp_path / "tls.key").write_text("# mine\n-----BEGIN EC PRIVATE KEY-----\nabc\n")
    (tmp_path / "server.pem").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    if with_git:
        git(tmp_path, "init", "-q")
    assert chosen(tmp_path) == (set(plain), {*secret, "tls.key", "server.pem"})


def test_a_line_of_ones_own_sends_a_secret_all_the_same(tmp_path: Path) -> None:
    made(tmp_path, ".env", "test/fake.pem", "other/.env")
    (tmp_path / "test/fake.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / ".launcherignore").write_text("!/.env\n!test/*.pem\n")
    assert chosen(tmp_path) == ({".env", "test/fake.pem", ".launcherignore"}, {"other/.env"})


@pytest.mark.parametrize("with_git", [False, True])
def test_empty_folders_travel_unless_ignored(tmp_path: Path, with_git: bool) -> None:
    made(tmp_path, "a/x.py", ".gitignore")
    (tmp_path / ".gitignore").write_text("/ignored/\n")
    for name in ("logs", "a/deep/er", "ignored", "models", ".venv/x"):
        (tmp_path / name).mkdir(parents=True)
    if with_git:
        git(tmp_path, "init", "-q")
    assert chosen(tmp_path)[0] == {"a/x.py", ".gitignore", "logs", "a/deep/er"}


def test_an_ignored_folder_is_not_even_looked_into(tmp_path: Path) -> None:
    made(tmp_path, "a.py", "data/x")
    (tmp_path / ".gitignore").write_text("data/\n")
    (tmp_path / "data").chmod(0)
    try:
        assert chosen(tmp_path)[0] == {"a.py", ".gitignore"}
    finally:
        (tmp_path / "data").chmod(0o700)


def test_a_part_of_a_folder_obeys_the_rules_above_it(tmp_path: Path) -> None:
    made(tmp_path, "t/train.py", "t/out.log", "kit/k.py", "other/o.py")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert {t.name for t in select(tmp_path, ("t", "kit/k.py")).things} == {"t/train.py", "kit/k.py"}


def test_a_git_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = tmp_path / "bin" / "git"
    deaf.parent.mkdir()
    deaf.write_text("#!/bin/sh\nexec sleep 60\n")
    deaf.chmod(0o755)
    monkeypatch.setenv("PATH", str(deaf.parent), prepend=os.pathsep)
    with pytest.raises(LauncherError, match=r"no answer for 0\.2 s") as refused:
        _asked(tmp_path, ("-c",), within_s=0.2)
    assert refused.value.code == "git-silent"


def test_an_empty_folder_that_the_own_list_names_as_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".launcherignore").write_text("/logs/\n")
    assert [thing.name for thing in select(tmp_path).things] == [".launcherignore", "kept"]


def test_a_folder_that_goes_while_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    for name in ("a/x", "b/x", "c/x"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    walking = walk(tmp_path, None)
    seen = [next(walking)]
    shutil.rmtree(tmp_path / "b")
    assert [*seen, *walking] == ["a/x", "c/x"]


def test_a_file_that_goes_after_its_folder_was_listed_is_passed_over(tmp_path: Path) -> None:
    for name in ("kept", "gone"):
        (tmp_path / name).write_text("")
    rules = tmp_path / ".launcherignore"  # read once all is listed
    os.mkfifo(rules)

    def go() -> None:
        with rules.open("w"):
            (tmp_path / "gone").unlink()

    with ThreadPoolExecutor(1) as beside:
        gone = beside.submit(go)
        assert [thing.name for thing in select(tmp_path).things] == ["kept"]
        gone.result()
