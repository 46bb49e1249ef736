"""All combinations of some settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from handmill.errors import clean_traceback
from handmill.strategy.lane_arguments import Material, checked_seeds
from handmill.strategy.lanes import MOST_LANES
from handmill.strategy.many import trained
from handmill.strategy.runs import Runs

MOST_TRAININGS = 10_000
"""More are asked for by name: a product grows faster than one thinks."""


@clean_traceback
def try_all(
    build: Callable[..., Any],
    settings: Mapping[str, Iterable[Any]],
    x: Any,
    y: Any = None,
    *,
    seeds: int | Sequence[int] = 10,
    epochs: int = 1,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    splits: Sequence[tuple[Any, Any]] | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    shuffle: Any = True,
    keep_weights: bool = False,
    journal: str | Path | None = None,
    limit: int = MOST_TRAININGS,
) -> Runs:
    """Trains a model of each combination of some settings, under each seed.

    The result, printed, is a table that says which combinations are not distinguishable from the
    best (:class:`~handmill.strategy.Comparison`); ``.comparison().pivot(a, b)`` shows two settings
    as rows and columns. All that is compared was measured on rows that no model has learned
    from: without ``validation_split``, ``validation_data`` or ``splits`` a fifth of the rows is put
    aside, drawn at random with equal shares of each class where ``y`` holds class numbers, the
    same for all seeds. A test set stays closed until ``runs.test(x, y)``, which counts its uses.

    Args:
        build: gives a new compiled model, called with one value of each setting by name.
        settings: the values to try of each argument of ``build``; values that are given twice are
            run once.
        x: inputs, shape (rows, ...): an array, or a list or dict of arrays.
        y: targets, equally many rows.
        seeds: how many, from 0; or the seeds themselves. Six are the fewest that can tell two
            combinations apart.
        epochs: epochs of each training.
        batch_size: rows of a batch; default 32.
        validation_split: fraction of the rows, taken from the end, to validate on.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``.
        splits: for each seed the numbers of the rows to train on and those to validate on.
        sample_weight: a factor for each row.
        class_weight: factors of the rows' weights by class number.
        shuffle: whether each epoch has an order of its own.
        keep_weights: whether what was learned is kept; without, ``runs.model`` trains again, to
            the same bits.
        journal: a file that remembers what is finished: a call that was ended goes on there, and
            nothing is trained twice. It is refused where data or settings are others. A folder
            is shared by several processes; see :func:`~handmill.train_many`.
        limit: the most trainings, combinations times seeds.

    Returns:
        The numbers of all trainings.

    Raises:
        ValueError: for a setting that ``build`` does not have (the nearest name is told), without
            values, or with more trainings than ``limit``; nothing was trained then.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> def build(units, activation):
        ...     model = handmill.Sequential([
        ...         handmill.Input((64,)), layers.Dense(units, activation),
        ...         layers.Dense(10, "softmax")])
        ...     model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        ...     return model
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> runs = handmill.try_all(
        ...     build, {"units": [2, 16], "activation": ["relu", "tanh"]},
        ...     x.reshape(-1, 64) / 16, y, seeds=6, epochs=2)
        >>> runs.best["units"]
        16
        >>> print(runs.comparison().table(most=1).splitlines()[0])
        val_accuracy of 4 configurations, 6 seeds, judged on 288 rows (higher is better)
    """
    configurations = combinations(settings, checked_seeds(seeds), limit)
    material = Material(
        x,
        y,
        sample_weight,
        validation_data,
        validation_split,
        splits,
        batch_size,
        class_weight=class_weight,
        shuffle=shuffle,
    ).validated()
    most = max(limit, MOST_LANES)
    return trained(build, configurations, material, seeds, epochs, keep_weights, journal, most)


def combinations(
    settings: Mapping[str, Iterable[Any]], seeds: int | Sequence[int], limit: int
) -> list[dict[str, Any]]:
    """Returns the product of the values of all settings, the last one changing fastest.

    Args:
        settings: name -> values.
        seeds: as for :func:`try_all`.
        limit: the most combinations times seeds.

    Raises:
        TypeError: if ``settings`` is no dict of lists.
        ValueError: for a setting without values, or too many combinations.

    Example:
        >>> from handmill.strategy.grid import combinations
        >>> combinations({"a": [1, 2], "b": ["x"]}, seeds=8, limit=100)
        [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    if not isinstance(settings, Mapping):
        raise TypeError(
            "`settings` must be a dict of lists of values, such as {'units': [16, 32]}. Received: "
            f"{type(settings).__name__}. A list of configurations is for handmill.train_many"
        )
    values: dict[str, list[Any]] = {}
    for name, given in settings.items():
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise TypeError(
                f"the values of {name!r} must be a list of what to try; for one value write "
                f"[{given!r}]"
            )
        values[name] = list(given)
        if not values[name]:
            raise ValueError(f"{name!r} has no values to try")
    count = math.prod(len(v) for v in values.values())
    runs = count * (int(seeds) if isinstance(seeds, int | np.integer) else len(seeds))
    if runs > limit:
        sizes = " x ".join(f"{len(v)} {name}" for name, v in values.items())
        raise ValueError(
            f"{sizes} are {count:,} combinations and {runs:,} trainings, more than "
            f"limit={limit:,}. Pass limit={runs} if they are meant; handmill.tune looks for a good "
            "one without trying all"
        )
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
