"""What a method of gradients is asked: model, rows and targets, looked at before anything runs."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.data.tables import is_table
from handmill.explanation.explanation import Explanation
from handmill.explanation.program import (
    Program,
    Question,
    Tracer,
    programs_of,
    scores_program,
)
from handmill.explanation.rows import check_finite_rows
from handmill.explanation.targets import Targets, targets_for
from handmill.ir.op import Array
from handmill.models.data_adapters import check_rows
from handmill.models.layout import fill, split
from handmill.naming import known_names

_OPTIONS = ("class_names", "feature_names", "output", "score")

MOST_NUMBERS = 1 << 20
"""Of inputs in one call of a program, unless one row has more."""


class Asked:
    """A model, the rows explained, and for which target.

    Args:
        method: the name of the method, for messages.
        model: a handmill model, or an estimator that holds one.
        x: rows, nested as the model takes them.
        target: see :func:`handmill.explanation.targets.targets_for`; or a function of the outputs.
        score: ``"logit"`` or ``"output"``.
        output: which of several outputs.
        class_names: names of the classes.
        feature_names: names of the features.
        scored: whether the model is run for the scores; if not, it is only where the target takes
            that, and :meth:`take_scores` must be called.
        **unknown: options that no method has.

    Attributes:
        arrays: the inputs, flat.
        rows: how many rows there are.
        targets: what is explained of each row.
        scores: float64 (rows,), what is explained.
        wrong: the rows whose score is no finite number, because their inputs are none.
        at_layers: of each input, whether it is explained at what a layer makes of it.
    """

    def __init__(
        self,
        method: str,
        model: Any,
        x: Any,
        target: Any = None,
        score: str = "logit",
        output: Any = None,
        class_names: Sequence[str] | None = None,
        feature_names: Any = None,
        scored: bool = True,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(f"{method}: {known_names('option', next(iter(unknown)), _OPTIONS)}")
        if score not in ("logit", "output"):
            raise ValueError(f"`score` must be 'logit' or 'output'. Received: {score!r}")
        self.method = method
        self.model = model = model_of(method, model)
        check_at_rest(method, model)
        if feature_names is None and is_table(x) and hasattr(x, "columns"):
            feature_names = [str(name) for name in x.columns]
        self.feature_names = feature_names
        self.given = x
        self.score = score
        self.layout, self.arrays = split(model._as_numbers(x), None, None)
        empty = bool(self.arrays) and all(a.ndim and not len(a) for a in self.arrays)
        self.rows = 0 if empty else check_rows(self.layout, self.arrays)
        _check_ranks(model, self.arrays)
        function = target if callable(target) else None
        self.question = Question(score, output, function, _has_binary_loss(model))
        if not self.rows:
            self.at_layers: tuple[bool, ...] = (False,) * len(self.arrays)
            self.targets = targets_for(None, np.zeros((0, 1)), "number")
            self.take_scores(np.zeros(0))
            return
        self._programs = programs_of(model, self.layout, self.question)
        program = self.program(scores_program)
        kind, self.at_layers, columns = program.facts(self.arrays)
        if scored or target is None:
            parts = [program(*part)[0] for _, part in self.blocks(1)]
            outputs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        else:
            outputs = np.zeros((self.rows, columns), np.float32)  # only their number counts
        if kind == "own":
            name = getattr(target, "__name__", "function")
            found = targets_for(None, outputs, "number")
            self.targets = Targets(found.seeds, found.offset, None, (name,) * self.rows)
        else:
            self.targets = targets_for(target, outputs, kind, class_names, score)
        if scored:
            self.take_scores(self.targets.scores(outputs))

    def take_scores(self, scores: Array) -> None:
        """Takes the scores explained, float64 (rows,).

        Raises:
            ValueError: if one is no finite number, although its row is.
        """
        self.scores = scores
        self.wrong: Sequence[Any] = ()
        if not math.isfinite(scores.sum()):
            self.wrong = np.flatnonzero(~np.isfinite(scores)).tolist()
        for row in self.wrong:
            if all(np.isfinite(a[row]).all() for a in self.arrays if a.dtype.kind == "f"):
                raise ValueError(
                    f"{self.method}: the score of row {row} is {scores[row]}, although its inputs "
                    "are finite: the model's weights or operators give no number there"
                )

    def program(self, trace: Tracer, *settings: Any) -> Program:
        """The program of the model for a method."""
        found = self._programs.get((trace, settings))
        if found is None:
            found = Program(self.model, self.layout, self.question, trace, settings)
            self._programs[trace, settings] = found
        return found

    def program_with(self, trace: Tracer, states: Sequence[Any], *settings: Any) -> Program:
        """The program for a method that reads variables of its own; equal ones share the trace."""
        return Program(self.model, self.layout, self.question, trace, settings, tuple(states))

    def blocks(self, times: int, most: int = 1 << 30) -> Iterator[tuple[slice, list[Array]]]:
        """The rows in blocks, so that ``times`` copies of one are not too many numbers.

        Args:
            times: how many copies of each row a program makes.
            most: rows and copies in one block at most.
        """
        width = max(1, *(math.prod(a.shape[1:]) for a in self.arrays)) * times
        step = max(1, min(MOST_NUMBERS // width, most // times))
        if step >= self.rows:
            yield slice(0, self.rows), self.arrays
            return
        for start in range(0, self.rows, step):
            rows = slice(start, min(start + step, self.rows))
            yield rows, [a[rows] for a in self.arrays]

    @functools.cached_property
    def data(self) -> Any:
        """The inputs, nested as they were given."""
        return self.nested(self.arrays)

    def nested(self, leaves: Sequence[Any]) -> Any:
        """One array for each input, nested as the inputs are."""
        return fill(self.layout.structures[0], iter(leaves))

    def zeros(self) -> list[Array]:
        """Arrays for attributions of each input."""
        return [np.zeros(a.shape, np.float32) for a in self.arrays]

    def each(self, baselines: Sequence[Array], rows: slice) -> list[Array]:
        """Baselines with a row for each row of a block."""
        count = rows.stop - rows.start
        return [
            b
            if len(b) == count and count in (1, self.rows)
            else b[rows]
            if len(b) == self.rows
            else np.repeat(b, count, 0)
            for b in baselines
        ]

    @property
    def names(self) -> list[str]:
        """What the inputs are called."""
        graph = getattr(self.model, "_graph", None)
        if len(self.arrays) == 1:
            return ["the input"]
        if graph is not None and len(graph.inputs) == len(self.arrays):
            return [f"input {tensor.name!r}" for tensor in graph.inputs]
        return [f"input {i}" for i in range(len(self.arrays))]

    def checks(self, function: Any, target: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        """The sanity check of what ``function(model, x, target, **options)`` has explained."""
        from handmill.explanation.sanity_checks import sanity_check

        return (functools.partial(sanity_check, function, self.model, self.given, target, options),)

    def explanation(self, values: Sequence[Array], **fields: Any) -> Explanation:
        """The result of the method. Where the score is no number, the values are none."""
        for row in self.wrong:
            for array in values:
                array[row] = np.nan
        found = Explanation(
            values=self.nested(values),
            data=self.data,
            method=self.method,
            scores=self.scores,
            score=self.score,
            targets=self.targets.names,
            classes=self.targets.classes,
            feature_names=self.feature_names,
            **fields,
        )
        host = self.model._host
        if host is not None and len(values) == 1 and values[0].shape == self.arrays[0].shape:
            words = host.words(self.arrays[0])
            if words is not None:
                found.details["words"] = words
        return found


def model_of(method: str, model: Any) -> Any:
    """Returns the handmill model that a method of gradients needs.

    Raises:
        TypeError: if there is none.
    """
    from handmill.models import Model

    if isinstance(model, Model):
        return model
    if hasattr(model, "model_"):
        model = model.model_
    elif hasattr(model, "to_model"):
        model = model.to_model()
    if not isinstance(model, Model):
        raise TypeError(
            f"{method} follows gradients through a handmill model, received "
            f"{type(model).__name__}: for other models use a method that only asks for answers, "
            "such as occlusion, lime, shap or permutation_importance"
        )
    return model


def check_at_rest(method: str, model: Any) -> None:
    """Refuses a model that another thread trains: its weights would change on the way."""
    fitting = getattr(model, "_fitting", 0)
    if fitting and fitting != threading.get_ident():
        raise RuntimeError(
            f"{method}: model {model.name!r} is being trained in another thread; wait for fit() to "
            "return, or explain a copy: copy = clone_model(model), copy.set_weights(...)"
        )


def _check_ranks(model: Any, arrays: Sequence[Array]) -> None:
    graph = getattr(model, "_graph", None)
    if graph is None or len(graph.inputs) != len(arrays):
        return
    for array, tensor in zip(arrays, graph.inputs, strict=True):
        shape = tuple(tensor.shape[1:])
        missing = len(shape) + 1 - array.ndim
        is_grey = len(shape) == 3 and shape[-1] == 1
        if missing == 2 and is_grey:
            hint = "one image needs axes for the batch and the channel, x[None, ..., None]"
        elif missing == 1 and is_grey and array.shape[-1] != 1:
            hint = "grey images need an axis for the channel, x[..., None]"
        elif missing == 1:
            hint = "one row needs an axis for the batch, x[None]"
        else:
            continue
        raise ValueError(
            f"the model takes rows of shape {shape}, received an array of shape {array.shape}: "
            f"{hint}"
        )


def _has_binary_loss(model: Any) -> bool:
    """Whether a single output without a sigmoid is a logit, by the loss that it was trained on."""
    loss = getattr(model, "loss", None)
    if loss is None or isinstance(loss, str):
        return False
    from handmill.losses import BinaryCrossentropy, BinaryFocalCrossentropy

    kinds = (BinaryCrossentropy, BinaryFocalCrossentropy)
    return isinstance(loss, kinds) and bool(getattr(loss, "from_logits", False))


def baselines_for(asked: Asked, baseline: Any) -> list[Array]:
    """The baseline of each input: an array of one row, or one for each row.

    Args:
        asked: what is explained.
        baseline: None, a number, ``"black"``, ``"mean"``, ``"blur"``, an array of one row or of as
            many as are explained, or these nested as the inputs are.
    """
    if baseline is None or isinstance(baseline, str | int | float | np.number):
        parts = [baseline] * len(asked.arrays)
    elif len(asked.arrays) == 1 and not isinstance(baseline, dict | tuple):
        parts = [baseline]
    else:
        parts = [p for p in tree.flatten(baseline)]
        if len(parts) != len(asked.arrays):
            raise ValueError(
                f"`baseline` holds {len(parts)} arrays, but the model has {len(asked.arrays)} "
                "inputs"
            )
    return [
        _baseline(asked, x, part, is_embedded)
        for x, part, is_embedded in zip(asked.arrays, parts, asked.at_layers, strict=True)
    ]


def _baseline(asked: Asked, x: Array, given: Any, embedded: bool) -> Array:
    shape = (1, *x.shape[1:])
    if given is None:
        if x.ndim == 2 and not embedded:
            raise ValueError(
                f"{asked.method}: a table needs a `baseline` to compare with, such as "
                "x_train.mean(0), rows of the training data, or 0 where 0 means nothing"
            )
        given = 0
    if isinstance(given, str):
        if x.ndim < 3:
            raise ValueError(f"baseline={given!r} is for images; pass an array, or 0")
        if given not in _IMAGE_BASELINES:
            raise ValueError(
                f"`baseline` must be an array, a number, or one of {list(_IMAGE_BASELINES)}. "
                f"Received: {given!r}"
            )
        return _IMAGE_BASELINES[given](x.astype(np.float32)).astype(x.dtype)
    if type(given) in (int, float):
        if not math.isfinite(given):
            raise ValueError(f"`baseline` must hold finite numbers. Received: {given}")
        filled = np.empty(shape, x.dtype)
        filled.fill(given)
        return filled
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`baseline` must hold numbers, got dtype {array.dtype}")
    check_finite_rows("baseline", [array.reshape(1, 1) if array.ndim == 0 else array])
    if array.ndim == x.ndim - 1 or array.ndim == 0:
        array = array[None]
    if array.size == 1:
        array = np.broadcast_to(array.reshape(-1)[0], shape)
    if array.shape not in (shape, x.shape):
        raise ValueError(
            f"`baseline` has the shape {np.shape(given)}, expected {shape[1:]} (one for all rows) "
            f"or {x.shape}"
        )
    return np.ascontiguousarray(array, x.dtype)


def _black(x: Array) -> Array:
    return np.zeros((1, *x.shape[1:]), np.float32)


def _mean(x: Array) -> Array:
    axes = tuple(range(1, x.ndim - 1))
    return np.broadcast_to(x.mean(axes, keepdims=True), x.shape)


def _blur(x: Array) -> Array:
    """Images after a Gaussian of a tenth of their side."""
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        at = np.arange(size, dtype=np.float32)
        weights = np.exp(-((at[:, None] - at) ** 2) / (2 * max(size / 10, 0.5) ** 2))
        weights /= weights.sum(1, keepdims=True)
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return x


_IMAGE_BASELINES: dict[str, Callable[[Array], Array]] = {
    "black": _black,
    "mean": _mean,
    "blur": _blur,
}
