"""Describes a scheduled graph to the C++ core, once for all sizes that a call decides.

What depends on them (memory offsets, argument structs, blocks) is worked out in C++ by
``Program.specialize``: a new batch size or length costs microseconds, not a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill.errors import GraphError
from handmill.ir.dims import FloorDiv, Shape, Symbol, SymbolicDim, holds_dims
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.op import Array
from handmill.ir.shapes import DTYPES
from handmill.ir.tile import TILE, TileInstruction, tile_code

HOST = "host"


class _Expressions:
    """The polynomials of a program, in postfix form for ``csrc/core/dims.h``."""

    PUSH, SYMBOL, ADD, MULTIPLY, FLOOR_DIVIDE = range(5)

    def __init__(self, symbols: Sequence[Symbol]) -> None:
        self._position = {symbol: i for i, symbol in enumerate(symbols)}
        self._number: dict[Any, int] = {}
        self.codes: list[tuple[int, ...]] = []

    def number(self, dim: int | SymbolicDim) -> int:
        """The number of the expression that gives ``dim``."""
        if dim not in self._number:
            self._number[dim] = len(self.codes)
            self.codes.append(tuple(self._code(dim)))
        return self._number[dim]

    def dims(self, shape: Shape) -> tuple[int, ...]:
        """A shape as C++ reads it: ``-1 - i`` stands for expression ``i``.

        Raises:
            ValueError: for a dimension that no array can have.
        """
        fixed = [d for d in shape if not isinstance(d, SymbolicDim)]
        if fixed and max(fixed) >= 1 << 63:
            raise ValueError(f"an array of shape {shape} is too large")
        return tuple([-1 - self.number(d) if isinstance(d, SymbolicDim) else d for d in shape])

    def _code(self, dim: int | SymbolicDim) -> list[int]:
        if not isinstance(dim, SymbolicDim):
            return [self.PUSH, dim]
        code: list[int] = []
        for i, (monomial, count) in enumerate(dim.terms):
            code += [self.PUSH, count]
            for atom in monomial:
                if isinstance(atom, FloorDiv):
                    code += [*self._code(atom.of), self.PUSH, atom.by, self.FLOOR_DIVIDE]
                else:
                    code += [self.SYMBOL, self._position[atom]]
                code.append(self.MULTIPLY)
            if i:
                code.append(self.ADD)
        return code


def describe(
    graph: Graph, opcodes: dict[str, int], feeds: bool
) -> tuple[dict[str, Any], dict[Value, int]]:
    """Returns the arguments of ``_core.Program`` and the number of each value.

    Which states stand behind the variables, in the order of ``graph.variables``, is said when the
    program runs.

    Args:
        graph: a graph that :func:`handmill.ir.passes.schedule` has ordered.
        opcodes: opcode of each tile instruction by name.
        feeds: whether the inputs are gathered from data sets by the program itself.
    """
    describer = _Describer(graph, opcodes)
    return describer.arguments(feeds), describer.number


class _Describer:
    """The description of a program under way."""

    def __init__(self, graph: Graph, opcodes: dict[str, int]) -> None:
        self.graph = graph
        self.opcodes = opcodes
        self.symbols = graph.symbols
        self.expressions = _Expressions(self.symbols)
        self.number: dict[Value, int] = {}
        self.values: list[tuple[int, tuple[int, ...]]] = []
        self.constants: list[tuple[int, Array]] = []
        self.nodes: list[tuple[Any, ...]] = []

    def arguments(self, feeds: bool) -> dict[str, Any]:
        """The arguments of ``_core.Program``."""
        graph, number = self.graph, self.number
        inputs = [self.add(v) for v in graph.inputs]
        variables = [self.add(v) for v in graph.variables.values()]
        self.add_constants(graph)
        for node in graph.nodes:
            self.add_node(node)
        return {
            "values": self.values,
            "inputs": inputs,
            "constants": self.constants,
            "variables": variables,
            "nodes": self.nodes,
            "outputs": [number[v] for v in graph.outputs],
            "updates": [(number[graph.variables[s]], number[v]) for s, v in graph.updates.items()],
            "feeds": inputs if feeds else [],
            "symbols": len(self.symbols),
            "expressions": self.expressions.codes,
        }

    def add(self, value: Value) -> int:
        """The number of a value."""
        at = self.number.get(value)
        if at is None:
            at = self.number[value] = self.new(value)
        return at

    def new(self, like: Value) -> int:
        """A value of its own with the same shape and dtype."""
        dims = self.expressions.dims(like.spec.shape)
        self.values.append((DTYPES.index(like.spec.dtype), dims))
        return len(self.values) - 1

    @contextmanager
    def inside(self, number: dict[Value, int]) -> Iterator[None]:
        """Describes a body: of the values outside it knows those that ``number`` says."""
        outer, self.number = self.number, number
        try:
            yield
        finally:
            self.number = outer

    def add_constants(self, graph: Graph) -> None:
        """Gives the constants of a graph or body numbers."""
        for value in graph.constants:
            if value not in self.number:
                self.constants.append((self.add(value), value.origin))

    def add_node(self, node: Node) -> None:
        """Describes a node, and what is inside of it."""
        if node.op.flow is not None:
            node.op.flow(self, node)
            return
        kernel, attrs, host = _rule(node, self.opcodes, self.expressions, self.symbols)
        inputs = [self.add(v) for v in node.inputs]
        outputs = [self.add(v) for v in node.outputs]
        self.emit(kernel, inputs, outputs, attrs, node.scope, _alias(node), host)

    def emit(
        self,
        kernel: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        attrs: dict[str, Any],
        scope: str,
        alias: tuple[tuple[int, int], ...] = (),
        host: Any = None,
    ) -> None:
        """Appends a node of the description."""
        self.nodes.append((kernel, tuple(inputs), tuple(outputs), attrs, alias, scope, host))

    def size(self, dim: Any) -> Any:
        """A size as an attribute of :meth:`emit`."""
        return [self.expressions.number(dim)] if isinstance(dim, SymbolicDim) else (dim,)


def _alias(node: Node) -> tuple[tuple[int, int], ...]:
    """The pairs (output, input) that may share memory.

    A tile program with one result writes each piece of it after it has read that piece of every
    operand; with several results a later instruction may still read what a result overwrote.
    """
    if node.op is TILE or (node.op.elementwise and node.op.alias):
        out = node.outputs[0].spec
        sums = node.op is TILE and not node.attrs["instructions"][-1].op.elementwise
        if len(node.outputs) > 1 or sums:
            return ()
        return tuple((0, i) for i, v in enumerate(node.inputs) if v.spec == out)
    return tuple((o, i) for o, i in node.op.alias if o < len(node.outputs) and i < len(node.inputs))


def _rule(
    node: Node, opcodes: dict[str, int], expressions: _Expressions, symbols: Sequence[Symbol]
) -> tuple[str, dict[str, Any], Callable[..., Any] | None]:
    """The lowering rule of a node: its kernel's, the tile program's, or the host's."""
    op = node.op
    specs = [v.spec for v in node.inputs]
    if op is TILE:
        dtypes = [spec.dtype for spec in specs]
        return (
            "tile",
            tile_code(dtypes, node.attrs["instructions"], node.attrs["results"], opcodes),
            None,
        )
    if op.runs_on_host(specs, node.attrs):
        guard = {"guard": True} if op.guard else {}
        return HOST, {"name": op.name, **guard}, _host(node, symbols)
    if op.kernel is not None:
        return op.kernel, _plain(node, expressions), None
    dtypes, result = [spec.dtype for spec in specs], node.outputs[0].dtype
    instruction = TileInstruction(op, tuple(range(len(specs))), tuple(node.attrs.items()), result)
    return "tile", tile_code(dtypes, (instruction,), (0,), opcodes), None


