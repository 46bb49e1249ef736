"""GradientTape: derivatives of what was computed inside a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from handmill import tree
from handmill.ir.dims import is_fixed
from handmill.ir.gradient import pullback
from handmill.ir.graph import Graph, Node, Value, current_graph
from handmill.ir.shapes import size_of
from handmill.ir.trace import as_value
from handmill.runtime.variable import Variable


class GradientTape:
    """Records what is computed inside its ``with`` block, to differentiate it afterwards.

    Trainable variables that the block reads are watched by themselves, all else by
    :meth:`watch`. While a training step is traced the gradient becomes part of the step's
    program; every value that the block computes can then be a source.

    Args:
        persistent: whether :meth:`gradient` may be called more than once.
        watch_accessed_variables: whether trainable variables are watched without being told.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._graph: Graph | None = None
        self._windows: list[list[int | None]] = []  # [first, end) of the nodes recorded
        self._watched: dict[Any, None] = {}
        self._assigned: dict[Any, Value] = {}  # what the step had assigned when the tape opened
        self._recording = False
        self._used = False

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise ValueError("this GradientTape is recording already; make another one to nest")
        graph = current_graph()
        if graph is None:
            raise RuntimeError("a GradientTape works while a training step is traced only")
        if self._graph is not None and self._graph is not graph:
            self.reset()
        self._graph = graph
        self._assigned = dict(graph.updates)
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recording:
            self._stop()

    def _start(self) -> None:
        assert self._graph is not None  # noqa: S101
        self._recording = True
        self._windows.append([len(self._graph.nodes), None])

    def _stop(self) -> None:
        assert self._graph is not None  # noqa: S101
        self._recording = False
        self._windows[-1][1] = len(self._graph.nodes)

    def watch(self, tensor: Any) -> Any:
        """Makes ``tensor`` a source of gradients.

        Args:
            tensor: a float tensor or Variable, or a nested structure of them.

        Returns:
            The same, with values of the program in the place of arrays; use it in their stead.

        Raises:
            ValueError: for integers and booleans, which have no gradient.
        """
        graph = self._require_graph()

        def one(x: Any) -> Any:
            value = x if isinstance(x, Variable) else as_value(graph, x)
            if not value.spec.is_float:
                raise ValueError(f"a float tensor was expected to be watched, got {value.spec}")
            self._watched[value] = None
            return value

        return tree.map_structure(one, tensor)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """What is computed inside this ``with`` block counts as constant.

        Raises:
            RuntimeError: if the tape is not recording.
        """
        if not self._recording:
            raise RuntimeError("the tape is not recording, so its recording cannot be stopped")
        self._stop()
        try:
            yield
        finally:
            self._start()

    def reset(self) -> None:
        """Forgets what was recorded and watched."""
        recording = self._recording
        self._windows, self._watched, self._used = [], {}, False
        if recording:
            self._start()

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables watched, in the order in which they were read."""
        read = [v.origin for node in self._nodes() for v in node.inputs if v.node is None]
        found = [v for v in self._watched if isinstance(v, Variable)]
        if self._watch_accessed:
            found += [v for v in read if isinstance(v, Variable) and v.trainable]
        return tuple(dict.fromkeys(found))

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "none",
    ) -> Any:
        """Returns the derivatives of ``target`` by ``sources``.

        Args:
            target: a float tensor, or a nested structure of them. Where it is not a scalar, the
                derivative of the sum of its elements is meant.
            sources: tensors or Variables, nested in any way.
            output_gradients: factors for the elements of ``target`` (the gradient of what follows
                it), in the structure of ``target``; None stands for ones.
            unconnected_gradients: ``"none"`` or ``"zero"``: what stands for a source on which
                ``target`` does not depend.

        Returns:
            A derivative for each source, in the structure of ``sources``.

        Raises:
            RuntimeError: at the second call, if the tape is not persistent.
            NotDifferentiableError: if an operator on the way has no gradient.
            ValueError: if a target is not a float, or an output gradient has another shape.
        """
        zero = _wants_zero(unconnected_gradients)
        graph = self._use("gradient")
        targets = [_target(graph, t) for t in tree.flatten(target)]
        seeds = self._seeds(graph, targets, output_gradients)
        flat = tree.flatten(sources)
        found = self._pullback(graph, targets, seeds, flat)
        if zero:
            found = [
                _zeros_like(graph, source) if dx is None else dx
                for source, dx in zip(flat, found, strict=True)
            ]
        return tree.pack_sequence_as(sources, found)

    def jacobian(self, target: Any, sources: Any, unconnected_gradients: Any = "none") -> Any:
        """Returns the derivatives of every element of ``target`` by every element of a source.

        Args:
            target: a float tensor of known shape.
            sources: tensors or Variables, nested in any way.
            unconnected_gradients: see :meth:`gradient`.

        Returns:
            For each source an array of shape ``target.shape + source.shape``.

        Raises:
            ValueError: if the shape of ``target`` depends on the batch size.
        """
        from handmill import ops

        zero = _wants_zero(unconnected_gradients)
        graph = self._use("jacobian")
        y = _target(graph, target)
        size = _known_size(y)
        flat = tree.flatten(sources)
        rows = []
        for i in range(size):
            seed = ops.reshape(ops.one_hot(i, size, dtype=y.dtype), y.shape)
            rows.append(self._pullback(graph, [y], [as_value(graph, seed)], flat))
        found: list[Any] = []
        for k, source in enumerate(flat):
            shape = (*y.shape, *source.shape)
            if rows and rows[0][k] is not None:
                found.append(ops.reshape(ops.stack([row[k] for row in rows]), shape))
            else:
                found.append(ops.zeros(shape, dtype=source.dtype) if zero else None)
        return tree.pack_sequence_as(sources, found)

    def batch_jacobian(self, target: Any, source: Any, unconnected_gradients: Any = "none") -> Any:
        """Returns the Jacobian of each row of ``target`` by the same row of ``source``.

        Row i of ``target`` must depend on row i of ``source`` alone.

        Args:
            target: a float tensor of shape ``(B, ...)``.
            source: a float tensor of shape ``(B, ...)``.
            unconnected_gradients: see :meth:`gradient`.

        Returns:
            An array of shape ``(B, *target.shape[1:], *source.shape[1:])``.
        """
        from handmill import ops

        zero = _wants_zero(unconnected_gradients)
        graph = self._use("batch_jacobian")
        y = _target(graph, target)
        if y.ndim == 0 or len(source.shape) == 0 or y.shape[0] != source.shape[0]:
            raise ValueError(
                "batch_jacobian wants a target and a source with equally many rows, got shapes "
                f"{y.shape} and {tuple(source.shape)}"
            )
        inner = y.shape[1:]
        size = size_of(inner)
        assert isinstance(size, int)  # noqa: S101  (only dimension 0 is symbolic)
        columns = []
        for i in range(size):
            row = ops.reshape(ops.one_hot(i, size, dtype=y.dtype), (1, *inner))
            seed = ops.ones_like(y) * row
            (column,) = self._pullback(graph, [y], [seed], [source])
            columns.append(column)
        if not columns or columns[0] is None:
            shape = (y.shape[0], *inner, *source.shape[1:])
            return ops.zeros(shape, dtype=y.dtype) if zero else None
        found = ops.stack(columns, axis=1)
        return ops.reshape(found, (-1, *inner, *source.shape[1:]))

    def _use(self, what: str) -> Graph:
        graph = self._require_graph()
        if self._used and not self._persistent:
            raise RuntimeError(
                f"GradientTape.{what}: a tape that is not persistent gives derivatives once; "
                "make it with GradientTape(persistent=True) to ask more than once"
            )
        if current_graph() is not graph:
            raise RuntimeError(
                f"GradientTape.{what} was called outside the step in which the tape recorded"
            )
        if self._recording and not self._persistent:
            self._stop()
        self._used = True
        return graph

    def _require_graph(self) -> Graph:
        if self._graph is None:
            raise RuntimeError("the GradientTape has recorded nothing: use it in `with tape:`")
        return self._graph

    def _nodes(self) -> list[Node]:
        nodes = self._graph.nodes if self._graph is not None else []
        return [node for first, end in self._windows for node in nodes[first:end]]

    def _pullback(
        self,
        graph: Graph,
        targets: Sequence[Value],
        seeds: Sequence[Value | None],
        sources: Sequence[Any],
    ) -> list[Any]:
        known = [self._source(graph, source) for source in sources]
        wrt = [v for v in known if v is not None]
        found = iter(pullback(graph, targets, seeds, wrt, self._nodes()))
        return [None if v is None else next(found) for v in known]

    def _source(self, graph: Graph, source: Any) -> Value | None:
        """The value of a source; None for variables that were not read or are not watched."""
        if isinstance(source, Variable):
            watched = (self._watch_accessed and source.trainable) or source in self._watched
            known = self._assigned.get(source, graph.variables.get(source))
            return known if watched else None
        if not isinstance(source, Value):
            raise TypeError(
                f"a source of gradients must be a tensor of the program or a Variable, got "
                f"{type(source).__name__}; for an array use what `x = tape.watch(x)` returns"
            )
        return as_value(graph, source)

    def _seeds(self, graph: Graph, targets: Sequence[Value], given: Any) -> list[Value | None]:
        from handmill import ops

        flat = [None] * len(targets) if given is None else tree.flatten(given)
        if len(flat) != len(targets):
            raise ValueError(
                f"expected an output gradient for each of {len(targets)} targets, got {len(flat)}"
            )
        seeds: list[Value | None] = []
        for target, seed in zip(targets, flat, strict=True):
            if seed is None:
                ones = target.shape != ()
                seeds.append(as_value(graph, ops.ones_like(target)) if ones else None)
                continue
            value = as_value(graph, ops.cast(seed, target.dtype))
            if value.shape != target.shape:
                raise ValueError(
                    f"an output gradient of shape {target.shape} was expected, as its target has, "
                    f"got {value.shape}"
                )
            seeds.append(value)
        return seeds


def _target(graph: Graph, target: Any) -> Value:
    if not isinstance(target, Value):
        raise TypeError(
            f"the target of a gradient must be computed from tensors of the program, got "
            f"{type(target).__name__}"
        )
    if not target.spec.is_float:
        raise ValueError(f"a float target was expected, got {target.spec}")
    return as_value(graph, target)


def _known_size(target: Value) -> int:
    if not is_fixed(target.shape):
        raise ValueError(
            f"the Jacobian of {target.spec} has a row for each element, and their number depends "
            "on the batch size; use batch_jacobian, or take the Jacobian outside the step"
        )
    size = size_of(target.shape)
    assert isinstance(size, int)  # noqa: S101
    return size


def _wants_zero(unconnected: Any) -> bool:
    name = getattr(unconnected, "value", unconnected)
    if name not in ("none", "zero"):
        raise ValueError(f"`unconnected_gradients` must be 'none' or 'zero', got {unconnected!r}")
    return bool(name == "zero")


def _zeros_like(graph: Graph, source: Any) -> Value:
    from handmill import ops

    return as_value(graph, ops.zeros_like(source))
