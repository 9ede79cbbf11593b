"""When two requirement sets are the same, what an installer is told, and what cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.agent.envs import Order, digest_of
from launcher.agent.reqset import EnvError, read

# what makes two sets the same


def digest(requirements: Path, *setup: str, project: Path | None = None) -> str:
    return digest_of(Order(read(requirements, None), sys.executable, Path("envs"), setup, project))


def written(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_comments_order_and_spaces_do_not_make_another_set(tmp_path: Path) -> None:
    plain = written(tmp_path / "a", "one==1\ntwo==2\n")
    other = written(tmp_path / "b", "# first\n\n two==2   # why\none==1 \\\n\n")
    assert digest(plain) == digest(other)
    assert digest(plain) != digest(written(tmp_path / "c", "one==1\ntwo==2.1\n"))


def test_included_files_count_by_what_they_hold(tmp_path: Path) -> None:
    whole = written(tmp_path / "a", "one==1\ntwo==2\n")
    written(tmp_path / "b" / "deep", "two==2\n", "more.txt")
    assert digest(whole) == digest(written(tmp_path / "b", "-r deep/more.txt\none==1\n"))
    bound = written(tmp_path / "c", "one\n-c limits.txt\n")
    written(tmp_path / "c", "one<2\n", "limits.txt")
    before = digest(bound)
    written(tmp_path / "c", "one<3\n", "limits.txt")
    assert digest(bound) != before
    assert read(bound, None).lines == ("one", f"-c {(tmp_path / 'c' / 'limits.txt').as_uri()}")


def test_a_local_package_counts_by_its_bytes_and_is_never_linked_to(tmp_path: Path) -> None:
    asks = written(tmp_path, "-e ./own[extra]\n--editable=own2\n--find-links=https://wheels.example/x\n")
    module = written(tmp_path / "own", "1\n", "module.py")
    written(tmp_path / "own2", "2\n", "module.py")
    wanted = read(asks, None)
    assert wanted.lines == (f"{tmp_path / 'own'}[extra]", "own2", "--find-links=https://wheels.example/x")
    before = digest(asks)
    module.write_text("3\n")
    assert digest(asks) != before


def test_the_project_counts_only_where_a_setup_command_may_read_it(tmp_path: Path) -> None:
    asks, code = written(tmp_path, "one==1\n"), written(tmp_path / "src", "1\n", "code.py")
    plain, with_setup = digest(asks, project=tmp_path), digest(asks, "make", project=tmp_path)
    code.write_text("2\n")
    assert digest(asks, project=tmp_path) == plain
    assert digest(asks, "make", project=tmp_path) != with_setup != plain


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("requirements.txt", "-r requirements.txt\n", "includes itself"),
        ("requirements.txt", "-r gone.txt\n", "gone.txt"),
        ("requirements.txt", "./gone\n", "gone is not there"),
        ("pyproject.toml", "[tool.x]\n", "no [project] table"),
        ("pyproject.toml", "[project\n", "pyproject.toml"),
        ("pyproject.toml", '[project]\ndynamic = ["dependencies"]\n', "computes its dependencies"),
        ("pyproject.toml", '[project]\ndependencies = "one"\n', "no list of texts"),
        ("uv.lock", "version = 1\n", "pyproject.toml"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(EnvError) as refused:
        read(written(tmp_path, text, name), None)
    assert words in str(refused.value)
