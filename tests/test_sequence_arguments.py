"""Arguments of layers and operators of sequences that mean nothing: refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from handmill import layers, ops

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
HEADS = X[:, :, None]
ONE = np.zeros((2, 2), "float32")


def attention(**given: Any) -> Any:
    return ops.dot_product_attention(HEADS, HEADS, HEADS, **given)


@pytest.mark.parametrize(
    ("call", "text"),
    (
        (lambda: attention(attn_logits_soft_cap=0), "`attn_logits_soft_cap` must be a finite"),
        (lambda: attention(attn_logits_soft_cap=-1.0), "`attn_logits_soft_cap` must be a finite"),
        (lambda: attention(scale=float("nan")), "`scale` must be a finite number"),
        (lambda: layers.ReversibleEmbedding(5, 2, logit_soft_cap=0), "`logit_soft_cap` must be"),
        (lambda: layers.LSTM(2)(X, initial_state=ONE), "2 states, of the sizes .* Received: 1"),
        (lambda: layers.LSTM(2)(X, initial_state=[ONE] * 3), "one for each. Received: 3"),
        (lambda: layers.GRU(2)(X, initial_state=[ONE] * 2), "1 states, of the sizes"),
        (lambda: layers.Bidirectional(layers.Dense(2)), "`layer` must go over sequences in both"),
        (
            lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.Dense(2)),
            "`backward_layer` must go over sequences",
        ),
        (lambda: ops.stft(X, 0, 1, 2), "`sequence_length` must be a whole number of 1 or more"),
    ),
)
def test_arguments_that_mean_nothing(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_states_that_fit() -> None:
    layer = layers.GRU(2)
    np.testing.assert_array_equal(layer(X, initial_state=ONE), layer(X, initial_state=[ONE]))
