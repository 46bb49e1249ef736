"""The functions of handmill.ops against the NumPy functions of the same names.

Each case runs on arrays, and traced with an unknown batch; the two must agree.
"""

from __future__ import annotations

import numpy as np
import pytest

from handmill import config, ops
from handmill.errors import ShapeError
from handmill.ir.dims import BATCH
from handmill.ir.gradient import gradients
from handmill.ir.graph import Graph, current_graph
from handmill.ir.shapes import Spec
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(4)
X = RNG.normal(size=(4, 6, 5)).astype(np.float32)
M = RNG.normal(size=(4, 6)).astype(np.float32)
LABELS = RNG.integers(0, 9, (4, 6)).astype(np.int32)


@pytest.fixture(autouse=True, params=("native", "numpy"))
def backend(request):
    if request.param == "native":
        pytest.importorskip("handmill._core", reason="a build without kernels")
    with config.use_backend(request.param):
        yield


# name: calls (lambda f, x: ...), where f is ops or numpy.
SAME_AS_NUMPY = {
    "reshape": lambda f, x: f.reshape(x, (-1, 10)),
    "transpose": lambda f, x: f.transpose(x, (0, 2, 1)),
    "swapaxes": lambda f, x: f.swapaxes(x, 1, -1),
    "moveaxis": lambda f, x: f.moveaxis(x, (0, 1), (-1, 0)),
    "moveaxis_one": lambda f, x: f.moveaxis(x, -1, 0),
    "expand_dims": lambda f, x: f.expand_dims(x, (0, -1)),
    "squeeze": lambda f, x: f.squeeze(x[:, :1], axis=1),
    "tile": lambda f, x: f.tile(x, (2, 1, 3)),
    "repeat": lambda f, x: f.repeat(x, 3, axis=1),
    "flip": lambda f, x: f.flip(x, axis=(1, 2)),
    "roll": lambda f, x: f.roll(x, 2, axis=1),
    "roll_back": lambda f, x: f.roll(x, -7, axis=2),
    "tril": lambda f, x: f.tril(x, 1),
    "triu": lambda f, x: f.triu(x, -1),
    "pad": lambda f, x: f.pad(x, ((0, 0), (1, 2), (0, 3))),
    "pad_value": lambda f, x: f.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=0.1),
    "pad_reflect": lambda f, x: f.pad(x, ((0, 0), (1, 2), (0, 3)), mode="reflect"),
    "pad_edge": lambda f, x: f.pad(x, ((0, 0), (1, 2), (0, 3)), mode="edge"),
    "stack": lambda f, x: f.stack([x, x, x], axis=2),
    "concatenate": lambda f, x: f.concatenate([x, x[:, :2]], axis=1),
    "concatenate_batch": lambda f, x: f.concatenate([x, x], axis=0),
    "split": lambda f, x: f.split(x, 3, axis=1)[1],
    "split_at": lambda f, x: f.split(x, [1, 3], axis=-1)[1],
    "take": lambda f, x: f.take(x, np.array([[0, -1], [2, 2]]), axis=1),
    "sum": lambda f, x: f.sum(x, axis=(0, 2)),
    "mean": lambda f, x: f.mean(x, axis=0),
    "mean_all": lambda f, x: f.mean(x),
    "var": lambda f, x: f.var(x, axis=(0, 1), keepdims=True),
    "std": lambda f, x: f.std(x, axis=-1),
    "max": lambda f, x: f.max(x, axis=1),
    "amin": lambda f, x: f.amin(x, axis=1, keepdims=True),
    "prod": lambda f, x: f.prod(x, axis=2),
    "all": lambda f, x: f.all(x > -1, axis=1),
    "any": lambda f, x: f.any(x > 1, axis=1),
    "count_nonzero": lambda f, x: f.count_nonzero(x > 0, axis=1),
    "argmax": lambda f, x: f.argmax(x, axis=1),
    "argmin_flat": lambda f, x: f.argmin(x),
    "cumsum": lambda f, x: f.cumsum(x, axis=1),
    "sort": lambda f, x: f.sort(x, axis=2),
    "argsort": lambda f, x: f.argsort(x, axis=2),
    "average": lambda f, x: f.average(x, axis=2, weights=np.arange(5.0, dtype=np.float32)),
    "matmul": lambda f, x: f.matmul(x, f.transpose(x, (0, 2, 1))),
    "matmul_vector": lambda f, x: f.matmul(x, np.arange(5, dtype=np.float32)),
    "dot": lambda f, x: f.dot(x, np.ones((5, 2), np.float32)),
    "tensordot": lambda f, x: f.tensordot(x, np.ones((6, 5, 3), np.float32), 2),
    "einsum": lambda f, x: f.einsum("bij,bkj->bik", x, x),
    "einsum_sum": lambda f, x: f.einsum("bij->j", x),
    "einsum_three": lambda f, x: f.einsum("bij,jk,i->bk", x, np.ones((5, 2), "f"), np.ones(6, "f")),
    "einsum_implicit": lambda f, x: f.einsum("bij,j", x, np.ones(5, "f")),
    "einsum_outer": lambda f, x: f.einsum("bij,k->bkij", x, np.ones(3, "f")),
    "where": lambda f, x: f.where(x > 0, x, -1.0),
    "clip": lambda f, x: f.clip(x, -0.1, 0.7),
    "power": lambda f, x: f.power(f.abs(x), 1.5),
    "round": lambda f, x: f.round(x, 1),
    "log2": lambda f, x: f.log2(f.abs(x)),
    "tan": lambda f, x: f.tan(x),
    "isnan": lambda f, x: f.isnan(x / f.maximum(x, 0)),
    "logical_xor": lambda f, x: f.logical_xor(x > 0, x > 0.5),
    "zeros_like": lambda f, x: f.zeros_like(x),
    "full_like": lambda f, x: f.full_like(x, 3),
    "ones_times": lambda f, x: x * f.ones((6, 1), "float32"),
    "operators": lambda f, x: -x + 1 - (2 * x) / (x * x + 3) * abs(x) ** 2,
    "reversed": lambda f, x: (1 / (3 + abs(x))) ** x - (2.0**x),
    "comparisons": lambda f, x: (x < 0.5) + (x >= 0) + (x > 0) + (x <= 0.25),
    "slices": lambda f, x: x[:, 1:-1:2, ::-1],
    "index": lambda f, x: x[:, -2],
    "none": lambda f, x: x[:, None, :, 2, None],
    "ellipsis": lambda f, x: x[..., 1:3],
    "array_key": lambda f, x: x[:, [0, 3, 3]],
    "none_first": lambda f, x: x[None, :, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_function_of_numpy(name):
    call = SAME_AS_NUMPY[name]
    with np.errstate(all="ignore"):
        want = np.asarray(call(np, X))
        got = np.asarray(call(ops, X))
    traced = TracedFunction(lambda x: call(ops, x), name)(X)
    for found in (got, traced):
        assert found.shape == want.shape
        np.testing.assert_allclose(found.astype(np.float64), want, rtol=2e-6, atol=2e-6)
    assert got.dtype == traced.dtype


def test_the_batch_size_is_not_assumed():
    function = TracedFunction(lambda x: ops.reshape(x, (4, 30)))
    np.testing.assert_array_equal(function(X), X.reshape(4, 30))  # traced for this size alone
    with pytest.raises(ShapeError, match="elements"):
        function(X[:1])


def test_flatten_of_a_batch():
    graph = Graph()
    with graph:
        x = graph.input(Spec((BATCH, 8, 8, 3)), "x")
        assert ops.reshape(x, (-1, 192)).shape == (BATCH, 192)
        assert ops.reshape(x, (-1, 3)).shape == (64 * BATCH, 3)
        assert ops.reshape(ops.reshape(x, (-1, 3)), (-1, 8, 8, 3)).shape == x.shape
        assert ops.ravel(x).shape == (192 * BATCH,)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    (
        (np.float32(1), 2, "float32"),
        (np.ones(2, np.int32), 2.0, "float32"),
        (np.ones(2, np.int32), np.ones(2, np.float32), "float32"),
        (np.ones(2, np.int64), np.ones(2, np.float32), "float32"),
        (np.ones(2, np.float64), np.ones(2, np.float32), "float64"),
        (np.ones(2, np.uint8), 1, "uint8"),
        (np.ones(2, np.uint8), np.ones(2, np.int8), "int32"),
        (np.ones(2, np.int32), np.ones(2, np.int64), "int64"),
        (np.ones(2, bool), 1, "int32"),
        (np.ones(2, bool), 1.0, "float32"),
        ([1.0, 2.0], 1, "float32"),
        ([1, 2], True, "int32"),
        (np.ones(2, np.float16), 1, "float32"),
        (1, 2, "int32"),
        (1, 2.0, "float32"),
    ),
)
def test_promotion(left, right, expected):
    assert ops.add(left, right).dtype == expected
    assert ops.add(right, left).dtype == expected


