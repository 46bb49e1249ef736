"""Heads on top of encoders: thrown away after training."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.layers.activations.activation import Activation
from handmill.layers.core.dense import Dense
from handmill.layers.normalization.batch_normalization import BatchNormalization
from handmill.models.sequential import Sequential


def projection_head(
    width: int = 128, hidden: int = 512, depth: int = 2, batch_norm: bool = False
) -> Sequential:
    """Makes what stands between an encoder and a loss on pairs: Dense layers with ReLU between.

    The loss may throw away there what the views do not share, so that the encoder need not:
    evaluate the encoder, not the head.

    Args:
        width: dimensions of the embeddings.
        hidden: units of the layers before the last.
        depth: Dense layers.
        batch_norm: whether BatchNormalization stands before each ReLU, as SimSiam, BYOL, Barlow
            Twins and VICReg need it.

    Raises:
        ValueError: for numbers below 1.

    Example:
        >>> from handmill import selfsup
        >>> len(selfsup.projection_head(16, hidden=32, batch_norm=True).layers)
        4
    """
    width = whole_number("projection_head: `width`", width, 1)
    hidden = whole_number("projection_head: `hidden`", hidden, 1)
    layers: list[Any] = []
    for _ in range(whole_number("projection_head: `depth`", depth, 1) - 1):
        layers.append(Dense(hidden, use_bias=not batch_norm))
        layers += [BatchNormalization()] if batch_norm else []
        layers.append(Activation("relu"))
    return Sequential([*layers, Dense(width)], name="projector")


def prediction_head(width: int = 128, hidden: int = 64) -> Sequential:
    """Makes the predictor of SimSiam and BYOL: a bottleneck, from embeddings to embeddings.

    Args:
        width: dimensions of the embeddings.
        hidden: units between.

    Raises:
        ValueError: for numbers below 1.

    Example:
        >>> from handmill import selfsup
        >>> len(selfsup.prediction_head(16, hidden=4).layers)
        4
    """
    head = projection_head(width, hidden, batch_norm=True)
    head.name = "predictor"
    return head
