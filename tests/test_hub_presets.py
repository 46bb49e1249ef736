"""Models from folders of Hugging Face's libraries: every variant, a numeric answer, every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hub_folders as folders
from handmill.errors import FileFormatError
from handmill.hub.models import (
    Backbone,
    BertBackbone,
    BertMaskedLM,
    BertTextClassifier,
    CausalLM,
    GPT2Backbone,
    GPT2CausalLM,
    LlamaCausalLM,
)
from handmill.saving.model_file import read_tensors

RNG = np.random.default_rng(1)
IDS = RNG.integers(0, 11, (3, 7))
MASK = np.array([[1] * 7, [1] * 5 + [0] * 2, [1] * 2 + [0] * 5])
SEGMENTS = (np.arange(7) > 3).astype("int32") * np.ones_like(IDS)
X = {"token_ids": IDS, "padding_mask": MASK}


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found[MASK == 1], expected[MASK == 1], rtol=0, atol=2e-6)


def gpt2(**more: tuple[int, ...]) -> folders.Tensors:
    return folders.drawn({**folders.shapes("gpt2"), **more})


# What a folder of GPT-2 may look like: settings, tensors in the file, tensors of the formula.
def plain() -> Any:
    t = gpt2()
    return folders.GPT2, t, t


def with_prefix() -> Any:
    t = gpt2()
    return folders.GPT2, folders.prefixed(t, "transformer."), t


def with_buffers() -> Any:
    t = gpt2()
    buffers = {f"h.{i}.attn.bias": np.tri(12, dtype="float32")[None, None] for i in range(2)}
    buffers |= {f"h.{i}.attn.masked_bias": np.float32(-1e4).reshape(()) for i in range(2)}
    return folders.GPT2, {**t, **buffers}, t


def with_the_head_again() -> Any:
    t = gpt2()
    return (
        folders.GPT2,
        {**folders.prefixed(t, "transformer."), "lm_head.weight": t["wte.weight"]},
        t,
    )


def untied_by_the_file() -> Any:
    t = gpt2()
    head = folders.drawn({"lm_head.weight": (11, 8)}, seed=5)
    return folders.GPT2, {**folders.prefixed(t, "transformer."), **head}, {**t, **head}


def untied_by_the_config() -> Any:
    config, tensors, t = untied_by_the_file()
    return {**config, "tie_word_embeddings": False}, tensors, t


def halves() -> Any:
    t = {name: a.astype("float16") for name, a in gpt2().items()}
    return {**folders.GPT2, "torch_dtype": "float16"}, t, t


VARIANTS: dict[str, Callable[[], Any]] = {
    f.__name__: f
    for f in (
        plain, with_prefix, with_buffers, with_the_head_again, untied_by_the_file,
        untied_by_the_config, halves,
    )
}  # fmt: skip


@pytest.mark.slow
def test_variants_of_gpt2(tmp_path: Path) -> None:
    for name, make in VARIANTS.items():
        config, tensors, formula = make()
        for shards in (1, 3):
            folder = folders.write(tmp_path / f"{name}{shards}", config, tensors, shards)
            model = GPT2CausalLM.from_preset(folder)
            close(model(X), folders.gpt2(formula, IDS, MASK))
            assert model.backbone.tie_word_embeddings == ("untied" not in name)


def test_bert(tmp_path: Path) -> None:
    t = folders.drawn(folders.shapes("bert"))
    # As files of older versions spell it.
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): a
        for n, a in t.items()
    }
    old["embeddings.position_ids"] = np.arange(12)[None]
    x = {**X, "segment_ids": SEGMENTS}
    expected = folders.bert(t, IDS, MASK, SEGMENTS)
    for n, tensors in enumerate((t, folders.prefixed(old, "bert."))):
        folder = folders.write(tmp_path / str(n), folders.BERT, tensors)
        found = BertBackbone.from_preset(folder)(x)
        close(found["sequence_output"], expected[0])
        np.testing.assert_allclose(found["pooled_output"], expected[1], rtol=0, atol=2e-6)


def test_llama(tmp_path: Path) -> None:
    t = folders.drawn(folders.shapes("llama"))
    head = folders.drawn({"lm_head.weight": (11, 16)}, seed=5)
    tied = {**folders.LLAMA, "tie_word_embeddings": True}
    for n, (config, tensors, formula) in enumerate(
        ((tied, t, t), (folders.LLAMA, {**folders.prefixed(t, "model."), **head}, {**t, **head}))
    ):
        folder = folders.write(tmp_path / str(n), config, tensors)
        close(LlamaCausalLM.from_preset(folder)(X), folders.llama(formula, IDS, MASK))


@pytest.mark.slow
def test_a_task_takes_its_head_or_begins_with_a_new_one(tmp_path: Path) -> None:
    t = folders.prefixed(folders.drawn(folders.shapes("bert")), "bert.")
    head = folders.drawn({"classifier.weight": (3, 8), "classifier.bias": (3,)})
    config = {**folders.BERT, "id2label": {"0": "a", "1": "b", "2": "c"}}
    folder = folders.write(tmp_path / "a", config, {**t, **head})
    x = {**X, "segment_ids": SEGMENTS}
    model = BertTextClassifier.from_preset(folder)
    pooled = model.backbone(x)["pooled_output"]
    expected = pooled @ head["classifier.weight"].T + head["classifier.bias"]
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match="does not hold cls.predictions.bias"):
        masked = BertMaskedLM.from_preset(folder)
    places = {**x, "mask_positions": np.array([[0, 2]] * 3)}
    assert masked(places).shape == (3, 2, 11)
    del head["classifier.bias"]
    folders.write(tmp_path / "a", config, {**t, **head})
    with pytest.raises(ValueError, match=r"classifier\.bias is missing, expected shape \(3,\)"):
        BertTextClassifier.from_preset(folder)


@pytest.mark.slow
def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    masked = {f"cls.predictions.transform.{n}": s for n, s in (
        ("dense.weight", (8, 8)), ("dense.bias", (8,)), ("LayerNorm.weight", (8,)),
        ("LayerNorm.bias", (8,)),
    )}  # fmt: skip
    masked["cls.predictions.bias"] = (11,)
    bert = {n: s for n, s in folders.shapes("bert").items() if not n.startswith("pooler.")}
    cases = (
        (GPT2CausalLM, "gpt2", folders.prefixed(gpt2(), "transformer.")),
        (GPT2Backbone, "gpt2", gpt2()),
        (BertBackbone, "bert", folders.drawn(folders.shapes("bert"))),
        (
            BertMaskedLM,
            "bert",
            {**folders.prefixed(folders.drawn(bert), "bert."), **folders.drawn(masked)},
        ),
        (
            LlamaCausalLM,
            "llama",
            {
                **folders.prefixed(folders.drawn(folders.shapes("llama")), "model."),
                **folders.drawn({"lm_head.weight": (11, 16)}),
            },
        ),
    )
    for n, (cls, family, tensors) in enumerate(cases):
        folder = folders.write(tmp_path / f"a{n}", folders.CONFIGS[family], tensors)
        model = cls.from_preset(folder)
        model.save_to_preset(tmp_path / f"b{n}")
        found = read_tensors(tmp_path / f"b{n}" / "model.safetensors")
        assert found.keys() == tensors.keys()
        for name, array in tensors.items():
            assert found[name].tobytes() == array.tobytes(), name
        config = json.loads((tmp_path / f"b{n}" / "config.json").read_text())
        same = {k: v for k, v in folders.CONFIGS[family].items() if k in config and v is not None}
        assert {k: config[k] for k in same} == same
        again = cls.from_preset(tmp_path / f"b{n}")
        for a, b in zip(model.weights, again.weights, strict=True):
            if cls is not BertMaskedLM or not a.path.startswith("pooled_dense"):  # it has none
                np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_family_chooses_the_class(tmp_path: Path) -> None:
    folder = folders.write(tmp_path / "a", folders.GPT2, gpt2())
    assert type(CausalLM.from_preset(folder)) is GPT2CausalLM
    assert type(Backbone.from_preset(folder)) is GPT2Backbone
    with pytest.raises(ValueError, match="read by GPT2Backbone, GPT2CausalLM"):
        BertBackbone.from_preset(folder)
    model = GPT2CausalLM.from_preset(folder, dropout=0.25, name="mine", load_weights=False)
    assert (model.backbone.dropout, model.name) == (0.25, "mine")
    with pytest.raises(TypeError, match="unexpected arguments \\['heads'\\]"):
        GPT2CausalLM.from_preset(folder, heads=3)


def test_all_faults_at_once(tmp_path: Path) -> None:
    t = gpt2()
    del t["h.1.ln_2.bias"]
    t["h.0.mlp.c_fc.weight"] = t["h.0.mlp.c_fc.weight"].T.copy()
    t["wpe.weight"] = t["wpe.weight"][:5]
    t["h.7.ln_1.bias"] = t["ln_f.bias"]
    t["ln_f.bias"] = np.arange(8)
    folder = folders.write(tmp_path / "a", folders.GPT2, t)
    with pytest.raises(ValueError, match="does not fit") as caught:
        GPT2Backbone.from_preset(folder)
    for text in (
        "5 of its tensors",
        "h.1.ln_2.bias is missing, expected shape (8,)",
        "h.0.mlp.c_fc.weight has shape (32, 8), not (8, 32); it looks transposed",
        "wpe.weight has shape (5, 8), not (12, 8)",
        "ln_f.bias holds int64, not floats",
        "h.7.ln_1.bias is left over, with shape (8,)",
    ):
        assert text in str(caught.value)
    # One name without the prefix that all others have.
    mixed = {**folders.prefixed(gpt2(), "transformer."), "ln_f.bias": np.zeros(8, "float32")}
    del mixed["transformer.ln_f.bias"]
    folders.write(tmp_path / "a", folders.GPT2, mixed)
    with pytest.raises(ValueError, match=r"ln_f\.bias is missing.*\n.*ln_f\.bias is left over"):
        GPT2Backbone.from_preset(folder)


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "family": ({"model_type": "t5"}, "models of the type 't5' are not known"),
    "activation": ({"activation_function": "mish2"}, "'mish2' is no activation that is known"),
    "flag": ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    "unknown": ({"use_parallel_residual": True}, "use_parallel_residual"),
    "rates": ({"attn_pdrop": 0.5}, "pass `dropout=...`"),
    "size": ({"n_embd": "8"}, "'n_embd' must be a positive integer"),
    "negative": ({"n_layer": -1}, "'n_layer' must be a positive integer"),
    "heads": ({"n_head": 3}, "3 heads cannot share"),
    "huge": ({"vocab_size": 1 << 40}, "memory|bytes|MB|GB"),
    "more_layers": ({"n_layer": 3}, "h.2.attn.c_attn.bias is missing"),
    "fewer_layers": ({"n_layer": 1}, "h.1.attn.c_attn.bias is left over"),
}


def test_bad_settings(tmp_path: Path) -> None:
    for name, (entry, text) in BAD_SETTINGS.items():
        folder = folders.write(tmp_path / name, {**folders.GPT2, **entry}, gpt2())
        with pytest.raises((ValueError, MemoryError), match=text):
            GPT2CausalLM.from_preset(folder)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="handmill downloads nothing"):
        GPT2CausalLM.from_preset("gpt2_base_en")
    with pytest.raises(TypeError, match="must be the path"):
        GPT2CausalLM.from_preset(3)
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        GPT2CausalLM.from_preset(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(FileFormatError, match="holds no dictionary"):
        GPT2CausalLM.from_preset(folder)
    (folder / "config.json").write_text(json.dumps(folders.GPT2))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin: save that model"):
        GPT2CausalLM.from_preset(folder)
    folders.write(folder, folders.GPT2, gpt2())
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])
    with pytest.raises(FileFormatError, match="damaged"):
        GPT2CausalLM.from_preset(folder)


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    folders.write(tmp_path / "outside", folders.GPT2, gpt2())
    folder = folders.write(tmp_path / "a", folders.GPT2, gpt2(), shards=2)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    names = sorted(good["weight_map"])
    for bad in ("../outside/model.safetensors", "/etc/passwd", "x.bin", 3, "..", "a/b.safetensors"):
        index.write_text(json.dumps({"weight_map": {**good["weight_map"], names[0]: bad}}))
        with pytest.raises(FileFormatError, match="shards lie beside their index"):
            GPT2CausalLM.from_preset(folder)
    swapped = dict(good["weight_map"])
    other = next(n for n in names if swapped[n] != swapped[names[0]])
    swapped[names[0]] = swapped[other]
    index.write_text(json.dumps({"weight_map": swapped}))
    with pytest.raises(FileFormatError, match="does not fit its shards"):
        GPT2CausalLM.from_preset(folder)


def test_lora_is_written_as_the_sum(tmp_path: Path) -> None:
    folder = folders.write(tmp_path / "a", folders.GPT2, gpt2())
    model = GPT2CausalLM.from_preset(folder)
    model.backbone.enable_lora(2)
    for variable in model.trainable_weights:
        variable.assign(RNG.normal(0, 0.3, variable.shape))
    model.save_to_preset(tmp_path / "b")
    np.testing.assert_allclose(
        GPT2CausalLM.from_preset(tmp_path / "b")(X), model(X), rtol=0, atol=2e-6
    )
