"""ONNX's recurrent operators as recurrent layers, with what exporters write around them.

Torch and Keras hold sequences as (N, T, D), ONNX as (T, N, D): their files turn them before and
behind the operator, which costs nothing where both turns meet (:attr:`Held.steps`). The axis of
directions is taken out behind it: by a Squeeze, or a Transpose and a Reshape of both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import layers
from handmill.exchange.from_onnx.execution import Call, Unreadable, results, whole
from handmill.exchange.from_onnx.layer_rules import Held
from handmill.exchange.from_onnx.program import Program, Step
from handmill.ir.dims import symbol
from handmill.ir.op import Array

RECURRENT = ("GRU", "LSTM", "RNN")
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
"""The places of a layer's gates among those of the operator: i, o, f, c there, i, f, c, o here."""


class Around:
    """What is known of the values around a node.

    Attributes:
        program: all steps.
        readers: the places of the steps that read a name.
        numbers: what is known, by name.
    """

    def __init__(
        self, program: Program, readers: Mapping[str, list[int]], numbers: Mapping[str, Array]
    ) -> None:
        self.program = program
        self.steps = program.steps
        self.readers = readers
        self.numbers = numbers

    def axes(self, step: Step) -> list[int]:
        """The axes that a Squeeze names."""
        given = step.attrs.get("axes")
        if given is None and len(step.inputs) > 1 and step.inputs[1] in self.numbers:
            given = [int(i) for i in self.numbers[step.inputs[1]].reshape(-1)]
        return list(given) if isinstance(given, list) else []

    def reading(self, name: str) -> list[int]:
        """The steps that read a name; refuses what leaves the program as it is."""
        if name in self.program.outputs:
            raise Unreadable(f"its output {name!r} leaves the model")
        return list(self.readers.get(name, ())) if name else []


