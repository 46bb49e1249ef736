"""Models that continue a text: what the tasks of all backbones share.

What generation asks of a model, and nothing else:

- ``make_cache(batch_size, length)`` returns an empty cache: a list with one pair ``(keys, values)``
  for each layer, each an array of shape ``(B, S, K, H)`` in the compute dtype (S places, K heads of
  keys and values, H numbers a head). A list of pairs, not one tensor, so that each can be a
  variable of its own, which a program updates where it lies. ``make_cache`` gives zeros; what lies
  beyond the places written so far is never looked at.
- ``call_with_cache(token_ids, cache, start) -> (logits, hidden, cache)`` runs the model on the next
  T tokens (B, T) of each row, of which the first stands at place ``start``: an integer, a scalar
  tensor, or one place for each row (B,). It gives the logits (B, T, V), what the backbone gives
  (B, T, C), and the cache with the keys and values of these T tokens in the places from ``start``
  on. Token i looks at the places up to ``start + i``. It may be called on arrays and while a
  program is traced (the cache then are values, such as variables that were read; ``assign`` of the
  result makes them state); whatever T and S are, one trace serves them if they are symbols.
- ``max_sequence_length`` says how many places there are at most, or is None.
- ``vocabulary_size`` is V; ``preprocessor`` is what turns strings into tokens, or None.

A prompt is read by one call with T = its length and start 0; then each token by one with T = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill import losses, metrics, ops, optimizers
from handmill.hub.models.task import Task, check_backbone
from handmill.ir.op import Array
from handmill.models.compile_config import revived_compile_config
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class CausalLM(Task):
    """A model that gives logits of the next token at each place.

    Args:
        backbone: a backbone with ``token_embedding``, ``transformer_layers`` and ``layer_norm``.
        preprocessor: what turns strings into tokens, or None.
        **kwargs: those of a model, such as ``name``.
    """

    _preprocessor_name = "GPT2CausalLMPreprocessor"
    _vocabulary_files = (frozenset({"vocab.json", "merges.txt"}), frozenset({"tokenizer.json"}))

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any) -> None:
        needed = ("token_embedding", "transformer_layers", "layer_norm")
        check_backbone(type(self).__name__, backbone, *needed)
        inputs = backbone.input
        outputs = backbone.token_embedding(backbone(inputs), reverse=True)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return int(self.backbone.vocabulary_size)

    @property
    def max_sequence_length(self) -> int | None:
        """How many places the model knows at most; None for any number."""
        return getattr(self.backbone, "max_sequence_length", None)

    def cache_shapes(self, batch_size: int, length: int) -> list[tuple[int, ...]]:
        """The shape of keys, and of values, of each layer."""
        raise NotImplementedError

    def make_cache(self, batch_size: int, length: int) -> list[tuple[Array, Array]]:
        """Returns an empty cache: keys and values (B, S, K, H) of each layer.

        Args:
            batch_size: rows.
            length: places.
        """
        dtype = self.backbone.compute_dtype
        return [
            (ops.zeros(shape, dtype), ops.zeros(shape, dtype))
            for shape in self.cache_shapes(batch_size, length)
        ]

    def embed(self, token_ids: Any, start: Any) -> Any:
        """What the first block gets for tokens (B, T), the first of which stands at ``start``."""
        raise NotImplementedError

    def call_with_cache(self, token_ids: Any, cache: Any, start: Any) -> tuple[Any, Any, Any]:
        """Runs the model on the next tokens of each row.

        Args:
            token_ids: the tokens (B, T).
            cache: what :meth:`make_cache`, or the call before, gave.
            start: the place of the first of them; or one for each row (B,).

        Returns:
            Logits (B, T, V), what the backbone gives (B, T, C), the cache.
        """
        backbone = self.backbone
        x = self.embed(token_ids, start)
        made = []
        for layer, own in zip(backbone.transformer_layers, cache, strict=True):
            x, new = layer(x, self_attention_cache=own, self_attention_cache_update_index=start)
            made.append(new)
        hidden = backbone.layer_norm(x)
        return backbone.token_embedding(hidden, reverse=True), hidden, made

    def score(
        self,
        token_ids: Any,
        padding_mask: Any = None,
        scoring_mode: str = "logits",
        layer_intercept_fn: Callable[[Any, int], Any] | None = None,
        target_ids: Any = None,
    ) -> Any:
        """Logits, or losses, of each token of texts.

        Args:
            token_ids: the tokens (B, T).
            padding_mask: which of them are real (B, T); default: all.
            scoring_mode: "logits" (B, T, V), or "loss" (B, T): minus the logarithm of the
                probability of each of ``target_ids``.
            layer_intercept_fn: called with what enters the first block and -1, then with what each
                block gives and its number; what it returns goes on.
            target_ids: the token that follows each (B, T), for "loss".

        Raises:
            ValueError: for another mode, or for losses without targets.

        Example:
            >>> import numpy as np
            >>> from handmill.hub.models import GPT2Backbone, GPT2CausalLM
            >>> model = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=12))
            >>> ids = np.array([[3, 1, 4, 1]])
            >>> model.score(ids[:, :-1], scoring_mode="loss", target_ids=ids[:, 1:]).shape
            (1, 3)
        """
        if scoring_mode not in ("logits", "loss"):
            raise ValueError(
                f"`scoring_mode` must be 'logits' or 'loss'. Received: {scoring_mode!r}"
            )
        if scoring_mode == "loss" and target_ids is None:
            raise ValueError("losses are those of targets: pass `target_ids`")
        intercept = layer_intercept_fn or (lambda x, number: x)
        x = intercept(self.embed(token_ids, 0), -1)
        for number, layer in enumerate(self.backbone.transformer_layers):
            x = intercept(layer(x, decoder_padding_mask=padding_mask), number)
        logits = self.backbone.token_embedding(self.backbone.layer_norm(x), reverse=True)
        if scoring_mode == "logits":
            return logits
        return ops.sparse_categorical_crossentropy(target_ids, logits, from_logits=True)

    def generate(
        self,
        inputs: Any,
        max_length: int | None = None,
        stop_token_ids: Any = "auto",
        strip_prompt: bool = False,
        seed: int | None = None,
        callback: Callable[[int, Any], Any] | None = None,
        truncate: str | None = None,
    ) -> Any:
        """Continues texts.

        One program does it, for all positions: with the sampler that ``compile`` was given, "top_k"
        by default. Each row has the tokens that it has alone; prompts that are equal draw
        different ones.

        Args:
            inputs: a text, a list of them, tokens (T,), rows of them (of any lengths), or a dict
                with ``token_ids`` and ``padding_mask``.
            max_length: how many tokens a text has at most, with its prompt. Default: the length of
                the preprocessor, or the places of the model.
            stop_token_ids: tokens that end a text when they are generated; "auto": the end token
                of the preprocessor; None: none.
            strip_prompt: whether only what was generated is returned.
            seed: of what is drawn; default: that of the sampler.
            callback: called with a row and what was added to it, as soon as it is there: a text,
                or tokens where tokens were given.
            truncate: "left" or "right": which side of a prompt is cut off that does not fit.
                Default: it is refused.

        Returns:
            What was given: a text, texts, tokens, or a dict.

        Raises:
            ValueError: for a prompt without tokens, with a token that the model does not have, or
                that is as long as the model has places; and for logits of NaN.

        Example:
            >>> import numpy as np
            >>> from handmill.hub.models import GPT2Backbone, GPT2CausalLM
            >>> model = GPT2CausalLM(GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=12))
            >>> model.compile(sampler="greedy")
            >>> [len(row) for row in model.generate([[3, 1, 4], [2]], max_length=6)]
            [6, 6]
        """
        from handmill.hub.generation.texts import generate

        return generate(
            self, inputs, max_length, stop_token_ids, strip_prompt, seed, callback, truncate
        )

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        weighted_metrics: Any = "auto",
        sampler: Any = "top_k",
        **kwargs: Any,
    ) -> None:
        """Chooses how the model is trained, and how tokens are drawn.

        Args:
            optimizer: "auto" is Adam with a step of 2e-5, for fine-tuning.
            loss: "auto" is the cross-entropy of the next token.
            weighted_metrics: "auto" is the share of tokens that are guessed.
            sampler: how ``generate`` draws tokens: a name or a sampler.
            **kwargs: other arguments of ``Model.compile``.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = optimizers.Adam(2e-5)
        if isinstance(loss, str) and loss == "auto":
            loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = [metrics.SparseCategoricalAccuracy()]
        from handmill.hub.samplers.names import get

        sampler = get(sampler)
        super().compile(optimizer, loss, weighted_metrics=weighted_metrics, **kwargs)
        self.sampler = sampler

    def get_compile_config(self) -> dict[str, Any] | None:
        """What ``compile`` was given, as plain data."""
        config = super().get_compile_config()
        if config is not None:
            config["sampler"] = serialize_keras_object(self.sampler)
        return config

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles the model as ``get_compile_config`` says."""
        sampler = deserialize_keras_object(config.get("sampler", "top_k"), kind="sampler")
        self.compile(**revived_compile_config(config), sampler=sampler)
