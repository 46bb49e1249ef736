"""Products of 8-bit integers: rows are quantized, summed exactly, and scaled back at the end.

Every float32 operation is rounded once and in the order that the reference shows; sums of integers
have no rounding. So a result has the same bits at every instruction set level, for any number of
threads, and whatever rows stand beside a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.graph import Value
from handmill.ir.op import REGISTRY, Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import multiply
from handmill.primitives.operands import converted
from handmill.primitives.samples import elements

MOST_TERMS = 132_096
"""The longest sum of products of two bytes that an int32 holds, in whole vectors."""

_EPSILON = np.float32(1e-7)
"""Keras's: it keeps the step of a row of zeros above 0."""

PLAIN: Attrs = {
    "transpose_b": False,
    "pairs": False,
    "has_zero": False,
    "has_bias": False,
    "activation": "",
    "bytes": False,
}
"""The attributes of a product without anything around it."""

_ACTIVATIONS = ("relu", "relu6")
"""Those that give the same bits at every level."""


def _infer(x: Spec, kernel: Spec, factors: Spec, *rest: Spec, **attrs: Any) -> Spec:
    names = ("x", "kernel", "factors", *operand_names(attrs))
    operands = dict(zip(names, (x, kernel, factors, *rest), strict=True))
    given = "uint8" if attrs["has_zero"] else "float32"
    if x.dtype != given or kernel.dtype != "int8":
        raise shape_error("int8_product", f"a {given} x and an int8 kernel were expected", operands)
    if x.rank < 1 or kernel.rank != 2:
        raise shape_error("int8_product", "rows and a matrix were expected", operands)
    terms, units = kernel.shape[::-1] if attrs["transpose_b"] else kernel.shape
    fits = same(x.shape[-1], terms)
    if attrs["pairs"]:
        terms, units = x.shape[-1], factors.shape[0] if factors.rank == 1 else -1
        if not (isinstance(terms, int) and isinstance(units, int)):
            raise shape_error(
                "int8_product", "pairs of 4-bit numbers need an inner size and factors", operands
            )
        fits = kernel.shape == pairs_shape(terms, units, attrs["transpose_b"])
    if not fits:
        raise shape_error("int8_product", "the inner sizes differ", operands)
    if isinstance(terms, int) and terms > MOST_TERMS:
        raise shape_error(
            "int8_product", f"sums of more than {MOST_TERMS} products may leave int32", operands
        )
    for name in names[2:]:
        wanted = {"zero": (), "format": (2,)}.get(name, (units,))
        if operands[name] != Spec(wanted, "float32"):
            raise shape_error("int8_product", f"{name}: float32 of {wanted} expected", operands)
    return Spec((*x.shape[:-1], units), "uint8" if attrs["bytes"] else "float32")


def pairs_shape(terms: int, units: int, turned: bool = False) -> tuple[int, int]:
    """The shape of a matrix (terms, units) of 4-bit numbers, or (units, terms), two a byte."""
    rows, of_row = (units, terms) if turned else (terms, units)
    return rows, (of_row + 1) // 2


def operand_names(attrs: Attrs) -> list[str]:
    """What the operands behind the factors are."""
    flags = (("has_zero", "zero"), ("has_bias", "bias"), ("bytes", "format"))
    return [name for flag, name in flags if attrs[flag]]


def quantized_rows(x: Array) -> tuple[Array, Array]:
    """Quantizes each row, the last axis, by its largest magnitude.

    Args:
        x: float32, (..., K).

    Returns:
        The integers, int8, and the step of each row, float32, (..., 1): NaN where a row holds what
        is not finite, whose integers are then 0.
    """
    x = np.asarray(x, np.float32)
    largest = np.max(np.abs(x), axis=-1, keepdims=True, initial=0.0) + _EPSILON
    finite = np.isfinite(largest)
    safe = np.where(finite, largest, np.float32(1.0))
    integers = np.clip(np.rint(np.where(finite, x, 0) * (np.float32(127.0) / safe)), -127, 127)
    step = np.where(finite, safe / np.float32(127.0), np.float32(np.nan))
    return integers.astype(np.int8), step.astype(np.float32)