def gradient_of(fn, *arrays):
    def run(*values):
        return tuple(gradients(current_graph(), ops.sum(fn(*values)), list(values)))

    found = TracedFunction(run)(*arrays)
    return found if isinstance(found, tuple) else (found,)


def test_softmax_is_peeled():
    """Cross entropies of probabilities find the logits, so that nothing is lost or clipped."""
    logits = np.array([[40.0, 0.0], [0.0, 30.0]], np.float32)
    labels = np.array([1, 1], np.int32)

    def loss(x, t):
        return ops.sparse_categorical_crossentropy(t, ops.softmax(x))

    np.testing.assert_allclose(TracedFunction(loss)(logits, labels), [40.0, 0.0], atol=1e-6)
    dense = np.eye(2, dtype=np.float32)[labels]
    found = TracedFunction(lambda x, t: ops.categorical_crossentropy(t, ops.softmax(x)))
    np.testing.assert_allclose(found(logits, dense), [40.0, 0.0], atol=1e-6)
    binary = TracedFunction(lambda x, t: ops.binary_crossentropy(t, ops.sigmoid(x)))
    np.testing.assert_allclose(binary(logits, dense)[0], [40.0, np.log(2)], rtol=1e-6)


def test_binary_crossentropy_at_zero():
    """The gradient is sigmoid(x) - t, also where |x| has a kink."""
    x, t = np.zeros(3, np.float32), np.array([0.0, 0.25, 1.0], np.float32)
    dx, _ = gradient_of(lambda x, t: ops.binary_crossentropy(t, x, from_logits=True), x, t)
    np.testing.assert_allclose(dx, 0.5 - t, rtol=1e-6)


