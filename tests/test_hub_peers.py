"""Text models beside transformers: logits, the way back, and ten steps of AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import hub

pytestmark = [pytest.mark.peers, pytest.mark.slow]

GPT2: dict[str, Any] = {
    "vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
BERT: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
STRETCHED = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 5000.0,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}

CASES: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("GPT2LMHeadModel", "GPT2Config", GPT2, "GPT2CausalLM"),
    (
        "GPT2LMHeadModel",
        "GPT2Config",
        {**GPT2, "tie_word_embeddings": False, "n_inner": 40, "activation_function": "relu"},
        "GPT2CausalLM",
    ),
    ("GPT2Model", "GPT2Config", GPT2, "GPT2Backbone"),
    ("BertForMaskedLM", "BertConfig", BERT, "BertMaskedLM"),
    (
        "BertForSequenceClassification",
        "BertConfig",
        {**BERT, "num_labels": 3},
        "BertTextClassifier",
    ),
    ("BertModel", "BertConfig", {**BERT, "hidden_act": "gelu_new"}, "BertBackbone"),
    ("LlamaForCausalLM", "LlamaConfig", LLAMA, "LlamaCausalLM"),
    (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**LLAMA, "rope_parameters": STRETCHED, "tie_word_embeddings": True},
        "LlamaCausalLM",
    ),
    (
        "LlamaModel",
        "LlamaConfig",
        {**LLAMA, "head_dim": 16, "rope_parameters": LINEAR},
        "LlamaBackbone",
    ),
)

# Not 0: torch gives the vector of the padding no gradient, whether it is padding or not.
IDS = np.random.default_rng(0).integers(1, 50, (3, 12))
MASK = np.array([[1] * 12, [1] * 7 + [0] * 5, [1] * 3 + [0] * 9])
SEGMENTS = (np.arange(12) > 5).astype("int64") * np.ones_like(IDS)


def inputs(torch: Any, name: str, mask: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """For ours and for theirs."""
    x: dict[str, Any] = {"token_ids": IDS, "padding_mask": mask}
    t = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(mask)}
    if name.startswith("Bert"):
        x["segment_ids"] = SEGMENTS
        t["token_type_ids"] = torch.tensor(SEGMENTS)
    if name == "BertMaskedLM":
        x["mask_positions"] = np.tile(np.arange(12), (3, 1))
    return x, t


def test_numbers_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    for n, (model, config, settings, name) in enumerate(CASES):
        theirs = getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()
        with torch.no_grad():
            for p in theirs.parameters():
                p.add_(torch.randn_like(p) * 0.05)
        theirs.save_pretrained(tmp_path / f"a{n}")
        cls = getattr(hub.models, name)
        ours = cls.from_preset(tmp_path / f"a{n}")
        x, t = inputs(torch, name, MASK)
        with torch.no_grad():
            want = theirs(**t)[0].numpy()
        found = ours(x)
        found = found["sequence_output"] if isinstance(found, dict) else found
        rows = MASK == 1 if found.ndim == 3 else np.ones(3, bool)
        np.testing.assert_allclose(found[rows], want[rows], rtol=0, atol=1e-5, err_msg=name)

        ours.save_to_preset(tmp_path / f"b{n}")
        again = type(theirs).from_pretrained(tmp_path / f"b{n}").state_dict()
        for key, value in theirs.state_dict().items():
            assert torch.equal(value, again[key]), key

        if "CausalLM" in name or "Classifier" in name:
            losses = torch_losses(torch, theirs, inputs(torch, name, np.ones_like(IDS))[1])
            own = our_losses(cls, tmp_path / f"a{n}", inputs(torch, name, np.ones_like(IDS))[0])
            np.testing.assert_allclose(own, losses, rtol=1e-4, err_msg=name)


def targets(classes: bool) -> Any:
    rng = np.random.default_rng(1)
    return rng.integers(0, 3, 3) if classes else rng.integers(0, 50, (3, 12))


EPSILON = 1e-12
"""Keras adds it before the correction of the second moment, torch behind: here it is no matter."""


def torch_losses(torch: Any, model: Any, t: Any) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, eps=EPSILON)
    model.train()
    losses = []
    for _ in range(10):
        logits = model(**t).logits
        y = torch.tensor(targets(logits.ndim == 2)).reshape(-1)
        loss = torch.nn.functional.cross_entropy(logits.reshape(len(y), -1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def our_losses(cls: Any, folder: Path, x: Any) -> list[float]:
    is_classifier = cls is hub.models.BertTextClassifier
    model = cls.from_preset(folder, **({"dropout": 0.0} if is_classifier else {}))
    model.compile(handmill.optimizers.AdamW(1e-3, weight_decay=0.1, epsilon=EPSILON))
    y = targets(is_classifier)
    history = model.fit(x, y, epochs=10, batch_size=3, shuffle=False, verbose=0).history
    return list(history["loss"])


def test_files_of_keras_hub(keras: Any, tmp_path: Path) -> None:
    """Weights have the same paths; a ``.keras`` file of either is read by the other."""
    keras_hub = pytest.importorskip("keras_hub")
    ids = np.random.default_rng(0).integers(1, 20, (3, 10))
    x = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    segmented = {**x, "segment_ids": np.zeros_like(ids)}

    def gpt2(k: Any) -> Any:
        return k.models.GPT2CausalLM(k.models.GPT2Backbone(20, 2, 2, 8, 16, 0.0, 12))

    def llama(k: Any) -> Any:
        return k.models.LlamaCausalLM(k.models.LlamaBackbone(20, 2, 4, 16, 24, 2))

    def bert(k: Any) -> Any:
        backbone = k.models.BertBackbone(20, 2, 2, 8, 16, 0.0, 12)
        return k.models.BertTextClassifier(backbone, 3)

    for n, (make, inputs) in enumerate(((gpt2, x), (llama, x), (bert, segmented))):
        theirs, ours = make(keras_hub), make(hub)
        assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
        theirs.set_weights([np.asarray(w) * 3 for w in theirs.get_weights()])
        want = np.asarray(theirs(inputs))
        theirs.save(tmp_path / f"theirs{n}.keras")
        read = handmill.models.load_model(tmp_path / f"theirs{n}.keras")
        assert type(read) is type(ours)
        np.testing.assert_allclose(read(inputs), want, rtol=0, atol=1e-5)
        ours.save(tmp_path / f"ours{n}.keras")
        again = keras.models.load_model(tmp_path / f"ours{n}.keras")
        assert type(again) is type(theirs)
        np.testing.assert_allclose(np.asarray(again(inputs)), ours(inputs), rtol=0, atol=1e-5)
