"""TensorBoard and Jupyter beside a run, and TensorBoard over what a run left: the real packages."""

from __future__ import annotations

import json
import subprocess
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.e2e.person import Person, until
from tests.e2e.sidework import in_somebodys_words, opened, serving

pytestmark = [pytest.mark.need("network"), pytest.mark.slow, pytest.mark.timeout(400)]

# Through the kernel's own connection file: what a cell of a notebook would say.
CELL = """
import json, sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient()
client.load_connection_file(sys.argv[1])
client.start_channels()
client.wait_for_ready(timeout=60)
said = []
client.execute_interactive(
    "import os, sys; print(sys.prefix, os.environ['LAUNCHER_RUN'], os.getcwd())",
    timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
print(json.dumps("".join(said).split()))
"""


def status(url: str) -> int:
    try:
        with urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as why:
        return why.code


def test_tensorboard_beside_a_run_and_over_its_version(person: Person) -> None:
    run = serving(person, "fox")
    with opened(person, "fox", "tensorboard") as board:
        at = urlsplit(board.url)
        secret = at.path.strip("/")
        assert status(board.url) == 200
        assert status(f"http://{at.netloc}/") == 404
        told = json.loads(board.page("data/environment"))
        assert told["data_location"].endswith("/spool/output")
        assert not in_somebodys_words(secret)
        with opened(person, "fox", "tensorboard") as again:
            assert again.said["there"] == board.said["there"]
            assert again.page("data/environment") == board.page("data/environment")
            code, err = again.is_left()
            assert code == 130 and "is used again" in err
        assert status(board.url) == 200  # who leaves takes nothing from the other
        run.is_let_go()
        code, err = board.ends()
    assert code == 0
    assert "an environment of tensorboard" in err
    run.has_ended()
    person.alone()

    with opened(person, "fox", "tensorboard") as board:  # the run is over: what it left is shown here
        told = json.loads(board.page("data/environment"))
        assert told["data_location"] == str(next((person.project / "models").glob("2*")))
        assert status(f"http://{urlsplit(board.url).netloc}/") == 404
        code, err = board.is_left()
        assert code == 130 and "Collecting" not in err  # the environment was made once
    person.alone()


def test_jupyter_computes_with_the_jobs_own_python(person: Person) -> None:
    run = serving(person, "fox")
    with opened(person, "fox", "jupyter") as lab:
        at = urlsplit(lab.url)
        token = at.query.removeprefix("token=")
        assert status(lab.url) == 200
        assert status(f"http://{at.netloc}/api/kernels") == 403
        assert not in_somebodys_words(token)
        kernels = f"http://{at.netloc}/api/kernels?token={token}"
        with urlopen(kernels, data=b"{}", timeout=60) as answer:
            begun = json.loads(answer.read())
        assert begun["name"] == "run"
        spool = person.run_folder("fox") / "attempts" / "1" / "spool"
        runtime = spool / "open" / "jupyter" / "runtime"
        note = runtime / f"kernel-{begun['id']}.json"
        until(note.exists, "the kernel's note")
        (python,) = (person.home / "envs").glob("*/bin/python")
        cell = subprocess.run([python, "-c", CELL, note], capture_output=True, text=True, timeout=90)
        assert cell.returncode == 0, cell.stderr
        prefix, name, folder = json.loads(cell.stdout)
        assert name == "fox" and folder.startswith(f"{spool}/project/")
        assert prefix != str(python.parent.parent)  # not Jupyter's own environment
        run.is_let_go()
        assert lab.ends()[0] == 0
    run.has_ended()
    person.alone()
