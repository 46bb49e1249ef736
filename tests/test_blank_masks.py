"""Masks that leave out whole rows: zeros, and a warning that names the row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.hub.layers import TransformerDecoder, TransformerEncoder
from handmill.hub.models import GPT2Backbone, GPT2CausalLM

X = np.random.default_rng(0).normal(size=(4, 3, 8)).astype("float32")
VALID = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
WORDS = r"`{}` is False \(0\) everywhere in row 2: .* inverted\?"

KEYS = VALID > 0
CALLS: dict[str, tuple[Callable[[], Any], tuple[Any, ...], Any]] = {
    "padding_mask": (lambda: TransformerEncoder(8, 2), (X,), VALID),
    "decoder_padding_mask": (lambda: TransformerDecoder(8, 2), (X,), KEYS),
    "value_mask": (lambda: layers.MultiHeadAttention(2, 4), (X, X), KEYS),
    "attention_mask": (
        lambda: layers.MultiHeadAttention(2, 4),
        (X, X),
        np.repeat(KEYS[:, None], 3, axis=1),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_layers_on_arrays(name: str) -> None:
    make, arguments, mask = CALLS[name]
    layer = make()
    with pytest.warns(UserWarning, match=WORDS.format(name)):
        found = layer(*arguments, **{name: mask})
    assert np.isfinite(found).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(layer(*arguments, **{name: mask}), found)  # it was said


def test_what_is_there_is_not_warned_of() -> None:
    for mask in (VALID[[0, 1, 3]], VALID[[1]].astype(bool)):
        TransformerEncoder(8, 2)(X[: len(mask)], padding_mask=mask)
    TransformerEncoder(8, 2)(X[:0], padding_mask=VALID[:0])
    pairs = np.ones((4, 3, 3), bool)
    pairs[:, 1] = False  # queries that see nothing, in rows that hold others
    layers.MultiHeadAttention(2, 4)(X, X, attention_mask=pairs)
    layers.LSTM(2)(X, mask=VALID > 0)  # the initial state is what such a row has


def text_model() -> Any:
    model = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=6))
    model.compile(handmill.optimizers.Adam())
    return model


def pooled_model() -> Any:
    """A model whose mask only the layer that takes it calls so."""
    tokens, valid = (
        layers.Input((3,), name="tokens"),
        layers.Input((3,), dtype="bool", name="valid"),
    )
    x = layers.Embedding(20, 8)(tokens)
    x = layers.MultiHeadAttention(2, 4)(x, x, value_mask=valid)
    model = handmill.Model([tokens, valid], layers.Dense(1)(layers.Flatten()(x)))
    model.compile("sgd", "mse")
    return model


def test_data_of_fit() -> None:
    """The row is that of the data, whichever batch it is in, and told once."""
    ids = np.random.default_rng(0).integers(0, 20, (64, 3))
    valid = np.ones((64, 3), int)
    valid[45] = 0
    words = r"`{}` is False \(0\) everywhere in row 45: "
    model = text_model()
    x = {"token_ids": ids, "padding_mask": valid}
    with pytest.warns(handmill.TrainingWarning, match=words.format("padding_mask")) as found:
        model.fit(x, ids, batch_size=8, epochs=2, verbose=0)
    assert len([w for w in found if "attend" in str(w.message)]) == 1
    with pytest.warns(handmill.TrainingWarning, match=words.format("valid")):
        pooled_model().fit([ids, valid > 0], np.ones((64, 1)), batch_size=8, verbose=0)
    inverted = {"token_ids": ids, "padding_mask": np.zeros_like(ids)}
    with pytest.warns(handmill.TrainingWarning, match="row 0, the first of 64 such rows of 64"):
        text_model().fit(inverted, ids, verbose=0)
    for call in (
        lambda m: m.predict(inverted, verbose=0),
        lambda m: m.evaluate(inverted, ids, verbose=0),
    ):
        with pytest.warns(UserWarning, match="the first of 64 such rows"):
            call(text_model())
