"""Bounding boxes: four numbers each, in one of nine formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill import ops
from handmill.errors import ShapeError

FORMATS = (
    "xyxy",
    "yxyx",
    "xywh",
    "center_xywh",
    "center_yxhw",
    "rel_xyxy",
    "rel_yxyx",
    "rel_xywh",
    "rel_center_xywh",
)


def checked_boxes(layer: str, boxes: Any, box_format: str | None) -> dict[str, Any]:
    """The boxes of a call, in float32, and their labels.

    Raises:
        ValueError: if there is no format, or a key is missing.
        ShapeError: if these are no boxes.
    """
    if not box_format:
        raise ValueError(
            f"{layer} was given 'bounding_boxes', but no `bounding_box_format`. Pass one to the "
            f"layer, such as `bounding_box_format='xyxy'`; known are {FORMATS}."
        )
    if not isinstance(boxes, Mapping) or not {"boxes", "labels"} <= set(boxes):
        raise ValueError(
            f"{layer}: `bounding_boxes` must be a dictionary with the keys 'boxes' and 'labels'. "
            f"Received: {list(boxes) if isinstance(boxes, Mapping) else type(boxes).__name__}"
        )
    numbers = boxes["boxes"]
    shape = tuple(numbers.shape if hasattr(numbers, "shape") else np.shape(numbers))
    if len(shape) not in (2, 3) or shape[-1] != 4:
        raise ShapeError(
            f"{layer}: `bounding_boxes['boxes']` must be of shape (boxes, 4), or (batch, boxes, 4) "
            f"for a batch of images. Received: shape={shape}"
        )
    return {**boxes, "boxes": ops.cast(numbers, "float32")}


def _format(name: str, value: str | None) -> tuple[bool, str]:
    """Whether numbers are parts of height and width, and their format without that."""
    found = value.lower() if isinstance(value, str) else ""
    if found not in FORMATS:
        raise ValueError(f"`{name}` must be one of {FORMATS}. Received: {name}={value}")
    return found.startswith("rel_"), found.removeprefix("rel_")


def convert_format(
    boxes: Any, source: str | None, target: str | None, height: Any = None, width: Any = None
) -> Any:
    """Describes boxes by four other numbers.

    Args:
        boxes: of shape ``(..., 4)``, or a dictionary that holds them as "boxes".
        source: their format: "xyxy" (left, top, right, bottom), "yxyx", "xywh", "center_xywh",
            "center_yxhw", or one of these but the last after "rel_", for parts of the image.
        target: the format wanted.
        height: of the image; only where one of the formats is relative and the other is not.
        width: the same.

    Raises:
        ValueError: for unknown formats, or missing sizes.
    """
    if isinstance(boxes, Mapping):
        found = convert_format(boxes["boxes"], source, target, height, width)
        return {**boxes, "boxes": found}
    (relative, kind), (to_relative, wanted) = _format("source", source), _format("target", target)
    boxes = ops.cast(boxes, "float32")
    if (relative, kind) == (to_relative, wanted):
        return boxes
    if relative != to_relative and (height is None or width is None):
        raise ValueError(
            f"From {source!r} to {target!r}, `height` and `width` of the image are needed. "
            f"Received: height={height}, width={width}"
        )
    corners = _corners(boxes, kind)
    if relative != to_relative:
        along = [ops.cast(size, "float32") for size in (width, height, width, height)]
        change = ops.divide if to_relative else ops.multiply
        corners = [change(x, size) for x, size in zip(corners, along, strict=True)]
    return ops.concatenate(_described(corners, wanted), axis=-1)


def _corners(boxes: Any, kind: str) -> list[Any]:
    a, b, c, d = ops.split(boxes, 4, axis=-1)
    if kind == "xyxy":
        return [a, b, c, d]
    if kind == "yxyx":
        return [b, a, d, c]
    if kind == "xywh":
        return [a, b, a + c, b + d]
    if kind == "center_yxhw":
        a, b, c, d = b, a, d, c
    return [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0]


def _described(corners: list[Any], kind: str) -> list[Any]:
    left, top, right, bottom = corners
    if kind == "xyxy":
        return corners
    if kind == "yxyx":
        return [top, left, bottom, right]
    wide, high = right - left, bottom - top
    if kind == "xywh":
        return [left, top, wide, high]
    x, y = left + wide / 2.0, top + high / 2.0
    return [x, y, wide, high] if kind == "center_xywh" else [y, x, high, wide]


def clipped(boxes: Mapping[str, Any], height: Any, width: Any) -> dict[str, Any]:
    """Boxes (left, top, right, bottom) cut off at the borders; an empty one gets label -1."""
    corners = ops.split(boxes["boxes"], 4, axis=-1)
    ends = [ops.cast(size, "float32") for size in (width, height, width, height)]
    cut = [ops.minimum(ops.maximum(x, 0.0), end) for x, end in zip(corners, ends, strict=True)]
    left, top, right, bottom = cut
    area = ops.squeeze((right - left) * (bottom - top), axis=-1)
    labels = boxes["labels"]
    kept = ops.where(area > 0.0, labels, ops.full_like(labels, -1))
    return {**boxes, "boxes": ops.concatenate(cut, axis=-1), "labels": kept}
