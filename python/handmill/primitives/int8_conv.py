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


def inferred(
    op: str, outputs: Any, x: Spec, kernel: Spec, factors: Spec, *rest: Spec, **attrs: Any
) -> Spec:
    """The result of windows of bytes times ``kernel``, with ``outputs`` channels."""
    operands = {"x": x, "kernel": kernel, "factors": factors}
    for name, spec in zip(("factors", *operand_names(attrs)), (factors, *rest), strict=True):
        wanted = {"zero": (), "format": (2,)}.get(name, (outputs,))
        if spec.shape != wanted or spec.dtype != "float32":
            raise shape_error(op, f"{name}: float32 of {wanted} expected", operands)
    counts = window_counts(
        op,
        x.shape[1:-1],
        kernel.shape[:-2],
        attrs["strides"],
        attrs["padding"],
        attrs["dilation"],
        operands,
    )
    dtype = "uint8" if attrs["bytes"] else "float32"
    return Spec((x.shape[0], *counts, outputs), dtype)


def check_operands(op: str, x: Spec, kernel: Spec, terms: Any) -> None:
    """Refuses what is no image of bytes beside a kernel of ``terms`` integers a sum."""
    operands = {"x": x, "kernel": kernel}
    if x.dtype != "uint8" or kernel.dtype != "int8" or x.rank != kernel.rank or x.rank < 3:
        raise shape_error(op, "uint8 images and an int8 kernel were expected", operands)
    if not same(x.shape[-1], kernel.shape[-2]):
        raise shape_error(op, "the numbers of channels differ", operands)
    if isinstance(terms, int) and terms > MOST_TERMS:
        raise shape_error(op, f"windows hold at most {MOST_TERMS} numbers", operands)


def _infer(x: Spec, kernel: Spec, *rest: Spec, **attrs: Any) -> Spec:
    check_operands("int8_conv", x, kernel, math.prod(kernel.shape[:-1]))
    return inferred("int8_conv", kernel.shape[-1], x, kernel, *rest, **attrs)


def windows_of(x: Array, window: tuple[int, ...], zero: Array, attrs: Attrs) -> Array:
    """What windows hold, int32: (B, *counts, *window, C)."""
    # Beyond the image lies what stands for 0.
    wide = padded(x.astype(np.int32) - zero.astype(np.int32), attrs["padding"])
    axes = tuple(range(1, x.ndim - 1))
    spans = tuple(map(reach, window, attrs["dilation"]))
    view = sliding_window_view(wide, spans, axes)
    steps = [slice(None, None, n) for n in (1, *attrs["strides"], 1, *attrs["dilation"])]
    return np.moveaxis(view[tuple(steps)], x.ndim - 1, -1)


def named_operands(attrs: Attrs, rest: Sequence[Array]) -> dict[str, Array]:
    """The operands behind the factors, by their names."""
    names = operand_names(attrs)
    return {n: np.asarray(v, np.float32) for n, v in zip(names, rest, strict=True)}


def _reference(x: Array, kernel: Array, factors: Array, *rest: Array, **attrs: Any) -> Array:
    operands = named_operands(attrs, rest)
    view = windows_of(x, kernel.shape[:-2], operands["zero"], attrs)
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
            **plain(strides, padding, dilation),
            **case,
        }
        yield Sample(f"case{i}", make, attrs, smooth=False)


def plain(strides: Any, padding: Any, dilation: Any) -> Attrs:
    """The attributes of windows of bytes without anything around their sums."""
    attrs = {key: value for key, value in PLAIN.items() if key not in ("transpose_b", "pairs")}
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
    return apply(INT8_CONV, x, kernel, factors, zero, **plain(strides, padding, dilation))
