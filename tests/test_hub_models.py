"""Text models of handmill.hub: what they give, that they train, and that files hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config
from handmill.hub.models import (
    BertBackbone,
    BertMaskedLM,
    BertTextClassifier,
    GPT2Backbone,
    GPT2CausalLM,
    LlamaBackbone,
    LlamaCausalLM,
)

IDS = np.random.default_rng(0).integers(0, 20, (3, 10))


def gpt2(dropout: float = 0.0) -> Any:
    handmill.utils.set_random_seed(0)
    return GPT2CausalLM(GPT2Backbone(20, 2, 2, 8, 16, dropout, max_sequence_length=12))


def llama(dropout: float = 0.0) -> Any:
    handmill.utils.set_random_seed(0)
    return LlamaCausalLM(LlamaBackbone(20, 2, 4, 8, 16, 2, dropout=dropout))


def bert(dropout: float = 0.0) -> Any:
    handmill.utils.set_random_seed(0)
    return BertBackbone(20, 2, 2, 8, 16, dropout, max_sequence_length=12)


MAKERS = {"gpt2": gpt2, "llama": llama}


def data(ids: Any) -> dict[str, Any]:
    return {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def bert_data(ids: Any) -> dict[str, Any]:
    return {**data(ids), "segment_ids": np.zeros_like(ids)}


def trained(make: Any, x: Any, y: Any) -> tuple[Any, list[float]]:
    """A model after three epochs."""
    model = make()
    model.compile(handmill.optimizers.AdamW(0.01))
    return model, model.fit(x, y, epochs=3, batch_size=2, verbose=0).history["loss"]


@pytest.mark.parametrize("name", MAKERS)
def test_a_cache_changes_nothing(name: str) -> None:
    """Read in pieces, with one place or a place for each row, a text has the same logits."""
    model = MAKERS[name]()
    whole = model(data(IDS))
    cache = model.make_cache(3, 12)
    pieces = []
    at = 0
    for n, length in enumerate((4, 1, 3, 1, 1)):
        start = at if n % 2 else np.full(3, at, "int32")
        logits, hidden, cache = model.call_with_cache(IDS[:, at : at + length], cache, start)
        assert hidden.shape == (3, length, 8)
        pieces.append(logits)
        at += length
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_later_tokens_change_nothing_before(name: str) -> None:
    model = MAKERS[name]()
    other = IDS.copy()
    other[:, 6:] = (other[:, 6:] + 7) % 20
    a, b = model(data(IDS)), model(data(other))
    np.testing.assert_array_equal(a[:, :6], b[:, :6])
    assert not np.array_equal(a[:, 6:], b[:, 6:])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ("hmill", "keras"))
@pytest.mark.parametrize("name", MAKERS)
def test_files(name: str, suffix: str, tmp_path: Path) -> None:
    if suffix == "keras":
        pytest.importorskip("h5py")
    model = MAKERS[name]()
    model.compile()
    y = np.roll(IDS, -1, 1)
    before = model.evaluate(data(IDS), y, verbose=0)[0]
    model.optimizer.learning_rate = 0.01
    model.fit(data(IDS), y, epochs=3, verbose=0)
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    loaded = handmill.models.load_model(path)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(loaded(data(IDS)), model(data(IDS)))
    assert loaded.backbone.token_embedding.embeddings is loaded.trainable_weights[0]
    after = loaded.evaluate(data(IDS), y, verbose=0)[0]
    assert after < before
    loaded.fit(data(IDS), y, epochs=1, verbose=0)
    model.fit(data(IDS), y, epochs=1, verbose=0)
    np.testing.assert_array_equal(loaded(data(IDS)), model(data(IDS)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .'pooled_dense")
def test_bert_tasks_learn_and_lie_in_files(tmp_path: Path) -> None:
    x = bert_data(IDS)
    masked = {**x, "mask_positions": np.array([[0, 3], [2, 2], [9, 1]])}
    tokens = np.take_along_axis(IDS, masked["mask_positions"], 1)
    for make, inputs, y in (
        (lambda: BertMaskedLM(bert()), masked, tokens),
        (lambda: BertTextClassifier(bert(), 3), x, np.array([0, 2, 1])),
    ):
        model, losses = trained(make, inputs, y)
        assert losses[-1] < losses[0]
        model.save(tmp_path / "m.hmill")
        loaded = handmill.models.load_model(tmp_path / "m.hmill")
        assert type(loaded) is type(model)
        np.testing.assert_array_equal(loaded(inputs), model(inputs))
        loaded.fit(inputs, y, verbose=0)


def test_padding_changes_nothing() -> None:
    """More padding changes no vector of a token, and neither loss nor gradient."""
    ids = np.concatenate((IDS[:, :6], np.zeros((3, 2), int)), 1)
    mask = np.repeat([[1] * 6 + [0] * 2], 3, 0)
    for make, more in ((bert, bert_data(ids)), (lambda: gpt2().backbone, data(ids))):
        model = make()
        short = {name: value[:, :6] for name, value in more.items()}
        a, b = model(short), model({**more, "padding_mask": mask})
        if isinstance(a, dict):
            a, b = a["sequence_output"], b["sequence_output"]
        np.testing.assert_allclose(a, b[:, :6], rtol=0, atol=1e-6)


def test_one_trace_for_all_lengths() -> None:
    model = gpt2()
    model.compile()
    rows = [model.predict(data(IDS[:, :n]), verbose=0) for n in (10, 3, 7)]
    for n, found in zip((10, 3, 7), rows, strict=True):
        np.testing.assert_allclose(found, rows[0][:, :n], rtol=0, atol=1e-6)
    assert len(model._predictors) == 1


@pytest.mark.slow
@pytest.mark.skipif(not config.has_kernels(), reason="threads are those of the kernels")
def test_bits_do_not_depend_on_threads() -> None:
    y = np.roll(IDS, -1, 1)
    x = bert_data(IDS)
    before = config.num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            bits = []
            for make, inputs, targets in (
                (lambda: gpt2(0.1), data(IDS), y),
                (lambda: llama(0.1), data(IDS), y),
                (lambda: BertTextClassifier(bert(0.1), 3), x, np.array([0, 2, 1])),
            ):
                model, _ = trained(make, inputs, targets)
                bits += [w.numpy().tobytes() for w in model.weights]
                bits.append(model(inputs).tobytes())
            found.append(bits)
    finally:
        config.set_num_threads(before)
    assert all(bits == found[0] for bits in found)


@pytest.mark.slow
def test_numpy_computes_the_same() -> None:
    """Every operator of three training steps is within its bound of plain NumPy."""
    y = np.roll(IDS, -1, 1)
    cases = (
        (gpt2(0.1), data(IDS), y),
        (BertTextClassifier(bert(0.1), 3), bert_data(IDS), np.array([0, 2, 1])),
    )
    for model, x, targets in cases:
        model.compile(handmill.optimizers.AdamW(0.01))
        for _ in range(3):
            handmill.compare(model, x, targets).raise_if_failed()
            model.fit(x, targets, verbose=0)


def test_bad_tokens_and_lengths() -> None:
    model = gpt2()
    model.compile()
    weights = [w.numpy() for w in model.weights]
    for wrong in (20, -1):
        ids = IDS.copy()
        ids[1, 4] = wrong
        with pytest.raises(ValueError, match=str(wrong)):
            model.fit(data(ids), np.roll(IDS, -1, 1), verbose=0)
    long = np.zeros((2, 13), int)
    with pytest.raises(ValueError, match="13"):
        model(data(long))
    with pytest.raises(ValueError, match="12"):
        model.call_with_cache(IDS[:, :1], model.make_cache(3, 14), 12)
    for a, b in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    masked = BertMaskedLM(bert())
    places = np.array([[0, 9], [1, 2], [3, 4]])
    assert np.isfinite(
        masked.predict({**bert_data(IDS), "mask_positions": places}, verbose=0)
    ).all()
    for wrong, far in ((12, 3), (-2, 2)):
        places[1, 1] = wrong
        with pytest.raises(ValueError, match=f"distance of a place from the sequence {far}"):
            masked.predict({**bert_data(IDS), "mask_positions": places}, verbose=0)


@pytest.mark.slow
def test_lora_trains_two_small_tables(tmp_path: Path) -> None:
    y = np.roll(IDS, -1, 1)
    for make in MAKERS.values():
        model = make()
        whole = model(data(IDS))
        model.backbone.enable_lora(2)
        np.testing.assert_array_equal(model(data(IDS)), whole)
        names = {w.path.rsplit("/", 1)[-1] for w in model.trainable_weights}
        assert names == {"lora_kernel_a", "lora_kernel_b"}
        assert len(model.trainable_weights) == 8
        frozen = {w.path: w.numpy() for w in model.non_trainable_weights}
        model.compile(handmill.optimizers.Adam(0.05))
        losses = model.fit(data(IDS), y, epochs=5, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        for w in model.non_trainable_weights:
            np.testing.assert_array_equal(w.numpy(), frozen[w.path])
        # The optimizer holds slots for the small tables alone.
        small = sum(w.size for w in model.trainable_weights)
        assert sum(v.size for v in model.optimizer.variables) < 2 * small + 10
        path = tmp_path / "m.lora.safetensors"
        model.backbone.save_lora_weights(path)
        assert path.stat().st_size < 4 * small + 1500
        other = make()
        other.backbone.load_lora_weights(path)
        np.testing.assert_array_equal(other(data(IDS)), model(data(IDS)))
        with pytest.raises(ValueError, match="on already"):
            model.backbone.enable_lora(2)
        model.save(tmp_path / "m.hmill")
        loaded = handmill.models.load_model(tmp_path / "m.hmill")
        np.testing.assert_allclose(loaded(data(IDS)), model(data(IDS)), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="lora-enabled"):
        make().backbone.save_lora_weights(path)
    with pytest.raises(ValueError, match=r"must end in `\.lora\.safetensors`"):
        model.backbone.save_lora_weights(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="does not fit"):
        gpt2().backbone.load_lora_weights(path)


@pytest.mark.slow
@pytest.mark.skipif(not config.has_kernels(), reason="profiles kernels")
def test_the_table_of_tokens_is_never_turned() -> None:
    """The head multiplies with it as it lies; its two gradients become one in the product."""
    model = gpt2()
    model.compile()
    lines = str(model.profile(data(IDS), np.roll(IDS, -1, 1), batch_size=3)).splitlines()
    of_table = [line for line in lines if line.endswith("token_embedding")]
    assert any(" matmul " in line for line in of_table)
    assert not [line for line in of_table if "strided_copy" in line]


@pytest.mark.slow
def test_dtypes(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes", reason="no ml_dtypes")
    model = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, 0.0, 12, dtype="mixed_bfloat16"))
    assert {w.dtype for w in model.weights} == {"float32"}
    cache = model.make_cache(3, 12)
    assert cache[0][0].dtype.name == "bfloat16"
    logits = model.call_with_cache(IDS, cache, 0)[0]
    wide = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, 0.0, 12))
    wide.set_weights(model.get_weights())
    np.testing.assert_allclose(np.asarray(logits, "float32"), wide(data(IDS)), atol=2e-2)
    model.compile()
    model.fit(data(IDS), np.roll(IDS, -1, 1), verbose=0)
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    assert loaded.backbone.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(loaded(data(IDS)), model(data(IDS)))


def test_scores() -> None:
    y = np.roll(IDS, -1, 1)
    for make in MAKERS.values():
        model = make()
        logits = model(data(IDS))
        seen = []

        def note(x: Any, number: int, seen: list[Any] = seen) -> Any:
            seen.append((number, x.shape))
            return x

        found = model.score(IDS, layer_intercept_fn=note)
        np.testing.assert_allclose(found, logits, rtol=0, atol=1e-6)
        assert seen == [(n, (3, 10, 8)) for n in (-1, 0, 1)]
        logits = np.asarray(logits, "float64")
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        want = -np.take_along_axis(logits, y[..., None], 2)[..., 0]
        losses = model.score(IDS, scoring_mode="loss", target_ids=y)
        np.testing.assert_allclose(losses, want, rtol=1e-5)
        with pytest.raises(ValueError, match="pass `target_ids`"):
            model.score(IDS, scoring_mode="loss")
        with pytest.raises(ValueError, match="'logits' or 'loss'"):
            model.score(IDS, scoring_mode="points")


@pytest.mark.parametrize("name", ("gpt2", "llama", "bert"))
def test_clones(name: str) -> None:
    """As in Keras, a model that says itself what it is made of is made anew of that."""
    model = {**MAKERS, "bert": bert}[name]()
    x = bert_data(IDS) if name == "bert" else data(IDS)
    copy = handmill.models.clone_model(model)
    assert type(copy) is type(model)
    copy.set_weights(model.get_weights())
    for a, b in zip(*(handmill.tree.flatten(m(x)) for m in (model, copy)), strict=True):
        np.testing.assert_array_equal(a, b)
    made = handmill.models.clone_model(model, clone_function=lambda y: y)  # of its layers
    assert all(a is b for a, b in zip(model.weights, made.weights, strict=True))


@pytest.mark.parametrize(
    ("make", "text"),
    (
        (lambda: GPT2Backbone(20, -1, 2, 8, 16), "num_layers must be a whole number of 0 or more"),
        (lambda: LlamaBackbone(20, 1, 4, 8, 16, 0), "num_key_value_heads=0"),
        (lambda: LlamaBackbone(20, 1, 0, 8, 16, 1), "num_query_heads=0"),
        (lambda: LlamaBackbone(20, 1, 2, 8, 16, 1, rope_max_wavelength=0), "max_wavelength"),
        (lambda: LlamaBackbone(20, 1, 2, 8, 16, 1, 1e4, float("nan")), "scaling_factor"),
        (lambda: GPT2CausalLM(bert()), "GPT2CausalLM cannot stand on .*no layer_norm"),
        (lambda: BertTextClassifier(gpt2().backbone, 2), "cannot stand on .*no pooled_dense"),
        (lambda: BertMaskedLM(gpt2().backbone), "BertMaskedLM cannot stand on .*no pooled_dense"),
    ),
)
def test_arguments_that_make_no_model(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
