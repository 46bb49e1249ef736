"""TimeDistributed and pad_sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, models, ops
from handmill.utils import pad_sequences

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

X = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


class Largest(layers.Layer):
    """A layer of a user: how it treats samples, nobody knows."""

    def call(self, inputs: Any) -> Any:
        return inputs / ops.max(ops.abs(inputs))


@pytest.mark.parametrize("steps", (5, None))
@pytest.mark.parametrize("own", (False, True))
def test_each_step_goes_through_the_layer(steps: Any, own: bool) -> None:
    inner = Largest() if own else layers.Dense(3, activation="tanh")
    model = handmill.Sequential([handmill.Input((steps, 4)), layers.TimeDistributed(inner)])
    want = np.stack([inner(X[:, t]) for t in range(5)], axis=1)
    np.testing.assert_allclose(model(X), want, rtol=1e-6, atol=1e-7)


def test_statistics_are_those_of_each_step() -> None:
    """As in Keras: batch normalization sees one step at a time."""
    layer = layers.TimeDistributed(layers.BatchNormalization())
    found = layer(X, training=True)
    np.testing.assert_allclose(found.mean(axis=0), np.zeros((5, 4)), atol=1e-5)


def test_masks_reach_the_layer_and_go_on(tmp_path: Any) -> None:
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    model = handmill.Sequential(
        [
            handmill.Input((3,), dtype="int32"),
            layers.Embedding(5, 4, mask_zero=True),
            layers.TimeDistributed(layers.Dense(2, activation="softmax")),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    labels = np.array([[1, 1, 0], [1, 1, 1]])
    changed = np.where(tokens == 0, 1 - labels, labels)
    assert model.evaluate(tokens, labels, verbose=0) == model.evaluate(tokens, changed, verbose=0)
    model.fit(tokens, labels, verbose=0)
    model.save(tmp_path / "m.hmill")
    np.testing.assert_array_equal(models.load_model(tmp_path / "m.hmill")(tokens), model(tokens))


def test_time_distributed_refuses() -> None:
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        layers.TimeDistributed(layers.Dense(2))(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="initialize `TimeDistributed`"):
        layers.TimeDistributed(np.ones(3))
    layer = layers.TimeDistributed(layers.Dense(2))
    assert layer(X, mask=np.ones((6, 5), bool)).shape == (6, 5, 2)
    for mask, match in ((np.ones((6, 6), bool), "incompatible"), (np.ones(6, bool), "at least 2D")):
        with pytest.raises(ValueError, match=match):
            layer(X, mask=mask)


def test_pad_sequences() -> None:
    rows = [[1], [2, 3], [], [4, 5, 6]]
    assert pad_sequences(rows).tolist() == [[0, 0, 1], [0, 2, 3], [0, 0, 0], [4, 5, 6]]
    found = pad_sequences(rows, maxlen=2, padding="post", truncating="post", value=9)
    assert found.tolist() == [[1, 9], [2, 3], [9, 9], [4, 5]]
    assert pad_sequences(rows, maxlen=2).tolist() == [[0, 1], [2, 3], [0, 0], [5, 6]]
    assert pad_sequences([["a"], ["b", "c"]], dtype=object, value="").tolist() == [
        ["", "a"],
        ["b", "c"],
    ]
    assert pad_sequences([np.ones((2, 3)), np.ones((1, 3))]).shape == (2, 2, 3)
    assert pad_sequences([]).shape == (0, 0)
    assert handmill.preprocessing.sequence.pad_sequences is pad_sequences
    for rows_, given, match in (
        ([1, 2], {}, "non-iterable"),
        (3, {}, "must be iterable"),
        ([[1]], {"padding": "left"}, "Padding type"),
        ([[1]], {"truncating": "left"}, "Truncating type"),
        ([["a"]], {"value": "pad"}, "dtype=object"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, "position 1"),
    ):
        with pytest.raises(ValueError, match=match):
            pad_sequences(rows_, **given)
