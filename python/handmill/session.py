"""The state of the process that names and random numbers have."""

from __future__ import annotations

import numpy as np


def set_random_seed(seed: int) -> None:
    """Starts all random numbers of handmill from ``seed``: weights, masks, orders of data.

    NumPy's and Python's own generators are not touched, unless
    ``config.set_strict_keras(True)`` was called.

    Args:
        seed: an integer.

    Raises:
        ValueError: if ``seed`` is not an integer.
    """
    from handmill import config
    from handmill.random import seed_all

    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(
            "Expected `seed` argument to be an integer. "
            f"Received: seed={seed} (of type {type(seed)})"
        )
    seed_all(int(seed))
    if config.strict_keras():
        import random

        random.seed(int(seed))
        np.random.seed(int(seed))  # noqa: NPY002  (Keras seeds the global generator)


def clear_session(free_memory: bool = True) -> None:
    """Starts the numbering of names again, and forgets programs that no model uses.

    The next Dense layer is called ``dense``.

    Args:
        free_memory: accepted for Keras; objects without users are freed by Python.
    """
    from handmill.naming import reset_names
    from handmill.runtime.plans import TRACES

    reset_names()
    TRACES.clear()
