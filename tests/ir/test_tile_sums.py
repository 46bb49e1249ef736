"""Sums of columns inside of tile programs, and results that move to where they are read."""

from __future__ import annotations

import numpy as np
import pytest

from handmill import _core, ops
from handmill.inspection.comparison import compare_function
from handmill.ir.dims import BATCH
from handmill.ir.graph import Graph
from handmill.ir.interpret import interpret
from handmill.ir.passes import fuse_tiles, optimize
from handmill.ir.shapes import Spec
from handmill.ir.tile import TILE
from handmill.ir.tile_sinking import sink_results
from handmill.ir.tile_sums import MAX_TILE_SUMS, fuse_sums
from handmill.ir.verify import verify
from handmill.runtime.function import TracedFunction

SHAPES = ((1, 1), (5, 3), (0, 4), (700, 1), (33, 64), (9, 16, 16), (3, 5, 7, 48), (13, 1500))


def sums(x, y):
    axes = tuple(range(len(x.shape) - 1))
    product = x * y
    return ops.sum(x, axes), ops.sum(product, axes), ops.sum(ops.relu(product) + x, axes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_those_of_numpy(shape):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    got = TracedFunction(sums, batched=False)(x, y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    wants = (a, a * b, np.maximum(a * b, 0) + a)
    for found, terms in zip(got, wants, strict=True):
        np.testing.assert_allclose(
            found, terms.sum(axes), rtol=0, atol=4e-7 * np.abs(terms).sum(axes).max(initial=1.0)
        )


def test_they_are_one_launch_and_the_sums_of_its_blocks():
    graph = Graph()
    with graph:
        x, y = (graph.input(Spec((BATCH, 8, 16)), name) for name in "xy")
        graph.outputs = list(sums(x, y))
    (node,) = fuse_sums(fuse_tiles(graph)).nodes
    assert node.op is TILE
    assert [v.shape for v in node.outputs] == [(16,)] * 3


def test_bits_do_not_depend_on_threads():
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(4000, 24)).astype(np.float32) for _ in range(2))
    function = TracedFunction(sums, batched=False)
    before = _core.num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            found.append([np.asarray(v).tobytes() for v in function(x, y)])
    finally:
        _core.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_a_program_that_needs_the_sum_does_not_compute_it():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 16)), "x")
        y = ops.exp(x)
        graph.outputs = [y - ops.sum(x, 0)]
    fused = verify(optimize(graph))
    rows = np.random.default_rng(2).normal(size=(5, 16))
    np.testing.assert_allclose(
        interpret(fused, [rows], dtype="float64").outputs[0], np.exp(rows) - rows.sum(0)
    )


def test_more_sums_than_a_program_takes():
    def many(x):
        parts = [ops.sum(x * float(i + 2), 0) for i in range(MAX_TILE_SUMS + 3)]
        return ops.stack(parts)

    x = np.random.default_rng(3).normal(size=(50, 20)).astype(np.float32)
    want = np.stack([(x * np.float32(i + 2)).sum(0) for i in range(MAX_TILE_SUMS + 3)])
    np.testing.assert_allclose(TracedFunction(many, batched=False)(x), want, rtol=1e-4, atol=1e-4)


def test_comparison_holds_sums_to_their_bounds():
    rng = np.random.default_rng(4)
    x, y = (rng.normal(size=(300, 20)).astype(np.float32) for _ in range(2))
    found = compare_function(TracedFunction(sums, batched=False), [x, y])
    assert max(row.error for row in found.rows) <= 1.0


def test_a_result_moves_to_its_only_reader():
    graph = Graph()
    with graph:
        dy, y, x = (graph.input(Spec((BATCH, 16)), name) for name in ("dy", "y", "x"))
        factor = graph.input(Spec((16,)), "factor")
        dz = ops.where(y > 0.0, dy, 0.0)
        total = ops.sum(dz * x, 0)
        graph.outputs = [dz * factor + x * total]
    moved = verify(sink_results(fuse_tiles(graph)))
    first = next(node for node in moved.nodes if node.op is TILE)
    assert len(first.outputs) == 2  # dz and dz * x, but not dz * factor
    final = verify(fuse_sums(moved))
    assert [node.op is TILE for node in final.nodes] == [True, True]
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=(7, 16)) for _ in range(3)] + [rng.normal(size=16)]
    want = interpret(graph, arrays, dtype="float64").outputs[0]
    np.testing.assert_allclose(interpret(final, arrays, dtype="float64").outputs[0], want)
