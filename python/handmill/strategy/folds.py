"""Cross-validation: every row judges once, in each of several random partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import clean_traceback
from handmill.ir.op import Array
from handmill.models.layout import split
from handmill.strategy.holdout import check_varied, classes_of, deal, deal_groups
from handmill.strategy.lanes import MOST_LANES
from handmill.strategy.many import train_many
from handmill.strategy.runs import Runs


@clean_traceback
def cross_validate(
    build: Callable[..., Any],
    x: Any,
    y: Any = None,
    configurations: Iterable[Mapping[str, Any]] = ({},),
    *,
    folds: int = 5,
    repeats: int = 1,
    groups: Any = None,
    epochs: int = 1,
    batch_size: int | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    shuffle: Any = True,
    keep_weights: bool = False,
    limit: int = MOST_LANES,
    seed: int = 0,
) -> Runs:
    """Trains each configuration on all folds but one, and judges it on that one, for each fold.

    Rows are shuffled and dealt out so that folds have equal shares of each class, where ``y`` holds
    class numbers. Split s of ``repeats`` times ``folds`` also has seed s, for weights and order, so
    configurations are paired. Splits share training rows, so their table is judged by the
    corrected test of Nadeau and Bengio (:func:`~handmill.strategy.corrected_t_test`).

    Args:
        build: gives a new compiled model for a configuration, as keyword arguments.
        x: inputs, shape (rows, ...): an array, or a list or dict of arrays.
        y: targets, equally many rows.
        configurations: dicts of arguments of ``build``; default: one without any.
        folds: how many parts the rows are cut into, at least 2.
        repeats: how many times, each with another shuffle.
        groups: the group of each row, shape (rows,): rows of one group, such as pictures of one
            person, are never on both sides. Classes are then not balanced.
        epochs: epochs of each training.
        batch_size: rows of a batch; default 32.
        sample_weight: a factor for each row.
        class_weight: factors of the rows' weights by class number.
        shuffle: whether each epoch has an order of its own.
        keep_weights: whether what was learned is kept.
        limit: the most trainings.
        seed: of the shuffles.

    Returns:
        The numbers of all splits; printed, their table.

    Raises:
        ValueError: for a class with fewer rows than folds, one class alone, or fewer rows or groups
            than folds; nothing was trained then.

    Example:
        >>> import handmill
        >>> from handmill import layers, strategy
        >>> def build(units):
        ...     model = handmill.Sequential([
        ...         handmill.Input((64,)), layers.Dense(units, "relu"),
        ...         layers.Dense(10, "softmax")])
        ...     model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        ...     return model
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> runs = strategy.cross_validate(
        ...     build, x.reshape(-1, 64) / 16, y, [{"units": 2}, {"units": 16}], epochs=2)
        >>> runs.scores().shape, runs.best
        ((2, 5), {'units': 16})
    """
    folds, repeats = whole_number("folds", folds, 2), whole_number("repeats", repeats, 1)
    _, arrays = split(x, y, sample_weight)
    return train_many(
        build,
        configurations,
        x,
        y,
        seeds=folds * repeats,
        splits=splits_of(len(arrays[0]), y, folds, repeats, groups, seed),
        epochs=epochs,
        batch_size=batch_size,
        sample_weight=sample_weight,
        class_weight=class_weight,
        shuffle=shuffle,
        keep_weights=keep_weights,
        limit=limit,
    )


def splits_of(
    rows: int, y: Any, folds: int, repeats: int, groups: Any, seed: int
) -> list[tuple[Array, Array]]:
    """Returns for each split the rows to train on and those to judge on.

    Args:
        rows: how many rows there are.
        y: targets.
        folds: parts of each partition.
        repeats: partitions.
        groups: the group of each row, or None.
        seed: of the shuffles.

    Raises:
        ValueError: as :func:`cross_validate`.
    """
    if rows < folds:
        raise ValueError(f"{folds} folds need at least {folds} rows, there are {rows}")
    check_varied(y, rows)
    classes = classes_of(y, rows)
    if classes is not None:
        names, counts = np.unique(np.asarray(y).reshape(-1), return_counts=True)
        rare = int(counts.argmin())
        if groups is None and counts[rare] < folds:
            raise ValueError(
                f"class {names[rare]!s} has {counts[rare]} rows, but {folds} folds need at least "
                f"{folds} of each class. Use fewer folds, or leave the class out"
            )
    if groups is not None and np.shape(groups) != (rows,):
        raise ValueError(
            f"groups must name the group of each of {rows} rows. Received: shape {np.shape(groups)}"
        )
    found = []
    for repeat in range(repeats):
        if groups is None:
            dealt = deal(rows, classes, folds, seed + repeat)
        else:
            dealt = deal_groups(np.asarray(groups), folds, seed + repeat)
        for fold in range(folds):
            found.append((np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)))
    return found
