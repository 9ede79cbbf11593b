"""The bundled profiles and the committed schema say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher import profiles, settings
from launcher.cli.config import schema_text
from launcher.keys import KEYS
from launcher.yamlfile import read

FOLDER = Path(__file__).resolve().parents[2] / "profiles"
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
FILES = sorted(FOLDER.glob("*.yaml"))


def test_the_bundled_ones_are_there() -> None:
    assert [file.stem for file in FILES] == ["aws", "docker", "gpu", "local", "runpod"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bundled_profiles_hold(file: Path, tmp_path: Path) -> None:
    by_name = settings.resolve({"profile": file.stem}, cwd=tmp_path, environ={}, user_file=None)
    by_path = settings.resolve({"profile": str(file)}, cwd=tmp_path, environ={}, user_file=None)
    assert by_name.get("on") == by_path.get("on") != ()
    paid = by_name.get("on") not in (("local",), ("docker",))
    assert (by_name.get("max_cost") is not None) == paid, (
        "a paid profile has a ceiling, so that --yes may be said"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bundled_profiles_point_editors_at_the_schema(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_editor_accepts_the_bundled_profiles(file: Path) -> None:
    """The few words of the schema language that ours uses, read as an editor reads them."""
    described = profiles.profile_schema()["properties"]
    for name, value in read(file, file.name).data.items():
        shape = described[name]
        types = shape.get("type", "string")
        allowed = {types} if isinstance(types, str) else set(types)
        allowed |= {"integer"} if "number" in allowed else set()
        assert JSON_TYPES[type(value)] in allowed, name
        assert value in shape.get("enum", [value]), name
        if isinstance(value, str) and "pattern" in shape:
            assert re.search(shape["pattern"], value), name


def test_the_committed_schema_is_the_codes() -> None:
    assert (FOLDER / "schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_is_closed_and_whole() -> None:
    schema = profiles.profile_schema()
    assert schema["additionalProperties"] is False
    expected = {"extends"} | {name for name, key in KEYS.items() if key.in_profile}
    assert set(schema["properties"]) == expected
    assert schema["properties"]["device"]["enum"] == ["auto", "cpu", "cuda"]
    assert "name" not in schema["properties"]
