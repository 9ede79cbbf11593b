"""Why a machine never came to be of use, as its console tells it."""

from __future__ import annotations

import pytest

from launcher.steps import causes

PULL = "[system] error pulling image: any/image:1: manifest unknown"
DRIVER = (
    "[system] error starting container: OCI runtime create failed: nvidia-container-cli: requirement error: "
    "unsatisfied condition: cuda>=12.8, please update your driver"
)
QUIET = "[system] image not found here, pulling\n[system] pulling image: 40 %\n[system] Pull complete"


@pytest.mark.parametrize(
    ("console", "words", "certain", "everywhere"),
    [
        ("launcher missing sshd\nlauncher missing ssh-keygen\n", "no sshd, ssh-keygen", True, True),
        (f"[system] create container\n{PULL}\n", "error pulling image: any/image:1", True, True),
        ("[system] pull access denied for any/image", "or not without a login", True, True),
        (
            '[system] error pulling image: Head "https://r.example/v2/x": no basic auth credentials',
            "or not without a login (--registry-login): error pulling",
            True,
            True,
        ),
        ('[system] error pulling image: Head "https://r.example/v2/x": denied', "a login", True, True),
        ("[system] failed to pull: authorization failed: 403 Forbidden", "a login", True, True),
        ("[system] Error: manifest for any/image:2 not found: manifest unknown", "be pulled", True, True),
        ("[system] failed to pull image x: repository does not exist", "cannot be pulled", True, True),
        ("[system] error pulling image: x509: signed by unknown authority", "be pulled", False, False),
        ("[system] error pulling image: net/http: TLS handshake timeout", "cannot be pulled", False, False),
        (f"{DRIVER}\n[system] start container\n", "its driver is too old", True, False),
        ("launcher failed: OSError(28, 'no room')", "its guard failed: OSError", True, False),
        ("[system] error starting container: no such device", "does not start", False, False),
        ("[system] write /var/lib: no space left on device", "its disk is full", False, False),
    ],
)
def test_what_is_known(console: str, words: str, certain: bool, everywhere: bool) -> None:
    found = causes.of(console)
    assert found is not None and words in found.words, found
    assert (found.certain, found.everywhere) == (certain, everywhere)


def test_what_is_certain_is_told_before_what_came_later() -> None:
    found = causes.of(f"{DRIVER}\n[system] error starting container: again\n")
    assert found is not None and found.certain


@pytest.mark.parametrize(
    "console", ["", "launcher boot 0000\n", "[system] create container\n[system] start", QUIET]
)
def test_what_is_no_cause(console: str) -> None:
    assert causes.of(console) is None
