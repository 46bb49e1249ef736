"""How far boxes agree, and boxes as seen from others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from handmill import config, ops
from handmill.errors import ShapeError
from handmill.layers.preprocessing.images.boxes import convert_format


def _sizes(image_shape: Any) -> dict[str, Any]:
    """Height and width of an image, for ``convert_format``."""
    if image_shape is None:
        return {}
    if len(image_shape) != 3:
        raise ShapeError(
            "`image_shape` must be three numbers: height, width, channels. Received: "
            f"image_shape={image_shape}"
        )
    return {"height": image_shape[0], "width": image_shape[1]}


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: Any = None,
) -> Any:
    """The intersection of each two boxes, as a part of their union.

    Args:
        boxes1: of shape ``(M, 4)`` or ``(B, M, 4)``.
        boxes2: of shape ``(N, 4)`` or ``(B, N, 4)``.
        bounding_box_format: of both; see :func:`convert_format`.
        use_masking: whether pairs with a box of negative numbers alone, which stands for none,
            get ``mask_val``.
        mask_val: see ``use_masking``.
        image_shape: height, width and channels; for relative formats.

    Returns:
        A tensor ``(M, N)``, or ``(B, M, N)`` where one of them is a batch.

    Raises:
        ShapeError: if these are no boxes.
        ValueError: for an unknown format, or a missing ``image_shape``.

    Example:
        >>> from handmill import utils
        >>> square, half = [[0.0, 0.0, 2.0, 2.0]], [[0.0, 0.0, 1.0, 2.0]]
        >>> utils.bounding_boxes.compute_iou(square, half, "xyxy")
        array([[0.5]], dtype=float32)
    """
    first, second = (
        convert_format(boxes, bounding_box_format, "xyxy", **_sizes(image_shape))
        if "rel" not in bounding_box_format.lower() or image_shape is not None
        else _no_image(bounding_box_format)
        for boxes in (boxes1, boxes2)
    )
    for name, boxes in (("boxes1", first), ("boxes2", second)):
        if len(boxes.shape) not in (2, 3):
            raise ShapeError(
                f"compute_iou: `{name}` must be of shape (N, 4), or (B, N, 4) for a batch of "
                f"images. Received: {name}.shape={tuple(boxes.shape)}"
            )
    # (..., M, 1) beside (..., 1, N).
    one, other = (
        [ops.squeeze(x, axis=-1) for x in ops.split(ops.expand_dims(boxes, axis), 4, axis=-1)]
        for boxes, axis in ((first, -2), (second, -3))
    )
    common = _overlap(one, other)
    union = _area(one) + _area(other) - common
    found = ops.divide(common, union + config.epsilon())
    if not use_masking:
        return found
    none = [
        ops.less(ops.max(ops.stack(corners, axis=-1), axis=-1), 0.0) for corners in (one, other)
    ]
    return ops.where(ops.logical_or(*none), float(mask_val), found)


def _no_image(box_format: str) -> Any:
    raise ValueError(
        "For relative formats, `image_shape` (height, width, channels) must be given. Received: "
        f"bounding_box_format={box_format!r}, image_shape=None"
    )


def _area(corners: list[Any]) -> Any:
    left, top, right, bottom = corners
    return (right - left) * (bottom - top)


def _overlap(one: list[Any], other: list[Any]) -> Any:
    wide, high = (
        ops.maximum(ops.minimum(one[i + 2], other[i + 2]) - ops.maximum(one[i], other[i]), 0.0)
        for i in (0, 1)
    )
    return wide * high


def compute_ciou(
    boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Any = None
) -> Any:
    """The complete IoU of boxes, one beside the other.

    From the part that they have in common, the squared distance of their centres (in parts of the
    diagonal of the box around both) and a term for different proportions are subtracted.

    Args:
        boxes1: of shape ``(..., 4)``.
        boxes2: of a shape that broadcasts with it.
        bounding_box_format: of both; see :func:`convert_format`.
        image_shape: height, width and channels; for relative formats, which Keras refuses.

    Raises:
        ShapeError: if these are no boxes.
        ValueError: for an unknown format, or a missing ``image_shape``.

    Example:
        >>> from handmill import utils
        >>> near, far = [[0.0, 0.0, 2.0, 2.0]], [[4.0, 0.0, 6.0, 2.0]]
        >>> utils.bounding_boxes.compute_ciou(near, far, "xyxy").round(3)
        array([-0.4], dtype=float32)

    References:
        - [Zheng et al., 2020](https://arxiv.org/abs/1911.08287)
    """
    one, other = (
        [
            ops.squeeze(x, axis=-1)
            for x in ops.split(
                convert_format(boxes, bounding_box_format, "xyxy", **_sizes(image_shape))
                if "rel" not in bounding_box_format.lower() or image_shape is not None
                else _no_image(bounding_box_format),
                4,
                axis=-1,
            )
        ]
        for boxes in (boxes1, boxes2)
    )
    small = config.epsilon()
    wide, other_wide = (x[2] - x[0] for x in (one, other))
    high, other_high = (x[3] - x[1] + small for x in (one, other))
    common = _overlap(one, other)
    union = wide * high + other_wide * other_high - common
    iou = ops.divide(common, union + 2 * small)
    around = [ops.maximum(one[i + 2], other[i + 2]) - ops.minimum(one[i], other[i]) for i in (0, 1)]
    apart = [(one[i] + one[i + 2] - other[i] - other[i + 2]) / 2.0 for i in (0, 1)]
    distance = (apart[0] ** 2 + apart[1] ** 2) / (around[0] ** 2 + around[1] ** 2 + small)
    angle = ops.arctan(other_wide / other_high) - ops.arctan(wide / high)
    shape = angle**2 * (4 / math.pi**2)
    return iou - distance - shape * (shape / (shape - iou + (1 + small)))


def _anchors(function: str, name: str, encoding: str, variance: Any) -> Any:
    """The variance as a tensor, after what both directions ask for was checked."""
    if encoding not in ("center_xywh", "center_yxhw"):
        raise ValueError(
            f"{function}: `{name}` should be one of 'center_xywh' or 'center_yxhw'. Received: "
            f"{name}={encoding!r}"
        )
    if variance is None:
        return 1.0
    found = ops.convert_to_tensor(variance, "float32")
    if len(found.shape) == 0 or found.shape[-1] != 4:
        raise ValueError(
            f"{function}: `variance` must be length 4, one number for each delta. Received: "
            f"variance={variance}"
        )
    return found


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Any:
    """Describes boxes as seen from anchors.

    A box becomes the distance of the centres in parts of the anchor's sizes, and the logarithm of
    how many times as large it is.

    Args:
        anchors: of shape ``(N, 4)``.
        boxes: of shape ``(N, 4)`` or ``(B, N, 4)``.
        anchor_format: see :func:`convert_format`.
        box_format: the same.
        encoding_format: the order of the four numbers: "center_yxhw" or "center_xywh".
        variance: four numbers by which they are divided.
        image_shape: height, width and channels; for relative formats.

    Raises:
        ValueError: for unknown formats, a missing ``image_shape``, or another ``variance``.
        ShapeError: if these are no boxes.

    Example:
        >>> from handmill import utils
        >>> anchors, boxes = [[0.0, 0.0, 4.0, 2.0]], [[1.0, 0.0, 5.0, 2.0]]
        >>> utils.bounding_boxes.encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy")
        array([[0.  , 0.25, 0.  , 0.  ]], dtype=float32)
    """
    variance = _anchors("encode_box_to_deltas", "encoding_format", encoding_format, variance)
    sizes = _sizes(image_shape)
    start = convert_format(anchors, anchor_format, encoding_format, **sizes)
    end = convert_format(boxes, box_format, encoding_format, **sizes)
    extent, wanted = (ops.maximum(x[..., 2:], config.epsilon()) for x in (start, end))
    moved = (end[..., :2] - start[..., :2]) / extent
    return ops.concatenate([moved, ops.log(wanted / extent)], axis=-1) / variance


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Any:
    """The boxes that :func:`encode_box_to_deltas` described.

    Args:
        anchors: of shape ``(N, 4)``, or a dictionary of them, one for each level.
        boxes_delta: of shape ``(N, 4)`` or ``(B, N, 4)``, or a dictionary with the same keys.
        anchor_format: see :func:`convert_format`.
        box_format: of the result.
        encoded_format: "center_yxhw" or "center_xywh", as when they were encoded.
        variance: the same.
        image_shape: height, width and channels; for relative formats.

    Raises:
        ValueError: for unknown formats, a missing ``image_shape``, or another ``variance``.
        ShapeError: if these are no boxes.

    Example:
        >>> from handmill import utils
        >>> anchors, deltas = [[0.0, 0.0, 4.0, 2.0]], [[0.0, 0.25, 0.0, 0.0]]
        >>> utils.bounding_boxes.decode_deltas_to_boxes(anchors, deltas, "xyxy", "xyxy")
        array([[1., 0., 5., 2.]], dtype=float32)
    """
    factor = _anchors("decode_deltas_to_boxes", "encoded_format", encoded_format, variance)
    if isinstance(anchors, Mapping) and isinstance(boxes_delta, Mapping):
        options = (anchor_format, box_format, encoded_format, variance, image_shape)
        return {
            level: decode_deltas_to_boxes(anchor, boxes_delta[level], *options)
            for level, anchor in anchors.items()
        }
    sizes = _sizes(image_shape)
    start = convert_format(anchors, anchor_format, encoded_format, **sizes)
    deltas = ops.convert_to_tensor(boxes_delta) * factor
    places = deltas[..., :2] * start[..., 2:] + start[..., :2]
    extent = ops.exp(deltas[..., 2:]) * start[..., 2:]
    found = ops.concatenate([places, extent], axis=-1)
    return convert_format(found, encoded_format, box_format, **sizes)
