"""What is explained: which outputs of a model, as rows of factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.op import Array

_FEW_NUMBERS = 32  # of a row that Python sums up


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The number that is explained of each row: ``offset + sum(seeds * outputs)``.

    Attributes:
        seeds: float32 (rows, outputs).
        offset: float32 (rows,).
        classes: int64 (rows,); (rows, 2) for "why a and not b"; None for a regression.
        names: what each row's target is called.
    """

    seeds: Array
    offset: Array
    classes: Array | None
    names: tuple[str, ...]

    def scores(self, outputs: Array) -> Array:
        """The numbers explained, float64 (rows,), from outputs (rows, outputs)."""
        if outputs.size <= _FEW_NUMBERS and len(outputs) == 1:
            found = _summed_row(self.seeds[0].tolist(), outputs[0].tolist())
            return np.array([float(self.offset[0]) + found])
        return self.offset + summed(self.seeds, outputs)


def _summed_row(seeds: list[float], outputs: list[float]) -> float:
    """The same of one row in Python's numbers: an eighth of the time that NumPy's calls take."""
    return sum([seed * output for seed, output in zip(seeds, outputs, strict=True) if seed], 0.0)


def summed(seeds: Array, outputs: Array) -> Array:
    """Sums ``seeds * outputs`` of each row, float64; what has the factor 0 may be infinite."""
    found: Array = np.einsum("ij,ij->i", seeds, outputs, dtype=np.float64)
    if not math.isfinite(found.sum()):
        with np.errstate(invalid="ignore"):
            found = np.where(seeds == 0, 0.0, seeds * outputs.astype(np.float64)).sum(1)
    return found


def targets_for(
    target: Any,
    outputs: Array,
    kind: str = "classes",
    class_names: Sequence[str] | None = None,
    score: str = "output",
) -> Targets:
    """Returns which outputs a ``target`` means.

    Args:
        target: None (the predicted class, or the only output), a class number or name, a list or
            array of one a row, one-hot rows, or a tuple (a, b): the score of a less that of b.
        outputs: (rows, outputs), what the model gives; decides what is predicted.
        kind: ``"classes"``: a column a class; ``"binary"``: one column, of class 1;
            ``"number"``: one column, a regression.
        class_names: names of the classes.
        score: ``"output"`` (of "binary", a probability) or ``"logit"``.

    Raises:
        ValueError: for a target that the outputs do not have.
        TypeError: for numbers that are not whole.

    Example:
        >>> import numpy as np
        >>> targets_for((1, 0), np.zeros((1, 3))).seeds
        array([[-1.,  1.,  0.]], dtype=float32)
    """
    rows, columns = outputs.shape
    if kind == "number":
        return _of_number(target, rows)
    count = 2 if kind == "binary" else columns
    if class_names is not None and len(class_names) != count:
        raise ValueError(
            f"`class_names` has {len(class_names)} names, but the model has {count} classes"
        )
    names = None if class_names is None else [str(name) for name in class_names]
    if isinstance(target, tuple):
        if len(target) != 2:
            raise ValueError(
                f"a tuple as `target` means (a, b), why a and not b; received {len(target)} "
                "members. One class a row is a list or an array"
            )
        first, second = (_classes(t, rows, count, names) for t in target)
        one, other = (_of_classes(c, columns, kind, score) for c in (first, second))
        return Targets(
            one[0] - other[0],
            one[1] - other[1],
            np.stack([first, second], axis=1),
            tuple(
                f"{_name(a, names)} rather than {_name(b, names)}"
                for a, b in zip(first, second, strict=True)
            ),
        )
    if target is None:
        classes = _predicted(outputs, kind, score)
    else:
        classes = _classes(target, rows, count, names)
    seeds, offset = _of_classes(classes, columns, kind, score)
    return Targets(seeds, offset, classes, tuple([_name(c, names) for c in classes.tolist()]))


def _of_number(target: Any, rows: int) -> Targets:
    is_only = target is None or (
        isinstance(target, int | np.integer) and not isinstance(target, bool) and target == 0
    )
    if not is_only:
        raise ValueError(
            f"the model gives one number a row (a regression), so `target` must be None or 0. "
            f"Received: {target!r}"
        )
    zeros = np.zeros(rows, np.float32)
    return Targets(np.ones((rows, 1), np.float32), zeros, None, ("output",) * rows)


def _predicted(outputs: Array, kind: str, score: str) -> Array:
    if kind == "binary":
        threshold = 0.5 if score == "output" else 0.0
        return (outputs[:, 0] > threshold).astype(np.int64)
    with np.errstate(invalid="ignore"):
        filled = np.where(np.isnan(outputs), -np.inf, outputs)
    return filled.argmax(1).astype(np.int64) if len(outputs) else np.zeros(0, np.int64)


def _of_classes(classes: Array, columns: int, kind: str, score: str) -> tuple[Array, Array]:
    """Seeds and offsets. Of one column, class 0 has the score 1 - p, or the logit's opposite."""
    rows = len(classes)
    offset = np.zeros(rows, np.float32)
    if kind == "binary":
        seeds = np.where(classes == 1, 1.0, -1.0).astype(np.float32)[:, None]
        if score == "output":
            offset[classes == 0] = 1.0
        return seeds, offset
    seeds = np.zeros((rows, columns), np.float32)
    seeds[np.arange(rows), classes] = 1.0
    return seeds, offset


def _classes(target: Any, rows: int, count: int, names: list[str] | None) -> Array:
    """A class number for each row."""
    if type(target) is int and 0 <= target < count:
        found = np.empty(rows, np.int64)  # numpy.full takes three times as long
        found.fill(target)
        return found
    given = np.asarray(target)
    if given.dtype.kind in "US" or (
        given.dtype.kind == "O" and all(isinstance(t, str) for t in given.reshape(-1))
    ):
        given = np.vectorize(lambda name: _number_of(str(name), names), otypes=[np.int64])(given)
    if given.ndim == 2:
        given = _from_one_hot(given, rows, count)
    if given.dtype.kind not in "iu":
        raise TypeError(
            f"`target` must be whole class numbers (or names, or one-hot rows), received "
            f"{given.dtype}: {target!r}"
        )
    if given.ndim > 1 or (given.ndim == 1 and len(given) != rows):
        raise ValueError(
            f"`target` has the shape {given.shape}, but there are {rows} rows: pass one class, or "
            "one a row"
        )
    wrong = given[(given < 0) | (given >= count)]
    if wrong.size:
        raise ValueError(
            f"`target` {int(wrong.reshape(-1)[0])} is no class of the model, whose {count} classes "
            f"are numbered from 0 to {count - 1}"
        )
    return np.array(np.broadcast_to(given, (rows,)), np.int64)


def _number_of(name: str, names: list[str] | None) -> int:
    if names is None:
        raise ValueError(f"`target` is the name {name!r}: pass `class_names`, too")
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, n=3) or names[:20]
        raise ValueError(f"no class is called {name!r}; there are {near}")
    return names.index(name)


def _from_one_hot(given: Array, rows: int, count: int) -> Array:
    if given.shape != (rows, count):
        raise ValueError(
            f"`target` has the shape {given.shape}; one-hot rows would be ({rows}, {count})"
        )
    if not (np.isin(given, (0, 1)).all() and (given.sum(1) == 1).all()):
        raise ValueError("`target` has rows that are not one-hot: each needs a single 1")
    return np.asarray(given.argmax(1), np.int64)


def _name(number: Any, names: list[str] | None) -> str:
    return f"class {number}" if names is None else names[int(number)]
