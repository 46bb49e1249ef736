"""Runs the steps of an ONNX program: on tensors of a model that is traced, or on arrays.

What depends on numbers of the file alone is computed at once, outside of the model, and so are
sizes: the shape of a tensor is an array whose entries may be sizes that a call decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.program import BODIES, Program, Step, bodies_of
from handmill.ir.dims import is_symbolic_dim
from handmill.ir.graph import Graph, Value, outside_graph
from handmill.ir.interpret import interpret
from handmill.ir.op import Array, Op
from handmill.ir.shapes import DTYPES, Spec

MOST_FOLDED = 1 << 22
"""Elements of what is computed while a model is loaded."""
MOST_ELEMENTS = 1 << 30
"""Of any value whose sizes are known: 4 GiB of float32."""
MOST_WRITTEN_OUT = 1_000
"""Operators of loops that are computed, or traced, step by step while a model is loaded."""

_WIDER = {
    "float16": "float32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64",
}  # fmt: skip

_WITHOUT_MEANING = {
    "allowzero", "auto_pad", "axis", "beta", "broadcast", "consumed_inputs", "count_include_pad",
    "cubic_coeff_a", "dilations", "epsilon", "exclude_outside", "extrapolation_value",
    "input_forget", "is_test", "kernel_shape", "momentum", "nearest_mode", "noop_with_empty_axes",
    "output_padding", "pads", "precision", "qk_matmul_output_mode", "round_mode", "saturate",
    "seed", "softmax_precision", "sorted", "spatial", "stash_type", "storage_order", "to",
}  # fmt: skip
"""Attributes that change nothing where a rule does not ask for them."""

OF_OPERANDS = (
    ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What Python says of operands of other kinds or numbers than a rule takes."""

Rule: TypeAlias = "Callable[..., Any]"
RULES: dict[str, Rule] = {}
"""How each operator of ONNX is computed, by its name."""
KEEPS_ORDER: set[str] = set()
"""Operators whose rules take images whose channels are last (:class:`Last`)."""


class Unreadable(ValueError):
    """What a rule raises about a node that it cannot read."""


def rule(*names: str, keeps_order: bool = False) -> Callable[[Rule], Rule]:
    """Registers a rule: ``rule(call, *operands)`` -> a result, or a tuple of several."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
            if keeps_order:
                KEEPS_ORDER.add(name)
        return function

    return register


class Last:
    """A tensor (N, C, *S), held as (N, *S, C): what convolutions of handmill make."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.tensor.shape)


def first(x: Any) -> Any:
    """Returns a value with its axes in the order that ONNX says."""
    if not isinstance(x, Last):
        return x
    rank = len(x.tensor.shape)
    return ops.transpose(x.tensor, (0, rank - 1, *range(1, rank - 1)))


def last(x: Any) -> Any:
    """Returns a value with its channels last."""
    if isinstance(x, Last):
        return x.tensor
    rank = len(x.shape)
    return ops.transpose(x, (0, *range(2, rank), 1))


class Budget:
    """What the loops of a program may still do while it is traced.

    Attributes:
        left: how many operators of bodies.
        evaluating: whether arrays are the inputs of a call, not numbers of the file.
    """

    def __init__(self, evaluating: bool = False) -> None:
        self.left = MOST_WRITTEN_OUT
        self.evaluating = evaluating

    def needs(self, count: int) -> None:
        """Refuses what is more than there is left; then nothing is."""
        if count > self.left:
            self.left = -1
            raise Unreadable(
                f"loops and branches compute more than {MOST_WRITTEN_OUT:,} operators one by one "
                "while the file is read"
            )


def cost(body: Program) -> int:
    """The number of operators of a body, with those in its own bodies."""
    return 1 + sum(1 + sum(map(cost, bodies_of(step))) for step in body.steps)


