"""BERT: a transformer that reads a whole text (Devlin et al., 2019)."""

from __future__ import annotations

from typing import Any

from handmill import activations, initializers, losses, metrics, optimizers
from handmill.hub.layers.activations import gelu_approximate
from handmill.hub.layers.masked_lm_head import MaskedLMHead
from handmill.hub.layers.position_embedding import PositionEmbedding
from handmill.hub.layers.transformer_encoder import TransformerEncoder
from handmill.hub.models.backbone import Backbone, block_weights, check_size
from handmill.hub.models.task import MaskedLM, TextClassifier, check_backbone
from handmill.layers.core.dense import Dense
from handmill.layers.core.embedding import Embedding
from handmill.layers.core.input_layer import Input
from handmill.layers.core.reversible_embedding import ReversibleEmbedding
from handmill.layers.merging.merge import Add
from handmill.layers.normalization.layer_normalization import LayerNormalization
from handmill.layers.regularization.dropout import Dropout


def _initial() -> Any:
    return initializers.TruncatedNormal(stddev=0.02)


def _weights(
    vocabulary_size: int,
    num_layers: int,
    hidden_dim: int,
    intermediate_dim: int,
    max_sequence_length: int,
    num_segments: int,
) -> int:
    """How many weights the blocks of these sizes have."""
    around = vocabulary_size + max_sequence_length + num_segments + hidden_dim + 3
    return num_layers * block_weights(hidden_dim, intermediate_dim) + around * hidden_dim


class BertBackbone(Backbone):
    """The blocks of BERT: tokens (B, T) -> vectors (B, T, C), and one vector (B, C) for the text.

    Called, it gives a dict of ``sequence_output`` and ``pooled_output``, which is made of the
    first token by a dense layer with tanh.

    Args:
        vocabulary_size: how many tokens there are.
        num_layers: how many blocks.
        num_heads: heads of the attention in each.
        hidden_dim: the width C.
        intermediate_dim: the width between the dense layers of a block.
        dropout: the share of numbers that training leaves out.
        max_sequence_length: how many places there are.
        num_segments: how many kinds of segments.
        dtype: of all layers.
        layer_norm_epsilon: added to variances. Not an argument of KerasHub.
        activation: between the dense layers; default: GELU by its tanh formula, as in Google's
            code. Not an argument of KerasHub.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import BertBackbone
        >>> model = BertBackbone(20, 1, 2, 8, 16, max_sequence_length=12)
        >>> ids = np.array([[3, 1, 4]])
        >>> x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
        >>> {name: y.shape for name, y in model(x).items()}
        {'sequence_output': (1, 3, 8), 'pooled_output': (1, 8)}
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        dtype: Any = None,
        *,
        layer_norm_epsilon: float = 1e-12,
        activation: Any = gelu_approximate,
        **kwargs: Any,
    ) -> None:
        check_size(
            type(self).__name__,
            dtype,
            _weights,
            vocabulary_size=vocabulary_size,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            max_sequence_length=max_sequence_length,
            num_segments=num_segments,
        )
        token_embedding = ReversibleEmbedding(
            vocabulary_size,
            hidden_dim,
            embeddings_initializer=_initial(),
            dtype=dtype,
            name="token_embedding",
        )
        position_embedding = PositionEmbedding(
            max_sequence_length, initializer=_initial(), dtype=dtype, name="position_embedding"
        )
        segment_embedding = Embedding(
            num_segments,
            hidden_dim,
            embeddings_initializer=_initial(),
            dtype=dtype,
            name="segment_embedding",
        )
        embeddings_add = Add(dtype=dtype, name="embeddings_add")
        embeddings_layer_norm = LayerNormalization(
            epsilon=layer_norm_epsilon, dtype=dtype, name="embeddings_layer_norm"
        )
        embeddings_dropout = Dropout(dropout, dtype=dtype, name="embeddings_dropout")
        transformer_layers = [
            TransformerEncoder(
                intermediate_dim,
                num_heads,
                dropout=dropout,
                activation=activation,
                layer_norm_epsilon=layer_norm_epsilon,
                kernel_initializer=_initial(),
                dtype=dtype,
                name=f"transformer_layer_{i}",
            )
            for i in range(num_layers)
        ]
        pooled_dense = Dense(
            hidden_dim, "tanh", kernel_initializer=_initial(), dtype=dtype, name="pooled_dense"
        )
        inputs = {
            name: Input((None,), dtype="int32", name=name)
            for name in ("token_ids", "segment_ids", "padding_mask")
        }
        tokens = token_embedding(inputs["token_ids"])
        segments = segment_embedding(inputs["segment_ids"])
        x = embeddings_add((tokens, position_embedding(tokens), segments))
        x = embeddings_dropout(embeddings_layer_norm(x))
        for layer in transformer_layers:
            x = layer(x, padding_mask=inputs["padding_mask"])
        outputs = {"sequence_output": x, "pooled_output": pooled_dense(x[:, 0, :])}
        super().__init__(inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)
        self.token_embedding = token_embedding
        self.position_embedding = position_embedding
        self.segment_embedding = segment_embedding
        self.embeddings_add = embeddings_add
        self.embeddings_layer_norm = embeddings_layer_norm
        self.embeddings_dropout = embeddings_dropout
        self.transformer_layers = transformer_layers
        self.pooled_dense = pooled_dense
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.max_sequence_length = max_sequence_length
        self.num_segments = num_segments
        self.layer_norm_epsilon = layer_norm_epsilon
        self.activation = activations.get(activation)
        self.cls_token_index = 0


_VOCABULARY = (frozenset({"vocab.txt"}), frozenset({"tokenizer.json"}))


class BertMaskedLM(MaskedLM):
    """BERT with logits of the tokens that were masked: (B, T) and places (B, M) -> (B, M, V).

    Args:
        backbone: a :class:`BertBackbone`.
        preprocessor: what turns strings into tokens and masks some, or None.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import BertBackbone, BertMaskedLM
        >>> model = BertMaskedLM(BertBackbone(20, 1, 2, 8, 16, max_sequence_length=12))
        >>> ids = np.array([[3, 1, 4]])
        >>> x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
        >>> model({**x, "mask_positions": np.array([[1]])}).shape
        (1, 1, 20)
    """

    _preprocessor_name = "BertMaskedLMPreprocessor"
    _vocabulary_files = _VOCABULARY

    def __init__(self, backbone: BertBackbone, preprocessor: Any = None, **kwargs: Any) -> None:
        check_backbone(type(self).__name__, backbone, "token_embedding", "pooled_dense")
        head = MaskedLMHead(
            token_embedding=backbone.token_embedding,
            intermediate_activation=backbone.activation,
            layer_norm_epsilon=backbone.layer_norm_epsilon,
            kernel_initializer=_initial(),
            dtype=backbone.dtype_policy,
            name="mlm_head",
        )
        places = Input((None,), dtype="int32", name="mask_positions")
        outputs = head(backbone(backbone.input)["sequence_output"], places)
        inputs = {**backbone.input, "mask_positions": places}
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = head

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        weighted_metrics: Any = "auto",
        **kwargs: Any,
    ) -> None:
        """Chooses how the model is trained.

        Args:
            optimizer: "auto" is Adam with a step of 5e-5.
            loss: "auto" is the cross-entropy of the masked tokens.
            weighted_metrics: "auto" is the share of tokens that are guessed.
            **kwargs: other arguments of ``Model.compile``.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = optimizers.Adam(5e-5)
        if isinstance(loss, str) and loss == "auto":
            loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = [metrics.SparseCategoricalAccuracy()]
        super().compile(optimizer, loss, weighted_metrics=weighted_metrics, **kwargs)


