"""What every provider promises, asked of each in turn. The table is in conftest.py."""

from __future__ import annotations

import inspect
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from launcher.errors import Busy, Gone, ProviderError
from launcher.models import Need, ResourceState
from launcher.providers import registry
from launcher.providers.base import Provider
from tests.contract.conftest import OWNER, PROVIDERS, Place, eventually


class TestEveryProvider:
    def test_has_the_verbs_with_their_arguments(self, place: Place) -> None:
        for verb in ("check", "offers", "create", "get", "list", "terminate", "console"):
            promised = inspect.signature(getattr(Provider, verb)).parameters
            had = inspect.signature(getattr(place.provider, verb)).parameters
            assert list(had) == [name for name in promised if name != "self"]

    def test_says_what_works_and_how_to_mend_the_rest(self, place: Place) -> None:
        checks = place.provider.check()
        assert checks
        assert all(check.ok or check.fix for check in checks)

    def test_offers_under_its_own_name_with_a_source_of_the_price(self, place: Place) -> None:
        for offer in place.provider.offers(Need()):
            assert offer.provider == place.provider.name
            assert offer.price_source
            assert offer.bills == place.provider.traits.bills
            assert (offer.usd_per_hour > 0) == offer.bills

    def test_a_new_instance_is_ours_by_every_mark(self, place: Place) -> None:
        order = place.order()
        made = place.provider.create(order)
        assert made.kind == "instance"
        assert (made.run, made.token, made.owner) == (order.run, order.token, OWNER)
        assert made.target == order.offer.target
        assert made.ends_at is not None
        assert abs(made.ends_at - order.ends_at) <= timedelta(seconds=1)
        assert isinstance(made.usd_per_hour, Decimal)
        assert made.state in (ResourceState.BOOTING, ResourceState.RUNNING)

    def test_get_and_list_tell_the_same_as_create(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        again = place.provider.get(made.id)
        assert place.instances(order.run) == [again]
        assert (again.id, again.token, again.ends_at) == (made.id, made.token, made.ends_at)
        assert again.state is ResourceState.RUNNING

    def test_a_running_instance_tells_how_it_is_reached_and_which_boot_it_is(self, place: Place) -> None:
        made = place.running(place.order())
        assert made.boot is not None or not place.row.real
        assert made.access is not None or not place.row.real

    def test_nothing_is_remembered_by_the_adapter(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        assert [r.id for r in place.row.connect().list(order.run) if r.kind == "instance"] == [made.id]

    def test_lists_one_run_or_all(self, place: Place) -> None:
        one, other = place.order(), place.order()
        place.running(one)
        place.running(other)
        assert {r.run for r in place.provider.list(one.run)} == {one.run}
        assert {one.run, other.run} <= {r.run for r in place.provider.list()}
        assert place.provider.list(f"{one.run}-no") == ()

    def test_the_same_token_gives_no_second_instance(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        try:
            again = place.provider.create(order)
        except ProviderError:
            assert not place.provider.traits.token_idempotent
        else:
            assert again.id == made.id
        assert [r.id for r in place.instances(order.run)] == [made.id]

    def test_the_token_of_an_ended_instance_begins_no_second_one(self, place: Place) -> None:
        if not (place.provider.traits.token_idempotent and place.provider.traits.keeps_output):
            return  # what leaves no trace is looked for by the caller, before it asks
        order = place.order()
        made = place.running(order)
        place.provider.terminate(made.id)
        eventually(lambda: place.has_ended(made.id))
        assert place.provider.create(order).state is ResourceState.ENDED
        assert place.instances(order.run) == []

    def test_two_tokens_of_one_run_are_two_instances(self, place: Place) -> None:
        order = place.order()
        first, second = place.running(order), place.running(place.order(order.run))
        assert first.id != second.id
        place.provider.terminate(first.id)
        eventually(lambda: [r.id for r in place.instances(order.run)] == [second.id])

    def test_terminate_twice_is_silent(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        place.provider.terminate(made.id)
        place.provider.terminate(made.id)
        eventually(lambda: place.has_ended(made.id) and not place.instances(order.run))
        place.provider.terminate(made.id)

    def test_what_it_never_knew_is_gone(self, place: Place) -> None:
        with pytest.raises(Gone):
            place.provider.get("launcher-never-was")

    def test_an_instance_that_ended_by_itself_is_not_listed(self, place: Place) -> None:
        order = place.order(ends_in_s=1)
        made = place.provider.create(order)
        eventually(lambda: place.has_ended(made.id) and not place.instances(order.run))

    def test_the_console_holds_the_boot(self, place: Place) -> None:
        made = place.running(place.order())
        assert made.token in place.provider.console(made.id) or not place.row.real

    def test_side_objects_carry_the_same_marks_and_are_never_ended(self, place: Place) -> None:
        order = place.order()
        place.running(order)
        for other in place.others(order.run):
            assert (other.run, other.token, other.owner) == (order.run, order.token, OWNER)
            assert other.state is not ResourceState.ENDED

    def test_a_side_object_in_use_is_busy_and_outlives_its_instance(self, place: Place) -> None:
        order = place.order()
        made = place.running(order)
        others = place.others(order.run)
        for other in others:
            with pytest.raises(Busy):
                place.provider.terminate(other.id)
        place.provider.terminate(made.id)
        eventually(lambda: place.has_ended(made.id))
        assert {r.id for r in place.others(order.run)} == {r.id for r in others}
        place.clear(order.run)
        for other in others:
            place.provider.terminate(other.id)


def test_every_provider_of_the_registry_is_in_the_table(tmp_path: Path) -> None:
    assert {*registry.MODULES, *registry.PLACED} <= set(PROVIDERS)
