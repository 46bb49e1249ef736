"""What a GradientTape keeps of operators called on arrays.

While a tape is open, operators whose operands depend on something watched are not run: they
are recorded, as nodes of a graph whose sources are copies of arrays and variables, and give
tensors that stand for their results. Whatever needs a number (``float``, ``np.asarray``,
printing, ``if``) computes it then, in one program, with everything on the way that is still
in use; so does a gradient. Copies make it safe to change arrays and variables meanwhile.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handmill.ir import trace
from handmill.ir.graph import ElementwiseEquality, Graph, Node, Operators, Value, current_graph
from handmill.ir.op import Array, Op
from handmill.ir.passes import is_guard
from handmill.ir.shapes import Spec, name_of_dtype
from handmill.runtime.function import TracedFunction, as_array
from handmill.runtime.variable import Variable

_PROGRAM_LIMIT = 256
_CONSTANT_LIMIT = 64


class TapeTensor(ElementwiseEquality, Operators):
    """The result of an operator called on arrays while a GradientTape records.

    It has the operators of arrays and works wherever an array does; functions of NumPy that
    ``handmill.ops`` has too are recorded, others are refused.
    """

    __slots__ = ("__weakref__", "mask", "recording", "symbol")

    def __init__(self, recording: Recording, symbol: Value) -> None:
        self.recording = recording
        self.symbol = symbol
        self.mask: Any = None

    @staticmethod
    def apply_symbolically(op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        """Records ``op``, or runs it at once where no tape records."""
        recording = current()
        if recording is not None:
            return recording.apply(op, operands, attrs)
        return trace.apply(op, *map(plain, operands), **attrs)

    def value_in(self, graph: Graph) -> Value:
        """This tensor as an operand of ``graph``."""
        return self.symbol if self.symbol.graph is graph else graph.constant(self.numpy())

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        return self.symbol.spec

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.symbol.spec.shape  # type: ignore[return-value]

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.symbol.spec.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.symbol.spec.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    def numpy(self) -> Array:
        """The content, read-only."""
        return self.recording.content(self.symbol)

    def item(self) -> Any:
        """The content of a tensor of one element, as a Python number."""
        return self.numpy().item()

    def tolist(self) -> Any:
        """The content as nested lists."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return array.astype(dtype) if dtype is not None and array.dtype != dtype else array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if current() is None:
            return getattr(ufunc, method)(*map(plain, inputs), **kwargs)
        function = _function_of_ops(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            raise TypeError(_refused(f"numpy.{ufunc.__name__}"))
        return function(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if current() is None:
            return func(*_plain_all(args), **_plain_all(kwargs))
        function = _function_of_ops(func.__name__)
        if function is None:
            raise TypeError(_refused(f"numpy.{func.__name__}"))
        return function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        hint = f"; use handmill.ops.{name}" if _function_of_ops(name) else ""
        raise AttributeError(f"a tensor recorded by a GradientTape has no {name!r}{hint}")

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __index__(self) -> int:
        return self.numpy().__index__()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self.numpy())

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and self.size == 1 else self.numpy(), spec)


def _function_of_ops(name: str) -> Callable[..., Any] | None:
    from handmill import ops

    return getattr(ops, name) if name in vars(ops)["__all__"] else None


def _refused(name: str) -> str:
    return (
        f"{name} was called on a tensor that a GradientTape records, and handmill.ops has no such "
        "function, so its gradient would be lost; use handmill.ops, or numpy.asarray(x) for a "
        "constant"
    )


def plain(x: Any) -> Any:
    """Returns a recorded tensor as an array, anything else as it is."""
    return x.numpy() if isinstance(x, TapeTensor) else x


def _plain_all(x: Any) -> Any:
    from handmill import tree

    return tree.map_structure(plain, x)


class _Record(Graph):
    """A graph whose variables are read as copies of what they hold at that moment."""

    def __init__(self, recording: Recording) -> None:
        super().__init__("recording")
        self._recording = weakref.ref(recording)

    def read(self, state: Any) -> Value:
        recording = self._recording()
        assert recording is not None  # noqa: S101  (tensors and tapes hold it)
        return recording.read(state)

    def assign(self, state: Any, value: Value) -> None:
        raise RuntimeError("a gradient cannot assign variables")


