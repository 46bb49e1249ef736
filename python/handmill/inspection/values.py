"""Looks into one step of a model: every intermediate value, and every gradient, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import NotDifferentiableError
from handmill.ir.gradient import depends_on, gradients
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.op import Array
from handmill.layers.context import CONTEXT, collected_losses
from handmill.runtime.function import Outputs, TracedFunction


@dataclass(frozen=True, slots=True, eq=False)
class Inspected:
    """One value of a step.

    Attributes:
        name: of an input, a weight (``"dense/kernel"``), a layer (its output), an operator inside
            of a layer (``"dense/matmul"``), or ``"loss"``. What occurs again has a number: the
            second call of a layer is ``"encoder:2"``.
        kind: ``"input"``, ``"weight"``, ``"layer"``, ``"operator"`` or ``"loss"``.
        value: the numbers.
        gradient: the derivative of the loss by each of them, in the same shape; None where the
            loss does not depend on them, or they are no floats.
    """

    name: str
    kind: str
    value: Array
    gradient: Array | None

    def __repr__(self) -> str:
        return f"Inspected({self.name!r}, {self.kind}, shape={self.value.shape})"


class Inspection(Mapping[str, Inspected]):
    """What :func:`inspect` saw: a mapping of names to :class:`Inspected`, in order of computation.

    Printed, it is a table of inputs, weights, layers and the loss.

    Attributes:
        values: the numbers by name.
        gradients: the gradients by name, of what has one.
        loss: the loss, or None.
    """

    def __init__(self, entries: Sequence[Inspected]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self.values: dict[str, Array] = {e.name: e.value for e in entries}  # type: ignore[assignment]
        self.gradients: dict[str, Array] = {
            e.name: e.gradient for e in entries if e.gradient is not None
        }
        self.loss: float | None = float(self.values["loss"]) if "loss" in self.values else None

    def values_in_order(self) -> list[Inspected]:
        """All of them, in the order of computation."""
        return list(self._entries.values())

    def __getitem__(self, name: str) -> Inspected:
        if name not in self._entries:
            import difflib

            near = difflib.get_close_matches(name, self._entries, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise KeyError(f"no value is called {name!r}. {hint or f'There are: {list(self)}'}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def table(self, operators: bool = True) -> str:
        """The table as text.

        Args:
            operators: whether the operators inside of layers have rows.
        """
        heads = ("name", "kind", "shape", "mean", "std", "zeros", "gradient (rms)")
        rows = [
            (e.name, e.kind, str(e.value.shape), *_statistics(e))
            for e in self._entries.values()
            if operators or e.kind != "operator"
        ]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

        def line(row: Sequence[str]) -> str:
            cells = [
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join([line(heads), line(["-" * w for w in widths]), *map(line, rows)])

    def __repr__(self) -> str:
        hidden = sum(e.kind == "operator" for e in self._entries.values())
        more = f"\n{hidden} operators inside of layers: .table()" if hidden else ""
        return self.table(operators=False) + more


def _statistics(entry: Inspected) -> tuple[str, ...]:
    value = entry.value.astype(np.float64)
    if not value.size:
        return ("", "", "", "")
    gradient = "-"
    with np.errstate(all="ignore"):  # infinities are what somebody may be looking for
        if entry.gradient is not None:
            gradient = f"{np.sqrt(np.mean(np.square(entry.gradient.astype(np.float64)))):.3g}"
        return (
            f"{value.mean():.4g}",
            f"{value.std():.4g}",
            f"{np.mean(value == 0):.0%}",
            gradient,
        )


def inspect(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    training: bool | None = None,
) -> Inspection:
    """Computes one step of a model and keeps every intermediate value and every gradient.

    Nothing is learned: weights, moving averages, counters of random numbers and metrics stay as
    they are.

    Args:
        model: a handmill model.
        x: inputs, as for ``fit``; all their rows are one batch.
        y: targets, as for ``fit``, of a compiled model. Without them there is no loss, and no
            gradient.
        sample_weight: as for ``fit``.
        training: whether layers behave as in training (Dropout, BatchNormalization); default: if
            there are targets.

    Returns:
        An :class:`Inspection`: ``["dense/kernel"].gradient``, ``.values``, ``.gradients``,
        ``.loss``; printed, a table.

    Raises:
        ValueError: for data that do not fit, and for targets of a model that was not compiled.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones", name="sum")
        >>> model = handmill.Sequential([handmill.Input((2,), name="x"), layer])
        >>> model.compile("sgd", "mse")
        >>> seen = handmill.inspect(model, np.array([[1.0, 2.0]]), np.array([[5.0]]))
        >>> seen["sum"].value, seen["sum"].gradient
        (array([[3.]], dtype=float32), array([[-4.]], dtype=float32))
        >>> seen["sum/kernel"].gradient.ravel()
        array([-4., -8.], dtype=float32)
    """
    from handmill.models.data_adapters import check_rows
    from handmill.models.layout import split

    if y is not None and model.objective is None:
        raise ValueError(
            "inspect() was given targets, but the model has no loss to differentiate: compile it "
            "first, or leave `y` out"
        )
    layout, arrays = split(model._as_numbers(x), y, sample_weight)
    check_rows(layout, arrays)
    arrays = [np.ascontiguousarray(a) for a in arrays]
    step = _Step(model, layout, y is not None if training is None else training)
    function = TracedFunction(step.trace, "inspect")
    found = function(*arrays)
    found = found if isinstance(found, tuple) else (found,)
    return Inspection([entry.filled(found) for entry in step.entries])


@dataclass(slots=True)
class _Entry:
    name: str
    kind: str
    value: int | Any
    """The number of the output that it is, or the Variable."""
    gradient: int | None = None

    def filled(self, outputs: Sequence[Array]) -> Inspected:
        value = outputs[self.value] if isinstance(self.value, int) else self.value.numpy()
        gradient = None if self.gradient is None else np.array(outputs[self.gradient])
        return Inspected(self.name, self.kind, np.array(value), gradient)


class _Step:
    """The traced step: collects the values with their names, and returns all of them."""

    def __init__(self, model: Any, layout: Any, training: bool) -> None:
        self.model = model
        self.layout = layout
        self.training = training
        self.entries: list[_Entry] = []

    def trace(self, *values: Value) -> Outputs:
        graph = current_graph()
        assert graph is not None  # noqa: S101
        self.entries = []
        x, y, sample_weight = self.layout.join(values)
        called: dict[Value, list[str]] = {}
        paths: dict[str, str] = {}

        def note(layer: Any, outputs: Any) -> Any:
            path = "/".join(graph.scopes[1:]) or layer.name
            paths[layer.name] = path
            for output in tree.flatten(outputs):
                if isinstance(output, Value) and output.graph is graph:
                    called.setdefault(output, []).append(path)
            return outputs

        before, CONTEXT.observer = CONTEXT.observer, note
        try:
            with collected_losses():
                y_pred = self.model(x, training=self.training)
                loss = self._loss(x, y, y_pred, sample_weight)
        finally:
            CONTEXT.observer = before
        return self._outputs(graph, values, called, paths, loss)

    def _loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Value | None:
        if y is None:
            return None
        from handmill.models.objective import loss_of

        loss = loss_of(self.model, x, y, y_pred, sample_weight, self.training)
        return loss if isinstance(loss, Value) else None

    def _outputs(
        self,
        graph: Graph,
        inputs: Sequence[Value],
        called: Mapping[Value, Sequence[str]],
        paths: Mapping[str, str],
        loss: Value | None,
    ) -> Outputs:
        names = _Names()
        seen: list[tuple[str, str, Value, Any]] = []
        seen += [
            (names.new(name), "input", value, None)
            for name, value in zip(self._names_of_inputs(), inputs, strict=True)
        ]
        for variable, value in graph.variables.items():
            if value.spec.is_float and any(variable is w for w in self.model.weights):
                path = variable.path.removeprefix(f"{self.model.name}/")  # type: ignore[attr-defined]
                seen.append((names.new(path), "weight", value, variable))
        for node in list(graph.nodes):
            for value in node.outputs:
                scope = paths.get(node.scope, node.scope) or "loss"
                if value is loss:
                    continue
                seen.append((names.new(f"{scope}/{node.op.name}"), "operator", value, None))
                seen += [(names.new(n), "layer", value, None) for n in called.get(value, ())]
        for value in inputs:  # of layers that hand on what they are given
            seen += [(names.new(n), "layer", value, None) for n in called.get(value, ())]
        if loss is not None:
            seen.append((names.new("loss"), "loss", loss, None))
        of_value = {} if loss is None else self._gradients(graph, loss, seen)
        graph.updates.clear()  # nothing is learned
        outputs = _Flat()
        for name, kind, value, variable in seen:
            gradient = of_value.get(value)
            self.entries.append(
                _Entry(
                    name,
                    kind,
                    variable if variable is not None else outputs.number(value),
                    None if gradient is None else outputs.number(gradient),
                )
            )
        return Outputs(tuple(outputs.values), None)

    def _gradients(
        self, graph: Graph, loss: Value, seen: Sequence[tuple[str, str, Value, Any]]
    ) -> dict[Value, Value | None]:
        """The gradients by everything that weights and inputs lead to, as far as there are any."""
        if not loss.spec.is_float:
            return {}
        count = self.layout.counts[0]
        weights = [v for _, kind, v, _ in seen if kind == "weight"]
        inputs = [v for v in graph.inputs[:count] if v.spec.is_float]
        nodes = list(graph.nodes)
        for sources in ([*inputs, *weights], weights):
            reached = depends_on(nodes, sources)
            wrt = list(dict.fromkeys(v for _, _, v, _ in seen if v in reached))
            try:
                return dict(zip(wrt, gradients(graph, loss, wrt), strict=True))
            except NotDifferentiableError:  # of what a training step does not need: an input
                if sources is weights:
                    raise
        return {}

    def _names_of_inputs(self) -> list[str]:
        count, targets, weights = self.layout.counts
        own = [] if self.model._graph is None else [t.name for t in self.model.inputs]
        if len(own) != count:
            own = [f"input_{i}" for i in range(count)]
        return [*own, *["y_true"] * targets, *["sample_weight"] * weights]


class _Names:
    """Numbers names from their second use on."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def new(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}:{count}"


class _Flat:
    """Values in the order in which they were asked for, each once."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Value) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.values)
            self.values.append(value)
        return self._numbers[id(value)]
