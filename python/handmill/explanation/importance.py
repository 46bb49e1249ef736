"""Permutation importance: what a metric loses when a column is shuffled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, permutation
from handmill.explanation.black_box import BlackBox
from handmill.explanation.composition import rows_of_block
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import Players, players_for
from handmill.explanation.rows import checked_seed, for_model, rows_of
from handmill.ir.op import Array


def permutation_importance(
    model: Any,
    x: Any,
    y: Any,
    metric: str | Callable[[Any, Any], float] | None = None,
    *,
    lower_is_better: bool | None = None,
    repeats: int = 5,
    groups: Any = None,
    permutations: Any = None,
    seed: int = 0,
    feature_names: Sequence[str] | None = None,
) -> Explanation:
    """How much worse a model is when a column no longer belongs to its row (Breiman, 2001).

    Of several inputs, and of images, each input as a whole is shuffled: a network that ignores one
    shows a zero there. Shuffled rows are made block by block; the data are never copied.

    Args:
        model: a handmill model, an estimator, or a function of rows.
        x: rows of a table, or a nesting of inputs as the model takes it; data that the model was
            not trained on, or what it has learned by heart counts, too.
        y: what the model should answer, for the metric.
        metric: ``"accuracy"``, ``"r2"``, ``"mean_squared_error"``, ``"mean_absolute_error"``,
            ``"log_loss"``, or a function of ``y`` and the outputs. Default: accuracy where ``y``
            holds whole numbers and the model gives classes, else r2.
        lower_is_better: of a function, whether it is a loss.
        repeats: shuffles of each column.
        groups: lists of columns that are shuffled together, or a dict of them by name.
        permutations: whole numbers (repeats, rows): the orders themselves, used for every column.
        seed: of the orders.
        feature_names: names of columns.

    Returns:
        An :class:`Explanation` with one row: mean losses of the metric, their standard errors over
        the repeats, the metric as the score; ``details["repeats"]`` (repeats, columns).

    Raises:
        ValueError: for arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> found = explanation.permutation_importance(lambda x: x[:, 0], x, x[:, 0])
        >>> found.values.round(1)
        array([[2., 0.]])
    """
    began = time.perf_counter()
    made, arrays, names = rows_of(x)
    arrays = for_model(model, arrays)
    rows = len(arrays[0])
    if rows < 2:
        raise ValueError(f"shuffling needs 2 rows or more. Received: {rows}")
    is_table = len(arrays) == 1 and arrays[0].ndim == 2
    players = (
        players_for(arrays, groups, None, feature_names or names)
        if is_table
        else _whole_inputs(made, arrays, groups)
    )
    orders = _orders(permutations, repeats, rows)
    seed = checked_seed(seed)
    box = BlackBox(model, made)
    box.check_at_rest()
    _check_answers(y, rows)
    size = rows_of_block(arrays, box.is_planned)
    whole = _outputs(box, arrays, size, None, None, [])
    for column in whole.T:
        box.check_finite(arrays, column)
    if whole.shape[1] > 1:
        y = _as_columns(model, y)
    name, measure, lower = _measure(metric, lower_is_better, y, whole, box.is_binary())
    best = measure(y, whole)
    found = np.empty((len(orders) if orders is not None else repeats, players.count))
    for player in range(players.count):
        columns = players.columns(player)
        for repeat in range(len(found)):
            if orders is None:
                order = permutation(make_key(seed, 5, repeat, player), rows)
            else:
                order = orders[repeat]
            score = measure(y, _outputs(box, arrays, size, order, columns, arrays))
            found[repeat, player] = (score - best) if lower else (best - score)
    error = None
    if len(found) > 1:
        error = found.std(0, ddof=1)[None] / np.sqrt(len(found))
    return Explanation(
        values=found.mean(0)[None],
        data=np.zeros((1, 0)),
        method="permutation importance",
        score=name,
        scores=np.array([float(best)]),
        error=error,
        feature_names=players.names,
        details={
            "repeats": found,
            "evaluations": box.evaluations,
            "seconds": time.perf_counter() - began,
        },
    )


def _check_answers(y: Any, rows: int) -> None:
    """Refuses answers that are missing."""
    if y is None:
        raise ValueError("`y` is missing: importance is measured by what the model should answer")
    if tree.is_nested(y):
        return
    wanted = np.asarray(y)
    if wanted.ndim == 0 or len(wanted) != rows:
        count = len(wanted) if wanted.ndim else "no"
        raise ValueError(f"`y` has {count} rows, and `x` {rows}")
    if wanted.dtype.kind == "f" and not np.isfinite(wanted).all():
        row = int(np.argwhere(~np.isfinite(wanted))[0, 0])
        raise ValueError(f"`y` is {wanted[row]} in row {row}: leave the row out")


def _outputs(
    box: BlackBox,
    arrays: list[Array],
    size: int,
    order: Array | None,
    columns: list[Array] | None,
    sources: list[Array],
) -> Array:
    """The outputs for all rows, some columns of which are other rows'."""
    parts = []
    for start in range(0, len(arrays[0]), size):
        at = slice(start, start + size)
        block = [a[at] for a in arrays]
        if order is not None and columns is not None:
            for number, chosen in enumerate(columns):
                if len(chosen) == block[number][0].size:
                    block[number] = np.ascontiguousarray(sources[number][order[at]])
                elif len(chosen):
                    block[number] = block[number].copy()
                    block[number][:, chosen] = sources[number][np.ix_(order[at], chosen)]
        parts.append(np.array(box.outputs(block)))
    return np.concatenate(parts)


