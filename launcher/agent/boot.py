"""The boot guard: rides in the create call as `python3 -I -c SOURCE TOKEN`, so a machine on which nothing
else ever arrives ends by itself. It waits for the agent, then becomes it: same process, same clock.
Standard library only, Python >= 3.10. A limit that is missing or unreadable ends it at once.
"""

import os
import signal
import sys
import time
from datetime import datetime

TOO_LATE = 75


def clock() -> float:
    """Seconds that also pass while the machine sleeps, where the system can count them."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


def main() -> None:
    began, env = clock(), os.environ
    ends_at = datetime.fromisoformat(env["LAUNCHER_ENDS_AT"].replace("Z", "+00:00")).timestamp()
    until = began + min(float(env["LAUNCHER_ENDS_IN"]), float(env["LAUNCHER_BOOT_LIMIT"]))
    token, root = sys.argv[1], env["LAUNCHER_SPOOL"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as PID 1 it would otherwise be deaf to it
    os.makedirs(os.path.join(root, "in"), 0o700, exist_ok=True)
    os.chmod(root, 0o700)
    if env.get("LAUNCHER_CONSOLE") == "file":
        console = os.open(os.path.join(root, "console"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.close(console)
    os.write(1, f"launcher boot {token}\n".encode())
    agent = os.path.join(root, "agent.pyz")
    while not os.path.exists(agent):
        if clock() >= until or time.time() >= ends_at:
            os.write(1, b"launcher boot limit: no agent came\n")
            sys.exit(TOO_LATE)
        time.sleep(0.02)  # the agent comes by rename, and no system announces that to all of us
    env["LAUNCHER_BOOTED"] = repr(began)
    os.execv(sys.executable, [sys.executable, "-I", "-X", "utf8", "-S", agent, token])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
