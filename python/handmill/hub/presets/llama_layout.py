"""Llama as transformers writes it. Matrices of torch are (out, in)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handmill.hub.presets.layout import Layout, Part, Task, dense, table, untied_head
from handmill.hub.presets.settings import Settings, activation_name


def _arguments(settings: Settings, given: frozenset[str]) -> dict[str, Any]:
    settings.refuse(attention_bias=False, mlp_bias=False, hidden_act="silu")
    heads = settings.size("num_attention_heads")
    width = settings.size("hidden_size")
    return {
        "vocabulary_size": settings.size("vocab_size"),
        "num_layers": settings.size("num_hidden_layers"),
        "num_query_heads": heads,
        "num_key_value_heads": settings.size("num_key_value_heads", heads),
        "hidden_dim": width,
        "intermediate_dim": settings.size("intermediate_size"),
        "head_dim": settings.size("head_dim", max(1, width // heads)),
        "dropout": settings.number("attention_dropout", 0.0),
        "max_sequence_length": settings.size("max_position_embeddings", 2048),
        "layer_norm_epsilon": settings.number("rms_norm_eps", 1e-6),
        "tie_word_embeddings": bool(settings.get("tie_word_embeddings", False)),
        **_rotary(settings),
    }


def _rotary(settings: Settings) -> dict[str, Any]:
    """How positions are told; newer files say all of it in one entry."""
    old, new = settings.get("rope_scaling", {}), settings.get("rope_parameters", {})
    theta = settings.number("rope_theta", 10000.0)
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise ValueError(f"{settings.name}: 'rope_scaling' and 'rope_parameters' are dictionaries")
    inner = Settings({**old, **new}, f"{settings.name}: rope_parameters")
    kind = inner.get("rope_type", inner.get("type", "default"))
    found: dict[str, Any] = {"rope_max_wavelength": inner.number("rope_theta", theta)}
    if kind == "linear":
        found["rope_position_scaling_factor"] = inner.number("factor", 1.0)
    elif kind == "llama3":
        found |= {
            "rope_frequency_adjustment_factor": inner.number("factor", 8.0),
            "rope_low_freq_factor": inner.number("low_freq_factor", 1.0),
            "rope_high_freq_factor": inner.number("high_freq_factor", 4.0),
            "rope_pretraining_sequence_length": inner.size("original_max_position_embeddings"),
        }
    elif kind != "default":
        raise ValueError(
            f"{inner.name}: positions of the type {kind!r} are not known here: default, linear, "
            "llama3"
        )
    inner.finish()
    return found


def _settings(backbone: Any) -> dict[str, Any]:
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": float(backbone.rope_max_wavelength),
    }
    if backbone.rope_frequency_adjustment_factor is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": backbone.rope_frequency_adjustment_factor,
            "low_freq_factor": backbone.rope_low_freq_factor,
            "high_freq_factor": backbone.rope_high_freq_factor,
            "original_max_position_embeddings": backbone.rope_pretraining_sequence_length,
        }
        if backbone.rope_position_scaling_factor != 1.0:
            raise ValueError("a config.json says one way to stretch positions, not two")
    elif backbone.rope_position_scaling_factor != 1.0:
        rope |= {"rope_type": "linear", "factor": backbone.rope_position_scaling_factor}
    first = backbone.transformer_layers[0]
    return {
        "vocab_size": backbone.vocabulary_size,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_query_heads,
        "num_key_value_heads": backbone.num_key_value_heads,
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "head_dim": backbone.head_dim,
        "attention_dropout": backbone.dropout,
        "max_position_embeddings": backbone.max_sequence_length or 2048,
        "rms_norm_eps": backbone.layer_norm_epsilon,
        "hidden_act": activation_name(first.activation),
        "tie_word_embeddings": backbone.tie_word_embeddings,
        "rope_parameters": rope,
    }


def _parts(backbone: Any) -> Iterator[Part]:
    yield table("embed_tokens.weight", backbone.token_embedding._table)
    for i, layer in enumerate(backbone.transformer_layers):
        name, attention = f"layers.{i}", layer._self_attention_layer
        yield Part(f"{name}.input_layernorm.weight", (layer._self_attention_layernorm.scale,))
        for letter, role in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            own = getattr(attention, f"_{role}_dense")
            yield from dense(f"{name}.self_attn.{letter}_proj", own, transposed=True)
        yield Part(f"{name}.post_attention_layernorm.weight", (layer._feedforward_layernorm.scale,))
        for role, own in (
            ("gate", layer._feedforward_gate_dense),
            ("up", layer._feedforward_intermediate_dense),
            ("down", layer._feedforward_output_dense),
        ):
            yield from dense(f"{name}.mlp.{role}_proj", own, transposed=True)
    yield Part("norm.weight", (backbone.layer_norm.scale,))


LAYOUT = Layout(
    model_type="llama",
    architecture="LlamaModel",
    backbone="LlamaBackbone",
    prefix="model.",
    heads=("lm_head.", "score."),
    ignored=re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq|rotary_emb\.inv_freq"),
    arguments=_arguments,
    settings=_settings,
    parts=_parts,
    tasks={"LlamaCausalLM": Task("LlamaForCausalLM", untied_head)},
    embedding="embed_tokens.weight",
)
