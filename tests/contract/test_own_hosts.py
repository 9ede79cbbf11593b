"""What a host of the user's own promises beyond every provider's promises: GPUs that are shared with others,
ends that reach everything of ours and nothing of theirs, and answers that were lost on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from launcher.errors import (
    AuthRefused,
    BadOrder,
    KeyChanged,
    NoCapacity,
    ProviderError,
    Unreachable,
    VendorBug,
)
from launcher.hosts import HostRecord
from launcher.models import Need, Order, Resource, ResourceState
from launcher.providers.ssh import SshProvider
from tests.contract.conftest import GUARD, eventually
from tests.contract.own import begun, clear, order, provider
from tests.hosts.boxes import HOME, Box, Gpu, sshd_container
from tests.hosts.relay import Relay

pytestmark = pytest.mark.need("docker")

# A guard with a child that left its session, one that threw its environment away as well, and a deaf one.
FAMILY = (
    """
import subprocess, sys, signal
stay = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", stay, "child-of-ours"], start_new_session=True)
subprocess.Popen(["env", "-i", sys.executable, "-c", stay, "child-of-ours"], start_new_session=True)
"""
    + GUARD
)


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with sshd_container("openssh", gpus=[Gpu(), Gpu(name="NVIDIA Emulated 80G", memory_mb=81920)]) as box:
        yield box


@pytest.fixture
def host(box: Box) -> Iterator[SshProvider]:
    host = provider(box)
    yield host
    clear(host)
    host.close()


def environment(box: Box, token: str) -> dict[str, str]:
    find = (
        f"for p in /proc/[0-9]*; do grep -qz {token} $p/environ 2>/dev/null && cat $p/environ && break; done"
    )
    return dict(word.partition("=")[::2] for word in box.sh(find, user="dev").split("\0"))


def with_word(box: Box, word: str) -> list[str]:
    """The processes that have it as a whole line of their arguments."""
    found = f"tr '\\0' '\\n' <$p/cmdline | grep -qx {word} && echo ${{p#/proc/}}"
    return box.sh(f"for p in /proc/[0-9]*; do {found}; done; true", user="dev").split()


# --- GPUs -------------------------------------------------------------------------------------------


def test_a_run_gets_a_gpu_of_its_own_and_the_last_one_is_refused_by_name(box: Box, host: SshProvider) -> None:
    first, second, third = (order(host) for _ in range(3))
    for one in (first, second):
        begun(host, one)
    seen = {environment(box, one.token)["CUDA_VISIBLE_DEVICES"] for one in (first, second)}
    assert seen == {gpu.uuid for gpu in box.gpus}
    with pytest.raises(NoCapacity) as refused:
        host.create(third)
    for gpu, holder in zip(box.gpus, (first, second), strict=True):
        assert f"{gpu.name} is held by dev's run {holder.run}" in str(refused.value)
    assert host.list(third.run) == (), "a refused one leaves nothing"
    assert {one.run for one in host.facts().held} == {first.run, second.run}


def test_a_lease_dies_with_its_holder(box: Box, host: SshProvider) -> None:
    wish = order(host, need=Need(gpu_count=2))
    made = begun(host, wish)
    host.terminate(made.id)
    eventually(lambda: not host.facts().held)
    begun(host, order(host, need=Need(gpu_count=2)))


def test_a_gpu_that_somebody_computes_on_is_left_alone(box: Box, host: SshProvider) -> None:
    app = box.occupied(box.gpus[0], user="guest", used_mb=18432)
    try:
        made = begun(host, order(host))
        assert environment(box, made.token)["CUDA_VISIBLE_DEVICES"] == box.gpus[1].uuid
        with pytest.raises(NoCapacity) as refused:
            host.create(order(host))
        assert f"guest (process {app.pid} with 18.0 GiB)" in str(refused.value)
        host.terminate(made.id)
        assert box.sh(f"kill -0 {app.pid}; echo $?").strip() == "0", "others' processes are not ours to end"
    finally:
        box.freed(app)


def test_the_model_that_was_planned_is_the_one_that_is_taken(box: Box, host: SshProvider) -> None:
    known = SshProvider(HostRecord("box", box.route, facts=host.facts()))
    offers = {offer.gpu: offer for offer in known.offers(Need())}
    assert set(offers) == {gpu.name for gpu in box.gpus}
    wish = order(known, offer=offers["NVIDIA Emulated 80G"])
    begun(known, wish)
    assert environment(box, wish.token)["CUDA_VISIBLE_DEVICES"] == box.gpus[1].uuid
    with pytest.raises(NoCapacity, match="Emulated 80G"):
        known.create(order(known, offer=offers["NVIDIA Emulated 80G"]))
    clear(known)


def test_who_wants_the_cpu_holds_no_gpu(box: Box, host: SshProvider) -> None:
    wish = order(host, wants_gpu=False)
    begun(host, wish)
    assert environment(box, wish.token)["CUDA_VISIBLE_DEVICES"] == ""
    assert host.facts().held == ()


def test_of_two_that_ask_at_once_for_the_last_gpu_one_gets_it(box: Box) -> None:
    hosts = [provider(box) for _ in range(4)]
    for host in hosts:
        host.list()  # connected, so that they race for the GPU and not for the way
    wishes = [order(host, need=Need(gpu_count=2)) for host in hosts]
    got: list[Resource] = []
    refused: list[str] = []
    ready = threading.Barrier(len(hosts))

    def race(host: SshProvider, wish: Order) -> None:
        ready.wait()
        try:
            got.append(host.create(wish))
        except NoCapacity as e:
            refused.append(e.reason)

    racers = [threading.Thread(target=race, args=pair) for pair in zip(hosts, wishes, strict=True)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert (len(got), len(refused)) == (1, 3), refused
    assert all(f"dev's run {got[0].run}" in reason for reason in refused), refused
    clear(hosts[0])


# --- ends -------------------------------------------------------------------------------------------


def test_the_end_reaches_children_that_left_and_nobody_else(box: Box, host: SshProvider) -> None:
    theirs = box.sh("sleep 600 >/dev/null 2>&1 & echo $!", user="dev").strip()
    made = begun(host, order(host, FAMILY))
    eventually(lambda: len(with_word(box, "child-of-ours")) == 2)
    host.terminate(made.id)
    eventually(lambda: not with_word(box, "child-of-ours"))
    assert box.sh(f"kill -0 {theirs}; echo $?; kill {theirs}").split()[0] == "0"


def test_what_outlived_its_guard_is_a_stray_and_can_be_ended(box: Box, host: SshProvider) -> None:
    wish = order(host, FAMILY)
    made = begun(host, wish)
    (guard,) = with_word(box, wish.token)
    box.sh(f"kill -KILL {guard}")
    eventually(lambda: [r.kind for r in host.list(wish.run)] == ["stray", "folder"])
    assert host.get(made.id).state is ResourceState.ENDED
    with pytest.raises(ProviderError, match="not ended"):
        host.terminate(f"folder:{made.id}")
    host.terminate(made.id)
    eventually(lambda: [r.kind for r in host.list(wish.run)] == ["folder"])


def test_labels_that_cannot_be_read_hide_nothing_else(box: Box, host: SshProvider) -> None:
    made = begun(host, order(host))
    runs = f"{HOME}/.launcher/runs"
    odd = {"empty": "{}", "list": "[1]", "other": '{"LAUNCHER_INSTANCE": "x"}', "torn": '{"LAUNCHER_'}
    odd["late"] = '{"LAUNCHER_INSTANCE": "late", "LAUNCHER_ENDS_AT": "soon"}'
    for name, text in odd.items():
        box.sh(f"mkdir {runs}/{name} && printf %s '{text}' >{runs}/{name}/labels.json", user="dev")
    try:
        assert host.get(made.id).state is ResourceState.RUNNING
        ends = {r.id: r.ends_at for r in host.list()}
        assert ends["folder:late"] is None and ends[made.id] is not None
        assert set(ends) == {made.id, f"folder:{made.id}", "folder:late"}
    finally:
        box.sh(f"cd {runs} && rm -rf {' '.join(odd)}")


def test_a_host_that_talks_without_end_or_sense_is_not_listened_to(box: Box, host: SshProvider) -> None:
    speaks = f"{HOME}/.bashrc"
    for words, told in (
        ("echo launcher-far {", "cannot be read"),
        ("echo launcher-far [1]", "cannot be read"),
        ("head -c 40000000 /dev/zero", "more than can be meant"),
    ):
        box.sh(f"printf '%s\\n' '{words}' >{speaks}; chown dev {speaks}; usermod -s /bin/bash dev")
        try:
            with pytest.raises(VendorBug, match=told):
                provider(box).list()
        finally:
            box.sh(f"rm -f {speaks}")


# --- answers that were lost -------------------------------------------------------------------------


def test_a_create_that_was_cut_is_taken_up_by_the_next(box: Box, host: SshProvider) -> None:
    """The folder stands, its guard was never begun; and a token never leads out of the folder."""
    wish = order(host)
    host.list()
    labels = f'{{"LAUNCHER_INSTANCE": "{wish.token}", "LAUNCHER_RUN": "{wish.run}"}}'
    place = f"{HOME}/.launcher/runs/{wish.token}"
    box.sh(f"mkdir -p {place} && echo '{labels}' > {place}/labels.json", user="dev")
    made = begun(host, wish)
    assert [r.id for r in host.list(wish.run) if r.kind == "instance"] == [made.id]
    again = provider(box)
    assert again.create(wish).id == made.id
    assert len([r for r in again.list(wish.run) if r.kind == "instance"]) == 1


CUTS = (0, 200, 900, 1500, 2000, 2600, 3000)


@pytest.mark.parametrize("cut", CUTS)
def test_a_create_over_a_line_that_breaks_makes_one_instance(box: Box, host: SshProvider, cut: int) -> None:
    """After so many bytes of the call, both ways together: asked again, it is the same one or the first."""
    with Relay((box.route.address, box.route.port)) as relay:
        far = provider(box, replace(box.route, address=relay.address[0], port=relay.address[1]))
        far.list()
        wish = order(far)
        relay.cut_after(cut)
        with suppress(Unreachable):
            far.create(wish)
        made = begun(host, wish)
        assert [r.id for r in host.list(wish.run) if r.kind == "instance"] == [made.id]
        assert len(with_word(box, wish.token)) == 1


def test_whatever_breaks_a_line_is_told_as_a_broken_line(box: Box) -> None:
    """Within a question, at some byte; and before one, each time a little earlier or later between the break
    and the library's notice of it, so that some of these are asked over a new line."""
    with Relay((box.route.address, box.route.port)) as relay:
        far = provider(box, replace(box.route, address=relay.address[0], port=relay.address[1]))

        def answers() -> bool:
            with suppress(Unreachable):  # the break is noticed only now
                far.list()
                return True
            return False

        for step in range(12):
            eventually(answers)
            relay.cut()
            threading.Event().wait(step / 4000)
            with suppress(Unreachable):
                far.list()
        for at in range(1, 200, 25):
            eventually(answers)
            relay.cut_after(at)
            with pytest.raises(Unreachable):
                far.list()
        far.close()


