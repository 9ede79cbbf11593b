"""Boots in real containers on the tests' engine: the pod's main process, its disks, its port, its lines.

Each boot is a container of its own and starts from the image alone; a pod's persistent disk is a volume that
its boots share. Everything slow happens in a thread per boot, so that nobody who asks the cloud waits for it.
"""

from __future__ import annotations

import io
import shlex
import tarfile
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from launcher.dockerapi import connect
from tests.emulators.runpod.machines import Boot, Life, Login, Machine, Said
from tests.hosts.boxes import App, Gpu
from tests.hosts.image import HERE as IMAGE_FILES
from tests.hosts.image import image
from tests.ports import named_port

if TYPE_CHECKING:
    from docker import APIClient

LABEL = "launcher.test.pod"
FOR_EVER_S = 86400
ASKED_S = 30


class Container:
    def __init__(self, boot: Boot, images: Callable[[str], str], before: list[Container]) -> None:
        self.boot = boot
        self.name = f"launcher-test-pod-{boot.pod}-{uuid4().hex[:6]}"
        self.over = threading.Event()
        self._images = images
        self._before = before
        self._lines: list[Said] = []
        self._life = Life.BOOTING
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True, name=self.name)
        self.thread.start()

    # --- what the cloud asks -----------------------------------------------------------------

    def life(self) -> Life:
        return self._life

    def said(self) -> list[Said]:
        return list(self._lines)

    def end(self, grace_s: float) -> None:
        self._ended.set()
        threading.Thread(target=self._stop, args=(grace_s,), daemon=True).start()

    # --- its own thread ----------------------------------------------------------------------

    def _live(self) -> None:
        for one in self._before:
            one.over.wait(60)
        engine = connect(FOR_EVER_S)
        try:
            if not self._ended.is_set():
                self._make(engine)
                engine.start(self.name)
                self._life = Life.UP
                if self._ended.is_set():
                    engine.kill(self.name)
                self._listen(engine)
        finally:
            self._life = Life.ENDED
            self._remove(engine)
            engine.close()
            self.over.set()

    def _make(self, engine: APIClient) -> None:
        boot = self.boot
        volume = boot.volume if boot.volume is not None else boot.pod
        binds = [f"{volume_name(volume)}:{boot.mount[0]}:rw"] if boot.mount else []
        engine.create_container(
            image=self._images(boot.image),  # made here if need be: nobody who asks the cloud waits for it
            command=shlex.split(boot.args) or None,
            environment=boot.env,
            ports=[22],
            name=self.name,
            labels={LABEL: boot.pod},
            host_config=engine.create_host_config(
                binds=binds, port_bindings={22: ("127.0.0.1", boot.port)}, shm_size=1 << 30
            ),
        )
        if boot.gpu is not None:
            engine.put_archive(self.name, "/", _nvidia(boot.gpu, boot.gpu_count))

    def _listen(self, engine: APIClient) -> None:
        """Until its last line."""
        rest = b""
        for data in engine.logs(self.name, stream=True, follow=True, timestamps=True):
            *lines, rest = (rest + data).split(b"\n")
            self._lines += [_said(line) for line in lines]
        if rest:
            self._lines.append(_said(rest))
        engine.wait(self.name)

    def _stop(self, grace_s: float) -> None:
        from docker.errors import APIError

        engine = connect(ASKED_S)
        with suppress(APIError):  # it is gone, or not made yet: then its own thread sees the flag
            engine.stop(self.name, timeout=int(grace_s))
        engine.close()

    def _remove(self, engine: APIClient) -> None:
        from docker.errors import NotFound

        with suppress(NotFound):
            engine.remove_container(self.name, force=True)


class Pull:
    """An image of a real registry on its way to a pod's host: begun at once, in a thread of its own."""

    def __init__(self, name: str, login: Login | None) -> None:
        self.told: str | None = None
        threading.Thread(target=self._pull, args=(name, login), daemon=True).start()

    def _pull(self, name: str, login: Login | None) -> None:
        from docker.errors import APIError

        engine = connect(FOR_EVER_S)
        known = {"username": login[0], "password": login[1]} if login is not None else None
        try:
            said = engine.pull(name, auth_config=known, stream=True, decode=True)
            self.told = next((str(one["error"]) for one in list(said) if "error" in one), "")
        except APIError as no:
            self.told = str(no.explanation)
        finally:
            engine.close()


class Containers:
    """`images`: which image of the engine stands for the one that a pod asks for. One of a registry on this
    machine stands for itself, and is pulled."""

    host = "127.0.0.1"

    def __init__(self, images: Callable[[str], str] = lambda asked: image("openssh")) -> None:
        self._images = lambda asked: asked if is_pulled(asked) else images(asked)
        self._pulls: dict[str, Pull] = {}
        self._boots: dict[str, list[Container]] = defaultdict(list)
        self._dropping: list[threading.Thread] = []

    def boot(self, boot: Boot) -> Machine:
        made = Container(boot, self._images, list(self._boots[boot.pod]))
        self._boots[boot.pod].append(made)
        return made

    def fetched(self, pod: str, image: str, login: Login | None) -> str | None:
        if not is_pulled(image):
            return ""
        if pod not in self._pulls:
            self._pulls[pod] = Pull(image, login)
        return self._pulls[pod].told

    def free_port(self) -> int:
        return named_port()  # a boot takes its time until it listens there

    def drop_disk(self, pod: str) -> None:
        thread = threading.Thread(target=self._drop, args=(pod,), daemon=True)
        self._dropping.append(thread)
        thread.start()

    def close(self) -> None:
        """Nothing of it is left on the engine."""
        for boots in self._boots.values():
            for one in boots:
                one.end(0)
        for pod in list(self._boots):
            self._drop(pod)
        for thread in self._dropping:
            thread.join(30)

    def _drop(self, pod: str) -> None:
        from docker.errors import NotFound

        for one in self._boots[pod]:
            one.over.wait(60)
        engine = connect(ASKED_S)
        with suppress(NotFound):
            engine.remove_volume(volume_name(pod))
        engine.close()


def gateway() -> str:
    """Where this machine is found from inside a container."""
    engine = connect(ASKED_S)
    try:
        found: str = engine.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
        return found
    finally:
        engine.close()


def is_pulled(image: str) -> bool:
    return image.startswith("127.0.0.1:")


def volume_name(name: str) -> str:
    return f"launcher-test-pod-{name}"


def _said(line: bytes) -> Said:
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    at = datetime.fromisoformat(f"{stamp[:26].rstrip('Z')}+00:00").astimezone(UTC)
    return Said(at, text)


def _nvidia(name: str, count: int) -> bytes:
    """The emulated tool and what it shows, as an archive to unpack over the root."""
    gpus: list[dict[str, Any]] = [Gpu(name).row(index) for index in range(count)]
    texts = {
        "usr/local/bin/nvidia-smi": ((IMAGE_FILES / "nvidia-smi").read_bytes(), 0o755),
        "run/gpus/gpus.csv": (_table(gpus or [Gpu(name).row(0)], len(gpus)), 0o644),
        "run/gpus/apps.csv": (_table([App("", 0).row()], 0), 0o644),
    }
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        folder = tarfile.TarInfo("run/gpus")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for path, (data, mode) in texts.items():
            info = tarfile.TarInfo(str(Path(path)))
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _table(rows: list[dict[str, Any]], shown: int) -> bytes:
    lines = [", ".join(rows[0]), *(", ".join(map(str, row.values())) for row in rows[:shown])]
    return ("\n".join(lines) + "\n").encode()
