"""GradientTape: derivatives of what was computed inside a ``with`` block."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from handmill import tree
from handmill.ir.dims import Shape, is_fixed
from handmill.ir.gradient import pullback
from handmill.ir.graph import Graph, Node, Value, current_graph
from handmill.ir.shapes import size_of
from handmill.ir.trace import as_value, dtype_of, is_float
from handmill.primitives.operands import tensor as as_tensor
from handmill.runtime.recording import Recording, TapeTensor
from handmill.runtime.variable import Variable


class GradientTape:
    """Records what is computed inside its ``with`` block, to differentiate it afterwards.

    Trainable variables that the block reads are watched by themselves, all else by
    :meth:`watch`. Tapes may be nested; what an inner tape gives can be differentiated again.

    While a training step is traced the gradient becomes part of the step's program, and every
    value that the block computes can be a source. Elsewhere functions of ``handmill.ops`` and
    layers called on what is watched give tensors that are used like arrays, and the gradient is
    an array.

    Args:
        persistent: whether :meth:`gradient` may be called more than once.
        watch_accessed_variables: whether trainable variables are watched without being told.

    Example:
        >>> import handmill
        >>> from handmill import ops
        >>> with handmill.GradientTape() as tape:
        ...     x = tape.watch(ops.convert_to_tensor([1.0, 2.0]))
        ...     y = x * x * x
        >>> tape.gradient(y, x)
        array([ 3., 12.], dtype=float32)
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._graph: Graph | None = None
        self._eager: Recording | None = None
        self._windows: list[list[int | None]] = []  # [first, end) of the nodes recorded
        self._watched: dict[Any, None] = {}
        self._assigned: dict[Any, Value] = {}  # what the step had assigned when the tape opened
        self._recording = False
        self._used = False

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise ValueError("this GradientTape is recording already; make another one to nest")
        graph = current_graph()
        eager = Recording.of_thread(self._eager) if graph is None else None
        if eager is not None:
            graph = eager.graph
            eager.open += 1
        if self._graph is not graph:
            self.reset()
        self._graph, self._eager = graph, eager
        self._assigned = dict(graph.updates) if graph is not None else {}
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recording:
            self._stop()
        if self._eager is not None:
            self._eager.close()

    def _start(self) -> None:
        self._record(True)
        self._windows.append([len(self._require_graph().nodes), None])

    def _stop(self) -> None:
        self._record(False)
        self._windows[-1][1] = len(self._require_graph().nodes)

    def _record(self, recording: bool) -> None:
        self._recording = recording
        if self._eager is not None:
            change = 1 if recording else -1
            self._eager.active += change
            self._eager.watching += change * self._watch_accessed

    def watch(self, tensor: Any) -> Any:
        """Makes ``tensor`` a source of gradients.

        Args:
            tensor: a float tensor or Variable, or a nested structure of them.

        Returns:
            The same with tensors in the place of arrays; use them in the arrays' stead: a tape
            sees functions of ``handmill.ops`` on a watched array, but not NumPy's operators.

        Raises:
            ValueError: for integers and booleans, which have no gradient.
        """
        graph = self._require_graph()

        def one(x: Any) -> Any:
            if isinstance(x, Variable):
                value: Any = x
            elif self._eager is None:
                value = as_value(graph, x)
            else:
                value = self._eager.enter(as_tensor(x))
            if not is_float(dtype_of(value)):
                raise ValueError(f"a float was expected to be watched, got {dtype_of(value)}")
            if self._eager is not None:
                value = self._eager.watch(x, value)
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
        """The variables watched by call, then those watched when they were read, in order."""
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
        flat = tree.flatten(sources)
        with self._differentiating("gradient") as graph:
            targets = [_target(graph, t) for t in tree.flatten(target)]
            seeds = self._seeds(graph, targets, output_gradients)
            found = self._pullback(graph, targets, seeds, flat)
            found = self._given(found, flat, zero)
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
        flat = tree.flatten(sources)
        with self._differentiating("jacobian") as graph:
            y = _target(graph, target)
            rows = self._rows(graph, y, _known_size(y), y.shape, flat)
            found: list[Any] = []
            for k, source in enumerate(flat):
                shape = (*y.shape, *source.shape)
                if rows and rows[0][k] is not None:
                    found.append(ops.reshape(ops.stack([row[k] for row in rows]), shape))
                else:
                    found.append(ops.zeros(shape, dtype=source.dtype) if zero else None)
            found = self._given(found)
        return tree.pack_sequence_as(sources, found)

    def _rows(
        self, graph: Graph, y: Value, size: int, shape: Shape, sources: Sequence[Any]
    ) -> list[list[Any]]:
        """The gradients of each of ``size`` elements of ``y``, seeded as ``shape``."""
        from handmill import ops

        rows = []
        for i in range(size):
            seed = ops.reshape(ops.one_hot(i, size, dtype=y.dtype), shape)
            seed = seed if shape == y.shape else ops.ones_like(y) * seed
            rows.append(self._pullback(graph, [y], [as_value(graph, seed)], sources))
        return rows

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
        with self._differentiating("batch_jacobian") as graph:
            y = _target(graph, target)
            if y.ndim == 0 or len(source.shape) == 0 or y.shape[0] != source.shape[0]:
                raise ValueError(
                    "batch_jacobian wants a target and a source with equally many rows, got "
                    f"shapes {y.shape} and {tuple(source.shape)}"
                )
            inner, rest = y.shape[1:], tuple(source.shape[1:])
            size = size_of(inner)
            assert isinstance(size, int)  # noqa: S101  (only dimension 0 is symbolic)
            columns = [c for (c,) in self._rows(graph, y, size, (1, *inner), [source])]
            found = None
            if columns and columns[0] is not None:
                found = ops.reshape(ops.stack(columns, axis=1), (-1, *inner, *rest))
            elif zero:
                found = ops.zeros((y.shape[0], *inner, *rest), dtype=y.dtype)
            (found,) = self._given([found])
        return found

    @contextmanager
    def _differentiating(self, what: str) -> Iterator[Graph]:
        """Emits derivatives behind what was recorded; drops them where no tape records them."""
        graph = self._require_graph()
        if self._used and not self._persistent:
            raise RuntimeError(
                f"GradientTape.{what}: a tape that is not persistent gives derivatives once; "
                "make it with GradientTape(persistent=True) to ask more than once"
            )
        if self._recording and not self._persistent:
            self._stop()
        if self._eager is not None:
            with self._eager.appending():
                yield graph
        elif current_graph() is graph:
            yield graph
        else:
            raise RuntimeError(
                f"GradientTape.{what} was called outside the step in which the tape recorded"
            )
        self._used = True

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
        known = [self._values_of(graph, source) for source in sources]
        found = iter(pullback(graph, targets, seeds, [v for k in known for v in k], self._nodes()))
        sums: list[Any] = []
        for values in known:
            parts = [dx for dx in [next(found) for _ in values] if dx is not None]
            sums.append(functools.reduce(operator.add, parts) if parts else None)
        return sums

    def _values_of(self, graph: Graph, source: Any) -> list[Value]:
        """The values of a source: none for variables that were not read or are not watched."""
        if isinstance(source, Variable):
            if not ((self._watch_accessed and source.trainable) or source in self._watched):
                return []
            if self._eager is not None:
                return self._eager.reads.get(source, [])
            known = self._assigned.get(source, graph.variables.get(source))
            return [] if known is None else [known]
        found = source if self._eager is None else self._eager.source(source)
        if not isinstance(found, Value | TapeTensor):
            raise TypeError(
                f"a source of gradients must be a Variable, something watched or computed from "
                f"it, got {type(source).__name__}; use what `x = tape.watch(x)` returns"
            )
        return [_inside(graph, found)]

    def _given(
        self, found: Sequence[Any], sources: Sequence[Any] = (), zero: bool = False
    ) -> list[Any]:
        """Derivatives as the caller gets them: values of a traced program, tensors or arrays."""
        from handmill import ops

        if zero:
            found = [
                ops.zeros(tuple(x.shape), dtype=dtype_of(x)) if dx is None else dx
                for x, dx in zip(sources, found, strict=True)
            ]
        return list(found) if self._eager is None else self._eager.give(found)

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


def _inside(graph: Graph, x: Any) -> Value:
    value = as_value(graph, x)
    if isinstance(x, TapeTensor) and value is not x.symbol:
        raise ValueError("a tensor was given that this GradientTape did not record")
    return value


def _target(graph: Graph, target: Any) -> Value:
    if not isinstance(target, Value | TapeTensor | Variable):
        raise TypeError(
            f"the target of a gradient is {type(target).__name__}: it does not depend on anything "
            "watched, or was computed by NumPy, whose operators no tape can see; compute it with "
            "handmill.ops from variables, or from what `x = tape.watch(x)` returns"
        )
    if not is_float(target.dtype):
        raise ValueError(f"a float target was expected, got {target.dtype}")
    return _inside(graph, target)


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
