"""The steps of training, evaluation and prediction, as programs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import ops, tree
from handmill.ir.graph import Value
from handmill.ir.trace import mask_of, with_mask
from handmill.layers.layer import CONTEXT
from handmill.metrics import batch_size_of
from handmill.models.layout import Layout, fill, leaves
from handmill.primitives.operands import widened
from handmill.runtime.function import TracedFunction, gradients
from handmill.runtime.variable import Variable

_ZERO = np.zeros((), "float32")
_ONE = np.ones((), "float32")


class Step:
    """One kind of step of one model, for one layout of data.

    Args:
        model: the model.
        layout: how the arrays of a batch lie.
        training: whether weights are updated.
    """

    def __init__(self, model: Any, layout: Layout, training: bool) -> None:
        self.model = model
        self.layout = layout
        self.training = training
        name = "train_step" if training else "test_step"
        self.function = TracedFunction(self._trace, name)
        # How many steps had a finite loss before the first that had not; and 1 until then.
        self.finite_steps = Variable(_ZERO, dtype="float32", trainable=False, name="finite_steps")
        self.alive = Variable(np.ones(()), dtype="float32", trainable=False, name="alive")

    def _trace(self, *values: Any) -> tuple[()]:
        objective = self.model.objective
        was_built = objective.built
        try:
            return self._trace_step(values)
        except BaseException:
            if not was_built:
                objective.forget()
            raise

    def _trace_step(self, values: Sequence[Any]) -> tuple[()]:
        model = self.model
        x, y, sample_weight = self.layout.join(values)
        CONTEXT.losses.append([])
        try:
            y_pred = model(x, training=self.training)
            loss = _loss_of(model, x, y, y_pred, sample_weight, self.training)
        finally:
            CONTEXT.losses.pop()
        if self.training:
            self._update(loss)
        objective = model.objective
        objective.tracker.update_state(loss, sample_weight=batch_size_of(values[0]))
        model.compute_metrics(x, y, y_pred, sample_weight)
        if self.training:
            self._watch(loss)
        return ()

    def _update(self, loss: Any) -> None:
        model = self.model
        if not isinstance(loss, Value):
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`, or add a loss with "
                "`add_loss()`."
            )
        variables = model.trainable_variables
        if not variables:
            return
        optimizer = model.optimizer
        found = gradients(optimizer.scale_loss(loss), variables)
        optimizer.apply(found, variables)

    def _watch(self, loss: Any) -> None:
        alive = ops.multiply(self.alive.value, ops.cast(ops.isfinite(loss), "float32"))
        self.alive.assign(alive)
        self.finite_steps.assign(ops.add(self.finite_steps.value, alive))

    def reset(self) -> None:
        """Starts the count of finite steps again."""
        self.finite_steps.state.write(_ZERO)
        self.alive.state.write(_ONE)


@functools.lru_cache(maxsize=64)
def _takes_training(compute_loss: Any) -> bool:
    return "training" in inspect.signature(compute_loss).parameters


def _loss_of(model: Any, x: Any, y: Any, y_pred: Any, weight: Any, training: bool) -> Any:
    """The loss; overrides of ``compute_loss`` may lack the argument ``training``."""
    arguments = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": weight}
    compute_loss = model.compute_loss
    if _takes_training(getattr(compute_loss, "__func__", compute_loss)):
        arguments["training"] = training
    return compute_loss(**arguments)


class Predictor:
    """The prediction of a model for one layout of inputs.

    Args:
        model: the model.
        layout: how the arrays of a batch lie; targets and weights are left out.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self.model = model
        self.layout = layout
        self.structure: Any = None
        self.function = TracedFunction(self._trace, "predict_step")

    def _trace(self, *values: Any) -> tuple[Any, ...]:
        x = fill(self.layout.structures[0], iter(values))
        CONTEXT.losses.append([])
        try:
            outputs = self.model(x, training=False)
        finally:
            CONTEXT.losses.pop()
        self.structure = tree.map_structure(lambda _: None, outputs)
        return tuple(tree.flatten(outputs))

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the outputs for a batch, flat."""
        found = self.function(*arrays[: self.layout.counts[0]])
        return found if isinstance(found, tuple) else (found,)

    def nested(self, outputs: Sequence[Any]) -> Any:
        """Returns flat outputs nested as the model's are."""
        if self.structure is None:
            return outputs[0]
        return tree.pack_sequence_as(self.structure, list(outputs))


def outputs_of(
    model: Any, y: Any, y_pred: Any, sample_weight: Any
) -> tuple[list[Any], list[Any], list[Any], list[str]]:
    """Returns targets, predictions, sample weights and names, one entry for each output."""
    # Losses and metrics see float32.
    predictions = [with_mask(widened(p), mask_of(p)) for p in tree.flatten(y_pred)]
    names = model.names_of_outputs(y_pred)
    targets = align(y, y_pred, names, "y")
    weights: list[Any] = [None] * len(predictions)
    if sample_weight is not None:
        given = leaves(sample_weight)
        if len(given) == 1 and not isinstance(sample_weight, dict):
            weights = given * len(predictions)
        else:
            weights = align(sample_weight, y_pred, names, "sample_weight")
    return targets, predictions, weights, names


def align(data: Any, y_pred: Any, names: list[str], argument: str) -> list[Any]:
    """Returns ``data`` (nested) as one entry for each output, None where it has none.

    Raises:
        ValueError: if it does not fit the outputs.
    """
    count = len(names)
    if data is None:
        return [None] * count
    if isinstance(data, dict) and not isinstance(y_pred, dict):
        if unknown := sorted(set(data) - set(names)):
            raise ValueError(
                f"`{argument}` has keys {unknown} that are not outputs of the model: {names}"
            )
        return [data.get(name) for name in names]
    if isinstance(data, dict) and isinstance(y_pred, dict):
        return [data.get(key) for key in sorted(y_pred)]
    flat = tree.flatten(data)
    if len(flat) != count:
        raise ValueError(
            f"`{argument}` has {len(flat)} arrays, but the model has {count} outputs: {names}"
        )
    return flat
