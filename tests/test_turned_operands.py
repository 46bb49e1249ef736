"""Products of matrices that are views such as x.T, or the transposes of others in a graph."""

import numpy as np
import pytest

import handmill
from handmill import config, ops
from handmill.runtime.function import TracedFunction

pytestmark = pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels")
RNG = np.random.default_rng(0)


def numbers(*shape, dtype="float32"):
    return RNG.integers(-8, 9, shape).astype(dtype)  # whose products are exact


def view(x, how):
    if how == "turned":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    if how == "steps":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x[..., ::-1].copy()[..., ::-1] if how == "backwards" else x


@pytest.mark.parametrize("how_b", ("turned", "steps", "backwards", "plain"))
@pytest.mark.parametrize("how_a", ("turned", "steps", "plain"))
@pytest.mark.parametrize(
    ("a", "b"),
    (((3, 40), (40, 17)), ((70, 33), (33, 65)), ((1, 5), (5, 1)), ((2, 9, 4), (2, 4, 3)),
     ((2, 9, 4), (4, 3)), ((9, 4), (2, 4, 3)), ((4, 6), (6,)), ((6,), (6, 4)), ((0, 4), (4, 3))),
)  # fmt: skip
def test_values(a, b, how_a, how_b):
    for dtype in ("float32", "float64", "int32"):
        x, y = numbers(*a, dtype=dtype), numbers(*b, dtype=dtype)
        given = [view(v, how if v.ndim > 1 else "plain") for v, how in ((x, how_a), (y, how_b))]
        for _ in range(2):  # the first call traces
            found = ops.matmul(*given)
            np.testing.assert_array_equal(found, np.matmul(x, y))
            assert found.dtype == dtype


def steps_of(function, *arrays):
    plan = TracedFunction(function, batched=False).plan(*arrays)
    return [step["kernel"] for step in plan.summary()]


def test_transposes_become_part_of_the_product():
    a, b = numbers(32, 64), numbers(32, 48)
    assert steps_of(lambda x, y: ops.matmul(ops.transpose(x), y), a, b) == ["matmul"]
    q = numbers(2, 5, 8)
    scores = steps_of(lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), q)
    assert scores == ["matmul"]
    other = steps_of(lambda x, y: ops.matmul(ops.transpose(x, (1, 0, 2)), y), q, numbers(5, 8, 3))
    assert len(other) == 2  # not the last two axes


def test_gradients():
    x, w = numbers(5, 7), numbers(4, 7)

    def loss(x, w):
        return ops.sum(ops.square(ops.matmul(x, ops.transpose(w))))

    dx, dw = handmill.grad(loss, argnums=(0, 1))(x, w)
    y = x @ w.T
    np.testing.assert_array_equal(dx, 2 * y @ w)
    np.testing.assert_array_equal(dw, 2 * y.T @ x)


def test_a_batch_is_no_sum():
    """The Gram matrix of a batch is known for any number of rows."""
    model_in = handmill.Input((3,))
    model = handmill.Model(model_in, ops.matmul(model_in, ops.transpose(model_in)))
    for rows in (2, 5):
        x = numbers(rows, 3)
        np.testing.assert_array_equal(model(x), x @ x.T)
