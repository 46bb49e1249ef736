"""What cannot be traced for every batch size is traced for the one that is there."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as keras
from handmill import layers, ops
from handmill.errors import ShapeError


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


class Product(layers.Layer):
    def call(self, a, b):
        return ops.matmul(a, b)


class Sum(layers.Layer):
    def call(self, a, b):
        return a + b


def test_arrays_of_a_call_need_not_share_axis_0():
    layer = Product()
    for rows in (4, 5, 4):
        a, b = normal(rows, 3), normal(3, 2)
        np.testing.assert_allclose(layer(a, b), a @ b, rtol=1e-5)
    for vector in (normal(3), normal(1)):
        np.testing.assert_array_equal(Sum()(normal(4, 3), vector), normal(4, 3) + vector)


def test_a_mask_of_softmax_may_have_fewer_dimensions():
    x = normal(4, 3)
    mask = np.array([True, False, True])
    want = layers.Softmax()(x, mask=np.broadcast_to(mask, x.shape).copy())
    np.testing.assert_array_equal(layers.Softmax()(x, mask=mask), want)


def test_noise_shape_may_name_the_batch():
    y = layers.Dropout(0.5, noise_shape=(6, 1), seed=2)(np.ones((6, 40), "float32"), training=True)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1]).all()
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, noise_shape=(6, 1), seed=1)])
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    model.fit(normal(12, 4), normal(12, 1), batch_size=6, verbose=0)
    with pytest.raises(ShapeError, match=r"fixes the batch size to 6"):
        model.fit(normal(12, 4), normal(12, 1), batch_size=4, verbose=0)


def test_a_loss_may_need_the_batch_size():
    """A table of the batch's size, from NumPy: each size of a batch gets a program."""
    table = np.triu(np.ones((8, 8), "float32"))

    def of_pairs(y_true, y_pred):
        return ops.mean(ops.square(ops.matmul(table, y_true - y_pred)))

    x, y = normal(16, 3), normal(16, 1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.0), of_pairs)
    found = model.evaluate(x, y, batch_size=8, verbose=0)
    off = (y - x.sum(1, keepdims=True)).reshape(2, 8, 1)
    np.testing.assert_allclose(found, np.mean((table @ off) ** 2), rtol=1e-5)
    assert keras.compare(model, x[:8], y[:8]).ok
    with pytest.raises(ShapeError, match=r"matmul: inner dimensions differ"):
        model.evaluate(x, y, batch_size=5, verbose=0)


def test_an_array_in_a_functional_model_may_fix_the_batch():
    """As in Keras: a table of two rows beside the batch makes a model of two rows."""
    table = normal(2, 3)
    inputs = keras.Input((3,))
    added = inputs + table
    assert added.shape == (2, 3)
    model = keras.Model(inputs, layers.Dense(1, kernel_initializer="ones")(added))
    x = normal(6, 3)
    want = (x.reshape(3, 2, 3) + table).sum(-1).reshape(6, 1)
    np.testing.assert_allclose(model.predict(x, batch_size=2, verbose=0), want, rtol=1e-5)
    model.compile("sgd", "mse")
    model.fit(x, want, batch_size=2, verbose=0)
    with pytest.raises(ShapeError, match=r"add: shapes .* and \(2, 3\) do not broadcast"):
        model.predict(x, batch_size=3, verbose=0)


@pytest.mark.parametrize(
    ("function", "shapes", "want"),
    (
        (ops.multiply, ((None, 3), (2, None)), (2, 3)),
        (ops.greater, ((None, 3), (1, 3)), (None, 3)),
        (ops.matmul, ((4, None), (5, 3)), (4, 3)),
        (ops.matmul, ((2, 5), (None, 3)), (2, 3)),
        (lambda x: ops.broadcast_to(x, (2, 3, 3)), ((3, None),), (2, 3, 3)),
        (lambda x: ops.reshape(x, (3, 2)), ((None, 3),), (3, 2)),
    ),
)
def test_shapes_of_operators_with_a_batch_beside_a_number(function, shapes, want):
    assert function(*map(keras.KerasTensor, shapes)).shape == want
