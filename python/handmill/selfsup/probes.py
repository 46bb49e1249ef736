"""What an encoder has learnt, measured with labels that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import whole_number
from handmill.callbacks.callback import Callback
from handmill.ir.op import Array
from handmill.layers.core.dense import Dense
from handmill.layers.core.input_layer import Input
from handmill.losses.probabilistic import SparseCategoricalCrossentropy
from handmill.models.model import Model
from handmill.models.sequential import Sequential
from handmill.optimizers.algorithms import Adam
from handmill.selfsup.embeddings import positive

_BLOCK = 1024


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        accuracy: share of the test rows that are told right.
        interval: Wilson's 95 % interval of it, for these test rows as a sample.
        predictions: the class of each test row.
        rows: labelled rows that were used.
    """

    accuracy: float
    interval: tuple[float, float]
    predictions: Array
    rows: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"accuracy {self.accuracy:.4f} [{low:.4f}, {high:.4f}] from {self.rows} labels"


def linear_probe(
    encoder: Any,
    x: Any,
    y: Any,
    x_test: Any,
    y_test: Any,
    epochs: int = 100,
    learning_rate: float = 0.01,
    weight_decay: float = 1e-3,
    seed: int = 0,
) -> ProbeResult:
    """Trains a linear classifier on an encoder's features, which stay as they are.

    Features are computed once, in inference mode and without augmentation, and standardised by
    the mean and deviation of the training rows. Probe the encoder, not the head behind it. The
    encoder, its optimizer and its random numbers are not touched.

    Args:
        encoder: a model, or a function of arrays: rows -> features (N, ...). None: ``x`` and
            ``x_test`` are the features.
        x: labelled rows.
        y: their classes, whole numbers from 0, (N,).
        x_test: rows to measure with.
        y_test: their classes.
        epochs: of batches of up to 256 rows, with Adam and a rate that falls to 0.
        learning_rate: the first rate.
        weight_decay: of the weights, in each update, times the rate (AdamW).
        seed: of the order of the rows; weights start from 0.

    Returns:
        A :class:`ProbeResult`.

    Raises:
        ValueError: for rows and labels that do not go together, or features that are not finite.

    Example:
        >>> import numpy as np
        >>> from handmill import selfsup
        >>> x = np.random.default_rng(0).normal(size=(300, 5))
        >>> y = (x[:, 0] > 0).astype(int)
        >>> selfsup.linear_probe(None, x[:200], y[:200], x[200:], y[200:]).accuracy > 0.9
        True
    """
    from handmill.optimizers.schedules import CosineDecay

    features, labels, test, truth = _features("linear_probe", encoder, (x, y), (x_test, y_test))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1).astype(np.float32)
    features, test = (features - mean) / scale, (test - mean) / scale
    epochs = whole_number("linear_probe: `epochs`", epochs, 1)
    rate = positive("linear_probe", "learning_rate", learning_rate)
    size = min(256, len(features))
    steps = epochs * math.ceil(len(features) / size)
    classes = int(max(labels.max(), truth.max())) + 1
    order = np.random.default_rng(seed).permutation(len(features))
    # From zeros, in an order of its own: no seed of the process is drawn. Names are given for the
    # same reason.
    model = Sequential(
        [
            Input((features.shape[1],), name="features"),
            Dense(classes, kernel_initializer="zeros", name="classifier"),
        ],
        name="linear_probe",
    )
    model.compile(
        Adam(CosineDecay(rate, steps), weight_decay=weight_decay, name="adam"),
        SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(features[order], labels[order], size, epochs, verbose=0, shuffle=False)
    logits = model.predict(test, batch_size=_BLOCK, verbose=0)
    return _result(np.argmax(logits, axis=1), truth, len(features))


def knn_probe(
    encoder: Any,
    x: Any,
    y: Any,
    x_test: Any,
    y_test: Any,
    k: int = 200,
    temperature: float = 0.1,
) -> ProbeResult:
    """Lets the nearest labelled rows vote on each test row.

    The ``k`` rows of the largest cosine vote with weights ``exp(cosine / temperature)`` (Wu et al.,
    2018). Neighbours are exact, found by products of blocks of rows; of equal ones those that come
    first count. Nothing is trained.

    Args:
        encoder: as for :func:`linear_probe`.
        x: labelled rows.
        y: their classes, (N,).
        x_test: rows to measure with.
        y_test: their classes.
        k: neighbours; at most all rows.
        temperature: above 0.

    Returns:
        A :class:`ProbeResult`.

    Raises:
        ValueError: as for :func:`linear_probe`.

    Example:
        >>> import numpy as np
        >>> from handmill import selfsup
        >>> x = np.random.default_rng(0).normal(size=(300, 5))
        >>> y = (x[:, 0] > 0).astype(int)
        >>> selfsup.knn_probe(None, x[:200], y[:200], x[200:], y[200:], k=10).accuracy > 0.75
        True
    """
    features, labels, test, truth = _features("knn_probe", encoder, (x, y), (x_test, y_test))
    k = min(whole_number("knn_probe: `k`", k, 1), len(features))
    temperature = positive("knn_probe", "temperature", temperature)
    units, test = _unit_rows(features), _unit_rows(test)
    classes = int(max(labels.max(), truth.max())) + 1
    found = []
    for begin in range(0, len(test), _BLOCK):
        near = np.asarray(ops.matmul(test[begin : begin + _BLOCK], units.T))
        kept = np.argpartition(-near, k - 1, axis=1)[:, :k]
        # Of those as near as the last one, the first rows.
        least = np.take_along_axis(near, kept, axis=1).min(axis=1, keepdims=True)
        above = near > least
        room = k - np.count_nonzero(above, axis=1, keepdims=True)
        level = near == least
        counted = above | (level & (np.cumsum(level, axis=1) <= room))
        rows, columns = np.nonzero(counted)
        weights = np.exp((near[rows, columns].astype(np.float64) - 1) / temperature)
        places = rows * classes + labels[columns]
        votes = np.bincount(places, weights, minlength=len(near) * classes)
        found.append(votes.reshape(-1, classes).argmax(axis=1))
    return _result(np.concatenate(found), truth, len(features))


class Probe(Callback):
    """Measures the encoder of a model after some epochs, by :func:`knn_probe`.

    The numbers stand in the logs, and so in the History, as ``probe``.

    Args:
        x: labelled rows.
        y: their classes.
        x_test: rows to measure with.
        y_test: their classes.
        every: epochs between two probes.
        k: neighbours.

    Raises:
        ValueError: for ``every`` below 1.

    Example:
        >>> import numpy as np
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
        >>> y = (x[:, 0] > 0).astype(int)
        >>> model = selfsup.SimCLR(layers.Dense(16), layers.GaussianNoise(0.3))
        >>> model.compile("adam")
        >>> probe = selfsup.Probe(x[:64], y[:64], x[64:], y[64:], k=5)
        >>> history = model.fit(x, batch_size=32, epochs=2, callbacks=[probe], verbose=0).history
        >>> len(history["probe"])
        2
    """

    def __init__(
        self, x: Any, y: Any, x_test: Any, y_test: Any, every: int = 1, k: int = 200
    ) -> None:
        super().__init__()
        self._data = (x, y, x_test, y_test)
        self.every = whole_number("Probe: `every`", every, 1)
        self.k = whole_number("Probe: `k`", k, 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measures."""
        if (epoch + 1) % self.every == 0 and logs is not None:
            logs["probe"] = knn_probe(self.model.encoder, *self._data, k=self.k).accuracy


def _features(probe: str, encoder: Any, *parts: Any) -> tuple[Array, Array, Array, Array]:
    found: list[Array] = []
    for (x, y), what in zip(parts, ("", "_test"), strict=True):
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        whole = labels.dtype.kind in "iub" or (labels.dtype.kind == "f" and _are_whole(labels))
        if labels.ndim != 1 or not whole or (len(labels) and labels.min() < 0):
            raise ValueError(
                f"{probe}: `y{what}` must be class numbers from 0, one a row. Received an array of "
                f"shape {labels.shape}, dtype {labels.dtype}"
            )
        values = np.asarray(_encoded(encoder, x), np.float32)
        values = values.reshape(len(values), -1)
        if len(values) != len(labels) or not len(labels):
            raise ValueError(
                f"{probe}: `x{what}` has {len(values)} rows, `y{what}` {len(labels)} labels; as "
                "many of both were expected, at least one"
            )
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise ValueError(f"{probe}: the features of row {row} of `x{what}` are not finite")
        found += [values, labels.astype(np.int64)]
    if found[0].shape[1] != found[2].shape[1]:
        raise ValueError(
            f"{probe}: `x` has {found[0].shape[1]} features, `x_test` {found[2].shape[1]}"
        )
    return found[0], found[1], found[2], found[3]


def _are_whole(labels: Array) -> bool:
    return bool(np.all(labels == np.floor(labels)))


def _encoded(encoder: Any, x: Any) -> Any:
    if encoder is None:
        return x
    if isinstance(encoder, Model):
        return encoder.predict(x, batch_size=_BLOCK, verbose=0)
    parts = [np.asarray(encoder(x[i : i + _BLOCK])) for i in range(0, len(x), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _unit_rows(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def _result(predictions: Array, truth: Array, rows: int) -> ProbeResult:
    from handmill.strategy.statistics import wilson_interval

    right, count = int(np.count_nonzero(predictions == truth)), len(truth)
    return ProbeResult(right / count, wilson_interval(right, count), predictions, rows)
