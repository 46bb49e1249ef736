"""Layers of the folder activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from layer_parity import check_layer, check_policy, errors_of, normal

CASES: dict[str, Any] = {
    "prelu": (lambda k: k.PReLU(), (6, 4), (4,)),
    "prelu_steps": (lambda k: k.PReLU("glorot_uniform"), (6, 5, 4), (5, 4)),
    "prelu_shared": (lambda k: k.PReLU(shared_axes=[1]), (6, 5, 4), (None, 4)),
    "prelu_shared_all": (lambda k: k.PReLU(shared_axes=(1, 2)), (6, 5, 4), (5, 4)),
    "prelu_shared_one": (lambda k: k.PReLU(shared_axes=1), (6, 5, 4), (5, 4)),
    "prelu_penalties": (
        lambda k: k.PReLU(alpha_regularizer="l2", alpha_constraint="non_neg"),
        (6, 4),
        (4,),
    ),
    "elu": (lambda k: k.ELU(), (6, 5, 4), (None, 4)),
    "elu_alpha": (lambda k: k.ELU(alpha=0.5), (6, 4), (4,)),
    "leaky_relu": (lambda k: k.LeakyReLU(), (6, 4), (4,)),
    "leaky_relu_slope": (lambda k: k.LeakyReLU(negative_slope=0.1), (6, 4), (4,)),
    "relu": (lambda k: k.ReLU(), (6, 4), (4,)),
    "relu_all": (
        lambda k: k.ReLU(max_value=1.5, negative_slope=0.2, threshold=0.3),
        (6, 4),
        (4,),
    ),
    "softmax": (lambda k: k.Softmax(), (6, 5, 4), (None, 4)),
    "softmax_axis": (lambda k: k.Softmax(axis=1), (6, 5, 4), (5, 4)),
    "softmax_axes": (lambda k: k.Softmax(axis=(1, 2)), (6, 5, 4), (5, 4)),
    "activation": (lambda k: k.Activation("tanh"), (6, 4), (4,)),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_as_keras(keras: Any, name: str, tmp_path: Any) -> None:
    make, size, shape = CASES[name]
    check_layer(
        keras,
        lambda library: make(library.layers),
        normal(*size) - 2,
        [shape],
        saved=tmp_path / "model.hmill",
    )


def test_prelu_at_zero_and_beyond() -> None:
    layer = layers.PReLU(alpha_initializer=handmill.initializers.Constant(0.25))
    x = np.array([[-4.0, -0.0, 0.0, 3.0, np.inf]], "float32")
    np.testing.assert_array_equal(layer(x), [[-1.0, 0.0, 0.0, 3.0, np.inf]])
    assert np.isnan(layer(np.full((1, 5), np.nan, "float32"))).all()


@pytest.mark.peers
@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.PReLU()(k.Input((None, 4))),
        lambda k: k.PReLU(alpha_initializer="nothing"),
        lambda k: k.PReLU(shared_axes=[1]).build((2, 3, 4)) or _called(k, (2, 3, 5)),
        lambda k: k.LeakyReLU(negative_slope=None),
        lambda k: k.LeakyReLU(negative_slope=-1.0),
        lambda k: k.ReLU(max_value=-1.0),
        lambda k: k.ReLU(negative_slope=-1.0),
        lambda k: k.ReLU(threshold=None),
    ),
    ids=map(str, range(8)),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, lambda library: call(library.layers))


def _called(k: Any, size: Any) -> None:
    layer = k.PReLU(shared_axes=[1])
    layer.build((2, 3, 4))
    layer(np.ones(size, "float32"))


def test_prelu_names_the_axis_that_is_open() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)has no fixed size.*hint: name that axis in `shared_axes`"
    ):
        layers.PReLU()(handmill.Input((None, 4)))
    with pytest.raises(ValueError, match="no axis 3 to share"):
        layers.PReLU(shared_axes=[3])(handmill.Input((5, 4)))


@pytest.mark.peers
@pytest.mark.parametrize("axis", (-1, (1, 2)))
def test_softmax_leaves_masked_entries_out_as_keras_does(keras: Any, axis: Any) -> None:
    x = normal(6, 5, 4)
    mask = np.random.default_rng(1).random((6, 5, 4)) < 0.6
    mask[0, 0] = False
    want = np.asarray(keras.layers.Softmax(axis=axis)(x, mask=mask))
    np.testing.assert_allclose(layers.Softmax(axis=axis)(x, mask=mask), want, rtol=1e-5, atol=1e-7)


@pytest.mark.peers
def test_bfloat16(keras: Any) -> None:
    x = normal(6, 4)
    check_policy(keras, lambda k, d: k.layers.PReLU(dtype=d), x)
    check_policy(keras, lambda k, d: k.layers.ELU(dtype=d), x)
    check_policy(keras, lambda k, d: k.layers.LeakyReLU(dtype=d), x)


def test_masks_pass_and_models_by_subclassing_train() -> None:
    inputs = handmill.Input((5, 4))
    y = layers.Masking()(inputs)
    for name in ("prelu_shared", "elu", "leaky_relu", "relu"):
        y = CASES[name][0](layers)(y)
    assert y.mask is not None

    class Net(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)
            self.rectify = layers.PReLU()

        def call(self, x: Any) -> Any:
            return ops.multiply(self.rectify(self.dense(x)), 2.0)

    net = Net()
    net.compile("sgd", "mse")
    net.fit(normal(6, 4), normal(6, 3), verbose=0)
    assert [w.name for w in net.weights] == ["kernel", "bias", "alpha"]
    assert (net.rectify.alpha.numpy() != 0).any()
