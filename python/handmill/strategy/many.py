"""Many models trained at once: configurations under the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from handmill.arguments import whole_number
from handmill.errors import clean_traceback
from handmill.strategy.journal import advance_with_journal, open_journal
from handmill.strategy.lane_arguments import Material
from handmill.strategy.lanes import MOST_LANES, Lanes
from handmill.strategy.runs import Runs


@clean_traceback
def train_many(
    build: Callable[..., Any],
    configurations: Iterable[Mapping[str, Any]],
    x: Any,
    y: Any = None,
    *,
    seeds: int | Sequence[int] = 8,
    epochs: int = 1,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    splits: Sequence[tuple[Any, Any]] | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    shuffle: Any = True,
    validation_batch_size: int | None = None,
    keep_weights: bool = True,
    journal: str | Path | None = None,
    limit: int = MOST_LANES,
) -> Runs:
    """Trains a model of each configuration under each seed.

    A lane, which is one configuration under one seed, has the bits of that model trained alone:
    ``utils.set_random_seed(seed)``, ``build(**configuration)``, ``fit`` with the same arguments.
    Configurations have their seeds (and with them splits and orders of rows) in common, so that
    they can be compared pair by pair.

    Each thread takes a whole lane. Of a configuration with more than two seeds two models are
    built, and what a seed decides in them (first weights, masks, orders) is drawn for the others,
    where that is all that differs; so `build` may use its arguments and handmill's random numbers,
    but should not count its calls.

    Args:
        build: gives a new compiled model for a configuration, as keyword arguments.
        configurations: dicts of arguments of ``build``; equal ones are run once.
        x: inputs, of shape (rows, ...): an array, or a list or dict of arrays.
        y: targets, equally many rows.
        seeds: how many, from 0; or the seeds themselves.
        epochs: epochs of each lane.
        batch_size: rows of a batch; default 32.
        validation_split: fraction of the rows, taken from the end, to validate on.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``.
        splits: for each seed the numbers of the rows to train on and those to validate on, such
            as the folds of a cross-validation.
        sample_weight: a factor for each row.
        class_weight: factors of the rows' weights by class number.
        shuffle: whether each epoch has an order of its own.
        validation_batch_size: rows of a batch in validation; default: ``batch_size``.
        keep_weights: whether lanes keep what they learnt. Without, ``Runs.model`` trains again.
        journal: a file that remembers what is finished: a call that was ended goes on there, and
            nothing is trained twice. It is refused where data or settings are others. A folder
            (``"runs/"``) shares the trainings among all processes that are given it, on one
            machine or on many; each returns all of the numbers.
        limit: the most lanes; more are refused.

    Returns:
        The numbers of all lanes, and their models. A lane whose loss is not finite ends there and
        says so (``Lane.failure``); the others go on.

    Raises:
        ValueError: for a configuration with arguments that ``build`` does not have, a model that is
            not compiled or was given before, rows that do not fit or hold NaN. Nothing was trained
            then.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> def build(units):
        ...     model = handmill.Sequential([
        ...         handmill.Input((64,)), layers.Dense(units, "relu"),
        ...         layers.Dense(10, "softmax")])
        ...     model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        ...     return model
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> runs = handmill.train_many(
        ...     build, [{"units": 2}, {"units": 16}], x.reshape(-1, 64) / 16, y,
        ...     seeds=3, epochs=2, validation_split=0.2)
        >>> runs.scores("val_accuracy").shape
        (2, 3)
        >>> runs.best
        {'units': 16}
    """
    material = Material(
        x,
        y,
        sample_weight,
        validation_data,
        validation_split,
        splits,
        batch_size,
        validation_batch_size,
        class_weight,
        shuffle,
    )
    return trained(build, configurations, material, seeds, epochs, keep_weights, journal, limit)


def trained(
    build: Callable[..., Any],
    configurations: Iterable[Mapping[str, Any]],
    material: Material,
    seeds: int | Sequence[int],
    epochs: int,
    keep_weights: bool,
    journal: str | Path | None,
    limit: int,
) -> Runs:
    """As :func:`train_many`, for rows that are put together."""
    epochs = whole_number("`epochs`", epochs, 1)
    lanes = Lanes(
        build, configurations, material, seeds=seeds, keep_weights=keep_weights, limit=limit
    )
    if journal is None:
        lanes.advance(epochs, last=True)
    else:
        with open_journal(journal, material.settings, material.data, build) as book:
            advance_with_journal(lanes, epochs, book, last=True)
    return lanes.runs()
