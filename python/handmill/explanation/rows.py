"""Rows to explain, and the rows or numbers that stand for "not there"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, permutation
from handmill.ir.op import Array

MOST_BACKGROUND = 100


def rows_of(x: Any, what: str = "x") -> tuple[Any, list[Array], Any]:
    """Returns rows as arrays.

    Args:
        x: an array, a table with ``columns``, a sparse matrix, or a nesting of arrays.
        what: what errors call them.

    Returns:
        The rows, nested as they came; the same, flat; the names of the columns, or None.

    Raises:
        ValueError: for a single row, and for arrays of different lengths.
    """
    names = None
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        names, x = [str(c) for c in x.columns], x.to_numpy()
    if hasattr(x, "toarray"):
        x = x.toarray()
    if isinstance(x, list | tuple) and not any(isinstance(part, np.ndarray) for part in x):
        x = np.asarray(x)
    made = tree.map_structure(np.asarray, x)
    arrays = tree.flatten(made)
    for array in arrays:
        if array.ndim == 0 or (array.ndim == 1 and len(arrays) == 1):
            raise ValueError(
                f"`{what}` must hold rows: its first axis counts them. Received the shape "
                f"{array.shape}; of a single row pass {what}[None]"
            )
        if array.dtype == object:
            raise ValueError(
                f"`{what}` holds Python objects, not numbers: columns of text need numbers first "
                "(layers.StringLookup, utils.FeatureSpace), or explain a function that makes them"
            )
    if len({len(a) for a in arrays}) != 1:
        raise ValueError(
            f"the inputs in `{what}` have different numbers of rows: {[len(a) for a in arrays]}"
        )
    return made, arrays, names


def for_model(model: Any, arrays: list[Array], what: str = "x") -> list[Array]:
    """Returns arrays of the rank that a built model takes, float64 as the model's float32.

    Raises:
        ValueError: for a row without the axis of rows, rows of another shape, and arrays that the
            model has no input for.
    """
    from handmill import config
    from handmill.models.prediction import Predicting

    if not isinstance(model, Predicting):
        return arrays
    inputs = _inputs_of(model)
    if inputs and len(arrays) > len(inputs):
        raise ValueError(
            f"`{what}` holds {len(arrays)} arrays, but the model has {len(inputs)} inputs: values "
            "of others mean nothing"
        )
    if len(inputs) == len(arrays):
        for array, shape in zip(arrays, inputs, strict=True):
            if array.ndim == len(shape) - 1:
                raise ValueError(
                    f"`{what}` has the shape {array.shape}, but the model takes {shape}: its first "
                    f"axis counts rows. Of a single row pass {what}[None]"
                )
            fits = array.ndim == len(shape) and all(
                d is None or d == n for d, n in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits:
                raise ValueError(
                    f"`{what}` has the shape {array.shape}, but the model takes {shape}"
                )
    wide = config.floatx()
    return [np.ascontiguousarray(a, wide if a.dtype.kind == "f" else None) for a in arrays]


def _inputs_of(model: Any) -> list[Any]:
    try:
        return [tuple(i.shape) for i in tree.flatten(model.inputs)]
    except (AttributeError, TypeError, ValueError):
        return []


def background_rows(
    background: Any, arrays: list[Array], seed: int, what: str = "background"
) -> tuple[list[Array], tuple[str, ...]]:
    """Returns the rows that absent features are taken from, at most 100, and what there is to say.

    Args:
        background: rows nested as the inputs, one row of their shape, or a number.
        arrays: the rows explained.
        seed: of the choice among more than 100 rows.
        what: what errors call them.

    Raises:
        ValueError: if it is missing, empty, or of another shape.
    """
    if background is None:
        raise ValueError(
            f"`{what}` is missing: it says what a feature is when it is absent. Pass rows of the "
            f"training data, such as {what}=x_train[:100]; zeros would be a choice, too, but one "
            f"that you must make ({what}=0.0)"
        )
    if isinstance(background, int | float | np.number):
        return [np.full((1, *a.shape[1:]), background, _common(a, background)) for a in arrays], ()
    if not tree.is_nested(background) and np.asarray(background).shape == arrays[0].shape[1:]:
        background = np.asarray(background)[None]
    _, found, _ = rows_of(background, what)
    if len(found) != len(arrays):
        raise ValueError(f"`{what}` has {len(found)} inputs, but the rows have {len(arrays)}")
    for rows, array in zip(found, arrays, strict=True):
        if rows.shape[1:] != array.shape[1:]:
            raise ValueError(
                f"rows of `{what}` have the shape {rows.shape[1:]}, those explained "
                f"{array.shape[1:]}"
            )
        if not len(rows):
            raise ValueError(f"`{what}` has no rows; pass some of the training data")
    notes: tuple[str, ...] = ()
    count = len(found[0])
    if count > MOST_BACKGROUND:
        chosen = np.sort(permutation(make_key(seed, 0), count)[:MOST_BACKGROUND])
        found = [rows[chosen] for rows in found]
        notes = (f"background: {MOST_BACKGROUND} of {count} rows, drawn with seed {seed}",)
    return found, notes


def checked_seed(seed: Any) -> int:
    """A seed as a whole number.

    Raises:
        ValueError: if it is none.
    """
    return whole_number("`seed`", seed)


def check_finite_rows(what: str, arrays: Iterable[Array]) -> None:
    """Refuses rows to compare with that are no numbers: every value would be none.

    Raises:
        ValueError: for NaN or infinity, with the place of the first.
    """
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise ValueError(
                f"`{what}` holds {array[place]} in row {place[0]}, at {place[1:]}: no "
                "difference from it is a number. Leave the row out, or fill it in as for training"
            )


def alike(arrays: list[Array], others: list[Array]) -> tuple[list[Array], list[Array]]:
    """Returns both, each pair in the dtype that holds the numbers of either."""
    kinds = [_holding(a.dtype, b.dtype) for a, b in zip(arrays, others, strict=True)]
    return (
        [np.ascontiguousarray(a, k) for a, k in zip(arrays, kinds, strict=True)],
        [np.ascontiguousarray(b, k) for b, k in zip(others, kinds, strict=True)],
    )


def _holding(kind: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype for numbers of both: of float32 and float64 the first's."""
    if kind.kind == other.kind == "f":
        return kind
    return np.result_type(kind, other)


def _common(array: Array, number: Any) -> Any:
    whole = float(number).is_integer()
    return array.dtype if array.dtype.kind == "f" or whole else np.result_type(array, np.float32)
