"""What is to be run, as a Job: a bundled trainer, or any command in any folder of the user's own.

Everything that cannot be meant is refused here, before a plan exists. It must not know where the job will
run, nor what that costs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import inputs
from launcher.agent import reqset
from launcher.errors import usage
from launcher.models import DeviceWish, Input, Job
from launcher.recipe import Recipe, command_line
from launcher.settings import Settings

GIT_S = 20
UNREAD = ""  # the digest of an input that was not read: a dry run hashes nothing


def of_trainer(recipe: Recipe, args: Sequence[str], settings: Settings, *, digests: bool) -> Job:
    """The recipe's command with checked arguments, in the folder that holds trainers/."""
    paths = {name: str(recipe.folder / path) for name, path in recipe.inputs.items()}
    return Job(
        argv=command_line(recipe, settings.get("args"), args),
        folder=str(recipe.folder),
        push=recipe.push,
        env=tuple(sorted(settings.get("env").items())),
        secrets=tuple(settings.get("secret").values()),
        inputs=_inputs({**paths, **settings.get("inputs")}, digests),
        seed=_seed(settings, recipe.seed),
        device=DeviceWish(settings.get("device")),
        require_gpu=bool(settings.get("require_gpu")),
        requirements=recipe.requirements,
        gpu_requirements=recipe.gpu_requirements,
    )


def of_project(folder: Path, command: Sequence[str], settings: Settings, *, digests: bool) -> Job:
    """The user's own command, in a copy of the user's own folder."""
    if not os.path.isdir(folder):
        raise usage("project-missing", f"the project {folder} {_fault(folder, 'is not a folder')}")
    if not command or not command[0].strip():
        raise usage(
            "command-missing",
            "a project of your own needs its command after --",
            hint=f"run --project {shlex.quote(str(folder))} -- python train.py",
        )
    return Job(
        argv=tuple(command),
        folder=str(folder),
        output=_output(folder, settings.get("output")),
        env=tuple(sorted(settings.get("env").items())),
        secrets=tuple(settings.get("secret").values()),
        inputs=_inputs(settings.get("inputs"), digests),
        seed=_seed(settings, 0),
        device=DeviceWish(settings.get("device")),
        require_gpu=bool(settings.get("require_gpu")),
        requirements=_requirements(folder, settings.get("requirements")),
        setup=tuple(shlex.split(settings.get("setup") or "")),
    )


def found_requirements(folder: Path) -> str | None:
    """What describes a project's environment, the most exact first."""
    return next((name for name in reqset.FOUND_IN_ORDER if (folder / name).is_file()), None)


def label(folder: Path) -> str:
    """A folder's name as it may stand in names of runs and versions."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._")[:40] or "project"


def code_of(folder: Path) -> tuple[tuple[str, str], ...]:
    """The git commit of a folder and whether files differ from it; empty where there is no git."""
    answer = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--", ".")
    if answer is None:
        return ()
    lines = [line for line in answer.split("\0") if line]
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "none")
    dirty = any(not line.startswith("# ") for line in lines)
    return (("commit", commit), ("dirty", "yes" if dirty else "no"))


def left_at_home(job: Job) -> tuple[str, ...]:
    """Paths that the command names, that lie in the project and that git ignores, and no input brings:
    on another machine they would be missing."""
    folder = Path(job.folder)
    words = [part for word in job.argv[1:] for part in (word, word.partition("=")[2]) if part]
    here = [word for word in words if not word.startswith("-") and _lies_in(folder, word)]
    if not here:
        return ()
    answer = _git(folder, "check-ignore", "-z", "--stdin", said="\0".join(here), good=(0, 1))
    ignored = [word for word in (answer or "").split("\0") if word]
    brought = [os.path.realpath(i.path) for i in job.inputs]
    return tuple(word for word in ignored if not _covered(os.path.realpath(folder / word), brought))


def _covered(path: str, brought: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one + os.sep) for one in brought)


def _lies_in(folder: Path, word: str) -> bool:
    try:
        path = (folder / word).resolve()
        return path.exists() and path.is_relative_to(folder.resolve()) and path != folder.resolve()
    except (OSError, ValueError):  # a word that no path can be
        return False


def _git(folder: Path, *argv: str, said: str = "", good: tuple[int, ...] = (0,)) -> str | None:
    """Git's answer; None where there is no git, no repository or no answer in time."""
    command = ["git", "-C", str(folder), *argv]
    try:
        done = subprocess.run(command, input=os.fsencode(said), capture_output=True, timeout=GIT_S)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode in good else None


def _seed(settings: Settings, otherwise: int) -> int:
    seed = settings.get("seed")
    return otherwise if seed is None else int(seed)


def _output(folder: Path, written: str | None) -> str | None:
    if written is None:
        return None
    inside = folder.resolve()
    out = (folder / written).resolve()
    if not out.is_relative_to(inside) or out == inside:
        what = "is the project itself" if out == inside else "leads out of the project"
        raise usage("output-outside", f"--output '{written}' {what}; it must be a folder below {folder}")
    if out.exists() and not out.is_dir():
        raise usage("output-outside", f"--output '{written}' is a file; it must be a folder below {folder}")
    return written


def _requirements(folder: Path, written: str | None) -> str | None:
    if written is not None and not os.path.isfile(folder / written):
        raise usage("requirements-missing", f"--requirements: there is no file {folder / written}")
    return written


def _inputs(paths: Mapping[str, str], digests: bool) -> tuple[Input, ...]:
    found: list[Input] = []
    for name, written in paths.items():
        path = Path(written)
        files = inputs.files(path)
        if not os.path.isfile(path) and not os.path.isdir(path):
            called = f"the input {name}" if name else "the input"
            what = _fault(path, "is neither a file nor a folder")
            raise usage("input-missing", f"{called} {what}: {path}")
        digest = inputs.digest(path, files) if digests else UNREAD
        found.append(Input(name or None, str(path), digest, sum(file.info.st_size for file in files)))
    return tuple(found)


def _fault(path: Path, other: str) -> str:
    """Why it is of no use: `other` where it is there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except OSError as e:  # a closed folder on the way, a name that no system takes
        return f"cannot be looked at ({e.strerror})"
    return other
