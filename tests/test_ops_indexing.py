"""Parts of tensors by position: on arrays, in programs, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.errors import ShapeError
from handmill.runtime.function import TracedFunction

X = np.arange(12, dtype=np.float32).reshape(3, 4)
BLOCK = np.array([[10.0, 20.0], [30.0, 40.0]], np.float32)


def moved(start, length, size):
    return max(0, min(start + length if start < 0 else start, length - size))


STARTS = [(0, 0), (1, 1), (2, 3), (-1, -4), (-9, 9), (-4, -5), (-5, -7)]


@pytest.mark.parametrize("start", STARTS)
def test_blocks_are_taken_and_written_where_they_fit(start):
    row, column = (moved(s, n, 2) for s, n in zip(start, X.shape, strict=True))
    taken = X[row : row + 2, column : column + 2]
    written = X.copy()
    written[row : row + 2, column : column + 2] = BLOCK
    both = TracedFunction(
        lambda x, s: (ops.slice(x, s, (2, 2)), ops.slice_update(x, s, BLOCK)), batched=False
    )
    for found in (
        (ops.slice(X, start, (2, 2)), ops.slice_update(X, start, BLOCK)),
        both(X, np.array(start, np.int32)),
    ):
        np.testing.assert_array_equal(found[0], taken)
        np.testing.assert_array_equal(found[1], written)


def test_slice_to_the_end():
    np.testing.assert_array_equal(ops.slice(X, (1, -2), (-1, -1)), X[1:, -2:])
    rows = layers.Input((4,))
    assert ops.slice(rows, (0, 1), (-1, -1)).shape == (None, 3)


def test_blocks_get_the_gradients_of_their_places():
    factors = np.arange(12, dtype=np.float32).reshape(3, 4)
    dx, db = handmill.grad(
        lambda x, b: ops.sum(ops.slice_update(x, (1, 1), b) * factors), argnums=(0, 1)
    )(X, BLOCK)
    np.testing.assert_array_equal(db, factors[1:, 1:3])
    outside = factors.copy()
    outside[1:, 1:3] = 0
    np.testing.assert_array_equal(dx, outside)

    @handmill.grad
    def by_tensor(x):
        return ops.sum(ops.slice(x, np.array([1, 1], np.int32), (2, 2)) * BLOCK)

    np.testing.assert_array_equal(by_tensor(X), ops.scatter_update(X * 0, POSITIONS, BLOCK.ravel()))


POSITIONS = np.array([[1, 1], [1, 2], [2, 1], [2, 2]])


def test_scatter_adds_and_leaves_out_what_lies_outside():
    positions = [[0, 1], [2, -1], [0, 1], [3, 0], [0, -5]]
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32)
    wanted = np.zeros((3, 4), np.float32)
    wanted[0, 1], wanted[2, 3] = 5.0, 2.0
    np.testing.assert_array_equal(ops.scatter(positions, values, (3, 4)), wanted)
    traced = TracedFunction(lambda i, v: ops.scatter(i, v, (3, 4)), batched=False)
    np.testing.assert_array_equal(traced(np.array(positions), values), wanted)
    rows = ops.scatter([[1], [1]], X[:2], (2, 4))
    np.testing.assert_array_equal(rows, [np.zeros(4), X[0] + X[1]])
    slope = handmill.grad(lambda v: ops.sum(ops.scatter(positions, v, (3, 4)) * X))(values)
    np.testing.assert_array_equal(slope, [1.0, 11.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("reduction", "wanted", "dx", "dv"),
    (
        (None, [5.0, 1.0, 7.0], [0, 2, 0], [0, 1, 3]),
        ("add", [11.0, 1.0, 9.0], [1, 2, 3], [1, 1, 3]),
        ("max", [5.0, 1.0, 7.0], [0, 2, 0], [0, 1, 3]),
        ("min", [2.0, 1.0, 2.0], [1, 2, 3], [0, 0, 0]),
        ("mul", [40.0, 1.0, 14.0], [20, 2, 21], [10, 8, 6]),
    ),
)
def test_scatter_update(reduction, wanted, dx, dv):
    x, values = np.array([2.0, 1.0, 2.0], np.float32), np.array([4.0, 5.0, 7.0], np.float32)
    positions, factors = np.array([[0], [-3], [2]]), np.array([1.0, 2.0, 3.0], np.float32)

    def update(x, v):
        return ops.scatter_update(x, positions, v, reduction)

    np.testing.assert_array_equal(update(x, values), wanted)
    np.testing.assert_array_equal(TracedFunction(update, batched=False)(x, values), wanted)
    found = handmill.grad(lambda x, v: ops.sum(update(x, v) * factors), argnums=(0, 1))(x, values)
    np.testing.assert_array_equal(found[0], dx)
    np.testing.assert_array_equal(found[1], dv)


def test_unstack_and_saturate_cast():
    columns = ops.unstack(X, axis=-1)
    assert len(columns) == 4
    np.testing.assert_array_equal(columns[2], X[:, 2])
    numbers = np.array([-np.inf, -3e9, -1.5, 0.5, 3e9, np.inf], np.float32)
    whole = ops.saturate_cast(numbers, "int32")
    assert whole.tolist() == [-(2**31), -(2**31), -1, 0, 2**31 - 128, 2**31 - 128]
    assert ops.saturate_cast(numbers, "uint8").tolist() == [0, 0, 0, 0, 255, 255]
    assert ops.saturate_cast(np.array([-1, 300]), "int8").tolist() == [-1, 127]
    assert ops.saturate_cast(np.array([1e300]), None)[0] == np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: ops.slice(X, (0,), (2, 2)), ValueError, "dimensions in `start_indices` must"),
        (lambda: ops.slice(X, (0, 0), (2,)), ValueError, "dimensions in `inputs` must match"),
        (lambda: ops.slice(X, (0, 0), (2, 5)), ShapeError, "5 elements do not fit along axis 1"),
        (lambda: ops.slice_update(X, (0, 0), np.ones(2)), ShapeError, "a block of the inputs"),
        (lambda: ops.scatter_update(X, [[0]], X[:1], "mean"), ValueError, "Unsupported reduction"),
        (lambda: ops.scatter([[0, 0, 0]], [1.0], (3, 4)), ShapeError, "3 numbers in 2 dimensions"),
        (lambda: ops.unstack(X, axis=2), ValueError, "axis 2 is out of bounds"),
        (lambda: ops.unstack(layers.Input((2,))), ValueError, "Cannot infer argument `num`"),
        (lambda: ops.unstack(X, num=2), ValueError, "there are 3 slices"),
    ),
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
