"""Boston housing: prices of 506 districts in the 1970s."""

from __future__ import annotations

import os

from handmill.data.datasets.location import STORE, RemoteFile
from handmill.data.datasets.tables import Split, load_table

FILE = RemoteFile(
    "boston_housing.npz",
    f"{STORE}boston_housing.npz",
    "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
)


def load_data(
    path: str | os.PathLike[str] = "boston_housing.npz", test_split: float = 0.2, seed: int = 113
) -> Split:
    """Loads the Boston housing prices.

    One of the variables ("B") is built on an assumption about race; the data set serves to teach
    about that, and ``california_housing`` for everything else.

    Args:
        path: the file; see :func:`handmill.datasets.mnist.load_data` for where it is looked for.
        test_split: the fraction of rows for testing.
        seed: decides the order of rows.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: 13 variables a row, prices in 1,000 dollars.

    Raises:
        OSError: if there is no file.
        ValueError: for a fraction out of range.
    """
    return load_table(FILE, path, test_split, seed)
