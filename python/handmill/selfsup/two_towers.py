"""Two kinds of data in one space: what belongs together lies together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import finite_number
from handmill.errors import ShapeError
from handmill.models.model import Model
from handmill.primitives.operands import shape_of
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object
from handmill.selfsup.embeddings import unit

_LARGEST_SCALE = math.log(100.0)  # as in CLIP, whose training broke down without


class TwoTower(Model):
    """Learns an embedding of two kinds of data (image and text, image and sound) from pairs.

    Each row of one kind finds its partner among all rows of the batch, and the other way round, by
    cosines times a learned factor (Radford et al., "Learning Transferable Visual Models From
    Natural Language Supervision", 2021). With labels all rows of one class are partners: several
    right answers a row, of equal weight. Without, other rows of the same class count as wrong, and
    the loss cannot fall to 0.

    Args:
        first: a model of the first kind of data, rows to embeddings (B, D).
        second: a model of the second kind, to the same D.
        temperature: what cosines are divided by at first; the factor is learned, up to 100.
        **kwargs: ``name`` and the like.

    Call arguments:
        inputs: a pair of arrays, whose rows belong together.

    Output shape:
        ``(batch, batch)``: how well each row of the first fits each of the second, as logits

    Raises:
        ShapeError: for anything but a pair, or towers of different widths.
        ValueError: for a temperature that is not above 0.

    Example:
        >>> import numpy as np
        >>> import handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
        >>> towers = [handmill.Sequential([layers.Dense(8)]) for _ in "ab"]
        >>> model = selfsup.TwoTower(*towers)
        >>> model.compile("adam")
        >>> history = model.fit((x, 2 * x), epochs=20, verbose=0)
        >>> history.history["loss"][-1] < history.history["loss"][0]
        True
    """

    def __init__(self, first: Any, second: Any, temperature: float = 0.07, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = first
        self.second = second
        self.temperature = finite_number("TwoTower: `temperature`", temperature)
        if self.temperature <= 0:
            raise ValueError(f"TwoTower: `temperature` must be above 0. Received: {temperature!r}")
        self.log_scale = self.add_weight(
            name="log_scale", shape=(), initializer="zeros", trainable=True
        )
        self.log_scale.assign(-math.log(self.temperature))

    def call(self, inputs: Any, training: bool | None = False, mask: Any = None) -> Any:
        """Computes the logits of all pairs."""
        if not isinstance(inputs, tuple | list) or len(inputs) != 2:
            raise ShapeError(
                f"{self.describe()}: a pair (first, second) was expected, received "
                f"{type(inputs).__name__}"
            )
        a = unit(self.first(inputs[0], training=training))
        b = unit(self.second(inputs[1], training=training))
        if len(shape_of(a)) != 2 or shape_of(a)[1:] != shape_of(b)[1:]:
            raise ShapeError(
                f"{self.describe()}: towers must give embeddings (B, D) of one width, received "
                f"shapes {tuple(shape_of(a))} and {tuple(shape_of(b))}"
            )
        scale = ops.exp(ops.minimum(self.log_scale, _LARGEST_SCALE))
        return ops.multiply(ops.matmul(a, ops.transpose(b)), scale)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean of both ways' cross-entropies.

        Args:
            x: the inputs.
            y: the class of each row, (B,), or None where each row is its own.
            y_pred: the logits of all pairs, (B, B).
            sample_weight: not taken.
            training: whether this is a training step.

        Raises:
            ValueError: for a ``sample_weight``.
        """
        if sample_weight is not None:
            raise ValueError("TwoTower: pairs have no weights; leave `sample_weight` out")
        rows = shape_of(y_pred)[0]
        labels = ops.arange(rows) if y is None else ops.reshape(y, (-1,))
        alike = ops.cast(
            ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0)), y_pred.dtype
        )
        right = ops.divide(alike, ops.sum(alike, axis=1, keepdims=True))
        losses = [
            ops.categorical_crossentropy(right, logits, from_logits=True)
            for logits in (y_pred, ops.transpose(y_pred))
        ]
        return ops.multiply(ops.mean(ops.add(*losses)), 0.5)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "first": serialize_keras_object(self.first),
            "second": serialize_keras_object(self.second),
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> TwoTower:
        """Makes the model from what :meth:`get_config` gave."""
        config = dict(config)
        for tower in ("first", "second"):
            config[tower] = deserialize_keras_object(config[tower], custom_objects)
        return cls(**config)


def recall_at(queries: Any, keys: Any, labels: Any = None, k: int = 1) -> float:
    """How often one of the k nearest keys of a query is a right one.

    Args:
        queries: embeddings (N, D), of one tower.
        keys: embeddings (N, D), of the other; row i belongs to row i of the queries.
        labels: classes (N,): any key of the same class is right. Default: row i alone.
        k: how many keys are looked at.

    Returns:
        The share of queries, from 0 to 1.

    Raises:
        ValueError: for shapes that do not fit, or a k below 1.

    Example:
        >>> import numpy as np
        >>> from handmill import selfsup
        >>> selfsup.recall_at(np.eye(4), np.eye(4)[[0, 1, 3, 2]])
        0.5
    """
    queries, keys = (unit(ops.convert_to_numpy(z).astype(np.float32)) for z in (queries, keys))
    count = len(queries)
    if queries.ndim != 2 or keys.shape != queries.shape or not 1 <= k <= count:
        raise ValueError(
            f"recall_at: two arrays (N, D) of one shape and 1 <= k <= N were expected, received "
            f"shapes {queries.shape} and {keys.shape}, k={k}"
        )
    labels = np.arange(count) if labels is None else np.asarray(labels).reshape(-1)
    if len(labels) != count:
        raise ValueError(f"recall_at: {count} labels were expected, received {len(labels)}")
    found = 0
    for first in range(0, count, 1024):
        cosines = queries[first : first + 1024] @ keys.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        found += int((labels[nearest] == labels[first : first + 1024, None]).any(axis=1).sum())
    return found / count
