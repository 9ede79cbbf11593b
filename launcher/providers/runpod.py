"""Runpod: the instance is a pod that boots an image and is reached by SSH on a published port.

Prices and stock are asked live; a pod is made by one call that carries its labels, its guard and the run's
public key. Its host key is not known until its own first words are read from the authenticated console.
A pod can be stopped: then its disk waits, for less. Interruptible pods are asked for only where they exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from launcher import values
from launcher.errors import BadOrder, Gone, NoCapacity, ProviderError, TooFast, Unreachable, VendorBug, usage
from launcher.models import Json, Need, Offer, Order, Resource, ResourceState, Traits
from launcher.providers import runpod_forms as forms
from launcher.providers import runpod_keys as keys
from launcher.providers.base import Check
from launcher.providers.runpod_api import Api, Unsupported
from launcher.providers.runpod_refusals import CREATE

NAME = forms.TARGET
LOOK_S = 0.5
LISTING_LAG_S = 120.0  # never measured: a bound that was chosen, not seen
LISTING_LAG = "LAUNCHER_LISTING_LAG"  # what says otherwise
CONSOLE_LINES = "1000"
_RENT = (
    "mutation($input: PodRentInterruptableInput!) "
    "{ podRentInterruptable(input: $input) { id name env costPerHr desiredStatus } }"
)
_WITHOUT_GPU = "mutation($input: PodResumeInput!) { podResume(input: $input) { id desiredStatus } }"
_BALANCE = "query { myself { clientBalance currentSpendPerHr } }"
_SPOT = "query($input: GpuTypeFilter) { gpuTypes(input: $input) { id secureSpotPrice communitySpotPrice } }"
_NO_SPOT = "Runpod no longer rents pods that may be taken away: without --spot it rents on demand"
_RESUME = "mutation($input: PodBidResumeInput!) { podBidResume(input: $input) { id desiredStatus } }"
_SPOT_POD = re.compile(r"spot pod", re.IGNORECASE)


class RunpodProvider:
    name = NAME

    def __init__(
        self,
        environ: Mapping[str, str],
        home: Path,
        listing_lag_s: float = LISTING_LAG_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._environ = environ
        self._home = home
        self._now = now
        self._made: Api | None = None
        self.traits = Traits(
            boots="image",
            bills=True,
            listing_lag_s=listing_lag_s,
            keeps_output=True,
            overrun_s=60,
            layers=("the engine", "the agent there", "the pod's first process with a key of its own"),
            verbs=frozenset({"pause", "unpause", "billed", "prices"}),
            wants_key=True,
            look_s=LOOK_S,
        )

    # --- the seven verbs ---------------------------------------------------------------------

    def check(self) -> tuple[Check, ...]:
        try:
            api = self._api()
            pods = list(self._pods())
        except ProviderError as why:
            fix = keys.FIX if not isinstance(why, Unreachable | TooFast) else f"look at {keys.ROOT}"
            return (Check("runpod key", ok=False, detail=why.reason, fix=fix),)
        ours = sum(map(forms.is_ours, pods))
        key = Check("runpod key", ok=True, detail=f"accepted; {len(pods)} pods, {ours} of them ours")
        return (key, *_balance(api))

    def offers(self, need: Need) -> tuple[Offer, ...]:
        from launcher import catalogue
        from launcher.providers import runpod_offers as offers

        if need.network_volume is not None:
            need = offers.beside(self._volume(need.network_volume, offers.flags(need)), need)
        spot = self._spot_prices() if need.spot else {}
        if not spot and not need.on_demand:
            raise NoCapacity(_NO_SPOT, hint=offers.flags(need))
        stock = [(gpu, cloud) for cloud in offers.clouds(need) for gpu in self._stock(need, cloud)]
        book = catalogue.load()
        names = frozenset(book.spelled(str(gpu.get("name"))) for gpu, _ in stock)
        market = offers.Market(book, self._regions(need), self._now(), spot, names)
        found = [offer for gpu, cloud in stock for offer in market.of(gpu, cloud, need)]
        if not found:
            raise market.nothing(stock, need)
        return tuple(sorted(found, key=lambda offer: (offer.usd_per_hour, offer.id)))

    def create(self, order: Order) -> Resource:
        """Looks first: a token that is on a pod already makes no second one."""
        try:
            known = self._labelled(order.token)
        except Unreachable as why:  # only a question so far
            raise Unreachable(why.reason, surely_no_effect=True) from None
        if known is not None:
            return known
        root = keys.root(self._environ)
        if order.offer.spot:
            return self._rent(order, root)
        body = forms.pod(order, root)
        try:
            made = self._api().post("/v2/pods", body, CREATE)
        except BadOrder as why:
            if "minRamPerGpu" not in body["gpu"] or "minRamPerGpu" not in why.reason:
                raise
            made = self._api().post("/v2/pods", forms.without_newer_words(body), CREATE)
        if made is None:
            raise VendorBug("Runpod created a pod and does not say which")
        return forms.resource(made)

    def get(self, id: str) -> Resource:
        answer = self._api().get(f"/v2/pods/{_safe(id)}", f"look at {id}")
        if not forms.is_ours(answer):
            raise Gone(f"{id} is not ours")
        return forms.resource(answer)

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        found = (forms.resource(answer) for answer in self._pods() if forms.is_ours(answer))
        return tuple(
            one for one in found if run_id in (None, one.run) and one.state is not ResourceState.ENDED
        )

    def terminate(self, id: str) -> None:
        """Where it cannot be terminated now, it is at least stopped: that ends its GPU's bill."""
        try:
            with suppress(Gone):
                self._api().delete(f"/v2/pods/{_safe(id)}", f"end {id}")
        except TooFast:
            raise
        except ProviderError as why:
            if not why.surely_no_effect or not isinstance(why, Unreachable):
                with suppress(ProviderError):
                    self.pause(id)
            raise

    def console(self, id: str) -> str:
        """What the pod's own log channel holds: the platform's lines are marked as such."""
        path = f"/v2/pods/{_safe(id)}/logs"
        events = self._api().events(path, f"read the console of {id}", tail=CONSOLE_LINES)
        return "".join(f"{_marked(event)}\n" for event in events)

    # --- what its traits announce ------------------------------------------------------------

    def pause(self, id: str) -> None:
        self._api().post(f"/v2/pods/{_safe(id)}/action", {"action": "stop"}, f"stop {id}")

    def unpause(self, id: str) -> None:
        """On the machine it was on. When its GPUs are somebody else's by now, without any, as far as the old
        API still does that; else NoCapacity. What was rented by a bid is started by the same one: REST knows
        no bids, and refuses."""
        path = f"/v2/pods/{_safe(id)}"
        try:
            self._api().post(f"{path}/action", {"action": "start"}, f"start {id}")
        except NoCapacity as none:
            wanted = {"input": {"podId": id, "gpuCount": 0}}
            try:
                self._api().graph(_WITHOUT_GPU, f"start {id} without a GPU", wanted, act=True)
            except ProviderError:
                raise none from None
        except BadOrder as why:
            if not _SPOT_POD.search(why.reason):
                raise
            self._bid_again(self._api().get(path, f"look at {id}"), id)

    def prices(self) -> tuple[Offer, ...]:
        """What one GPU of each model costs in the secure cloud, free or not."""
        from launcher import catalogue
        from launcher.providers import runpod_offers as offers

        market = offers.Market(catalogue.load(), {}, self._now(), {})
        gpus = self._api().pages("/v2/catalog/gpus", "gpus", "list GPUs")
        return tuple(offer for gpu in gpus for offer in market.listed(gpu))

    def billed(self, id: str) -> Decimal | None:
        """What Runpod's own books say that it cost so far; None = nothing yet, they lag by minutes."""
        answer = self._api().get("/v2/billing/pods", f"read the bill of {id}", podId=id, bucketSize="day")
        records = answer.get("records")
        if not isinstance(records, list):
            raise VendorBug("Runpod's bill has no records")
        own = [r for r in records if isinstance(r, dict) and r.get("podId") == id]
        amounts = [forms.amount(r.get("totalAmount")) for r in own]
        return sum(amounts, Decimal(0)) if amounts else None

    # --- inside ------------------------------------------------------------------------------

    def _api(self) -> Api:
        if self._made is None:
            root = keys.root(self._environ)
            self._made = Api(root, keys.key(self._environ, self._home))
        return self._made

    def _pods(self) -> Iterator[Json]:
        return self._api().pages("/v2/pods", "pods", "list pods")

    def _labelled(self, token: str) -> Resource | None:
        return next((one for one in self.list() if one.token == token), None)

    def _stock(self, need: Need, cloud: str) -> Iterator[Json]:
        query = {
            "include": "AVAILABILITY",
            "product": "POD",
            "count": str(need.gpu_count),
            "cloud": cloud.upper(),
        }
        if need.min_cuda is not None:
            query["minCudaVersion"] = need.min_cuda
        return self._api().pages("/v2/catalog/gpus", "gpus", "list GPUs", **query)

    def _regions(self, need: Need) -> dict[str, str]:
        """Data centers by the continent they are on, asked only where the user names places."""
        if not need.regions:
            return {}
        places = self._api().pages("/v2/catalog/datacenters", "dataCenters", "list data centers")
        return {str(place.get("id")): str(place.get("region")) for place in places}

    def _spot_prices(self) -> dict[tuple[str, str], Decimal]:
        """The lowest bids, where interruptible pods exist: asked of the old API, which may know none."""
        try:
            data = self._api().graph(_SPOT, "ask for spot prices", {"input": {}})
        except Unsupported:
            return {}
        return {
            (str(gpu["id"]), cloud): forms.amount(price)
            for gpu in data.get("gpuTypes") or ()
            for cloud in forms.CLOUDS
            if (price := gpu.get(f"{cloud}SpotPrice"))
        }

    def _bid_again(self, pod: Json, id: str) -> None:
        bid = forms.bid(pod)
        if bid is None:
            raise VendorBug(f"Runpod says that {id} was rented by a bid, and it was not by us")
        variables = {"input": {"podId": id, "bidPerGpu": float(bid), "gpuCount": forms.gpu_count(pod)}}
        try:
            self._api().graph(_RESUME, f"start {id}", variables, act=True)
        except Unsupported:
            raise NoCapacity(f"{id} was rented by a bid, and Runpod no longer starts such pods") from None

    def _volume(self, id: str, without: str) -> Json:
        try:
            return self._api().get(f"/v2/network-volumes/{id}", f"look at the network volume {id}")
        except Gone:
            lost = f"this account has no network volume {id} at Runpod"
            raise NoCapacity(lost, hint=without) from None

    def _rent(self, order: Order, root: str) -> Resource:
        """By a bid. Never on demand instead."""
        variables = {"input": forms.interruptible(order, root)}
        try:
            data = self._api().graph(_RENT, CREATE, variables, act=True)
        except Unsupported:
            raise NoCapacity(_NO_SPOT) from None
        made = data.get("podRentInterruptable")
        if not isinstance(made, dict) or not made.get("id"):
            raise VendorBug("Runpod rented a pod and does not say which")
        cost = {"status": "PROVISIONING", "cost": made.get("costPerHr")}
        return forms.resource({**forms.pod(order, root), "id": made["id"], **cost})