def _whole_inputs(made: Any, arrays: list[Array], groups: Any) -> Players:
    if groups is not None:
        raise ValueError("`groups` are of columns of a table; of several inputs each is shuffled")
    labels = [np.full(a.shape[1:], i, np.intp) for i, a in enumerate(arrays)]
    names = ["input"]
    if tree.is_nested(made):
        names = ["/".join(map(str, path)) for path, _ in tree.flatten_with_path(made)]
    return Players(len(arrays), labels, names, True)


def _orders(permutations: Any, repeats: int, rows: int) -> Array | None:
    if permutations is None:
        whole_number("repeats", repeats, 1)
        return None
    orders = np.asarray(permutations)
    if orders.ndim != 2 or orders.shape[1] != rows or orders.dtype.kind not in "iu":
        raise ValueError(
            f"`permutations` must be whole numbers of the shape (repeats, {rows}). Received "
            f"{orders.dtype} of the shape {orders.shape}"
        )
    if not (np.sort(orders, axis=1) == np.arange(rows)).all():
        raise ValueError("each row of `permutations` must hold every row number once")
    return orders


def _measure(
    metric: Any, lower_is_better: bool | None, y: Any, outputs: Array, is_binary: bool
) -> tuple[str, Callable[[Any, Array], float], bool]:
    if callable(metric):
        if lower_is_better is None:
            from handmill.losses import Loss

            lower_is_better = isinstance(metric, Loss)
        name = getattr(metric, "name", None) or getattr(metric, "__name__", "metric")
        single = outputs.shape[1] == 1 and np.ndim(y) == 1

        def measure(y: Any, given: Array) -> float:
            found = np.asarray(metric(y, given[:, 0] if single else given))
            if found.shape != ():
                raise ValueError(
                    f"`metric` must return one number. It returned the shape {found.shape}"
                )
            return float(found)

        return str(name), measure, lower_is_better
    wanted = np.asarray(y)
    if metric is None:
        is_classes = (is_binary or outputs.shape[1] > 1) and (
            wanted.ndim == 2 or wanted.dtype.kind in "iub"
        )
        metric = "accuracy" if is_classes else "r2"
    if metric not in _METRICS:
        raise ValueError(
            f"`metric` must be one of {sorted(_METRICS)}, or a function of y and the outputs. "
            f"Received: {metric!r}"
        )
    function, lower = _METRICS[metric]
    if lower_is_better is not None and lower_is_better != lower:
        raise ValueError(f"lower_is_better={lower_is_better} does not go with {metric!r}")
    return metric, lambda _, given: function(wanted, given.astype(np.float64)), lower


def _as_columns(model: Any, y: Any) -> Any:
    """The labels of an estimator as numbers of its columns.

    Raises:
        ValueError: for a label that the estimator does not know.
    """
    classes = getattr(model, "classes_", None)
    if classes is None or np.ndim(y) != 1:
        return y
    given = np.asarray(y)
    places = np.minimum(np.searchsorted(classes, given), len(classes) - 1)
    unknown = np.flatnonzero(np.asarray(classes)[places] != given)
    if unknown.size:
        raise ValueError(f"`y` holds {given[unknown[0]]!r}, which is no class of the estimator")
    return places


def _numbers(y: Array, outputs: Array) -> tuple[Array, Array]:
    y = y.reshape(len(y), -1)
    if y.shape != outputs.shape:
        raise ValueError(f"`y` has {y.shape[1]} numbers a row, and the model {outputs.shape[1]}")
    return y, outputs


def _labels(y: Array) -> Array:
    one_hot = y.ndim == 2 and y.shape[1] > 1
    return np.asarray(y.argmax(1) if one_hot else y.reshape(len(y)))


def _accuracy(y: Array, outputs: Array) -> float:
    given = (outputs[:, 0] > 0.5).astype(int) if outputs.shape[1] == 1 else outputs.argmax(1)
    return float(np.mean(_labels(y) == given))


def _log_loss(y: Array, outputs: Array) -> float:
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    chosen = outputs[np.arange(len(y)), _labels(y).astype(np.intp)]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-15))))


def _mean_squared_error(y: Array, outputs: Array) -> float:
    y, outputs = _numbers(y, outputs)
    return float(np.mean((y - outputs) ** 2))


def _mean_absolute_error(y: Array, outputs: Array) -> float:
    y, outputs = _numbers(y, outputs)
    return float(np.mean(np.abs(y - outputs)))


def _r2(y: Array, outputs: Array) -> float:
    y, outputs = _numbers(y, outputs)
    spread = ((y - y.mean(0)) ** 2).sum(0)
    return float(np.mean(1 - ((y - outputs) ** 2).sum(0) / np.where(spread > 0, spread, 1.0)))


_METRICS: dict[str, tuple[Callable[[Array, Array], float], bool]] = {
    "accuracy": (_accuracy, False),
    "r2": (_r2, False),
    "mean_squared_error": (_mean_squared_error, True),
    "mean_absolute_error": (_mean_absolute_error, True),
    "log_loss": (_log_loss, True),
}
"""By name the function, and whether lower is better."""
