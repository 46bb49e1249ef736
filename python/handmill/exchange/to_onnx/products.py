"""Matrix products, convolutions and pooling as ONNX: channels behind the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.exchange.to_onnx.emitter import Emitter, Refused, channels_first, rule
from handmill.ir.dims import is_symbolic_dim
from handmill.ir.graph import Node, Value
from handmill.ir.op import Array


def with_bias(e: Emitter, node: Node) -> tuple[Value, list[str]]:
    """The value that a node's result is after a bias, and the name of the bias, if there is one."""
    behind = e.bias_behind(node)
    if behind is None:
        return node.outputs[0], []
    return behind[1], [e.constant(behind[0], "bias")]


@rule("matmul")
def matmul(e: Emitter, node: Node) -> None:
    """Rows times weights are a Gemm, pixels times weights a convolution of one place."""
    a, b = node.inputs
    turn_a, turn_b = bool(node.attrs["transpose_a"]), bool(node.attrs["transpose_b"])
    kept, weights = e.stored(a), b.constant
    if weights is not None and weights.ndim == 2 and not turn_a:
        if turn_b:
            weights = weights.T
        if kept.features is not None:
            weights = weights[kept.features]
        rank = len(a.shape)
        if kept.order == channels_first(rank) and rank in (3, 4, 5):
            out, bias = with_bias(e, node)
            kernel = weights.T.reshape(*weights.T.shape, *[1] * (rank - 2))
            names = [kept.name, _weights(e, b, kernel), *bias]
            made = e.op("Conv", *names, kernel_shape=[1] * (rank - 2))
            e.put(out, made, channels_first(rank))
            return
        if rank == 2 and kept.order is None:
            out, bias = with_bias(e, node)
            e.put(out, e.op("Gemm", kept.name, _weights(e, b, weights), *bias))
            return
    e.put(node.outputs[0], e.op("MatMul", _matrices(e, a, turn_a), _matrices(e, b, turn_b)))


def _matrices(e: Emitter, value: Value, turned: bool) -> str:
    if not turned:
        return e.plain(value)
    rank = len(value.shape)
    return e.ordered(value, (*range(rank - 2), rank - 1, rank - 2))


def _weights(e: Emitter, value: Value, array: Array) -> str:
    return e.constant(array, e.labels.get(value, "weights"))


def _padding(attrs: Any) -> dict[str, Any]:
    """Explicit where it is known, else what "same" is."""
    pairs = attrs["padding"]
    if any(is_symbolic_dim(n) for pair in pairs for n in pair):
        return {"auto_pad": "SAME_UPPER"}
    return {"pads": [int(low) for low, _ in pairs] + [int(high) for _, high in pairs]}


def conv_attributes(node: Node, groups: int) -> dict[str, Any]:
    """The attributes of a convolution there."""
    return {
        "kernel_shape": [int(n) for n in node.inputs[1].shape[:-2]],
        "strides": list(node.attrs["strides"]),
        "dilations": list(node.attrs["dilation"]),
        "group": groups,
        **_padding(node.attrs),
    }


@rule("conv")
def conv(e: Emitter, node: Node) -> None:
    """Kernels (*K, C / groups, O) are [O, C / groups, *K] there."""
    x, w = node.inputs
    if len(x.shape) > 5:
        raise Refused("windows of more than three axes")
    out, bias = with_bias(e, node)
    rank = len(w.shape)
    kernel = e.ordered(w, (rank - 1, rank - 2, *range(rank - 2)))
    groups = int(node.attrs["groups"])
    made = e.op("Conv", e.first(x), kernel, *bias, **conv_attributes(node, groups))
    e.put(out, made, channels_first(rank))


@rule("conv_input_grad")
def conv_transpose(e: Emitter, node: Node) -> None:
    """Kernels (*K, C / groups, O) are [O, C / groups, *K], O being what comes in."""
    dy, w = node.inputs
    attrs, rank = node.attrs, len(w.shape)
    lows, highs, beyond = [], [], []
    for axis, size in enumerate(attrs["sizes"]):
        low, high = attrs["padding"][axis]
        step, reach = attrs["strides"][axis], (w.shape[axis] - 1) * attrs["dilation"][axis] + 1
        more = size - (step * (dy.shape[axis + 1] - 1) + reach - low - high)
        if any(map(is_symbolic_dim, (more, low, high))):
            raise Refused("sizes that a call decides, of which padding depends")
        lows.append(int(low))
        highs.append(int(high) - min(int(more), 0))
        beyond.append(max(int(more), 0))
    out, bias = with_bias(e, node)
    made = e.op(
        "ConvTranspose", e.first(dy), e.ordered(w, (rank - 1, rank - 2, *range(rank - 2))),
        *bias, kernel_shape=[int(n) for n in w.shape[:-2]],
        strides=list(attrs["strides"]), dilations=list(attrs["dilation"]),
        group=int(attrs["groups"]), pads=lows + highs, output_padding=beyond,
    )  # fmt: skip
    e.put(out, made, channels_first(rank))


@rule("max_pool", "average_pool")
def pool(e: Emitter, node: Node) -> None:
    """Padding holds no elements, as here."""
    (x,), attrs, kind = node.inputs, node.attrs, "MaxPool"
    more: dict[str, Any] = _padding(attrs)
    if node.op.name == "average_pool":
        kind, more["count_include_pad"] = "AveragePool", 0
    made = e.op(
        kind, e.first(x), kernel_shape=list(attrs["window"]), strides=list(attrs["strides"]),
        **more,
    )  # fmt: skip
    e.put(node.outputs[0], made, channels_first(len(x.shape)))


