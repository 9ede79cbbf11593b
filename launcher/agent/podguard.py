"""The first process of a rented pod: opens the door for the run's key alone, says who it is, lets the boot
guard wait for the agent below it, and ends the pod when that is over. `python3 -I -c SOURCE TOKEN GUARD`

The platform starts a container whose first process has left again, and keeps no deadline of its own: so this
one never leaves, and asks the platform for the pod's end until it comes. Its key is known to it alone: it
starts itself anew without it in the environment, where every process of root could read it.
Standard library only, Python >= 3.10.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import datetime

TOO_LATE = 75
GRACE_S = 30.0
TOLD_S = 10.0  # what was said last can be read for so long: it goes with the pod
KEYS = "/run/launcher"
CONFIG = """Port 22
HostKey /run/launcher/host_key
AuthorizedKeysFile /run/launcher/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
ClientAliveInterval 15
ClientAliveCountMax 4
MaxSessions 64
MaxStartups 64
Subsystem sftp internal-sftp
"""


def say(line: str) -> None:
    os.write(1, f"launcher {line}\n".encode())


def clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def take_key() -> str:
    """Once from the environment into a pipe, then from the pipe."""
    env = os.environ
    if "RUNPOD_API_KEY" in env:
        reading, writing = os.pipe()
        os.write(writing, env.pop("RUNPOD_API_KEY").encode())
        os.close(writing)
        os.set_inheritable(reading, True)
        env["LAUNCHER_KEY_FD"] = str(reading)
        os.execve(sys.executable, sys.orig_argv, dict(env))  # noqa: S606 - itself, without a shell
    number = env.pop("LAUNCHER_KEY_FD", "")
    if not number:
        return ""
    with os.fdopen(int(number)) as pipe:
        return pipe.read()


def missing() -> list[str]:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")
    lacks = [] if sshd else ["sshd"]
    lacks += [] if shutil.which("ssh-keygen") else ["ssh-keygen"]
    lacks += [] if trusts() else ["CA bundle"]
    return lacks + ([] if os.environ.get("PUBLIC_KEY") else ["PUBLIC_KEY"])


def root() -> str:
    return os.environ.get("RUNPOD_API_BASE_URL", "https://api.runpod.io").rstrip("/")


def trusts() -> bool:
    """Without certificates the platform cannot be believed, nor asked for an end."""
    if not root().startswith("https:"):
        return True
    try:
        import ssl
    except ImportError:
        return False
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.listdir(paths.capath)))


def open_door(token: str) -> "subprocess.Popen[bytes]":
    """Baked keys go, a new one is made, and its public part is told where only the account reads."""
    os.makedirs(KEYS, 0o700, exist_ok=True)
    os.makedirs("/run/sshd", 0o755, exist_ok=True)
    for name in os.listdir("/etc/ssh") if os.path.isdir("/etc/ssh") else ():
        if name.startswith("ssh_host_"):
            os.unlink(os.path.join("/etc/ssh", name))
    for name in ("authorized_keys", "authorized_keys2"):
        if os.path.exists(path := os.path.join("/root/.ssh", name)):  # an image's own guests
            os.unlink(path)
    for name, text in (("authorized_keys", os.environ["PUBLIC_KEY"] + "\n"), ("sshd_config", CONFIG)):
        with open(os.path.join(KEYS, name), "w", encoding="utf-8") as file:
            file.write(text)
    key = os.path.join(KEYS, "host_key")
    if not os.path.exists(key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with open(key + ".pub", encoding="utf-8") as file:
        kind, public = file.read().split()[:2]
    say(f"host-key {token} {kind} {public}")
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin") or "sshd"
    return subprocess.Popen([sshd, "-D", "-e", "-f", os.path.join(KEYS, "sshd_config")])


def ends_at() -> float:
    """D as it stands now: the agent notes a later one beside its spool."""
    written = os.environ["LAUNCHER_ENDS_AT"]
    try:
        with open(os.path.join(os.environ.get("LAUNCHER_SPOOL", "/"), "ends_at"), encoding="utf-8") as file:
            written = file.read().strip() or written
    except OSError:
        pass  # nobody moved it
    return datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp()


def results_wait() -> bool:
    """Whether something lies here that nobody has fetched: a trainer began, and no receipt came."""
    try:
        with open(os.path.join(os.environ.get("LAUNCHER_SPOOL", "/"), "events.jsonl"), "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return False  # no agent ever spoke
    began = received = False
    for line in lines:
        began = began or b'"ev":"started"' in line.replace(b" ", b"")
        received = received or (b'"ending"' in line and b'"receipt"' in line)
    return began and not received


def ask(key: str, method: str, path: str, body: "dict[str, object] | None") -> bool:
    data = None if body is None else json.dumps(body).encode()
    head = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "User-Agent": "launcher"}
    request = urllib.request.Request(root() + path, data, head, method=method)  # noqa: S310 - root is ours
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            return b'"errors"' not in answer.read(1 << 16)
    except (OSError, ValueError, http.client.HTTPException) as why:
        say(f"cannot be ended by {method} {path.rpartition('/')[2]}: {why}")
        return False


Way = tuple[str, str, "dict[str, object] | None"]


def end(key: str, keep: bool) -> None:
    """For ever, in every way there is. Who succeeds does not come back."""
    pod = os.environ.get("RUNPOD_POD_ID", "")
    graph = "mutation($input: %sInput!) { %s(input: $input)%s }"
    ways: list[Way] = [
        ("DELETE", f"/v2/pods/{pod}", None),
        ("POST", "/graphql", {"query": graph % ("PodTerminate", "podTerminate", ""), "variables": {}}),
    ]
    stops: list[Way] = [
        ("POST", f"/v2/pods/{pod}/action", {"action": "stop"}),
        ("POST", "/graphql", {"query": graph % ("PodStop", "podStop", " { id }"), "variables": {}}),
    ]
    pause = 2.0
    while True:
        say("ends this pod: " + ("stop, results wait" if keep else "terminate"))
        for method, path, body in [*stops, *ways] if keep else [*ways, *stops]:
            if body is not None and "variables" in body:
                body["variables"] = {"input": {"podId": pod}}
            if ask(key, method, path, body):
                time.sleep(60)  # the platform is at it
        time.sleep(pause)  # nobody tells when the platform can be reached again
        pause = min(60.0, pause * 2)


def main() -> None:
    key = take_key()
    try:
        guard(key, sys.argv[1])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as why:
        say(f"failed: {why!r}")  # to leave would be to begin again, for ever
        time.sleep(TOLD_S)
        end(key, keep=results_wait())


def overdue(rescue: bool, until: float, told: list[float]) -> bool:
    """The end of life is long past, or the platform's SIGTERM was followed by nothing."""
    if told and clock() >= told[0] + GRACE_S:
        return True
    if rescue:  # its boot limit is all the life it has
        return clock() >= until + GRACE_S
    return clock() >= until and time.time() >= ends_at() + GRACE_S