def exact_sums(x: Array, kernel: Array) -> Array:
    """The product of two integer matrices, or of a stack by one: int32.

    Blocks of rows are multiplied in float64, which is exact here and which BLAS has.
    """
    wide = np.matmul(x.astype(np.float64), kernel.astype(np.float64))
    return np.asarray(wide.astype(np.int64).astype(np.int32))


def _reference(x: Array, kernel: Array, factors: Array, *rest: Array, **attrs: Any) -> Array:
    operands = {
        name: np.asarray(operand, np.float32)
        for name, operand in zip(operand_names(attrs), rest, strict=True)
    }
    factors = np.asarray(factors, np.float32)
    if attrs["pairs"]:
        size = x.shape[-1] if attrs["transpose_b"] else factors.size
        kernel = _unpack_reference(kernel, size=size)
    if attrs["transpose_b"]:
        kernel = kernel.T
    if attrs["has_zero"]:
        integers = x.astype(np.int32) - operands["zero"].astype(np.int32)
    else:
        integers, step = quantized_rows(x)
        with np.errstate(invalid="ignore"):
            factors = step * factors
    with np.errstate(invalid="ignore", over="ignore"):
        y = exact_sums(integers, kernel).astype(np.float32) * factors
        return finished_sums(y, operands, attrs)


def finished_sums(y: Array, operands: dict[str, Array], attrs: Attrs) -> Array:
    """The reference of what follows scaled sums: bias, activation, and the way back to bytes."""
    if attrs["has_bias"]:
        y = y + operands["bias"]
    if attrs["activation"]:
        y = REGISTRY[attrs["activation"]].reference(y)
    return _bytes_reference(y, operands["format"]) if attrs["bytes"] else y


def _vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    # As Keras: through the kernel's numbers, as if rows had not been rounded.
    if attrs["has_zero"]:
        return (None,) * len(inputs)
    kernel = inputs[1]
    if attrs["pairs"]:
        kernel = unpack_int4(kernel, inputs[0 if attrs["transpose_b"] else 2].shape[-1])
    kernel = converted(kernel, "float32")
    dx = apply(
        REGISTRY["matmul"],
        multiply(dys[0], inputs[2]),
        kernel,
        transpose_a=False,
        transpose_b=not attrs["transpose_b"],
    )
    return dx, *(None,) * (len(inputs) - 1)


def _absorb(*arguments: Any) -> Any:
    return absorb_into(INT8_PRODUCT, *arguments)


def absorb_into(
    op: Op, inputs: tuple[Value, ...], attrs: Attrs, kind: str, name: str, operand: Value | None
) -> tuple[Op, tuple[Value, ...], Attrs] | None:
    """Builds a bias, then an activation, into a product (see Op.absorb)."""
    if attrs["bytes"]:
        return None
    if kind == "bytes" and operand is not None:
        return op, (*inputs, operand), {**attrs, "bytes": True}
    if attrs["activation"]:
        return None
    if kind == "activation" and name in _ACTIVATIONS:
        return op, inputs, {**attrs, "activation": name}
    if kind != "bias" or attrs["has_bias"] or operand is None or operand.dtype != "float32":
        return None
    if operand.shape != inputs[2].shape:
        return None
    return op, (*inputs, operand), {**attrs, "has_bias": True}


def _flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    return 2 * int(inputs[0].shape[-1]) * elements(outputs[0])


