"""The loop: facts -> state -> next step -> do it -> facts. First run, resume and stop are all this loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from launcher import runstate
from launcher.errors import LauncherError, Stopped
from launcher.files import refusal
from launcher.runstate import USERS, RunState, Step
from launcher.steps import books, connect, provision, pull, push, release, start, watch
from launcher.world import World

STEPS: dict[Step, Callable[[World], None]] = {
    Step.PROVISION: provision.provision,
    Step.CONNECT: connect.connect,
    Step.PUSH: push.push,
    Step.START: start.start,
    Step.WATCH: watch.watch,
    Step.PULL: pull.pull,
    Step.RELEASE: release.release,
}

MOST_TROUBLE = 3  # faults of our own, one after the other, while nothing is rented

log = logging.getLogger("launcher.engine")


def drive(world: World, engine: dict[str, object]) -> RunState:
    """Until nothing is left to do. Holds the run's lock by contract of the caller."""
    world.record("engine", **engine)
    trouble = 0
    while True:
        try:
            world.step = _decide(world)
            if world.step is None:
                return _leave(world)
            STEPS[world.step](world)
            trouble = 0
        except Stopped as e:
            log.info("stopped in %s: %s", world.step, e.why)
        except Exception as e:  # our own bug must not leave a machine running: end it, keep what is there
            log.exception("step %s failed", world.step)
            trouble += 1
            if trouble >= MOST_TROUBLE and not _may_bill(world.state) and not isinstance(e, OSError):
                raise  # nothing is rented, and once more would be the same
            _own_fault(world, e, trouble)


def _may_bill(state: RunState) -> bool:
    return any(a.open or a.kept for a in state.attempts)


def _decide(world: World) -> Step | None:
    world.tick_quietly()  # a stop is a fact now, and the fold below sees it
    return runstate.next_step(world.state)


def _leave(world: World) -> RunState:
    if world.state.ended is None and world.state.halted is None and not world.state.wants_pull:
        _give_up(world)
        books.reconcile(world)
        world.record("ended", state=runstate.outcome(world.state).value)
    world.drop_hosts()
    return world.state


def _give_up(world: World) -> None:
    """What had come home early goes with a run that somebody gave up. Of a machine that was lost it stays."""
    state = world.state
    if state.version is None and (state.discarded or state.stop_now):
        with suppress(OSError):
            world.files.remove(world.versions.partial(world.plan.run))


def _own_fault(world: World, error: Exception, trouble: int) -> None:
    why = error.message if isinstance(error, LauncherError) else f"internal: {type(error).__name__}: {error}"
    a = world.state.attempt
    disk = isinstance(error, OSError)
    with suppress(OSError):  # a full disk cannot even be told of in the journal
        if world.step is Step.PULL and (disk or trouble > 1):
            world.record("pull-failed", message=refusal(error) if isinstance(error, OSError) else why)
            return
        if world.step is not Step.RELEASE and not disk and a is not None and a.open and a.over is None:
            ours = {"exit": int(error.exit), "code": USERS} if isinstance(error, LauncherError) else {}
            world.about(a, "over", why=why, blame=True, **ours)
            return
    # Ending a machine is never given up, and a full disk may be emptied: try again, slower and slower.
    seconds = min(60.0, 0.5 * 2 ** min(trouble, 8))
    try:
        with suppress(Stopped):  # whoever wants it ended need not wait for that
            world.wait(seconds)
    except OSError:  # nor can what was asked meanwhile be written down
        world.clock.wait(seconds)
