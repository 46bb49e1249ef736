"""California housing: prices of 20,640 block groups in the census of 1990."""

from __future__ import annotations

import os

from handmill.data.datasets.location import STORE, RemoteFile
from handmill.data.datasets.tables import Split, load_table

FILE = RemoteFile(
    "california_housing.npz",
    f"{STORE}california_housing.npz",
    "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
)


def load_data(
    version: str = "large",
    path: str | os.PathLike[str] = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> Split:
    """Loads the California housing prices.

    Args:
        version: ``"large"``, or ``"small"`` for the first 600 rows.
        path: the file; see :func:`handmill.datasets.mnist.load_data` for where it is looked for.
        test_split: the fraction of rows for testing.
        seed: decides the order of rows.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: 8 variables a row (median income, age of houses,
        rooms and bedrooms a household, population, occupants, latitude, longitude), prices in
        dollars.

    Raises:
        OSError: if there is no file.
        ValueError: for an unknown version, or a fraction out of range.
    """
    if version not in ("small", "large"):
        raise ValueError(
            f"Argument `version` must be one of 'small', 'large'. Received: version={version}"
        )
    return load_table(FILE, path, test_split, seed, 600 if version == "small" else None)
