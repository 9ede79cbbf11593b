"""The far side of a host of the user's own: what can only be done there, as a program that travels.

Its source goes over the connection and answers one line of JSON for each line of JSON it is asked, until its
stdin ends; nothing of it stays. Standard library only, Python >= 3.10, Linux, imports nothing of ours. It
remembers nothing: processes tell by the labels in their environment what they are, folders by their file of
labels, and a GPU is leased by sockets in the kernel that die with whoever holds them. It ends nothing that
does not carry our label.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress

from launcher.providers.ssh_far_docker import (
    ADVICE,
    container_command,
    container_lives,
    container_name,
    end_container,
)
from launcher.providers.ssh_far_gpus import Json, Refused, Survey, lease, said, user_name

MARK = "launcher-far "
LABEL = "LAUNCHER_INSTANCE"
LABELS = (LABEL, "LAUNCHER_RUN", "LAUNCHER_OWNER", "LAUNCHER_ENDS_AT", "LAUNCHER_SPOOL")
LABELS_FILE = "labels.json"
FOLDER = "folder:"
NOT_OURS = ("LAUNCHER_", "SSH_", "PYTHON", "VIRTUAL_ENV", "RUNPOD_API_KEY", "AWS_", "CUDA_VISIBLE_DEVICES")
TOOLS = ("~/.local/bin", "~/.cargo/bin", "~/bin")  # uv lies there; a session without a terminal never looks
ROUNDS = 20
CONSOLE_BYTES = 1 << 16


def our_home() -> str:
    return os.path.join(os.path.expanduser("~"), ".launcher")


def runs_folder() -> str:
    return os.path.join(our_home(), "runs")


def no_writing(e: OSError, where: str) -> Refused:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused("full", f"its disk is full: {where}: {e.strerror}")
    return Refused("bad", f"nothing can be written to {where} there: {e.strerror}")


# --- processes that carry our label -----------------------------------------------------------------


def labelled() -> dict[int, dict[str, str]]:
    """Every live process with our label that this user may look at, without those of containers."""
    here, found = os.stat("/"), {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                data = file.read()
            if LABEL.encode() not in data or not os.path.samestat(os.stat(f"/proc/{name}/root"), here):
                continue
        except OSError:  # gone meanwhile, or another user's
            continue
        pairs = (word.partition("=") for word in data.decode("utf-8", "surrogateescape").split("\0"))
        env = {key: value for key, _, value in pairs if key in LABELS}
        if env.get(LABEL):
            found[int(name)] = env
    return found


def is_guard(pid: int, token: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return token.encode() in file.read().split(b"\0")
    except OSError:
        return False


def stat_words(pid: str) -> list[bytes]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def tree(token: str) -> set[int]:
    """What carries the label, and whatever hangs below it."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            words = stat_words(name)
            if words[0] not in (b"Z", b"X"):
                children.setdefault(int(words[1]), []).append(int(name))
    ask = [pid for pid, env in labelled().items() if env[LABEL] == token]
    found: set[int] = set()
    while ask:
        pid = ask.pop()
        if pid not in found:
            found.add(pid)
            ask += children.get(pid, [])
    return found - {os.getpid()}


