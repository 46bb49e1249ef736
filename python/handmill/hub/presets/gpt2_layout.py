"""GPT-2 as transformers writes it. Its Conv1D stores matrices as (in, out)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handmill.hub.presets.layout import (
    Layout,
    Part,
    Task,
    dense,
    norm,
    side_by_side,
    table,
    untied_head,
)
from handmill.hub.presets.settings import Settings, activation_name


def _arguments(settings: Settings, given: frozenset[str]) -> dict[str, Any]:
    settings.refuse(
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        reorder_and_upcast_attn=False,
        add_cross_attention=False,
    )
    width = settings.size("n_embd")
    return {
        "vocabulary_size": settings.size("vocab_size"),
        "num_layers": settings.size("n_layer"),
        "num_heads": settings.size("n_head"),
        "hidden_dim": width,
        "intermediate_dim": settings.size("n_inner", 4 * width),
        "dropout": settings.one_dropout(
            "dropout" in given, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1
        ),
        "max_sequence_length": settings.size("n_positions", 1024),
        "layer_norm_epsilon": settings.number("layer_norm_epsilon", 1e-5),
        "activation": settings.activation("activation_function", "gelu_new"),
        "tie_word_embeddings": bool(settings.get("tie_word_embeddings", True)),
    }


def _settings(backbone: Any) -> dict[str, Any]:
    dropout = backbone.dropout
    return {
        "vocab_size": backbone.vocabulary_size,
        "n_layer": backbone.num_layers,
        "n_head": backbone.num_heads,
        "n_embd": backbone.hidden_dim,
        "n_inner": backbone.intermediate_dim,
        "n_positions": backbone.max_sequence_length,
        "activation_function": activation_name(backbone.activation),
        "layer_norm_epsilon": backbone.layer_norm_epsilon,
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "tie_word_embeddings": backbone.tie_word_embeddings,
    }


def _parts(backbone: Any) -> Iterator[Part]:
    yield table("wte.weight", backbone.token_embedding._table)
    yield table("wpe.weight", backbone.position_embedding.position_embeddings)
    for i, layer in enumerate(backbone.transformer_layers):
        attention = layer._self_attention_layer
        inputs = (attention._query_dense, attention._key_dense, attention._value_dense)
        yield from norm(f"h.{i}.ln_1", layer._self_attention_layer_norm)
        yield side_by_side(f"h.{i}.attn.c_attn", inputs, transposed=False)
        yield Part(f"h.{i}.attn.c_attn.bias", [x.bias for x in inputs])
        yield from dense(f"h.{i}.attn.c_proj", attention._output_dense, transposed=False)
        yield from norm(f"h.{i}.ln_2", layer._feedforward_layer_norm)
        first, second = layer._feedforward_intermediate_dense, layer._feedforward_output_dense
        yield from dense(f"h.{i}.mlp.c_fc", first, transposed=False)
        yield from dense(f"h.{i}.mlp.c_proj", second, transposed=False)
    yield from norm("ln_f", backbone.layer_norm)


LAYOUT = Layout(
    model_type="gpt2",
    architecture="GPT2Model",
    backbone="GPT2Backbone",
    prefix="transformer.",
    heads=("lm_head.", "score."),
    ignored=re.compile(r"h\.\d+\.attn\.(masked_)?bias"),
    arguments=_arguments,
    settings=_settings,
    parts=_parts,
    tasks={"GPT2CausalLM": Task("GPT2LMHeadModel", untied_head)},
    embedding="wte.weight",
)
