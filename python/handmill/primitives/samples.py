"""Inputs for the samples of operator records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.ir.body import Body, trace_body
from handmill.ir.graph import Graph
from handmill.ir.op import Array, Sample
from handmill.ir.shapes import Spec

SHAPES: tuple[tuple[int, ...], ...] = ((0,), (1,), (15,), (16,), (17,), (127, 33))
BENCH: tuple[int, ...] = (1024, 1024)
SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4e38, -3.4e38)


def elements(spec: Spec) -> int:
    """Returns the number of elements of a spec without a batch."""
    return int(np.prod(spec.shape, dtype=np.int64))  # type: ignore[arg-type]


def name_of(shape: Sequence[int]) -> str:
    """Returns a shape as the name of a sample, such as ``"127x33"``."""
    return "x".join(map(str, shape)) or "scalar"


def uniform(
    *shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0, kinks: Sequence[float] = ()
) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Returns a maker of float32 arrays drawn from [low, high), not within 0.05 of a kink."""

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(_draw(rng, shape, low, high, kinks) for shape in shapes)

    return make


def _draw(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    low: float,
    high: float,
    kinks: Sequence[float],
) -> Array:
    x = rng.uniform(low, high, shape)
    for kink in kinks:
        x = np.where(np.abs(x - kink) < 0.05, kink + 0.05 + np.abs(x - kink), x)
    return np.asarray(x, dtype=np.float32)


def given(
    *arrays: Any, dtype: str = "float32"
) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Returns a maker of these very arrays."""
    made = tuple(np.asarray(a, dtype=None if isinstance(a, np.ndarray) else dtype) for a in arrays)
    return lambda rng: made


def integers(
    *shapes: tuple[int, ...], low: int = 0, high: int = 10, dtype: str = "int32"
) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Returns a maker of integer arrays drawn from [low, high)."""
    return lambda rng: tuple(rng.integers(low, high, s).astype(dtype) for s in shapes)


def body_of(function: Callable[..., Sequence[Any]], *specs: Spec) -> Body:
    """Returns a body that takes tensors of these specs."""
    body, arguments, results = trace_body(Graph(), function, specs, "body")
    return body.close(arguments, list(results), [])


def both(
    *makers: Callable[[np.random.Generator], tuple[Array, ...]],
) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Returns a maker of what the makers give, one after the other."""
    return lambda rng: tuple(array for make in makers for array in make(rng))


def unary(
    low: float = -4.0,
    high: float = 4.0,
    *,
    kinks: Sequence[float] = (),
    special: Sequence[float] = SPECIAL,
    smooth: bool = True,
    **attrs: Any,
) -> Callable[[], Iterable[Sample]]:
    """Returns the samples of an elementwise operator of one operand."""

    def samples() -> Iterable[Sample]:
        for shape in SHAPES:
            make = uniform(shape, low=low, high=high, kinks=kinks)
            yield Sample(name_of(shape), make, attrs, smooth=smooth and 0 not in shape)
        yield Sample("special", given(special), attrs, smooth=False)
        yield Sample("bench", uniform(BENCH, low=low, high=high), attrs, smooth=False, bench=True)

    return samples


def binary(
    low: float = -4.0,
    high: float = 4.0,
    *,
    kinks: Sequence[float] = (),
    smooth: bool = True,
    special: Sequence[float] = SPECIAL,
    broadcast: bool = True,
    **attrs: Any,
) -> Callable[[], Iterable[Sample]]:
    """Returns the samples of an elementwise operator of two operands."""

    def samples() -> Iterable[Sample]:
        pairs = [(shape, shape) for shape in SHAPES]
        if broadcast:
            pairs += [((17, 33), (33,)), ((17, 33), (17, 1)), ((1, 5, 1), (3, 1, 7)), ((), (19,))]
        for x, y in pairs:
            name = name_of(x) if x == y else f"{name_of(x)}_{name_of(y)}"
            make = uniform(x, y, low=low, high=high, kinks=kinks)
            yield Sample(name, make, attrs, smooth=smooth and 0 not in x)
        grid = np.meshgrid(np.array(special, np.float32), np.array(special, np.float32))
        yield Sample("special", given(*(g.ravel() for g in grid)), attrs, smooth=False)
        make = uniform(BENCH, BENCH, low=low, high=high)
        yield Sample("bench", make, attrs, smooth=False, bench=True)

    return samples
