"""Tensors of the functional API, and the graph of layers that their history spells."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from handmill import tree
from handmill.ir.dims import BATCH, Atom, as_none, atoms_of, symbol
from handmill.ir.graph import ElementwiseEquality, LogicalOperators
from handmill.ir.numpy_calls import NumpyOperand
from handmill.ir.shapes import Spec, standardize_dtype
from handmill.naming import uniquify
from handmill.runtime.structure import Walk
from handmill.runtime.whole_calls import keep_calls_on

STRING = "string"
"""The dtype of symbolic strings: programs know no such values, some layers do."""

_RUNNING = threading.local()


def sizes_of_run() -> Mapping[Atom, Any]:
    """What stands, in the graph of layers that runs, for the sizes of its symbolic inputs."""
    return getattr(_RUNNING, "sizes", None) or {}


def _sizes_of(tensors: Sequence[KerasTensor], values: Sequence[Any]) -> dict[Atom, Any]:
    sizes: dict[Atom, Any] = {}
    for tensor, value in zip(tensors, values, strict=True):
        if value is None:  # of an optional input
            continue
        shape = value.spec.shape if isinstance(value, KerasTensor) else value.shape
        for dim, size in zip(tensor.spec.shape, shape, strict=False):
            sizes.update((atom, size) for atom in atoms_of(dim) if atom not in sizes)
    return sizes


class History(NamedTuple):
    """Which call of which layer made a tensor."""

    operation: Any
    node_index: int
    tensor_index: int


def spec_of(shape: Sequence[int | None], dtype: str, name: str) -> Spec:
    """Returns the spec of a user's shape.

    None on axis 0 is the batch size, any other a symbol of its own, called after ``name``.
    """
    return Spec(
        tuple(
            int(dim) if dim is not None else symbol(f"{name}[{axis}]") if axis else BATCH
            for axis, dim in enumerate(shape)
        ),
        dtype,
    )


def has_symbols(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether there is a symbolic tensor among the arguments of a call."""
    return any(isinstance(x, KerasTensor) for x in tree.flatten((list(args), kwargs)))


def shape_of_spec(spec: Spec) -> tuple[int | None, ...]:
    """Returns the shape of ``spec`` as users see it, with None for what a call decides."""
    return as_none(spec.shape)


class KerasTensor(NumpyOperand, ElementwiseEquality, LogicalOperators):
    """A tensor without content: what ``Input`` and layers called on tensors return.

    Functions of ``handmill.ops`` and operators work on it; each becomes a layer of its own.

    Args:
        shape: with None for the batch size and other sizes that differ from call to call.
        dtype: the dtype's name.
        sparse: not supported; must be False.
        ragged: not supported; must be False.
        record_history: must be True.
        name: default: ``keras_tensor``, numbered.

    Attributes:
        shape: with None for the batch size and other sizes that differ from call to call.
        dtype: the dtype's name.
        name: unique in the process.
        mask: stands for the mask that its values will carry, if they will; not for use in a model.
        sparse: False: there are no sparse tensors.
        ragged: False: there are no ragged tensors.
    """

    sparse = False
    ragged = False
    _numpy_error = ValueError
    _numpy_subject = "a KerasTensor"
    _numpy_reason = (
        " (a KerasTensor has no content: it doesn't have any actual numerical value, it stands for "
        "a layer's output while a model is put together)"
    )

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: str = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
    ) -> None:
        if sparse and ragged:
            raise ValueError(
                "KerasTensor cannot have `sparse=True` and `ragged=True` at the same time"
            )
        if sparse or ragged:
            raise ValueError("KerasTensor: sparse and ragged tensors are not supported")
        if not record_history:
            raise ValueError("KerasTensor(record_history=False): tensors keep their history here")
        name = name or uniquify("keras_tensor")
        self._start(spec_of(shape, standardize_dtype(dtype), name), name)

    @classmethod
    def of_spec(cls, spec: Spec) -> KerasTensor:
        """A tensor of a known spec."""
        made = cls.__new__(cls)
        made._start(spec, uniquify("keras_tensor"))
        return made

    def _start(self, spec: Spec, name: str) -> None:
        self.name = name
        self.spec = spec
        self.mask: KerasTensor | None = None
        self._keras_history: History | None = None

    @property
    def _keras_mask(self) -> KerasTensor | None:
        """The mask, under the name by which Keras's guides look at it."""
        return self.mask

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description which tensor of a graph this is (runtime/structure.py)."""
        if walk.is_new(self):
            walk.add(self.spec)

    @staticmethod
    def apply_symbolically(op: Any, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        """Records an operator applied to symbolic tensors as a layer."""
        from handmill.layers.operation import OpLayer

        return OpLayer(op.name, attrs)(*operands)

    @staticmethod
    def record_call(
        function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Records the call of a public function of ``ops`` as one operation, where it can be."""
        from handmill.layers.op_function import OpFunction

        return OpFunction.record(function, name, args, kwargs)

    @staticmethod
    def record_function(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Records a function applied to arguments that hold symbolic tensors as a layer."""
        from handmill.layers.operation import FunctionLayer

        leaves = tree.flatten(arguments)
        places = [i for i, x in enumerate(leaves) if isinstance(x, KerasTensor)]

        def call(*values: Any) -> Any:
            found = list(leaves)
            for i, value in zip(places, values, strict=True):
                found[i] = value
            return function(*tree.pack_sequence_as(arguments, found))

        return FunctionLayer(call, uniquify(name))(*[leaves[i] for i in places])

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape; None is what a call decides."""
        return shape_of_spec(self.spec)

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.spec.shape)

    @property
    def history(self) -> History:
        """Which call of which layer made this tensor."""
        if self._keras_history is None:
            raise ValueError(f"{self!r} was not made by a layer")
        return self._keras_history

    def reshape(self, newshape: Sequence[int]) -> Any:
        """The tensor in another shape, as ``ops.reshape`` gives it."""
        from handmill import ops

        return ops.reshape(self, newshape)

    def squeeze(self, axis: Any = None) -> Any:
        """The tensor without axes of length 1, as ``ops.squeeze`` gives it."""
        from handmill import ops

        return ops.squeeze(self, axis)

    def __bool__(self) -> bool:
        raise TypeError("A symbolic KerasTensor cannot be used as a boolean.")

    def __iter__(self) -> Any:
        raise NotImplementedError("Iterating over a symbolic KerasTensor is not supported.")

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


