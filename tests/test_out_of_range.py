"""Sizes, indices and labels outside of what there is: nothing is read or written there."""

import numpy as np
import pytest

import handmill as hm
from handmill import ops
from handmill.errors import ShapeError
from handmill.ir.graph import Graph
from handmill.ir.op import Exact, Op
from handmill.ir.shapes import Spec
from handmill.primitives.places import as_places, dtype_of_places
from handmill.runtime.function import TracedFunction, gradients
from handmill.runtime.variable import Variable

BACKENDS = ("native", "numpy")
X = np.arange(6, dtype="float32").reshape(2, 3)

NEGATIVE = {
    "repeat": lambda: ops.repeat(X, -2, axis=0),
    "tile": lambda: ops.tile(X, -3),
    "tile, twice": lambda: ops.tile(X, (-1, -1)),
    "broadcast_to": lambda: ops.broadcast_to(X, (-2, 2, 3)),
    "reshape": lambda: ops.reshape(X, (-2, 3)),
    "reshape, twice": lambda: ops.reshape(X, (-2, -3)),
    "one_hot": lambda: ops.one_hot(np.array([1, 2]), -3),
    "multi_hot": lambda: ops.multi_hot(np.array([[1, 2]]), -3),
    "segment_sum": lambda: ops.segment_sum(X, np.array([0, 1]), -3),
    "zeros": lambda: ops.zeros((2, -3)),
    "full": lambda: ops.full(-3, 1.0),
    "pad": lambda: ops.pad(X, -1),
    "eye": lambda: ops.eye(-3),
    "tri": lambda: ops.tri(3, -3),
    "uniform": lambda: hm.random.uniform((2, -3)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", NEGATIVE.values(), ids=NEGATIVE)
def test_negative_sizes_are_refused(call, backend):
    with hm.use_backend(backend), pytest.raises(ValueError, match=r"negative|-3|-1"):
        call()


def test_no_graph_has_negative_sizes():
    op = Op("bad", infer=lambda x: Spec((-1,)), reference=lambda x: x, samples=list, bound=Exact())
    with Graph() as graph, pytest.raises(ShapeError, match=r"bad: a size is negative: \(-1,\)"):
        graph.emit(op, [graph.constant(X)], {})


@pytest.mark.parametrize("backend", BACKENDS)
def test_crossentropies_without_classes(backend):
    """An empty sum is 0; no label is one of no classes."""
    nothing = np.zeros((5, 0), "float32")
    with hm.use_backend(backend):
        for from_logits in (True, False):
            loss = ops.categorical_crossentropy(nothing, nothing, from_logits=from_logits)
            assert np.array_equal(loss, np.zeros(5))
            with pytest.raises(ValueError, match="label 0 is not"):
                ops.sparse_categorical_crossentropy(np.zeros(5, "int32"), nothing, from_logits)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ("bool", "int8", "uint8", "int32", "int64", "float64", "float32"))
def test_take_out_of_range(dtype, backend):
    x = np.ones(3).astype(dtype)
    missing = np.nan if "float" in dtype else 0
    with hm.use_backend(backend):
        found = ops.take(x, np.array([9, 0, -7, -3, 3, -4]))
    assert found.dtype == x.dtype
    assert np.array_equal(found.astype("float64"), [missing, 1, missing, 1, missing, missing], True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_indices_that_are_no_integers_name_nothing(dtype, backend):
    indices = np.array([1.5, 1.0, np.nan, np.inf, -1.0, 1e12], dtype)
    x = np.array([10, 20, 30], "float32")
    with hm.use_backend(backend):
        found = ops.take(x, indices)
        rows = ops.one_hot(indices, 3)
    assert np.array_equal(found, [np.nan, 20, np.nan, np.nan, 30, np.nan], True)
    assert np.array_equal(rows.sum(axis=-1), [0, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ids", ([0, 1, -1, -2], [0, 1, 2, 9], [0, 1, 2**31 - 1, -(2**31)]))
def test_segments_out_of_range_are_left_out(ids, backend):
    data, weights = np.arange(1.0, 5.0, dtype="float32"), Variable(np.ones(4, "float32"))
    ids = np.array(ids, "int32")

    def step(x):
        total = ops.sum(ops.segment_sum(weights * x, ids, num_segments=2))
        return gradients(total, [weights])[0]

    with hm.use_backend(backend):
        assert np.array_equal(ops.segment_sum(data, ids, num_segments=2), [1, 2])
        assert np.array_equal(TracedFunction(step, batched=False)(data), [1, 2, 0, 0])


@pytest.mark.slow  # it writes to gigabytes
def test_places_that_int32_does_not_hold():
    """They never wrap around to other places."""
    long = np.broadcast_to(np.uint8(1), (2**31 + 10,))
    floats = np.broadcast_to(np.float32(1), long.shape)
    for call in (
        lambda: ops.argmax(long),
        lambda: ops.argmin(long[None], axis=1),
        lambda: ops.argsort(long),
        lambda: ops.searchsorted(floats, np.float32([1])),
    ):
        with pytest.raises(ShapeError, match=r"int32.* the axis has 2,147,483,658 elements"):
            call()
    with pytest.raises(ValueError, match=r"nonzero: .* found 2,147,483,648; give it parts"):
        as_places("nonzero", np.array([0, 2**31]))
    assert dtype_of_places(2**31) == "int32"
    assert dtype_of_places(2**31 + 1) == "int64"
    square = np.arange(12).reshape(3, 4)
    for offset in range(-4, 6):
        assert np.array_equal(ops.diagonal(square, offset), np.diagonal(square, offset))
