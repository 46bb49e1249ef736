"""Probabilities that mean what they say: one temperature for all rows, and what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.strategy.confident_learning import checked_probabilities
from handmill.strategy.duplicates import duplicate_groups
from handmill.strategy.findings import Finding, Report, Wording
from handmill.strategy.inputs import check_alike, inputs_of
from handmill.strategy.targets import targets_of

WORDINGS = {
    "calibration": Wording(
        "ECE {value:.3f} [{low:.3f}, {high:.3f}], {after:.3f} at temperature {temperature:.3f}; "
        "NLL {nll:.3f} to {nll_after:.3f}",
        "ECE {value:.3f} [{low:.3f}, {high:.3f}]，温度 {temperature:.3f} 时为 {after:.3f}；NLL "
        "{nll:.3f} 变为 {nll_after:.3f}",
        "calibration.predict(x)",
    ),
    "calibration.none": Wording(
        "ECE {value:.3f} [{low:.3f}, {high:.3f}]; no temperature: {reason}",
        "ECE {value:.3f} [{low:.3f}, {high:.3f}]；没有合适的温度：{reason}",
        "more validation rows",
        "更多验证行",
    ),
}

_LEAST = float(np.finfo(np.float32).tiny)
_HALF_STEP = 2.0**-25
"""What 1 may be short of where float32 shows it as 1."""


@dataclass(frozen=True)
class Scores:
    """How good probabilities are; lower is better.

    Attributes:
        ece: expected calibration error: the mean distance of accuracy and highest probability over
            bins of that probability, weighted by rows. Biased upwards, the more the fewer rows.
        ece_interval: its 95 % bootstrap interval over rows.
        nll: mean negative logarithm of the probability of the right class.
        brier: mean squared distance from the one-hot rows, summed over classes.
    """

    ece: float
    ece_interval: tuple[float, float]
    nll: float
    brier: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """A model and the temperature that its logits are divided by.

    Attributes:
        temperature: above 1 where the model is too sure; None if there is no best one.
        reason: why there is none; empty otherwise.
        before: how good the probabilities of the model are on the rows given.
        after: how good they are with the temperature; accuracy stays as it is.
        rows: how many rows it was measured on.
        model: the model, unchanged.
    """

    temperature: float | None
    reason: str
    before: Scores
    after: Scores
    rows: int
    model: Any

    def predict(self, x: Any, batch_size: int | None = None) -> Array:
        """Probabilities of the model with the temperature.

        Args:
            x: inputs, as for ``model.predict``.
            batch_size: rows of a batch; default 32.

        Returns:
            float32 of the shape that ``model.predict`` gives.

        Raises:
            ValueError: if there is no temperature.
        """
        raw = np.asarray(self.model.predict(x, batch_size=batch_size, verbose=0))
        p = self._scaled(_logits(self.model, raw, len(raw)))
        chosen = p[:, 1] if raw.ndim == 1 or raw.shape[1] == 1 else p
        return chosen.reshape(raw.shape)

    def apply(self, probabilities: Any) -> Array:
        """The same for probabilities that are there already, shape ``(rows, classes)``."""
        p = checked_probabilities(probabilities, len(probabilities))
        return self._scaled(_log(p))

    def _scaled(self, logits: Array) -> Array:
        if self.temperature is None:
            raise ValueError(f"there is no temperature to apply: {self.reason}")
        return _softmax(logits / self.temperature).astype(np.float32)

    def report(self, language: str = "en") -> Report:
        """The figures as a finding, ``"en"`` or ``"zh"``."""
        known = self.temperature is not None
        finding = Finding.of(
            WORDINGS,
            "calibration" if known else "calibration.none",
            "note",
            self.before.ece,
            interval=self.before.ece_interval,
            after=self.after.ece,
            nll=self.before.nll,
            nll_after=self.after.nll,
            temperature=self.temperature,
            reason=self.reason,
        )
        return Report((finding,), language)

    def __str__(self) -> str:
        return str(self.report())


def calibrate(
    model: Any,
    x: Any,
    y: Any,
    *,
    training_data: Any = None,
    bins: int = 15,
    batch_size: int | None = None,
    seed: int = 0,
) -> Calibration:
    """Finds the temperature under which a classifier's probabilities fit rows it has not seen.

    Logits are divided by one number, which changes how sure the model is and no decision of it.

    Args:
        model: a trained classifier whose output, of shape ``(rows, classes)`` or ``(rows, 1)``, are
            probabilities; or logits, if its loss has ``from_logits=True``. It is left as it is.
        x: inputs of validation, never of training.
        y: their classes: numbers, or one-hot rows.
        training_data: the inputs that the model was trained on, or ``(x, y)``: rows of ``x`` that
            are among them are refused.
        bins: equal bins of the highest probability, for the calibration error.
        batch_size: rows of a batch; default 32.
        seed: of the bootstrap.

    Returns:
        A :class:`Calibration`, whose ``predict`` applies the temperature. Where there is no best
        temperature (every row is right, or the model is no better than chance), it is None and
        ``reason`` says why.

    Raises:
        ValueError: for rows of the training, outputs that are no probabilities, labels that are
            missing or no columns of the output.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 1)).astype("float32")
        >>> y = (x[:, 0] + rng.normal(size=200) > 0).astype("int64")
        >>> model = handmill.Sequential([handmill.Input((1,)), layers.Dense(1, "sigmoid")])
        >>> model.set_weights([np.full((1, 1), 20.0), np.zeros(1)])  # far too sure
        >>> found = handmill.strategy.calibrate(model, x, y)
        >>> 5 < found.temperature < 25, found.after.nll < found.before.nll
        (True, True)

    Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    bins, seed = whole_number("bins", bins, 1), whole_number("seed", seed, 0)
    inputs = inputs_of(x, "x")
    if training_data is not None:
        given = training_data[0] if isinstance(training_data, tuple) else training_data
        _refuse_training_rows(inputs, inputs_of(given, "training_data"))
    targets = targets_of({"y": y}, "classification")["y"]
    if len(targets.values) != inputs.rows:
        raise ValueError(f"x has {inputs.rows} rows, y has {len(targets.values)}: expected as many")
    raw = np.asarray(model.predict(x, batch_size=batch_size, verbose=0))
    logits = _logits(model, raw, inputs.rows)
    labels = _labels(targets.labels if targets.one_hot else targets.values, logits.shape[1])
    temperature, reason = _best_temperature(logits, labels)
    before = _scores(_softmax(logits), labels, bins, seed)
    after = before
    if temperature is not None:
        after = _scores(_softmax(logits / temperature), labels, bins, seed)
    return Calibration(temperature, reason, before, after, inputs.rows, model)