def _samples() -> Iterable[Sample]:
    cases: list[Attrs] = [
        {},
        {"transpose_b": True},
        {"has_bias": True},
        {"has_bias": True, "activation": "relu"},
        {"has_zero": True, "has_bias": True, "activation": "relu6"},
        {"has_zero": True, "has_bias": True, "bytes": True},
        {"has_zero": True, "bytes": True, "activation": "relu"},
        {"pairs": True},
        {"pairs": True, "transpose_b": True, "has_bias": True},
        {"pairs": True, "has_zero": True, "has_bias": True, "bytes": True},
    ]
    sizes = ((1, 1, 1), (1, 785, 70), (7, 16, 33), (50, 67, 130), (0, 4, 3), (3, 5, 0))
    for i, case in enumerate(cases):
        attrs = {**PLAIN, **case}
        for m, k, n in sizes if i in (0, 4, 7) else sizes[1:4]:
            words = "_".join(
                key if value is True else str(value) for key, value in case.items() if value
            )
            name = f"{words}_{m}x{k}x{n}".strip("_")
            yield Sample(name, _draw(m, k, n, attrs), attrs, smooth=False)
    yield Sample("bench", _draw(64, 784, 512, PLAIN), PLAIN, smooth=False, bench=True)
    pairs = {**PLAIN, "pairs": True}
    yield Sample("bench_pairs", _draw(64, 784, 512, pairs), pairs, smooth=False, bench=True)


