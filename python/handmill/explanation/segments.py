"""Images without some of their parts: the parts, and what is shown in their place."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.explanation.players import Players
from handmill.explanation.rows import background_rows, check_finite_rows
from handmill.ir.op import Array

ACROSS = 7
"""How many squares lie across an image whose segments are not given."""


def places_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """The height and width of an image of this shape, with channels or not."""
    from handmill import config

    if len(shape) not in (2, 3):
        raise ValueError(
            f"images have the shape (height, width) or with channels; a row of the data has {shape}"
        )
    first = len(shape) == 3 and config.image_data_format() == "channels_first"
    return shape[1:] if first else shape[:2]  # type: ignore[return-value]


def default_squares(shape: tuple[int, ...]) -> int:
    """The side of squares that lie seven across the shorter side."""
    return max(1, -(-min(places_of(shape)) // ACROSS))


def absent_images(images: Array, baseline: Any, players: Players) -> Array:
    """What each image shows where a player is absent (images, ...).

    Args:
        images: (images, height, width) or with channels.
        baseline: ``"mean"`` (the mean colour of a segment, or of the image where each place is a
            player of its own), ``"black"``, a number, or one image.
        players: the segments.

    Raises:
        ValueError: for another name or shape.
    """
    if isinstance(baseline, str):
        if baseline == "black":
            return np.zeros_like(images)
        if baseline != "mean":
            raise ValueError(
                f"`baseline` must be 'mean', 'black', a number or an image. Received: {baseline!r}"
            )
        if players.of_groups:
            return _means_of_segments(images, players)
        return means_of_images(images)
    rows, _ = background_rows(baseline, [images], 0, "baseline")
    check_finite_rows("baseline", rows)
    if len(rows[0]) not in (1, len(images)):
        raise ValueError(
            f"`baseline` must be one image, or one for each of {len(images)}. Received: "
            f"{len(rows[0])}"
        )
    return np.broadcast_to(rows[0], images.shape)


def means_of_images(images: Array) -> Array:
    """Each image's mean colour, everywhere in it."""
    from handmill import config

    first = images.ndim == 4 and config.image_data_format() == "channels_first"
    axes = (2, 3) if first else (1, 2)
    kind = images.dtype if images.dtype.kind == "f" else np.float32
    mean = images.mean(axes, dtype=np.float64, keepdims=True)
    return np.broadcast_to(mean.astype(kind), images.shape)


def _means_of_segments(images: Array, players: Players) -> Array:
    from handmill import config

    label = players.labels[0]
    if label.ndim == 3:  # a colour each
        first = config.image_data_format() == "channels_first"
        channels = label.shape[0 if first else -1]
        number = np.arange(channels).reshape((-1, 1, 1) if first else (1, 1, -1))
        label = label * channels + number
    flat = label.reshape(-1)
    counts = np.bincount(flat)
    kind = images.dtype if images.dtype.kind == "f" else np.float32
    found = np.empty(images.shape, kind)
    for image, into in zip(images, found, strict=True):
        sums = np.bincount(flat, image.reshape(-1).astype(np.float64), len(counts))
        into[...] = (sums / counts)[label]
    return found
