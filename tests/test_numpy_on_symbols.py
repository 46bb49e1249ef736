"""NumPy on what has no numbers: operators work, functions name who called and what to call."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import handmill as keras
from handmill import layers, ops
from handmill.errors import TracedValueError

X = np.arange(1, 13, dtype="float32").reshape(4, 3) / 7
Y = np.ones((4, 1), "float32")


def fit(loss):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", loss)
    return model.fit(X, Y, verbose=0).history["loss"][0]


def my_loss(y_true, y_pred):
    return np.mean((y_true - y_pred) ** 2)


def with_ufunc(y_true, y_pred):
    return ops.mean(np.square(y_true - y_pred))


def with_norm(y_true, y_pred):
    return np.linalg.norm(y_true - y_pred)


def with_reduce(y_true, y_pred):
    return np.add.reduce(y_true - y_pred)


def with_list(y_true, y_pred):
    return ops.mean(np.concatenate([y_true, y_pred]))


def with_absent(y_true, y_pred):
    return ops.mean(np.spacing(y_pred))


def with_array(y_true, y_pred):
    return ops.mean(np.asarray(y_true) - y_pred)


def with_math(y_true, y_pred):
    return math.exp(ops.mean(y_pred))


def with_content(y_true, y_pred):
    return ops.mean(y_pred.numpy())


def with_size(y_true, y_pred):
    return ops.mean(y_pred) * np.sqrt(ops.shape(y_pred)[0])


def with_out(y_true, y_pred):
    total = np.zeros((1, 1), "float32")
    total += y_pred
    return ops.mean(total)


@pytest.mark.parametrize(
    ("loss", "text"),
    (
        (my_loss, r"my_loss called numpy\.mean on a symbolic value; use handmill\.ops\.mean"),
        (with_ufunc, r"with_ufunc called numpy\.square on .*; use handmill\.ops\.square"),
        (with_norm, r"with_norm called numpy\.linalg\.norm on .*; use handmill\.ops\.norm"),
        (with_reduce, r"with_reduce called numpy\.add\.reduce on .*; use handmill\.ops\.sum"),
        (with_list, r"with_list called numpy\.concatenate on .*; use handmill\.ops\.conc"),
        (with_absent, r"with_absent called numpy\.spacing on .*; handmill\.ops has no spacing"),
        (with_array, r"with_array made a NumPy array of a symbolic value"),
        (with_math, r"with_math asked for the Python number .* of a symbolic value"),
        (with_content, r"with_content asked for the content of a symbolic value"),
        (with_size, r"with_size called numpy\.sqrt on a size that .*; use handmill\.ops\.sqrt"),
        (with_out, r"with_out called numpy\.add on a symbolic value; use handmill\.ops\.add"),
    ),
)
def test_a_loss_is_told_what_to_call(loss, text):
    with pytest.raises(TracedValueError, match=text):
        fit(loss)


def test_a_method_is_named_with_its_class():
    class Own(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight((), initializer="ones", name="scale")

        def call(self, inputs):
            return np.tanh(inputs)

    with pytest.raises(TracedValueError, match=r"call called numpy\.tanh .*ops\.tanh"):
        Own()(X)

    class OfVariable(Own):
        def call(self, inputs):
            return inputs * np.exp(self.scale)

    with pytest.raises(TracedValueError, match=r"call asked for the numbers of variable 'scale'"):
        OfVariable()(X)


def test_a_keras_tensor_has_no_content():
    with pytest.raises(ValueError, match=r"called numpy\.exp on a KerasTensor; use handmill\.ops"):
        np.exp(keras.Input((3,)))
    with pytest.raises(ValueError, match=r"has no content"):
        np.stack([keras.Input((3,))] * 2)
    assert np.shape(keras.Input((3,))) == (None, 3)
    assert np.ndim(keras.Input((3,))) == 2


OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


@pytest.mark.parametrize("name", (*OPERATORS, *COMPARISONS))
@pytest.mark.parametrize("left", (np.full((1, 3), 0.75, "float32"), np.float32(0.75)), ids=type)
def test_operators_with_an_array_on_the_left(name, left):
    """The array leaves them to the symbolic operand, on either side of it."""
    function = getattr(operator, name)
    want = np.asarray(function(left, X), "float32")

    class Own(layers.Layer):
        def call(self, inputs):
            return ops.cast(function(left, inputs), "float32")

    np.testing.assert_allclose(Own()(X), want, rtol=1e-5)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, ops.cast(function(left, inputs), "float32"))
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-5)


def test_matrices_on_the_left():
    class Own(layers.Layer):
        def call(self, inputs):
            return np.eye(4, dtype="float32") @ inputs

    np.testing.assert_array_equal(Own()(X), X)