def guard(key: str, token: str) -> None:
    until = clock() + float(os.environ["LAUNCHER_BOOT_LIMIT"])
    for name in (lacks := missing()):
        say(f"missing {name}")
    if lacks:
        time.sleep(TOLD_S)
        end(key, keep=False)
    sshd = open_door(token)
    env = {k: v for k, v in os.environ.items() if k != "PUBLIC_KEY"}
    if time.time() >= ends_at():  # a boot after the end: results can still be fetched, nothing is trained
        say("rescue boot")
        late = datetime.fromtimestamp(time.time() + float(env["LAUNCHER_BOOT_LIMIT"])).astimezone()
        env |= {"LAUNCHER_ENDS_AT": late.isoformat(), "LAUNCHER_ENDS_IN": env["LAUNCHER_BOOT_LIMIT"]}
        env["LAUNCHER_RESCUE"] = "1"
    argv = [sys.executable, "-I", "-c", sys.argv[2], token]
    child = subprocess.Popen(argv, env=env)
    told: list[float] = []  # the platform stops or restarts this container: SIGKILL follows

    def on_term(*_: object) -> None:
        told.append(clock())
        child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_term)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = status = 0  # told to stop, and all have gone
        if pid == child.pid and told:
            continue
        if overdue("LAUNCHER_RESCUE" in env, until, told) or (
            pid == child.pid and (os.WIFEXITED(status) or clock() >= until)
        ):
            end(key, keep=results_wait())
        elif pid == child.pid:  # killed: it goes on from what its spool holds
            say(f"starts the agent again after signal {os.WTERMSIG(status)}")
            child = subprocess.Popen(argv, env=env)
        elif pid == sshd.pid:
            sshd = open_door(token)
        elif pid == 0:
            time.sleep(0.1)  # its children end, or the clock comes to an end: nothing tells of both


if __name__ == "__main__":
    main()
