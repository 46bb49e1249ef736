"""Numbers given to ``compile``, ``fit`` and their siblings, looked at before anything is done."""

from __future__ import annotations

from typing import Any

import numpy as np


def checked_count(name: str, value: Any) -> int:
    """Returns a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {name}={value!r}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether ``value`` is a positive whole number; floats may be some."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    return bool(value >= 1) and float(value).is_integer()


def checked_batch_size(batch_size: Any) -> int:
    """Returns the rows of a batch, 32 by default.

    Raises:
        ValueError: unless it is a positive integer.
    """
    if batch_size is None:
        return 32
    size = batch_size
    if type(size) is int and size > 0:
        return size
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"`batch_size` must be a positive integer, got batch_size={batch_size!r}")
    return int(size)


def checked_class_weight(class_weight: Any) -> dict[int, float]:
    """Returns the factors by class number.

    Raises:
        ValueError: for what is no dict of numbers by class numbers.
    """
    try:
        checked = {int(key): float(value) for key, value in class_weight.items()}
        if len(checked) < len(class_weight) or any(int(k) != float(k) for k in class_weight):
            raise ValueError  # two keys of one class, or a fraction, which is none
        return checked
    except (AttributeError, TypeError, ValueError):
        hint = ""
        if isinstance(class_weight, str):
            hint = (
                "\n  hint: weights that balance the classes: counts = numpy.bincount(y); "
                "class_weight = dict(enumerate(len(y) / (len(counts) * counts)))"
            )
        raise ValueError(
            "`class_weight` must be a dict of numbers by class number, such as {0: 1.0, 1: 5.0}. "
            f"Received: class_weight={class_weight!r}{hint}"
        ) from None


def check_epochs(epochs: Any, initial_epoch: Any, validation_freq: Any) -> None:
    """Raises a ValueError for what says no epochs."""
    usual = type(epochs) is type(initial_epoch) is type(validation_freq) is int
    if usual and epochs >= 0 and initial_epoch >= 0 and validation_freq > 0:
        return
    for name, value in (("epochs", epochs), ("initial_epoch", initial_epoch)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
            raise ValueError(
                f"`{name}` must be an integer, not negative. Received: {name}={value!r}"
            )
    single = hasattr(validation_freq, "__index__") and not isinstance(validation_freq, bool)
    if single and validation_freq > 0:
        return
    if single or isinstance(validation_freq, str) or not hasattr(validation_freq, "__contains__"):
        raise ValueError(
            "`validation_freq` must be a positive integer, or a list of the epochs (from 1) after "
            f"which is validated. Received: validation_freq={validation_freq!r}"
        )
