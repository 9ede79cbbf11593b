"""A program beside a run, on every kind of host: begun, met through a tunnel, used again, gone in time."""

from __future__ import annotations

import sys
import time
from functools import partial
from urllib.request import urlopen

import pytest

from launcher import attend
from launcher.errors import HostError
from launcher.remote.base import Host
from launcher.remote.tunnel import Tunnel
from tests.contract.conftest import eventually

LASTS_S = 6.0
SERVES = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.environ["WORD"] in self.path else 403)
        self.end_headers()
        self.wfile.write(os.environ["LAUNCHER_RUN"].encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


def test_a_program_beside_a_run(host: Host, spot: str) -> None:
    python = sys.executable if type(host).__name__ == "ProcessHost" else "python3"
    program = attend.Program(
        spot, "http", "nothing", "WORD", "{secret}/", ("@PYTHON@", "-c", SERVES, "@PORT@")
    )
    place = attend.Place(
        host=host,
        python=python,
        pythons=(python,),
        make=("false",),
        into="envs",
        cwd=host.root,
        env={"LAUNCHER_RUN": "fox-abcd"},
        ends_at=time.time() + LASTS_S,
    )
    telling = attend.Telling(pytest.fail, lambda data: None)
    if host.run([python, "-c", ""]).exit_code != 0:
        with pytest.raises(HostError, match="no such program"):
            attend.begun(place, program, telling, lambda: None)
        return
    first = attend.begun(place, program, telling, lambda: None)
    again = attend.begun(place, program, telling, lambda: None)
    assert (first.reused, again.reused) == (False, True)
    assert (first.port, first.secret) == (again.port, again.secret)
    with Tunnel(partial(host.connect, first.port)) as tunnel:
        with urlopen(f"http://127.0.0.1:{tunnel.port}/{first.secret}/", timeout=30) as answer:
            assert answer.read() == b"fox-abcd"
        with pytest.raises(OSError, match="403"):
            urlopen(f"http://127.0.0.1:{tunnel.port}/guess/", timeout=30)
    eventually(lambda: attend.running(place, program) is None)
    assert str(attend.gone(place, spot)).endswith(" is gone: the run has ended")