def test_a_host_that_went_away_is_unreachable_and_quickly_so() -> None:
    with sshd_container("openssh") as box:
        host = provider(box)
        assert host.list() == ()
    began = datetime.now(UTC)
    for _ in range(3):
        with pytest.raises(Unreachable) as refused:
            host.list()
    assert (datetime.now(UTC) - began).total_seconds() < 12
    assert refused.value.surely_no_effect


# --- hosts that will not do -------------------------------------------------------------------------


def test_another_key_than_the_pinned_one_is_an_error_of_its_own(box: Box) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH4aZ0ZbYkQ2n9b7Yx0mQn1j5m6qk2w0p8r3t5v7x9zB"
    with pytest.raises(KeyChanged) as refused:
        provider(box, replace(box.route, pins=(other,))).list()
    assert int(refused.value.exit) == 6 and "SHA256:" in str(refused.value)


def test_keys_that_let_nobody_in_are_said(box: Box) -> None:
    with pytest.raises(AuthRefused):
        provider(box, replace(box.route, user="guest")).list()


def test_a_host_without_python_is_refused_with_what_it_needs() -> None:
    with sshd_container("openssh") as box:
        box.sh("rm -f /usr/bin/python3*")
        host = provider(box)
        with pytest.raises(BadOrder, match=r"no python3, and 3\.10 or newer"):
            host.create(order(host))


