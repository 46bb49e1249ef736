"""Where training over several processes (handmill/distribution) is plugged in."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from handmill.errors import warn_caller

RANKS_OF = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""What the launchers of MPI tell a process: how many there are."""


class Current:
    """The distribution of the process.

    Attributes:
        distribution: what ``distribution.set_distribution`` was given; None for one process.
        has_looked: whether :func:`warn_of_copies` was called.
    """

    distribution: Any = None
    has_looked = False


CURRENT = Current()


def launched_ranks() -> int:
    """How many processes the launcher of MPI has started; 1 without one."""
    found = [os.environ[name] for name in RANKS_OF if name in os.environ]
    return int(found[0]) if found and found[0].isdigit() else 1


def warn_of_copies() -> None:
    """Says that every rank trains a model of its own, where no distribution is set."""
    CURRENT.has_looked = True
    if launched_ranks() == 1:
        return
    warn_caller(
        f"fit() runs in each of {launched_ranks()} processes of mpiexec, and none knows of the "
        "others: these are as many separate trainings, which write the same files. For one "
        "training on all of them call distribution.set_distribution(distribution.DataParallel()) "
        "before fit().",
        UserWarning,
    )


def is_writer() -> bool:
    """Whether this process writes files: of several that train together one does."""
    return CURRENT.distribution is None or bool(CURRENT.distribution.writes)


def whole(model: Any) -> AbstractContextManager[bool]:
    """For who writes the state of a model while it trains: whether this process is to write it.

    Inside the ``with`` block rank 0 has all of the state; every rank has to come here.
    """
    found = CURRENT.distribution
    return nullcontext(True) if found is None else found.whole(model)
