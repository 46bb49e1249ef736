"""Boxes around what is seen in images: formats, moves, overlaps, deltas from anchors."""

from __future__ import annotations

from handmill.layers.preprocessing.images.box_pairs import (
    compute_ciou,
    compute_iou,
    decode_deltas_to_boxes,
    encode_box_to_deltas,
)
from handmill.layers.preprocessing.images.boxes import (
    affine_transform,
    clip_to_image_size,
    convert_format,
    crop,
    pad,
)
from handmill.lazy import plain_module

__all__ = [
    "affine_transform",
    "clip_to_image_size",
    "compute_ciou",
    "compute_iou",
    "convert_format",
    "crop",
    "decode_deltas_to_boxes",
    "encode_box_to_deltas",
    "pad",
]

__getattr__ = plain_module(__name__)
