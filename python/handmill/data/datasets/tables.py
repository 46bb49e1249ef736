"""Tables of houses: rows in an order by seed, cut in two."""

from __future__ import annotations

import os

import numpy as np

from handmill.data.datasets.location import RemoteFile, located
from handmill.data.pickles import load_npz
from handmill.ir.op import Array

Split = tuple[tuple[Array, Array], tuple[Array, Array]]


def load_table(
    file: RemoteFile,
    path: str | os.PathLike[str],
    test_split: float,
    seed: int,
    rows: int | None = None,
) -> Split:
    """Returns the training and test rows of a file with arrays ``x`` and ``y``.

    Args:
        file: the file.
        path: where the user has it.
        test_split: the fraction of rows for testing.
        seed: of NumPy's ``RandomState``, which shuffles the rows first.
        rows: only so many of them.

    Raises:
        ValueError: for a fraction out of range, or another file.
    """
    if not 0 <= test_split < 1:
        raise ValueError(
            f"Invalid `test_split` argument: {test_split}. It must be between 0 and 1 (exclusive "
            "of 1)."
        )
    found = load_npz(located(file, path))
    if not {"x", "y"} <= set(found):
        raise ValueError(f"{path}: expected arrays x and y, found {sorted(found)}")
    x, y = found["x"][:rows], found["y"][:rows]
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    x, y = x[order], y[order]
    at = int(len(x) * (1 - test_split))
    return (x[:at], y[:at]), (x[at:], y[at:])
