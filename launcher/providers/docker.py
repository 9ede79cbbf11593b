"""Docker as a provider: the instance is a container that is the trainer's image, at no price.

One create call makes the container and its labelled volume; the container goes when its first process
leaves, the volume stays until it is terminated. Asks the engine and nobody else; pulls and builds
nothing. The SDK is imported only when an engine is asked.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from launcher.dockerapi import NoAnswer, answered, connect
from launcher.errors import (
    AuthRefused,
    BadOrder,
    Busy,
    Gone,
    NoCapacity,
    ProviderError,
    Unreachable,
    VendorBug,
)
from launcher.models import Json, Need, Offer, Order, Resource, ResourceState, Traits
from launcher.providers import docker_forms as forms
from launcher.providers.base import Check

if TYPE_CHECKING:
    from docker import APIClient
    from docker.errors import APIError
    from docker.types import DeviceRequest

CONTROL_S = 25
_LEAST_FREE_GB = 5
_FULL = "no space left on device"
_START = "start Docker (systemctl start docker, or Docker Desktop), or point DOCKER_HOST at an engine"
_GROUP = "join the group docker (sudo usermod -aG docker $USER), then log in again"
_NO_GPU = "the Docker engine has no NVIDIA runtime"
_TOOLKIT = (
    "install the NVIDIA Container Toolkit, then: nvidia-ctk runtime configure && systemctl restart docker"
)


class DockerProvider:
    name = "docker"
    traits = Traits(boots="image", bills=False, token_idempotent=True, keeps_output=True, overrun_s=5)

    def __init__(self) -> None:
        self._connection: APIClient | None = None

    def check(self) -> tuple[Check, ...]:
        try:
            info = self._info()
        except ProviderError as why:
            fix = _START if isinstance(why, Unreachable) else _GROUP if isinstance(why, AuthRefused) else None
            return (Check("docker engine", ok=False, detail=why.reason, fix=fix),)
        engine = Check("docker engine", ok=True, detail=f"{info['ServerVersion']}, {info['Driver']}")
        device = forms.gpu_request(info)
        if device is None:
            detail = f"{_NO_GPU}, so runs use the CPU; for a GPU: {_TOOLKIT}"
        else:
            detail = "the engine offers NVIDIA GPUs"
        return (engine, Check("docker gpu", ok=True, detail=detail), *_disk(info["DockerRootDir"]))

    def offers(self, need: Need) -> tuple[Offer, ...]:
        info = self._info()
        device = forms.gpu_request(info)
        gpus = forms.gpu_names() if device is not None else ()
        return (
            Offer(
                id=self.name,
                target=self.name,
                provider=self.name,
                gpu=gpus[0] if gpus else None,
                gpu_count=len(gpus),
                usd_per_hour=Decimal(0),
                price_source="own machine",
                boot_s=1,
                no_gpu=f"{_NO_GPU}; for a GPU: {_TOOLKIT}" if device is None else None,
            ),
        )

    def create(self, order: Order) -> Resource:
        if order.runtime.image is None:
            raise BadOrder("a container needs an image, and the plan names none")
        name = forms.name(order)
        with self._asking("create a container") as client:
            known = _known(client, name)
            if known is None:
                device = forms.gpu_request(client.info())
                if order.require_gpu and device is None:
                    raise BadOrder(f"a GPU is required, and the Docker engine offers none: {_TOOLKIT}")
                known = self._make(client, name, order, device)
            if known.token != order.token:
                raise BadOrder(f"{name} is here already and is not this order's")
            if known.state is ResourceState.BOOTING:
                self._start(client, name)
            return _known(client, name) or known

    def get(self, id: str) -> Resource:
        with self._asking(f"look at {id}") as client:
            if id.startswith(forms.VOLUME):
                return forms.volume(client.inspect_volume(id.removeprefix(forms.VOLUME)))
            return forms.instance(client.inspect_container(id))

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        from docker.errors import NotFound

        label = "launcher.token" if run_id is None else f"launcher.run={run_id}"
        found: list[Resource] = []
        with self._asking("list containers and volumes") as client:
            for summary in client.containers(all=True, filters={"label": [label]}):
                with suppress(NotFound):  # it went while we were asking
                    found.append(forms.instance(client.inspect_container(summary["Id"])))
            volumes = client.volumes(filters={"label": [label]})["Volumes"] or []
            found.extend(forms.volume(volume) for volume in volumes)
        return tuple(one for one in found if one.token and one.state is not ResourceState.ENDED)

    def terminate(self, id: str) -> None:
        with self._asking(f"end {id}") as client:
            if id.startswith(forms.VOLUME):
                _remove_volume(client, id.removeprefix(forms.VOLUME))
            else:
                _remove_container(client, id)

    def console(self, id: str) -> str:
        with self._asking(f"read the console of {id}") as client:
            output: bytes = client.logs(id, stdout=True, stderr=True, tail=2000)
            return output.decode("utf-8", "replace")

    def _make(self, client: APIClient, name: str, order: Order, device: DeviceRequest | None) -> Resource:
        from docker.errors import APIError

        try:
            client.create_container(**forms.container(order, name, device))
        except APIError as why:
            if why.status_code != 409:  # 409: somebody with this token was quicker
                self._take_back(client, name, order.runtime.image or "", why)
        made = _known(client, name)
        if made is None:
            raise VendorBug(f"the Docker engine created {name} and does not know it")
        return made

    def _start(self, client: APIClient, name: str) -> None:
        from docker.errors import APIError, NotFound

        try:
            client.start(name)
        except NotFound:
            return  # ended by somebody else meanwhile: what is known of it now says so
        except APIError as why:
            self._take_back(client, name, "its image", why)

    def _take_back(self, client: APIClient, name: str, image: str, why: APIError) -> None:
        """What can never run is removed, volume and all, so that "not created" is the whole truth."""
        _remove_container(client, name)
        _remove_volume(client, forms.volume_name(name))
        reason = str(why.explanation or why)
        if _FULL in reason.lower():
            raise NoCapacity(f"the Docker engine's disk is full: {reason}") from why
        if why.status_code == 404 and "no such image" in reason.lower():
            raise BadOrder(f"the image {image} is not here, and nothing is pulled unasked") from why
        raise BadOrder(f"the Docker engine cannot run this container: {reason}") from why

    def _info(self) -> Json:
        with self._asking("tell about itself") as client:
            info: Json = client.info()
            return info

    @contextmanager
    def _asking(self, doing: str) -> Iterator[APIClient]:
        """One conversation with the engine, its errors sorted into the closed set."""
        try:
            if self._connection is None:
                self._connection = connect(CONTROL_S)
                weakref.finalize(self, self._connection.close)
            from docker.errors import APIError, NotFound

            try:
                with answered():
                    yield self._connection
            except NotFound as why:
                raise Gone(str(why.explanation)) from why
            except APIError as why:
                raise _sorted(why, doing) from why
        except NoAnswer as why:
            if why.denied:
                raise AuthRefused(f"this user may not open the Docker engine's socket: {why.reason}") from why
            reason = f"the Docker engine does not answer ({why.reason}); {_START}"
            raise Unreachable(reason, surely_no_effect=not why.asked) from why


def _known(client: APIClient, name: str) -> Resource | None:
    """This instance as it is, or what its volume tells of it: a volume without its container means that
    the instance has ended, and its token must not begin a second one."""
    from docker.errors import NotFound

    try:
        return forms.instance(client.inspect_container(name))
    except NotFound:
        pass
    try:
        rest = forms.volume(client.inspect_volume(forms.volume_name(name)))
    except NotFound:
        return None
    return replace(rest, id=name, kind="instance", state=ResourceState.ENDED)


def _remove_container(client: APIClient, name: str) -> None:
    from docker.errors import APIError, NotFound

    try:
        _must_be_ours(client.inspect_container(name)["Config"]["Labels"], name)
        client.remove_container(name, force=True, v=True)  # v: nameless volumes that the image declares
    except NotFound:
        return
    except APIError as why:
        if why.status_code != 409:  # 409: its own removal is under way
            raise


def _remove_volume(client: APIClient, name: str) -> None:
    from docker.errors import APIError, NotFound

    try:
        _must_be_ours(client.inspect_volume(name)["Labels"], name)
        for summary in client.containers(all=True, filters={"volume": name}):
            if summary["State"] in forms.ALIVE:
                raise Busy(f"volume {name} is in use by {summary['Names'][0].lstrip('/')}")
            _remove_container(client, summary["Id"])  # ended, and did not remove itself
        client.remove_volume(name)
    except NotFound:
        return
    except APIError as why:
        if why.status_code == 409:
            raise Busy(f"volume {name} is still in use") from why
        raise


def _sorted(why: APIError, doing: str) -> ProviderError:
    reason = str(why.explanation or why)
    if why.status_code in (401, 403):
        return AuthRefused(f"the Docker engine refused to {doing}: {reason}")
    if why.status_code == 400:
        return BadOrder(f"the Docker engine refused to {doing}: {reason}")
    if why.status_code == 409:
        return Busy(f"the Docker engine could not {doing} now: {reason}")
    return VendorBug(f"the Docker engine failed to {doing}: {reason}")


def _must_be_ours(labels: dict[str, str] | None, name: str) -> None:
    if not (labels or {}).get("launcher.token"):
        raise BadOrder(f"{name} is not ours and is left alone")


def _disk(root: str) -> tuple[Check, ...]:
    """Room for images and volumes, where the engine's disk is this machine's."""
    try:
        free_gb = shutil.disk_usage(root).free / 10**9
    except OSError:
        return ()  # another machine's engine, or one in a virtual machine
    enough = free_gb >= _LEAST_FREE_GB
    fix = None if enough else "docker system prune"
    return (Check("docker disk", ok=enough, detail=f"{free_gb:.0f} GB free in {root}", fix=fix),)


def make() -> DockerProvider:
    return DockerProvider()
