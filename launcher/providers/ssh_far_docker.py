"""An image on a host of one's own, seen from its side: the container of a run, and the program that holds it.

Travels with ssh_far.py. `docker run` stays in the foreground as the run's process: it fetches the image, its
words are the console, and it holds the GPUs' leases as long as the container lives. The guard is the first
process in there, over the same folder by the same name, as the same user. Standard library only, for
Python >= 3.10.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from launcher.providers.ssh_far_gpus import Json, Refused, said

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
SECOND_MEMORY = "1g"  # loaders hand batches over through it; 64 MB is soon full
ADVICE = "'docker run --help'"  # its last words, which say nothing of what happened
FETCHING_S = 3600  # how long the image may travel with nobody looking


def container_name(ask: Json) -> str:
    return f"launcher-{re.sub(r'[^A-Za-z0-9_.-]', '-', ask['run'])}-{ask['token'][:8]}"


def container_command(ask: Json, folder: str, devices: list[str] | None, variables: list[str]) -> list[str]:
    """The whole call. Values of variables travel in its own environment, names on its line."""
    docker = shutil.which("docker")
    if docker is None:
        raise Refused("bad", "there is no docker there, and an image was asked for")
    if said([docker, "version", "--format", "{{.Server.Version}}"]) is None:
        raise Refused("bad", "the Docker engine there does not answer this user (is it in the group docker?)")
    patience = shutil.which("timeout")
    return [
        *([patience, "-k", "5", str(int(ask["ends_in_s"]) + FETCHING_S)] if patience else []),
        docker, "run", "--rm", "--name", container_name(ask),
        "--label", f"launcher.run={ask['run']}",
        "--label", f"launcher.token={ask['token']}",
        "--label", f"launcher.owner={ask['owner']}",
        "--user", f"{os.getuid()}:{os.getgid()}",
        "--volume", f"{folder}:{folder}", "--workdir", folder,
        "--cap-drop", "ALL", *(word for name in CAPABILITIES for word in ("--cap-add", name)),
        "--security-opt", "no-new-privileges", "--shm-size", SECOND_MEMORY, "--log-driver", "none",
        *gpu_words(devices or []),
        *(word for name in variables for word in ("--env", name)),
        "--env", f"HOME={folder}",
        "--entrypoint", "python3", ask["image"], "-I", "-c", ask["boot_guard"], ask["token"],
    ]  # fmt: skip


def gpu_words(devices: list[str]) -> list[str]:
    """The leased GPUs and no others. Quoted: the client reads a comma as the next of its own fields."""
    return ["--gpus", f'"device={",".join(devices)}"'] if devices else []


def container_lives(name: str) -> bool:
    """Whether the container is there, whoever held it."""
    docker = shutil.which("docker")
    found = said([docker, "ps", "-q", "--filter", f"name=^/?{name}$"]) if docker is not None else None
    return bool(found and found.strip())


def end_container(name: str) -> None:
    docker = shutil.which("docker")
    if docker is not None:
        quiet = subprocess.DEVNULL
        subprocess.run(
            [docker, "rm", "-f", name], stdin=quiet, stdout=quiet, stderr=quiet, timeout=20, check=False
        )
