"""Any model as a function from rows to the numbers that are explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.explanation.composition import Composer, rows_of_block
from handmill.explanation.players import Players
from handmill.explanation.targets import Targets, targets_for
from handmill.ir.op import Array
from handmill.runtime.composed_feed import ComposedFeed

_FEW = 256  # rows that are copied to stand in one array with others


class BlackBox:
    """A handmill model, an object with ``predict``, or a function, asked for outputs of rows.

    Args:
        model: a handmill model; an estimator (``predict_proba``, or else ``predict``); or a
            function that takes rows and returns one or more numbers for each.
        structure: rows, nested as the model takes them; only the nesting counts.

    Attributes:
        kind: ``"classes"``, ``"binary"`` or ``"number"``, as :func:`targets_for` takes it.
        is_planned: whether calls are programs, for which small batches cost nothing.
        evaluations: how many rows the model was asked for.
    """

    def __init__(self, model: Any, structure: Any) -> None:
        from handmill.models.prediction import Predicting

        self.is_planned = isinstance(model, Predicting)
        self._nesting = None
        if tree.is_nested(structure):
            self._nesting = tree.map_structure(lambda _: None, structure)
        self._model = model
        self._call = _function_of(model, self.is_planned)
        self._reduce: Callable[[Any], Any] | None = None
        self.kind = "classes"
        self.evaluations = 0

    def nested(self, arrays: Sequence[Array]) -> Any:
        """Returns arrays nested as the inputs are."""
        if self._nesting is None:
            return arrays[0]
        return tree.pack_sequence_as(self._nesting, list(arrays))

    def outputs(self, arrays: Sequence[Array]) -> Array:
        """The model's outputs for rows: (rows, outputs).

        Raises:
            ValueError: unless it returns one or more numbers for each row.
        """
        rows = len(arrays[0])
        self.evaluations += rows
        if not self.is_planned:  # a function may overwrite what it is given
            arrays = [array.copy() for array in arrays]
        return self.checked(self._call(self.nested(arrays)), rows)

    def checked(self, found: Any, rows: int) -> Array:
        """What a model returned for so many rows as (rows, outputs).

        Raises:
            ValueError: unless it is one or more numbers for each row.
        """
        if self._reduce is not None:
            found = self._reduce(found)
        if type(found) is not np.ndarray:
            found = self._as_array(found)
        if found.ndim == 1:
            found = found[:, None]
        if found.ndim == 2 and not found.shape[1] and len(found) == rows:
            raise ValueError(f"the model returned no number for any of {rows} rows: {found.shape}")
        if found.ndim != 2 or len(found) != rows or found.dtype.kind not in "fiub":
            raise ValueError(self._refusal(found, rows))
        return np.asarray(found)

    def all_outputs(self, arrays: Sequence[Array]) -> Array:
        """The outputs for many rows, asked for in blocks."""
        size = rows_of_block(arrays, self.is_planned)
        count = len(arrays[0])
        if count <= size:
            return self.outputs(arrays)
        return np.concatenate(
            [
                np.array(self.outputs([a[i : i + size] for a in arrays]))
                for i in range(0, count, size)
            ]
        )

    def explain(
        self,
        arrays: Sequence[Array],
        target: Any,
        class_names: Sequence[str] | None,
        others: Sequence[Array] | None = None,
    ) -> tuple[Targets, Array, Array]:
        """Asks for the rows explained, and for others, if there are some, in the same call.

        Returns:
            What the target means, the scores of the rows, the outputs for the others.

        Raises:
            ValueError: for a target that the outputs do not have, and for a row of finite numbers
                whose score is not finite.
            RuntimeError: if another thread trains the model.
        """
        self.check_at_rest()
        if callable(target):
            self._reduce = target
        count = len(arrays[0])
        if others is None or count > _FEW:
            outputs = self.all_outputs(arrays) if count else np.zeros((0, 1))
            more = outputs[:0] if others is None else self.all_outputs(others)
        else:
            both = [np.concatenate(pair) for pair in zip(arrays, others, strict=True)]
            found = self.all_outputs(both)
            outputs, more = found[:count], found[count:]
        if callable(target):
            if outputs.shape[1] != 1:
                raise ValueError(
                    "a function as `target` must return one number for each row of outputs. It "
                    f"returned the shape {outputs.shape}"
                )
            target, self.kind = None, "number"
        elif outputs.shape[1] == 1:
            self.kind = "binary" if self.is_binary() else "number"
        if not count:
            none = np.zeros((0, 1), np.float32)
            return Targets(none, none[:, 0], None, ()), np.zeros(0), more
        targets = targets_for(target, outputs, self.kind, class_names)
        scores = targets.scores(outputs)
        self.check_finite(arrays, scores)
        return targets, scores, more

    @staticmethod
    def check_finite(arrays: Sequence[Array], scores: Array) -> None:
        """Refuses a row of finite numbers whose score is not finite."""
        if all(map(math.isfinite, scores.tolist())):
            return
        for row in np.flatnonzero(~np.isfinite(scores)):
            if all(a.dtype.kind not in "fc" or np.isfinite(a[row]).all() for a in arrays):
                raise ValueError(
                    f"the model returned {scores[row]} for row {row}, whose inputs are finite: "
                    "there is nothing to explain. Look at it with handmill.inspect"
                )

    def check_at_rest(self) -> None:
        """Refuses a model that another thread trains."""
        if getattr(self._model, "_fitting", 0):
            from handmill.explanation.asked import check_at_rest

            check_at_rest("the explanation", self._model)

    def scoring(self, targets: Targets, row: int) -> Score:
        """What gives blocks of rows the score that is explained of row ``row``."""
        return Score(self, targets.seeds[row].astype(np.float64), float(targets.offset[row]))

    def composer(self, players: Players, background: Sequence[Array]) -> Composer:
        """What asks for coalitions of players against rows of a background."""
        return Composer(players, background, self._program(background), self.is_planned)

    def _program(self, arrays: Sequence[Array]) -> _Program | None:
        """The program behind ``predict``, if there is nothing else."""
        if not self.is_planned:
            return None
        predictor = self._model._row_predictor(self.nested(arrays))
        specs = None
        if predictor is not None:
            specs = predictor.function.output_specs(arrays)
        return None if specs is None else _Program(self, predictor, arrays, specs)

    def is_binary(self) -> bool:
        """Whether the last layer is a sigmoid: one output is then the probability of class 1."""
        if not self.is_planned:
            return False
        layers = getattr(self._model, "layers", None) or [None]
        activation = getattr(layers[-1], "activation", None)
        return getattr(activation, "__name__", "") == "sigmoid"

    def _as_array(self, found: Any) -> Array:
        if isinstance(found, dict) or (
            isinstance(found, list | tuple)
            and len(found)
            and all(isinstance(part, np.ndarray) and part.ndim for part in found)
            and self.is_planned
        ):
            raise ValueError(
                f"the model has {len(found)} outputs: say which number is explained with a "
                "function as `target`, such as target=lambda outputs: outputs[0][:, 3]"
            )
        return np.asarray(found)

    def _refusal(self, found: Array, rows: int) -> str:
        if found.ndim and len(found) == rows and found.dtype.kind not in "fiub":
            return (
                f"the model returned {found.dtype} values; an explanation needs numbers: pass a "
                "function that returns them, such as model.predict_proba"
            )
        return (
            f"the model returned the shape {found.shape} for {rows} rows; expected ({rows},) or "
            f"({rows}, outputs). Say which number is explained with a function as `target`, such "
            "as target=lambda outputs: outputs[:, -1]"
        )


class Score:
    """The number that is explained: a sum of factors times outputs.

    Args:
        box: the model.
        seeds: a factor for each output.
        offset: is added.
    """

    def __init__(self, box: BlackBox, seeds: Array, offset: float) -> None:
        self._box = box
        columns = seeds.nonzero()[0]
        self._terms = list(zip(seeds[columns].tolist(), columns.tolist(), strict=True))
        self._offset = offset

    def __call__(self, arrays: Sequence[Array]) -> Array:
        """Asks for the scores of rows, float64."""
        return self._sum(self._box.outputs(arrays))

    def of(self, outputs: Any, rows: int) -> Array:
        """The scores of what the model returned for so many rows."""
        return self._sum(self._box.checked(outputs, rows))

    def _sum(self, outputs: Array) -> Array:
        if len(self._terms) == 1 and self._terms[0][0] == 1 and not self._offset:
            return outputs[:, self._terms[0][1]].astype(np.float64)
        found = np.full(len(outputs), self._offset)
        for factor, column in self._terms:
            found += factor * outputs[:, column]
        return found


class _Program:
    """A model's prediction, which composes its batches by itself."""

    def __init__(self, box: BlackBox, predictor: Any, arrays: Sequence[Array], specs: Any) -> None:
        self._box = box
        self._function = predictor.function
        self._nesting = predictor.nesting(arrays)
        self._specs = [(shape[1:], dtype) for shape, dtype in specs]

    def buffers(self, rows: int) -> list[Array]:
        """Arrays for the outputs of so many rows."""
        return [np.empty((rows, *shape), dtype) for shape, dtype in self._specs]

    def run(self, feed: ComposedFeed, batch: int, steps: int) -> None:
        """Runs batches; their outputs go where the feed collects them."""
        self._box.evaluations += batch * steps
        while steps:
            steps -= self._function.run_fed(feed, batch, steps)

    def nested(self, outputs: Sequence[Array]) -> Any:
        """The outputs as the model nests them."""
        if self._nesting is None:
            return outputs[0]
        return tree.pack_sequence_as(self._nesting, list(outputs))


def _function_of(model: Any, is_planned: bool) -> Callable[[Any], Any]:
    if is_planned:
        return lambda x: model.predict(x, batch_size=len(tree.flatten(x)[0]), verbose=0)
    for name in ("predict_proba", "predict"):
        if callable(getattr(model, name, None)):
            return getattr(model, name)  # type: ignore[no-any-return]
    if callable(model):
        return model  # type: ignore[no-any-return]
    raise TypeError(
        f"`model` must be a model, an object with predict(), or a function of rows. Received: "
        f"{type(model).__name__}"
    )
