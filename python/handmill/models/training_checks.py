"""Warnings from numbers seen in training that usually mean a mistake."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import activations, ops, tree
from handmill.errors import TrainingWarning, warn_caller
from handmill.ir.op import Array
from handmill.layers.activations.softmax import Softmax
from handmill.layers.context import CONTEXT, collected_losses
from handmill.layers.eager import names_for
from handmill.layers.layer import all_layers
from handmill.layers.masks import blank_rows, is_mask_name, warn_of_blank_rows
from handmill.layers.normalization.batch_normalization import BatchNormalization
from handmill.layers.preprocessing.rescaling import Rescaling
from handmill.models.data_adapters import ArrayData
from handmill.models.input_scale import scale_problem
from handmill.models.layout import fill
from handmill.runtime import watch
from handmill.runtime.function import Outputs, TracedFunction

FAR_ABOVE = 4.0
"""A first loss of so many times the loss of guessing is far above it."""
NOT_BELOW = 0.98
"""A loss of at least so much of the loss of guessing is not below it."""
STEPS_TO_LEARN = 20
"""Epochs of fewer steps are not judged."""
SETTLED = 0.05
"""The part that running statistics may still hold of their first values when units are judged."""
MOSTLY_DEAD = 0.5
"""Layers with at least this part of their units dead are named."""


class TrainingChecks:
    """Watches one ``fit``. Each warning is given at most once.

    Args:
        model: the model.
        x: the data, as ``fit`` was given them.
    """

    def __init__(self, model: Any, x: Any) -> None:
        self.model = model
        self.given: set[str] = set()
        self.first_batch: list[Array] | None = None
        self._data: Any = None
        self._half: tuple[float, float] | None = None
        self.looks = not getattr(model, "_was_checked", False)
        if getattr(x, "augments", False):
            model._augmenting = weakref.ref(x)

    def start_epoch(self, run: Any, data: Any, first: bool) -> None:
        """Counts steps anew; asks for a look at the first step of the first epoch."""
        for step in self.model._steps.values():
            if step.training:
                step.reset()
        if first:
            self._data = data
            run.first = self._after_first_step
            if (data.num_batches or STEPS_TO_LEARN) >= STEPS_TO_LEARN:
                run.halfway = self._at_half

    def _after_first_step(self, arrays: list[Array]) -> None:
        objective = self.model.objective
        if arrays[2:]:  # a mask, what it belongs to, and targets
            self._look_at_masks(arrays)
        if not self.model._logits_checked:
            self.model._logits_checked = True
            for text in _mistaken_logits(self.model):
                self._warn(text, text)
        if self.model._trained[1] != watch.now:  # a layer was touched
            self._look_at_trainable()
        is_whole = getattr(self.model, "_host", None) is None
        problem = scale_problem(self.model, arrays) if is_whole else None
        if problem is not None:
            self._warn("scale of images", problem)
        guess = objective.guess
        if guess is None:
            return
        loss = float(objective.tracker.result())
        if loss > FAR_ABOVE * guess:
            self.looks = True
            self._warn(
                "first loss",
                f"the first loss, {loss:.4g}, is far above guessing ({guess:.4g})."
                + _range_of_inputs(self.model, arrays[0]),
            )

    def _look_at_masks(self, arrays: list[Array]) -> None:
        """Names the first row that a mask among the inputs leaves out as a whole."""
        layout = next((s.layout for s in self.model._steps.values() if s.training), None)
        masks = [] if layout is None else _masks_among(self.model, layout)
        if not masks:
            return
        whole = self._data.whole() if hasattr(self._data, "whole") else None
        for place, name in masks:
            problem = blank_rows(name, (arrays if whole is None else whole)[place])
            if problem is not None:
                self._warn("mask", problem)

    def _look_at_trainable(self) -> None:
        """A traced step trains what was trainable when the model was compiled, as in Keras."""
        before = self.model._trained[0]
        now = frozenset(id(v) for v in self.model.trainable_variables)
        steps = self.model._steps.values()
        if before is None or not any(getattr(step, "ignores_trainable", False) for step in steps):
            self.model._trained = now, watch.now
        elif now != before:
            changes = ((now - before, "thawed"), (before - now, "frozen"))
            said = " and ".join(f"{len(some)} {what}" for some, what in changes if some)
            self._warn(
                "trainable",
                f"of its weights {said} since compile(): `trainable` takes effect when it is "
                "called again; until then training goes on as before.",
            )

    def _at_half(self) -> None:
        tracker = self.model.objective.tracker
        self._half = float(tracker.total.read()), float(tracker.count.read())

    def _late_loss(self) -> float:
        """The mean loss of the second half of the epoch: the start is often high."""
        tracker = self.model.objective.tracker
        total, count = float(tracker.total.read()), float(tracker.count.read())
        if self._half is not None and count > self._half[1]:
            total, count = total - self._half[0], count - self._half[1]
        return total / count if count else 0.0

    def end_epoch(self, run: Any, steps: int, logs: dict[str, Any], data: Any, first: bool) -> None:
        """Looks at the numbers of an epoch."""
        loss = logs.get("loss", 0.0)
        if isinstance(loss, float) and not math.isfinite(loss):
            self._warn_of_nan(run, data, steps, loss)
            return
        if not first:
            return
        guess = self.model.objective.guess
        judged = guess is not None and steps >= STEPS_TO_LEARN
        if judged and (loss := self._late_loss()) >= NOT_BELOW * guess:
            self.looks = True
            how = "not" if loss >= guess else "hardly"
            self._warn(
                "not below guessing",
                f"after {steps} steps the loss, {loss:.4g}, is {how} below guessing ({guess:.4g}): "
                "the model has learnt next to nothing yet. Look at the range of the inputs, the "
                "learning rate, and whether labels belong to their inputs.",
            )
        if self.looks and run.last.is_standard and _statistics_have_settled(self.model):
            self.model._was_checked = True
            self._look_for_dead_units(data)

    def _source_of_nan(self, run: Any, data: Any, number: int) -> str:
        """Which operator it came from, where a monitor has kept the state before the epoch."""
        monitor, step = self.model._health_monitor, getattr(run.last, "plain", None)
        whole = isinstance(data, ArrayData) and data.steps is None
        if step is None or not whole or "nan" in self.given:
            return ""
        from handmill.inspection.non_finite import trace_non_finite

        found = trace_non_finite(self.model, step, data, monitor.before, number)
        if found is None:
            return " Values and gradients were finite before: the update left the range of numbers."
        return f" {found[0].upper()}{found[1:]}."

    def _warn_of_nan(self, run: Any, data: Any, steps: int, loss: float) -> None:
        finite = [step.steps_before_nan() for step in self.model._steps.values() if step.training]
        number = min(max(finite, default=0) + 1, steps)
        where = self._source_of_nan(run, data, number)
        where += _row_not_finite(getattr(data, "arrays", ()))
        self._warn(
            "nan",
            f"the loss became {'NaN' if math.isnan(loss) else 'infinite'} at step {number} of the "
            f"epoch.{where} Usual causes: a learning rate that is too large, NaN "
            "or huge numbers in the data, log or division of 0. callbacks.TerminateOnNaN() stops "
            "there.",
        )

    def _look_for_dead_units(self, data: Any) -> None:
        arrays = data.sample(32) if hasattr(data, "sample") else None
        if arrays is None:
            arrays = getattr(data, "last_batch", None)
        if not arrays:
            return
        for name, dead, units in dead_units(self.model, arrays):
            if dead >= MOSTLY_DEAD * units:
                self._warn(
                    f"dead {name}",
                    f"{dead} of {units} ReLU units of layer {name!r} gave 0 for every sample of a "
                    "batch: they are dead, and no gradient reaches their weights."
                    + _range_of_inputs(self.model, arrays[0])
                    + " A smaller learning rate, LeakyReLU or he_normal initial weights help too.",
                )

    def _warn(self, key: str, text: str) -> None:
        if key in self.given:
            return
        self.given.add(key)
        warn_caller(f"model {self.model.name!r}: {text}", TrainingWarning)


def _statistics_have_settled(model: Any) -> bool:
    """Whether inference, by running statistics, tells anything of training, by those of batches."""
    steps = int(np.asarray(model.optimizer.iterations))
    return all(
        layer.momentum**steps <= SETTLED
        for layer in all_layers(model)
        if isinstance(layer, BatchNormalization) and layer.trainable and not layer.statistics_frozen
    )


def _masks_among(model: Any, layout: Any) -> list[tuple[int, str]]:
    """The inputs that are masks, by their name or what takes them: their places and names."""
    given, graph = layout.structures[0], getattr(model, "_graph", None)
    if getattr(model, "_host", None) is not None:
        graph = None
    inputs = [] if graph is None else graph.inputs
    if isinstance(given, dict) and not any(map(tree.is_nested, given.values())):
        names = [key for key in tree.ordered_keys(given) if given[key] is not None]
    else:
        names = [tensor.name for tensor in inputs]
    if len(names) != layout.counts[0]:
        return []
    taken = {
        tensor.name
        for node in ([] if graph is None else graph.nodes)
        for argument, value in node.kwargs.items()
        for tensor in inputs
        if is_mask_name(argument) and value is tensor
    }
    return [(i, name) for i, name in enumerate(names) if is_mask_name(name) or name in taken]


def _mistaken_logits(model: Any) -> list[str]:
    """What does not fit between the losses and the activations of the outputs."""
    graph = getattr(model, "_graph", None)
    given = model.objective.losses
    if graph is None or len(graph.outputs) != len(given):
        return []
    found = []
    for tensor, loss in zip(graph.outputs, given, strict=True):
        from_logits = getattr(loss, "_fn_kwargs", {}).get("from_logits")
        if not from_logits:
            continue
        layer = tensor.history.operation
        is_softmax = isinstance(layer, Softmax)
        activation = activations.softmax if is_softmax else getattr(layer, "activation", None)
        if activation in (activations.softmax, activations.sigmoid):
            found.append(
                f"the loss {loss.name!r} has from_logits=True, but layer {layer.name!r} ends with "
                f"{activation.__name__}, whose results are no logits: leave one of both out."
            )
    return found


def _row_not_finite(arrays: Sequence[Array]) -> str:
    """Names the first row that holds NaN or infinity, if any does."""
    for array in arrays:
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        row = int(np.argmin(finite))
        kind = "NaN" if np.isnan(array[row]).any() else "infinity"
        rows = len(array) - int(np.count_nonzero(finite))
        return f" {rows} of {len(array)} rows of the data are not finite: row {row} has {kind}."
    return ""


def _range_of_inputs(model: Any, x: Array) -> str:
    if text := _row_not_finite([x]):
        return text
    low, high = float(np.min(x)), float(np.max(x))
    text = f" The inputs range from {low:.4g} to {high:.4g}"
    if any(isinstance(layer, Rescaling | BatchNormalization) for layer in model.layers):
        return text + ", before the layers that rescale them."
    if max(abs(low), abs(high)) <= 20:
        return text + "."
    if 100 < high <= 255 and low >= 0:
        return text + (
            "; start the model with layers.Rescaling(1/127.5, offset=-1), or give the "
            "ImageDataGenerator rescale=1/255."
        )
    return text + (
        "; bring them near [-1, 1]: start the model with layers.Rescaling(scale, offset), or "
        "subtract the mean and divide by the standard deviation."
    )


def dead_units(model: Any, arrays: list[Array]) -> list[tuple[str, int, int]]:
    """Returns (layer, dead units, units) for each ReLU layer, on a batch.

    A unit is dead if its output is 0 for every sample.
    """
    if not any(is_relu(layer) for layer in all_layers(model)):
        return []
    layout = next(step.layout for step in model._steps.values() if step.training)
    names = [layer.name for layer in all_layers(model)]
    look = _LargestOutputs(model, layout)
    function = TracedFunction(look.trace, "look_for_dead_units", subject=look)
    inputs = arrays[: layout.counts[0]]
    found = function(*inputs)
    found = found if isinstance(found, tuple) else (found,)
    return [
        (names[number], int(np.sum(array <= 0)), int(array.size))
        for number, array in zip(function.structure_for(inputs), found, strict=True)
    ]


class _LargestOutputs:
    """The largest output of each unit of the ReLU layers, as a program."""

    ignores_trainable = False

    def __init__(self, model: Any, layout: Any) -> None:
        self.model = model
        self.layout = layout

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        return self.model, names_for(self.model, self.layout.structures[0])

    def memo(self, before: Any) -> None:
        """Nothing."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()

    def trace(self, *values: Any) -> Outputs:
        """Returns the largest outputs; remembers the numbers of the layers."""
        numbers = {id(layer): i for i, layer in enumerate(all_layers(self.model))}
        largest, which = [], []

        def note(layer: Any, outputs: Any) -> Any:
            if is_relu(layer) and hasattr(outputs, "spec") and len(outputs.shape) >= 2:
                which.append(numbers[id(layer)])
                axes = tuple(range(len(outputs.shape) - 1))
                largest.append(ops.max(outputs, axis=axes))
            return outputs

        CONTEXT.observer = note
        try:
            with collected_losses():
                x = fill(self.layout.structures[0], iter(values))
                self.model(x, training=False)
        finally:
            CONTEXT.observer = None
        return Outputs(tuple(largest), tuple(which))


def is_relu(layer: Any) -> bool:
    """Whether the output of ``layer`` is that of a ReLU."""
    from handmill.layers.activations.relu import ReLU

    if isinstance(layer, ReLU):
        return not layer.negative_slope
    return getattr(layer, "activation", None) is activations.relu


def warn_of_evaluated(model: Any, x: Any) -> None:
    """Warns of inputs that tell little: the augmenting generator that the model was trained on.

    And of masks among them that leave out all of a row.
    """
    if type(x) is dict:
        warn_of_blank_rows(model, x.items())
    used = getattr(model, "_augmenting", None)
    if used is not None and used() is x:
        warn_caller(
            f"model {model.name!r}: evaluate() was given the augmenting generator that fit() used: "
            "the result is a training accuracy on distorted images; this is not a test accuracy. "
            "Use a generator of images that the model has not seen, without augmentation.",
            TrainingWarning,
        )
