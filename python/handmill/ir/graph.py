"""Graph, Node and Value: a program in single-assignment form, and its printer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, ClassVar, Protocol

import numpy as np

from handmill.errors import TracedValueError
from handmill.ir.dims import (
    Assumptions,
    Atom,
    Symbol,
    SymbolicDim,
    attrs_with,
    pop_assumptions,
    push_assumptions,
)
from handmill.ir.numpy_calls import NumpyOperand, user_function
from handmill.ir.op import Array, Attrs, Op
from handmill.ir.shapes import Sizes, Spec, bind, name_of_dtype, symbols_in


class State(Protocol):
    """What a graph needs to know of a Variable: state that outlives a step."""

    name: str

    @property
    def spec(self) -> Spec: ...

    def read(self) -> Array:
        """Returns the current content, not to be written to."""
        ...


def operator_table() -> dict[str, Callable[..., Any]]:
    """The functions behind the operators, by name."""
    if not Operators.operators:
        import handmill.ops  # noqa: F401  (fills the table)
    return Operators.operators


class Operators:
    """The operators of Python on tensors: each is a function of handmill.ops."""

    __slots__ = ()

    operators: ClassVar[dict[str, Callable[..., Any]]] = {}  # filled by handmill.ops

    def __add__(self, other: Any) -> Any:
        return operator_table()["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return operator_table()["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return operator_table()["subtract"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return operator_table()["subtract"](other, self)

    def __mul__(self, other: Any) -> Any:
        return operator_table()["multiply"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return operator_table()["multiply"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return operator_table()["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return operator_table()["divide"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return operator_table()["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return operator_table()["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Any:
        return operator_table()["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return operator_table()["mod"](other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any) -> Any:
        return operator_table()["power"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return operator_table()["power"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return operator_table()["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return operator_table()["matmul"](other, self)

    def __neg__(self) -> Any:
        return operator_table()["negative"](self)

    def __abs__(self) -> Any:
        return operator_table()["absolute"](self)

    def __pos__(self) -> Any:
        return self

    def __round__(self, ndigits: int | None = None) -> Any:
        return operator_table()["round"](self, ndigits or 0)

    def __and__(self, other: Any) -> Any:
        return operator_table()["bitwise_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return operator_table()["bitwise_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return operator_table()["bitwise_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return operator_table()["bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return operator_table()["bitwise_xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return operator_table()["bitwise_xor"](other, self)

    def __invert__(self) -> Any:
        return operator_table()["invert"](self)

    def __lt__(self, other: Any) -> Any:
        return operator_table()["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return operator_table()["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return operator_table()["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return operator_table()["greater_equal"](self, other)

    def __getitem__(self, key: Any) -> Any:
        return operator_table()["getitem"](self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "a symbolic tensor cannot be written into; use handmill.ops.where, slice_update or "
            "scatter_update, which return a new one"
        )


class LogicalOperators(Operators):
    """The same on tensors of Keras's face, where ``&``, ``|``, ``^``, ``~`` tell truth values."""

    __slots__ = ()

    def __and__(self, other: Any) -> Any:
        return operator_table()["logical_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return operator_table()["logical_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return operator_table()["logical_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return operator_table()["logical_or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return operator_table()["logical_xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return operator_table()["logical_xor"](other, self)

    def __invert__(self) -> Any:
        return operator_table()["logical_not"](self)


class ElementwiseEquality:
    """``==`` and ``!=`` of tensors that are no values of a graph.

    Beside a number or tensor they compare element by element; beside anything else, and hashed, a
    tensor is itself.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return operator_table()["equal"](self, other) if is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return operator_table()["not_equal"](self, other) if is_operand(other) else NotImplemented


class Value(NumpyOperand, Operators):
    """A tensor in a graph: a spec, and where it comes from.

    Attributes:
        spec: shape and dtype.
        graph: the graph in which it was made; passes may share it with later graphs.
        node: the node that computes it; None for inputs, variables and constants.
        index: which output of the node it is.
        origin: the name of an input, the State of a variable, the array of a constant.
        mask: while traced, a bool value with a True for each entry that counts, or None.
    """

    __slots__ = ("graph", "index", "mask", "node", "origin", "spec")

    def __init__(
        self,
        graph: Graph,
        spec: Spec,
        node: Node | None = None,
        index: int = 0,
        origin: Any = None,
    ) -> None:
        self.graph = graph
        self.spec = spec
        self.node = node
        self.index = index
        self.origin = origin
        self.mask: Value | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape; what a call decides is a :class:`handmill.ir.dims.SymbolicDim`."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.spec.shape)

    @property
    def constant(self) -> Array | None:
        """The array of a constant, else None."""
        return self.origin if isinstance(self.origin, np.ndarray) else None

    def __len__(self) -> int:
        return self.spec.shape[0]  # type: ignore[return-value]

    def __bool__(self) -> bool:
        raise TracedValueError(
            "the truth of a symbolic value is not known while a model is traced; "
            "use handmill.ops.where, or handmill.ops.cond, instead of if"
        )

    def numpy(self) -> Array:
        """Raises an error: there is no array while a program is traced."""
        raise _no_number("the content")

    def item(self) -> Any:
        """Raises an error: there is no number while a program is traced."""
        raise _no_number("the Python number")

    tolist = item

    def __float__(self) -> float:
        raise _no_number("the Python number (float(), math.exp, ...)")

    def __int__(self) -> int:
        raise _no_number("the Python number (int(), range(), ...)")

    # Element by element while the value's program is traced; elsewhere a value equals itself alone,
    # and it is hashed as such: graphs keep values in dicts and sets.

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        if not _is_traced(self.graph) or not is_operand(other):
            return NotImplemented
        return operator_table()["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        if not _is_traced(self.graph) or not is_operand(other):
            return NotImplemented
        return operator_table()["not_equal"](self, other)

    def __repr__(self) -> str:
        return f"Value({self.spec})"


def _no_number(what: str) -> TracedValueError:
    return TracedValueError(
        f"{user_function()} asked for {what} of a symbolic value, which is not known while a "
        "model is traced; compute with functions of handmill.ops"
    )


def is_operand(x: object) -> bool:
    """Whether ``x`` is something that a tensor can be compared with: a tensor or a number."""
    return isinstance(x, _OPERANDS) or hasattr(x, "spec")


_OPERANDS = (bool, int, float, np.ndarray, np.generic, SymbolicDim, Value)


class Node:
    """One application of an operator.

    Attributes:
        op: the operator's record.
        inputs: its operands.
        attrs: its attributes; hashable values, which may hold symbolic dimensions.
        outputs: what it computes.
        scope: the layer that asked for it, for messages and summaries.
        bodies: the graphs among the attributes, once ``bodies_of`` has looked for them.
    """

    __slots__ = ("attrs", "bodies", "inputs", "op", "outputs", "scope")

    def __init__(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs, scope: str) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.scope = scope
        self.outputs: tuple[Value, ...] = ()
        self.bodies: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        return f"Node({self.op.name})"


class Graph:
    """A pure program: inputs, variables and constants in; outputs and updates out.

    A graph is traced inside ``with graph:``; operators called meanwhile append nodes to it.

    Attributes:
        inputs: the values fed at each call, in order.
        variables: the value that each State has when the program starts.
        nodes: in an order in which they can run.
        outputs: the values returned at each call, in order.
        updates: the value that each written State has when the program ends.
        assumptions: what the trace assumed of the sizes that a call decides; graphs that are made
            from one another share it.
        left: what is wrong with a value of it that another graph uses.
    """

    left = "a symbolic value was used outside the trace that made it"

    def __init__(self, name: str = "graph", assumptions: Assumptions | None = None) -> None:
        self.name = name
        self.assumptions = assumptions or Assumptions(scope=self._scope)
        self.inputs: list[Value] = []
        self.variables: dict[State, Value] = {}
        self.constants: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []
        self.updates: dict[State, Value] = {}
        self.scopes: list[str] = []
        self.standing_in: Mapping[Value, Value] = {}  # for values of the graph that this copies

    def __enter__(self) -> Graph:
        _stack().append(self)
        push_assumptions(self.assumptions)
        self.assumptions.graphs.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.assumptions.graphs.remove(self)
        pop_assumptions()
        _stack().pop()

    def _scope(self) -> str:
        return self.scopes[-1] if self.scopes else ""

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The sizes that a call binds, in the order in which plans take them."""
        return symbols_in([v.spec.shape for v in self.inputs])

    def bind(self, shapes: Sequence[Sequence[int]]) -> Sizes:
        """Returns the sizes that inputs of these shapes give to the symbols.

        Raises:
            ValueError: if the shapes do not fit the inputs.
        """
        if len(shapes) != len(self.inputs):
            raise ValueError(f"expected {len(self.inputs)} inputs, got {len(shapes)}")
        names = [v.origin for v in self.inputs]
        return bind([v.spec.shape for v in self.inputs], shapes, names)

    def sizes_of(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns the sizes in the order of :attr:`symbols`, as plans take them."""
        return tuple(sizes[symbol] for symbol in self.symbols)

    def substitute(self, values: dict[Atom, Any]) -> None:
        """Replaces symbols in every shape and attribute so far."""
        for value in self.inputs:
            value.spec = value.spec.with_dims(values)
        for node in self.nodes:
            node.attrs = attrs_with(node.attrs, values)
            node.bodies = None
            for value in node.outputs:
                value.spec = value.spec.with_dims(values)

    def input(self, spec: Spec, name: str) -> Value:
        """Appends an input."""
        value = Value(self, spec, origin=name)
        self.inputs.append(value)
        return value

    def capture(self, value: Value) -> Value:
        """Returns what stands in this graph for a value that is used in it.

        Raises:
            ValueError: if the value is of another graph, and nothing stands in for it.
        """
        if value.graph is self:
            return value
        found = self.standing_in.get(value)
        if found is None:
            raise ValueError(value.graph.left)
        return found

    def constant(self, array: Any, dtype: str | None = None) -> Value:
        """Appends a constant."""
        data = np.array(array, dtype=dtype)
        data.flags.writeable = False
        value = Value(self, Spec(data.shape, name_of_dtype(data.dtype)), origin=data)
        self.constants.append(value)
        return value

    def read(self, state: State) -> Value:
        """Returns the value that ``state`` has at this point of the program."""
        if state in self.updates:
            return self.updates[state]
        if state not in self.variables:
            self.variables[state] = Value(self, state.spec, origin=state)
        return self.variables[state]

    def assign(self, state: State, value: Value) -> None:
        """Makes ``value`` the content of ``state`` from here on.

        Raises:
            ValueError: if shape or dtype differ.
        """
        if value.spec != state.spec:
            raise ValueError(
                f"variable {state.name!r} holds {state.spec}, cannot be assigned {value.spec}"
            )
        self.read(state)
        self.updates[state] = value

    def emit(self, op: Op, inputs: Sequence[Value], attrs: Attrs) -> Any:
        """Appends a node; returns its output, or a tuple if the operator has several."""
        assumed = self.assumptions
        attrs = assumed.resolve_attrs(attrs)
        found = op.specs([v.spec for v in inputs], attrs)
        several = isinstance(found, tuple)
        specs = found if several else (found,)
        if assumed.solved:
            attrs = assumed.resolve_attrs(attrs)
            specs = [spec.with_dims(assumed.solved) for spec in specs]
        scope = self.scopes[-1] if self.scopes else ""
        outputs = self.append(op, inputs, attrs, scope, specs)
        return outputs if several else outputs[0]

    def append(
        self, op: Op, inputs: Sequence[Value], attrs: Attrs, scope: str, specs: Sequence[Spec]
    ) -> tuple[Value, ...]:
        """Appends a node whose outputs are known to have ``specs``; returns the outputs."""
        node = Node(op, tuple(inputs), attrs, scope)
        node.outputs = tuple([Value(self, spec, node, i) for i, spec in enumerate(specs)])
        self.nodes.append(node)
        return node.outputs

    def copy_node(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Appends the same operation on other operands, without asking its shape rule again."""
        specs = [v.spec for v in node.outputs]
        outputs = self.append(node.op, inputs, node.attrs, node.scope, specs)
        self.nodes[-1].bodies = node.bodies
        return outputs

    def keep_node(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Appends the same operation: the node itself if its operands are the same, or a copy."""
        if inputs is node.inputs or all(map(is_, node.inputs, inputs)):
            self.nodes.append(node)
            return node.outputs
        return self.copy_node(node, inputs)

    def without_nodes(self) -> Graph:
        """Returns a graph without nodes that shares inputs, variables and constants."""
        new = Graph(self.name, self.assumptions)
        new.inputs = list(self.inputs)
        new.variables = dict(self.variables)
        new.constants = list(self.constants)
        return new

    def roots(self) -> list[Value]:
        """The values that must be computed: outputs, then updates."""
        return [*self.outputs, *self.updates.values()]

    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, in program order."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                users = result.get(value)
                if users is None:
                    result[value] = [node]
                elif users[-1] is not node:
                    users.append(node)
        return result

    def __str__(self) -> str:
        return print_graph(self)


def rewrite(
    graph: Graph, visit: Callable[[Graph, Node, tuple[Value, ...]], Iterable[Value] | None]
) -> Graph:
    """Rebuilds ``graph`` node by node; passes are written with this.

    The new graph shares inputs, variables, constants and every node that stays as it is.

    Args:
        graph: the graph to rebuild; it is left as it is.
        visit: called with (new graph, old node, new operands); emits what shall stand in the
            node's place and returns one value for each output of the node, or returns None to
            keep the node.

    Returns:
        The new graph; ``graph`` itself if every node was kept.
    """
    new = graph.without_nodes()
    mapping: dict[Value, Value] = {}  # of the outputs that are other values now
    renamed, untouched = mapping.get, mapping.keys().isdisjoint
    with new:
        for node in graph.nodes:
            operands = node.inputs
            if not untouched(operands):
                operands = tuple([renamed(v, v) for v in operands])
            new.scopes = [node.scope]
            outputs = visit(new, node, operands)
            if outputs is None:
                if operands is node.inputs:  # as of most
                    new.nodes.append(node)
                    continue
                outputs = new.keep_node(node, operands)
            if outputs is node.outputs:
                continue
            if len(node.outputs) == 1:  # as of most
                (mapping[node.outputs[0]],) = outputs
            else:
                mapping.update(zip(node.outputs, outputs, strict=True))
    if not mapping and len(new.nodes) == len(graph.nodes):
        return graph
    new.scopes = []
    new.outputs = [renamed(v, v) for v in graph.outputs]
    new.updates = {state: renamed(v, v) for state, v in graph.updates.items()}
    return new


def print_graph(graph: Graph) -> str:
    """Returns the program as text, one node a line."""
    names: dict[Value, str] = {}

    def name(value: Value) -> str:
        if value not in names:
            if value.constant is not None:
                array = value.constant
                names[value] = repr(array.item()) if array.size == 1 else f"const{value.spec}"
            elif value.node is None and isinstance(value.origin, str):
                names[value] = value.origin
            elif value.node is None:
                names[value] = value.origin.name
            else:
                names[value] = f"%{len(names)}"
        return names[value]

    lines = [f"{graph.name}({', '.join(f'{name(v)}: {v.spec}' for v in graph.inputs)})"]
    for node in graph.nodes:
        left = ", ".join(f"{name(v)}: {v.spec}" for v in node.outputs)
        right = [name(v) for v in node.inputs]
        right += [f"{key}={value!r}" for key, value in node.attrs.items()]
        scope = f"  # {node.scope}" if node.scope else ""
        lines.append(f"  {left} = {node.op.name}({', '.join(right)}){scope}")
    lines.extend(f"  {state.name} := {name(v)}" for state, v in graph.updates.items())
    lines.append(f"  return {', '.join(name(v) for v in graph.outputs)}")
    return "\n".join(lines)


class _Local(threading.local):
    stack: list[Graph | None] | None = None


_LOCAL = _Local()


def _stack() -> list[Graph | None]:
    if _LOCAL.stack is None:
        _LOCAL.stack = []
    return _LOCAL.stack


def current_graph() -> Graph | None:
    """The graph that this thread is tracing, None outside ``with graph:``."""
    stack = _LOCAL.stack
    return stack[-1] if stack else None


def _is_traced(graph: Graph) -> bool:
    """Whether this thread traces ``graph``, or a body inside of it."""
    stack = _LOCAL.stack
    return stack is not None and bool(stack) and stack[-1] is not None and graph in stack


@contextmanager
def outside_graph() -> Iterator[None]:
    """Lets operators called in the ``with`` block run on arrays, although a graph is traced."""
    _stack().append(None)
    try:
        yield
    finally:
        _stack().pop()
