"""Which operators take rows whose number is not known: all, but for what is listed here."""

from __future__ import annotations

import fnmatch
import zlib
from operator import attrgetter

import numpy as np
import pytest

import handmill.ops  # noqa: F401  (registers the operators)
from handmill.errors import ShapeError
from handmill.ir.dims import BATCH, Symbol
from handmill.ir.graph import Graph
from handmill.ir.op import REGISTRY
from handmill.ir.shapes import Spec

REFUSE_A_BATCH = (
    "advance_seed-*",  # a state has no rows
    "broadcast_to-33_127x33",  # the shape asked for has a number where the batch is
    "broadcast_to-17x1_17x5",
    *(f"{op}-5x5" for op in ("cholesky", "det", "inv", "slogdet")),  # sides of matrices
    *(f"{op}-4x3*" for op in ("lu_factor", "pinv", "qr", "svd")),
    *("eig-4x4", "eigh-4x4", "solve-4x4_4x2", "solve-2x2_3x2x1"),
    *("solve_triangular-4x4_4x2_*", "solve_triangular-2x2_3x2x1_*"),
    *(
        f"{op}-{case}"
        for op in ("conv", "conv_input_grad")  # kernels as high as there are images
        for case in (
            *("10x7x2_2x3_stride3", "4x5x3x2_2x3x2"),
            *("4x3x2_2x2_beside", "1x3_2_behind"),
        )
    ),
    *("choose_token-3x*", "choose_token-ties*"),  # three settings
    "matmul-tt_*",  # the batch would be summed over
    "matmul_bf16-tt_*",
    "random_*",
    "reduce_sum_*_update-256x256*",  # the variable's length is no batch, and equals the rows here
    *("rfft-8", "rfft_adjoint-5"),  # one signal, without a batch
    "reshape-3x4_12",  # rows would be mixed
    "scan-*",  # the graphs inside these were made for one number of rows
    "switch-*",
    "while_loop-*",
)
"""Samples whose first dimension cannot be the batch size; no others may refuse it."""

TAKE_ONE = ("matmul-tt_3x7x5_3x5x6", "matmul-tt_2x1x7x5_3x5x6")  # a batch of matrices


def samples(op):
    """Attributes, specs, number of rows and name of each sample that has rows."""
    for sample in op.samples():
        if sample.bench:
            continue
        name = f"{op.name}-{sample.name}"
        inputs = sample.make(np.random.default_rng(zlib.crc32(name.encode())))
        rows = next((a.shape[0] for a in inputs if a.shape), 0)
        if rows > 1:
            specs = [Spec(a.shape, a.dtype.name) for a in inputs]
            yield dict(sample.attrs), specs, rows, name


def refuses(name):
    return name not in TAKE_ONE and any(fnmatch.fnmatch(name, p) for p in REFUSE_A_BATCH)


@pytest.mark.parametrize(
    "op", sorted(REGISTRY.values(), key=lambda op: op.name), ids=attrgetter("name")
)
def test_rows_that_are_not_known(op):
    """A trace gives the same once their number is filled in, or refuses, as listed."""
    for attrs, specs, rows, name in samples(op):
        print(name)  # the last one is shown where this fails
        batched = [
            Spec((BATCH, *s.shape[1:]), s.dtype) if s.shape and s.shape[0] == rows else s
            for s in specs
        ]
        if refuses(name):
            with Graph(), pytest.raises(ShapeError, match=op.name.removeprefix("reduce_sum_")):
                op.infer(*batched, **attrs)
            continue
        symbolic, concrete = op.infer(*batched, **attrs), op.infer(*specs, **attrs)
        symbolic = symbolic if isinstance(symbolic, tuple) else (symbolic,)
        concrete = concrete if isinstance(concrete, tuple) else (concrete,)
        assert [s.at({Symbol("B"): rows}) for s in symbolic] == list(concrete), name
