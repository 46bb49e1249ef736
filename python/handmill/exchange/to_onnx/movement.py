"""Operators that move elements, choose among them and reduce them, as ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill.exchange.messages import NUMBERS
from handmill.exchange.to_onnx.emitter import Emitter, Refused, channels_first, rule
from handmill.ir.dims import is_symbolic_dim
from handmill.ir.graph import Node, Value


@rule("reshape")
def reshape(e: Emitter, node: Node) -> None:
    """Rows of flattened images keep the order of features that they were stored in."""
    (x,), out = node.inputs, node.outputs[0]
    kept = e.stored(x)
    sizes = x.shape[1:]
    flat = len(out.shape) == 2 and out.shape[0] == x.shape[0]
    if flat and kept.order is not None and kept.order[0] == 0 and _fixed(sizes):
        count = math.prod(sizes)
        places = np.arange(count).reshape(sizes)
        features = places.transpose([axis - 1 for axis in kept.order[1:]]).reshape(-1)
        name = e.op("Reshape", kept.name, e.ints([0, count]))
        plain = bool((features == np.arange(count)).all())
        e.put(out, name, features=None if plain else features)
        return
    if kept.order is not None and _singles_apart(x, out):
        # Only axes of one entry come or go behind the channels.
        e.put(out, e.op("Reshape", kept.name, e.shape(out.shape, x.shape)))
        return
    one_pixel = len(out.shape) == 4 and out.shape[1:3] == (1, 1) and len(x.shape) == 2
    if one_pixel and out.shape[0] == x.shape[0] and _fixed(out.shape[3:]):
        # What is made of channels goes back to images: an image of one pixel.
        name = e.op("Reshape", e.plain(x), e.ints([0, int(out.shape[3]), 1, 1]))
        e.put(out, name, channels_first(4))
        return
    e.put(out, e.op("Reshape", e.plain(x), e.shape(out.shape, x.shape)))


def _fixed(shape: Any) -> bool:
    return not any(map(is_symbolic_dim, shape))


def _singles_apart(x: Value, out: Value) -> bool:
    """Whether at most one axis behind the batch has more than one entry: order says nothing."""
    wide = [dim for dim in x.shape[1:] if dim != 1]
    return len(wide) <= 1 and bool(out.shape) and out.shape[0] == x.shape[0]


@rule("transpose")
def transpose(e: Emitter, node: Node) -> None:
    """Another order of axes of what is stored: nothing is written until somebody asks."""
    (x,), out, perm = node.inputs, node.outputs[0], node.attrs["perm"]
    kept = e.stored(x)
    if kept.features is not None:
        kept = kept._replace(name=e.plain(x), order=None)
    at = kept.order or tuple(range(len(perm)))
    e.put(out, kept.name, tuple(perm.index(axis) for axis in at))


@rule("broadcast_to")
def broadcast_to(e: Emitter, node: Node) -> None:
    """Repeats entries."""
    shape = node.outputs[0].shape
    e.put(node.outputs[0], e.op("Expand", e.plain(node.inputs[0]), e.shape(shape)))


def _common_order(e: Emitter, node: Node) -> tuple[int, ...] | None:
    orders = [e.stored(v).order for v in node.inputs if v.constant is None]
    return next((order for order in orders if order is not None), None)


@rule("concatenate")
def concatenate(e: Emitter, node: Node) -> None:
    """Joins values in the order that one of them is stored in."""
    order, axis = _common_order(e, node), node.attrs["axis"]
    names = [e.ordered(v, order) for v in node.inputs]
    made = e.op("Concat", *names, axis=axis if order is None else order.index(axis))
    e.put(node.outputs[0], made, order)


def _places(e: Emitter, sizes: list[Any]) -> str:
    if _fixed(sizes):
        return e.ints(sizes)
    return e.op("Concat", *[e.dim(size) for size in sizes], axis=0)


@rule("slice")
def slice_(e: Emitter, node: Node) -> None:
    """A part of a value, along the axes of which something is left out."""
    (x,), attrs = node.inputs, node.attrs
    kept = e.stored(x)
    if kept.features is not None:
        e.plain(x)
    order = kept.order
    whole = zip(attrs["start"], attrs["stop"], attrs["step"], x.shape, strict=True)
    cut = [axis for axis, (a, b, by, size) in enumerate(whole) if (a, by) != (0, 1) or b != size]
    name = e.ordered(x, order)
    if cut:
        axes = [axis if order is None else order.index(axis) for axis in cut]
        starts, stops, steps = ([attrs[k][i] for i in cut] for k in ("start", "stop", "step"))
        name = e.op(
            "Slice", name, _places(e, starts), _places(e, stops), e.ints(axes), e.ints(steps)
        )
    e.put(node.outputs[0], name, order)


@rule("pad")
def pad(e: Emitter, node: Node) -> None:
    """A border of one number."""
    (x,), paddings = node.inputs, node.attrs["paddings"]
    order = e.stored(x).order
    at = order or tuple(range(len(x.shape)))
    sizes = [paddings[2 * axis] for axis in at] + [paddings[2 * axis + 1] for axis in at]
    value = e.like(node.attrs["value"], x)
    e.put(node.outputs[0], e.op("Pad", e.ordered(x, order), _places(e, sizes), value), order)


@rule("take")
def take(e: Emitter, node: Node) -> None:
    """Rows of a table. Out of range: runtimes refuse, here it gives NaN."""
    x, indices = node.inputs
    if {key for key, on in node.attrs.items() if key != "axis" and on != (key == "from_end")}:
        raise Refused("rows that are out of range give 0")
    name = e.plain(indices)
    if indices.dtype not in ("int32", "int64"):
        name = e.op("Cast", name, to=NUMBERS["int64"])
    made = e.op("Gather", e.plain(x), name, axis=int(node.attrs["axis"]))
    e.put(node.outputs[0], made)


@rule("take_along")
def take_along(e: Emitter, node: Node) -> None:
    """An entry of each row."""
    x, indices = node.inputs
    name = e.plain(indices)
    if indices.dtype not in ("int32", "int64"):
        name = e.op("Cast", name, to=NUMBERS["int64"])
    made = e.op("GatherElements", e.plain(x), name, axis=int(node.attrs["axis"]))
    e.put(node.outputs[0], made)


@rule("one_hot")
def one_hot(e: Emitter, node: Node) -> None:
    """Compared with each number: ONNX's OneHot counts negative ones from the end."""
    (indices,), depth = node.inputs, int(node.attrs["depth"])
    column = e.op("Unsqueeze", e.plain(indices), e.ints([len(indices.shape)]))
    found = e.op("Equal", column, e.constant(np.arange(depth), "depth", indices.dtype))
    e.put(node.outputs[0], e.op("Cast", found, to=NUMBERS["float32"]))


