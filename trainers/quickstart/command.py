"""The command line: whatever is wrong with it is said before numpy and scikit-learn are loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from trainers.kit.arguments import USAGE, Arguments, number, refused, whole
from trainers.kit.checkpoints import Taken
from trainers.kit.device import DeviceRefused, choose
from trainers.kit.session import Leave, Log, Place

NAME = "quickstart"
NO_DEVICE = 1
UNWRITABLE = 1
NO_GPU_CODE = None  # scikit-learn grows these trees on the CPU alone


def arguments() -> Arguments:
    """What trainer.yaml lists under args, with the same defaults and bounds; a test compares them."""
    flags = Arguments(NAME, "Boosted trees on a bundled table of shots at a goal.")
    add = flags.add_argument
    add("--rounds", type=whole(1, 5000), default=120, help="trees to grow")
    add("--learning-rate", type=number(0.001, 1), default=0.1, help="share of each tree that counts")
    add("--depth", type=whole(1, 12), default=3, help="questions from a tree's root to a leaf")
    add("--batch-size", type=whole(50, 1_000_000), default=1024, help="rows drawn for each tree")
    add("--min-leaf", type=whole(1, 10_000), default=15, help="rows a leaf must hold")
    add("--checkpoint-every", type=whole(1, 5000), default=20, help="rounds between checkpoints")
    add("--data", help="another table with the same columns (default: the bundled one)")
    return flags.contract()


def run(argv: Sequence[str]) -> int:
    began = time.monotonic()
    log = Log()
    leave = Leave()
    flags = arguments().read(argv)
    try:
        place = Place.find(os.environ, output=flags.output, checkpoint=flags.checkpoint, seed=flags.seed)
        device = choose(flags.device, flags.require_gpu, os.environ, NO_GPU_CODE, log.say)
    except ValueError as wrong:
        return refused(NAME, wrong, USAGE)
    except DeviceRefused as no:
        return refused(NAME, no, NO_DEVICE)
    from trainers.quickstart import train

    settings = train.Settings(
        rounds=flags.rounds,
        learning_rate=flags.learning_rate,
        depth=flags.depth,
        batch_size=flags.batch_size,
        min_leaf=flags.min_leaf,
        checkpoint_every=flags.checkpoint_every,
        seed=place.seed,
    )
    try:
        return train.run(settings, flags.data, place, device, log, leave, began)
    except (train.Unusable, Taken) as wrong:
        return refused(NAME, wrong, USAGE)
    except OSError as wrong:
        return refused(NAME, place.unwritable(wrong), UNWRITABLE)
