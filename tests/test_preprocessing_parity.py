"""Layers that prepare tables, beside those of Keras: numbers, weights, configs, training, files.

Only those that Keras runs without TensorFlow; test_layers_preprocessing.py has numbers of the
others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from layer_parity import check_layer, normal, plain, weights_of

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")]

MAKERS: dict[str, Any] = {
    "normalization": lambda k: k.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[2.0, 3.0, 4]),
    "inverted": lambda k: k.layers.Normalization(axis=None, mean=0.5, variance=2.0, invert=True),
    "dense": lambda k: k.layers.TimeDistributed(k.layers.Dense(2, activation="relu")),
    "statistics": lambda k: k.layers.TimeDistributed(k.layers.BatchNormalization()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_layers_that_train(keras: Any, name: str, tmp_path: Any) -> None:
    check_layer(keras, MAKERS[name], normal(6, 5, 3), saved=tmp_path / "m.hmill")


@pytest.mark.parametrize("mode", ("int", "one_hot", "multi_hot", "count"))
@pytest.mark.parametrize("shape", ((4,), (4, 3), (4, 1), (2, 3, 2)))
def test_categories(keras: Any, mode: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).uniform(0, 6, shape).astype("float32")
    made = [k.layers.Discretization([1.0, 2.5, 4.0], output_mode=mode) for k in (keras, handmill)]
    if mode != "int":
        made += [k.layers.CategoryEncoding(5, output_mode=mode) for k in (keras, handmill)]
    for theirs, ours in zip(made[::2], made[1::2], strict=True):
        data = x if "bin_boundaries" in ours.get_config() else x.astype("int32")
        found, want = ours(data), np.asarray(theirs(data))
        np.testing.assert_array_equal(found, want)
        assert found.dtype == want.dtype
        given = {k: v for k, v in plain(ours.get_config()).items() if k != "name"}
        wanted = plain(theirs.get_config())
        assert {k: v for k, v in wanted.items() if k in given and k != "dtype"} == {
            k: v for k, v in given.items() if k != "dtype"
        }


def test_adapted_normalization(keras: Any) -> None:
    x = normal(50, 4) * 3 + 7
    theirs, ours = keras.layers.Normalization(), layers.Normalization()
    for layer in (theirs, ours):
        layer.adapt(x)
    np.testing.assert_allclose(ours(x), np.asarray(theirs(x)), rtol=1e-5, atol=1e-6)
    for a, b in zip(weights_of(theirs), ours.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
