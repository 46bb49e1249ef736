"""Two numbers for how far to trust an explanation: infidelity, and sensitivity to small changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import finite_number, whole_number
from handmill.data.keyed_random import make_key, uniform
from handmill.explanation.asked import Asked
from handmill.explanation.black_box import BlackBox
from handmill.explanation.explanation import Explanation
from handmill.explanation.rows import for_model, rows_of
from handmill.ir.op import Array


def infidelity(
    explanation: Explanation,
    model: Any,
    perturbations: Any = None,
    *,
    samples: int = 10,
    radius: float = 0.1,
    normalized: bool = False,
    seed: int = 0,
) -> Array:
    """How wrongly the values foretell what happens to the score when the row is changed.

    The mean of ``(sum(change * values) - (score(x) - score(x - change)))^2``: 0 for the gradient of
    a linear model.

    Args:
        explanation: of one input, with a value for each of its entries.
        model: what was explained.
        perturbations: the changes (samples, rows, ...), each of the shape of the data; None: drawn
            evenly from -radius to radius.
        samples: how many are drawn.
        radius: how large these are at most.
        normalized: whether the values are first scaled by the one factor for each row that fits
            best, so that methods which only rank are not held to a scale.
        seed: of the draw.

    Returns:
        float64 (rows,).

    Raises:
        ValueError: for values that do not belong to the entries of one input, and changes of
            another shape.

    References:
        Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import explanation
        >>> unit = handmill.layers.Dense(1, kernel_initializer="ones")  # saliency has no signs
        >>> model = handmill.Sequential([handmill.Input((2,)), unit])
        >>> found = explanation.saliency(model, np.array([[3.0, -1.0]]))
        >>> explanation.infidelity(found, model).round(6)
        array([0.])
    """
    values, data = _of_entries(explanation, "infidelity")
    changes = _changes(perturbations, samples, data.shape, radius, seed)
    foretold = (changes * values).reshape(*changes.shape[:2], -1).sum(2)
    changed = (data - changes).reshape(-1, *data.shape[1:])
    scores = _scores(explanation, model, changed.astype(explanation.data.dtype), len(changes))
    happened = explanation.scores - scores
    if normalized:
        squares = (foretold**2).sum(0)
        factor = (foretold * happened).sum(0) / np.where(squares == 0, 1.0, squares)
        foretold = foretold * factor
    return np.asarray(((foretold - happened) ** 2).mean(0))


def max_sensitivity(
    method: Any,
    model: Any,
    x: Any,
    target: Any = None,
    *,
    perturbations: Any = None,
    samples: int = 10,
    radius: float = 0.02,
    seed: int = 0,
    **options: Any,
) -> Array:
    """How much an explanation changes at most when its row hardly does.

    The largest of ``|values(x + change) - values(x)| / |values(x)|``, in the 2-norm of a row.

    Args:
        method: a function of this module, such as ``handmill.explanation.saliency``.
        model: what is explained.
        x: rows of one input.
        target: see :func:`saliency`; None: for all changes the class predicted without any.
        perturbations: the changes (samples, rows, ...); None: drawn evenly from -radius to radius.
        samples: how many are drawn.
        radius: how large these are at most.
        seed: of the draw.
        **options: of the method.

    Returns:
        float64 (rows,).

    Raises:
        ValueError: for several inputs, and changes of another shape.

    References:
        Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import explanation
        >>> model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(1)])
        >>> explanation.max_sensitivity(explanation.saliency, model, np.ones((1, 2)))
        array([0.])
    """
    first = method(model, x, target=target, **options)
    if tree.is_nested(first.values):
        raise ValueError("max_sensitivity() takes models of one input")
    values, data = np.asarray(first.values, np.float64), np.asarray(first.data)
    changes = _changes(perturbations, samples, data.shape, radius, seed)
    same = target if callable(target) else _target_of(first)
    most = np.zeros(len(values))
    flat = values.reshape(len(values), -1)
    size = np.sqrt((flat**2).sum(1))
    for change in changes:
        moved = method(model, (data + change).astype(data.dtype), target=same, **options)
        apart = np.asarray(moved.values, np.float64).reshape(len(values), -1) - flat
        most = np.maximum(most, np.sqrt((apart**2).sum(1)))
    return np.asarray(most / np.where(size == 0, 1.0, size))


def _of_entries(explanation: Explanation, name: str) -> tuple[Array, Array]:
    if tree.is_nested(explanation.values):
        raise ValueError(f"{name}() takes explanations of one input")
    values, data = np.asarray(explanation.values), np.asarray(explanation.data)
    if values.shape != data.shape or data.dtype.kind not in "fiub":
        raise ValueError(
            f"{name}() needs a value for each entry of the data: the values have the shape "
            f"{values.shape}, the data {data.shape} ({data.dtype})"
        )
    return values.astype(np.float64), data.astype(np.float64)


def _changes(given: Any, samples: int, shape: tuple[int, ...], radius: float, seed: int) -> Array:
    """Changes of rows (samples, *shape), as they are given or drawn."""
    if given is None:
        whole_number("samples", samples, 1)
        position = np.arange(samples * int(np.prod(shape))).reshape(samples, *shape)
        drawn = uniform(make_key(seed, 7), position)
        return np.asarray((drawn * 2 - 1) * finite_number("radius", radius))
    changes = np.asarray(given, np.float64)
    if changes.shape[1:] != shape or not len(changes):
        raise ValueError(
            f"`perturbations` must have the shape (samples, {', '.join(map(str, shape))}). "
            f"Received: {changes.shape}"
        )
    return changes


def _target_of(explanation: Explanation) -> Any:
    classes = explanation.classes
    return None if classes is None else classes if classes.ndim == 1 else tuple(classes.T)


def _scores(explanation: Explanation, model: Any, rows: Array, times: int) -> Array:
    """The scores of changed rows, of the same kind as those explained: (times, rows)."""
    target = _target_of(explanation)
    if isinstance(target, tuple):
        target = tuple(np.tile(part, times) for part in target)
    elif target is not None:
        target = np.tile(target, times)
    if explanation.score == "logit":
        found = Asked("infidelity", model, rows, target, score="logit").scores
    else:
        made, arrays, _ = rows_of(rows)
        arrays = for_model(model, arrays)
        _, found, _ = BlackBox(model, made).explain(arrays, target, None)
    return np.asarray(found).reshape(times, -1)
