"""Is the map about the model at all? Explanations of models whose weights were drawn anew."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from handmill import tree
from handmill.explanation.explanation import Check, Explanation
from handmill.ir.op import Array

_MOST = 0.3
"""The rank correlation above which a map keeps its picture.

Of a digits net with 64, 64 and 32 units: guided backpropagation 0.53 with new weights in the top
layer, integrated gradients and saliency below 0.12.
"""
_ROWS = 32
_DRAWS = 3


def sanity(method: Any, model: Any, x: Any, target: Any = None, **options: Any) -> Check:
    """Compares an explanation with those of the model after its top layer was drawn anew.

    A map that stays is no map of the model. Maps are compared by the rank correlation of their
    signed values, over what differs from the baseline or from zero alone: what never changes, such
    as black borders of images, would make all maps alike.

    Args:
        method: a function of this module, such as ``handmill.explanation.saliency``.
        model: a handmill model; it is left as it is, a copy gets the weights.
        x: rows, nested as the model takes them; 32 of them are looked at.
        target: see :func:`saliency`.
        **options: of the method.

    Returns:
        A :class:`Check`: ``number`` is the mean rank correlation over rows and three draws.

    References:
        Adebayo et al., "Sanity checks for saliency maps", 2018.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill.explanation import saliency, sanity
        >>> layers = [handmill.layers.Dense(16, "relu"), handmill.layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8,)), *layers])
        >>> sanity(saliency, model, np.ones((4, 8))).name
        'sanity'
    """
    few = tree.map_structure(lambda a: np.asarray(a)[:_ROWS], x)
    return sanity_check(method, model, few, target, options, method(model, few, target, **options))[
        0
    ]


def sanity_check(
    method: Any,
    model: Any,
    x: Any,
    target: Any,
    options: dict[str, Any],
    explanation: Explanation,
) -> list[Check]:
    """What :meth:`Explanation.check` runs; see :func:`sanity`."""
    rows = min(len(explanation), _ROWS)
    if not rows:
        return []
    x = tree.map_structure(lambda a: np.asarray(a)[:rows], x)
    classes = explanation.classes
    if classes is not None and not callable(target):  # those that the model answers now
        target = classes if classes.ndim == 1 else tuple(classes.T)
    target = _first(target, len(explanation), rows)
    options = {k: _first(v, len(explanation), rows) if k == "baseline" else v
               for k, v in options.items() if k != "class_names"}  # fmt: skip
    before = [np.asarray(v)[:rows] for v in tree.flatten(explanation.values)]
    data = [np.asarray(v)[:rows] for v in tree.flatten(explanation.data)]
    found = []
    twin = copy.deepcopy(model)
    for draw in range(_DRAWS):
        twin.set_weights(_with_new_top(model, draw))
        after = method(twin, x, target, **options)
        found += _correlations(before, [np.asarray(v) for v in tree.flatten(after.values)], data)
    number = float(np.mean(found)) if found else 0.0
    passed = abs(number) <= _MOST
    meaning = f"with new weights in the top layer the map correlates {number:+.2f} with this one"
    if not passed:
        meaning += ": it keeps its picture, so it shows the input more than the model"
    return [Check("sanity", passed, number, meaning)]


def _first(given: Any, rows: int, wanted: int) -> Any:
    """What belongs to the first rows of something that may hold an entry for each."""
    if isinstance(given, tuple):
        return tuple(_first(item, rows, wanted) for item in given)
    has_rows = isinstance(given, np.ndarray | list) and len(given) == rows
    return given[:wanted] if has_rows else given


def _with_new_top(model: Any, draw: int) -> list[Array]:
    """The weights of a model, those of the last layer that has any drawn anew, as far as they vary.

    They get the mean and the spread that they had, so that scores stay of the size they were.
    """
    weights = [np.array(w) for w in model.get_weights()]
    variables = list(model.weights)
    trained = {id(v) for v in model.trainable_weights} or {id(v) for v in variables}
    kernels = [i for i, v in enumerate(variables) if id(v) in trained and len(v.shape) > 1]
    if not kernels:
        return weights
    rng = np.random.default_rng(draw)
    top = weights[kernels[-1]]
    weights[kernels[-1]] = rng.normal(top.mean(), top.std() or 1.0, top.shape).astype(top.dtype)
    return weights


def _correlations(before: list[Array], after: list[Array], data: list[Array]) -> list[float]:
    """Rank correlations of two maps, one for each row that has something to compare."""
    found = []
    for row in range(len(before[0])):
        mine = np.concatenate([b[row].ravel() for b in before])
        other = np.concatenate([a[row].ravel() for a in after])
        varying = (mine != 0) | (other != 0)
        if all(b.shape == d.shape for b, d in zip(before, data, strict=True)):
            varying &= np.concatenate([d[row].ravel() for d in data]) != 0
        if varying.sum() > 2:
            a, b = _ranks(mine[varying]), _ranks(other[varying])
            if a.std() and b.std():
                found.append(float(np.corrcoef(a, b)[0, 1]))
    return found


def _ranks(values: Array) -> Array:
    """The rank of each value, equal ones sharing theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    after = np.cumsum(counts)
    return np.asarray((after - (counts - 1) / 2)[inverse.reshape(-1)])
