"""The sizes of data that a model leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handmill.ir.dims import SymbolicDim
from handmill.runtime.axes import Place


def lengths_of(model: Any, counts: Sequence[int]) -> Callable[..., list[Place]]:
    """The axes that a functional model leaves open in inputs, targets and sample weights.

    Args:
        model: the model; one without a graph of layers says nothing.
        counts: how many arrays of each kind there are.
    """

    def lengths(shapes: Sequence[tuple[int, ...]]) -> list[Place]:
        graph = getattr(model, "_graph", None)
        if graph is not None and model._host is not None:
            graph = model._host.rest
        places: list[Place] = []
        first = 0
        for kind, count in enumerate(counts):
            tensors = [] if graph is None else graph.outputs if kind else graph.inputs
            for i, tensor in enumerate(tensors if len(tensors) == count else []):
                dims = tensor.spec.shape[: len(shapes[first + i])]
                places += [
                    (first + i, axis)
                    for axis, dim in enumerate(dims)
                    if axis and isinstance(dim, SymbolicDim)
                ]
            first += count
        return places

    return lengths
