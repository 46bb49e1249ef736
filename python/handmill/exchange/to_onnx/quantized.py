"""Operators of 8-bit integers as ONNX.

Static steps are written as QuantizeLinear and DequantizeLinear around float operators, which
runtimes turn into products of integers. Rows that are measured when a model is called are written
as the integers that they are: ONNX's DynamicQuantizeLinear has one step for a whole tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.exchange.messages import NUMBERS
from handmill.exchange.to_onnx.emitter import Emitter, Refused, channels_first, rule
from handmill.exchange.to_onnx.products import conv_attributes, with_bias
from handmill.ir.graph import Node, Value
from handmill.ir.op import Array
from handmill.quantizers import unpack_int4

_EPSILON = 1e-7
"""What keeps the step of a row of zeros above 0, as in the operator."""


def _known(value: Value, what: str) -> Array:
    if value.constant is None:
        raise Refused(f"{what} that is computed from inputs")
    return value.constant


@rule("to_bytes")
def to_bytes(e: Emitter, node: Node) -> None:
    """Rounded in steps of one size."""
    x, given = node.inputs
    factor, zero = _known(given, "a format")
    order = e.stored(x).order
    scale = e.constant(np.float32(1) / np.float32(factor), "step", "float32")
    made = e.op("QuantizeLinear", e.ordered(x, order), scale, e.constant(np.uint8(zero), "zero"))
    e.put(node.outputs[0], made, order)


def _steps(e: Emitter, matrix: Array, label: str, factors: Value, axis: int) -> str:
    """Weights in steps of one size for each output.

    Their zero points are written though they are 0, and no two layers share them: where onnxruntime
    is asked for exact sums (``check.py``) it rewrites both in place, and fails where there is none
    or where they were rewritten before.
    """
    scale = _known(factors, "steps")
    zeros = e.constant(np.zeros(scale.shape, np.int8), "zeros", shared=False)
    weights = e.constant(matrix, label, shared=False)
    return e.op("DequantizeLinear", weights, e.constant(scale, "steps"), zeros, axis=axis)


def _counted(e: Emitter, x: Value, zero: Value, order: Any) -> str:
    """Bytes as whole numbers, apart from the one that stands for 0."""
    byte = e.constant(np.uint8(_known(zero, "a zero point")), "zero")
    return e.op("DequantizeLinear", e.ordered(x, order), e.constant(np.float32(1), "one"), byte)


def _plain(node: Node) -> None:
    if node.attrs["has_bias"] or node.attrs["activation"] or node.attrs["bytes"]:
        raise Refused("a product that more is built into")


@rule("int8_conv")
def int8_conv(e: Emitter, node: Node) -> None:
    """A convolution of what bytes stand for."""
    _plain(node)
    x, w, factors, zero = node.inputs
    rank = len(x.shape)
    kernel = np.transpose(_known(w, "a kernel"), (rank - 1, rank - 2, *range(rank - 2)))
    filters = _steps(e, kernel, e.labels.get(w, "kernel"), factors, 0)
    images = _counted(e, x, zero, channels_first(rank))
    out, bias = with_bias(e, node)
    e.put(
        out,
        e.op("Conv", images, filters, *bias, **conv_attributes(node, 1)),
        channels_first(rank),
    )


@rule("int8_depthwise")
def int8_depthwise(e: Emitter, node: Node) -> None:
    """A convolution of what bytes stand for, one group a channel."""
    _plain(node)
    x, w, factors, zero = node.inputs
    rank, matrix = len(x.shape), _known(w, "a kernel")
    channels = matrix.shape[-2]
    flat = matrix.reshape(*matrix.shape[:-2], -1)
    kernel = np.expand_dims(np.moveaxis(flat, -1, 0), 1)
    filters = _steps(e, kernel, e.labels.get(w, "kernel"), factors, 0)
    images = _counted(e, x, zero, channels_first(rank))
    out, bias = with_bias(e, node)
    found = e.op("Conv", images, filters, *bias, **conv_attributes(node, channels))
    e.put(out, found, channels_first(rank))


@rule("int8_product")
def int8_product(e: Emitter, node: Node) -> None:
    """A product with rows of bytes, or with rows that are measured and rounded first."""
    _plain(node)
    x, w, factors, *zero = node.inputs
    matrix = _known(w, "a kernel")
    if node.attrs["pairs"]:
        size = int((x if node.attrs["transpose_b"] else factors).shape[-1])
        matrix = unpack_int4(matrix, size, axis=-1)
    if node.attrs["transpose_b"]:
        matrix = np.ascontiguousarray(matrix.T)
    if not zero:
        _measured(e, node, matrix)
        return
    kernel = _steps(e, matrix, e.labels.get(w, "kernel"), factors, 1)
    e.put(node.outputs[0], e.op("MatMul", _counted(e, x, zero[0], None), kernel))


def _measured(e: Emitter, node: Node, matrix: Array) -> None:
    x, w, factors = node.inputs
    given, last = e.plain(x), len(x.shape) - 1
    magnitude = e.op("Abs", given)
    if e.opset >= 18:
        top = e.op("ReduceMax", magnitude, e.ints([last]), keepdims=1)
    else:
        top = e.op("ReduceMax", magnitude, axes=[last], keepdims=1)
    top = e.op("Add", top, e.constant(np.float32(_EPSILON), "epsilon"))
    most = e.constant(np.float32(127), "most")
    whole = e.op("Round", e.op("Mul", given, e.op("Div", most, top)))
    whole = e.op("Clip", whole, e.constant(np.float32(-127), "least"), most)
    # Runtimes multiply uint8 by int8: 128 stands for 0.
    moved = e.op("Add", whole, e.constant(np.float32(128), "zero"))
    rows = e.op("Cast", moved, to=NUMBERS["uint8"])
    weights = e.constant(matrix, e.labels.get(w, "kernel"), shared=False)
    sums = e.op("MatMulInteger", rows, weights, e.constant(np.uint8(128), "zero"))
    step = e.op("Mul", e.op("Div", top, most), e.plain(factors))
    made = e.op("Mul", e.op("Cast", sums, to=NUMBERS["float32"]), step)
    behind = e.bias_behind(node)
    if behind is None:
        e.put(node.outputs[0], made)
        return
    # Subtracted, which is the same number: what is added, onnxruntime builds into the product
    # before the steps of the rows (MatMulIntegerToFloat), and so multiplies by them.
    e.put(behind[1], e.op("Sub", made, e.constant(-behind[0], "bias")))
