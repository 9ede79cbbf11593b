"""The words of the house as frozen records: one word per idea, units in the names.

Money is Decimal, time is aware UTC and handed in. Nothing here reads a clock, a disk or a network,
and nothing here imports anything of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Need:
    """What a recipe and the user ask of a machine."""

    gpus: tuple[str, ...] = ()  # names or "any-24gb"; empty = a GPU is welcome, not needed
    gpu_words: tuple[str, ...] = ()  # as the user wrote them: a market may know models more finely
    gpu_count: int = 1
    vram_gb: Decimal | None = None
    ram_gb: Decimal | None = None
    disk_gb: int = 10
    regions: tuple[str, ...] = ()
    spot: bool = False  # machines that may be taken away, for less
    on_demand: bool = True  # others; False: rather none
    max_price: Decimal | None = None  # USD per GPU-hour
    cloud: str = "secure"  # which part of a marketplace: secure, community, any
    min_cuda: str | None = None  # the least that the host's driver must serve: "12.4"
    network_volume: str | None = None  # id of the user's own storage, mounted instead of the machine's disk
    registry: str | None = None  # id of the provider's own note of a login to a private registry
    template: str | None = None  # id of the provider's own note of an image and its variables


@dataclass(frozen=True)
class Offer:
    """Something rentable (or this machine), with its price, where the price is from and how old it is."""

    id: str  # "runpod:RTX 4090:secure:any", "local", "docker"
    target: str  # what the user wrote after --on: local, docker, ssh:NAME, runpod, aws
    provider: str
    usd_per_hour: Decimal  # compute + disks + address: what the meter runs at
    price_source: str
    price_as_of: datetime | None = None
    region: str | None = None
    instance_type: str | None = None
    gpu: str | None = None
    gpu_count: int = 0
    vram_gb: Decimal | None = None
    spot: bool = False
    storage_usd_per_day: Decimal = Decimal(0)  # what waiting results cost once the machine is stopped
    boot_s: int = 0  # typical time from create to reachable
    bills: bool = False
    disk_usd_per_hour: Decimal = Decimal(0)  # the share of usd_per_hour that is disks and address
    disk_gb: int | None = None  # what its disks hold in all, where that is more than was asked for
    no_gpu: str | None = None  # why it surely has no GPU; None = it has one, or nobody knows
    cloud: str | None = None  # which part of a marketplace it is from


class RuntimeKind(StrEnum):
    IMAGE = "image"  # the instance is the image
    DOCKER = "docker"  # a machine that runs the image
    ENV = "env"  # an environment on the machine


@dataclass(frozen=True)
class Runtime:
    """How the trainer's software gets onto the machine."""

    kind: RuntimeKind
    digest: str | None  # image digest, or the requirement set's digest; None = the machine as it is
    why: str
    image: str | None = None
    requirements: str | None = None  # path below the pushed folder
    setup: tuple[str, ...] = ()
    prepare_s: int = 0  # expected time to pull or build it, 0 when it is already there
    min_cuda: str | None = None  # the least that the driver of a machine must serve for this image: "12.8"


@dataclass(frozen=True)
class Range:
    """A forecast: low, likely, high."""

    low: Decimal
    likely: Decimal
    high: Decimal


@dataclass(frozen=True)
class Line:
    """One line of an estimate's total."""

    name: str
    hours: Range
    usd: Range


@dataclass(frozen=True)
class Estimate:
    lines: tuple[Line, ...]
    hours: Range
    usd: Range
    known: bool = True  # False: nobody can tell how long it trains; likely and high are then the limit's


@dataclass(frozen=True)
class Limits:
    """Every bound of a run. T = max_time_s bounds the trainer, S = salvage_s follows it."""

    max_time_s: int
    salvage_s: int
    boot_limit_s: int = 900
    ready_within_s: int = 600
    hold_s: int = 1800
    keep_s: int = 0
    idle_s: int | None = None
    checkpoint_every_s: int = 300
    max_cost: Decimal | None = None
    max_attempts: int = 3


@dataclass(frozen=True)
class Input:
    """Data brought along by digest even if git ignores it."""

    name: str | None
    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class SecretRef:
    """Where a secret is found; never its value."""

    name: str
    source: Literal["env", "file"]
    place: str


