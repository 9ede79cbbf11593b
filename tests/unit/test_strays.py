"""What counts as left behind, and whose it is to end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from launcher import strays
from launcher.errors import AuthRefused, Unreachable
from launcher.models import Need, Offer, Order, Resource, ResourceState, Traits
from launcher.providers.base import Check

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OURS = "owner-a"


def thing(
    id: str, owner: str = OURS, *, ends_in_s: int | None = 3600, kind: str = "instance", ended: bool = False
) -> Resource:
    return Resource(
        id=id, kind=kind, run="r", token=f"t-{id}", owner=owner,
        state=ResourceState.ENDED if ended else ResourceState.RUNNING, usd_per_hour=Decimal("0.5"),
        created_at=NOW, ends_at=None if ends_in_s is None else NOW + timedelta(seconds=ends_in_s),
    )  # fmt: skip


class Shop:
    """A provider of which only the listing and the ending matter."""

    traits = Traits(boots="image", bills=True, overrun_s=60)

    def __init__(self, name: str, *things: Resource, silent: bool = False, stubborn: bool = False) -> None:
        self.name, self._things = name, things
        self._silent, self._stubborn = silent, stubborn
        self.ended: list[str] = []
        self.lasting: set[str] = set()  # what a call to end it does not end

    def check(self) -> tuple[Check, ...]:
        return ()

    def offers(self, need: Need) -> tuple[Offer, ...]:
        return ()

    def create(self, order: Order) -> Resource:
        raise AssertionError("nothing is rented by looking")

    def get(self, id: str) -> Resource:
        return next(t for t in self._things if t.id == id)

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        if self._silent:
            raise Unreachable("no answer")
        return tuple(t for t in self._things if t.id not in self.ended or t.id in self.lasting)

    def terminate(self, id: str) -> None:
        if self._stubborn:
            raise AuthRefused("not allowed")
        self.ended.append(id)

    def console(self, id: str) -> str:
        return ""


def found(*things: Resource, known: frozenset[str] = frozenset()) -> dict[str, strays.Stray]:
    return {s.resource.id: s for s in strays.sweep([Shop("shop", *things)], OURS, lambda: known, NOW).strays}


def test_what_a_run_counts_on_is_no_stray() -> None:
    assert found(thing("a"), known=frozenset({"t-a"})) == {}


def test_what_a_run_counts_on_is_told_apart() -> None:
    shop = Shop("shop", thing("known"), thing("volume", kind="volume"), thing("lost"))
    found = strays.sweep([shop], OURS, lambda: frozenset({"t-known", "t-volume"}), NOW)
    assert [(where, r.id) for where, r in found.needed] == [("shop", "known"), ("shop", "volume")]
    assert [s.resource.id for s in found.strays] == ["lost"]


def test_what_is_ours_and_no_run_knows_is_one() -> None:
    stray = found(thing("a"))["a"]
    assert stray.ours and "no run of this data folder" in stray.why


def test_what_is_others_is_one_only_past_its_end_of_life() -> None:
    others = [thing("alive", "b"), thing("overrun", "b", ends_in_s=-30), thing("late", "b", ends_in_s=-61)]
    endless = thing("endless", "b", ends_in_s=None)
    hits = found(*others, endless, thing("over", "b", ends_in_s=-999, ended=True))
    assert set(hits) == {"late"} and not hits["late"].ours


def test_a_token_of_ours_in_another_owners_hands_is_not_known() -> None:
    assert set(found(thing("x", "b", ends_in_s=-999), known=frozenset({"t-x"}))) == {"x"}


def test_who_does_not_answer_is_named_and_hides_nobody() -> None:
    sweep = strays.sweep([Shop("dumb", silent=True), Shop("shop", thing("a"))], OURS, frozenset, NOW)
    assert sweep.silent == (("dumb", "no answer"),) and [s.resource.id for s in sweep.strays] == ["a"]


class Locked(Shop):
    """There is no key for it."""

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        raise AuthRefused("there is no key", missing=True)


def test_who_has_no_key_is_named_only_where_something_was_rented() -> None:
    shop = Locked("locked")
    told = (("locked", "there is no key"),)
    for rented, silent in ((None, told), (frozenset({"locked"}), told), (frozenset({"other"}), ())):
        assert strays.sweep([shop], OURS, frozenset, NOW, rented).silent == silent


def test_only_ours_are_ended_instances_first() -> None:
    shop = Shop("shop", thing("disk", kind="volume"), thing("machine"), thing("foreign", "b", ends_in_s=-999))
    sweep = strays.sweep([shop], OURS, frozenset, NOW)
    assert strays.end([shop], sweep.strays, all_owners=False) == (["machine", "disk"], [])
    assert shop.ended == ["machine", "disk"]


def test_all_owners_takes_others_too() -> None:
    shop = Shop("shop", thing("foreign", "b", ends_in_s=-999))
    sweep = strays.sweep([shop], OURS, frozenset, NOW)
    assert strays.end([shop], sweep.strays, all_owners=True) == (["foreign"], [])


def test_what_cannot_be_ended_is_said_by_id_and_reason() -> None:
    shop = Shop("shop", thing("a"), thing("b"), stubborn=True)
    sweep = strays.sweep([shop], OURS, frozenset, NOW)
    ended, failed = strays.end([shop], sweep.strays, all_owners=False)
    assert ended == [] and failed == ["a: not allowed", "b: not allowed"]


def test_what_a_run_has_just_rented_is_no_stray() -> None:
    """It was not there when the lists were asked for, and its run has written it down before."""
    journal: set[str] = set()

    class Busy(Shop):
        def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
            journal.add("t-fresh")
            return (thing("fresh"),)

    assert strays.sweep([Busy("shop")], OURS, lambda: frozenset(journal), NOW).strays == ()


def test_what_bills_and_is_listed_on_has_not_ended() -> None:
    shop = Shop("shop", thing("a"), thing("b"))
    shop.lasting = {"b"}
    found = strays.sweep([shop], OURS, frozenset, NOW).strays
    ended, failed = strays.end([shop], found, all_owners=False, patience_s=0)
    assert (ended, failed) == (["a"], ["b: its end was asked for and is not confirmed"])
