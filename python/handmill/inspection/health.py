"""The health of a network in some numbers: dead units, saturation, sizes of gradients.

One program gives them all as one vector; activations and gradients never leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import activations, ops, tree
from handmill.errors import NotDifferentiableError
from handmill.ir.gradient import gradients
from handmill.ir.graph import Value, current_graph
from handmill.ir.op import Array
from handmill.layers.context import CONTEXT, collected_losses
from handmill.layers.eager import names_for
from handmill.layers.layer import all_layers
from handmill.models.layout import split
from handmill.models.model import Model
from handmill.models.objective import loss_of
from handmill.models.training_checks import is_relu
from handmill.runtime.function import Outputs, TracedFunction

SATURATED = {"sigmoid": (0.03, 0.97), "tanh": (-0.97, 0.97)}
"""Outputs outside of these leave next to no gradient."""


@dataclass(frozen=True)
class Reading:
    """One number about a network.

    Attributes:
        kind: ``"dead"``, the share of the units of a ReLU layer that gave 0 for every row;
            ``"saturated"``, the share of outputs outside of :data:`SATURATED`; ``"output"`` and
            ``"output_gradient"``, root mean squares of a layer's outputs and of the loss's gradient
            by them; ``"kernel"`` and ``"kernel_gradient"``, norms; ``"update"``, how far a step
            moved a kernel, in parts of its norm.
        layer: the name of the layer.
        units: how many units the layer has; 0 where that does not matter.
        value: the number.
    """

    kind: str
    layer: str
    units: int
    value: float


def read_health(model: Any, x: Any, y: Any) -> list[Reading]:
    """Measures a compiled model on one batch, in inference mode; nothing is learned.

    Args:
        model: the model.
        x: inputs, all rows of which are one batch.
        y: targets.
    """
    layout, arrays = split(model._as_numbers(x), y, None)
    arrays = [np.ascontiguousarray(a) for a in arrays]
    subject = HealthProgram(model, layout)
    function = TracedFunction(subject.trace, "health", subject=subject)
    found = function(*arrays)
    values = found[0] if isinstance(found, tuple) else found
    return readings(model, function.structure_for(arrays), values)


def readings(model: Any, entries: Sequence[tuple[str, int, int]], values: Array) -> list[Reading]:
    """Names the numbers that a :class:`HealthProgram` gave."""
    names = [layer.name for layer in all_layers(model)]
    return [
        Reading(kind, names[number], units, float(value))
        for (kind, number, units), value in zip(entries, values, strict=True)
    ]


class HealthProgram:
    """The numbers as a program; see :class:`Reading`.

    Args:
        model: a compiled model.
        layout: how the arrays of a batch lie.
    """

    ignores_trainable = False

    def __init__(self, model: Any, layout: Any) -> None:
        self.model = model
        self.layout = layout

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        return self.model, self.model.objective, names_for(self.model, self.layout.structures)

    def memo(self, before: Any) -> Any:
        """How the objective was built."""
        return self.model.objective.built_for

    def prepare(self, memo: Any, before: Any) -> Any:
        """Builds the objective, as a trace does."""
        objective = self.model.objective
        if objective.built:
            return ()
        targets, predictions, names, nesting = memo
        objective.build_for(targets, predictions, names, nesting)
        return objective.variables

    def trace(self, *values: Any) -> Outputs:
        """Returns the numbers as one vector; remembers what they are."""
        vector, entries = self.moments(values)
        return Outputs((vector,), entries)

    def kernels(self) -> list[tuple[int, Any]]:
        """The number of its layer, and the variable, for each kernel that is trained."""
        return [
            (number, v)
            for number, layer in enumerate(all_layers(self.model))
            for v in (layer._own_variables() if layer.trainable else ())
            if v.trainable and len(v.shape) >= 2
        ]

    def moments(self, values: Sequence[Any]) -> tuple[Any, tuple[tuple[str, int, int], ...]]:
        """The numbers as a vector, and for each its kind, the number of the layer, its units."""
        graph = current_graph()
        assert graph is not None  # noqa: S101
        layers = list(all_layers(self.model))
        numbers = {id(layer): i for i, layer in enumerate(layers)}
        seen: list[tuple[Any, Value]] = []

        def note(layer: Any, outputs: Any) -> Any:
            own = () if isinstance(layer, Model) else tree.flatten(outputs)
            for output in own:  # a model's layers speak for themselves
                if isinstance(output, Value) and output.graph is graph and output.spec.is_float:
                    seen.append((layer, output))
            return outputs

        updates = dict(graph.updates)
        before, CONTEXT.observer = CONTEXT.observer, note
        try:
            with collected_losses():
                x, y, weight = self.layout.join(values)
                y_pred = self.model(x, training=False)
                loss = loss_of(self.model, x, y, y_pred, weight, False)
        finally:
            CONTEXT.observer = before
        graph.updates.clear()  # nothing is counted, such as losses of several outputs
        graph.updates.update(updates)
        kernels = self.kernels()
        found: list[tuple[str, int, int, Any]] = []
        for layer, output in seen:
            found += [(*_of(layer, output, numbers[id(layer)]),)] if _kind(layer) else []
            found.append(("output", numbers[id(layer)], 0, _rms(output)))
        outputs = list(dict.fromkeys(output for _, output in seen))
        by = _gradients(graph, loss, [*outputs, *(v.value for _, v in kernels)])
        for layer, output in seen:
            if (gradient := by.get(output)) is not None:
                found.append(("output_gradient", numbers[id(layer)], 0, _rms(gradient)))
        for number, variable in kernels:
            found.append(("kernel", number, 0, _norm(variable.value)))
            if (gradient := by.get(variable.value)) is not None:
                found.append(("kernel_gradient", number, 0, _norm(gradient)))
        return ops.stack([value for *_, value in found]), tuple(f[:3] for f in found)


def _kind(layer: Any) -> str | None:
    if is_relu(layer):
        return "dead"
    activation = getattr(layer, "activation", None)
    if activation is activations.sigmoid:
        return "sigmoid"
    return "tanh" if activation is activations.tanh else None


def _of(layer: Any, output: Value, number: int) -> tuple[str, int, int, Any]:
    units = output.shape[-1] if isinstance(output.shape[-1], int) else 0
    kind = _kind(layer)
    if kind == "dead":
        largest = ops.max(output, axis=tuple(range(len(output.shape) - 1)))
        return "dead", number, units, ops.mean(ops.cast(largest <= 0.0, "float32"))
    low, high = SATURATED[str(kind)]
    outside = ops.logical_or(output < low, output > high)
    return "saturated", number, units, ops.mean(ops.cast(outside, "float32"))


def _rms(value: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(ops.cast(value, "float32"))))


def _norm(value: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(ops.cast(value, "float32"))))


def _gradients(graph: Any, loss: Any, wrt: list[Value]) -> dict[Value, Value | None]:
    if not isinstance(loss, Value):
        return {}
    try:
        return dict(zip(wrt, gradients(graph, loss, wrt), strict=True))
    except NotDifferentiableError:
        return {}
