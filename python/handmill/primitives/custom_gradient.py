"""The operator behind ``custom_gradient``: results whose derivatives a user defines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from handmill import tree
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.op import Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import as_value
from handmill.primitives.samples import uniform


class Rule:
    """What a user's gradient function is to the graph: part of derivatives, not of results.

    The function may use what was computed on the way to the results. Those values are operands, so
    that they are known wherever the operator is copied to (a layer's program, the body of a loop).

    Attributes:
        function: takes a gradient for each result, returns one for each argument.
        arguments: how many there are.
        values: the operands of the operator as the function knows them; None for arrays.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: int, values: Sequence[Value | None]
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.values = tuple(values)

    def __call__(self, graph: Graph, operands: Sequence[Value], upstream: Sequence[Any]) -> Any:
        """Computes the gradients, in a graph in which others stand for the values."""
        before = graph.standing_in
        pairs = zip(self.values, operands, strict=True)
        moved = {a: b for a, b in pairs if a is not None and a is not b}
        graph.standing_in = {**before, **moved}
        try:
            return self.function(*upstream)
        finally:
            graph.standing_in = before


def _infer(*specs: Spec, results: int, rule: Any = None) -> Any:
    return specs[:results]


def _samples() -> Iterator[Sample]:
    yield Sample("two", uniform((3, 4), (3, 4), (5,)), {"results": 2}, smooth=False)


def _vjp(
    inputs: Sequence[Any], outputs: Sequence[Any], dys: Sequence[Any], *, results: int, rule: Rule
) -> tuple[Any, ...]:
    from handmill import ops

    graph = current_graph()
    assert graph is not None  # noqa: S101  (vjps emit operators)
    upstream = [ops.zeros_like(y) if dy is None else dy for y, dy in zip(outputs, dys, strict=True)]
    found = tree.flatten(rule(graph, inputs, upstream))
    arguments = inputs[results : results + rule.arguments]
    if len(found) != len(arguments):
        raise ValueError(
            f"the gradient function of a custom gradient returned {len(found)} gradients, its "
            f"function has {len(arguments)} tensor arguments"
        )
    gradients: list[Any] = [None] * results
    for position, (x, dx) in enumerate(zip(arguments, found, strict=True)):
        if dx is None or not x.spec.is_float:
            gradients.append(None)
            continue
        value = as_value(graph, ops.cast(dx, x.dtype))
        if value.shape != x.shape:
            raise ValueError(
                f"the gradient function of a custom gradient returned shape {value.shape} for "
                f"argument {position}, whose shape is {x.shape}"
            )
        gradients.append(value)
    return (*gradients, *[None] * (len(inputs) - len(gradients)))


# The operands are the results, then the arguments, then what was computed on the way; what is given
# are the results themselves.
CUSTOM_GRADIENT = register(
    Op(
        "custom_gradient",
        infer=_infer,
        reference=lambda *arrays, results, rule=None: arrays[:results],
        samples=_samples,
        bound=(Exact(), Exact()),
        vjp=_vjp,
        vjp_attrs=("rule",),
        native=never_native,
        transparent=True,
    )
)