def test_sparse_crossentropy_along_another_axis():
    logits = np.moveaxis(X, -1, 1)
    want = ops.sparse_categorical_crossentropy(LABELS % 5, X, from_logits=True)
    got = ops.sparse_categorical_crossentropy(LABELS % 5, logits, from_logits=True, axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_labels_with_a_last_dimension():
    labels = np.array([[1], [0]], np.uint8)
    got = ops.sparse_categorical_crossentropy(labels, np.full((2, 4), 0.25, np.float32))
    np.testing.assert_allclose(got, np.log(4) * np.ones(2), rtol=1e-6)


def test_embedding_gradient_adds_up():
    table = np.zeros((5, 2), np.float32)
    rows = np.array([1, -1, 1, 4], np.int32)

    def run(x):
        return gradients(current_graph(), ops.sum(ops.take(x, rows, axis=0)), [x])[0]

    got = TracedFunction(run, batched=False)(table)
    assert got[:, 0].tolist() == [0, 2, 0, 0, 2]


def test_gradients_of_ties():
    x = np.array([2.0, 2.0, 1.0], np.float32)
    (dx,) = gradient_of(ops.max, x)
    assert dx.tolist() == [0.5, 0.5, 0.0]
    dx, dy = gradient_of(ops.maximum, x, np.array([2.0, 3.0, 0.0], np.float32))
    assert dx.tolist() == [0.5, 0.0, 1.0]
    assert dy.tolist() == [0.5, 1.0, 0.0]
    (dx,) = gradient_of(lambda x: ops.clip(x, 1.0, 2.0), np.array([1.0, 2.0, 2.5], np.float32))
    assert dx.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("zeros", (0, 1, 2))
def test_gradient_of_a_product_with_zeros(zeros):
    x = np.array([2.0, 3.0, 5.0], np.float32)
    x[:zeros] = 0
    (dx,) = gradient_of(ops.prod, x)
    assert dx.tolist() == [np.prod(np.delete(x, i)) for i in range(3)]


def test_no_gradient_passes_a_stop():
    x = np.array([3.0], np.float32)
    (dx,) = gradient_of(lambda x: x * ops.stop_gradient(x), x)
    assert dx.tolist() == [3.0]


@pytest.mark.parametrize("value", (1e4, -1e4))
def test_nothing_overflows(value):
    x = np.array([[value, 0.0, -value]], np.float32)
    functions = (ops.softmax, ops.log_softmax, ops.softplus, ops.sigmoid, ops.silu, ops.gelu,
                 ops.mish, ops.elu, ops.selu, ops.tanh, ops.log_sigmoid, ops.logsumexp)  # fmt: skip
    for function in functions:
        assert np.isfinite(function(x)).all(), function.__name__
        assert all(np.isfinite(d).all() for d in gradient_of(function, x)), function.__name__


def test_layout_functions_without_a_tensor():
    np.testing.assert_array_equal(ops.diag([1.0, 2.0], k=1), np.diag([1.0, 2.0], k=1))
    np.testing.assert_array_equal(ops.diag(M, k=2), np.diag(M, k=2))
    for ours, theirs in zip(
        ops.meshgrid([1, 2], [3, 4, 5]), np.meshgrid([1, 2], [3, 4, 5]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        ops.take_along_axis(M, LABELS % 6, axis=1), np.take_along_axis(M, LABELS % 6, axis=1)
    )
    x, places = np.arange(24.0, dtype="float32").reshape(1, 2, 3, 4), np.array([[[[1], [-1]]]])
    want = np.take_along_axis(x, places, axis=2)
    np.testing.assert_array_equal(ops.take_along_axis(x, places, axis=2), want)
    places = np.zeros((5, 1, 2, 1), "int32")
    (found,) = gradient_of(lambda v: ops.sum(ops.take_along_axis(v, places, axis=2)), x)
    np.testing.assert_array_equal(found[0, :, :, 0], [[10, 0, 0]] * 2)
    with pytest.raises(ValueError, match=r"axes other than 2 do not broadcast\n  x: \(1, 2, 3"):
        ops.take_along_axis(x, np.zeros((1, 3, 1, 1), "int32"), axis=2)
    values, places = ops.top_k(M, 3)
    np.testing.assert_array_equal(values, -np.sort(-M, axis=1)[:, :3])
    np.testing.assert_array_equal(np.take_along_axis(M, places, axis=1), values)
    np.testing.assert_allclose(ops.norm(M, axis=1), np.linalg.norm(M, axis=1), rtol=1e-6)
    np.testing.assert_allclose(ops.norm(M, ord=1, axis=0), np.abs(M).sum(0), rtol=1e-6)
    np.testing.assert_allclose(ops.normalize(M), M / np.linalg.norm(M, axis=1)[:, None], rtol=1e-5)