class BertTextClassifier(TextClassifier):
    """BERT with scores of classes for each text: tokens (B, T) -> (B, classes).

    Args:
        backbone: a :class:`BertBackbone`.
        num_classes: how many classes there are.
        preprocessor: what turns strings into tokens, or None.
        activation: of the scores; None gives logits.
        dropout: the share of numbers before the last layer that training leaves out.
        **kwargs: those of a model, such as ``name``.

    Example:
        >>> import numpy as np
        >>> from handmill.hub.models import BertBackbone, BertTextClassifier
        >>> model = BertTextClassifier(BertBackbone(20, 1, 2, 8, 16, max_sequence_length=12), 3)
        >>> ids = np.array([[3, 1, 4]])
        >>> x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
        >>> model(x).shape
        (1, 3)
    """

    _preprocessor_name = "BertTextClassifierPreprocessor"
    _vocabulary_files = _VOCABULARY

    def __init__(
        self,
        backbone: BertBackbone,
        num_classes: int,
        preprocessor: Any = None,
        activation: Any = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        check_backbone(type(self).__name__, backbone, "token_embedding", "pooled_dense")
        output_dropout = Dropout(dropout, dtype=backbone.dtype_policy, name="classifier_dropout")
        output_dense = Dense(
            num_classes,
            activation,
            kernel_initializer=_initial(),
            dtype=backbone.dtype_policy,
            name="logits",
        )
        inputs = backbone.input
        outputs = output_dense(output_dropout(backbone(inputs)["pooled_output"]))
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.output_dropout = output_dropout
        self.output_dense = output_dense
        self.num_classes = num_classes
        self.activation = activations.get(activation)
        self.dropout = dropout

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        metrics: Any = "auto",
        **kwargs: Any,
    ) -> None:
        """Chooses how the model is trained.

        Args:
            optimizer: "auto" is Adam with a step of 5e-5.
            loss: "auto" is the cross-entropy of the classes.
            metrics: "auto" is the share of texts whose class is guessed.
            **kwargs: other arguments of ``Model.compile``.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = optimizers.Adam(5e-5)
        if isinstance(loss, str) and loss == "auto":
            from_logits = self.activation is activations.get(None)
            loss = losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = ["sparse_categorical_accuracy"]
        super().compile(optimizer, loss, metrics=metrics, **kwargs)
