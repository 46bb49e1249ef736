"""Convolutions of 8-bit integers: products of windows of bytes (:mod:`.int8`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.int8 import (
    MOST_TERMS,
    PLAIN,
    absorb_into,
    exact_sums,
    finished_sums,
    operand_names,
)
from handmill.primitives.samples import elements
from handmill.primitives.windows import padded, reach, window_counts


def _infer(x: Spec, kernel: Spec, factors: Spec, *rest: Spec, **attrs: Any) -> Spec:
    operands = {"x": x, "kernel": kernel, "factors": factors}
    if x.dtype != "uint8" or kernel.dtype != "int8" or x.rank != kernel.rank:
        raise shape_error("int8_conv", "uint8 images and an int8 kernel were expected", operands)
    if not same(x.shape[-1], kernel.shape[-2]):
        raise shape_error("int8_conv", "the numbers of channels differ", operands)
    terms = math.prod(kernel.shape[:-1])
    if isinstance(terms, int) and terms > MOST_TERMS:
        raise shape_error("int8_conv", f"windows hold at most {MOST_TERMS} numbers", operands)
    for name, spec in zip(("factors", *operand_names(attrs)), (factors, *rest), strict=True):
        wanted = {"zero": (), "format": (2,)}.get(name, kernel.shape[-1:])
        if spec.shape != wanted or spec.dtype != "float32":
            raise shape_error("int8_conv", f"{name}: float32 of {wanted} expected", operands)
    counts = window_counts(
        "int8_conv",
        x.shape[1:-1],
        kernel.shape[:-2],
        attrs["strides"],
        attrs["padding"],
        attrs["dilation"],
        operands,
    )
    dtype = "uint8" if attrs["bytes"] else "float32"
    return Spec((x.shape[0], *counts, kernel.shape[-1]), dtype)


def _reference(x: Array, kernel: Array, factors: Array, *rest: Array, **attrs: Any) -> Array:
    names = operand_names(attrs)
    operands = {n: np.asarray(v, np.float32) for n, v in zip(names, rest, strict=True)}
    zero = operands["zero"].astype(np.int32)
    # Beyond the image lies what stands for 0.
    wide = padded(x.astype(np.int32) - zero, attrs["padding"])
    axes = tuple(range(1, x.ndim - 1))
    spans = tuple(map(reach, kernel.shape[:-2], attrs["dilation"]))
    view = sliding_window_view(wide, spans, axes)
    steps = [slice(None, None, n) for n in (1, *attrs["strides"], 1, *attrs["dilation"])]
    view = np.moveaxis(view[tuple(steps)], x.ndim - 1, -1)
    shape = (*view.shape[: x.ndim - 1], kernel.shape[-1])
    rows = view.reshape(math.prod(shape[:-1]), math.prod(kernel.shape[:-1]))
    sums = exact_sums(rows, kernel.reshape(-1, kernel.shape[-1])).astype(np.float32)
    y = sums * np.asarray(factors, np.float32)
    return finished_sums(y, operands, attrs).reshape(shape)


def _absorb(*arguments: Any) -> Any:
    return absorb_into(INT8_CONV, *arguments)


def _flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    return 2 * math.prod(inputs[1].shape[:-1]) * elements(outputs[0])


_CASES: tuple[tuple[Any, ...], ...] = (
    ((2, 7, 6, 3), (3, 3), 5, (1, 1), ((1, 1), (1, 1)), (1, 1), {}),
    ((1, 9, 8, 4), (3, 2), 17, (2, 1), ((0, 1), (0, 0)), (1, 1), {"has_bias": True}),
    ((2, 9, 9, 2), (3, 3), 3, (1, 1), ((2, 2), (2, 2)), (2, 2), {"activation": "relu"}),
    ((3, 11, 5), (4,), 6, (2,), ((1, 2),), (1,), {"bytes": True, "has_bias": True}),
    ((0, 4, 4, 1), (2, 2), 2, (1, 1), ((0, 0), (0, 0)), (1, 1), {}),
)


def _samples() -> Iterable[Sample]:
    for i, (shape, window, filters, strides, padding, dilation, case) in enumerate(_CASES):

        def make(
            rng: np.random.Generator,
            shape: Any = shape,
            window: Any = window,
            filters: int = filters,
            case: Any = case,
        ) -> tuple[Array, ...]:
            given = [
                rng.integers(0, 256, shape).astype(np.uint8),
                rng.integers(-128, 128, (*window, shape[-1], filters)).astype(np.int8),
                rng.uniform(1e-4, 1e-2, filters).astype(np.float32),
                np.asarray(np.float32(rng.integers(0, 256))),
            ]
            if case.get("has_bias"):
                given.append(rng.standard_normal(filters).astype(np.float32))
            if case.get("bytes"):
                given.append(np.array([30.0, rng.integers(0, 256)], np.float32))
            return tuple(given)

        attrs = {
            **_plain(strides, padding, dilation),
            **case,
        }
        yield Sample(f"case{i}", make, attrs, smooth=False)


def _plain(strides: Any, padding: Any, dilation: Any) -> Attrs:
    attrs = {key: value for key, value in PLAIN.items() if key != "transpose_b"}
    return {
        **attrs, "has_zero": True, "strides": strides, "padding": padding, "dilation": dilation,
    }  # fmt: skip


# As int8_product of the windows of (batch, *spatial, channels), which `zero` lies around.
INT8_CONV = register(
    Op(
        "int8_conv",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Exact(),
        kernel="int8_conv",
        native=lambda specs, attrs: specs[0].rank in (3, 4),
        flops=_flops,
        absorb=_absorb,
        grad_none=(0, 1, 2, 3),
    )
)


def int8_conv(
    x: Any, kernel: Any, factors: Any, zero: Any, strides: Any, padding: Any, dilation: Any
) -> Any:
    """Returns the convolution of ``x - zero`` with a kernel, times ``factors``.

    Args:
        x: uint8, (B, *spatial, C).
        kernel: int8, (*window, C, O).
        factors: float32, (O,).
        zero: float32, a whole number: the byte that stands for 0, also around images.
        strides: from one window to the next.
        padding: pairs of places before and after.
        dilation: from one element of a window to the next.
    """
    return apply(INT8_CONV, x, kernel, factors, zero, **_plain(strides, padding, dilation))
