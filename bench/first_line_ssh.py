"""From the command to the first line the trainer prints on a host over SSH that was used before: plan,
connection, lease, agent, push and start. The host is this machine behind its own sshd, without distance, with
a home of its own. Needs sshd.

    python bench/first_line_ssh.py [--runs 9]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from farhost import SBIN, far_host
from first_line import LINE, first_line, left_behind
from measure import LAUNCHER, arguments, clean_env, report, scratch

BOUNDS = {"warm host, first line ms": 2000, "processes left behind": 0}


def main() -> int:
    args = arguments(__doc__ or "")
    if not (shutil.which("sshd") or shutil.which("sshd", path=SBIN)):
        print("sshd is not installed: nothing to connect to", file=sys.stderr)
        return 0 if args.smoke else 2
    with scratch() as folder, far_host() as far:
        project, home = Path(folder) / "project", Path(folder) / "home"
        project.mkdir()
        (project / "train.py").write_text(f"print({LINE!r}, flush=True)\n")
        env = clean_env(home)
        print_of = subprocess.run(
            ["ssh-keygen", "-lf", "-"], input=far.pin, capture_output=True, text=True, check=True
        ).stdout.split()[1]
        address = f"{far.user}@127.0.0.1:{far.port}"
        add = [*LAUNCHER, "host", "add", "far", address, "--key", str(far.key), "--fingerprint", print_of]
        subprocess.run(add, env=env, cwd=project, check=True, stdout=subprocess.DEVNULL)
        run = [*LAUNCHER, "run", "--project", str(project), "--on", "ssh:far", "--", "python3", "train.py"]
        first_line(run, env, project)  # from now on the host is warm
        took = [first_line(run, env, project) for _ in range(1 if args.smoke else args.runs)]
        figures = {
            "warm host, first line ms": round(statistics.median(took) * 1000),
            "warm host, slowest ms": round(max(took) * 1000),
            "processes left behind": left_behind(home),
        }
        return report("first_line_ssh", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
