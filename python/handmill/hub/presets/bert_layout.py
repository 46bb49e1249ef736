"""BERT as transformers writes it. Matrices of torch are (out, in)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handmill.hub.presets.layout import Layout, Part, Task, dense, norm, table
from handmill.hub.presets.settings import Settings, activation_name


def _arguments(settings: Settings, given: frozenset[str]) -> dict[str, Any]:
    settings.refuse(
        position_embedding_type="absolute",
        is_decoder=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    return {
        "vocabulary_size": settings.size("vocab_size"),
        "num_layers": settings.size("num_hidden_layers"),
        "num_heads": settings.size("num_attention_heads"),
        "hidden_dim": settings.size("hidden_size"),
        "intermediate_dim": settings.size("intermediate_size"),
        "dropout": settings.one_dropout(
            "dropout" in given, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
        ),
        "max_sequence_length": settings.size("max_position_embeddings", 512),
        "num_segments": settings.size("type_vocab_size", 2),
        "layer_norm_epsilon": settings.number("layer_norm_eps", 1e-12),
        "activation": settings.activation("hidden_act", "gelu"),
    }


def _settings(backbone: Any) -> dict[str, Any]:
    return {
        "vocab_size": backbone.vocabulary_size,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.dropout,
        "max_position_embeddings": backbone.max_sequence_length,
        "type_vocab_size": backbone.num_segments,
        "layer_norm_eps": backbone.layer_norm_epsilon,
        "hidden_act": activation_name(backbone.activation),
    }


def _parts(backbone: Any) -> Iterator[Part]:
    yield table("embeddings.word_embeddings.weight", backbone.token_embedding._table)
    places = backbone.position_embedding.position_embeddings
    yield table("embeddings.position_embeddings.weight", places)
    yield table("embeddings.token_type_embeddings.weight", backbone.segment_embedding._table)
    yield from norm("embeddings.LayerNorm", backbone.embeddings_layer_norm)
    for i, layer in enumerate(backbone.transformer_layers):
        name, attention = f"encoder.layer.{i}", layer._self_attention_layer
        for role in ("query", "key", "value"):
            own = getattr(attention, f"_{role}_dense")
            yield from dense(f"{name}.attention.self.{role}", own, transposed=True)
        yield from dense(f"{name}.attention.output.dense", attention._output_dense, transposed=True)
        yield from norm(f"{name}.attention.output.LayerNorm", layer._self_attention_layer_norm)
        first, second = layer._feedforward_intermediate_dense, layer._feedforward_output_dense
        yield from dense(f"{name}.intermediate.dense", first, transposed=True)
        yield from dense(f"{name}.output.dense", second, transposed=True)
        yield from norm(f"{name}.output.LayerNorm", layer._feedforward_layer_norm)
    yield from dense("pooler.dense", backbone.pooled_dense, transposed=True)


def _masked_head(model: Any) -> Iterator[Part]:
    head = model.masked_lm_head
    transform = "cls.predictions.transform"
    yield from dense(f"{transform}.dense", head._intermediate_dense, transposed=True)
    yield from norm(f"{transform}.LayerNorm", head._intermediate_layer_norm)
    yield Part("cls.predictions.bias", (head._bias,))


def _classifier(model: Any) -> Iterator[Part]:
    yield from dense("classifier", model.output_dense, transposed=True)


def _classes(settings: Settings) -> dict[str, Any]:
    labels = settings.get("id2label")
    count = len(labels) if isinstance(labels, dict) else settings.get("num_labels", 2)
    return {"num_classes": count}


def _labels(model: Any) -> dict[str, Any]:
    names = [f"LABEL_{i}" for i in range(model.num_classes)]
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


LAYOUT = Layout(
    model_type="bert",
    architecture="BertModel",
    backbone="BertBackbone",
    prefix="bert.",
    heads=("cls.", "classifier."),
    # The decoder is the table of vectors again, and its bias that of the head.
    ignored=re.compile(
        r"embeddings\.position_ids|cls\.predictions\.decoder\.(weight|bias)|cls\.seq_relationship\..*"
    ),
    arguments=_arguments,
    settings=_settings,
    parts=_parts,
    tasks={
        "BertMaskedLM": Task("BertForMaskedLM", _masked_head, lacks=("pooler.",)),
        "BertTextClassifier": Task(
            "BertForSequenceClassification", _classifier, arguments=_classes, settings=_labels
        ),
    },
    embedding="embeddings.word_embeddings.weight",
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    optional=("pooler.",),
)