def _refuse_training_rows(inputs: Any, training: Any) -> None:
    check_alike(training, inputs, "x")
    groups = duplicate_groups([training, inputs])
    seen = np.flatnonzero(groups[training.rows :] < training.rows)
    if len(seen):
        raise ValueError(
            f"calibrate: row {seen[0]} of x is row {groups[training.rows + seen[0]]} of the "
            f"training data ({len(seen)} rows in all): a model is too sure of what it was trained "
            "on; pass rows that it has not seen (handmill.strategy.split)"
        )


def _logits(model: Any, raw: Array, rows: int) -> Array:
    """Logits, up to a number for each row, float64 of shape ``(rows, classes)``."""
    loss = getattr(getattr(model, "objective", None), "loss", None)
    if getattr(loss, "_fn_kwargs", {}).get("from_logits"):
        z = raw.astype(np.float64).reshape(rows, -1)
        return np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z
    p = checked_probabilities(raw, rows, "the output of the model")
    return _log(p)


def _log(p: Array) -> Array:
    least = _HALF_STEP if p.shape[1] == 2 else _LEAST
    logs: Array = np.log(np.maximum(p, least))
    return logs


def _labels(values: Array, classes: int) -> Array:
    labels = np.asarray(values)
    if labels.dtype.kind == "O":
        raise ValueError("y: expected class numbers, the columns of the output, got texts")
    wrong = ~np.isfinite(labels) | (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"y: expected class numbers from 0 to {classes - 1}, got {labels[row]} in row {row}"
        )
    return labels.astype(np.int64)


def _best_temperature(logits: Array, labels: Array) -> tuple[float | None, str]:
    """Minimizes the mean negative log-likelihood, convex in 1/T, by Newton's method."""
    z = logits - logits.max(axis=1, keepdims=True)
    own = z[np.arange(len(z)), labels]
    if (own == 0).all():
        return None, "every row is right, so that a lower temperature is always better"
    if np.mean(z.mean(axis=1) - own) >= 0:
        return None, "the probabilities are no better than chance, so that a higher one always is"
    low, high, inverse = 0.0, np.inf, 1.0
    for _ in range(100):
        p = _softmax(inverse * z)
        mean = np.einsum("ij,ij->i", p, z)
        slope = float(np.mean(mean - own))
        curvature = float(np.mean(np.einsum("ij,ij->i", p, z**2) - mean**2))
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else np.inf
        if not low < step < high:  # halve what is known, or go on doubling
            step = 2 * inverse if np.isinf(high) else (low + high) / 2
        if abs(step - inverse) <= 1e-12 * inverse:
            break
        inverse = step
    return float(1 / inverse), ""


def _softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def _scores(p: Array, labels: Array, bins: int, seed: int) -> Scores:
    rows = np.arange(len(p))
    own = p[rows, labels]
    brier = np.mean((p**2).sum(axis=1) - 2 * own + 1)
    top = p.max(axis=1)
    # Bin k holds (k / bins, (k + 1) / bins].
    place = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    miss = (p.argmax(axis=1) == labels) - top
    drawn = np.random.default_rng(seed)
    samples = [_ece(place, miss, bins)]
    for _ in range(1000):
        chosen = drawn.integers(0, len(p), len(p))
        samples.append(_ece(place[chosen], miss[chosen], bins))
    low, high = np.quantile(samples[1:], [0.025, 0.975])
    nll = -float(np.mean(np.log(np.maximum(own, _LEAST))))
    return Scores(samples[0], (float(low), float(high)), nll, float(brier))


def _ece(place: Array, miss: Array, bins: int) -> float:
    return float(np.abs(np.bincount(place, miss, bins)).sum() / len(place))
