"""Operators of the domain ai.onnx.ml, which files of scikit-learn's models hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.execution import Call, Unreadable, rule


def _row(call: Call, name: str) -> Any:
    return np.asarray(call.attr(name, [0.0]), np.float32)


@rule("ai.onnx.ml.Scaler")
def scaler(call: Call, x: Any) -> Any:
    """(x - offset) * scale."""
    return (ops.cast(x, "float32") - _row(call, "offset")) * _row(call, "scale")


@rule("ai.onnx.ml.Normalizer")
def normalizer(call: Call, x: Any) -> Any:
    """Rows of length 1."""
    x, norm = ops.cast(x, "float32"), call.attr("norm", "MAX")
    if norm == "MAX":
        return x / ops.max(x, axis=-1, keepdims=True)
    if norm == "L1":
        return x / ops.sum(ops.absolute(x), axis=-1, keepdims=True)
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))


def _scores(call: Call, x: Any, rows: int) -> Any:
    weights = _row(call, "coefficients")
    if rows < 1 or weights.size % rows:
        raise Unreadable(f"{weights.size} coefficients for {rows} results")
    found = ops.matmul(ops.cast(x, "float32"), weights.reshape(rows, -1).T)
    return found + _row(call, "intercepts")


def _transformed(call: Call, scores: Any) -> Any:
    kind = call.attr("post_transform", "NONE")
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        return ops.sigmoid(scores)
    if kind == "SOFTMAX":
        return ops.softmax(scores, axis=-1)
    raise Unreadable(f"post_transform {kind!r} is not read")


@rule("ai.onnx.ml.LinearRegressor")
def linear_regressor(call: Call, x: Any) -> Any:
    """Sums of products with coefficients."""
    return _transformed(call, _scores(call, x, call.attr("targets", 1)))


@rule("ai.onnx.ml.LinearClassifier")
def linear_classifier(call: Call, x: Any) -> Any:
    """The label of the largest score, and what the scores are turned into."""
    labels = np.asarray(call.attr("classlabels_ints", [0]), np.int64)
    call.attr("multi_class", 0)
    if len(labels) < 2:
        raise Unreadable("its labels are no numbers, or fewer than two")
    scores = _scores(call, x, len(labels))
    best = ops.take(labels, ops.argmax(scores, axis=-1), axis=0)
    return best, _transformed(call, scores)


@rule("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(call: Call, x: Any, indices: Any) -> Any:
    """Columns."""
    found = ops.take(x, ops.reshape(indices, (-1,)), axis=-1)
    return ops.reshape(found, (1, -1)) if len(x.shape) == 1 else found