def _draw(m: int, k: int, n: int, attrs: Attrs) -> Any:
    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        if attrs["has_zero"]:
            x: Array = rng.integers(0, 256, (m, k)).astype(np.uint8)
        else:
            sizes = np.where(np.arange(m) < m // 2, 1.0, 100.0)
            x = (rng.standard_normal((m, k)) * sizes[:, None]).astype(np.float32)
        shape = (n, k) if attrs["transpose_b"] else (k, n)
        if attrs["pairs"]:
            shape = pairs_shape(k, n, attrs["transpose_b"])
        kernel = rng.integers(-128, 128, shape).astype(np.int8)
        given: list[Array] = [x, kernel, rng.uniform(1e-4, 1e-2, n).astype(np.float32)]
        more: dict[str, Any] = {
            "zero": np.float32(rng.integers(0, 256)),
            "bias": rng.standard_normal(n).astype(np.float32),
            "format": np.array([rng.uniform(5.0, 50.0), rng.integers(0, 256)], np.float32),
        }
        return (*given, *(np.asarray(more[name]) for name in operand_names(attrs)))

    return make


# act(sums(x, kernel) * factors + bias), where rows of a float32 x are quantized first and have a
# step of their own, and a uint8 x stands for x - zero. With `bytes` it ends in to_bytes; with
# `pairs` the kernel holds 4-bit numbers as unpack_int4 has them, two a byte along its last axis.
INT8_PRODUCT = register(
    Op(
        "int8_product",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Exact(),
        vjp=_vjp,
        kernel="int8_product",
        native=lambda specs, attrs: True,
        flops=_flops,
        absorb=_absorb,
        grad_none=(1, 2),
    )
)


def int8_product(
    x: Any, kernel: Any, factors: Any, transpose_b: bool = False, pairs: bool = False
) -> Any:
    """Returns ``x @ kernel * factors``, with the rows of ``x`` quantized to 8 bits.

    Args:
        x: float32, (..., K).
        kernel: int8, (K, N), or (N, K) with ``transpose_b``.
        factors: float32, (N,).
        transpose_b: see ``kernel``.
        pairs: whether the kernel is of 4-bit numbers, two a byte along its last axis.
    """
    attrs = {**PLAIN, "transpose_b": transpose_b, "pairs": pairs}
    return apply(INT8_PRODUCT, x, kernel, factors, **attrs)


def product_of_bytes(
    x: Any, kernel: Any, factors: Any, zero: Any, transpose_b: bool = False, pairs: bool = False
) -> Any:
    """Returns ``(x - zero) @ kernel * factors``.

    Args:
        x: uint8, (..., K).
        kernel: int8, (K, N), or (N, K) with ``transpose_b``.
        factors: float32, (N,).
        zero: float32, a whole number: the byte that stands for 0.
        transpose_b: see ``kernel``.
        pairs: whether the kernel is of 4-bit numbers, two a byte along its last axis.
    """
    attrs = {**PLAIN, "transpose_b": transpose_b, "pairs": pairs, "has_zero": True}
    return apply(INT8_PRODUCT, x, kernel, factors, zero, **attrs)


# --- bytes ---------------------------------------------------------------------------------------


def _bytes_infer(x: Spec, format: Spec) -> Spec:
    if x.dtype != "float32" or format != Spec((2,), "float32"):
        operands = {"x": x, "format": format}
        raise shape_error("to_bytes", "float32 numbers and a format (2,) were expected", operands)
    return Spec(x.shape, "uint8")


def _bytes_reference(x: Array, format: Array) -> Array:
    x, (factor, zero) = np.asarray(x, np.float32), np.asarray(format, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.where(np.isnan(x), np.float32(0.0), x) * factor
    clipped = np.minimum(np.maximum(scaled, -zero), np.float32(255.0) - zero)
    return np.asarray((np.rint(clipped) + zero).astype(np.uint8))


def _bytes_samples() -> Iterable[Sample]:
    for size in (1, 17, 9000):

        def make(rng: np.random.Generator, size: int = size) -> tuple[Array, ...]:
            x = (100.0 * rng.standard_normal(size)).astype(np.float32)
            return x, np.array([1.25, rng.integers(0, 256)], np.float32)

        yield Sample(str(size), make, {}, smooth=False)


# round(clip(x * factor, -zero, 255 - zero)) + zero of the format (factor, zero); NaN becomes zero.
TO_BYTES = register(
    Op(
        "to_bytes",
        infer=_bytes_infer,
        reference=_bytes_reference,
        samples=_bytes_samples,
        bound=Exact(),
        kernel="to_bytes",
        epilogue=("bytes", ""),
        grad_none=(0, 1),
    )
)


def to_bytes(x: Any, format: Any) -> Any:
    """Returns ``round(x * factor) + zero`` of the format (factor, zero), held to 0 to 255."""
    return apply(TO_BYTES, x, format)


# --- 4 bits --------------------------------------------------------------------------------------


def _unpack_infer(x: Spec, *, size: int) -> Spec:
    if x.dtype != "int8" or x.rank < 1 or x.shape[-1] != (size + 1) // 2:
        raise shape_error("unpack_int4", f"int8 pairs of {size} numbers were expected", {"x": x})
    return Spec((*x.shape[:-1], size), "int8")


def _unpack_reference(x: Array, *, size: int) -> Array:
    x = x.astype(np.int8)
    low, high = np.left_shift(x, 4) >> 4, x >> 4
    return np.stack([low, high], axis=-1).reshape(*x.shape[:-1], 2 * x.shape[-1])[..., :size]


def _unpack_samples() -> Iterable[Sample]:
    for rows, size in ((1, 1), (3, 2), (5, 33), (0, 4)):

        def make(rng: np.random.Generator, shape: Any = (rows, (size + 1) // 2)) -> Any:
            return (rng.integers(-128, 128, shape).astype(np.int8),)

        yield Sample(f"{rows}x{size}", make, {"size": size}, smooth=False)


# Pairs of signed numbers of 4 bits, the first of two in the low half of a byte.
UNPACK_INT4 = register(
    Op(
        "unpack_int4",
        infer=_unpack_infer,
        reference=_unpack_reference,
        samples=_unpack_samples,
        bound=Exact(),
        kernel="unpack_int4",
        native=lambda specs, attrs: True,
        grad_none=(0,),
    )
)


def unpack_int4(x: Any, size: int) -> Any:
    """Returns the ``size`` numbers of 4 bits that each row of bytes holds."""
    return apply(UNPACK_INT4, x, size=size)
