"""Matrix products, and the fused product with bias, activation and residual."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Shape, same
from handmill.ir.graph import Value
from handmill.ir.op import Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.emit import reshape, unbroadcast
from handmill.primitives.epilogue import (
    NO_EPILOGUE,
    absorb_epilogue,
    check_operands,
    emit_epilogue,
    finished,
    finished_magnitude,
    names_of,
    operand_shapes,
)
from handmill.primitives.operands import dtype_of
from handmill.primitives.samples import elements, name_of, uniform


def _matrix(shape: Shape, transposed: bool) -> tuple[Any, Any]:
    return (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])


def product_shape(op: str, a: Spec, b: Spec, transpose_a: bool, transpose_b: bool) -> Shape:
    """Returns the shape of the product of two stacks of matrices.

    Raises:
        ShapeError: if there is none.
    """
    operands: dict[str, object] = {"a": a, "b": b}
    if a.rank < 2 or b.rank < 2:
        raise shape_error(op, "operands with at least two dimensions were expected", operands)
    if a.dtype != b.dtype:
        raise shape_error(op, f"dtypes differ: {a.dtype} and {b.dtype}", operands, "use ops.cast")
    (m, k), (k_b, n) = _matrix(a.shape, transpose_a), _matrix(b.shape, transpose_b)

    def matrices() -> dict[str, object]:
        return {"a": f"(M={m}, K={k}) of {a}", "b": f"(K={k_b}, N={n}) of {b}"}

    if not same(k, k_b):
        raise shape_error(op, f"inner dimensions differ: a has K={k}, b has K={k_b}", matrices())
    try:
        return (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n)
    except ValueError as error:
        raise shape_error(op, "leading dimensions do not broadcast", matrices()) from error


def _infer(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> Spec:
    return Spec(product_shape("matmul", a, b, transpose_a, transpose_b), a.dtype)


def turned(x: Array, transposed: bool) -> Array:
    """Returns ``x`` with its last two axes swapped, if asked."""
    return np.swapaxes(x, -1, -2) if transposed else x


def _reference(a: Array, b: Array, *, transpose_a: bool, transpose_b: bool) -> Array:
    return np.asarray(np.matmul(turned(a, transpose_a), turned(b, transpose_b)))


def _vjp(inputs: Any, outputs: Any, dys: Any, *, transpose_a: bool, transpose_b: bool) -> Any:
    # C = A B:      dA = dC B^T,  dB = A^T dC.
    # C = A^T B:    dA = B dC^T,  dB = A dC.       (A as stored; likewise below)
    # C = A B^T:    dA = dC B,    dB = dC^T A.
    # C = A^T B^T:  dA = B^T dC^T, dB = dC^T A^T.
    # Leading dimensions that were broadcast are summed over. One matrix B for a whole stack A
    # is the product of one tall matrix A, so dB is a single product, too.
    a, b = inputs
    return product_gradients(
        a, b, dys[0], transpose_a, transpose_b, lambda x, y, u, v, like: _product(x, y, u, v)
    )


def product_gradients(
    a: Any, b: Any, dc: Any, transpose_a: bool, transpose_b: bool, product: Callable[..., Any]
) -> tuple[Any, Any]:
    """Returns the gradients of both operands of a product.

    Args:
        a: the first operand, as it is stored.
        b: the second operand.
        dc: the gradient of the product.
        transpose_a: whether ``a`` is transposed before.
        transpose_b: whether ``b`` is.
        product: ``product(x, y, transpose_x, transpose_y, like)``; like: whose gradient it is.
    """
    if len(b.shape) == 2 and len(a.shape) > 2 and not transpose_a:
        da = product(dc, b, False, not transpose_b, a)
        x, dc = (reshape(v, (-1, v.shape[-1])) for v in (a, dc))
        db = product(dc, x, True, False, b) if transpose_b else product(x, dc, True, False, b)
        return da, db
    if transpose_a:
        da = product(b, dc, transpose_b, True, a)
    else:
        da = product(dc, b, False, not transpose_b, a)
    if transpose_b:
        db = product(dc, a, True, transpose_a, b)
    else:
        db = product(a, dc, not transpose_a, False, b)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def _product(a: Value, b: Value, transpose_a: bool, transpose_b: bool) -> Any:
    if dtype_of(a) == "bfloat16":
        from handmill.primitives.matmul_bf16 import product

        return product(a, b, transpose_a, transpose_b)
    return apply(MATMUL, a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def inner_size(inputs: Sequence[Array], attrs: Attrs) -> int:
    """Returns K of a product."""
    return int(_matrix(inputs[0].shape, attrs["transpose_a"])[1])


def _magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    flags = {name: attrs[name] for name in ("transpose_a", "transpose_b")}
    return _reference(np.abs(inputs[0]), np.abs(inputs[1]), **flags)


def flops_of_product(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    """Returns the operations of a product; two for each term."""
    inner = _matrix(inputs[0].shape, attrs["transpose_a"])[1]
    return 2 * int(inner) * elements(outputs[0])


_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 1), (1, 1)),
    ((1, 17), (17, 33)),
    ((15, 16), (16, 17)),
    ((127, 33), (33, 65)),
    ((64, 300), (300, 10)),
    ((5, 0), (0, 3)),
    ((0, 4), (4, 3)),
    ((3, 7, 5), (5, 6)),
    ((3, 7, 5), (3, 5, 6)),
    ((2, 1, 7, 5), (3, 5, 6)),
)


def _samples() -> Iterable[Sample]:
    for a, b in _CASES:
        for transpose_a, transpose_b in (
            (False, False),
            (True, False),
            (False, True),
            (True, True),
        ):
            if len(a) > 2 and len(b) == 2 and transpose_a:
                continue
            shape_a = (*a[:-2], *_matrix(a, transpose_a))
            shape_b = (*b[:-2], *_matrix(b, transpose_b))
            attrs = {"transpose_a": transpose_a, "transpose_b": transpose_b}
            letters = "nt"[transpose_a] + "nt"[transpose_b]
            name = f"{letters}_{name_of(a)}_{name_of(b)}"
            yield Sample(name, uniform(shape_a, shape_b), attrs, smooth=0 not in a)
    for size in (256, 1024):
        attrs = {"transpose_a": False, "transpose_b": False}
        make = uniform((size, size), (size, size))
        yield Sample(f"bench_{size}", make, attrs, smooth=False, bench=True)


# --- fusion --------------------------------------------------------------------------------------


def _absorb(
    inputs: tuple[Value, ...], attrs: Attrs, kind: str, name: str, operand: Value | None
) -> tuple[Op, tuple[Value, ...], Attrs] | None:
    """Builds an epilogue into a product (see Op.absorb)."""
    a, b = inputs[0].spec, inputs[1].spec
    shape = product_shape("linear", a, b, attrs["transpose_a"], attrs["transpose_b"])
    if a.dtype != "float32":
        return None
    return absorb_epilogue(LINEAR, inputs, attrs, kind, name, operand, shape)


PRODUCT_BOUND = Accumulate(inner_size, _magnitude)

MATMUL = register(
    Op(
        "matmul",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=PRODUCT_BOUND,
        vjp=_vjp,
        attribution="midpoint",
        channels=channels.product,
        kernel="matmul",
        flops=flops_of_product,
        absorb=_absorb,
    )
)


def _linear_infer(a: Spec, b: Spec, *rest: Spec, **attrs: Any) -> Spec:
    shape = product_shape("linear", a, b, attrs["transpose_a"], attrs["transpose_b"])
    check_operands("linear", shape, {"a": a, "b": b}, rest, attrs)
    return Spec(shape, a.dtype)


def _linear_reference(a: Array, b: Array, *rest: Array, **attrs: Any) -> Array:
    y = _reference(a, b, transpose_a=attrs["transpose_a"], transpose_b=attrs["transpose_b"])
    return finished(y, rest, attrs)


def _linear_composite(a: Any, b: Any, *rest: Any, **attrs: Any) -> Any:
    return emit_epilogue(_product(a, b, attrs["transpose_a"], attrs["transpose_b"]), rest, attrs)


def _linear_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return finished_magnitude(_magnitude(inputs, attrs), inputs[2:], attrs)


def _linear_samples() -> Iterable[Sample]:
    cases: list[Attrs] = [
        {"has_bias": True},
        {"has_bias": True, "residual": True},
        {"residual": True, "activation": "relu"},
        {"has_scale": True, "has_bias": True, "activation": "relu"},
        {"has_scale": True, "residual": True, "activation": "relu6"},
        *({"has_bias": True, "activation": name} for name in names_of("activation")),
        *({"act_grad": name, "transpose_b": True} for name in names_of("act_grad")),
    ]
    for case in cases:
        attrs = {"transpose_a": False, "transpose_b": False, **NO_EPILOGUE, **case}
        for m, k, n in ((1, 17, 33), (127, 33, 65), (0, 4, 3)):
            shapes: list[tuple[int, ...]] = [(m, k), _matrix((k, n), attrs["transpose_b"])]
            shapes += operand_shapes((m, n), attrs)
            words = "_".join(f"{key}_{value}" for key, value in case.items() if value is not True)
            flags = "_".join(key for key, value in case.items() if value is True)
            name = f"{flags}_{words}_{m}x{k}x{n}".strip("_").replace("__", "_")
            yield Sample(name, uniform(*shapes, low=-1.0, high=1.0), attrs, smooth=False)
    attrs = {"transpose_a": False, "transpose_b": False, **NO_EPILOGUE, "has_bias": True}
    attrs["activation"] = "gelu"
    make = uniform((64, 784), (784, 128), (128,))
    yield Sample("bench", make, attrs, smooth=False, bench=True)


# act_grad(act(a b * scale + bias + residual)), in one kernel. Operands after a and b, as far as
# there are any: scale (N,), bias (N,), residual (M, N), y (M, N) of the derivative
# act_grad(product, y).
LINEAR = register(
    Op(
        "linear",
        infer=_linear_infer,
        reference=_linear_reference,
        samples=_linear_samples,
        bound=Accumulate(inner_size, _linear_magnitude, extra=6),
        kernel="matmul",
        flops=flops_of_product,
        absorb=_absorb,
        composite=_linear_composite,
    )
)
