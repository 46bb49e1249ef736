"""The frozen beginning of a model: what it gives is computed once, and the rest is trained on that.

Layers that do not learn and do the same in training as in inference give the same numbers for a
row in every epoch. ``fit(cache_frozen=True)`` computes them before it trains, with the program of
``predict``. For as long as it runs, the model is cut there: its steps begin behind the cut, and
data that are given to it go through the frozen part first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from handmill import tree
from handmill.console import say
from handmill.data.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight
from handmill.data.pipeline.dataset import Dataset
from handmill.data.pipeline.rows import RowBatches
from handmill.errors import TrainingWarning, warn_caller
from handmill.ir.body import key_of
from handmill.ir.graph import Graph
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.ir.trace import as_value
from handmill.layers.context import CONTEXT, collected_losses
from handmill.layers.symbolic import KerasTensor, LayerGraph, Node
from handmill.models.data_adapters import check_rows, is_arrays
from handmill.models.host_part import GraphFromTensors
from handmill.models.input_scale import scale_problem
from handmill.models.layout import Layout, fill, split
from handmill.models.mapped_batches import mapped_batches, of_batch
from handmill.runtime.structure import Walk

MOST_BYTES = 2 << 30
"""What the outputs of a frozen part may need together with ``cache_frozen=True``."""


@contextmanager
def cached(
    model: Any, cache_frozen: bool | int, batch_size: int | None, verbose: Any
) -> Iterator[None]:
    """Cuts a model behind its frozen part while the block runs.

    Args:
        model: a model made of layers.
        cache_frozen: True, or how many bytes the outputs may have.
        batch_size: rows that are computed at a time.
        verbose: whether something is said about it.

    Raises:
        ValueError: if nothing in it is frozen; the message says what the first layers do.
    """
    part = FrozenPart(model, _most_bytes(cache_frozen), batch_size, verbose)
    before = model._host, model._steps, model._predictors
    model._host, model._steps, model._predictors = part, {}, {}
    try:
        yield
    finally:
        model._host, model._steps, model._predictors = before


def _most_bytes(given: Any) -> int:
    if given is True:
        return MOST_BYTES
    if isinstance(given, int) and given > 0:
        return given
    raise ValueError(
        "`cache_frozen` must be True, False, or how many bytes may be kept. Received: "
        f"cache_frozen={given!r}"
    )


class FrozenPart:
    """What comes before the first layers that learn, or that do something else in training.

    Args:
        model: a model made of layers.
        most_bytes: how many bytes its outputs may have for the data of one call.
        batch_size: rows that are computed at a time.
        verbose: whether something is said about it.

    Attributes:
        rest: the calls that are trained, from the outputs of the frozen part on.

    Raises:
        ValueError: if there is no such part.
    """

    def __init__(self, model: Any, most_bytes: int, batch_size: int | None, verbose: Any) -> None:
        from handmill.models.model import Model
        from handmill.models.sequential import Sequential

        own_call = type(model).call not in (Model.call, Sequential.call)
        graph = getattr(model, "_graph", None)
        if graph is None or model._host is not None or own_call:
            raise ValueError(
                f"cache_frozen=True cuts a model between layers, and model {model.name!r} has "
                + ("inputs of strings." if model._host is not None else "no graph of layers.")
                + " Make a Sequential or functional model, or compute what the frozen layers give "
                "by predict(), and fit a model of the others on it."
            )
        self._model = model
        self._most_bytes = most_bytes
        self._batch_size = batch_size
        self._verbose = verbose
        self._said = False
        fixed, reasons = _fixed_nodes(graph)
        if not fixed:
            raise ValueError(
                f"cache_frozen=True: no beginning of model {model.name!r} stays the same: "
                + "; ".join(reasons[:3])
                + ". Set base.trainable = False before compile(), call the base as "
                "base(x, training=False), and augment images elsewhere: each epoch has others."
            )
        self._layers = [node.operation for node in fixed if not node.is_input]
        cut = _cut(graph, fixed)
        self._before = Model(graph.inputs_struct, cut if len(cut) > 1 else cut[0])
        self._cut = cut
        if self.made(graph.inputs):
            raise ValueError(
                f"cache_frozen=True: what the frozen part of model {model.name!r} gives, "
                f"{[t.shape for t in cut]}, has the shapes of its inputs, so nobody can tell one "
                "from the other. Freeze one layer more or less."
            )
        self.rest = GraphFromTensors(cut, graph.outputs_struct)

    def made(self, values: Sequence[Any]) -> bool:
        """Whether values are results of this part, and not inputs of the whole model."""
        return len(values) == len(self._cut) and all(
            len(value.shape) == len(tensor.shape)
            and all(
                not isinstance(size, int) or wanted is None or size == wanted
                for size, wanted in zip(value.shape[1:], tensor.shape[1:], strict=True)
            )
            for value, tensor in zip(values, self._cut, strict=True)
        )

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description where the model is cut (runtime/structure.py)."""
        if walk.is_new(self):
            walk.visit(self.rest)

    def __call__(self, x: Any) -> Any:
        """Returns what the frozen part gives for arrays, nested like its outputs.

        Raises:
            ValueError: if that would need too many bytes.
        """
        layout, arrays = split(x, None, None)
        rows = check_rows(layout, arrays)
        if not self._said:
            self._warn_of_scale(arrays)
        needed = rows * self._bytes_of_a_row(layout, arrays)
        if needed > self._most_bytes:
            raise ValueError(
                f"cache_frozen: what the frozen part of model {self._model.name!r} gives for "
                f"{rows} rows needs {needed / 1e9:.3g} GB, and {self._most_bytes / 1e9:.3g} GB are "
                "allowed. End the base with pooling='avg', or pass cache_frozen=BYTES."
            )
        start = time.perf_counter()
        found = self._before.predict(x, batch_size=self._batch_size, verbose=0)
        if self._verbose and not self._said:
            last = self._layers[-1].name
            say(
                f"Frozen part, up to layer {last!r}: computed once for {rows} rows, "
                f"{needed / 1e6:.3g} MB, in {time.perf_counter() - start:.1f} s"
            )
        self._said = True
        return found

    def _bytes_of_a_row(self, layout: Layout, arrays: Sequence[Array]) -> int:
        if any(None in t.shape[1:] for t in self._cut):  # by the sizes of these images
            row = fill(layout.structures[0], iter([a[:1] for a in arrays]))
            return sum(a.nbytes for a in tree.flatten(self._before.predict(row, verbose=0)))
        return sum(math.prod(t.spec.shape[1:]) * numpy_dtype(t.dtype).itemsize for t in self._cut)

    def _warn_of_scale(self, arrays: Sequence[Array]) -> None:
        if text := scale_problem(self._model, arrays):
            warn_caller(f"model {self._model.name!r}: {text}", TrainingWarning)

    def of_data(self, x: Any) -> Any:
        """Returns what the frozen part gives for data of ``fit``.

        Raises:
            ValueError: for anything but arrays, and chains of a Dataset that put rows of arrays
                into an order.
        """
        if isinstance(x, RowBatches):
            return x.with_rows(partial(of_batch, self))
        if not is_arrays(x):
            what = "this Dataset" if isinstance(x, Dataset) else f"a {type(x).__name__}"
            raise ValueError(
                "cache_frozen=True goes with arrays, and with a Dataset that shuffles, takes, "
                f"skips and batches them, whose rows stay the same; {what} makes batches of its "
                "own (it reads files, maps or draws). Leave cache_frozen out, or read the images "
                "once: x, y = (np.concatenate(part) for part in zip(*data))"
            )
        return self(x)

    def of_validation(self, data: Any) -> Any:
        """Returns validation data with what the frozen part gives for x.

        What makes batches of its own may make others in each pass, so it is computed in each.
        """
        if isinstance(data, list | tuple):
            x, y, weight = unpack_x_y_sample_weight(data)
            return pack_x_y_sample_weight(self.of_data(x), y, weight)
        if is_arrays(data) or isinstance(data, RowBatches):
            return self.of_data(data)
        return mapped_batches(data, self)


