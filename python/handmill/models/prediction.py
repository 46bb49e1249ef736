"""Prediction: whole data sets, batch by batch, or into arrays that are there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from handmill import config, tree
from handmill.callbacks.callback_list import CallbackList
from handmill.data.batches import unpack_x_y_sample_weight
from handmill.errors import RowError, ShapeError, clean_traceback
from handmill.ir.op import Array
from handmill.layers.masks import warn_of_blank_rows
from handmill.models import loop
from handmill.models.checked_arguments import checked_batch_size
from handmill.models.data_adapters import (
    check_rows,
    is_arrays,
    make_data,
)
from handmill.models.distributed import CURRENT
from handmill.models.layout import Layout, has_sparse, key_of, split
from handmill.models.steps import EagerPredictor, Predictor, StepFunction, joined, nested


class Predicting:
    """What models add to layers for inference."""

    def __init__(self) -> None:
        self.stop_predicting = False
        self.predict_function: Any = None
        self._run_eagerly = False
        self._predictors: dict[Any, Predictor] = {}

    _host: Any = None
    """Of models whose inputs are strings, what makes numbers of them (models/host_part.py)."""

    def _as_numbers(self, x: Any) -> Any:
        """Returns inputs with numbers for the strings that the model takes, if it takes strings."""
        return x if self._host is None else self._host.of_data(x)

    def predict_step(self, data: Any) -> Any:
        """Predicts one batch; ``predict`` and its siblings run it. Subclasses may override it.

        Args:
            data: a batch: ``x``, or a tuple that begins with it.

        Returns:
            The outputs, nested in any way.
        """
        x, _, _ = unpack_x_y_sample_weight(data)
        return self(x, training=False)  # type: ignore[operator]

    def make_predict_function(self, force: bool = False) -> Any:
        """Returns what ``predict`` calls for each step: it takes a list of one batch.

        An override sets ``predict_function`` to a function that takes such a list and returns the
        outputs; it is then called by Python for each step.

        Args:
            force: whether the step is traced anew.
        """
        if self.predict_function is None or force:
            self._predictors = {}
            self.predict_function = StepFunction(self, "predict")
        return self.predict_function

    def _predicts_as_program(self) -> bool:
        """Whether prediction is one program; makes the function that predicts."""
        self.make_predict_function()
        return type(self.predict_function) is StepFunction and not self._run_eagerly

    def _predictor(self, layout: Layout, may_be_own: bool = True) -> Predictor:
        """Returns the prediction for a layout of inputs.

        Args:
            layout: how the arrays of a batch lie.
            may_be_own: whether ``predict_function`` of the model decides.
        """
        function = self.predict_function if may_be_own else None
        is_own = function is not None and type(function) is not StepFunction
        key = layout.key[0], is_own
        found = self._predictors.get(key)
        if found is None:
            if is_own:
                found = EagerPredictor(self, layout, function)
            else:
                found = (EagerPredictor if self._run_eagerly else Predictor)(self, layout)
            found = self._predictors.setdefault(key, found)
        return found

    @clean_traceback
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        out: Any = None,
    ) -> Any:
        """Returns the outputs for all rows of ``x``, nested as the model's outputs are.

        Several threads may predict with one model at the same time.

        Args:
            x: inputs, as for :meth:`fit`.
            batch_size: rows of a batch; default 32.
            verbose: 0 silent, 1 a progress line, 2 one line.
            steps: steps at most.
            callbacks: callbacks.
            out: arrays that the outputs are written into and that are returned: one for each
                output, nested as the outputs are, C-contiguous, of their shape and dtype. It is
                handmill's addition to Keras.

        Raises:
            ValueError: for data that do not fit, and for an ``out`` that does not, which is left
                as it was.

        Example:
            >>> import numpy as np, handmill
            >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
            >>> scores = np.empty((100, 3), "float32")
            >>> model.predict(np.ones((100, 4), "float32"), verbose=0, out=scores) is scores
            True
        """
        planned = self._predicts_as_program()
        if type(x) is dict:
            warn_of_blank_rows(self, x.items())
        if self._host is not None or not self.built:  # type: ignore[attr-defined]
            x = self._as_numbers(x)
        plain = callbacks is None and verbose == 0 and steps is None and planned
        dense = type(x) is np.ndarray or (is_arrays(x) and not has_sparse(x))
        if plain and dense and config.max_steps_per_epoch() is None:
            size = checked_batch_size(batch_size)
            layout, arrays = split(x, None, None)
            rows = check_rows(layout, arrays)
            return self._predict_rows(self._predictor(layout), arrays, rows, size, out)
        found = self._predict_with_callbacks(x, batch_size, verbose, steps, callbacks)
        if out is None:
            return found
        wanted = [(a.shape, a.dtype) for a in tree.flatten(found)]
        given = _checked_out(out, tree.map_structure(lambda _: None, found), wanted)
        for array, result in zip(given, tree.flatten(found), strict=True):
            np.copyto(array, result)
        return out

    def _row_predictor(self, x: Any) -> Predictor | None:
        """The program that predicts rows like those of ``x``, if ``predict`` does nothing else.

        Args:
            x: inputs, nested as the model takes them.
        """
        is_own = type(self).predict is not Predicting.predict
        if is_own or self._host is not None or not self.built:  # type: ignore[attr-defined]
            return None
        if not self._predicts_as_program() or config.max_steps_per_epoch() is not None:
            return None
        layout, _ = split(x, None, None)
        return self._predictor(layout)

    def predict_iter(
        self, x: Any, batch_size: int | None = None, steps: int | None = None
    ) -> Iterator[Any]:
        """Yields the outputs batch after batch; neither inputs nor outputs are kept.

        Args:
            x: arrays, or something that makes batches: a generator, a PyDataset, an image
                iterator. Of batches ``(x, y)`` or ``(x, y, sample_weight)`` only ``x`` counts.
            batch_size: rows of a batch of arrays; default 32. What makes batches decides itself.
            steps: batches at most.

        Returns:
            An iterator of outputs, nested as the model's outputs are. Batches are asked for when
            the outputs before them have been taken.

        Raises:
            ValueError: at once for arguments that do not fit; when a batch is reached, for that.

        Example:
            >>> import numpy as np, handmill
            >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
            >>> batches = (np.ones((n, 4), "float32") for n in (2, 5))
            >>> [scores.shape for scores in model.predict_iter(batches)]
            [(2, 3), (5, 3)]
        """
        size = batch_size if is_arrays(x) else None
        data = make_data(self._as_numbers(x), None, None, size, steps, False, None, None)
        if batch_size != size:
            raise ValueError(
                f"`batch_size` goes with arrays; a {type(x).__name__} makes batches of its own "
                f"size. Received batch_size={batch_size!r}: leave it out."
            )
        return self._stream(data)

    def _stream(self, data: Any) -> Iterator[Any]:
        data.begin_epoch()
        done, limit = 0, data.num_batches
        while limit is None or done < limit:
            portion = data.next_portion(done)
            if portion is None:
                return
            predictor, arrays = self._predictor(portion.layout), portion.take()
            try:
                outputs = predictor(arrays)
            except (RowError, ShapeError) as error:
                raise portion.explained(error)  # noqa: B904  (the same error, with the place)
            yield nested(predictor.nesting(arrays), outputs)
            done += 1

    @clean_traceback
    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch."""
        self.make_predict_function()
        return self._predict_batch(x)

    def _predict_batch(self, x: Any, may_be_own: bool = True) -> Any:
        layout, arrays = split(self._as_numbers(x), None, None)
        check_rows(layout, arrays)
        predictor = self._predictor(layout, may_be_own)
        outputs = predictor(arrays)
        return nested(predictor.nesting(arrays), outputs)

    def _predict_rows(
        self, predictor: Predictor, arrays: list[Array], rows: int, size: int, out: Any
    ) -> Any:
        if rows <= size and out is None:
            found = predictor(arrays)
            return nested(predictor.nesting(arrays), found)
        # By a batch: a model may hold the number of its rows.
        wanted = predictor.function.output_specs([a[:size] for a in arrays])
        if wanted is None:  # outputs that are no rows: as Keras joins them
            parts = [predictor([a[i : i + size] for a in arrays]) for i in range(0, rows, size)]
            whole = joined(parts)
            nesting = predictor.nesting(arrays)
            if out is None:
                return nested(nesting, whole)
            wanted = [(a.shape, a.dtype) for a in whole]
            outputs = _checked_out(out, nesting, wanted)
            for array, result in zip(outputs, whole, strict=True):
                np.copyto(array, result)
            return out
        wanted = [((rows, *shape[1:]), dtype) for shape, dtype in wanted]
        if out is None:
            outputs = [np.empty(shape, dtype) for shape, dtype in wanted]
        else:
            outputs = _checked_out(out, predictor.nesting(arrays), wanted)
            arrays = [
                a.copy() if any(np.may_share_memory(a, o) for o in outputs) else a for a in arrays
            ]

        def run(start: int) -> None:
            stop = start + size
            try:
                predictor.function.run_into(
                    [a[start:stop] for a in arrays], [o[start:stop] for o in outputs]
                )
            except RowError as error:
                raise RowError(error.problem, start + error.row) from None

        if CURRENT.distribution is not None:
            CURRENT.distribution.predict(run, rows, size, outputs)
        else:
            for start in range(0, rows, size):
                run(start)
        return nested(predictor.nesting(arrays), outputs) if out is None else out

    def _predict_with_callbacks(
        self, x: Any, batch_size: int | None, verbose: Any, steps: int | None, callbacks: Any
    ) -> Any:
        data = make_data(x, None, None, batch_size, steps, False, None, None)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                model=self if callbacks else None,
                verbose=verbose,
                epochs=1,
                steps=data.num_batches,
            )
        return loop.predict(self, data, callbacks)


