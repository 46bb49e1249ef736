"""Matrix products of bfloat16 numbers with float32 sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.bfloat16 import (
    BFLOAT16,
    half_spacing,
    is_available,
    unrounded,
    unrounded_view,
)
from handmill.ir.graph import Value
from handmill.ir.op import EPS32, REGISTRY, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import apply
from handmill.primitives.epilogue import (
    NO_EPILOGUE,
    absorb_epilogue,
    check_operands,
    epilogue_parts,
    operand_shapes,
)
from handmill.primitives.matmul import (
    flops_of_product,
    product_gradients,
    product_shape,
    turned,
)
from handmill.primitives.samples import name_of, uniform

_FLOATS = ("float32", BFLOAT16)


def _infer(a: Spec, b: Spec, *rest: Spec, dtype: str, **attrs: Any) -> Spec:
    operands = {"a": a, "b": b} | {f"operand {i + 2}": spec for i, spec in enumerate(rest)}
    if any(spec.dtype not in _FLOATS for spec in operands.values()):
        raise shape_error("matmul_bf16", "float32 or bfloat16 operands were expected", operands)
    alike = Spec(a.shape, BFLOAT16), Spec(b.shape, BFLOAT16)
    shape = product_shape("matmul_bf16", *alike, attrs["transpose_a"], attrs["transpose_b"])
    check_operands("matmul_bf16", shape, {"a": a, "b": b}, rest, attrs)
    return Spec(shape, dtype)


def _operand(x: Array, transposed: bool) -> Array:
    """``x`` rounded to bfloat16, in float64 if it came so, else in float32."""
    wide = x.dtype if x.dtype == np.float64 else np.dtype(np.float32)
    return turned(x.astype(numpy_dtype(BFLOAT16)).astype(wide), transposed)


def _reference(a: Array, b: Array, *rest: Array, dtype: str, **attrs: Any) -> Array:
    y = np.matmul(_operand(a, attrs["transpose_a"]), _operand(b, attrs["transpose_b"]))
    for name, operand in epilogue_parts(rest, attrs):
        more = () if operand is None else (operand.astype(y.dtype),)
        y = REGISTRY[name].reference(y, *more)
    return np.asarray(y if y.dtype == np.float64 else y.astype(numpy_dtype(dtype)))


@dataclass(frozen=True, slots=True)
class _Bound:
    """``2 eps (K + 6)`` of the terms' sizes, as of matmul; and half a unit of a bfloat16 result.

    vdpbf16ps also takes operands and sums below 2^-126 as zero: 2^-126 a term of either kind.
    Activations have slopes up to 2, derivatives multiply by at most 2.
    """

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        a, b = (
            _operand(np.abs(x.astype(np.float64)), attrs[f"transpose_{name}"])
            for name, x in zip("ab", inputs[:2], strict=True)
        )
        size = np.matmul(a, b) + a.shape[-1] * 2.0**-126 * (2 + np.max(b, initial=0.0))
        size = size + a.shape[-1] * 2.0**-126 * np.max(a, initial=0.0)
        operands = iter(np.abs(x.astype(np.float64)) for x in inputs[2:])
        if attrs["has_scale"]:
            size = size * next(operands)
        for _ in range(attrs["has_bias"] + attrs["residual"]):
            size = size + next(operands)
        if attrs["act_grad"]:
            size = 2 * size
        if attrs["activation"]:
            size = 2 * size + 1.0
        allowed = 2 * EPS32 * (a.shape[-1] + 6) * size + float(np.finfo(np.float32).tiny)
        if attrs["dtype"] == BFLOAT16:
            allowed = allowed + half_spacing(np.abs(want.astype(np.float64)) + allowed)
        return np.asarray(allowed)


def product(a: Any, b: Any, transpose_a: bool, transpose_b: bool, dtype: str = BFLOAT16) -> Any:
    """Returns a matrix product of two operands, float32 ones rounded to bfloat16.

    What was rounded to bfloat16 before is taken as it was: the kernel rounds while it packs.

    Args:
        a: (M, K), or (K, M) with ``transpose_a``, or a stack of them.
        b: (K, N), or (N, K) with ``transpose_b``, or a stack of them.
        transpose_a: see ``a``.
        transpose_b: see ``b``.
        dtype: the dtype to which the float32 sums are rounded.
    """
    attrs = {**NO_EPILOGUE, "transpose_a": transpose_a, "transpose_b": transpose_b, "dtype": dtype}
    return apply(MATMUL_BF16, unrounded_view(a), unrounded_view(b), **attrs)


def _vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    a, b = inputs
    transposed = attrs["transpose_a"], attrs["transpose_b"]

    def multiply(x: Value, y: Value, turn_x: bool, turn_y: bool, like: Value) -> Any:
        return product(x, y, turn_x, turn_y, like.dtype)

    return product_gradients(a, b, dys[0], *transposed, multiply)


def _absorb(
    inputs: tuple[Value, ...], attrs: Attrs, kind: str, name: str, operand: Value | None
) -> tuple[Op, tuple[Value, ...], Attrs] | None:
    """Builds an epilogue into a product (see Op.absorb); the order is that of ``matmul``."""
    a, b = (Spec(v.shape, BFLOAT16) for v in inputs[:2])
    shape = product_shape("matmul_bf16", a, b, attrs["transpose_a"], attrs["transpose_b"])
    operand = None if operand is None else unrounded(operand)
    return absorb_epilogue(MATMUL_BF16, inputs, attrs, kind, name, operand, shape, _FLOATS)


def _make(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> Any:
    draw = uniform(*shapes, low=-1.0, high=1.0)

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        pairs = zip(draw(rng), dtypes, strict=True)
        return tuple(x.astype(numpy_dtype(dtype)) for x, dtype in pairs)

    return make


def _samples() -> Iterable[Sample]:
    if not is_available():
        return
    plain = {**NO_EPILOGUE, "transpose_a": False, "transpose_b": False, "dtype": BFLOAT16}
    sizes = ((1, 1, 1), (1, 17, 33), (15, 16, 17), (127, 33, 65), (3, 1030, 10), (5, 0, 3))
    for i, (m, k, n) in enumerate(sizes):
        for turn_a, turn_b in ((False, False), (True, False), (False, True), (True, True)):
            sizes_of = [(k, m) if turn_a else (m, k), (n, k) if turn_b else (k, n)]
            dtypes = [_FLOATS[(i + turn_a) % 2], _FLOATS[(i // 2 + turn_b) % 2]]
            attrs = {**plain, "transpose_a": turn_a, "transpose_b": turn_b}
            attrs["dtype"] = _FLOATS[(i + turn_b) % 2]
            letters = "nt"[turn_a] + "nt"[turn_b]
            words = "_".join(word[:2] for word in (*dtypes, attrs["dtype"]))
            yield Sample(f"{letters}_{words}_{m}x{k}x{n}", _make(sizes_of, dtypes), attrs, False)
    stacks: list[tuple[tuple[int, ...], tuple[int, ...]]]
    stacks = [((3, 7, 6), (6, 5)), ((3, 7, 5), (3, 5, 6)), ((2, 1, 7, 5), (3, 5, 6))]
    for a, b in stacks:
        make = _make((a, b), (BFLOAT16, "float32"))
        yield Sample(f"{name_of(a)}_{name_of(b)}", make, plain, False)
    cases: list[Attrs] = [
        {"has_bias": True},
        {"has_bias": True, "residual": True, "activation": "relu"},
        {"has_bias": True, "activation": "gelu"},
        {"has_scale": True, "has_bias": True, "activation": "relu"},
        {"act_grad": "relu", "transpose_b": True},
        {"act_grad": "tanh", "transpose_b": True},
    ]
    for case in cases:
        for m, k, n in ((1, 17, 33), (127, 34, 65)):
            for extra, dtype in (
                (BFLOAT16, BFLOAT16),
                ("float32", BFLOAT16),
                (BFLOAT16, "float32"),
            ):
                attrs = {**plain, **case, "dtype": dtype}
                shapes: list[tuple[int, ...]] = [(m, k)]
                shapes += [(n, k) if attrs["transpose_b"] else (k, n)]
                shapes += operand_shapes((m, n), attrs)
                dtypes = [BFLOAT16, "float32", *(extra for _ in shapes[2:])]
                words = "_".join(str(v) for v in case.values() if v is not True)
                flags = "_".join(key for key, v in case.items() if v is True)
                name = f"{flags}_{words}_{extra[:2]}_{dtype[:2]}_{m}x{k}x{n}".strip("_")
                yield Sample(name, _make(shapes, dtypes), attrs, False)
    stacks = [((64, 784), (784, 128)), ((32, 4096), (4096, 128))]
    for a, b in stacks:
        make = _make((a, b), (BFLOAT16, "float32"))
        yield Sample(f"bench_{name_of(a)}", make, plain, False, bench=True)


# act_grad(act(a b * scale + bias + residual)) of a and b rounded to bfloat16, in one kernel;
# everything after that in float32, rounded once to `dtype`. Operands are float32 or bfloat16 each.
MATMUL_BF16 = register(
    Op(
        "matmul_bf16",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=_Bound(),
        vjp=_vjp,
        attribution="midpoint",
        kernel="matmul_bf16",
        native=lambda specs, attrs: all(s.dtype in _FLOATS for s in specs),
        flops=flops_of_product,
        absorb=_absorb,
    )
)