def _cut(graph: LayerGraph, fixed: Sequence[Node]) -> list[KerasTensor]:
    """The outputs of fixed calls that others, or the outputs of the model, need."""
    own = set(fixed)
    made = {id(t) for node in fixed for t in node.output_tensors}
    needed = [t for node in graph.nodes if node not in own for t in node.input_tensors]
    return list({id(t): t for t in [*needed, *graph.outputs] if id(t) in made}.values())


def _fixed_nodes(graph: LayerGraph) -> tuple[list[Node], list[str]]:
    """The calls that give the same in every epoch, with the inputs; and why others do not.

    No calls if there is no more than inputs and what has no weights.
    """
    made: set[int] = set()
    fixed: list[Node] = []
    reasons: list[str] = []
    for node in graph.nodes:
        if not node.is_input:
            if any(id(t) not in made for t in node.input_tensors):
                continue
            problem = _problem(node)
            if problem is not None:
                reasons.append(problem)
                continue
        fixed.append(node)
        made |= {id(t) for t in node.output_tensors}
    works = any(node.operation.weights for node in fixed)
    return (fixed if works else []), reasons or ["no layer before those that learn has weights"]


def _problem(node: Node) -> str | None:
    """Why a call may give something else in another epoch; None if it may not."""
    layer = node.operation
    if layer.trainable_weights:
        return f"layer {layer.name!r} learns"
    if any(t.mask is not None for t in tree.flatten(node.outputs)):
        return f"layer {layer.name!r} gives a mask"
    training, writes = _program(node, True)
    if writes:
        return f"layer {layer.name!r} draws random numbers, keeps count or adds a loss in training"
    if training != _program(node, False)[0]:
        return f"layer {layer.name!r} does something else in training than in inference"
    return None


def _program(node: Node, training: bool) -> tuple[Any, bool]:
    """What a call computes, for comparison, and whether it writes anything."""
    graph = Graph("frozen")
    before, CONTEXT.training = CONTEXT.training, training
    try:
        with collected_losses() as losses, graph:
            values = {id(t): graph.input(t.spec, t.name) for t in node.input_tensors}

            def filled(x: Any) -> Any:
                return values[id(x)] if isinstance(x, KerasTensor) else x

            outputs = node.operation(
                *tree.map_structure(filled, node.args), **tree.map_structure(filled, node.kwargs)
            )
            graph.outputs = [as_value(graph, x) for x in tree.flatten(outputs)]
    finally:
        CONTEXT.training = before
    return key_of(graph), bool(graph.updates or losses)
