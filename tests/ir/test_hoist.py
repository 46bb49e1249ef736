"""What is the same in each step of a loop is computed before it."""

import numpy as np
import pytest

from handmill import ops
from handmill.ir.body import bodies_of
from handmill.runtime.function import TracedFunction


def names(graph):
    return [node.op.name for node in graph.nodes]


def bodies(function, *arrays):
    traced = TracedFunction(function, function.__name__, batched=False)
    bound = traced.signature(traced.specs_of(arrays))
    graph = bound.optimized
    (loop,) = [node for node in graph.nodes if bodies_of(node)]
    return names(graph), [names(body.graph) for body in bodies_of(loop)], traced(*arrays)


W = np.random.default_rng(0).normal(size=(8, 8)).astype("f")
X = np.random.default_rng(1).normal(size=(5, 3, 8)).astype("f")


def weights_are_turned(x, w):
    def step(h, row):
        h = ops.tanh(ops.matmul(row, ops.exp(ops.transpose(w))) + h)
        return h, h

    return ops.scan(step, ops.zeros((3, 8)), x)


def test_of_a_scan():
    outside, (body,), found = bodies(weights_are_turned, X, W)
    assert "transpose" in outside
    assert outside.index("transpose") < outside.index("scan")
    assert "transpose" not in body
    assert "linear" in body
    for got, wanted in zip(found, weights_are_turned(X, W), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_of_loops_in_loops():
    def nested(x, w):
        return ops.map(lambda row: weights_are_turned(ops.stack([row, row]), w)[1], x)

    outside, (body,), found = bodies(nested, X, W)
    assert "transpose" in outside
    assert body.count("transpose") == 0
    np.testing.assert_allclose(found, nested(X, W), rtol=1e-5)


def test_of_condition_and_body():
    def repeat(x, w):
        return ops.while_loop(
            lambda i, y: i < ops.cast(ops.max(w), "int32"),
            lambda i, y: (i + 1, y + ops.sum(w) + ops.min(w)),
            (0, x),
        )

    w = np.abs(W) * 2
    outside, (condition, body), (count, y) = bodies(repeat, X, w)
    assert {"reduce_max", "reduce_sum", "reduce_min"} <= set(outside)
    assert not {"reduce_max", "reduce_sum", "reduce_min"} & {*condition, *body}
    wanted_count, wanted = repeat(X, w)
    assert count == wanted_count > 1
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", ((3, 8), (1, 8)))
def test_what_would_grow_stays(shape):
    def grow(x, b):
        return ops.scan(
            lambda h, row: (h + row + ops.broadcast_to(b, (3, 8)), None), ops.zeros((3, 8)), x
        )[0]

    b = np.ones(shape, "f")
    outside, (body,), found = bodies(grow, X, b)
    # The sum in the body broadcasts by itself: nothing of shape (3, 8) is made for it before.
    assert "broadcast_to" not in [*outside, *body]
    np.testing.assert_allclose(found, grow(X, b), rtol=1e-5)


def test_random_numbers_stay():
    import handmill

    seed = handmill.random.SeedGenerator(3)

    def draw(x):
        return ops.scan(
            lambda h, row: (h, row + handmill.random.normal((3, 8), seed=seed)), ops.zeros(()), x
        )[1]

    _, (body,), found = bodies(draw, np.zeros((4, 3, 8), "f"))
    assert any("normal" in name for name in body)
    assert len(np.unique(np.asarray(found))) == np.asarray(found).size


def test_a_forward_scan_that_draws_runs_once():
    """What is drawn depends on operands alone, so a gradient need not draw again."""
    import handmill

    seed = handmill.random.SeedGenerator(3)

    def loss_and_gradient(x, w):
        def step(h, row):
            noise = handmill.random.normal((3, 8), seed=seed)
            h = ops.tanh(ops.matmul((h + row) * noise, w))
            return h, h

        with handmill.GradientTape() as tape:
            tape.watch(w)
            _, ys = ops.scan(step, ops.zeros((3, 8)), x)
            loss = ops.sum(ys * ys)
        return loss, tape.gradient(loss, w)

    traced = TracedFunction(loss_and_gradient, "loss_and_gradient", batched=False)
    graph = traced.signature(traced.specs_of((X, W))).optimized
    assert names(graph).count("scan") == 2
    state = seed.state.numpy().copy()
    found = [np.asarray(v) for v in traced(X, W)]
    seed.state.assign(state)
    with handmill.use_backend("numpy"):
        for got, wanted in zip(found, traced(X, W), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
