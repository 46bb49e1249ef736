"""The UCI handwritten digits: 1,797 images of 8x8 pixels that ship with handmill."""

from __future__ import annotations

from importlib import resources

import numpy as np

from handmill.ir.op import Array


def load_data() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Loads the digits; nothing is downloaded.

    Every fifth image is for testing, so both parts hold all writers.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: images uint8 of shape (1438, 8, 8) and
        (359, 8, 8) with values 0 to 16, labels uint8 of shape (1438,) and (359,).

    Example:
        >>> from handmill.datasets import digits
        >>> (x_train, y_train), (x_test, y_test) = digits.load_data()
        >>> x_train.shape, x_test.shape, int(x_train.max())
        ((1438, 8, 8), (359, 8, 8), 16)

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
        Learning Repository, 1998 (CC BY 4.0; see digits_license.txt).
    """
    file = resources.files(__package__).joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    test = np.arange(len(labels)) % 5 == 4
    return (images[~test], labels[~test]), (images[test], labels[test])
