"""A GPT, a BERT and an LSTM: three steps of training by kernels and by plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.hub.models import BertBackbone, BertTextClassifier, GPT2Backbone, GPT2CausalLM

pytestmark = pytest.mark.skipif(not handmill.config.has_kernels(), reason="a build without kernels")
IDS = np.random.default_rng(0).integers(1, 20, (4, 9))
KEPT = (np.arange(9) < np.array([[9], [5], [7], [1]])).astype("int32")
TOKENS = {"token_ids": IDS * KEPT, "padding_mask": KEPT}


def gpt() -> tuple[Any, Any, Any]:
    model = GPT2CausalLM(GPT2Backbone(20, 2, 2, 16, 32, 0.1, max_sequence_length=12))
    return model, TOKENS, np.roll(IDS, -1, 1)


def bert() -> tuple[Any, Any, Any]:
    backbone = BertBackbone(20, 2, 2, 16, 32, 0.1, max_sequence_length=12)
    x = {**TOKENS, "segment_ids": np.zeros_like(IDS)}
    return BertTextClassifier(backbone, 3), x, np.array([0, 2, 1, 1])


def lstm() -> tuple[Any, Any, Any]:
    model = handmill.Sequential(
        [
            handmill.Input((None,), dtype="int32"),
            layers.Embedding(20, 6, mask_zero=True),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True, dropout=0.1)),
            layers.LSTM(4, recurrent_dropout=0.1),
            layers.Dense(3),
        ]
    )
    return model, IDS * KEPT, np.array([0, 2, 1, 1])


def trained(make: Any, backend: str) -> Any:
    handmill.utils.set_random_seed(0)
    with handmill.use_backend(backend):
        model, x, y = make()
        loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(handmill.optimizers.SGD(0.1, momentum=0.9), loss)
        history = model.fit(x, y, epochs=3, batch_size=4, verbose=0).history
    return model, history["loss"]


@pytest.mark.parametrize("make", (gpt, bert, lstm))
def test_numpy_trains_to_the_same_numbers(make: Any) -> None:
    (ours, found), (twin, wanted) = trained(make, "native"), trained(make, "numpy")
    assert found[0] != found[2]
    np.testing.assert_allclose(found, wanted, rtol=2e-6)
    for variable, other in zip(ours.variables, twin.variables, strict=True):
        numbers = variable.numpy(), other.numpy()
        np.testing.assert_allclose(*numbers, rtol=0, atol=2e-6, err_msg=variable.path)


@pytest.mark.slow
def test_every_operator_of_an_lstm_is_within_its_bound() -> None:
    handmill.utils.set_random_seed(0)
    model, x, y = lstm()
    loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(handmill.optimizers.AdamW(0.01), loss)
    for _ in range(3):
        handmill.compare(model, x, y).raise_if_failed()
        model.fit(x, y, verbose=0)
