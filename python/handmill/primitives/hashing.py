"""Whole numbers sorted into bins by their fingerprints. They run in NumPy: no kernels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same_shape
from handmill.ir.op import Array, Exact, Op, Sample, never_native, register
from handmill.ir.shapes import Spec
from handmill.primitives.fingerprints import as_decimal, bins_of, crossed
from handmill.primitives.samples import both, given, integers


def _hash_infer(x: Spec, *, bins: int, key: tuple[int, int] | None) -> Spec:
    if x.is_float or x.dtype == "bool":
        raise shape_error("hash_bin", f"whole numbers are hashed, not {x.dtype}", {"x": x})
    return Spec(x.shape, "int64")


def _hash_reference(x: Array, *, bins: int, key: tuple[int, int] | None) -> Array:
    found: Array = bins_of(as_decimal(x), bins, key).reshape(x.shape)
    return found


def _hash_samples() -> Iterable[Sample]:
    wide = integers((127, 33), low=-(1 << 62), high=1 << 62, dtype="int64")
    yield Sample("127x33", wide, {"bins": 1000, "key": None}, smooth=False)
    yield Sample("17", integers((17,)), {"bins": 3, "key": (133, 137)}, smooth=False)
    yield Sample("0", integers((0,)), {"bins": 3, "key": None}, smooth=False)
    edges = given(np.array([0, -1, 1 << 31, -(1 << 63), (1 << 63) - 1], np.int64))
    yield Sample("edges", edges, {"bins": 1 << 40, "key": (1, 2)}, smooth=False)


# The bin of each number's decimal digits: FarmHash, or SipHash under a key.
HASH_BIN = register(
    Op(
        "hash_bin",
        infer=_hash_infer,
        reference=_hash_reference,
        samples=_hash_samples,
        bound=Exact(),
        native=never_native,
        grad_none=(0,),
    )
)


def _cross_infer(*parts: Spec, bins: int) -> Spec:
    operands = {f"x{i}": part for i, part in enumerate(parts)}
    for part in parts:
        if part.is_float or part.dtype == "bool":
            raise shape_error("cross_bin", f"whole numbers are hashed, not {part.dtype}", operands)
        if not same_shape(part.shape, parts[0].shape):
            raise shape_error("cross_bin", "the parts must have one shape", operands)
    return Spec(parts[0].shape, "int64")


def _cross_reference(*parts: Array, bins: int) -> Array:
    return crossed([np.asarray(p, np.int64).view(np.uint64) for p in parts], bins)


def _cross_samples() -> Iterable[Sample]:
    pair = both(integers((17, 1)), integers((17, 1), low=-9, dtype="int64"))
    yield Sample("17x1", pair, {"bins": 10}, smooth=False)
    three = both(*(integers((5,), high=1 << 40, dtype="int64") for _ in range(3)))
    yield Sample("three", three, {"bins": 1 << 20}, smooth=False)


# One bin for each combination of numbers.
CROSS_BIN = register(
    Op(
        "cross_bin",
        infer=_cross_infer,
        reference=_cross_reference,
        samples=_cross_samples,
        bound=Exact(),
        native=never_native,
    )
)
