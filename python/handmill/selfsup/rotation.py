"""Which way up? A task that images set themselves."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.core.dense import Dense
from handmill.metrics.accuracies import SparseCategoricalAccuracy
from handmill.primitives.operands import shape_of
from handmill.selfsup.base import Unlabelled, augmentation_of, checked_layer

TURNS = 4


class RotationPrediction(Unlabelled):
    """Says by how many quarters an image was turned (Gidaris et al., 2018): 4 classes.

    All four turns of each image stand in a batch, which is four times as large. Called, it gives
    what its encoder gives.

    Args:
        encoder: a layer or model: images (B, S, S) or (B, S, S, C) -> features (B, F).
        augmentation: what varies the images before they are turned, a layer or a list of them.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer; in ``fit`` for what are no square images.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).uniform(0, 0.1, size=(128, 6, 6)).astype("float32")
        >>> x[:, 0] += 1
        >>> encoder = handmill.Sequential([layers.Flatten(), layers.Dense(16, activation="relu")])
        >>> model = selfsup.RotationPrediction(encoder)
        >>> model.compile(handmill.optimizers.Adam(0.01))
        >>> history = model.fit(x, epochs=10, verbose=0).history
        >>> history["accuracy"][-1] > 0.9
        True
    """

    def __init__(self, encoder: Any, augmentation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = checked_layer("RotationPrediction", "encoder", encoder)
        self.augmentation = augmentation_of("RotationPrediction", augmentation)
        self.classifier = Dense(TURNS, name="classifier")
        self.accuracy = SparseCategoricalAccuracy(name="accuracy")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The features of images as they are."""
        return self.encoder(inputs, training=training)

    def _build_for(self, rows: Any) -> None:
        self.classifier(self.encoder(rows))

    def _loss_of(self, data: Any, training: bool) -> tuple[Any, Any, Any]:
        x = self.rows_alone(data)
        shape = shape_of(x)
        if len(shape) not in (3, 4) or shape[1] != shape[2]:
            raise ValueError(
                "RotationPrediction: square images (batch, side, side) or (batch, side, side, "
                f"channels) were expected. Received shape {shape}"
            )
        self._built_for(x)
        images = self.turned(self.augmentation(x, training=True) if training else x)
        turns = ops.repeat(ops.arange(TURNS), shape[0])
        logits = self.classifier(self.encoder(images, training=training))
        each = ops.sparse_categorical_crossentropy(turns, logits, from_logits=True)
        return x, ops.mean(each), (turns, logits)

    def turned(self, images: Any) -> Any:
        """All turns of a batch: first the images as they are, then by one quarter, and so on.

        Args:
            images: (B, S, S) or (B, S, S, C).
        """
        return ops.concatenate([ops.rot90(images, k, axes=(1, 2)) for k in range(TURNS)], axis=0)

    def _count(self, found: Any) -> None:
        self.accuracy.update_state(*found)