@rule("dim_value")
def dim_value(e: Emitter, node: Node) -> None:
    """A size as a number."""
    scalar = e.op("Squeeze", e.dim(node.attrs["dim"]), e.ints([0]))
    e.put(node.outputs[0], e.op("Cast", scalar, to=NUMBERS[node.outputs[0].dtype]))


@rule("size_along")
def size_along(e: Emitter, node: Node) -> None:
    """The size of an axis."""
    size = e.op("Squeeze", e.dim(node.inputs[0].shape[node.attrs["axis"]]), e.ints([0]))
    e.put(node.outputs[0], e.op("Cast", size, to=NUMBERS[node.outputs[0].dtype]))


@rule("arange")
def arange(e: Emitter, node: Node) -> None:
    """Numbers one after the other."""
    start, step = node.attrs["start"], node.attrs["step"]
    stop = start + step * node.attrs["size"]
    parts = [e.op("Squeeze", e.dim(each), e.ints([0])) for each in (start, stop, step)]
    made = e.op("Range", *parts)
    e.put(node.outputs[0], e.op("Cast", made, to=NUMBERS[node.outputs[0].dtype]))


_REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd",
}  # fmt: skip


@rule(*_REDUCTIONS)
def reduce(e: Emitter, node: Node) -> None:
    """Reduces axes in the order that they are stored in; what is left keeps it."""
    (x,), out, keep = node.inputs, node.outputs[0], bool(node.attrs["keepdims"])
    if not node.attrs["axis"]:
        e.put(out, e.op("Identity", e.plain(x)))
        return
    kind = _REDUCTIONS[node.op.name]
    order = e.stored(x).order
    name = e.ordered(x, order)
    axes = sorted(a if order is None else order.index(a) for a in node.attrs["axis"])
    if x.dtype == "bool":
        name = e.op("Cast", name, to=NUMBERS["int32"])
    if e.opset >= 18 or kind == "ReduceSum":
        made = e.op(kind, name, e.ints(axes), keepdims=int(keep))
    else:
        made = e.op(kind, name, axes=axes, keepdims=int(keep))
    if x.dtype == "bool":
        made = e.op("Cast", made, to=NUMBERS[out.dtype])
    if order is None or keep:
        e.put(out, made, order)
        return
    left = [axis for axis in order if axis not in node.attrs["axis"]]
    e.put(out, made, tuple(sorted(left).index(axis) for axis in left))


