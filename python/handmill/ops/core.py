"""Functions of ``keras.ops`` about programs themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from handmill import tree
from handmill.ir.graph import Graph, current_graph
from handmill.ir.trace import apply, recorder
from handmill.primitives.cast import convert_to_tensor, is_symbolic
from handmill.primitives.custom_gradient import CUSTOM_GRADIENT, Rule


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function a gradient of its own, as a decorator.

    Args:
        f: takes tensors (keyword arguments are passed as they are) and returns ``(results,
            gradient)``, where ``gradient`` takes a tensor for each result, the gradient of what
            follows it, and returns one for each argument of ``f``.

    Returns:
        A function that returns the results. Everything it needs must be among its arguments: no
        gradient flows to what it reads otherwise, and trainable variables are refused.

    Example:
        >>> import handmill
        >>> import numpy as np
        >>> from handmill import ops
        >>> @handmill.custom_gradient
        ... def log1pexp(x):
        ...     e = ops.exp(x)
        ...     def gradient(upstream):
        ...         return upstream * (1.0 - 1.0 / (1.0 + e))
        ...     return ops.log(1.0 + e), gradient
        >>> float(handmill.grad(log1pexp)(np.float32(100.0)))
        1.0
    """

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        flat = [convert_to_tensor(x) for x in tree.flatten(list(args))]
        given = tree.pack_sequence_as(list(args), flat)
        recording = recorder()
        graph = recording.graph if recording is not None else current_graph()
        start = len(graph.nodes) if graph is not None else 0
        found = f(*given, **kwargs)
        if not isinstance(found, tuple) or len(found) != 2 or not callable(found[1]):
            raise TypeError(
                "a function with a custom gradient must return (results, gradient function), "
                f"got {type(found).__name__}"
            )
        results, gradient = found
        if graph is None or not any(map(is_symbolic, flat)):
            return results
        _refuse_variables(graph, start, flat)
        leaves = tree.flatten(results)
        operands = (*leaves, *flat)
        made = apply(CUSTOM_GRADIENT, *operands, results=len(leaves), rule=Rule(gradient))
        return tree.pack_sequence_as(results, list(made))

    return call


def _refuse_variables(graph: Graph, start: int, arguments: Sequence[Any]) -> None:
    known = {id(getattr(x, "symbol", x)) for x in arguments}
    for node in graph.nodes[start:]:
        for value in node.inputs:
            v = value.origin
            if getattr(v, "trainable", False) and id(value) not in known:
                raise ValueError(
                    f"a function with a custom gradient reads the variable {v.path!r}, which "
                    "would get no gradient; make it an argument of the function"
                )