def born(pid: int) -> str:
    """What tells this process in this life of the machine from any other."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{stat_words(str(pid))[19].decode()}"
    except OSError:
        return "gone"


# --- the verbs --------------------------------------------------------------------------------------


def listing(_ask: Json) -> Json:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # guards that we began and that have ended
            pass
    guards: dict[str, Json] = {}
    strays: dict[str, Json] = {}
    for pid, env in sorted(labelled().items()):
        if is_guard(pid, env[LABEL]):
            guards.setdefault(env[LABEL], {**env, "boot": born(pid)})
        else:
            strays.setdefault(env[LABEL], env)
    kept = folders()
    for token, labels in kept.items():
        if labels.get("container") and (token in guards or container_lives(labels["container"])):
            guards.setdefault(token, {**labels, "boot": labels["container"]})["container"] = labels[
                "container"
            ]
    left = {token: env for token, env in strays.items() if token not in guards}
    return {"now": time.time(), "home": our_home(), "guards": guards, "strays": left, "folders": kept}


def folders() -> dict[str, Json]:
    found: dict[str, Json] = {}
    with suppress(FileNotFoundError):
        for token in sorted(os.listdir(runs_folder())):
            with suppress(OSError, ValueError), open(os.path.join(runs_folder(), token, LABELS_FILE)) as file:
                labels = json.load(file)
                if isinstance(labels, dict) and labels.get(LABEL) == token:  # else it is none of ours
                    found[token] = labels
    return found


def create(ask: Json) -> Json:
    """The guard's process in a session of its own. With the same token again: what became of the first."""
    if not sys.platform.startswith("linux"):
        raise Refused("bad", f"it runs {sys.platform}, and runs need Linux")
    gpus = Survey() if ask["gpus"] else None
    token = ask["token"]
    with ExitStack() as held:
        _lock(held)
        seen = listing({})
        if token in seen["guards"]:
            return seen
        if _has_begun(token):
            return {**seen, "ended": True}
        devices, sockets = lease(gpus, ask, held) if gpus is not None else ([], [])
        try:
            _begin(ask, devices if ask["gpus"] and gpus is not None and gpus.devices else None, sockets)
        except OSError as e:
            shutil.rmtree(os.path.join(runs_folder(), token), ignore_errors=True)
            raise no_writing(e, runs_folder()) from e
    return listing({})