def _balance(api: Api) -> tuple[Check, ...]:
    """Only the old API tells it; without it nothing is said."""
    try:
        told = api.graph(_BALANCE, "ask for the balance").get("myself")
        left = forms.amount((told or {}).get("clientBalance"))
    except ProviderError:
        return ()
    fix = None if left > 0 else "add funds in Runpod's console: pods need an hour's worth to start"
    return (Check("runpod balance", ok=left > 0, detail=_dollars(left), fix=fix),)


def _dollars(left: Decimal) -> str:
    return f"${round(left, 2) + 0:.2f}".replace("$-", "-$")  # nothing owed is no debt of nothing


def _marked(event: Json) -> str:
    line = str(event.get("line", ""))
    return line if event.get("source") == "container" else f"[{event.get('source')}] {line}"


def _safe(id: str) -> str:
    """An id is part of a path."""
    if not id.replace("-", "").replace("_", "").isalnum() or not id.isascii():
        raise Gone(f"no pod is called {id!r}")
    return id


def make() -> RunpodProvider:
    return RunpodProvider(os.environ, Path.home(), _lag_s(os.environ.get(LISTING_LAG, "")))


def _lag_s(written: str) -> float:
    """Whoever has measured it, or asks an API whose lists are prompt, need not wait for our bound."""
    try:
        return values.duration(written) if written else LISTING_LAG_S
    except ValueError as fault:
        raise usage("bad-setting", f"{LISTING_LAG} {fault}") from None