@rule("argmax", "argmin")
def argmax(e: Emitter, node: Node) -> None:
    """The place of the largest or smallest number."""
    kind = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    made = e.op(kind, e.plain(node.inputs[0]), axis=int(node.attrs["axis"]), keepdims=0)
    e.put(node.outputs[0], e.op("Cast", made, to=NUMBERS[node.outputs[0].dtype]))


@rule("argsort")
def argsort(e: Emitter, node: Node) -> None:
    """The places in rising or falling order; runtimes give equal numbers in order, too."""
    (x,), axis = node.inputs, int(node.attrs["axis"])
    falling = int(node.attrs["descending"])
    found = e.several(
        "TopK", [e.plain(x), e.dim(x.shape[axis])], 2, axis=axis, largest=falling, sorted=1
    )
    e.put(node.outputs[0], e.op("Cast", found[1], to=NUMBERS[node.outputs[0].dtype]))


@rule("cumsum")
def cumsum(e: Emitter, node: Node) -> None:
    """Running sums."""
    axis = e.constant(np.asarray(node.attrs["axis"], np.int64), "axis")
    made = e.op("CumSum", e.plain(node.inputs[0]), axis, reverse=int(node.attrs["reverse"]))
    e.put(node.outputs[0], made)


@rule("softmax", "log_softmax")
def softmax(e: Emitter, node: Node) -> None:
    """Along the last axis, wherever it is stored."""
    (x,) = node.inputs
    order, axis = e.stored(x).order, int(node.attrs["axis"])
    kind = "Softmax" if node.op.name == "softmax" else "LogSoftmax"
    made = e.op(kind, e.ordered(x, order), axis=axis if order is None else order.index(axis))
    e.put(node.outputs[0], made, order)


@rule("layer_norm")
def layer_norm(e: Emitter, node: Node) -> None:
    """Rows without their mean, divided by their deviation; one operator from version 17 on."""
    x = node.inputs[0]
    if any(e.uses.get(value) for value in node.outputs[1:]):
        raise Refused("the statistics of rows are results")
    epsilon, axis = float(node.attrs["epsilon"]), len(x.shape) - 1
    names = [e.plain(value) for value in node.inputs]
    if e.opset >= 17:
        e.put(node.outputs[0], e.op("LayerNormalization", *names, axis=axis, epsilon=epsilon))
        return
    apart = e.op("Sub", names[0], e.op("ReduceMean", names[0], axes=[axis]))
    spread = e.op("ReduceMean", e.op("Mul", apart, apart), axes=[axis])
    deviation = e.op("Sqrt", e.op("Add", spread, e.like(epsilon, x)))
    made = e.op("Mul", e.op("Div", apart, deviation), names[1])
    e.put(node.outputs[0], e.op("Add", made, names[2]))