keep_calls_on(KerasTensor)


def is_keras_tensor(x: Any) -> bool:
    """Whether ``x`` is a tensor of the functional API."""
    return isinstance(x, KerasTensor)


def get_source_inputs(tensor: KerasTensor) -> list[KerasTensor]:
    """Returns the inputs that a tensor of the functional API is computed from.

    Args:
        tensor: a tensor that ``Input`` or a layer returned.
    """
    found: dict[int, KerasTensor] = {}
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one._keras_history is None:
            found[id(one)] = one
            continue
        node = one.history.operation._inbound_nodes[one.history.node_index]
        if node.is_input:
            found.update((id(made), made) for made in node.output_tensors)
        waiting += reversed(node.input_tensors)
    return list(found.values())


def refuse_strings(layer: Any, arguments: Any) -> None:
    """Refuses strings among the arguments of a layer that takes numbers.

    Raises:
        TypeError: if there are some.
    """
    for x in tree.flatten(arguments):
        if isinstance(x, KerasTensor) and x.dtype == STRING:
            raise TypeError(
                f"{layer.describe()} takes numbers, and its input {x.name!r} holds strings; put "
                "StringLookup, TextVectorization or Hashing between them"
            )


class Node:
    """One call of a layer on symbolic tensors.

    Attributes:
        operation: the layer.
        args: positional arguments, with KerasTensors inside.
        kwargs: keyword arguments.
        input_tensors: the KerasTensors among the arguments.
        outputs: what the call returned.
    """

    def __init__(
        self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> None:
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        leaves = tree.flatten((list(args), kwargs))
        self.input_tensors = [x for x in leaves if isinstance(x, KerasTensor)]
        self.output_tensors = tree.flatten(outputs)
        index = len(operation._inbound_nodes)
        operation._inbound_nodes.append(self)
        for i, tensor in enumerate(self.output_tensors):
            tensor._keras_history = History(operation, index, i)

    @property
    def is_input(self) -> bool:
        """Whether this is the node of an input layer."""
        return not self.input_tensors

    @property
    def parent_nodes(self) -> list[Node]:
        """The nodes that made the inputs."""
        return self.parents(frozenset())

    def parents(self, sources: frozenset[int]) -> list[Node]:
        """The nodes that made the inputs, but for those in ``sources``, by their id."""
        histories = [tensor.history for tensor in self.input_tensors if id(tensor) not in sources]
        return list(dict.fromkeys(h.operation._inbound_nodes[h.node_index] for h in histories))


def _made_inside(tensor: KerasTensor) -> bool:
    """Whether a tensor that is an input of a graph comes from something else than ``Input``."""
    if tensor._keras_history is None:
        return True
    operation, index, _ = tensor.history
    return not operation._inbound_nodes[index].is_input


def _needs(output: KerasTensor, tensor: KerasTensor) -> bool:
    """Whether ``output`` is computed from ``tensor``, or is it."""
    waiting, seen = [output], {id(output)}
    for found in waiting:  # which grows
        if found is tensor:
            return True
        if found._keras_history is None:
            continue
        operation, index, _ = found.history
        fresh = [t for t in operation._inbound_nodes[index].input_tensors if id(t) not in seen]
        seen.update(map(id, fresh))
        waiting += fresh
    return False


class LayerGraph:
    """The calls of layers that lead from ``inputs`` to ``outputs``, in order.

    Args:
        inputs: nested KerasTensors.
        outputs: nested KerasTensors.

    Attributes:
        nodes: calls in an order in which they can run.
        operations: layers, inputs first, in Keras's order (weights lie in this order).

    Raises:
        ValueError: if an output needs a tensor that is not computed from the inputs, or two
            layers have one name.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.inputs_struct = inputs
        self.outputs_struct = outputs
        self.inputs: list[KerasTensor] = tree.flatten(inputs)
        self.outputs: list[KerasTensor] = tree.flatten(outputs)
        self._sources = frozenset(id(t) for t in self.inputs if _made_inside(t))
        self._walk()

    def _walk(self) -> None:
        finished: list[Node] = []
        seen: set[Node] = set()
        first_visit: dict[Any, int] = {}

        # Depth first with a stack of its own, since a chain of layers may be longer than Python's.
        stack: list[tuple[Node | None, Iterator[KerasTensor]]] = [(None, iter(self.outputs))]
        while stack:
            visited, tensors = stack[-1]
            tensor = next(tensors, None)
            if tensor is None:
                stack.pop()
                if visited is not None:
                    finished.append(visited)
                continue
            if id(tensor) in self._sources:
                continue
            if tensor._keras_history is None:
                raise self._disconnected(tensor, visited)
            operation, index, _ = tensor.history
            node = operation._inbound_nodes[index]
            if node not in seen:
                seen.add(node)
                first_visit.setdefault(operation, len(first_visit))
                stack.append((node, iter(node.input_tensors)))
        node_depth: dict[Node, int] = {}
        op_depth: dict[Any, int] = {}
        for node in reversed(finished):
            depth = max(node_depth.get(node, 0), op_depth.get(node.operation, 0))
            node_depth[node] = op_depth[node.operation] = depth
            for parent in node.parents(self._sources):
                node_depth[parent] = max(depth + 1, node_depth.get(parent, 0))
        for tensor in self.inputs:
            if id(tensor) in self._sources:
                continue
            operation, index, _ = tensor.history
            if operation not in op_depth:
                op_depth[operation] = 0
                first_visit[operation] = -1
                node_depth[operation._inbound_nodes[index]] = 0
        self.nodes = sorted(node_depth, key=lambda n: -node_depth[n])
        self.operations = sorted(op_depth, key=lambda o: (-op_depth[o], first_visit[o]))
        self._check()

    def _check(self) -> None:
        known = set(map(id, self.inputs))
        for node in self.nodes:
            for tensor in node.input_tensors or node.output_tensors:
                if id(tensor) not in known:
                    raise self._disconnected(tensor, node)
            known.update(map(id, node.output_tensors))
        for name, count in Counter(operation.name for operation in self.operations).items():
            if count > 1:
                raise ValueError(
                    f'The name "{name}" is used {count} times in the model. '
                    "All operation names should be unique."
                )

    def _disconnected(self, tensor: KerasTensor, node: Node | None) -> ValueError:
        user = f", used by layer {node.operation.name!r}," if node is not None else ""
        needs = [
            ".".join(map(str, path))
            for path, output in tree.flatten_with_path(self.outputs_struct)
            if _needs(output, tensor)
        ]
        named = f"Output with path `{needs[0]}`" if any(needs) else "The output"
        return ValueError(
            f"Graph disconnected. {named} is not connected to `inputs`: "
            f"{tensor!r}{user} is not computed from the given inputs "
            f"{[t.name for t in self.inputs]}. Add its Input to `inputs`."
        )

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description the layers and which calls lead where (runtime/structure.py)."""
        if not walk.is_new(self):
            return
        for node in self.nodes:
            walk.visit(node.operation)
            walk.visit_constant(node.args, node.kwargs, node.outputs)
        walk.visit_constant(self.inputs_struct, self.outputs_struct)

    def run(self, flat_inputs: Sequence[Any], call: Callable[..., Any]) -> Any:
        """Computes the outputs.

        Args:
            flat_inputs: a value for each input.
            call: ``call(layer, *args, **kwargs)``.
        """
        values = {id(t): v for t, v in zip(self.inputs, flat_inputs, strict=True)}
        sizes = _sizes_of(self.inputs, flat_inputs)

        def fill(x: Any) -> Any:
            return values[id(x)] if isinstance(x, KerasTensor) else x

        for node in self.nodes:
            if node.is_input:
                continue
            args = tree.map_structure(fill, node.args)
            kwargs = tree.map_structure(fill, node.kwargs) if node.kwargs else {}
            _RUNNING.sizes, before = sizes, getattr(_RUNNING, "sizes", None)
            try:
                outputs = tree.flatten(call(node.operation, *args, **kwargs))
            finally:
                _RUNNING.sizes = before
            for tensor, value in zip(node.output_tensors, outputs, strict=True):
                values[id(tensor)] = value
        return tree.pack_sequence_as(self.outputs_struct, [values[id(t)] for t in self.outputs])
