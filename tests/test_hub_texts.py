"""Tasks on texts: a vocabulary in the folder, fit on strings, files that hold the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
import hub_folders as folders
from handmill import hub
from handmill.hub.models import BertMaskedLM, BertTextClassifier, GPT2Backbone, GPT2CausalLM

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "very", "not", "##ly", "film"]
TEXTS = ["very good film", "bad film", "not very good", "good", "very bad", "not bad"]
LABELS = np.array([1, 0, 0, 1, 0, 1])


def bert_folder(path: Path) -> Path:
    tensors = folders.prefixed(folders.drawn(folders.shapes("bert")), "bert.")
    head = folders.drawn({"classifier.weight": (2, 8), "classifier.bias": (2,)})
    folder = folders.write(path, {**folders.BERT, "num_labels": 2}, {**tensors, **head})
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def test_a_classifier_takes_texts(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "a")
    model = BertTextClassifier.from_preset(folder, dropout=0.0)
    assert model.preprocessor.tokenizer.vocabulary_size() == len(WORDS)
    model.compile(handmill.optimizers.Adam(0.01))
    history = model.fit(TEXTS, LABELS, epochs=20, verbose=0, validation_data=(TEXTS, LABELS))
    assert history.history["val_loss"][-1] < history.history["val_loss"][0]
    ready = model.preprocessor(TEXTS)
    np.testing.assert_array_equal(model.predict(TEXTS, verbose=0), model.predict(ready, verbose=0))
    assert model.evaluate(np.array(TEXTS), LABELS, verbose=0) == model.evaluate(
        ready, LABELS, verbose=0
    )
    one, before = ["very good film"], [w.numpy() for w in model.weights]
    why = handmill.explain(model, one, target=1, num_samples=64)
    asked = handmill.explanation.lime(
        lambda texts: model.predict(texts, verbose=0), one, target=1, num_samples=64
    )
    assert why.method == "LIME"
    np.testing.assert_allclose(why.values, asked.values, rtol=1e-4, atol=1e-6)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    for call in (model.predict, model.evaluate, model.fit):
        with pytest.raises(ValueError, match=r"of one text pass \[text\]. Received: 'good'"):
            call("good")
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    model.save_to_preset(tmp_path / "b")
    again = BertTextClassifier.from_preset(tmp_path / "b")
    np.testing.assert_array_equal(again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    (folder / "vocab.txt").write_text("\n".join([*WORDS, "one", "more"]) + "\n")
    with pytest.raises(ValueError, match=r"has 13 tokens, .* knows only 11"):
        BertTextClassifier.from_preset(folder)
    without = BertTextClassifier.from_preset(folder, preprocessor=None)
    assert without.preprocessor is None


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .'pooled_dense")
@pytest.mark.filterwarnings("ignore:.*does not hold cls.predictions")
def test_a_masked_model_takes_texts(tmp_path: Path) -> None:
    model = BertMaskedLM.from_preset(bert_folder(tmp_path / "a"))
    model.compile()
    found = model.fit(TEXTS, epochs=2, verbose=0).history
    assert set(found) == {"loss", "sparse_categorical_accuracy"}


def test_a_gpt_takes_texts(tmp_path: Path) -> None:
    t: dict[str, Any] = folders.drawn(folders.shapes("gpt2"))
    folder = folders.write(tmp_path / "a", folders.GPT2, folders.prefixed(t, "transformer."))
    pieces = ["a", "b", "c", "Ġ", "ab", "Ġa", "Ġab", "d", "e", "f", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\nĠ a\nĠa b\n")
    model = GPT2CausalLM.from_preset(folder)
    texts = ["ab ab c", "abc ab", "d e f", "ab"]
    model.compile(handmill.optimizers.Adam(0.01), sampler="greedy")
    losses = model.fit(texts, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    said = model.generate("ab", max_length=6)
    assert said.startswith("ab")
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    assert loaded.generate("ab", max_length=6) == said
    model.compile(sampler=handmill.hub.samplers.TopKSampler(3, seed=4))
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    assert loaded.sampler.get_config() == model.sampler.get_config()
    model.compile(sampler="greedy")
    model.save_to_preset(tmp_path / "b")
    again = GPT2CausalLM.from_preset(tmp_path / "b")
    again.compile(sampler="greedy")
    assert again.generate("ab", max_length=6) == said


def test_a_vocabulary_without_an_end_is_read_again(tmp_path: Path) -> None:
    """As `train_byte_pair` learns it: texts then neither begin nor end with a token."""
    tokenizer = hub.tokenizers.train_byte_pair(["to be or not to be"], 270)
    backbone = GPT2Backbone(tokenizer.vocabulary_size(), 1, 2, 8, 16, max_sequence_length=16)
    preprocessor = hub.models.CausalLMPreprocessor(tokenizer, sequence_length=12)
    model = GPT2CausalLM(backbone, preprocessor)
    model.compile(sampler="greedy")
    with pytest.raises(ValueError, match="Could not interpret sampler identifier: 5"):
        model.compile(sampler=5)
    said = model.generate("to be", max_length=9)
    model.save_to_preset(tmp_path / "a")
    again = GPT2CausalLM.from_preset(tmp_path / "a")
    again.compile(sampler="greedy")
    assert again.generate("to be", max_length=9) == said
    assert again.preprocessor.end_token_id is None
    assert again.preprocessor.sequence_length == 12
    x, labels, weights = preprocessor([])
    assert {a.shape for a in (*x.values(), labels, weights)} == {(0, 12)}
    assert preprocessor([""])[1].shape == (1, 12)


def test_what_becomes_of_letters_is_kept(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "B", "b", "##b", "é", "e"]
    for given in ({}, {"lowercase": True}, {"lowercase": True, "strip_accents": False}):
        tokenizer = hub.tokenizers.BertTokenizer(words, **given)
        tokenizer.save_assets(tmp_path)
        again = hub.tokenizers.BertTokenizer.from_preset(tmp_path)
        for text in ("B b", "É é", "aB"):
            np.testing.assert_array_equal(again(text), tokenizer(text))


def test_classes_for_what_a_folder_holds(tmp_path: Path) -> None:
    """The names that KerasHub's scripts use where they do not say which model it is."""
    folder = bert_folder(tmp_path / "a")
    model = hub.models.TextClassifier.from_preset(folder, dropout=0.0)
    assert type(model) is BertTextClassifier
    with pytest.warns(UserWarning, match="does not hold"):
        assert type(hub.models.MaskedLM.from_preset(folder)) is BertMaskedLM
    with pytest.raises(ValueError, match="CausalLM cannot be made from a folder"):
        hub.models.CausalLM.from_preset(folder)
    tokenizer = hub.models.Tokenizer.from_preset(folder, sequence_length=4)
    assert type(tokenizer) is hub.tokenizers.BertTokenizer
    assert tokenizer("Good film").tolist() == [5, 10, 0, 0]
    assert type(hub.tokenizers.WordPieceTokenizer.from_preset(folder)) is type(tokenizer)
    with pytest.raises(ValueError, match=r"BytePairTokenizer cannot be made .* a BertTokenizer"):
        hub.tokenizers.BytePairTokenizer.from_preset(folder)
    hub.tokenizers.train_byte_pair(TEXTS, 260).save_assets(tmp_path)
    again = hub.tokenizers.Tokenizer.from_preset(tmp_path)
    assert type(again) is hub.tokenizers.BytePairTokenizer
    assert again.detokenize(again("good film")) == "good film"