# --- recurrent layers ----------------------------------------------------------------------------

_GATES = {
    "simple_rnn": ("RNN", [0]),
    "gru": ("GRU", [0, 1, 2]),
    "gru_before": ("GRU", [0, 1, 2]),
    "lstm": ("LSTM", [0, 3, 1, 2]),
}
"""The name there, and of each gate there its place here."""
TIME_FIRST = (1, 0, 2)


def _known_recurrence(node: Node) -> bool:
    """Whether ONNX has the recurrence: masks of any form and dropout it has not."""
    return not (node.attrs["masked"] or node.attrs["dropout"])


KNOWN = dict.fromkeys(_GATES, _known_recurrence)
"""Operators that are written as what they are made of, unless these say so."""


@rule("simple_rnn", "gru", "gru_before", "lstm")
def recurrence(e: Emitter, node: Node) -> None:
    """Steps along a sequence, with the product that its inputs went through."""
    kind, gates = _GATES[node.op.name]
    z, r, h0, *rest = node.inputs
    units = int(r.shape[0])
    x, weights, bias = _projection(z)
    if r.constant is None:
        raise Refused("weights of the recurrence that are computed from inputs")
    second = np.zeros(units * len(gates), np.float32)
    extra = {}
    if node.op.name == "gru":
        extra["linear_before_reset"] = 1
        if rest[0].constant is None:
            raise Refused("weights of the recurrence that are computed from inputs")
        second[2 * units :] = rest[0].constant
    turned = [_by_gates(part, gates) for part in (weights.T, r.constant.T, bias, second)]
    names = [
        e.ordered(x, TIME_FIRST),
        e.constant(turned[0][None], "kernel"),
        e.constant(turned[1][None], "recurrent_kernel"),
        e.constant(np.concatenate(turned[2:])[None], "bias"),
        "",
        _state(e, h0),
    ]
    if node.op.name == "lstm":
        names.append(_state(e, rest[0]))
    while not names[-1]:
        names.pop()
    found = e.several(
        kind, names, len(node.outputs), hidden_size=units,
        direction="reverse" if node.attrs["backwards"] else "forward", **extra,
    )  # fmt: skip
    e.put(node.outputs[0], e.op("Squeeze", found[0], e.ints([1])), TIME_FIRST)
    for value, name in zip(node.outputs[1:], found[1:], strict=True):
        e.put(value, e.op("Squeeze", name, e.ints([0])))


def _by_gates(array: Array, gates: list[int]) -> Array:
    parts = np.split(array, len(gates))
    return np.concatenate([parts[gate] for gate in gates])


def _state(e: Emitter, value: Value) -> str:
    """The name of a first state; nothing for zeros, which it is by default."""
    source = value
    if value.node is not None and value.node.op.name == "broadcast_to":
        source = value.node.inputs[0]
    if source.constant is not None and not source.constant.any():
        return ""
    return e.op("Unsqueeze", e.plain(value), e.ints([0]))


def _projection(z: Value) -> tuple[Value, Array, Array]:
    """What inputs of gates are computed from: ``z = x @ weights + bias``."""
    width = int(z.shape[-1])
    value, bias = z, np.zeros(width, np.float32)
    if value.node is not None and value.node.op.name == "add":
        for inner, other in (value.node.inputs, value.node.inputs[::-1]):
            if other.constant is not None and other.constant.shape == (width,):
                value, bias = inner, other.constant
                break
    node = value.node
    if node is not None and node.op.name == "matmul" and not any(node.attrs.values()):
        weights = node.inputs[1].constant
        if weights is not None and weights.ndim == 2 and len(node.inputs[0].shape) == 3:
            return node.inputs[0], weights, bias
    return z, np.eye(width, dtype=np.float32), np.zeros(width, np.float32)


@rule("scan")
def scan(e: Emitter, node: Node) -> None:
    """A loop over rows, whose body is a graph of its own."""
    attrs, body = node.attrs, node.attrs["body"].graph
    n_carry, n_xs = attrs["n_carry"], attrs["n_xs"]
    if any(is_symbolic_dim(d) for v in body.constants for d in v.shape):
        raise Refused("a loop whose constants have sizes that a call decides")
    inner = Emitter(body, e.opset, e.labels, e)
    names = [e.plain(v) for v in node.inputs]
    for number, value in enumerate(body.inputs):
        at_outside = number >= n_carry + n_xs
        inner.put(value, names[number] if at_outside else e.name(f"{node.scope}/{value.origin}"))
    inputs = [inner.stored(v).name for v in body.inputs[: n_carry + n_xs]]
    inner.write()
    results = [e.name(f"{node.scope}/step") for _ in body.outputs]
    inner.finish(results, inputs)
    outputs = e.several(
        "Scan", names[: n_carry + n_xs], len(node.outputs), num_scan_inputs=n_xs,
        body=inner.as_graph(node.scope or "body", body.inputs[: n_carry + n_xs], inputs, results),
        scan_input_directions=[int(attrs["reverse"])] * n_xs,
        scan_output_directions=[int(attrs["reverse"])] * (len(node.outputs) - n_carry) or None,
    )  # fmt: skip
    for value, name in zip(node.outputs, outputs, strict=True):
        e.put(value, name)
