"""Layers of the folder merging, and their functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from layer_parity import check_layer, errors_of, normal

SEVERAL = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.peers
@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(
    "shapes",
    (
        ((6, 5, 4), (6, 1, 4)),
        ((6, 5, 4), (6, 4)),
        ((6, 4), (6, 4), (6, 4)),
    ),
    ids=("broadcast", "ranks", "three"),
)
def test_as_keras(keras: Any, name: str, shapes: Any, tmp_path: Any) -> None:
    if (name == "Subtract" and len(shapes) == 3) or (
        name == "Concatenate" and len({s[:-1] for s in shapes}) > 1
    ):
        with pytest.raises(ValueError, match=r"2 inputs|matching shapes"):
            getattr(layers, name)()(arrays(*shapes))
        return
    check_layer(
        keras,
        lambda library: getattr(library.layers, name)(),
        arrays(*shapes),
        saved=tmp_path / "model.hmill",
    )


@pytest.mark.peers
@pytest.mark.parametrize("axis", (1, 2, -1, -2))
def test_concatenate_along_any_axis(keras: Any, axis: int) -> None:
    x = arrays((6, 5, 4), (6, 5, 4))
    check_layer(keras, lambda k: k.layers.Concatenate(axis=axis), x)
    check_layer(keras, lambda k: k.layers.Concatenate(axis), x, [(None, 4), (None, 4)])


DOTS: dict[str, Any] = {
    "vectors": (1, ((6, 4), (6, 4))),
    "vectors_last": (-1, ((6, 4), (6, 4))),
    "steps": (2, ((6, 5, 4), (6, 3, 4))),
    "first": (1, ((6, 5, 4), (6, 5, 3))),
    "pair": ((2, 1), ((6, 5, 4), (6, 4, 3))),
    "pair_negative": ((-1, -2), ((6, 5, 4), (6, 4, 3))),
    "vector_matrix": ((1, 2), ((6, 4), (6, 5, 4))),
    "matrix_vector": ((2, 1), ((6, 5, 4), (6, 4))),
    "ranks": ((3, 1), ((6, 2, 5, 4), (6, 4, 3))),
    "larger": ((1, 2), ((6, 4, 2, 5), (6, 3, 4, 2))),
}


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "normalize"),
    [(name, False) for name in DOTS] + [("vectors", True), ("pair_negative", True)],
)
def test_dot_is_that_of_keras(keras: Any, name: str, normalize: bool, tmp_path: Any) -> None:
    axes, shapes = DOTS[name]
    check_layer(
        keras,
        lambda k: k.layers.Dot(axes, normalize=normalize),
        arrays(*shapes),
        rtol=5e-5,
        atol=1e-5,
        saved=tmp_path / "model.hmill",
    )


@pytest.mark.peers
def test_dot_of_lengths(keras: Any) -> None:
    x = arrays((6, 5, 4), (6, 5, 3))
    check_layer(keras, lambda k: k.layers.Dot(2), arrays((6, 5, 4), (6, 3, 4)), [(None, 4)] * 2)
    inputs = [handmill.Input((None, 4)), handmill.Input((None, 3))]
    model = handmill.Model(inputs, layers.Dot(1)(inputs))
    np.testing.assert_allclose(model(x), np.einsum("bta,btc->bac", *x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"axis values 5 \(at axis 1\) != 4"):
        model([x[0], x[1][:, :4]])


@pytest.mark.peers
@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.Dot("1"),
        lambda k: k.Dot((1, 2, 3)),
        lambda k: k.Dot((1, 2.0)),
        lambda k: k.Dot(1)(arrays((2, 3))[0]),
        lambda k: k.Dot(1)(arrays((2, 3), (2, 3), (2, 3))),
        lambda k: k.Dot(1)(arrays((2, 3), (2, 4))),
        lambda k: k.Dot((1, 2))(arrays((2, 3, 4), (2, 3, 5))),
        lambda k: k.Dot(0)(arrays((2, 3), (2, 3))),
        lambda k: k.Add()(arrays((2, 3))[0]),
        lambda k: k.Subtract()(arrays((2, 3), (2, 3), (2, 3))),
        lambda k: k.Add()(arrays((2, 3), (2, 4))),
        lambda k: k.Concatenate()(arrays((2, 3, 4), (2, 5, 4))),
        lambda k: k.Concatenate()(arrays((2, 3))[0]),
    ),
    ids=map(str, range(13)),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, lambda library: call(library.layers))


@pytest.mark.peers
@pytest.mark.parametrize("name", (*SEVERAL, "Dot"))
def test_functions_are_their_layers(keras: Any, name: str) -> None:
    x = arrays((6, 5, 4), (6, 5, 4))
    want = np.asarray(getattr(keras.layers, name.lower())(x))
    function = getattr(layers, name.lower())
    np.testing.assert_allclose(function(x), want, rtol=1e-5, atol=1e-6)
    tensors = [handmill.Input((5, 4)), handmill.Input((5, 4))]
    model = handmill.Model(tensors, function(tensors, name="joined"))
    assert model.layers[-1].name == "joined"
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)


def test_dot_makes_no_mask() -> None:
    tensors = [layers.Masking()(handmill.Input((5, 4))) for _ in range(2)]
    assert layers.Dot(2)(tensors).mask is None


def test_a_siamese_model_by_subclassing() -> None:
    class Siamese(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.encode = layers.Dense(3, "tanh")
            self.compare = layers.Dot(1, normalize=True)

        def call(self, pair: Any) -> Any:
            return self.compare([self.encode(pair[0]), self.encode(pair[1])])

    x = arrays((6, 4), (6, 4))
    model = Siamese()
    model.compile("sgd", "mse")
    model.fit(x, normal(6, 1), verbose=0)
    kernel, bias = model.get_weights()
    a, b = (np.tanh(v @ kernel + bias) for v in x)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(model.predict(x, verbose=0)[:, 0], cosine, rtol=1e-4, atol=1e-5)
