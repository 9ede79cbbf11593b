"""What `--json` says: exact keys, types and units of each document; states and exit statuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.e2e.person import Person, until

PY = sys.executable
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
RUN = {"run", "version", "state", "exit_code", "target", "instance", "device", "usd", "seconds", "artifacts"}
OFFER = {
    "target", "provider", "region", "instance_type", "gpu", "gpu_count", "vram_gb", "spot", "usd_per_hour",
    "price_source", "price_as_of", "hours", "usd",
}  # fmt: skip
ROW = {"run", "state", "target", "instance", "usd", "usd_per_hour", "started", "deadline"}
GPU = {"util", "mem_used_gb", "mem_gb", "power_w", "temp_c"}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def strict(outcome: Outcome) -> Any:
    """One document, and one that every reader of JSON understands."""

    def foreign(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(outcome.stdout, parse_constant=foreign)


@pytest.fixture(scope="module")
def done(regular: Person) -> Outcome:
    regular.trainer()
    outcome = regular.types("run", "mini", "--on", "local", "--json", "--name", "first")
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_run_json(done: Outcome, regular: Person) -> None:
    said = strict(done)
    assert set(said) == RUN
    assert (said["run"], said["state"], said["exit_code"], said["target"]) == ("first", "done", 0, "local")
    assert isinstance(said["instance"], str) and is_number(said["usd"]) and 0 < said["seconds"] < 60
    assert said["device"]["used"] == "cpu"
    assert Path(said["artifacts"]) == regular.project / "models" / said["version"]


def test_ps_json(done: Outcome, regular: Person) -> None:
    rows = strict(regular.types("ps", "--json"))
    assert rows and all(set(row) == ROW for row in rows)
    row = next(row for row in rows if row["run"] == "first")
    assert (row["state"], row["usd"], row["usd_per_hour"], row["deadline"]) == ("done", 0, 0, None)
    assert TIME.fullmatch(row["started"])


def test_status_json(done: Outcome, regular: Person) -> None:
    said = strict(regular.types("status", "first", "--json"))
    assert set(said) >= ROW | {"telemetry", "guard"}
    assert set(said["guard"]) == {"armed", "deadline", "layers"}
    assert said["guard"]["armed"] is False  # nothing is left to guard
    assert said["telemetry"] is None or set(said["telemetry"]) >= {"gpu", "cpu", "ram_gb", "step", "metrics"}


def test_models_json(done: Outcome, regular: Person) -> None:
    rows = strict(regular.types("models", "--json"))
    assert all(set(row) == {"version", "run", "created", "verified", "metrics", "latest"} for row in rows)
    row = next(row for row in rows if row["run"] == "first")
    assert row["latest"] is True and row["verified"] is True and row["metrics"] == {"auc": 0.5}
    assert TIME.fullmatch(row["created"])


def test_plan_json(regular: Person) -> None:
    regular.trainer()
    words = ("plan", "mini", "--on", "runpod", "--gpu", "RTX 4090", "--max-cost", "3", "--json")
    said = strict(regular.types(*words))
    assert set(said) >= {"offers", "chosen", "refused", "limits"}
    assert all(set(offer) >= OFFER for offer in said["offers"])
    assert all(set(refusal) == {"offer", "reason"} for refusal in said["refused"])
    assert set(said["limits"]) == {"max_cost", "max_time_s", "ends_by"}
    assert said["limits"]["max_cost"] == 3 and isinstance(said["limits"]["max_time_s"], int)
    rented = next(offer for offer in said["offers"] if offer["target"] == "runpod")
    assert is_number(rented["usd_per_hour"]) and rented["gpu"] == "RTX 4090" and rented["vram_gb"] == 24
    assert all(set(rented[key]) == {"low", "likely", "high"} for key in ("hours", "usd"))
    assert 0 < rented["hours"]["low"] <= rented["hours"]["likely"] <= rented["hours"]["high"]


def test_plan_json_shows_all_targets_side_by_side_the_cheapest_first(regular: Person) -> None:
    regular.trainer()
    said = strict(regular.types("plan", "mini", "--json"))
    assert said["chosen"]["usd"]["likely"] == 0 and TIME.fullmatch(said["limits"]["ends_by"])
    assert {"local", "runpod", "aws"} <= {offer["target"] for offer in said["offers"]}
    likely = [offer["usd"]["likely"] or 0 for offer in said["offers"][1:]]
    assert likely == sorted(likely)
    assert all(o["price_source"] for o in said["offers"])
    assert all(o["price_as_of"] for o in said["offers"] if o["usd_per_hour"])


def test_doctor_json(regular: Person) -> None:
    said = strict(regular.types("doctor", "--json"))
    assert set(said) == {"checks", "orphans"} and said["orphans"] == []
    assert said["checks"] and all(set(check) >= {"name", "ok", "fix"} for check in said["checks"])
    assert all(check["fix"] for check in said["checks"] if not check["ok"])


def test_models_show_diff_and_verify_json(done: Outcome, regular: Person) -> None:
    second = regular.types("run", "mini", "--on", "local", "--json", "--", "--epochs", "9", AUC="0.75")
    a, b = strict(done)["version"], strict(second)["version"]
    shown = strict(regular.types("models", "show", b, "--json"))
    assert shown["version"] == b and shown["latest"] is True and shown["settings"]["args.epochs"] == "9"
    changes = {
        c["what"]: (c["before"], c["after"]) for c in strict(regular.types("models", "diff", a, b, "--json"))
    }
    assert changes["settings.args.epochs"] == ("3", "9") and changes["metrics.auc"] == (0.5, 0.75)
    checked = strict(regular.types("models", "verify", a, "--json"))
    assert checked["ok"] is True and checked["faults"] == []


def test_models_show_tells_a_version_in_a_person_s_words(person: Person) -> None:
    person.own("sh", "-c", "echo made > $LAUNCHER_OUTPUT/made")
    said = person.types("models", "show").stdout
    assert "  command   sh -c 'echo made > $LAUNCHER_OUTPUT/made'\n" in said and "None" not in said, said
    assert "  cost      $0.00\n" in said and re.search(r"^  took      \d+\.\d s$", said, re.MULTILINE), said


def test_models_of_an_empty_project_says_so(person: Person) -> None:
    assert "no versions" in person.types("models").stdout and person.types("models", "--json").json() == []


def test_metrics_that_are_no_numbers_are_null(regular: Person) -> None:
    regular.trainer()
    done = regular.types("run", "mini", "--on", "local", "--json", AUC="nan")
    assert strict(done)["state"] == "done"
    strict(regular.types("models", "--json"))
    shown = strict(regular.types("models", "show", strict(done)["version"], "--json"))
    assert shown["metrics"] == {"auc": None}
    assert regular.types("models").code == 0


def test_exit_code_is_the_trainers_own(regular: Person) -> None:
    done = regular.own("sh", "-c", "exit 37")
    assert done.code == 7 and strict(done)["exit_code"] == 37 and strict(done)["state"] == "failed"


def test_what_is_not_known_is_null(regular: Person) -> None:
    said = strict(regular.own("false"))
    assert said["device"] is None and said["version"] is None and said["artifacts"] is None


def test_a_living_run_in_every_document(person: Person) -> None:
    go, begun = person.worker("alive")
    assert set(strict(begun)) == RUN and strict(begun)["state"] == "running"
    row = person.ps()["alive"]
    assert row["state"] == "running" and row["usd_per_hour"] == 0 and TIME.fullmatch(row["deadline"])
    said = strict(person.types("status", "alive", "--json"))
    assert said["guard"]["armed"] is True and said["guard"]["layers"] == ["agent"]
    assert TIME.fullmatch(said["guard"]["deadline"])
    said = until(
        lambda: (s := strict(person.types("status", "alive", "--json")))["telemetry"] and s, "a sample"
    )
    telemetry = said["telemetry"]
    assert set(telemetry) >= {"gpu", "cpu", "ram_gb", "step", "metrics"}
    assert is_number(telemetry["ram_gb"]) and all(set(gpu) >= GPU for gpu in telemetry["gpu"])
    go.write_text("")
    assert strict(person.types("watch", "alive", "--json"))["state"] == "done"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("run", "no-such-trainer"), 2),
        (("run", "mini", "--on", "nowhere"), 2),
        (("run", "mini", "--on", "local", "--gpu", "any-24gb"), 4),
        (("run", "mini", "--on", "runpod", "--gpu", "RTX 4090", "--yes", "--max-cost", "0.01"), 8),
        (("run", "--project", ".", "--on", "local", "--", "false"), 7),
        (("run", "--project", ".", "--on", "local", "--max-time", "1s", "--", "sleep", "30"), 8),
        (("run", "mini", "--on", "local"), 0),
    ],
)  # fmt: skip
def test_exit_statuses(regular: Person, words: tuple[str, ...], status: int) -> None:
    regular.trainer()
    assert regular.types(*words, PATH="/usr/bin:/bin").code == status
