"""Bounding boxes: four numbers each, in one of nine formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


def _numbers(name: str, boxes: Any) -> Any:
    """Boxes as a tensor, whose last axis holds four numbers."""
    found = boxes if hasattr(boxes, "shape") else ops.convert_to_tensor(boxes)
    if len(found.shape) == 0 or found.shape[-1] != 4:
        raise ShapeError(
            f"`{name}` must be a tensor whose last axis holds the 4 numbers of a box. Received: "
            f"{name}.shape={tuple(found.shape)}"
        )
    return found


def convert_format(
    boxes: Any,
    source: str | None,
    target: str | None,
    height: Any = None,
    width: Any = None,
    dtype: str = "float32",
) -> Any:
    """Describes boxes by four other numbers.

    Args:
        boxes: of shape ``(..., 4)``, or a dictionary that holds them as "boxes".
        source: their format: "xyxy" (left, top, right, bottom), "yxyx", "xywh", "center_xywh",
            "center_yxhw", or one of these but the last after ``rel_``, for parts of the image.
        target: the format wanted.
        height: of the image; only where one of the formats is relative and the other is not.
        width: the same.
        dtype: of the result.

    Returns:
        The boxes, or a new dictionary.

    Raises:
        ValueError: for unknown formats, or missing sizes.
        ShapeError: if these are no boxes.

    Example:
        >>> from handmill import utils
        >>> utils.bounding_boxes.convert_format([[10, 20, 30, 60]], "xyxy", "center_xywh")
        array([[20., 40., 20., 40.]], dtype=float32)
    """
    if isinstance(boxes, Mapping):
        found = convert_format(boxes["boxes"], source, target, height, width, dtype)
        return {**boxes, "boxes": found}
    (relative, kind), (to_relative, wanted) = _format("source", source), _format("target", target)
    boxes = ops.cast(_numbers("boxes", boxes), dtype)
    if (relative, kind) == (to_relative, wanted):
        return boxes
    if relative != to_relative and (height is None or width is None):
        raise ValueError(
            "convert_format() must receive `height` and `width` of the image to go from "
            f"{source!r} to {target!r}. Received: height={height}, width={width}"
        )
    corners = _corners(boxes, kind)
    if relative != to_relative:
        along = [ops.cast(size, dtype) for size in (width, height, width, height)]
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


def _only_corners(function: str, box_format: str, known: tuple[str, ...] = ("xyxy",)) -> None:
    if box_format not in known:
        raise NotImplementedError(
            f"{function} knows the formats {known} only. Received: "
            f"bounding_box_format={box_format!r}. Convert the boxes with convert_format first."
        )


def clip_to_image_size(
    bounding_boxes: Mapping[str, Any],
    height: Any = None,
    width: Any = None,
    bounding_box_format: str = "xyxy",
) -> dict[str, Any]:
    """Cuts boxes off at the borders of the image; an empty one gets the label -1.

    Args:
        bounding_boxes: a dictionary of "boxes", ``(..., N, 4)``, and perhaps "labels",
            ``(..., N)``.
        height: of the image; may be left out for "rel_xyxy".
        width: the same.
        bounding_box_format: "xyxy" or "rel_xyxy".

    Returns:
        A new dictionary.

    Raises:
        NotImplementedError: for another format.
        ValueError: if a size is missing.

    Example:
        >>> from handmill import utils
        >>> boxes = {"boxes": [[-2.0, 1.0, 5.0, 3.0], [6.0, 0.0, 9.0, 2.0]], "labels": [0, 1]}
        >>> utils.bounding_boxes.clip_to_image_size(boxes, height=2, width=4)["labels"]
        array([ 0, -1], dtype=int32)
    """
    _only_corners("clip_to_image_size", bounding_box_format, ("xyxy", "rel_xyxy"))
    boxes = _numbers("bounding_boxes['boxes']", bounding_boxes["boxes"])
    if bounding_box_format == "rel_xyxy":
        height = width = 1
    elif height is None or width is None:
        raise ValueError(
            "clip_to_image_size needs `height` and `width` for the format 'xyxy'. Received: "
            f"height={height}, width={width}"
        )
    cut = _cut_off(boxes, height, width)
    found = {**bounding_boxes, "boxes": ops.concatenate(cut, axis=-1)}
    labels = bounding_boxes.get("labels")
    if labels is not None:
        left, top, right, bottom = cut
        area = ops.squeeze((right - left) * (bottom - top), axis=-1)
        found["labels"] = ops.where(ops.greater(area, 0), labels, ops.full_like(labels, -1))
    return found


def _cut_off(boxes: Any, height: Any, width: Any) -> list[Any]:
    """Left, top, right and bottom, none beyond the borders."""
    ends = [ops.cast(size, boxes.dtype) for size in (width, height, width, height)]
    corners = ops.split(boxes, 4, axis=-1)
    return [ops.minimum(ops.maximum(x, 0), end) for x, end in zip(corners, ends, strict=True)]


def crop(
    boxes: Any, top: Any, left: Any, height: Any, width: Any, bounding_box_format: str = "xyxy"
) -> Any:
    """Describes boxes within a part of the image, at whose borders they are cut off.

    Args:
        boxes: of shape ``(..., 4)``.
        top: where the part starts.
        left: the same.
        height: of the part.
        width: the same.
        bounding_box_format: must be "xyxy".

    Raises:
        NotImplementedError: for another format.
        ShapeError: if these are no boxes.

    Example:
        >>> from handmill import utils
        >>> boxes = [[10.0, 20.0, 50.0, 60.0]]
        >>> utils.bounding_boxes.crop(boxes, top=10, left=20, height=40, width=25)
        array([[ 0., 10., 25., 40.]], dtype=float32)
    """
    _only_corners("crop", bounding_box_format)
    moved = _moved(ops.subtract, _numbers("boxes", boxes), top, left)
    return ops.concatenate(_cut_off(moved, height, width), axis=-1)


def pad(
    boxes: Any,
    top: Any,
    left: Any,
    height: Any = None,
    width: Any = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """Describes boxes within an image that has got rows above and columns before it.

    Args:
        boxes: of shape ``(..., 4)``.
        top: how many rows.
        left: how many columns.
        height: of the image; boxes do not depend on it.
        width: the same.
        bounding_box_format: must be "xyxy".

    Raises:
        NotImplementedError: for another format.
        ShapeError: if these are no boxes.

    Example:
        >>> from handmill import utils
        >>> utils.bounding_boxes.pad([[1.0, 2.0, 3.0, 4.0]], top=10, left=20)
        array([[21., 12., 23., 14.]], dtype=float32)
    """
    _only_corners("pad", bounding_box_format)
    return _moved(ops.add, _numbers("boxes", boxes), top, left)


def _moved(change: Callable[..., Any], boxes: Any, down: Any, right: Any) -> Any:
    steps = (right, down, right, down)
    corners = ops.split(boxes, 4, axis=-1)
    return ops.concatenate([change(x, n) for x, n in zip(corners, steps, strict=True)], axis=-1)


def affine_transform(
    boxes: Any,
    angle: Any,
    translate_x: Any,
    translate_y: Any,
    scale: Any,
    shear_x: Any,
    shear_y: Any,
    height: Any,
    width: Any,
    center_x: Any = None,
    center_y: Any = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """Turns, moves, scales and shears boxes: each becomes the box around its moved corners.

    Args:
        boxes: of shape ``(B, N, 4)``, or ``(N, 4)`` for one image.
        angle: in degrees, one number for each image, or one for all; so are the next five.
        translate_x: to the right, in parts of the width less one pixel.
        translate_y: down, in parts of the height less one pixel.
        scale: a factor.
        shear_x: an angle along the width, in degrees.
        shear_y: an angle along the height, in degrees.
        height: of the image, in pixels.
        width: the same.
        center_x: the point that stays, in parts of the width less one pixel; default: the middle.
        center_y: the same, of the height.
        bounding_box_format: must be "xyxy".

    Raises:
        NotImplementedError: for another format.
        ShapeError: if these are no boxes of one image or a batch.

    Example:
        >>> from handmill import utils
        >>> boxes = [[0.0, 0.0, 2.0, 1.0]]
        >>> moved = {"translate_x": 0.5, "translate_y": 0, "shear_x": 0, "shear_y": 0}
        >>> utils.bounding_boxes.affine_transform(
        ...     boxes, angle=0, scale=1, height=5, width=5, **moved
        ... )
        array([[2., 0., 4., 1.]], dtype=float32)
    """
    _only_corners("affine_transform", bounding_box_format)
    boxes = ops.cast(_numbers("boxes", boxes), "float32")
    if len(boxes.shape) not in (2, 3):
        raise ShapeError(
            "affine_transform: `boxes` must be of shape (N, 4), or (B, N, 4) for a batch of "
            f"images. Received: boxes.shape={tuple(boxes.shape)}"
        )
    if len(boxes.shape) == 2:
        return ops.squeeze(
            affine_transform(
                ops.expand_dims(boxes, 0),
                *(angle, translate_x, translate_y, scale, shear_x, shear_y, height, width),
                center_x=center_x,
                center_y=center_y,
            ),
            0,
        )
    turn, along, down, factor, lean_x, lean_y, middle_x, middle_y = (
        ops.reshape(ops.cast(x, "float32"), (-1, 1, 1))
        for x in (
            *(angle, translate_x, translate_y, scale, shear_x, shear_y),
            0.5 if center_x is None else center_x,
            0.5 if center_y is None else center_y,
        )
    )
    turn, lean_x, lean_y = (ops.multiply(x, -math.pi / 180.0) for x in (turn, lean_x, lean_y))
    last_x, last_y = (ops.cast(size, "float32") - 1.0 for size in (width, height))
    x0, y0 = middle_x * last_x, middle_y * last_y
    # Rotation, then shear: rows (d, -b) and (-c, a), of determinant 1.
    a = ops.cos(turn - lean_y) / ops.cos(lean_y)
    b = a * ops.tan(lean_x) + ops.sin(turn)
    c = -ops.sin(turn - lean_y) / ops.cos(lean_y)
    d = ops.cos(turn) - c * ops.tan(lean_x)
    left, top, right, bottom = ops.split(boxes, 4, axis=-1)
    corners = [
        (x - x0 + along * last_x, y - y0 + down * last_y)
        for x in (left, right)
        for y in (top, bottom)
    ]
    xs = ops.concatenate([factor * (d * x - b * y) + x0 for x, y in corners], axis=-1)
    ys = ops.concatenate([factor * (a * y - c * x) + y0 for x, y in corners], axis=-1)
    ends = [f(v, axis=-1, keepdims=True) for f in (ops.min, ops.max) for v in (xs, ys)]
    return ops.concatenate(ends, axis=-1)
