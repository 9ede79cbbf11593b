"""A machine of the user's own, by its sshd: an instance is the boot guard's process there.

What can be done only there is done by ssh_far.py, which remembers nothing either: the host's processes and
folders are the listing. One provider is one host. Offers come from what was last seen, so planning asks
nobody; whether a GPU is free now is found out by create.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from launcher.codec import load, parse_iso
from launcher.errors import AuthRefused, Gone, KeyChanged, LauncherError, ProviderError, Unreachable
from launcher.hosts import Device, Facts, HostBook, HostRecord
from launcher.hostwords import HostWish
from launcher.models import (
    Access,
    Json,
    Need,
    Offer,
    Order,
    Resource,
    ResourceState,
    Route,
    RuntimeKind,
    Traits,
)
from launcher.providers.base import Check
from launcher.remote.base import Tick
from launcher.store import Home

KIND = "ssh"
FOLDER = "folder:"  # how a folder's id begins
ENVS = "envs"
SAID_IN = "said in "  # how the origin of a host of a profile begins
CLOCKS_AGREE = timedelta(seconds=3)
MIB = Decimal(1048576)
PART = " MIG "  # in the name of a part of a card: a process computes on one of them at the most
LEAST_FREE_GB = 1.0  # a host with less comes after all others


class SshProvider:
    traits = Traits(boots="machine", bills=False, token_idempotent=True, keeps_output=True, overrun_s=15)

    def __init__(
        self,
        record: HostRecord,
        tick: Tick = lambda: None,
        now_known: Callable[[], HostRecord | None] = lambda: None,
    ) -> None:
        """`now_known`: what somebody may have written of the host meanwhile."""
        self.name = f"{KIND}:{record.name}"
        self._tick, self._now_known = tick, now_known
        self._goes_by(record)

    def _goes_by(self, record: HostRecord) -> None:
        from launcher.providers.ssh_way import Way  # a list of names shall not pay for it

        self._record = record
        self._way = Way(self.name, record.route, record.fingerprint, tick=self._tick)

    def _ask(self, verb: str, **question: Any) -> Json:
        """A host that is not met where it was: from the next question on it is looked for where it is said to
        be by then."""
        try:
            return self._way.ask(verb, **question)
        except (Unreachable, AuthRefused, KeyChanged):
            record = self._now_known()
            if record is not None and _way_to(record) != _way_to(self._record):
                self._way.close()
                self._goes_by(record)
            raise

    def check(self) -> tuple[Check, ...]:
        try:
            facts = self.facts()
        except ProviderError as e:
            return (Check(f"host {self.name}", False, e.reason, f"host check {self._record.name}"),)
        return (Check(f"host {self.name}", facts.fault is None, facts.fault or _summary(facts)),)

    def offers(self, need: Need) -> tuple[Offer, ...]:
        facts = self._record.facts
        if facts is None or not facts.devices:
            return (self._offer(None, 0, facts),)
        models = dict.fromkeys(device.name for device in facts.devices)
        same = {name: [d for d in facts.devices if d.name == name] for name in models}
        return tuple(
            self._offer(name if len(models) > 1 else None, 1 if PART in name else len(d), facts, d[0])
            for name, d in same.items()
        )

    def create(self, order: Order) -> Resource:
        seen = self._ask(
            "create",
            token=order.token,
            run=order.run,
            owner=order.owner,
            ends_in_s=order.ends_in_s,
            gpus=order.wants_gpu,
            must=order.require_gpu or bool(order.need.gpus) or order.need.gpu_count > 1,
            count=order.need.gpu_count,
            model=order.offer.id.removeprefix(self.name).removeprefix(":") or None,
            boot_guard=order.boot_guard,
            image=order.runtime.image if order.runtime.kind is RuntimeKind.DOCKER else None,
            env=_limits(order),
        )
        return self._instance(order.token, seen)

    def get(self, id: str) -> Resource:
        return self._instance(id, self._ask("list"))

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        """Guards, what outlived a guard, and the folders, which stay until they are ended as well."""
        seen = self._ask("list")
        found = [
            self._resource(env, seen, "instance", ResourceState.RUNNING) for env in seen["guards"].values()
        ]
        found += [
            self._resource(env, seen, "stray", ResourceState.RUNNING) for env in seen["strays"].values()
        ]
        found += [
            self._resource(env, seen, "folder", ResourceState.STOPPED) for env in seen["folders"].values()
        ]
        return tuple(r for r in found if run_id in (None, r.run))

    def terminate(self, id: str) -> None:
        self._ask("terminate", id=id)

    def console(self, id: str) -> str:
        return str(self._ask("console", id=id)["text"])

    # --- for whoever looks after hosts -------------------------------------------------------

    def facts(self) -> Facts:
        """What the host is and who has its GPUs, now."""
        told = self._ask("facts")
        now = datetime.now(UTC)
        return load(Facts, {**told, "at": now.isoformat(), "skew_s": round(told["now"] - now.timestamp(), 1)})

    def close(self) -> None:
        self._way.close()

    # --- forms -------------------------------------------------------------------------------

    def _offer(
        self, model: str | None, count: int, facts: Facts | None, first: Device | None = None
    ) -> Offer:
        return Offer(
            id=f"{self.name}:{model}" if model else self.name,
            target=self.name,
            provider=self.name,
            gpu=first.name if first else None,
            gpu_count=count,
            vram_gb=Decimal(round(first.memory_mb * MIB / 10**9)) if first else None,
            usd_per_hour=self._record.usd_per_hour,
            price_source="your own host" if facts else "your own host, never looked at",
            price_as_of=facts.at if facts else None,
            boot_s=1,
            no_gpu=facts.no_gpu if facts else None,
        )

    def _instance(self, token: str, seen: Json) -> Resource:
        if token in seen["guards"]:
            return self._resource(seen["guards"][token], seen, "instance", ResourceState.RUNNING)
        if token in seen["folders"]:
            return self._resource(seen["folders"][token], seen, "instance", ResourceState.ENDED)
        raise Gone(f"nothing on {self.name} carries the label {token}")

    def _resource(self, env: Json, seen: Json, kind: str, state: ResourceState) -> Resource:
        token, route = env["LAUNCHER_INSTANCE"], self._way.route
        clock_ahead = timedelta(seconds=seen["now"]) - (datetime.now(UTC) - datetime.fromtimestamp(0, UTC))
        ends, root = _end_of_life(env), env.get("LAUNCHER_SPOOL", "")
        made = Resource(
            id=token,
            kind=kind,
            run=env.get("LAUNCHER_RUN", ""),
            token=token,
            owner=env.get("LAUNCHER_OWNER", ""),
            state=state,
            usd_per_hour=self._record.usd_per_hour,
            created_at=None,
            ends_at=ends - _beyond_doubt(clock_ahead) if ends else None,
            boot=env.get("boot"),
            target=self.name,
        )
        if kind == "folder":
            return replace(made, id=FOLDER + token, usd_per_hour=Decimal(0))
        access = Access(
            kind="ssh",
            address=f"{route.address}:{route.port}",
            root=root,
            user=route.user,
            host_key="known",
            route=route,
            envs=None if env.get("container") else f"{seen['home']}/{ENVS}",
            container=env.get("container"),
        )
        return replace(made, access=access)


def _way_to(record: HostRecord) -> tuple[Route, str | None]:
    return record.route, record.fingerprint


def _end_of_life(env: Json) -> datetime | None:
    """One label that cannot be read must not hide what else lives there."""
    try:
        return parse_iso(str(env["LAUNCHER_ENDS_AT"]))
    except (KeyError, ValueError):
        return None


def _beyond_doubt(ahead: timedelta) -> timedelta:
    """How far its clock is ahead of ours, as far as that is no matter of the way there."""
    return timedelta(0) if abs(ahead) < CLOCKS_AGREE else timedelta(seconds=round(ahead.total_seconds()))


def _limits(order: Order) -> dict[str, Any]:
    return {
        "LAUNCHER_ENDS_IN": str(order.ends_in_s),
        "LAUNCHER_BOOT_LIMIT": str(order.boot_limit_s),
        "LAUNCHER_HOLD": str(order.hold_s),
        "LAUNCHER_CONSOLE": "file",
        **dict(order.env),
    }


def _summary(facts: Facts) -> str:
    gpus = f"{len(facts.free)} of {len(facts.devices)} GPUs free" if facts.devices else "no GPU"
    return f"{gpus}, {facts.disk_free_gb:.0f} GB free, python {facts.python}"


def places(home: Home) -> tuple[str, ...]:
    """The names of the hosts in the book: free ones as last seen first, cheap ones before dear ones. What
    could not be used then comes last: it may have been mended."""
    known = sorted(
        HostBook(home).all(),
        key=lambda r: (_of_no_use(r.facts), bool(r.facts and r.facts.busy), r.usd_per_hour, r.name),
    )
    return tuple(record.name for record in known)


def _of_no_use(facts: Facts | None) -> bool:
    if facts is None:
        return False
    return facts.fault is not None or (facts.disk_free_gb is not None and facts.disk_free_gb < LEAST_FREE_GB)


def make(home: Home, place: str, tick: Tick = lambda: None) -> SshProvider:
    book = HostBook(home)

    def now_known() -> HostRecord | None:
        with suppress(LauncherError):  # what cannot be read says nothing new
            return book.find(place)
        return None

    return SshProvider(book.get(place), tick, now_known)


def meet(home: Home, place: str) -> None:
    """A name that is not in the book yet may be an alias of the user's own SSH configuration."""
    book = HostBook(home)
    if book.find(place) is None:
        from launcher.providers.ssh_meeting import met

        book.save(HostRecord(place, met(book, place), origin=f"alias {place}"))


def settle(home: Home, wishes: Mapping[str, HostWish], origin: Callable[[str], str]) -> None:
    """What a profile says of hosts goes into the book. What somebody added there by hand stays as it is."""
    book = HostBook(home)
    for name, wish in wishes.items():
        before = book.find(name)
        if before is None or before.origin.startswith(SAID_IN):
            from launcher.providers.ssh_meeting import wished

            record = wished(book, name, wish, before, f"{SAID_IN}{origin(name)}")
            if record != before:
                book.save(record)