class Recording:
    """Everything that the open tapes of one thread recorded.

    Attributes:
        graph: the operators, in the order in which they were called.
        open: how many tapes are inside their ``with`` block.
        active: how many of them are recording now.
        watching: how many of them watch every trainable variable that is read.
    """

    def __init__(self) -> None:
        self.graph: Graph = _Record(self)
        self.open = 0
        self.active = 0
        self.watching = 0
        self.reads: dict[Any, list[Value]] = {}  # the copies of each variable, latest last
        self._versions: dict[Any, int] = {}
        self._known: dict[Value, Array] = {}
        self._tracked: set[Value] = set()
        self._watched: dict[Any, None] = {}  # variables
        self._arrays: dict[int, tuple[Array, TapeTensor]] = {}  # arrays watched, by identity
        self._live: dict[Value, weakref.ref[TapeTensor]] = {}
        self._guards: list[Node] = []
        self._lent: dict[Any, tuple[int, Value]] = {}  # a variable's version, and what it then is

    @staticmethod
    def of_thread(mine: Recording | None) -> Recording:
        """The recording that the open tapes of this thread share; ``mine`` if there is none."""
        found: Recording | None = trace.recorders.get(threading.get_ident())
        if found is None:
            found = trace.recorders[threading.get_ident()] = mine or Recording()
        return found

    def close(self) -> None:
        """A tape ends; the last one ends the recording."""
        self.open -= 1
        if not self.open:
            trace.recorders.pop(threading.get_ident(), None)

    # What tapes ask.

    def watch(self, given: Any, tensor: Any) -> Any:
        """Makes something a source of gradients.

        Args:
            given: a Variable, tensor or array, by which it will be asked for.
            tensor: the same as a Variable, tensor or array of a known dtype.

        Returns:
            The tensor that stands for it; a Variable itself.
        """
        if isinstance(given, Variable):
            self._watched[given] = None
            return given
        if isinstance(tensor, TapeTensor) and tensor.recording is self:
            return tensor
        made = self.tensor(self._leaf(plain(tensor)))
        if isinstance(given, np.ndarray):
            self._arrays[id(given)] = given, made
        return made

    def source(self, x: Any) -> Any:
        """The tensor that stands for a watched array; anything else as it is."""
        found = self._arrays.get(id(x))
        return x if found is None else found[1]

    def tensor(self, value: Value) -> TapeTensor:
        """A tensor for a value of the graph that depends on something watched."""
        self._tracked.add(value)
        found = self._live.get(value)
        made = found() if found is not None else None
        if made is None:
            made = TapeTensor(self, value)
            self._live[value] = weakref.ref(made)
        return made

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Lets derivatives be appended; they are dropped again where no tape records them."""
        nodes, constants = len(self.graph.nodes), len(self.graph.constants)
        try:
            with self.graph:
                yield
        finally:
            if not self.active:
                for node in self.graph.nodes[nodes:]:
                    for value in node.outputs:
                        self._known.pop(value, None)
                del self.graph.nodes[nodes:]
            for value in self.graph.constants[constants:]:
                if not self.active:
                    self._known.pop(value, None)
            del self.graph.constants[constants:]

    def give(self, values: Sequence[Any]) -> list[Any]:
        """What a caller gets for derivatives: tensors where a tape records, arrays elsewhere."""
        found = [None if v is None else trace.as_value(self.graph, v) for v in values]
        if self.active:
            return [None if v is None else self.tensor(v) for v in found]
        arrays = iter(self.evaluate([v for v in found if v is not None]))
        return [None if v is None else np.array(next(arrays)) for v in found]

    # What operators ask.

    def enter(self, x: Any) -> Any:
        """Returns the tensor of something watched, anything else as it is."""
        if isinstance(x, Variable):
            return self.tensor(self.read(x)) if self._watches(x) else x
        found = self._arrays.get(id(x)) if isinstance(x, np.ndarray) else None
        return x if found is None else found[1]

    def concerns(self, operands: Sequence[Any]) -> bool:
        """Whether an operand depends on something watched."""
        return any(isinstance(self.enter(x), TapeTensor) for x in operands)

    def apply(self, op: Op, operands: Sequence[Any], attrs: dict[str, Any]) -> Any:
        """Records an operator; runs it if nothing it depends on is watched."""
        found = [self.enter(x) for x in operands]
        inside = [x for x in found if isinstance(x, TapeTensor)]
        if not any(x.recording is self and x.symbol in self._tracked for x in inside):
            return trace.run(op, tuple(map(plain, operands)), attrs)
        values = [self._value(x) for x in found]
        outputs = self.graph.emit(op, values, attrs)
        if is_guard(self.graph.nodes[-1]):
            self._guards.append(self.graph.nodes[-1])
        return (
            tuple(map(self.tensor, outputs)) if isinstance(outputs, tuple) else self.tensor(outputs)
        )

    def operand(self, x: Any) -> Any:
        """Returns ``x`` as an array of a dtype that programs know, a Variable or a tensor."""
        found = self.enter(x)
        return found if isinstance(found, TapeTensor | Variable) else as_array(found)

    def inline(
        self, graph: Graph, variables: Mapping[Any, Any], operands: Sequence[Any]
    ) -> list[Any] | None:
        """Records the program of a layer; its updates are made at once.

        Args:
            graph: traced for exactly these shapes.
            variables: the Variable in each slot of the graph.
            operands: an array, Variable or tensor for each input.

        Returns:
            Its outputs; None, and nothing is recorded, if it depends on nothing watched.
        """
        if not any(isinstance(x, TapeTensor) for x in operands) and not any(
            self._watches(v) for v in variables.values()
        ):
            return None
        mapping = {v: self._value(x) for v, x in zip(graph.inputs, operands, strict=True)}
        mapping.update(
            (value, self.read(variables[slot])) for slot, value in graph.variables.items()
        )
        mapping.update((value, self.graph.constant(value.origin)) for value in graph.constants)
        for node in graph.nodes:
            inputs = [mapping[v] for v in node.inputs]
            outputs = self.graph.copy_node(node, inputs)
            mapping.update(zip(node.outputs, outputs, strict=True))
            if any(v in self._tracked for v in inputs):
                self._tracked.update(outputs)
            if is_guard(node):
                self._guards.append(self.graph.nodes[-1])
        found = [mapping[v] for v in graph.outputs]
        results = [self.tensor(v) if v in self._tracked else self.content(v) for v in found]
        arrays = self.evaluate([mapping[v] for v in graph.updates.values()])
        for slot, array in zip(graph.updates, arrays, strict=True):
            variables[slot].state.write(array)
        return results

    def lend(self, variable: Variable, given: Any) -> None:
        """Lets reads of a variable give what it was assigned, if that depends on what is watched.

        That is over when it is assigned something else.
        """
        found = self.enter(given)
        if isinstance(found, TapeTensor) and found.recording is self:
            self._lent[variable] = variable.version, found.symbol
        else:
            self._lent.pop(variable, None)

    def _lent_value(self, variable: Any) -> Value | None:
        version, value = self._lent.get(variable, (None, None))
        return value if version == variable.version else None

    def _watches(self, variable: Any) -> bool:
        if self._lent and self._lent_value(variable) is not None:
            return True
        return variable in self._watched or bool(self.watching and variable.trainable)

    def read(self, state: Any) -> Value:
        """The value of a variable now."""
        if self._lent and (lent := self._lent_value(state)) is not None:
            return lent
        reads = self.reads.setdefault(state, [])
        version = state.version
        if not reads or self._versions[state] != version:
            value = Value(self.graph, state.spec, origin=state)
            self._known[value] = state.state.copy()
            self._versions[state] = version
            reads.append(value)
        if self._watches(state):
            self._tracked.add(reads[-1])
        return reads[-1]

    def _value(self, x: Any) -> Value:
        if isinstance(x, TapeTensor) and x.recording is self:
            return x.symbol
        if isinstance(x, Variable):
            return self.read(x)
        return self._leaf(plain(x))

    def _leaf(self, x: Any) -> Value:
        array = np.asarray(x)
        if array.flags.writeable:
            array = array.copy()
        value = Value(self.graph, Spec(array.shape, name_of_dtype(array.dtype)), origin="array")
        self._known[value] = array
        return value

    # Computing.

    def content(self, value: Value) -> Array:
        """The content of a value; computed if need be."""
        found = self._known.get(value)
        if found is None:
            (found,) = self.evaluate([value])
        return found

    def evaluate(self, values: Sequence[Value]) -> list[Array]:
        """Computes values, and those in use on the way to them."""
        wanted = list(dict.fromkeys(v for v in values if v not in self._known))
        if wanted:
            function, leaves, wanted = self.program(wanted)
            found = function(*[self._known[v] for v in leaves])
            arrays = found if isinstance(found, tuple) else (found,)
            for value, array in zip(wanted, arrays, strict=True):
                array.flags.writeable = False
                self._known[value] = array
            self._guards.clear()
        return [self._known[v] for v in values]

    def program(
        self, wanted: list[Value], cut: bool = True
    ) -> tuple[TracedFunction, list[Value], list[Value]]:
        """The program that computes ``wanted``.

        Args:
            wanted: values of the graph.
            cut: whether values that are known are taken as they are.

        Returns:
            The program, the values that it takes, and those that it gives: ``wanted``, then
            others on the way whose tensors are in use.
        """
        nodes, leaves, constants = self._above(wanted)
        inside = {v for node in nodes for v in node.outputs}
        given, taken = list(wanted), set(wanted)
        for value, tensor in self._live.items():
            if value in inside and value not in taken and tensor() is not None:
                given.append(value)
        number = {v: i for i, v in enumerate([*leaves, *constants])}
        # Of a node whose results are wanted, another result may be known already.
        for place, value in enumerate((v for node in nodes for v in node.outputs), len(number)):
            number.setdefault(value, place)
        key = (
            tuple([v.spec for v in leaves]),
            tuple([(v.spec, v.origin.tobytes()) for v in constants]),
            tuple([(n.op, tuple([number[v] for v in n.inputs]), _meaning(n)) for n in nodes]),
            tuple([number[v] for v in given]),
        )
        with _LOCK:
            function = _PROGRAMS.get(key)
            if function is None:
                replay = _Replay(
                    [v.origin for v in constants],
                    [
                        (*rule, node.scope, tuple([v.spec for v in node.outputs]))
                        for rule, node in zip(key[2], nodes, strict=True)
                    ],
                    key[3],
                )
                function = _PROGRAMS[key] = TracedFunction(replay, "gradient", batched=False)
                while len(_PROGRAMS) > _PROGRAM_LIMIT:
                    _PROGRAMS.popitem(last=False)
            else:
                _PROGRAMS.move_to_end(key)
        return function, leaves, given

    def _above(self, wanted: Sequence[Value]) -> tuple[list[Node], list[Value], list[Value]]:
        """The nodes needed for ``wanted``, in an order in which they can run; their sources."""
        nodes: dict[Node, None] = {}
        leaves: dict[Value, None] = {}
        constants: dict[Value, None] = {}
        stack: list[tuple[Value | None, Node | None]] = [(v, None) for v in reversed(wanted)]
        for guard in self._guards:
            stack += [(None, guard)]
            stack += [(v, None) for v in guard.inputs]
        while stack:
            value, done = stack.pop()
            if done is not None:
                nodes[done] = None
                continue
            assert value is not None  # noqa: S101
            if value in self._known:
                leaves[value] = None
            elif value.node is None:
                if value.constant is not None and value.constant.size <= _CONSTANT_LIMIT:
                    constants[value] = None
                else:
                    self._known[value] = value.origin
                    leaves[value] = None
            elif value.node not in nodes:
                stack.append((None, value.node))
                stack += [(v, None) for v in reversed(value.node.inputs)]
        return list(nodes), list(leaves), list(constants)


def _meaning(node: Node) -> tuple[tuple[str, Any], ...]:
    """The attributes that decide what a node computes."""
    left_out = node.op.vjp_attrs
    return tuple([item for item in node.attrs.items() if item[0] not in left_out])


class _Replay:
    """The function that a recorded program is traced from; it knows values by number."""

    def __init__(
        self, constants: Sequence[Array], nodes: Sequence[tuple[Any, ...]], wanted: Sequence[int]
    ) -> None:
        self._constants, self._nodes, self._wanted = constants, nodes, wanted

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        graph = current_graph()
        assert graph is not None  # noqa: S101
        known = [*values, *map(graph.constant, self._constants)]
        for op, inputs, attrs, scope, specs in self._nodes:
            known += graph.append(op, [known[i] for i in inputs], dict(attrs), scope, specs)
        return tuple(known[i] for i in self._wanted)


_PROGRAMS: OrderedDict[Any, TracedFunction] = OrderedDict()
_LOCK = threading.Lock()


def current() -> Recording | None:
    """The recording that operators called by this thread belong to now."""
    found: Recording | None = trace.recorder()
    return found