def test_a_python_that_is_too_old_is_named() -> None:
    with sshd_container("openssh") as box:
        box.sh("mkdir /opt/hidden && mv /usr/bin/python3.* /opt/hidden/")
        box.ages_python((3, 8, 10), "/opt/hidden/python3.11")
        with pytest.raises(BadOrder, match=r"3\.8\.10"):
            provider(box).list()


def test_a_home_that_cannot_be_written_is_said() -> None:
    with sshd_container("openssh", read_only_home=True) as box:
        host = provider(box)
        assert "cannot be written" in (host.facts().fault or "")
        with pytest.raises(BadOrder, match="nothing can be written"):
            host.create(order(host))


def test_a_full_disk_is_no_room_and_the_next_host_may_have_some() -> None:
    with sshd_container("openssh", home_mb=1) as box:
        box.sh(f"mkdir {HOME}/.launcher; head -c 2M /dev/zero > {HOME}/fill || true", user="dev", code=None)
        host = provider(box)
        with pytest.raises(NoCapacity, match="full"):
            host.create(order(host))


def test_a_clock_that_is_a_day_off_moves_no_end() -> None:
    with sshd_container("openssh", clock_s=24 * 3600) as box:
        host = provider(box)
        wish = order(host)
        made = begun(host, wish)
        assert abs(host.facts().skew_s - 24 * 3600) < 5
        assert made.ends_at is not None and abs((made.ends_at - wish.ends_at).total_seconds()) < 5
        assert host.get(made.id).state is ResourceState.RUNNING
