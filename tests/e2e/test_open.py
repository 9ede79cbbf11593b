"""`open RUN PORT`: what listens on the run's machine, at a port here, as the installed command does it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.e2e.person import Person
from tests.e2e.sidework import Serving, opened, serving
from tests.ports import named_port


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.need("docker"))])
def run(request: pytest.FixtureRequest) -> Serving:
    person = request.getfixturevalue("person" if request.param == "local" else "docker_person")
    return serving(person, "fox")


def test_a_port_is_led_here_until_the_person_leaves(run: Serving) -> None:
    with opened(run.person, "fox", str(run.port)) as door:
        assert door.said == {
            "run": "fox",
            "what": str(run.port),
            "url": f"http://127.0.0.1:{door.said['port']}/",
            "port": door.said["port"],
            "there": run.port,
        }
        with ThreadPoolExecutor(8) as people:
            assert set(people.map(lambda _: door.page(), range(16))) == {"page of fox"}
        assert door.is_left()[0] == 130
    with pytest.raises(URLError):
        urlopen(door.url, timeout=5)
    assert run.person.state("fox") == "running"


def test_it_ends_with_the_run(run: Serving) -> None:
    with opened(run.person, "fox", str(run.port)) as door:
        assert door.page() == "page of fox"
        run.is_let_go()
        code, err = door.ends()
    assert code == 0
    assert "fox has ended" in err
    run.has_ended()
    run.person.alone()
    refused = run.person.types("open", "fox", str(run.port))
    assert refused.code == 2 and "machine-gone" in refused.stderr


def test_a_port_of_ones_own_choice_and_one_that_is_taken(person: Person) -> None:
    run = serving(person, "fox")
    mine = str(named_port())
    with opened(person, "fox", str(run.port), "--port", mine) as door:
        assert door.url == f"http://127.0.0.1:{mine}/"
        assert door.page() == "page of fox"
        second = person.types("open", "fox", str(run.port), "--port", mine)
        assert second.code == 2 and "port-taken" in second.stderr
        assert door.is_left()[0] == 130


def test_where_nothing_listens_it_says_so_and_stays(person: Person) -> None:
    serving(person, "fox")
    with opened(person, "1") as door:  # the newest run is meant
        assert door.process.stderr is not None
        told = door.process.stderr.readline()  # before anybody looks
        assert told.startswith("warning: nothing listens on port 1 of the host")
        with pytest.raises(OSError, match=r"Remote end closed|reset"):
            door.page()
        assert door.is_left()[0] == 130


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("fox", "notebook"), "open-what"),
        (("fox", "0"), "open-what"),
        (("fox", "70000"), "open-what"),
        ((), "open-what"),
        (("a", "b", "c"), "open-what"),
        (("owl", "8888"), "unknown-run"),
    ],
)
def test_words_that_mean_nothing_are_refused_at_once(
    regular: Person, words: tuple[str, ...], code: str
) -> None:
    done = regular.types("open", *words)
    assert done.code == 2 and f"error: {code}\n" in done.stderr


def test_a_version_has_curves_and_no_ports(person: Person) -> None:
    run = serving(person, "fox")
    run.is_let_go()
    run.has_ended()
    (version,) = (row["version"] for row in person.types("models", "--json").json())
    done = person.types("open", version, "8888")
    assert done.code == 2 and "error: not-on-a-version\n" in done.stderr
    done = person.types("open", "fox", "jupyter")
    assert done.code == 2 and "error: machine-gone\n" in done.stderr and version in done.stderr
    words = ((version, "8888"), ("fox", "jupyter"))
    told = [person.types("open", *two).stderr for two in words]
    assert all(f"open {version} tensorboard" in page for page in told), told
    [events] = (person.project / "models" / version).rglob("*tfevents*")
    events.unlink()
    told = [person.types("open", *two).stderr for two in words]
    assert all(f"models report {version}" in page and "tensorboard" not in page for page in told), told
    assert "error: unknown-version\n" in person.types("open", "owl", "8888").stderr


def test_a_version_without_events_is_told(person: Person) -> None:
    done = person.own("sh", "-c", 'echo x > "$LAUNCHER_OUTPUT/model"')
    assert done.code == 0, done.stderr
    told = person.types("open", "latest", "tensorboard")
    assert told.code == 2 and "error: no-events\n" in told.stderr
    assert "models report" in told.stderr


def test_names_of_runs_and_of_what_can_be_opened_are_completed(person: Person) -> None:
    serving(person, "fox")
    for words, at, expected in (
        ("launcher open f", 2, {"fox"}),
        ("launcher open t", 2, {"tensorboard"}),
        ("launcher open fox ", 3, {"jupyter", "tensorboard"}),
        ("launcher ssh f", 2, {"fox"}),
        ("launcher ssh-config f", 2, {"fox"}),
    ):
        done = person.types(_LAUNCHER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(at))
        assert {line.partition(",")[2] for line in done.stdout.split()} == expected, (words, done)
