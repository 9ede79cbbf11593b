"""What every adapter gets around it: questions are repeated, acts are not, and a plan changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from launcher import errors, together
from launcher.errors import ProviderError
from launcher.models import Need, Offer, Order, Resource, Traits
from launcher.providers.base import Check, Provider
from launcher.providers.wrap import PATIENCE_S, TRIES, ReadOnly, Wrapped
from tests.unit.journals.stories import offer

TOKEN = "0123456789abcdef" * 2


class Scripted:
    """A provider that answers each call by the next line of its script: an error, or whatever is right."""

    name = "scripted"
    traits = Traits(boots="machine", bills=True)

    def __init__(self, *script: ProviderError | None) -> None:
        self.script = list(script)
        self.calls: list[tuple[object, ...]] = []

    def _answer(self, *call: object) -> None:
        self.calls.append(call)
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error

    def check(self) -> tuple[Check, ...]:
        self._answer("check")
        return (Check("key", True),)

    def offers(self, need: Need) -> tuple[Offer, ...]:
        self._answer("offers", need)
        return (offer("scripted", "0.5"),)

    def create(self, order: Order) -> Resource:
        self._answer("create", order)
        return cast(Resource, "made")

    def get(self, id: str) -> Resource:
        self._answer("get", id)
        return cast(Resource, "found")

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        self._answer("list", run_id)
        return ()

    def terminate(self, id: str) -> None:
        self._answer("terminate", id)

    def console(self, id: str) -> str:
        self._answer("console", id)
        return "boot"


class Clock:
    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


class Place:
    def __init__(self, *script: ProviderError | None, read_only: bool = False) -> None:
        self.inner, self.clock = Scripted(*script), Clock()
        self.log: list[tuple[str, str]] = []
        self.provider: Provider = Wrapped(
            self.inner, self.clock, lambda verb, what: self.log.append((verb, what)), read_only=read_only
        )


class AnOrder:
    """All that the wrapper may look at."""

    token = TOKEN


ORDER = cast(Order, AnOrder())
QUESTIONS: dict[str, Callable[[Provider], object]] = {
    "offers": lambda p: p.offers(Need()),
    "get": lambda p: p.get("i"),
    "list": lambda p: p.list("r"),
    "console": lambda p: p.console("i"),
}
ACTS: dict[str, Callable[[Provider], object]] = {
    "create": lambda p: p.create(ORDER),
    "terminate": lambda p: p.terminate("i"),
}


def lost() -> ProviderError:
    return errors.Unreachable("no answer")


@pytest.mark.parametrize("verb", QUESTIONS)
def test_a_question_is_asked_again_with_longer_pauses(verb: str) -> None:
    place = Place(lost(), lost())
    assert QUESTIONS[verb](place.provider) == QUESTIONS[verb](place.inner)
    assert [call[0] for call in place.inner.calls] == [verb] * 4
    assert place.clock.waits == sorted(place.clock.waits) and len(set(place.clock.waits)) == 2
    assert place.log == [(f"scripted.{verb}", f"try {n}: Unreachable: no answer") for n in (1, 2)]


@pytest.mark.parametrize("verb", QUESTIONS)
def test_a_question_is_not_asked_for_ever(verb: str) -> None:
    place = Place(*(lost() for _ in range(TRIES + 1)))
    with pytest.raises(errors.Unreachable):
        QUESTIONS[verb](place.provider)
    assert len(place.inner.calls) == TRIES
    assert len(place.clock.waits) == TRIES - 1, "nobody waits after the last try"


@pytest.mark.parametrize("verb", QUESTIONS)
@pytest.mark.parametrize(
    "error",
    [
        errors.AuthRefused("key"),
        errors.NoCapacity("none"),
        errors.QuotaReached("full"),
        errors.BadOrder("no"),
        errors.Busy("later"),
        errors.Gone("who?"),
        errors.VendorBug("?"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_is_an_answer(verb: str, error: ProviderError) -> None:
    place = Place(error)
    with pytest.raises(type(error)):
        QUESTIONS[verb](place.provider)
    assert len(place.inner.calls) == 1
    assert place.clock.waits == []


@pytest.mark.parametrize("verb", ACTS)
@pytest.mark.parametrize("error", [lost(), errors.TooFast("slow down", 1), errors.NoCapacity("none")])
def test_an_act_is_never_repeated_here(verb: str, error: ProviderError) -> None:
    place = Place(error)
    with pytest.raises(type(error)):
        ACTS[verb](place.provider)
    assert len(place.inner.calls) == 1
    assert place.clock.waits == []


def test_who_asks_too_fast_waits_as_long_as_he_is_told() -> None:
    place = Place(errors.TooFast("slow down", 3.5), errors.TooFast("slow down", PATIENCE_S))
    assert place.provider.list() == ()
    assert place.clock.waits == [3.5, PATIENCE_S]


def test_a_longer_pause_is_the_engines() -> None:
    place = Place(errors.TooFast("in an hour", 3600))
    with pytest.raises(errors.TooFast) as refused:
        place.provider.list()
    assert refused.value.wait_s == 3600
    assert place.clock.waits == []


def test_acts_are_logged_with_their_outcome_and_without_the_whole_token() -> None:
    place = Place(None, None, errors.Busy("a volume must go first"))
    assert place.provider.create(ORDER) == cast(Resource, "made")
    place.provider.terminate("i-1")
    with pytest.raises(errors.Busy):
        place.provider.terminate("i-2")
    assert place.log == [
        ("scripted.create", "01234567 -> ok"),
        ("scripted.terminate", "i-1 -> ok"),
        ("scripted.terminate", "i-2 -> Busy: a volume must go first"),
    ]
    assert TOKEN not in str(place.log)


@pytest.mark.parametrize("verb", ACTS)
def test_a_plan_changes_nothing(verb: str) -> None:
    place = Place(read_only=True)
    with pytest.raises(ReadOnly, match=f"{verb} was called on scripted while planning"):
        ACTS[verb](place.provider)
    assert place.inner.calls == []
    for question in QUESTIONS.values():
        question(place.provider)
    assert len(place.inner.calls) == len(QUESTIONS)


def test_it_says_who_is_inside() -> None:
    place = Place()
    assert (place.provider.name, place.provider.traits) == ("scripted", Scripted.traits)
    assert place.provider.check() == (Check("key", True),)


@pytest.mark.parametrize("verb", [*QUESTIONS, *ACTS])
def test_an_answer_that_is_stumbled_over_is_told_as_the_providers_own_fault(verb: str) -> None:
    place = Place()

    def stumbles(*call: object) -> None:
        raise KeyError("status")

    place.inner._answer = stumbles  # type: ignore[method-assign]  # as an adapter does over an odd answer
    with pytest.raises(errors.VendorBug, match=r"scripted could not be understood \(KeyError: 'status'\)"):
        {**QUESTIONS, **ACTS}[verb](place.provider)
    assert any("stumbles" in what for _, what in place.log), "where it was is in the log"


def test_side_by_side_it_keeps_nobody_else_from_answering(capsys: pytest.CaptureFixture[str]) -> None:
    def stumbles() -> object:
        raise TypeError("no number")

    found = together.ask({"odd": stumbles, "well": lambda: 7}, 5)
    assert isinstance(found["odd"], errors.VendorBug) and found["well"] == 7
    assert "Traceback" not in capsys.readouterr().err