def _plain(node: Node, expressions: _Expressions) -> dict[str, Any]:
    """The attributes of a kernel: numbers and texts; a list holds numbers of expressions.

    Tuples of tuples, such as pairs of paddings, are told as one.

    Raises:
        GraphError: for an attribute that a kernel cannot be told.
    """
    attrs: dict[str, Any] = {}
    for name, value in node.attrs.items():
        if value is None or name in node.op.vjp_attrs:
            continue
        several = isinstance(value, tuple)
        if several and value and all(isinstance(v, tuple) for v in value):
            value = tuple([number for pair in value for number in pair])
        if holds_dims(value):
            attrs[name] = [expressions.number(d) for d in (value if several else (value,))]
        elif isinstance(value, bool | int | float | str) or (
            several and all(isinstance(v, int | float) for v in value)
        ):
            attrs[name] = value
        else:
            raise GraphError(
                f"the kernel of {node.op.name} cannot be told {name}={value!r}: numbers, sizes, "
                "texts and tuples of numbers are understood"
            )
    attrs |= dict(node.op.kernel_attrs)
    if node.op.guard:
        attrs["guard"] = True
    return attrs


def _host(
    node: Node, symbols: Sequence[Symbol]
) -> Callable[[Sequence[Array], Sequence[int]], tuple[Array, ...]]:
    """A host node: runs the operator's reference, on views of the program's memory."""

    def run(operands: Sequence[Array], sizes: Sequence[int]) -> tuple[Array, ...]:
        from handmill.ir.interpret import run_node

        with np.errstate(all="ignore"):
            return run_node(node, operands, dict(zip(symbols, sizes, strict=True)))

    return run