def _weights(call: Call, kind: str, w: Array, r: Array, b: Array | None, units: int) -> list[Array]:
    """Kernel, recurrent kernel and bias of a layer, of one direction."""
    gates = _ORDER[kind]

    def turned(matrix: Array) -> Array:
        parts = matrix.reshape(len(gates), units, *matrix.shape[1:])[list(gates)]
        return parts.reshape(-1, *matrix.shape[1:])

    found = [turned(w).T, turned(r).T]
    if b is None:
        return found
    own, recurrent = turned(b[: len(b) // 2]), turned(b[len(b) // 2 :])
    if kind == "GRU" and call.attr("linear_before_reset", 0):
        return [*found, np.stack([own, recurrent])]
    return [*found, own + recurrent]


def _layer(call: Call, kind: str, units: int, use_bias: bool, name: str) -> Any:
    given: dict[str, Any] = {
        "use_bias": use_bias, "return_sequences": True, "return_state": True, "name": name,
    }  # fmt: skip
    if kind == "GRU":
        return layers.GRU(units, reset_after=bool(call.attr("linear_before_reset", 0)), **given)
    if kind == "LSTM":
        return layers.LSTM(units, **given)
    return layers.SimpleRNN(units, activation=_of_rnn(call), **given)


def _of_rnn(call: Call) -> str:
    names: set[str] = {each.lower() for each in call.attr("activations", ["tanh"])}
    if names not in ({"tanh"}, {"relu"}):
        raise Unreadable(f"activations {sorted(names)}")
    return names.pop()


def _check(call: Call, operands: Sequence[Any], units: int, directions: int) -> None:
    kind = call.step.op
    defaults = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}
    names = [each.lower() for each in call.attr("activations", [""])]
    if kind in defaults and names != [""] and names != defaults[kind] * directions:
        raise Unreadable(f"activations {names}")
    if call.attr("clip", 0.0) or call.attr("layout", 0) or call.attr("input_forget", 0):
        raise Unreadable("clip, layout or input_forget")
    if any(call.attr(f"activation_{each}", [0.0]) != [0.0] for each in ("alpha", "beta")):
        raise Unreadable("factors of activations")
    if len(operands) > 4 and operands[4] is not None:
        raise Unreadable("lengths of rows")
    if any(x is not None for x in operands[7:]):
        raise Unreadable("peepholes")
    x, w, r, b = (*operands[:4], None, None, None, None)[:4]
    gates = len(_ORDER[kind]) * units
    if not isinstance(x, Held) or not x.steps or x.ndim != 3:
        raise Unreadable("sequences that do not begin as rows of a batch")
    for array, shape in (
        (w, (directions, gates, x.shape[2])),
        (r, (directions, gates, units)),
        (b, (directions, 2 * gates)),
    ):
        is_needed = array is not b
        if (is_needed or array is not None) and (
            not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float32
        ):
            raise Unreadable(f"weights of another shape than {shape}, or that are computed")


def recurrent(
    call: Call,
    name: str,
    operands: Sequence[Any],
    is_zero: Callable[[Any], bool],
    around: Around,
) -> tuple[set[int], dict[str, Held]]:
    """Makes a recurrent layer.

    Args:
        call: the step.
        name: of the layer.
        operands: those of the step.
        is_zero: whether an operand is nothing but zeros.
        around: the steps behind.

    Returns:
        The places of the steps behind that the layer stands for too, and what they would give.

    Raises:
        Unreadable: if no layer does that.
    """
    kind, step = call.step.op, call.step
    direction = call.attr("direction", "forward")
    if direction not in ("forward", "bidirectional"):
        raise Unreadable(f"the direction {direction!r}")
    directions = 1 if direction == "forward" else 2
    r = operands[2] if len(operands) > 2 else None
    units = call.attr("hidden_size", int(r.shape[-1]) if isinstance(r, np.ndarray) else 0)
    _check(call, operands, units, directions)
    if not all(is_zero(x) for x in operands[5:7]):
        raise Unreadable("states to begin with")
    names = [*step.outputs, "", "", ""][:3]
    rows, taken = _sequences(around, names[0], directions, units)
    states = [_states(around, each, directions) for each in names[1:]]
    for found in states:
        taken |= {j for j, _, _ in found}
    x, w, r, b = (*operands[:4], None)[:4]
    biased = b is not None
    if directions == 1:
        layer = _layer(call, kind, units, biased, name)
        y, *last = layer(x.tensor)
        each = [last]
    else:
        inner = _layer(call, kind, units, biased, f"{name}_one_way")
        layer = layers.Bidirectional(inner, name=name)
        y, *last = layer(x.tensor)
        half = len(last) // 2
        each = [last[:half], last[half:]]
    arrays = [
        _weights(call, kind, w[d], r[d], None if b is None else b[d], units)
        for d in range(directions)
    ]
    layer.set_weights([np.ascontiguousarray(a) for part in arrays for a in part])
    held = {rows: Held(y, steps=True)} if rows else {}
    for place, found in enumerate(states):
        held.update({result: Held(each[d][place]) for _, d, result in found})
    return taken, held


def _sequences(around: Around, name: str, directions: int, units: int) -> tuple[str, set[int]]:
    """The name of the rows without an axis of directions, and the steps that take it out."""
    reading = around.reading(name)
    if not reading:
        return "", set()
    if len(reading) > 1:
        raise Unreadable("its steps are read in several places")
    step = around.steps[reading[0]]
    if directions == 1 and step.op == "Squeeze" and around.axes(step) in ([1], [-3]):
        return step.outputs[0], {reading[0]}
    if step.op == "Transpose" and step.attrs.get("perm") == [0, 2, 1, 3]:
        return _joined(around, reading[0], step.outputs[0], (directions, units))
    raise Unreadable("the axis of directions stays")


class _Sizes:
    """A tensor of which nothing is known but its sizes."""

    def __init__(self, shape: tuple[Any, ...]) -> None:
        self.shape = shape


_MOST_STEPS = 32


def _joined(around: Around, turn: int, name: str, last: tuple[int, int]) -> tuple[str, set[int]]:
    """The result of the Reshape of (T, N, D, units) to (T, N, D * units), and what it takes.

    Its sizes are numbers of the file, or computed from those of the tensor itself.
    """
    reading = around.reading(name)
    places = [j for j in reading if around.steps[j].op == "Reshape"]
    if len(places) != 1 or any(around.steps[j].op not in ("Reshape", "Shape") for j in reading):
        raise Unreadable("the axis of directions stays")
    reshape = around.steps[places[0]]
    if len(reshape.inputs) != 2 or reshape.inputs[0] != name or reshape.attrs.get("allowzero"):
        raise Unreadable("the axis of directions stays")
    sizes = around.numbers.get(reshape.inputs[1])
    taken = {turn, places[0]}
    if sizes is None:
        chain = _chain(around, [j for j in reading if j != places[0]], places[0])
        found = (symbol("T"), symbol("N"), *last)
        program = around.program
        alone = Program(
            [around.steps[j] for j in sorted(chain)], [], [reshape.inputs[1]], {}, program.opset
        )
        try:
            (made,) = results(alone, {**around.numbers, name: _Sizes(found)}, "sizes")
        except (KeyError, ValueError):
            raise Unreadable("the sizes behind are not known") from None
        if [whole(n) for n in made.reshape(-1)] != [*found[:2], last[0] * last[1]]:
            raise Unreadable("the axis of directions stays")
        return reshape.outputs[0], taken | chain
    if sizes.tolist() not in ([0, 0, -1], [0, 0, last[0] * last[1]]):
        raise Unreadable("the axis of directions stays")
    return reshape.outputs[0], taken


def _chain(around: Around, first: list[int], end: int) -> set[int]:
    """The steps from some on, if all that they compute ends in one other step."""
    found, open_ = set(first), list(first)
    while open_:
        for name in around.steps[open_.pop()].outputs:
            for j in around.reading(name):
                if j != end and j not in found:
                    found.add(j)
                    open_.append(j)
        if len(found) > _MOST_STEPS:
            raise Unreadable("the axis of directions stays")
    return found


def _states(around: Around, name: str, directions: int) -> list[tuple[int, int, str]]:
    """Who reads the last states: the place of the step, the direction, the name of its result."""
    found = []
    for j in around.reading(name):
        step = around.steps[j]
        index = around.numbers.get(step.inputs[1]) if len(step.inputs) > 1 else None
        if step.op == "Squeeze" and directions == 1 and around.axes(step) in ([0], [-3]):
            found.append((j, 0, step.outputs[0]))
        elif (
            step.op == "Gather"
            and step.attrs.get("axis", 0) == 0
            and index is not None
            and index.shape == ()
            and -directions <= int(index) < directions
        ):
            found.append((j, int(index) % directions, step.outputs[0]))
        else:
            raise Unreadable("the last states of all directions are used at once")
    return found