class Call:
    """What a rule knows of the step beside its operands.

    Attributes:
        step: the step.
        opset: the version of the operators.
        folding: whether all that it computes with are numbers of the file.
        budget: what its bodies may cost.
    """

    def __init__(self, step: Step, opset: int, folding: bool, budget: Budget | None = None) -> None:
        self.step = step
        self.opset = opset
        self.folding = folding
        self.budget = Budget() if budget is None else budget
        self.asked = set(_WITHOUT_MEANING)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute; checked to be of the type of the default."""
        self.asked.add(name)
        value = self.step.attrs.get(name)
        if value is None:
            return default
        if default is not None and not isinstance(value, type(default)):
            raise Unreadable(f"the attribute {name!r} is {value!r}")
        return value

    def body(self, name: str) -> Program:
        """An attribute that is a program."""
        self.asked.add(name)
        value = self.step.attrs.get(name)
        if not isinstance(value, Program):
            raise Unreadable(f"it has no graph {name!r}")
        return value

    def compute(
        self, body: Program, operands: Sequence[Any], around: Mapping[str, Any]
    ) -> list[Any]:
        """Computes the outputs of a body.

        Args:
            body: the body.
            operands: one for each of its inputs.
            around: what it reads of the values around it, by name; there may be more.
        """
        self.budget.needs(len(body.steps) + 1)
        self.budget.left -= len(body.steps) + 1
        given = {port.name: x for port, x in zip(body.inputs, operands, strict=True)}
        return results(body, {**around, **given}, "its graph", self.budget)

    def ints(self, name: str, operand: Any = None, default: Any = None) -> Any:
        """Whole numbers that older versions have as an attribute, newer ones as an operand."""
        if operand is not None:
            return [whole(i) for i in self.known(operand, name).reshape(-1)]
        self.asked.add(name)
        value = self.step.attrs.get(name)
        if value is None:
            return default
        if isinstance(value, int):
            return [value]
        if not isinstance(value, list) or not all(isinstance(i, int) for i in value):
            raise Unreadable(f"the attribute {name!r} is {value!r}")
        return value

    def known(self, value: Any, what: str) -> Array:
        """An operand whose numbers decide sizes: it must be known while a model is traced."""
        if not isinstance(value, np.ndarray):
            raise Unreadable(f"{what!r} is computed from the model's inputs; it must be fixed")
        return value

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise Unreadable(f"the axis {axis} is none of {rank}")
        return axis % rank if rank else 0

    def axes(self, axes: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front, each there once."""
        found = [self.axis(axis, rank) for axis in axes]
        if len(set(found)) < len(found):
            raise Unreadable(f"an axis is there twice in {list(axes)}")
        return found

    def room(self, shape: Sequence[Any]) -> None:
        """Refuses a result that is too large, before it is made."""
        if any(not is_symbolic_dim(size) and size < 0 for size in shape):
            raise Unreadable(f"a size is negative: {list(shape)}")
        count = math.prod(int(size) for size in shape if not is_symbolic_dim(size))
        most = MOST_FOLDED if self.folding else MOST_ELEMENTS
        if count > most:
            raise Unreadable(f"its result of shape {list(shape)} has more than {most:,} elements")


