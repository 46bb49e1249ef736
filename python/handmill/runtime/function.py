"""Programs: what a model or an operator call becomes, and the two executors that run it.

A :class:`TracedFunction` is traced once for each rank and dtype signature, with a symbolic
batch; differentiated, fused and scheduled once; and planned once for each shape. The native
executor runs the plan in C++; the NumPy executor interprets the same graph.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import config
from handmill.errors import RowError
from handmill.ir import trace
from handmill.ir.bfloat16 import run_reference
from handmill.ir.gradient import gradients as _gradients
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.interpret import Interpretation, interpret
from handmill.ir.lower import describe
from handmill.ir.op import Array, Op
from handmill.ir.passes import optimize
from handmill.ir.shapes import DTYPES, Batch, Spec, name_of_dtype, numpy_dtype
from handmill.ir.verify import verify
from handmill.runtime.variable import Variable

PLAN_CACHE_BYTES = 1 << 28
"""Plans of one function beyond this many bytes are dropped, least recently used first."""


_tracing = threading.RLock()
"""Held while a program is traced or planned: threads that need the same one share it."""


def _renew_lock() -> None:
    global _tracing
    _tracing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def gradients(loss: Value, wrt: Sequence[Variable]) -> list[Value | None]:
    """Appends the gradients of ``loss`` to the program being traced.

    Args:
        loss: a scalar float value.
        wrt: variables, as they were when the program started.

    Returns:
        A value for each variable, None where the loss does not depend on it.

    Raises:
        RuntimeError: outside a trace.
        NotDifferentiableError: if an operator on the way has no gradient.
    """
    graph = current_graph()
    if graph is None:
        raise RuntimeError("gradients() works while a program is traced only")
    known = [graph.variables.get(v) for v in wrt]
    found = iter(_gradients(graph, loss, [v for v in known if v is not None]))
    return [None if v is None else next(found) for v in known]


class Feed:
    """Data sets whose rows a program gathers by itself, batch after batch.

    Args:
        sources: arrays with equally many rows (or lists of rows of one shape), one for each
            input of the program.
        order: the rows in the order in which they are taken (int64); default: as they lie.

    Attributes:
        position: how many rows have been taken.
    """

    def __init__(self, sources: Sequence[Array], order: Array | None = None) -> None:
        found = (np.ascontiguousarray(s) for s in sources)
        self.sources = [s if s.flags.aligned else s.copy() for s in found]
        rows = {len(s) for s in self.sources}
        if len(rows) > 1:
            raise ValueError(f"expected arrays with equally many rows, got {sorted(rows)}")
        self._order = order
        self._position = 0
        self._native: Any = None
        self._bound: tuple[Any, _Signature] | None = None

    def signature_of(self, function: TracedFunction) -> _Signature:
        """The program of ``function`` for these sources; found once, many epochs use it."""
        if self._bound is None or self._bound[0] is not function.signatures:
            specs = function.specs_of(self.sources)
            self._bound = function.signatures, function.signature(specs)
        return self._bound[1]

    @property
    def native(self) -> Any:
        """The C++ feed; made when first needed."""
        if self._native is None:
            from handmill import _core

            self._native = _core.Feed(self.sources, self._order)
            self._native.position = self._position
        return self._native

    @property
    def rows(self) -> int:
        """The number of rows of a pass."""
        return len(self.sources[0]) if self._order is None else len(self._order)

    @property
    def position(self) -> int:
        return self._position if self._native is None else int(self._native.position)

    @position.setter
    def position(self, position: int) -> None:
        self._position = position
        if self._native is not None:
            self._native.position = position

    def set_order(self, order: Array | None) -> None:
        """Sets the order of the next pass."""
        self._order = order
        if self._native is not None:
            self._native.set_order(order)

    def take(self, start: int, count: int) -> tuple[list[Array], Array]:
        """Returns a batch as arrays, and the numbers of its rows."""
        rows = (
            np.arange(start, start + count)
            if self._order is None
            else self._order[start : start + count]
        )
        return [s[rows] for s in self.sources], rows


@dataclass(frozen=True, slots=True)
class FedResult:
    """What a fed run did.

    Attributes:
        steps: batches run; less than asked for if the deadline passed.
    """

    steps: int


class _Signature:
    """One traced program: its graphs, and the plans made from it."""

    def __init__(self, graph: Graph) -> None:
        self.traced = graph
        self._optimized: Graph | None = None
        self._programs: dict[bool, tuple[Any, Any]] = {}
        self._plans: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self.plan_bytes: int = 0

    @property
    def optimized(self) -> Graph:
        if self._optimized is None:
            self._optimized = optimize(self.traced)
        return self._optimized

    def graph(self, fused: bool) -> Graph:
        return self.optimized if fused else optimize(self.traced, UNFUSED)

    def program(self, feeds: bool, fused: bool = True) -> tuple[Any, dict[Value, int], Graph]:
        from handmill import _core

        graph = self.optimized if fused else self.graph(fused=False)
        arguments, number = describe(graph, _core.tile_opcodes(), feeds)
        return _core.Program(**arguments), number, graph

    def plan(self, batch: int, feeds: bool) -> Any:
        """The C++ plan, bound to the variables."""
        from handmill import _core

        key = (batch, feeds, _core.isa())
        with _tracing:
            return self._plan(key)

    def _plan(self, key: tuple[int, bool, str]) -> Any:
        batch, feeds, _ = key
        plan = self._plans.get(key)
        if plan is None:
            if feeds not in self._programs:
                program, _, graph = self.program(feeds)
                self._programs[feeds] = program, binding_of(graph)
            program, binding = self._programs[feeds]
            plan = program.specialize(batch).bind(binding)
            self._plans[key] = plan
            self.plan_bytes += plan.nbytes
            while self.plan_bytes > PLAN_CACHE_BYTES and len(self._plans) > 1:
                self.plan_bytes -= self._plans.popitem(last=False)[1].nbytes
        else:
            self._plans.move_to_end(key)
        return plan


def binding_of(graph: Graph) -> Any:
    """The C++ states of the variables of ``graph``."""
    from handmill import _core

    variables: list[Any] = list(graph.variables)
    return _core.Binding([variable.state for variable in variables])


UNFUSED = frozenset({"fuse_penalties", "fuse_epilogues", "fuse_updates", "fuse_tiles"})


class TracedFunction:
    """A Python function over symbolic values that runs as a program.

    Args:
        fn: takes one Value for each array, returns a Value or a flat tuple of Values; may read
            and assign Variables. A tuple of one is the same as its Value.
        name: for messages and summaries.
        batched: whether dimension 0 of every input of rank 1 and more is the batch; otherwise
            every dimension is fixed (a new shape is a new trace).
    """

    def __init__(
        self, fn: Callable[..., Any], name: str = "program", *, batched: bool = True
    ) -> None:
        self._fn = fn
        self.name = name
        self._batched = batched
        self.signatures: dict[Any, _Signature] = {}
        self._single = True
        self._native: Any = None

    def __call__(self, *arrays: Any) -> Any:
        """Runs the program on arrays; returns an array, or a tuple of arrays."""
        if config.backend() == "native":
            return self.native(*arrays)
        return self._interpret([as_array(a) for a in arrays])

    @property
    def native(self) -> Any:
        """The C++ callable of the native executor: the shortest way into a plan."""
        if self._native is None:
            from handmill import _core

            self._native = _core.Function(self._miss, self._fallback)
        return self._native

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the plans hold."""
        return sum(signature.plan_bytes for signature in self.signatures.values())

    def clear(self) -> None:
        """Forgets every trace and plan (after the meaning of ``fn`` changed)."""
        self.signatures = {}
        self._native = None

    def specs_of(self, arrays: Sequence[Array]) -> tuple[Spec, ...]:
        """The specs under which ``arrays`` are traced."""
        specs = []
        for array in arrays:
            shape: tuple[Any, ...] = array.shape
            if self._batched and shape:
                shape = (Batch(), *shape[1:])
            specs.append(Spec(shape, name_of_dtype(array.dtype)))
        return tuple(specs)

    def signature(self, specs: tuple[Spec, ...]) -> _Signature:
        """The program for ``specs``, traced if it is new."""
        found = self.signatures.get(specs)
        if found is None:
            with _tracing:
                found = self.signatures.get(specs)
                if found is None:
                    found = self.signatures[specs] = _Signature(self._trace(specs))
        return found

    def graph(self, *arrays: Any) -> Graph:
        """The traced graph for these arrays, before any pass."""
        return self.signature(self.specs_of([as_array(a) for a in arrays])).traced

    def plan(self, *arrays: Any) -> Any:
        """The C++ plan for these arrays."""
        found = [as_array(a) for a in arrays]
        signature = self.signature(self.specs_of(found))
        return signature.plan(_batch(signature.traced, found), feeds=False)

    def output_specs(
        self, arrays: Sequence[Array]
    ) -> list[tuple[tuple[int, ...], np.dtype[Any]]] | None:
        """The shape and dtype of each output for these arrays.

        Returns:
            None if an output does not have a row for each row of the arrays.
        """
        signature = self.signature(self.specs_of(arrays))
        batch = _batch(signature.traced, arrays)
        found = []
        for value in signature.traced.outputs:
            shape = value.spec.shape
            if not shape or shape[0] != Batch():
                return None
            sizes = tuple(d.at(batch) if isinstance(d, Batch) else d for d in shape)
            if any(isinstance(d, Batch) for d in shape[1:]):
                return None
            found.append((sizes, numpy_dtype(value.spec.dtype)))
        return found

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs the program and writes its outputs into arrays of the right shapes and dtypes.

        Args:
            arrays: the inputs; nothing of ``outputs`` may overlap them.
            outputs: writeable, C-contiguous.
        """
        found = [as_array(a) for a in arrays]
        signature = self.signature(self.specs_of(found))
        if config.backend() != "native":
            run = interpret(signature.traced, found)
            _commit(run)
            for array, result in zip(outputs, run.outputs, strict=True):
                np.copyto(array, result)
            return
        plan = signature.plan(_batch(signature.traced, found), feeds=False)
        try:
            plan.run_into(*found, outputs=outputs)
        except ValueError:
            self._check_guards(signature, found, None)
            raise

    def run_fed(
        self, feed: Feed, batch_size: int, max_steps: int, deadline: float = 0.05
    ) -> FedResult:
        """Runs the program on batch after batch of ``feed``; its outputs are dropped.

        Args:
            feed: holds one source for each input.
            batch_size: rows of a batch; only whole batches are taken.
            max_steps: batches at most.
            deadline: seconds after which the run returns at the next step boundary.

        Raises:
            ValueError: for a batch that a guard refused (labels out of range); its step has
                changed nothing.
        """
        signature = feed.signature_of(self)
        if config.backend() != "native":
            return self._interpret_fed(signature, feed, batch_size, max_steps)
        plan = signature.plan(batch_size, feeds=True)
        steps, status, detail = plan.run_fed(feed.native, max_steps, deadline)
        if status:
            self._refuse(signature, feed, batch_size)
            raise RuntimeError(f"{self.name}: a guard refused a batch: {detail}")
        return FedResult(steps)

    def _trace(self, specs: tuple[Spec, ...]) -> Graph:
        graph = Graph(self.name)
        with graph:
            values = [graph.input(spec, f"input_{i}") for i, spec in enumerate(specs)]
            result = self._fn(*values)
            outputs = result if isinstance(result, tuple) else (result,)
            self._single = len(outputs) == 1
            graph.outputs = [trace.as_value(graph, v) for v in outputs]
        return verify(graph) if config.debug() else graph

    def _miss(self, *arrays: Array) -> Any:
        if any(name_of_dtype(a.dtype) not in DTYPES for a in arrays):
            return self._fallback
        signature = self.signature(self.specs_of(arrays))
        return signature.plan(_batch(signature.traced, arrays), feeds=False)

    def _fallback(self, *arrays: Any) -> Any:
        """Arguments that are not ready for C++: made contiguous, native-endian arrays."""
        found = [as_array(a) for a in arrays]
        signature = self.signature(self.specs_of(found))
        try:
            return signature.plan(_batch(signature.traced, found), feeds=False)(*found)
        except ValueError:
            self._check_guards(signature, found, None)
            raise

    def _interpret(self, arrays: list[Array]) -> Any:
        signature = self.signature(self.specs_of(arrays))
        run = interpret(signature.traced, arrays)
        _commit(run)
        return run.outputs[0] if self._single else tuple(run.outputs)

    def _interpret_fed(
        self, signature: _Signature, feed: Feed, batch_size: int, max_steps: int
    ) -> FedResult:
        steps = 0
        while steps < max_steps and feed.position + batch_size <= feed.rows:
            arrays, rows = feed.take(feed.position, batch_size)
            try:
                run = interpret(signature.traced, arrays)
            except RowError as error:
                raise RowError(error.problem, int(rows[error.row])) from None
            _commit(run)
            feed.position += batch_size
            steps += 1
        return FedResult(steps)

    def _refuse(self, signature: _Signature, feed: Feed, batch_size: int) -> None:
        arrays, rows = feed.take(feed.position, batch_size)
        order = np.argsort(rows, kind="stable")  # so that the first row of the data is named
        self._check_guards(signature, [a[order] for a in arrays], rows[order])

    def _check_guards(
        self, signature: _Signature, arrays: Sequence[Array], rows: Array | None
    ) -> None:
        """Raises the error of the guard that refuses ``arrays``, with the row in the data."""
        graph = signature.optimized
        guards = Graph(f"{graph.name} guards")
        guards.inputs, guards.constants = graph.inputs, graph.constants
        guards.variables = graph.variables
        wanted: set[Value] = set()
        for node in reversed(graph.nodes):
            if node.op.guard or any(v in wanted for v in node.outputs):
                wanted.update(node.inputs)
                guards.nodes.insert(0, node)
        try:
            interpret(guards, arrays)
        except RowError as error:
            if rows is None:
                raise
            raise RowError(error.problem, int(rows[error.row])) from None


def _batch(graph: Graph, arrays: Sequence[Array]) -> int:
    from handmill.ir.interpret import bind_batch

    return bind_batch(graph, arrays)


def _commit(run: Interpretation) -> None:
    for variable, array in run.updates.items():
        variable.state.write(array)


def as_array(x: Any) -> Array:
    """Returns ``x`` as a contiguous array of a dtype that programs know.

    Raises:
        TypeError: for objects, strings and dtypes without a meaning here.
    """
    if isinstance(x, Variable):
        return x.read()
    array = np.asarray(x)
    if not array.dtype.isnative or name_of_dtype(array.dtype) not in DTYPES:
        kind = array.dtype.kind
        if kind == "f":
            array = array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64)
        elif kind in "iu":
            array = array.astype(np.int64)
        else:
            raise TypeError(
                f"expected numbers, got an array of dtype {array.dtype}; "
                "convert it first, e.g. with numpy.asarray(x, 'float32')"
            )
    if array.ndim:
        array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


_EAGER: dict[Any, TracedFunction] = {}
_EAGER_LIMIT = 4096


def _run_eagerly(op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    arrays = [_operand(x) for x in operands]
    if config.backend() != "native":
        return _run_reference(op, arrays, attrs)
    key = (op, *attrs.items()) if attrs else op
    function = _EAGER.get(key)
    if function is None:
        if len(_EAGER) >= _EAGER_LIMIT:
            _EAGER.clear()
        function = _EAGER[key] = TracedFunction(
            lambda *values: trace.apply(op, *values, **attrs), op.name, batched=False
        )
    return function.native(*arrays)


def _operand(x: Any) -> Any:
    if type(x) is np.ndarray:
        return x
    if isinstance(x, Variable):
        return x.read()
    if isinstance(x, bool):
        return np.asarray(x)
    if isinstance(x, int):
        return np.asarray(x, np.int32)
    if isinstance(x, float):
        return np.asarray(x, np.float32)
    return as_array(x)


def _run_reference(op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
    arrays = [as_array(x) for x in operands]
    specs = op.specs([Spec(a.shape, a.dtype.name) for a in arrays], attrs)
    with np.errstate(all="ignore"):
        results = run_reference(op, arrays, attrs)
    wanted = specs if isinstance(specs, tuple) else (specs,)
    found = tuple(np.asarray(r, numpy_dtype(s.dtype)) for r, s in zip(results, wanted, strict=True))
    return found if isinstance(specs, tuple) else found[0]


trace.set_eager(_run_eagerly)