def _lock(held: ExitStack) -> None:
    """One create at a time: two with the same token must not both find nothing. A child holds it until it is
    what it is to be, and can be seen."""
    try:
        os.makedirs(runs_folder(), 0o700, exist_ok=True)
        os.chmod(our_home(), 0o700)
        file = os.open(os.path.join(runs_folder(), ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise no_writing(e, our_home()) from e
    held.callback(os.close, file)
    fcntl.flock(file, fcntl.LOCK_EX)


def _has_begun(token: str) -> bool:
    """A guard was there: it made these as its first act. A folder without them is what a cut create left."""
    folder = os.path.join(runs_folder(), token)
    return any(os.path.exists(os.path.join(folder, name)) for name in ("in", "console"))


def _begin(ask: Json, devices: list[str] | None, sockets: list[int]) -> None:
    folder = os.path.join(runs_folder(), ask["token"])
    labels = {
        LABEL: ask["token"],
        "LAUNCHER_RUN": ask["run"],
        "LAUNCHER_OWNER": ask["owner"],
        # By the clock of this machine, which may be off: what it has left to live is what was agreed to.
        "LAUNCHER_ENDS_AT": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ask["ends_in_s"])),
        "LAUNCHER_SPOOL": folder,
    }
    image = ask["image"] is not None
    argv = [sys.executable, "-I", "-c", ask["boot_guard"], ask["token"]]
    if image:
        argv = container_command(ask, folder, devices, [*labels, *ask["env"]])
    _record(folder, {**labels, "container": container_name(ask) if image else None})
    env = {**environment(), **labels, **ask["env"]}
    if devices is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    elif not ask["gpus"]:
        env["CUDA_VISIBLE_DEVICES"] = ""
    void = out = subprocess.DEVNULL
    if image:  # its words come out by the program that holds the container
        out = os.open(os.path.join(folder, "console"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    child = subprocess.Popen(
        argv,
        env=env,
        cwd=folder,
        stdin=void,
        stdout=out,
        stderr=out,
        start_new_session=True,
        pass_fds=sockets,
    )
    if image:
        os.close(out)
    while child.poll() is None and LABEL.encode() not in _environ(child.pid):
        os.sched_yield()  # it has become itself, and in a moment the kernel shows its labels
    child.returncode = 0  # the next listing buries it, or init does when we leave


def _record(folder: str, labels: Json) -> None:
    """The folder comes with its labels in it, at once; one of a call before stays as it is."""
    if os.path.isdir(folder):
        return
    fresh = os.path.join(os.path.dirname(folder), ".new-" + os.path.basename(folder))
    shutil.rmtree(fresh, ignore_errors=True)
    os.mkdir(fresh, 0o700)
    with open(os.path.join(fresh, LABELS_FILE), "w") as file:
        json.dump(labels, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, folder)


def _environ(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def environment() -> dict[str, str]:
    """The user's own, without what belongs to the session that brought us."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(NOT_OURS)}
    env["PATH"] = os.pathsep.join((env.get("PATH") or os.defpath, *tools()))
    return env


def tools() -> list[str]:
    return [place for place in map(os.path.expanduser, TOOLS) if os.path.isdir(place)]


def terminate(ask: Json) -> Json:
    """All of it, frozen first so that nothing forks away; or the folder, once nothing runs in it."""
    id = ask["id"]
    if id.startswith(FOLDER):
        _remove(id.removeprefix(FOLDER))
        return {}
    name = folders().get(id, {}).get("container")
    if name:
        end_container(name)
    frozen: set[int] = set()
    for _ in range(ROUNDS):
        fresh = tree(id) - frozen
        if not fresh:
            break
        _send(fresh, signal.SIGSTOP)
        frozen |= fresh
    _send(frozen, signal.SIGKILL)
    return {}


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # gone, or a setuid child that only root can end
            os.kill(pid, number)


def _remove(token: str) -> None:
    if os.sep in token or token in ("", ".", ".."):
        raise Refused("bad", f"{token!r} is no folder of ours")
    name = folders().get(token, {}).get("container")
    if tree(token) or (name and container_lives(name)):
        raise Refused("busy-folder", "its processes have not ended yet")
    folder, old = (os.path.join(runs_folder(), name) for name in (token, f".old-{token}"))
    with suppress(FileNotFoundError):
        os.rename(folder, old)
    for place, _, _ in os.walk(old):  # a trainer may have made folders that nothing can be taken out of
        with suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(old):
        raise Refused("bad", f"{old} cannot be removed")


def console(ask: Json) -> Json:
    with suppress(OSError), open(os.path.join(runs_folder(), ask["id"], "console"), "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - CONSOLE_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines(keepends=True)
        return {"text": "".join(line for line in lines if ADVICE not in line)}
    return {"text": ""}


def facts(_ask: Json) -> Json:
    import importlib.util

    gpus, home = Survey(), os.path.expanduser("~")
    disk = shutil.disk_usage(home)
    docker = shutil.which("docker")
    path = environment()["PATH"]
    has = {name: importlib.util.find_spec(name) is not None for name in ("venv", "pip", "ensurepip")}
    return {
        "now": time.time(),
        "devices": gpus.devices,
        "held": gpus.held,
        "free_mb": gpus.free_mb,
        "no_gpu": gpus.no_gpu,
        "driver": gpus.driver,
        "cores": os.cpu_count(),
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "disk_gb": round(disk.total / 1e9, 1),
        "disk_free_gb": round(disk.free / 1e9, 1),
        "python": "{}.{}.{}".format(*sys.version_info),
        "makes_envs": has["venv"] and (has["pip"] or has["ensurepip"]),
        "uv": shutil.which("uv", path=path) is not None,
        "docker": (said([docker, "version", "--format", "{{.Server.Version}}"]) or "").strip() or None
        if docker
        else None,
        "leaves_alone": not _ends_sessions(),
        "fault": gpus.fault or _unwritable(home),
    }


def _unwritable(home: str) -> str | None:
    place = our_home() if os.path.isdir(our_home()) else home
    return None if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written"


def _ends_sessions() -> bool:
    """Whether the system kills what a user leaves running; systemd can be told to."""
    manager = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
    told = said(["busctl", "get-property", *manager, "KillUserProcesses"]) if shutil.which("busctl") else None
    if told is None or "true" not in told:
        return False
    lingers = said(["loginctl", "show-user", user_name(os.getuid()), "--property=Linger", "--value"])
    return lingers is None or lingers.strip() != "yes"


VERBS = {"list": listing, "create": create, "terminate": terminate, "console": console, "facts": facts}


def main() -> None:
    for line in sys.stdin.buffer:
        ask = json.loads(line)
        try:
            answer: Json = {"ok": VERBS[ask["verb"]](ask)}
        except Refused as e:
            answer = {"no": e.kind, "text": str(e)}
        except OSError as e:
            answer = {"no": "bug", "text": f"{e.filename or ask['verb']}: {e.strerror}"}
        sys.stdout.write(MARK + json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
