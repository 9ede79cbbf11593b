"""A look at the machine of a run whose engine died: did the trainer end meanwhile, do its results wait?

The look is a process of its own with a deadline: a machine that does not answer costs a view a few seconds
and no more. What it finds is kept in the run's folder, where every view sees it; an engine drives nothing by
it. Asks the host, or of a run that is over the provider's books; changes nothing there, starts no engine.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import cast

from launcher import runstate, together
from launcher.errors import Gone, HostError, NoFile
from launcher.files import Disk
from launcher.models import Access, Fact, Resource, ResourceState, State
from launcher.providers import registry
from launcher.providers.base import Billing
from launcher.remote import open_host
from launcher.report.view import RunView
from launcher.runstate import Attempt
from launcher.store import Home, RunFolder

LOOK_S = 3.5
BOOKS_S = 3.0


def look(view: RunView, now: datetime) -> bool:
    """Whether the machine answered, where there is one to be asked."""
    if view.shown(now) is not State.INTERRUPTED or _rests(view, now) or _far_machine(view) is None:
        return True
    asked = [sys.executable, "-I", "-m", "launcher.lastlook", str(view.folder.root)]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(asked, stdin=quiet, stdout=quiet, stderr=quiet, timeout=LOOK_S)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _rests(view: RunView, now: datetime) -> bool:
    """Whether its provider says that it is gone, or that it was stopped with what may be results: the order
    to start is enough for that. The view folds the latter as a fact; nobody writes it down."""
    a = view.attempt
    if a is None or not a.open or a.instance is None or not view.state.unseen(a):
        return False
    name = view.plan.choices[a.choice].offer.provider
    if not view.offer.bills or registry.is_place(name):
        return False
    resource = together.ask({name: partial(_seen, name, a)}, LOOK_S)[name]
    if isinstance(resource, Gone):
        return True
    if not isinstance(resource, Resource) or resource.state is not ResourceState.STOPPED:
        return False
    told = {"attempt": a.n, "kept": True, "asleep": True, "storage_usd_per_hour": str(resource.usd_per_hour)}
    view.state = runstate.apply(view.state, Fact("gone", now, told))
    return True


def _seen(name: str, a: Attempt) -> Resource:
    return registry.load(name).get(a.instance or "")


def books(view: RunView, home: Home, now: datetime) -> None:
    """What the provider's own books say by now: when the run ended they lagged behind. The view folds it as
    a fact; nobody writes it down."""
    gone = [a for a in view.state.attempts if a.instance is not None and not (a.open or a.asleep)]
    asked = {a.n: a for a in gone if view.plan.choices[a.choice].offer.bills}
    answers = together.ask({str(n): partial(_billed, view, home, a) for n, a in asked.items()}, BOOKS_S)
    for n, usd in answers.items():
        if isinstance(usd, Decimal):
            a = asked[int(n)]
            told = {"attempt": a.n, "usd": str(usd), "counted_usd": str(a.cost(now))}
            view.state = runstate.apply(view.state, Fact("billed", now, told))


def _billed(view: RunView, home: Home, a: Attempt) -> Decimal | None:
    provider = registry.load(view.plan.choices[a.choice].offer.provider, home)
    if "billed" not in provider.traits.verbs:
        return None
    return cast(Billing, provider).billed(a.instance or "")


def _far_machine(view: RunView) -> Access | None:
    """Of a trainer that was started; what lies on this machine's disk is seen without asking."""
    a = view.attempt
    if a is None or a.started_at is None or not a.open or a.access is None:
        return None
    return a.access if a.access.kind != "process" else None


def main(argv: list[str]) -> int:
    view = RunView(RunFolder(Path(argv[1])))
    a, access = view.attempt, _far_machine(view)
    if a is None or access is None:
        return 0
    host = open_host(access)
    data = b""
    try:
        while chunk := host.read("sealed.json", len(data)):
            data += chunk
    except NoFile:
        return 0
    except HostError:
        return 1
    finally:
        host.close()
    Disk().write(view.folder.attempt(a.n).sealed, data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