class DeviceWish(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Job:
    """What is run: a bundled trainer or any command of the user's own."""

    argv: tuple[str, ...]
    folder: str  # what is pushed: the project, or the folder that holds trainers/
    push: tuple[str, ...] | None = None  # only these sub-folders; None = all of git's list
    output: str | None = None  # OUT below the folder; None = $LAUNCHER_OUTPUT
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    inputs: tuple[Input, ...] = ()
    seed: int = 0
    device: DeviceWish = DeviceWish.AUTO
    require_gpu: bool = False
    requirements: str | None = None
    gpu_requirements: str | None = None  # instead of them, on a machine whose GPU it may use
    setup: tuple[str, ...] = ()

    @property
    def needs_gpu(self) -> bool:
        """Whether the user said that without a GPU nothing shall run."""
        return self.require_gpu or self.device is DeviceWish.CUDA


@dataclass(frozen=True)
class Choice:
    """One offer of the plan with how it would be used and what it would cost."""

    offer: Offer
    runtime: Runtime
    estimate: Estimate


@dataclass(frozen=True)
class Refusal:
    offer: str
    reason: str


@dataclass(frozen=True)
class Consent:
    """What the user agreed to; rewritten never, extended by facts."""

    max_cost: Decimal  # ceiling for the run over all attempts; 0 where nothing bills
    given_at: datetime
    how: Literal["free", "yes", "asked"]


@dataclass(frozen=True)
class Plan:
    """The decision, a value. `choices` are in the order in which they are tried."""

    run: str
    label: str  # trainer name or folder name
    trainer: str | None
    project: str  # where models/ lies
    created_at: datetime
    job: Job
    limits: Limits
    choices: tuple[Choice, ...]
    refused: tuple[Refusal, ...] = ()
    consent: Consent | None = None
    version: str | None = None
    profile: str | None = None
    settings: tuple[tuple[str, str], ...] = ()  # key, value: what `models diff` compares
    code: tuple[tuple[str, str], ...] = ()  # git commit, dirtiness
    allow_cpu: bool = False
    need: Need = Need()
    schema: int = 1


@dataclass(frozen=True)
class Route:
    """The way to one sshd, as a value for the journal: keys are named by their place, never held."""

    address: str
    port: int
    user: str
    keys: tuple[str, ...] = ()  # files of private keys, tried in this order
    agent: bool = True  # keys that the user's own ssh-agent holds may be tried; the agent is never forwarded
    agent_others: bool = True  # those that `keys` does not name, too (IdentitiesOnly says no)
    pins: tuple[str, ...] = ()  # "ssh-ed25519 AAAA…": a host that shows another key is not talked to
    via: Route | None = None  # the jump host before it


@dataclass(frozen=True)
class Access:
    """How a host is reached; only remote.open_host turns it into a Host."""

    kind: Literal["process", "container", "ssh"]
    address: str  # folder | container id | host:port
    root: str  # the spool folder on the host
    user: str | None = None
    host_key: Literal["inject", "announce", "known", "local"] = "local"
    volume: str | None = None  # outlives the container
    image: str | None = None
    route: Route | None = None  # by ssh
    envs: str | None = None  # folder of environments that the host's runs share
    container: str | None = None  # in which the run lives there, with files under the same names


class ResourceState(StrEnum):
    BOOTING = "booting"
    RUNNING = "running"
    STOPPED = "stopped"  # ended computing, still keeps (and may bill) storage
    ENDED = "ended"


@dataclass(frozen=True)
class Resource:
    """Anything a provider bills or keeps for a run: an instance or a side object."""

    id: str
    kind: str  # "instance", "volume", "key", ...
    run: str
    token: str
    owner: str
    state: ResourceState
    usd_per_hour: Decimal
    created_at: datetime | None
    ends_at: datetime | None
    access: Access | None = None
    boot: str | None = None  # changes when the machine was restarted
    exit_code: int | None = None
    target: str = ""


@dataclass(frozen=True)
class Order:
    """An offer plus token, image, keys and limits: one create call. It holds no secret."""

    run: str
    attempt: int
    token: str  # fresh 128 bits, journaled before the call
    owner: str
    offer: Offer
    runtime: Runtime
    need: Need
    ends_at: datetime  # D
    ends_in_s: int  # D as a duration, for a clock that counts from boot
    boot_limit_s: int
    hold_s: int
    folder: str  # spool folder for targets that are this machine
    boot_guard: str  # source of the small program that rides in the create call
    require_gpu: bool = False
    env: tuple[tuple[str, str], ...] = ()
    wants_gpu: bool = True  # False: the user said that the CPU shall do
    public_keys: tuple[str, ...] = ()  # the run's own, for a machine that is reached by SSH


@dataclass(frozen=True)
class Traits:
    """What differs between providers, as data."""

    boots: Literal["image", "machine", "here"]
    bills: bool
    token_idempotent: bool = False
    listing_lag_s: float = 0
    billing_step_s: int = 1
    spot: bool = False
    keeps_output: bool = False  # output outlives the instance's end until it is pulled
    overrun_s: int = 5
    # Who ends a machine, each without the ones before.
    layers: tuple[str, ...] = ("the engine", "the agent there")
    # Optional ones: pause, unpause, set_end, admit, billed, prices.
    verbs: frozenset[str] = field(default_factory=frozenset)
    wants_key: bool = False  # its machines are reached by SSH, with a key pair of the run's own
    look_s: float = 0  # at least so long between two looks while a machine boots: its API is rationed


@dataclass(frozen=True)
class Fact:
    """One journal line: what was observed or intended, and when."""

    kind: str
    at: datetime
    data: Json = field(default_factory=dict)


class State(StrEnum):
    """What a person is told a run is doing."""

    PLANNED = "planned"
    RENTING = "renting"
    PREPARING = "preparing"
    RUNNING = "running"
    WAITING = "waiting"
    PULLING = "pulling"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LIMIT = "limit"
    INTERRUPTED = "interrupted"
    MAYBE_BILLING = "maybe-billing"
