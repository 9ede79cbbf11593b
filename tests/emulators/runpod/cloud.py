"""The emulated Runpod itself: pods, their life, volumes, credentials, money. HTTP and GraphQL are in front.

One lock guards it. `tick` moves every pod on to where it is by now; each question does it first, and where
machines are real, a thread does it all the time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import RLock
from typing import Any

from tests.emulators.runpod.catalog import Catalog
from tests.emulators.runpod.faults import CAPACITY, Conditions, Faults
from tests.emulators.runpod.ledger import Ledger
from tests.emulators.runpod.machines import Boot, Life, Login, Machines, Said
from tests.emulators.runpod.pods import ACTIONS, Pod, Status, stamp

Json = dict[str, Any]
OUTBID_GRACE_S = 5.0
STOP_GRACE_S = 5.0
MOST_ENV = 50
PINNED = "A pod with a network volume cannot be stopped, only terminated."
UNFIT = (
    "error starting container: OCI runtime create failed: nvidia-container-cli: requirement error: "
    "unsatisfied condition: cuda>=12.8, please update your driver"
)


class Refused(Exception):
    """An answer that says no, which may be nobody's fault."""

    def __init__(self, status: int, detail: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


class Broken(Refused):
    """A rule of the API's that whoever asks has to know."""


@dataclass(frozen=True)
class Caller:
    """Whoever a key is: the account, somebody who may only look, or one pod."""

    kind: str  # "all", "read", "pod"
    pod: str | None = None


@dataclass
class Cloud:
    machines: Machines
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    root: str = ""  # where its API is reached, once it serves
    catalog: Catalog = field(default_factory=Catalog)
    faults: Faults = field(default_factory=Faults)
    conditions: Conditions = field(default_factory=Conditions)
    ledger: Ledger = field(default_factory=Ledger)
    pods: dict[str, Pod] = field(default_factory=dict)
    volumes: dict[str, Json] = field(default_factory=dict)
    registries: dict[str, Json] = field(default_factory=dict)
    logins: dict[str, Login] = field(default_factory=dict)  # by the registry's id: never shown again
    templates: dict[str, Json] = field(default_factory=dict)
    ssh_keys: list[str] = field(default_factory=list)
    key: str = field(default_factory=lambda: f"rpa_{secrets.token_hex(20)}")
    read_key: str = field(default_factory=lambda: f"rpa_{secrets.token_hex(20)}")
    lock: Any = field(default_factory=RLock)

    # --- who asks ----------------------------------------------------------------------------

    def caller(self, key: str | None) -> Caller:
        if key == self.key:
            return Caller("all")
        if key == self.read_key:
            return Caller("read")
        pod = next(
            (p for p in self.pods.values() if p.key == key and p.status is not Status.TERMINATED), None
        )
        if key is None or pod is None:
            raise Refused(401, "missing bearer token" if key is None else "invalid api key")
        return Caller("pod", pod.id)

    # --- pods --------------------------------------------------------------------------------

    def create(self, asked: Json, *, bid: Decimal | None = None) -> Pod:
        """`bid`: for an interruptible one, USD per GPU-hour."""
        asked = self._with_template(asked)
        self._rules(asked)
        gpu, cloud = asked["gpu"], asked.get("cloud", "SECURE")
        model = self.catalog.gpu(gpu["id"])
        price = model.price(cloud) if model is not None else None
        place = None
        if price is not None and gpu.get("count") is not None:  # without it nothing is ever free
            place = self.catalog.take(gpu["id"], cloud, gpu["count"], asked.get("dataCenterIds", []))
        if price is None or place is None:
            raise Refused(400, CAPACITY[self.conditions.capacity_words])
        each = bid if bid is not None else price * Decimal(str(self.conditions.price_factor))
        if self.credit() < each * gpu["count"]:  # an hour's worth is wanted
            self.catalog.give_back(gpu["id"], cloud, gpu["count"], place)
            raise Refused(402, "Your balance is too low to deploy this pod. Please add funds.")
        pod = Pod(
            id=secrets.token_hex(7),
            key=f"rpa_pod_{secrets.token_hex(16)}",
            asked=asked,
            place=place,
            usd_per_hour=each * gpu["count"],
            created=self.now(),
            spot=bid is not None,
        )
        self.pods[pod.id] = pod
        self._bill(pod)
        return pod

    def _with_template(self, asked: Json) -> Json:
        """Resolved once; what the call says itself wins, and variables are joined."""
        if "templateId" not in asked:
            return asked
        template = self.templates.get(asked["templateId"])
        if template is None:
            raise Refused(404, "template not found")
        own = {key: value for key, value in asked.items() if key != "templateId"}
        return {**template, **own, "env": {**template.get("env", {}), **own.get("env", {})}}

    def _rules(self, asked: Json) -> None:
        """What no shape says."""
        if ("gpu" in asked) == ("cpu" in asked):
            raise Broken(400, "exactly one of gpu or cpu must be set")
        if "cpu" in asked:
            raise Refused(400, "this emulation has no CPU pods")
        if "image" not in asked:
            raise Broken(422, "Request validation failed.", ("$: missing property 'image'",))
        if asked["image"] in self.conditions.refused_images:
            raise Refused(422, "Request validation failed.", (f"$.image: {asked['image']} not found",))
        self._mount_rules(asked)
        if asked.get("registry") is not None and asked["registry"] not in self.registries:
            raise Refused(400, "Registry auth not found")
        if len(asked.get("env", {})) > MOST_ENV:
            raise Broken(400, f"at most {MOST_ENV} environment variables")
        gpu = asked["gpu"]
        if gpu.get("allowedCudaVersions") and "minCudaVersion" in gpu:
            raise Broken(400, "gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive")

    def _mount_rules(self, asked: Json) -> None:
        mounts = asked.get("mounts", {})
        if "persistent" in mounts and "network" in mounts:
            raise Broken(400, "mounts.persistent and mounts.network are mutually exclusive")
        for mount in mounts.get("network", []):
            volume = self.volumes.get(mount["volumeId"])
            if volume is None:
                raise Refused(400, "network volume not found")
            if asked.get("cloud", "SECURE") != "SECURE":
                raise Refused(400, "network volumes are available on secure cloud only")
            if asked.get("dataCenterIds") not in ([volume["dataCenter"]], None, []):
                raise Refused(400, "network volume is in another data center")
            asked["dataCenterIds"] = [volume["dataCenter"]]

    def visible(self, id: str, *, listed: bool = False) -> Pod | None:
        """What is known by now: a new pod shows up late."""
        pod = self.pods.get(id)
        lag = self.conditions.list_lag_s if listed else self.conditions.get_lag_s
        if pod is None or pod.status is Status.TERMINATED:
            return None
        return pod if self.now() - pod.created >= timedelta(seconds=lag) else None

    def known(self, id: str) -> Pod:
        pod = self.visible(id)
        if pod is None:
            raise Refused(404, "pod not found")
        return pod

    def shown(self, pod: Pod) -> Json:
        c = self.conditions
        port = pod.told_port(self.now(), c.ports == "mapped", c.ports_late_s, c.ports_stale_s)
        return pod.shown(self.now(), self.machines.host, port, c.extras)

    def act(self, pod: Pod, action: str) -> None:
        if action not in ACTIONS[pod.status]:
            raise Refused(409, f"action {action!r} is not valid for status {pod.status.value}")
        if action == "stop" and not self.stops(pod):
            raise Refused(400, PINNED)
        if action == "terminate":
            self.terminate(pod)
        elif action == "stop":
            self.stop(pod)
        elif action == "start":
            if pod.spot:
                raise Refused(400, "Cannot resume a spot pod as an on demand pod.")
            self.start(pod)
        else:
            self._end_boot(pod, STOP_GRACE_S)
            self._set(pod, Status.STARTING)
            self._boot(pod)

    def stops(self, pod: Pod) -> bool:
        return self.conditions.stops_with_volume or not pod.asked.get("mounts", {}).get("network")

    def terminate(self, pod: Pod) -> None:
        self._end_boot(pod, STOP_GRACE_S)
        self._free_gpu(pod)
        self._set(pod, Status.TERMINATED)
        self.machines.drop_disk(pod.id)

    def stop(self, pod: Pod, grace_s: float = STOP_GRACE_S) -> None:
        self._end_boot(pod, grace_s)
        self._free_gpu(pod)
        self._set(pod, Status.EXITED)

    def start(self, pod: Pod, *, with_gpus: bool = True) -> None:
        """On its own host, where somebody else may have taken the GPUs meanwhile."""
        gpu, cloud = pod.asked["gpu"]["id"], pod.asked.get("cloud", "SECURE")
        wanted = with_gpus and pod.gpu_given_back
        if wanted and self.catalog.take(gpu, cloud, pod.gpu_count, [pod.place]) is None:
            raise Refused(400, "There are not enough free GPUs on the host machine to start this pod.")
        pod.gpu_given_back = not with_gpus
        self._set(pod, Status.STARTING)
        self._boot(pod)

    # --- what happens to pods ----------------------------------------------------------------

    def vanish(self, pod: Pod) -> None:
        """The host is lost: nobody asked, and nothing is left."""
        self.terminate(pod)

    def outbid(self, pod: Pod) -> None:
        """Taken away: SIGTERM, 5 s, SIGKILL; the volume stays, the pod is EXITED."""
        self.stop(pod, OUTBID_GRACE_S)

    def tick(self) -> None:
        if self.credit() <= 0:
            for pod in [one for one in self.pods.values() if one.alive]:
                self.stop(pod)
        for pod in list(self.pods.values()):
            if pod.status is Status.PROVISIONING:
                self._provision(pod)
            if pod.machine is not None:
                self._watch(pod, pod.machine.life())

    def _provision(self, pod: Pod) -> None:
        image = pod.asked["image"]
        if image in self.conditions.broken_images:
            self._not_pulled(pod, f"{image}: manifest unknown")
        elif image in self.conditions.unfit_images:
            pod.system_lines.append(Said(self.now(), UNFIT))
            self._set(pod, Status.RUNNING)
        elif self.now() - pod.created >= timedelta(seconds=self.conditions.provision_s):
            self._fetch(pod)

    def _fetch(self, pod: Pod) -> None:
        image, login = pod.asked["image"], self.logins.get(pod.asked.get("registry") or "")
        why_not = self.machines.fetched(pod.id, image, login)
        if why_not:
            self._not_pulled(pod, why_not)
        elif why_not is not None:
            pod.system_lines.append(Said(self.now(), f"create container {image}"))
            self._set(pod, Status.STARTING)
            self._boot(pod)

    def _not_pulled(self, pod: Pod, why: str) -> None:
        if not pod.system_lines:
            pod.system_lines.append(Said(self.now(), f"error pulling image: {why}"))
        gives_up_s = self.conditions.pull_gives_up_s
        if gives_up_s is not None and self.now() - pod.created >= timedelta(seconds=gives_up_s):
            self._free_gpu(pod)
            self._set(pod, Status.ERROR)

    def _watch(self, pod: Pod, life: Life) -> None:
        if life is Life.ENDED and pod.alive:  # a pod outlives its main process: it is started again
            pod.left_boot()
            self._set(pod, Status.STARTING)
            self._boot(pod)
        elif life is Life.UP and pod.status is Status.STARTING:
            pod.up_since = self.now()
            self._set(pod, Status.RUNNING)

    def _boot(self, pod: Pod) -> None:
        pod.boots += 1
        pod.port = self.machines.free_port()
        pod.system_lines.append(Said(self.now(), "start container"))
        asked, network = pod.asked, (pod.asked.get("mounts") or {}).get("network") or []
        mount = pod.persistent or (network[0] if network else None)
        own = {
            "RUNPOD_POD_ID": pod.id,
            "RUNPOD_API_KEY": pod.key,
            "RUNPOD_DC_ID": pod.place,
            "RUNPOD_GPU_COUNT": str(pod.gpu_count),
            "RUNPOD_PUBLIC_IP": self.machines.host,
            "RUNPOD_TCP_PORT_22": str(pod.port),
        }
        pod.machine = self.machines.boot(
            Boot(
                pod=pod.id,
                image=asked["image"],
                args=asked.get("args", ""),
                env={**asked.get("env", {}), **own},
                mount=(mount["path"], int(mount.get("size", 10))) if mount else None,
                volume=network[0]["volumeId"] if network else None,
                gpu=asked["gpu"]["id"],
                gpu_count=pod.gpu_count,
                port=pod.port,
            )
        )

    def _end_boot(self, pod: Pod, grace_s: float) -> None:
        if pod.machine is not None:
            pod.machine.end(grace_s)
        pod.left_boot()

    def _free_gpu(self, pod: Pod) -> None:
        if not pod.gpu_given_back:
            pod.gpu_given_back = True
            cloud = pod.asked.get("cloud", "SECURE")
            self.catalog.give_back(pod.asked["gpu"]["id"], cloud, pod.gpu_count, pod.place)

    def _set(self, pod: Pod, status: Status) -> None:
        pod.status = status
        self._bill(pod)

    def _bill(self, pod: Pod) -> None:
        self.ledger.change(pod.id, *pod.rates(), self.now())

    # --- money -------------------------------------------------------------------------------

    def credit(self) -> Decimal:
        """What is left of the balance."""
        now = self.now()
        spent = self.ledger.amounts(None, datetime.min.replace(tzinfo=UTC), now).values()
        return Decimal(str(self.conditions.balance)) - sum((gpu + disk for gpu, disk in spent), Decimal(0))

    def bill(self, pod: str | None, first: datetime, last: datetime, bucket: str) -> Json:
        """One record per pod for the whole span; real buckets are finer, their sums are the same."""
        records = []
        for id, (gpu, disk) in self.ledger.amounts(pod, first, last).items():
            amounts = {"gpuAmount": float(gpu), "cpuAmount": 0.0, "diskAmount": float(disk)}
            span = {"startTime": stamp(first), "endTime": stamp(last)}
            records.append({**span, "podId": id, "totalAmount": float(gpu + disk), **amounts})
        names = ("totalAmount", "gpuAmount", "cpuAmount", "diskAmount")
        return {
            "records": records,
            "metadata": {
                "query": {
                    "startTime": stamp(first),
                    "endTime": stamp(last),
                    "bucketSize": bucket,
                    "podId": pod,
                },
                "recordCount": len(records),
                "uniquePodCount": len(records),
                "totals": {name: sum(float(str(r[name])) for r in records) for name in names},
            },
        }
