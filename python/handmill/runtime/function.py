"""Traced functions: Python functions over symbolic values that run as programs.

A :class:`TracedFunction` is traced once for each rank and dtype signature, with symbols for the
batch and for lengths; differentiated, fused and scheduled once; and planned once for each shape.
The native executor runs the plan in C++; the NumPy executor interprets the same graph.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from handmill import config
from handmill.errors import RowError, ShapeError
from handmill.ir import trace
from handmill.ir.arrays import array_of
from handmill.ir.dims import BATCH, SymbolicDim, symbols_of
from handmill.ir.gradient import gradients as _gradients
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.interpret import interpret
from handmill.ir.op import Array
from handmill.ir.passes import is_guard
from handmill.ir.shapes import DTYPES, Sizes, Spec, held, name_of_dtype, numpy_dtype, shape_at
from handmill.ir.verify import verify
from handmill.runtime import watch
from handmill.runtime.axes import Place, SymbolicAxes
from handmill.runtime.feed import Feed
from handmill.runtime.plans import TRACES
from handmill.runtime.structure import Structure
from handmill.runtime.traces import Bound, Trace, Way, take_variables
from handmill.runtime.variable import Variable

_MOST_SIGNATURES = 64
"""Ranks, dtypes (and shapes, of functions that are not batched) that a function remembers."""

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


class Outputs(NamedTuple):
    """What a traced function may return: outputs, and what to remember of them.

    Attributes:
        values: the outputs, flat.
        structure: anything; :meth:`TracedFunction.structure_for` gives it back.
    """

    values: tuple[Any, ...]
    structure: Any


class Fitted(NamedTuple):
    """A program and the sizes with which it runs."""

    specs: tuple[Spec, ...]
    signature: Bound
    sizes: Sizes


class Subject(Protocol):
    """Whose computation is traced."""

    ignores_trainable: bool
    """Whether programs stay when what is trainable changes."""

    def parts(self) -> Sequence[Any]:
        """Everything that the trace depends on, for :class:`Structure`."""
        ...

    def memo(self, before: Structure) -> Any:
        """What :meth:`prepare` must know to do for an equal subject what a trace did for this.

        Args:
            before: what the subject was before the trace.
        """
        ...

    def prepare(self, memo: Any, before: Structure) -> Sequence[Variable] | None:
        """Makes what a trace would make (slots of the optimizer, metrics), without a trace.

        Args:
            memo: what :meth:`memo` of an equal subject gave.
            before: what this one is now.

        Returns:
            Variables, with all that were made; None if that takes a trace.
        """
        ...


class TracedFunction:
    """A Python function over symbolic values that runs as a program.

    Args:
        fn: takes one Value for each array, returns a Value, a flat tuple of Values or
            :class:`Outputs`; may read and assign Variables. A tuple of one is its Value.
        name: for messages and summaries.
        batched: whether dimension 0 of every input of rank 1 and more is the batch; otherwise
            every dimension is fixed (a new shape is a new trace).
        subject: what ``fn`` depends on. When that changes, the function is traced anew; an equal
            subject shares the trace. Default: nothing that ever changes.
        lengths: gives the axes that are symbols from the start, see
            :class:`handmill.runtime.axes.SymbolicAxes`.
        rows_alone: whether products give each row the bits that it has alone, however many rows
            are beside it. Some products are slower then.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str = "program",
        *,
        batched: bool = True,
        subject: Subject | None = None,
        lengths: Callable[[Sequence[tuple[int, ...]]], Iterable[Place]] | None = None,
        rows_alone: bool = False,
    ) -> None:
        self._fn = fn
        self.name = name
        self._batched = batched
        self._rows_alone = rows_alone
        self._axes = SymbolicAxes(batched, lengths)
        self._subject = subject
        self._bound: OrderedDict[Any, Bound] = OrderedDict()
        self._fitted: dict[Any, Fitted] = {}  # by shapes and dtypes of arrays
        self._structure: Structure | None = None
        self._seen = -1  # watch.now when the structure was looked at, -1: must be looked at
        self._outputs: list[Any] = []  # the different structures of outputs
        self._native: Any = None

    def __call__(self, *arrays: Any) -> Any:
        """Runs the program on arrays; returns an array, or a tuple of arrays."""
        if config.is_native():
            if self._subject is not None and self._seen != watch.now:
                self._renew()
            return (self._native or self.native)(*arrays)
        return self._interpret([as_array(a) for a in arrays])

    @property
    def native(self) -> Any:
        """The C++ callable of the native executor: the shortest way into a plan.

        It does not look whether the subject has changed.
        """
        if self._native is None:
            from handmill import _core

            self._native = _core.Function(self._miss, self._fallback)
        return self._native

    def clear(self) -> None:
        """Forgets every trace and plan (after the meaning of ``fn`` changed)."""
        for specs in list(self._bound):
            self._bound.pop(specs)
            TRACES.release(self, specs)
        self._outputs = []
        self._fitted.clear()
        self._structure = None
        self._seen = -1
        if self._native is not None:
            self._native.clear()

    def specs_of(self, arrays: Sequence[Array]) -> tuple[Spec, ...]:
        """The specs under which ``arrays`` are traced."""
        return self._axes.specs_of(arrays)

    def fitted(self, arrays: Sequence[Any]) -> Fitted:
        """The program for these arrays, and the sizes that they bind.

        A trace with symbols holds for the sizes that fit what it assumed. Others get a trace of
        their own, in which every size is fixed, or the error that it gives.

        Args:
            arrays: anything with a shape and dtype.

        Raises:
            ValueError: if the arrays do not fit each other; it names inputs, axes and sizes.
        """
        kinds = tuple([(a.shape, a.dtype) for a in arrays])
        known = self._fitted.get(kinds)
        if known is not None:
            signature = self.signature(known.specs)
            if signature.trace is known.signature.trace:
                return known._replace(signature=signature)
        found = self._fit(arrays)
        if len(self._fitted) >= _MOST_SIGNATURES:
            self._fitted.clear()
        self._fitted[kinds] = found
        return found

    def _fit(self, arrays: Sequence[Any]) -> Fitted:
        specs = self._axes.specs_of(arrays)
        try:
            signature = self.signature(specs)
        except Exception as error:
            if not _has_lengths(specs):
                found = self._fit_exactly(arrays) if isinstance(error, ShapeError) else None
                if found is None:
                    raise
                return found
            self._axes.refuse(arrays, specs)
            return self._fit(arrays)
        sizes, problem = signature.trace.fits(arrays)
        if sizes is not None:
            return Fitted(specs, signature, sizes)
        tried = {specs}
        for batch in (True, False):
            specs = self._axes.fixed(arrays, batch)
            if specs in tried:
                continue
            tried.add(specs)
            try:
                signature = self.signature(specs)
            except (TypeError, ValueError) as error:
                raise ShapeError(f"{self.name}: {problem}\n{error}") from error
            sizes, _ = signature.trace.fits(arrays)
            if sizes is not None:
                return Fitted(specs, signature, sizes)
        raise ShapeError(f"{self.name}: {problem}")

    def _fit_exactly(self, arrays: Sequence[Any]) -> Fitted | None:
        """The program for these very sizes, where axis 0 is not a batch; None if there is none."""
        specs = self._axes.fixed(arrays, batch=False)
        try:
            signature = self.signature(specs)
        except (TypeError, ValueError):
            return None
        sizes, _ = signature.trace.fits(arrays)
        return None if sizes is None else Fitted(specs, signature, sizes)

    def signature(self, specs: tuple[Spec, ...]) -> Bound:
        """The program for ``specs``, traced if it is new or not current any more."""
        if self._subject is not None and self._seen != watch.now:
            self._renew()
        found = self._bound.get(specs)
        if found is None:
            with _tracing:
                found = self._bound.get(specs)
                if found is None:
                    found = self._bind(specs)
        else:
            TRACES.touch(self, specs)
        return found

    def drop_trace(self, specs: Any) -> None:
        """Forgets the trace for ``specs``; it is made again when it is needed."""
        self._bound.pop(specs, None)
        self._fitted.clear()

    def trace_of(self, specs: Any) -> Trace | None:
        """The trace for ``specs``, if there is one."""
        bound = self._bound.get(specs)
        return None if bound is None else bound.trace

    def structure_for(self, arrays: Sequence[Array]) -> Any:
        """What ``fn`` said of its outputs when it was traced for such arrays."""
        if len(self._outputs) == 1:
            return self._outputs[0]
        return self.fitted([as_array(a) for a in arrays]).signature.trace.structure

    def graph(self, *arrays: Any) -> Graph:
        """The traced graph for these arrays, before any pass."""
        return self.fitted([as_array(a) for a in arrays]).signature.traced

    def plan(self, *arrays: Any) -> Any:
        """The C++ plan for these arrays, bound to the variables."""
        found = [as_array(a) for a in arrays]
        return self._plan(self.fitted(found))

    def output_specs(
        self, arrays: Sequence[Array]
    ) -> list[tuple[tuple[int, ...], np.dtype[Any]]] | None:
        """The shape and dtype of each output for these arrays.

        Returns:
            None if an output does not have a row for each row of the arrays.
        """
        _, signature, sizes = self.fitted(arrays)
        batch = symbols_of(BATCH)
        found = []
        for value in signature.traced.outputs:
            shape = value.spec.shape
            if not shape or shape[0] != BATCH or any(batch & symbols_of(d) for d in shape[1:]):
                return None
            found.append((shape_at(shape, sizes), numpy_dtype(value.spec.dtype)))
        return found

    def run_into(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs the program and writes its outputs into arrays of the right shapes and dtypes.

        Args:
            arrays: the inputs; nothing of ``outputs`` may overlap them.
            outputs: writeable, C-contiguous.
        """
        found = [as_array(a) for a in arrays]
        program = self.fitted(found)
        if not config.is_native():
            run = program.signature.interpret(found)
            for array, result in zip(outputs, run.outputs, strict=True):
                np.copyto(array, result)
            return
        try:
            self._plan(program).run_into(*found, outputs=outputs)
        except ValueError:
            _check_guards(program.signature, found, None)
            raise

    def run_fed(self, feed: Feed, batch_size: int, max_steps: int, deadline: float = 0.05) -> int:
        """Runs the program on batch after batch of ``feed``, which may collect its outputs.

        Args:
            feed: holds one source for each input.
            batch_size: rows of a batch; only whole batches are taken.
            max_steps: batches at most.
            deadline: seconds after which the run returns at the next step boundary.

        Returns:
            How many batches were run; less than asked for if the deadline passed.

        Raises:
            ValueError: for a batch that a guard refused (labels out of range); its step has
                changed nothing; for data in a file that has been cut.
        """
        if feed.files:
            feed.check_files()
        if not config.is_native():
            signature = self.fitted(feed.batch(batch_size)).signature
            return _interpret_fed(signature, feed, batch_size, max_steps)
        if self._subject is not None and self._seen != watch.now:
            self._renew()

        program: Fitted | None = None  # found in this call
        is_traced = True

        def miss() -> Any:
            nonlocal program, is_traced
            is_traced = False
            program = self.fitted(feed.batch(batch_size))
            plan = self.fed_plan(program)
            is_traced = True
            return plan

        run = (self._native or self.native).run_fed
        try:
            return run(feed.native, batch_size, max_steps, deadline, miss)  # type: ignore[no-any-return]
        except ValueError:
            if is_traced and feed.position + batch_size <= feed.rows:
                program = program or self.fitted(feed.batch(batch_size))
                _refuse(program.signature, feed, batch_size)
            raise

    def fed_plan(self, program: Fitted) -> Any:
        """The C++ plan of a program for batches of a feed, bound to the variables."""
        return self._plan(program, feeds=True)

    # Traces, and whether they are current.

    def _renew(self) -> None:
        """Forgets what was traced from a subject that has changed."""
        now = watch.now  # what changes from here on is seen next time
        known = self._structure
        if known is None:
            return
        if not known.holds():
            with _tracing:
                found = self._describe()
                if not found.is_equal(known):
                    self.clear()
                    return
                self._structure = known = found
        self._seen = -1 if known.must_ask else now

    def _describe(self) -> Structure:
        assert self._subject is not None  # noqa: S101
        return Structure(self._subject.parts(), not self._subject.ignores_trainable)

    def _bind(self, specs: tuple[Spec, ...]) -> Bound:
        """Finds a trace of an equal subject, or traces; called under the lock."""
        subject = self._subject
        if subject is None:
            return self._remember(specs, Bound(*self._trace(specs)))
        now = watch.now
        found = self._describe()
        key = self._key(specs, found)
        trace = TRACES.find(key) if found.is_shared else None
        if trace is not None and found.key != trace.after:
            before, made = found, subject.prepare(trace.memo, found)
            now = watch.now
            expected = None if trace.way is None else trace.way.leads(before, made)
            found = self._describe() if expected is None else expected
            if expected is None and found.key != trace.after:
                trace = None  # what it has made differs from what the trace made
            elif expected is None:
                trace.way = Way.learn(before, made, found)
        if trace is not None:
            bound = Bound(trace, [found.variables[i] for i in trace.places], found.names)
        else:
            before = found
            trace, variables = self._trace(specs)
            now = watch.now
            found = self._describe()
            bound = Bound(trace, variables, found.names)
            self._share(trace, bound, specs, key, before, found)
        self._structure = found
        self._seen = -1 if found.must_ask else now
        return self._remember(specs, bound)

    def _share(
        self,
        trace: Trace,
        bound: Bound,
        specs: tuple[Spec, ...],
        key: Any,
        before: Structure,
        after: Structure,
    ) -> None:
        """Makes a new trace known to others, if its variables can be told apart by structure."""
        trace.names = after.names
        places = {id(v): i for i, v in enumerate(after.variables)}
        if not after.is_shared or any(id(v) not in places for v in bound.variables):
            return
        trace.places = [places[id(v)] for v in bound.variables]
        trace.after = after.key
        trace.memo = self._subject.memo(before) if self._subject is not None else None
        trace.is_shared = True
        TRACES.share(key, trace)
        TRACES.share(self._key(specs, after), trace)

    def _key(self, specs: tuple[Spec, ...], structure: Structure) -> Any:
        return type(self._subject), self._batched, self._rows_alone, specs, structure.key

    def _remember(self, specs: tuple[Spec, ...], bound: Bound) -> Bound:
        while len(self._bound) >= _MOST_SIGNATURES:
            TRACES.release(self, self._bound.popitem(last=False)[0])
            self._fitted.clear()
        self._bound[specs] = bound
        if bound.trace.structure not in self._outputs:
            self._outputs.append(bound.trace.structure)
        TRACES.note(self, specs, bound.trace)
        return bound

    def _trace(self, specs: tuple[Spec, ...]) -> tuple[Trace, list[Variable]]:
        graph = Graph(self.name)
        with graph:
            values = [graph.input(spec, f"input_{i}") for i, spec in enumerate(specs)]
            result = self._fn(*values)
            structure = None
            if isinstance(result, Outputs):
                result, structure = result
            outputs = result if isinstance(result, tuple) else (result,)
            graph.outputs = [trace.as_value(graph, v) for v in outputs]
        if config.debug():
            verify(graph)
        variables = take_variables(graph)
        return Trace(graph, structure, self._rows_alone), variables

    # Calls.

    def _plan(self, program: Fitted, feeds: bool = False) -> Any:
        with _tracing:
            return program.signature.plan(program.sizes, feeds)

    def _miss(self, *arrays: Array) -> Any:
        if any(name_of_dtype(a.dtype) not in DTYPES for a in arrays):
            return self._fallback
        return self._plan(self.fitted(arrays))

    def _fallback(self, *arrays: Any) -> Any:
        """Arguments that are not ready for C++: made contiguous, native-endian arrays."""
        found = [as_array(a) for a in arrays]
        program = self.fitted(found)
        try:
            return self._plan(program)(*found)
        except ValueError:
            _check_guards(program.signature, found, None)
            raise

    def _interpret(self, arrays: list[Array]) -> Any:
        outputs = self.fitted(arrays).signature.interpret(arrays).outputs
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _interpret_fed(signature: Bound, feed: Feed, batch_size: int, max_steps: int) -> int:
    steps = 0
    while steps < max_steps and feed.position + batch_size <= feed.end:
        arrays, _ = feed.take(feed.position, batch_size)
        try:
            found = signature.interpret(arrays)
        except RowError:
            _refuse(signature, feed, batch_size)
            raise
        feed.keep(found.outputs)
        feed.position += batch_size
        steps += 1
    return steps


def _has_lengths(specs: Sequence[Spec]) -> bool:
    return any(isinstance(d, SymbolicDim) and d != BATCH for spec in specs for d in spec.shape)


def _refuse(signature: Bound, feed: Feed, batch_size: int) -> None:
    arrays, rows = feed.take(feed.position, batch_size)
    order = np.argsort(rows, kind="stable")  # so that the first row of the data is named
    _check_guards(signature, [a[order] for a in arrays], rows[order])


def _check_guards(signature: Bound, arrays: Sequence[Array], rows: Array | None) -> None:
    """Raises the error of the guard that refuses ``arrays``, with the row in the data."""
    graph = signature.trace.optimized
    guards = Graph(f"{graph.name} guards", graph.assumptions)
    guards.inputs, guards.constants = graph.inputs, graph.constants
    guards.variables = graph.variables
    wanted: set[Value] = set()
    for node in reversed(graph.nodes):
        if is_guard(node) or any(v in wanted for v in node.outputs):
            wanted.update(node.inputs)
            guards.nodes.insert(0, node)
    try:
        interpret(guards, arrays, states=signature.contents(graph))
    except RowError as error:
        if rows is None:
            raise
        raise RowError(error.problem, int(rows[error.row])) from None


def as_array(x: Any) -> Array:
    """Returns ``x`` as a contiguous array of a dtype that programs know.

    Raises:
        TypeError: for objects, strings and dtypes without a meaning here.
    """
    if isinstance(x, Variable):
        return x.read()
    array = held(array_of(x))
    if array.ndim:
        array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()
