"""The table of settings: what each key takes, what it refuses, and that the schema's model agrees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from launcher import values
from launcher.cli.options import valued
from launcher.keys import KEYS, Kind
from launcher.profiles import FIELDS
from launcher.yamlfile import model


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("45", 45), ("1.5h", 5400)],
)
def test_durations(written: str, seconds: int) -> None:
    assert values.duration(written) == seconds


@pytest.mark.parametrize(
    ("key", "written"),
    [("version", "v1.2_b"), ("check_ip_url", "http://127.0.0.1:80/ip"), ("on", "ssh:box.lan")],
)
def test_names_and_addresses_stay_as_written(key: str, written: str) -> None:
    assert KEYS[key].parse(written) in (written, (written,))


@given(st.integers(0, 10**7))
def test_a_written_duration_reads_back(seconds: int) -> None:
    assert values.duration(values.written_duration(seconds)) == seconds


HOSTILE: dict[str, list[object]] = {
    "max_time": ["0", "-1s", "900h", "nan", "", "5d", "1.5s", "1e3", "h", True, [1]],
    "max_cost": ["-1", "NaN", "inf", "1e9", "200000", "€3", "", True, {}],
    "max_price": ["0", "0.00", "1001"],
    "gpus": ["0", "17", "1.5", "two", False],
    "seed": ["-1", str(2**32), 1.5],
    "output": ["/abs", "../up", "a/../../b", "~/x", "", "a\0b"],
    "version": ["latest", "LATEST", ".hidden", "a/b", ""],
    "name": ["Big", "-x", "a b", "a" * 42],
    "on": ["", "ssh:", "two words", "ssh:a b", ("local", "")],
    "env": [("A",), ("=1",), ("A=1", "A=2"), ("LAUNCHER_X=1",), {"A": None}, ("A=\0",)],
    "inputs": [("a=x", "a=y"), ("x", "y"), {"a b": "x"}, ("a=",)],
    "secret": [("A=b",), ("A=env:",), ("A=file:",), ("1A",), ("A=env:x y",)],
    "image_registry": ["", "host", "https://host/me", "host/me:tag", "Host/me", "host/", "a b/c"],
    "min_cuda": ["12", "12.8.1", "cuda", "", 12],
    "disk": ["0", "4097", "1.5", "big"],
    "network_volume": ["", "a b", "../x", "é"],
    "registry_login": ["", "user:password", "a/b"],
    "template": ["", "a b", "a/b"],
    "spot": ["perhaps", "", "2", {}],
    "cloud": ["public", ""],
    "check_ip_url": ["ip.example", "ftp://x"],
}


@pytest.mark.parametrize(
    ("key", "written"), [(key, bad) for key, all_bad in HOSTILE.items() for bad in all_bad]
)
def test_values_that_cannot_be_meant(key: str, written: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        KEYS[key].parse(written)


@pytest.mark.parametrize(
    ("key", "written"), [(key, bad) for key, all_bad in HOSTILE.items() for bad in all_bad]
)
def test_the_schemas_model_refuses_what_the_table_refuses(key: str, written: object) -> None:
    with pytest.raises(ValidationError):
        model({key: KEYS[key]}, "One").model_validate({key: written})


def test_the_schemas_model_is_closed_and_reads_like_the_table() -> None:
    whole = model(FIELDS, "Profile")
    written = {"max_cost": "2", "on": "local", "env": {"A": 1}, "hold": "5m"}
    parsed = whole.model_validate(written)
    assert {name: getattr(parsed, name) for name in written} == values.closed(written, FIELDS)
    for strange in ({"max_cots": 1}, {"name": "x"}):
        with pytest.raises(ValidationError):
            whole.model_validate(strange)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (True, "only"),
        ("yes", "only"),
        ("only", "only"),
        ("auto", "auto"),
        (False, "no"),
        ("0", "no"),
        ("no", "no"),
    ],
)
def test_a_choice_whose_flag_may_stand_alone_is_true_and_false_as_well(said: object, means: str) -> None:
    assert KEYS["spot"].parse(said) == means
    assert model({"spot": KEYS["spot"]}, "One").model_validate({"spot": said}).spot == means  # type: ignore[attr-defined]  # made here


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["--spot"], ["--spot=only"]),
        (["--spot", "vaep"], ["--spot=only", "vaep"]),
        (["--spot", "auto", "vaep"], ["--spot", "auto", "vaep"]),
        (["vaep", "--spot", "--on", "x"], ["vaep", "--spot=only", "--on", "x"]),
        (["--cloud", "any"], ["--cloud", "any"]),
    ],
)
def test_a_flag_that_stands_alone_takes_no_word_that_is_not_its_own(
    typed: list[str], read: list[str]
) -> None:
    assert valued(typed) == read


def test_the_table_is_whole() -> None:
    flags = [flag for key in KEYS.values() for flag in key.flags]
    assert len(flags) == len(set(flags))
    assert {key.name for key in KEYS.values() if key.kind is Kind.CHOICE} == {"cloud", "device", "spot"}
    for key in KEYS.values():
        assert key.default is None or key.parse(key.default) == key.default
        assert key.help.endswith(".")
