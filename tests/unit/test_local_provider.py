"""This machine as a provider, with real processes: labels, strays, and what a child may not know."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import pytest

from launcher.errors import BadOrder, Gone
from launcher.models import Need, Offer, Order, ResourceState, Runtime, RuntimeKind
from launcher.providers.local import LocalProvider

# It starts what it is told to start, says what it is through the pipe it was given, and stays.
GUARD = """
import json, os, signal, subprocess, sys
spool = os.environ["LAUNCHER_SPOOL"]
os.makedirs(spool)
open(spool + "/console", "w").write("boot " + sys.argv[1])
stay = [sys.executable, "-c", "import signal; signal.pause()"]
born = {"guard": os.getpid()}
for name in os.environ.get("BEGETS", "").split():
    env = {} if name == "bare" else None
    born[name] = subprocess.Popen(stay, env=env, start_new_session=True).pid
with open(os.environ["TELL"], "w") as tell:
    json.dump({"born": born, "env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0)}, tell)
signal.pause()
"""
ENDS = datetime(2031, 3, 4, 12, 0, tzinfo=UTC)
OFFER = Offer("local", "local", "local", Decimal(0), "a test")

Begin = Callable[..., tuple[Order, Any]]


@pytest.fixture
def provider() -> LocalProvider:
    return LocalProvider()


def an_order(folder: Path, guard: str = GUARD, **env: str) -> Order:
    token = token_hex(16)
    return Order(
        run=f"run-{token[:6]}",
        attempt=1,
        token=token,
        owner="owner-1",
        offer=OFFER,
        runtime=Runtime(RuntimeKind.ENV, None, "a test"),
        need=Need(),
        ends_at=ENDS,
        ends_in_s=60,
        boot_limit_s=30,
        hold_s=5,
        folder=str(folder / "attempt" / token / "spool"),
        boot_guard=guard,
        env=tuple(env.items()),
    )


@pytest.fixture
def begin(provider: LocalProvider, tmp_path: Path) -> Iterator[Begin]:
    """Create, and wait for the guard's word on what it is and what it started."""
    pids: list[int] = []

    def call(begets: str = "") -> tuple[Order, Any]:
        pipe = tmp_path / f"pipe-{len(pids)}-{token_hex(2)}"
        os.mkfifo(pipe)
        order = an_order(tmp_path, TELL=str(pipe), BEGETS=begets)
        provider.create(order)
        told = json.loads(pipe.read_text())
        pids.extend(told["born"].values())
        return order, told

    yield call
    left = [p for p in map(process, pids) if p is not None]
    for one in left:
        one.kill()
    psutil.wait_procs(left, timeout=60)
    provider.list()  # reaps


def process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def ends(pids: list[int]) -> bool:
    """They are gone, or dead and not yet reaped, within ten seconds."""
    for one in filter(None, map(process, pids)):
        try:
            if one.status() != psutil.STATUS_ZOMBIE:
                one.wait(10)
        except psutil.NoSuchProcess:
            continue
        except psutil.TimeoutExpired:
            return False
    return True


def test_an_instance_is_labelled_by_the_create_call_itself(provider: LocalProvider, begin: Begin) -> None:
    order, told = begin()
    (resource,) = provider.list(order.run)
    assert resource == provider.get(order.token) == provider.create(order)
    assert (resource.id, resource.token, resource.kind) == (order.token, order.token, "instance")
    assert (resource.run, resource.owner, resource.ends_at) == (order.run, "owner-1", ENDS)
    assert (resource.state, resource.usd_per_hour) == (ResourceState.RUNNING, Decimal(0))
    assert resource.access is not None and resource.access.root == order.folder
    assert told["sid"] == told["born"]["guard"], "it is not in our session: our terminal's end is not its end"
    assert told["cwd"] == os.path.realpath(Path(order.folder).parent)
    bounds = {key: told["env"][f"LAUNCHER_{key}"] for key in ("ENDS_IN", "BOOT_LIMIT", "HOLD", "ENDS_AT")}
    assert bounds == {"ENDS_IN": "60", "BOOT_LIMIT": "30", "HOLD": "5", "ENDS_AT": "2031-03-04T12:00:00Z"}


def test_a_child_knows_neither_our_keys_nor_our_python(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.path.join(sys.prefix, "bin")
    monkeypatch.setenv("PATH", os.pathsep.join([own, own + "/", "/usr/bin", "/bin"]))
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    for name in ("RUNPOD_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAUNCHER_HOME"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("SOMEBODYS_SETTING", "kept")
    _, told = begin()
    env = told["env"]
    assert "canary" not in env.values()
    assert own not in map(os.path.normpath, env["PATH"].split(os.pathsep))
    assert "/usr/bin" in env["PATH"].split(os.pathsep)
    assert "VIRTUAL_ENV" not in env
    assert env["SOMEBODYS_SETTING"] == "kept"


def test_another_environment_that_is_active_stays(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin")
    _, told = begin()
    assert told["env"]["VIRTUAL_ENV"] == str(tmp_path)
    assert told["env"]["PATH"] == f"{tmp_path}/bin:/usr/bin"


def test_terminate_ends_all_that_came_of_it_and_twice_is_silent(
    provider: LocalProvider, begin: Begin
) -> None:
    order, told = begin("child setsid bare")
    other, others = begin()
    provider.terminate(order.token)
    provider.terminate(order.token)
    assert ends(list(told["born"].values()))
    assert provider.list(order.run) == ()
    with pytest.raises(Gone):
        provider.get(order.token)
    provider.terminate(order.token)
    assert [r.id for r in provider.list(other.run)] == [other.token], "and nobody else"
    assert process(others["born"]["guard"]) is not None


def test_a_stray_that_outlived_its_guard_is_listed_and_ended(provider: LocalProvider, begin: Begin) -> None:
    order, told = begin("stray")
    psutil.Process(told["born"]["guard"]).kill()
    assert ends([told["born"]["guard"]])
    (resource,) = provider.list(order.run)
    assert (resource.id, resource.run, resource.owner) == (order.token, order.run, "owner-1")
    assert resource.kind == "stray"
    with pytest.raises(Gone):  # or an engine would wait for it until its deadline
        provider.get(order.token)
    provider.terminate(resource.id)
    assert ends([told["born"]["stray"]])
    assert provider.list(order.run) == ()


def test_each_run_has_its_own_list(provider: LocalProvider, begin: Begin) -> None:
    one, two = begin()[0], begin()[0]
    assert [r.id for r in provider.list(one.run)] == [one.token]
    assert {one.token, two.token} <= {r.id for r in provider.list()}
    assert provider.list("nobody") == ()


def test_nothing_is_remembered_by_the_adapter(begin: Begin) -> None:
    order, told = begin()
    assert LocalProvider().get(order.token).run == order.run
    LocalProvider().terminate(order.token)
    assert ends([told["born"]["guard"]])


def test_an_instance_that_ended_by_itself_is_gone(provider: LocalProvider, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    order = an_order(
        tmp_path, "import os; open(os.environ['TELL'], 'w').write(str(os.getpid()))", TELL=str(pipe)
    )
    provider.create(order)
    assert ends([int(pipe.read_text())])
    assert provider.list(order.run) == ()
    with pytest.raises(Gone):
        provider.get(order.token)
    assert provider.console(order.token) == ""


# Its first thread ends before its last: in between it has no environment any more and cannot be waited for.
ENDS_SLOWLY = """
import ctypes, os, threading, time
def last():
    time.sleep(0.5)  # longer than one look takes: the listing falls in between
    os._exit(0)
threading.Thread(target=last).start()
open(os.environ["TELL"], "w").write(str(os.getpid()))
ctypes.CDLL(None).pthread_exit(None)
"""


def test_one_that_is_at_its_end_when_it_is_no_more_listed_leaves_nothing_behind(
    provider: LocalProvider, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    order = an_order(tmp_path, ENDS_SLOWLY, TELL=str(pipe))
    provider.create(order)
    pid = int(pipe.read_text())
    while provider.list(order.run):
        pass
    assert not psutil.pid_exists(pid)


def test_the_console_is_what_the_guard_wrote(provider: LocalProvider, begin: Begin) -> None:
    order, _ = begin()
    assert provider.console(order.token) == f"boot {order.token}"
    (Path(order.folder) / "console").unlink()
    assert provider.console(order.token) == ""
    assert provider.console("nobody") == ""


@pytest.mark.parametrize("fault", ["guard", "folder"])
def test_what_can_never_be_started_is_a_bad_order(
    provider: LocalProvider, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    guard, folder = ("#" * (1 << 20), tmp_path) if fault == "guard" else (GUARD, tmp_path / "file")
    order = an_order(folder, guard)
    with pytest.raises(BadOrder) as refused:
        provider.create(order)
    assert refused.value.surely_no_effect
    assert provider.list(order.run) == ()


@pytest.mark.parametrize(
    ("tool", "gpu"),
    [
        ("#!/bin/sh\necho 'NVIDIA RTX 4090'\necho 'NVIDIA RTX 3090'\n", "NVIDIA RTX 4090"),
        ("#!/bin/sh\necho 'no driver'\nexit 9\n", None),
        ("#!/bin/sh\n", None),
        ("#!/nowhere/at/all\n", None),
        (None, None),
    ],
)
def test_it_offers_itself_for_nothing_with_the_gpu_it_has(
    provider: LocalProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str | None,
    gpu: str | None,
) -> None:
    if tool is not None:
        (tmp_path / "nvidia-smi").write_text(tool)
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (offer,) = provider.offers(Need())
    assert (offer.id, offer.bills, offer.gpu) == ("local", False, gpu)
    driver = Path("/proc/driver/nvidia").exists()  # then a tool that does not say it proves nothing
    surely_none = gpu is None and not driver and tool != "#!/nowhere/at/all\n"
    assert (offer.no_gpu is not None) is surely_none
    assert (offer.usd_per_hour, offer.gpu_count) == (Decimal(0), int(gpu is not None))
    checks = provider.check()
    assert all(check.ok for check in checks)
    assert any((gpu or "trainers use the CPU") in check.detail for check in checks)


def test_a_user_without_a_home_folder_is_told_of_this_machine_all_the_same(
    provider: LocalProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    assert [check.ok for check in provider.check()] == [True, True]
