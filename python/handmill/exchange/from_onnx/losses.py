"""ONNX's losses of classes, which files of training steps hold."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.exchange.from_onnx.execution import Call, Unreadable, rule


@rule("NegativeLogLikelihoodLoss")
def negative_log_likelihood(call: Call, x: Any, labels: Any, weight: Any = None) -> Any:
    """Minus the logarithms of what the right classes got, each with the weight of its class."""
    ignored = call.attr("ignore_index")
    if len(labels.shape) != len(x.shape) - 1 or len(x.shape) < 2:
        raise Unreadable(f"labels of shape {labels.shape} for scores of shape {x.shape}")
    labels = ops.cast(labels, "int64")
    counted = None
    if ignored is not None:
        counted = ops.not_equal(labels, ignored)
        labels = ops.where(counted, labels, 0)
    found = ops.take_along_axis(x, ops.expand_dims(labels, 1), axis=1)
    found = ops.negative(ops.squeeze(found, 1))
    factors: Any = ops.ones_like(found) if weight is None else ops.take(weight, labels, axis=0)
    if counted is not None:
        factors = ops.where(counted, factors, ops.zeros_like(factors))
    found = found * factors
    reduction = call.attr("reduction", "mean")
    if reduction == "none":
        return found
    if reduction == "sum":
        return ops.sum(found)
    if reduction != "mean":
        raise Unreadable(f"the reduction {reduction!r} is not read")
    return ops.sum(found) / ops.sum(factors)


@rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(call: Call, x: Any, labels: Any, weight: Any = None) -> Any:
    """That loss of scores, and the logarithms of their softmax."""
    logs = ops.log_softmax(x, axis=1)
    loss = negative_log_likelihood(call, logs, labels, weight)
    return (loss, logs) if len(call.step.outputs) > 1 else loss