def _checked_out(
    out: Any, structure: Any, wanted: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[Array]:
    """Returns the arrays of ``out``, flat.

    Raises:
        ValueError: unless results of the ``wanted`` shapes and dtypes can be written there.
    """
    given = tree.flatten(out)
    if key_of(tree.map_structure(lambda _: 0, out)) != key_of(
        tree.map_structure(lambda _: 0, structure)
    ):
        raise ValueError(
            f"`out` must be nested as the outputs of the model are: expected {len(wanted)} "
            f"array(s) as {_shown(structure)}, received {_shown(out)}"
        )
    for i, (array, (shape, dtype)) in enumerate(zip(given, wanted, strict=True)):
        name = "`out`" if len(wanted) == 1 else f"array {i} of `out`"
        hint = f"pass numpy.empty({shape}, {dtype.name!r})"
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} must be a NumPy array, received {type(array)}; {hint}")
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{name} must have shape {shape} and dtype {dtype.name}, received shape "
                f"{array.shape} and dtype {array.dtype}; {hint}"
            )
        if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            problem = "read-only" if not array.flags.writeable else "not C-contiguous"
            raise ValueError(f"{name} is {problem}, so nothing can be written into it; {hint}")
    if any(np.may_share_memory(a, b) for i, a in enumerate(given) for b in given[:i]):
        raise ValueError("arrays of `out` overlap each other; pass a separate one for each output")
    return given


def _shown(structure: Any) -> str:
    return str(tree.map_structure(lambda _: "*", structure)).replace("'*'", "*")
