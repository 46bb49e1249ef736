"""The operator behind ``custom_gradient``: results whose derivatives a user defines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from handmill import tree
from handmill.ir.graph import current_graph
from handmill.ir.op import Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import as_value
from handmill.primitives.samples import uniform


class Rule:
    """What a user's gradient function is to the graph: part of derivatives, not of results.

    Attributes:
        function: takes a gradient for each result, returns one for each argument.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def _infer(*specs: Spec, results: int, rule: Any = None) -> Any:
    return specs[:results]


def _samples() -> Iterator[Sample]:
    yield Sample("two", uniform((3, 4), (3, 4), (5,)), {"results": 2}, smooth=False)


def _vjp(
    inputs: Sequence[Any], outputs: Sequence[Any], dys: Sequence[Any], *, results: int, rule: Rule
) -> tuple[Any, ...]:
    from handmill import ops

    upstream = [ops.zeros_like(y) if dy is None else dy for y, dy in zip(outputs, dys, strict=True)]
    found = tree.flatten(rule.function(*upstream))
    arguments = inputs[results:]
    if len(found) != len(arguments):
        raise ValueError(
            f"the gradient function of a custom gradient returned {len(found)} gradients, its "
            f"function has {len(arguments)} tensor arguments"
        )
    graph = current_graph()
    assert graph is not None  # noqa: S101  (vjps emit operators)
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
    return tuple(gradients)


# The operands are the results, then the arguments; what is given are the results themselves.
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
