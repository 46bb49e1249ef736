"""Every pass keeps what a program computes, and leaves a legal graph."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import WIDTH, random_graph

from handmill import ops
from handmill.errors import GraphError
from handmill.ir.dims import BATCH
from handmill.ir.gradient import gradients
from handmill.ir.graph import Graph, rewrite
from handmill.ir.interpret import interpret
from handmill.ir.passes import (
    PASSES,
    cse,
    dce,
    fold,
    fuse_epilogues,
    fuse_tiles,
    optimize,
    schedule,
)
from handmill.ir.shapes import Spec
from handmill.ir.tile import TILE
from handmill.ir.verify import verify, verify_schedule
from handmill.runtime.variable import Variable


def run(graph: Graph, seed: int = 0, rows: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(rows, WIDTH)) for _ in graph.inputs]
    found = interpret(graph, arrays, dtype="float64")
    return [*found.outputs, *found.updates.values()]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("transform", PASSES, ids=lambda p: p.__name__)
def test_a_pass_keeps_the_results(transform, seed):
    graph, _ = random_graph(seed)
    verify(graph)
    want = run(graph)
    got = run(verify(transform(graph), after=transform.__name__))
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_all_passes_together(seed):
    graph, _ = random_graph(seed, nodes=60)
    want, optimized = run(graph), optimize(graph)
    verify(optimized)
    verify_schedule(optimized)
    assert len(optimized.nodes) < len(graph.nodes)
    for a, b in zip(want, run(optimized), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)


def test_fold_computes_constants():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH,)), "x")
        two = graph.constant(2.0, "float32")
        graph.outputs = [x * ops.square(two + two)]
    folded = dce(fold(graph))
    assert [n.op.name for n in folded.nodes] == ["multiply"]
    assert folded.constants[0].origin == 16.0


def test_cse_merges_equal_expressions_and_constants():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 3)), "x")
        graph.outputs = [ops.exp(x * 2.0) + ops.exp(x * 2.0)]
    assert [n.op.name for n in cse(graph).nodes] == ["multiply", "exp", "add"]


def test_cse_takes_the_softmax_from_the_cross_entropy():
    graph = Graph()
    with graph:
        logits = graph.input(Spec((BATCH, 3)), "logits")
        labels = graph.input(Spec((BATCH,), "int64"), "labels")
        probabilities = ops.softmax(logits)
        loss = ops.sparse_categorical_crossentropy(labels, probabilities)
        graph.outputs = [loss, probabilities]
    names = [n.op.name for n in cse(graph).nodes]
    assert "softmax" not in names


def test_dce_keeps_guards_and_updates():
    counter = Variable(np.zeros((), np.float32), name="counter")
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH,)), "x")
        ops.exp(x)
        counter.assign(counter + 1.0)
    kept = dce(graph)
    assert [n.op.name for n in kept.nodes] == ["add"]
    assert list(kept.updates) == [counter]


def test_bias_and_activation_go_into_the_matmul():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        w, b = graph.constant(np.ones((8, 4), "f")), graph.constant(np.ones(4, "f"))
        graph.outputs = [ops.relu(ops.matmul(x, w) + b)]
    fused = fuse_epilogues(graph)
    (node,) = fused.nodes
    assert node.op.composite is not None
    assert node.attrs["activation"] == "relu"
    assert node.attrs["has_bias"]


def test_scale_shift_and_residual_go_into_the_matmul():
    """A bias that stands before the factor is multiplied by it beforehand."""
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        w, b = graph.constant(np.ones((8, 4), "f")), graph.constant(np.ones(4, "f"))
        factor, shift = (graph.input(Spec((4,)), name) for name in ("factor", "shift"))
        residual = graph.input(Spec((BATCH, 4)), "residual")
        graph.outputs = [
            ops.relu(factor * (ops.matmul(x, w) + b)),
            ops.relu(ops.matmul(x, w) * factor + shift + residual),
            ops.matmul(x, w) * factor * factor,  # one factor only
            ops.matmul(x, w) * residual,
        ]
    fused = fuse_epilogues(graph)
    made = [(n.op.name, n.attrs.get("has_scale"), n.attrs.get("has_bias")) for n in fused.nodes]
    assert made == [
        ("multiply", None, None),
        ("linear", True, True),
        ("linear", True, True),
        ("linear", True, False),
        ("multiply", None, None),
        ("matmul", None, None),
        ("multiply", None, None),
    ]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((5, 8), (4,), (4,), (5, 4))]
    pairs = zip(interpret(graph, arrays).outputs, interpret(fused, arrays).outputs, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_value_used_twice_stays_out_of_the_epilogue():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        z = ops.matmul(x, graph.constant(np.ones((8, 4), "f")))
        graph.outputs = [ops.relu(z), z]
    assert [n.op.name for n in fuse_epilogues(graph).nodes] == ["matmul", "relu"]


@pytest.mark.parametrize("several", (False, True))
def test_the_gradient_of_a_normalization_takes_what_is_added_to_it(several):
    """Its other results, which are found elsewhere now, are those that are read."""
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        gamma, beta = (graph.input(Spec((8,)), name) for name in ("gamma", "beta"))
        y = ops.layer_normalization(x, gamma, beta)
        loss = ops.sum(ops.square(y) + ops.square(x))
        dx, dgamma, dbeta = gradients(graph, loss, [x, gamma, beta])
        graph.outputs = [dx, dgamma, ops.exp(dbeta)] if several else [dx]
    fused = fuse_epilogues(graph)
    grads = [n for n in fused.nodes if n.op.name == "layer_norm_grad"]
    assert [n.attrs["residual"] for n in grads] == [True]
    assert fused.outputs[0] is grads[0].outputs[0]
    verify(fused)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((5, 8), (8,), (8,))]
    pairs = zip(
        interpret(graph, arrays, dtype="float64").outputs,
        interpret(fused, arrays, dtype="float64").outputs,
        strict=True,
    )
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_elementwise_chains_become_one_tile_program():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        graph.outputs = [ops.tanh(ops.exp(x) * 2.0 + x)]
    (node,) = fuse_tiles(graph).nodes
    assert node.op is TILE
    assert len(node.attrs["instructions"]) == 4


def test_a_path_that_leaves_a_group_and_comes_back_is_not_fused():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        y = ops.exp(x)
        mean = ops.mean(y, axis=-1, keepdims=True)
        graph.outputs = [y - mean]
    fused = verify(fuse_tiles(graph))
    assert [n.op is TILE for n in fused.nodes] == [True, False, True]


def test_updates_are_scheduled_behind_every_reader():
    w = Variable(np.ones((4, 4), np.float32), name="w")
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 4)), "x")
        w.assign(graph.read(w) * 0.5)
        graph.outputs = [ops.matmul(x, graph.variables[w])]
    with pytest.raises(GraphError, match="reads w after"):
        verify_schedule(graph)
    assert [n.op.name for n in verify_schedule(schedule(graph)).nodes] == ["matmul", "multiply"]


def test_swapped_variables_are_legal():
    a = Variable(np.zeros(3, np.float32), name="a")
    b = Variable(np.ones(3, np.float32), name="b")
    graph = Graph()
    with graph:
        old = graph.read(a), graph.read(b)
        a.assign(old[1] + 0.0)
        b.assign(old[0] + 0.0)
    found = interpret(verify(optimize(graph)), [])
    assert found.updates[a].tolist() == [1, 1, 1]
    assert found.updates[b].tolist() == [0, 0, 0]


def test_the_verifier_finds_a_wrong_shape():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8)), "x")
        graph.outputs = [ops.exp(x)]
    graph.nodes[0].outputs[0].spec = Spec((BATCH, 9))
    with pytest.raises(GraphError, match="expected"):
        verify(graph)


def test_the_verifier_finds_a_value_of_another_graph():
    graph, other = Graph(), Graph()
    with graph:
        graph.outputs = [ops.exp(graph.input(Spec((3,)), "x"))]
    other.outputs = graph.outputs
    with pytest.raises(GraphError, match="never computed"):
        verify(other)


def test_rewrite_leaves_the_old_graph_alone():
    graph, _ = random_graph(3)
    before = str(graph)
    rewrite(graph, lambda new, node, operands: None)
    assert str(graph) == before