class Size:
    """A size in an array: NumPy computes with it as with any object."""

    __slots__ = ("dim",)

    def __init__(self, dim: Any) -> None:
        self.dim = dim

    def __add__(self, other: Any) -> Size:
        return Size(self.dim + whole(other))

    def __sub__(self, other: Any) -> Size:
        return Size(self.dim - whole(other))

    def __mul__(self, other: Any) -> Size:
        return Size(self.dim * whole(other))

    def __floordiv__(self, other: Any) -> Size:
        return Size(self.dim // whole(other))

    def __radd__(self, other: Any) -> Size:
        return Size(whole(other) + self.dim)

    def __rsub__(self, other: Any) -> Size:
        return Size(whole(other) - self.dim)

    def __rmul__(self, other: Any) -> Size:
        return Size(whole(other) * self.dim)


def sizes_array(sizes: Sequence[Any]) -> Array:
    """Returns sizes as an array, of int64 if all are known."""
    if any(map(is_symbolic_dim, sizes)):
        return np.array([Size(size) for size in sizes], object)
    return np.asarray(sizes, np.int64)


def whole(x: Any) -> Any:
    """An entry of an array as a size."""
    return x.dim if isinstance(x, Size) else int(x)


def as_tensor(x: Any) -> Any:
    """Sizes that a call decides, as numbers of the program."""
    if not isinstance(x, np.ndarray) or x.dtype != object:
        return x
    flat = [ops.cast(ops.convert_to_tensor(whole(size)), "int64") for size in x.reshape(-1)]
    return ops.reshape(ops.stack(flat), x.shape)


def run(
    program: Program, operands: Mapping[str, Any], what: str, evaluating: bool = False
) -> list[Any]:
    """Runs all steps.

    Args:
        program: the steps.
        operands: inputs and numbers, by name.
        what: names the file in errors.
        evaluating: whether arrays are the inputs of a call, not numbers of the file.

    Raises:
        ValueError: naming the node that cannot be computed.
    """
    found = results(program, operands, what, Budget(evaluating))
    return [as_tensor(x) for x in found]


def results(
    program: Program, operands: Mapping[str, Any], what: str, budget: Budget | None = None
) -> list[Any]:
    """Returns the outputs of a program; those that are sizes are still sizes.

    Args:
        program: the steps.
        operands: inputs and numbers, by name.
        what: names it in errors.
        budget: what its loops may cost; default: what those of a file may.
    """
    budget = Budget() if budget is None else budget
    values = dict(operands)
    for step in program.steps:
        given = [values[name] if name else None for name in step.inputs]
        found = _run_step(step, given, program.opset, what, budget)
        for name, value in zip(step.outputs, found, strict=False):
            if name:
                values[name] = value
        missing = [name for name in step.outputs[len(found) :] if name]
        if missing:
            raise ValueError(f"{what}: {step.op} in {step.name!r} has no output {missing[0]!r}")
    return [first(values[name]) for name in program.outputs]


def _run_step(step: Step, given: list[Any], opset: int, what: str, budget: Budget) -> Sequence[Any]:
    fixed = all(x is None or isinstance(x, np.ndarray) for x in given)
    call = Call(step, opset, fixed and not budget.evaluating, budget)
    if step.op not in KEEPS_ORDER:
        given = [first(x) for x in given]
    rule_of = RULES[step.op]
    try:
        if step.op in BODIES:  # what its body does is looked at one by one
            found = rule_of(call, *given)
        elif any(isinstance(x, np.ndarray) and x.dtype == object for x in given):
            found = _of_sizes(call, rule_of, given)
        elif fixed:
            with outside_graph(), np.errstate(all="ignore"):
                found = _of_numbers(call, rule_of, given)
        else:
            found = rule_of(call, *given)
        for value in found if isinstance(found, tuple) else (found,):
            call.room((value.tensor if isinstance(value, Last) else value).shape)
    except OF_OPERANDS as error:
        missing = isinstance(error, AttributeError | TypeError)
        hint = " (is an operand missing?)" if missing else ""
        raise ValueError(f"{what}: {step.op} in {step.name!r}: {error}{hint}") from error
    if ignored := sorted(set(step.attrs) - call.asked):
        raise ValueError(
            f"{what}: {step.op} in {step.name!r}: its attributes {ignored} are not read"
        )
    return found if isinstance(found, tuple) else (found,)


def _of_numbers(call: Call, rule_of: Rule, given: list[Any]) -> Any:
    """Computes arrays; dtypes that programs do not know are computed wider."""
    narrow = next((x.dtype.name for x in given if x is not None and x.dtype.name in _WIDER), None)
    wide = [
        x.astype(_WIDER[x.dtype.name]) if x is not None and x.dtype.name in _WIDER else x
        for x in given
    ]
    found = (_folded if call.folding else _called)(call, rule_of, wide)
    results = found if isinstance(found, tuple) else (found,)
    made = []
    for value in results:
        array = np.asarray(first(value))
        if (
            narrow is not None
            and array.dtype.name == _WIDER[narrow]
            and call.step.op not in ("Cast", "CastLike")
        ):
            array = array.astype(narrow)
        made.append(array)
    return tuple(made)


def _called(call: Call, rule_of: Rule, given: list[Any]) -> Any:
    return rule_of(call, *given)


class _Bounded(Graph):
    """A graph whose values are small: it is computed while a file is read."""

    def append(
        self, op: Op, inputs: Sequence[Value], attrs: Any, scope: str, specs: Sequence[Spec]
    ) -> tuple[Value, ...]:
        for spec in specs:
            if math.prod(int(size) for size in spec.shape) > MOST_FOLDED:
                raise Unreadable(
                    f"{op.name} makes more than {MOST_FOLDED:,} elements of shape {spec.shape} "
                    "while the file is read"
                )
        return super().append(op, inputs, attrs, scope, specs)


def _folded(call: Call, rule_of: Rule, given: list[Any]) -> Any:
    """Asks for the sizes of all that a rule computes, before anything is."""
    graph = _Bounded("folded")
    with graph:
        found = rule_of(call, *given)
        results = [first(x) for x in (found if isinstance(found, tuple) else (found,))]
        graph.outputs = [x for x in results if isinstance(x, Value)]
    computed = iter(interpret(graph, []).outputs)
    return tuple([next(computed) if isinstance(x, Value) else x for x in results])


# --- arithmetic of sizes -------------------------------------------------------------------------


def _of_sizes(call: Call, rule_of: Rule, given: list[Any]) -> Any:
    """Sizes stay numbers known while tracing, as long as only simple things are done to them."""
    simple = _SIZES.get(call.step.op)
    rest = [x for x in given if x is not None]
    if simple is not None and all(isinstance(x, np.ndarray) for x in rest):
        found = np.asarray(simple(call, *given), object)
        return sizes_array([whole(n) for n in found.reshape(-1)]).reshape(found.shape)
    kept = _TAKE_SIZES.get(call.step.op, len(given))
    return rule_of(call, *[as_tensor(x) if i < kept else x for i, x in enumerate(given)])


def _slice(call: Call, x: Array, starts: Array, ends: Array, axes: Any = None, steps: Any = None
           ) -> Any:  # fmt: skip
    step = 1 if steps is None else int(steps.reshape(-1)[0])
    return x[int(starts.reshape(-1)[0]) : int(ends.reshape(-1)[0]) : step]


_TAKE_SIZES = {
    "ConstantOfShape": 0, "Expand": 1, "Pad": 1, "Range": 0, "Reshape": 1, "Slice": 1, "Tile": 1,
}  # fmt: skip
"""Operators whose rules take sizes as they are, from an operand on."""

_SIZES: dict[str, Callable[..., Any]] = {
    "Add": lambda c, x, y: x + y,
    "Cast": lambda c, x: x,
    "Concat": lambda c, *xs: np.concatenate([x.astype(object) for x in xs]),
    "Div": lambda c, x, y: x // y,
    "Gather": lambda c, x, i: np.take(x, i.astype(np.int64)),
    "Identity": lambda c, x: x,
    "Mul": lambda c, x, y: x * y,
    "ReduceProd": lambda c, x, *axes: np.asarray(np.prod(x), object).reshape(
        (1,) if c.attr("keepdims", 1) else ()
    ),
    "Reshape": lambda c, x, shape: np.reshape(x, shape.astype(np.int64)),
    "Slice": _slice,
    "Squeeze": lambda c, x, *axes: np.squeeze(x),
    "Sub": lambda c, x, y: x - y,
    "Unsqueeze": lambda c, x, *axes: x.reshape((1, *x.shape)),
}


def known_dtype(dtype: str) -> str:
    """The dtype in which programs compute what is of that dtype in a file."""
    return dtype if dtype in DTYPES else _WIDER[dtype]
