"""Rounded numbers that have the gradients of the numbers: what training for quantization goes by.

Both operators give their first operand, and mean something to gradients only: programs do without
them. The rule is the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432), with nothing
going to numbers beyond the range that rounding has (Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import divide, matmul, multiply, where


def _given(*arrays: Array, **attrs: Any) -> Array:
    return arrays[0]


def _passed(dy: Any, inside: Any) -> Any:
    return dy if inside is None else where(inside, dy, 0.0)


# --- numbers -------------------------------------------------------------------------------------


def _infer(y: Spec, x: Spec, *rest: Spec, has_step: bool, has_inside: bool) -> Spec:
    operands = dict(zip(("y", "x", *_names(has_step, has_inside)), (y, x, *rest), strict=True))
    inside = operands.get("inside", Spec(x.shape, "bool"))
    if y != x or not x.is_float or inside != Spec(x.shape, "bool"):
        wanted = "float numbers, what was made of them, and bools, of one shape"
        raise shape_error("straight_through", f"{wanted} were expected", operands)
    return y


def _names(has_step: bool, has_inside: bool) -> list[str]:
    return ["step"] * has_step + ["inside"] * has_inside


def _vjp(inputs: Any, outputs: Any, dys: Any, *, has_step: bool, has_inside: bool) -> Any:
    rest = dict(zip(_names(has_step, has_inside), inputs[2:], strict=True))
    dx = divide(dys[0], rest["step"]) if has_step else dys[0]
    return (None, _passed(dx, rest.get("inside")), *(None,) * len(rest))


def _samples() -> Iterator[Sample]:
    for has_step in (False, True):
        for has_inside in (False, True):
            attrs = {"has_step": has_step, "has_inside": has_inside}

            def make(rng: np.random.Generator, attrs: Attrs = attrs) -> tuple[Array, ...]:
                x = rng.uniform(-3.0, 3.0, (5, 7)).astype(np.float32)
                step = (np.full((5, 1), 0.5, np.float32),) if attrs["has_step"] else ()
                inside = (np.abs(x) < 2.0,) if attrs["has_inside"] else ()
                return np.rint(x), x, *step, *inside

            yield Sample(f"step{has_step:d}_inside{has_inside:d}", make, attrs, smooth=False)


# The operands are the result, the numbers that it was made of, the step in whose multiples it
# counts them (it broadcasts against them), and where they lie in the range.
STRAIGHT_THROUGH = register(
    Op(
        "straight_through",
        infer=_infer,
        reference=_given,
        samples=_samples,
        bound=Exact(),
        vjp=_vjp,
        native=never_native,
        grad_none=(0, 2, 3),
        transparent=True,
    )
)


def straight_through(y: Any, x: Any, step: Any = None, inside: Any = None) -> Any:
    """Gives ``y``, whose gradient is that of ``x / step`` where numbers are inside.

    Args:
        y: what was made of ``x``; float.
        x: the numbers, of the same shape.
        step: a number, or an array that broadcasts against them; None: 1.
        inside: bool, of that shape; None: everywhere.
    """
    rest = [v for v in (step, inside) if v is not None]
    attrs = {"has_step": step is not None, "has_inside": inside is not None}
    return apply(STRAIGHT_THROUGH, y, x, *rest, **attrs)


# --- products ------------------------------------------------------------------------------------

_FLAGS = ("has_step", "has_inside", "has_table_inside")


def _product_names(attrs: Attrs) -> list[str]:
    more = [name[4:] for name in _FLAGS if attrs[name]]
    return ["y", "x", "table", "integers", "table_integers", "factors", *more]


def _product_infer(*specs: Spec, **attrs: Any) -> Spec:
    operands = dict(zip(_product_names(attrs), specs, strict=True))
    y, x, table = (operands[name] for name in ("y", "x", "table"))
    fit = y.rank == x.rank == table.rank == 2
    if fit:
        terms, units = table.shape[::-1] if attrs["by_rows"] else table.shape
        fit = same(x.shape[0], y.shape[0]) and same(x.shape[1], terms) and same(y.shape[1], units)
    for name, of in (("integers", x), ("table_integers", table)):
        fit = fit and operands[name] == of
    for name, of in (("inside", x), ("table_inside", table)):
        fit = fit and operands.get(name, Spec(of.shape, "bool")) == Spec(of.shape, "bool")
    if not fit or not y.is_float or operands["factors"].shape != y.shape[1:]:
        wanted = "two matrices, their integers, and what was made of them"
        raise shape_error("straight_product", f"{wanted} were expected", operands)
    return y


def _product_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    operands = dict(zip(_product_names(attrs), inputs, strict=True))
    dy, by_rows = dys[0], attrs["by_rows"]
    # dy @ (table_integers * factors)^T and (integers * step)^T @ dy: steps are multiplied with the
    # smaller of both operands of a product, and the products are gradients as they are.
    back = multiply(dy, operands["factors"])
    dx = matmul(back, operands["table_integers"], transpose_b=not by_rows)
    numbers = operands["integers"]
    if attrs["has_step"]:
        numbers = multiply(numbers, operands["step"])
    a, b = (dy, numbers) if by_rows else (numbers, dy)
    dtable = _passed(matmul(a, b, transpose_a=True), operands.get("table_inside"))
    return (None, _passed(dx, operands.get("inside")), dtable, *(None,) * (len(inputs) - 3))


def _product_samples() -> Iterator[Sample]:
    for i in range(8):
        flags = {name: bool(i & 1 << bit) for bit, name in enumerate(_FLAGS)}
        attrs = {**flags, "by_rows": i in (2, 5)}

        def make(rng: np.random.Generator, attrs: Attrs = attrs) -> tuple[Array, ...]:
            x = rng.uniform(-3.0, 3.0, (5, 7)).astype(np.float32)
            table = rng.uniform(-3.0, 3.0, (4, 7) if attrs["by_rows"] else (7, 4))
            table = table.astype(np.float32)
            y = np.rint(x) @ (np.rint(table).T if attrs["by_rows"] else np.rint(table))
            rest: dict[str, Any] = {
                "step": np.full((5, 1), 0.5, np.float32),
                "inside": np.abs(x) < 2.0,
                "table_inside": np.abs(table) < 2.0,
            }
            factors = rng.uniform(0.5, 2.0, 4).astype(np.float32)
            names = _product_names(attrs)[6:]
            given = (y * factors, x, table, np.rint(x), np.rint(table), factors)
            return (*given, *(rest[name] for name in names))

        yield Sample("".join(f"{v:d}" for v in flags.values()), make, attrs, smooth=False)


# The operands are the result, the matrices, their integers, a step for each output, one for each
# row or all of them, and where numbers lie in their ranges.
STRAIGHT_PRODUCT = register(
    Op(
        "straight_product",
        infer=_product_infer,
        reference=_given,
        samples=_product_samples,
        bound=Exact(),
        vjp=_product_vjp,
        native=never_native,
        grad_none=(0, 3, 4, 5, 6, 7, 8),
        transparent=True,
    )
)


def straight_product(
    y: Any,
    matrices: Sequence[Any],
    integers: Sequence[Any],
    factors: Any,
    step: Any = None,
    inside: Sequence[Any] = (None, None),
    by_rows: bool = False,
) -> Any:
    """Gives ``y``, whose gradients are those of the product of two matrices as they are rounded.

    Args:
        y: the product, (B, N).
        matrices: (B, K) and (K, N), or (N, K) with ``by_rows``.
        integers: what they were rounded to.
        factors: what 1 stands for in each column of the second one, (N,).
        step: and in each row of the first, (B, 1) or (); None: 1.
        inside: where numbers of both lie in their ranges; None: everywhere.
        by_rows: see ``matrices``.
    """
    rest = (step, *inside)
    attrs = {name: v is not None for name, v in zip(_FLAGS, rest, strict=True)}
    operands = (*integers, factors, *(v for v in rest if v is not None))
    return apply(STRAIGHT_PRODUCT, y, *matrices, *operands, by_rows=by_rows, **attrs)
