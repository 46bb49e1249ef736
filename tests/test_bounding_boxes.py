"""Boxes around what is seen in images, and layers that keep or fill them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from handmill import layers, saving, utils
from handmill.layers.preprocessing.images.boxes import FORMATS
from handmill.utils import bounding_boxes

RNG = np.random.default_rng(0)
START = RNG.uniform(0, 9, (2, 5, 2))
BOXES = np.concatenate([START, START + RNG.uniform(1, 8, (2, 5, 2))], axis=-1).astype("float32")


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_formats_there_and_back(source: str, target: str) -> None:
    size = {"height": 20, "width": 30}
    given = bounding_boxes.convert_format(BOXES, "xyxy", source, **size)
    found = bounding_boxes.convert_format({"boxes": given, "a": 1}, source.upper(), target, **size)
    back = bounding_boxes.convert_format(found, target, "xyxy", **size)
    assert back["a"] == 1
    np.testing.assert_allclose(back["boxes"], BOXES, rtol=1e-5, atol=1e-5)


def test_formats_by_hand() -> None:
    box, size = [[2.0, 4.0, 8.0, 6.0]], {"height": 10, "width": 20}
    want = {
        "yxyx": [4, 2, 6, 8],
        "xywh": [2, 4, 6, 2],
        "center_xywh": [5, 5, 6, 2],
        "center_yxhw": [5, 5, 2, 6],
        "rel_xyxy": [0.1, 0.4, 0.4, 0.6],
        "rel_yxyx": [0.4, 0.1, 0.6, 0.4],
        "rel_xywh": [0.1, 0.4, 0.3, 0.2],
        "rel_center_xywh": [0.25, 0.5, 0.3, 0.2],
    }
    for target, numbers in want.items():
        found = bounding_boxes.convert_format(box, "xyxy", target, **size)
        np.testing.assert_allclose(found, [numbers], rtol=1e-6)


def test_affine_transform_is_one_matrix() -> None:
    angle, lean = math.radians(-30), (math.radians(-10), math.radians(-20))
    cos, sin = math.cos(angle), math.sin(angle)
    a = math.cos(angle - lean[1]) / math.cos(lean[1])
    b = a * math.tan(lean[0]) + sin
    c = -math.sin(angle - lean[1]) / math.cos(lean[1])
    d = cos - c * math.tan(lean[0])
    turn = 1.5 * np.array([[d, -b], [-c, a]])
    middle, step = np.array([9.5, 7.0]), np.array([0.1 * 19, -0.2 * 14])
    corners = BOXES[:, :, [[0, 1], [0, 3], [2, 1], [2, 3]]] - middle + step
    moved = corners @ turn.T + middle
    want = np.concatenate([moved.min(axis=2), moved.max(axis=2)], axis=-1)
    found = bounding_boxes.affine_transform(BOXES, 30, 0.1, -0.2, 1.5, 10, 20, 15, 20)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    one = bounding_boxes.affine_transform(BOXES[1], 30, 0.1, -0.2, 1.5, 10, 20, 15, 20)
    np.testing.assert_allclose(one, want[1], rtol=1e-4, atol=1e-4)


def test_iou_of_every_pair() -> None:
    def iou(x: np.ndarray, y: np.ndarray) -> float:
        sides = np.minimum(x[2:], y[2:]) - np.maximum(x[:2], y[:2])
        common = sides.clip(0).prod()
        return common / ((x[2:] - x[:2]).prod() + (y[2:] - y[:2]).prod() - common)

    want = np.array([[[iou(x, y) for y in BOXES[0]] for x in batch] for batch in BOXES])
    found = bounding_boxes.compute_iou(BOXES, BOXES[0], "xyxy")
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        bounding_boxes.compute_iou(BOXES[0], BOXES, "xyxy"), want.transpose(0, 2, 1), rtol=1e-5
    )
    none = np.concatenate([BOXES[0], [[-1, -1, -1, -1]]]).astype("float32")
    masked = bounding_boxes.compute_iou(none, BOXES, "xyxy", use_masking=True, mask_val=-2)
    np.testing.assert_array_equal(masked[:, -1], np.full((2, 5), -2))
    assert (np.asarray(masked)[:, :-1] >= 0).all()


def test_deltas_there_and_back() -> None:
    anchors = BOXES[1]
    for options in ({}, {"variance": [0.1, 0.1, 0.2, 0.2]}):
        deltas = bounding_boxes.encode_box_to_deltas(anchors, BOXES, "xyxy", "xyxy", **options)
        found = bounding_boxes.decode_deltas_to_boxes(
            {"P3": anchors}, {"P3": deltas}, "xyxy", "xyxy", **options
        )
        np.testing.assert_allclose(found["P3"], BOXES, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (
            lambda: bounding_boxes.convert_format(BOXES, "xyxy", "rel_xyxy"),
            ValueError,
            "must receive `height` and `width`",
        ),
        (lambda: bounding_boxes.convert_format(BOXES, "xyxy", "wh"), ValueError, "target=wh"),
        (lambda: bounding_boxes.convert_format(START, "xyxy", "xywh"), ValueError, "4 numbers"),
        (
            lambda: bounding_boxes.crop(BOXES, 0, 0, 1, 1, bounding_box_format="xywh"),
            NotImplementedError,
            "convert_format first",
        ),
        (
            lambda: bounding_boxes.clip_to_image_size({"boxes": BOXES}, height=3),
            ValueError,
            "width=None",
        ),
        (lambda: bounding_boxes.compute_iou(BOXES[0, 0], BOXES, "xyxy"), ValueError, "`boxes1`"),
        (lambda: bounding_boxes.compute_iou(BOXES, BOXES, "rel_xyxy"), ValueError, "image_shape"),
        (
            lambda: bounding_boxes.encode_box_to_deltas(
                BOXES, BOXES, "xyxy", "xyxy", variance=[1.0, 2.0]
            ),
            ValueError,
            "must be length 4",
        ),
    ),
)
def test_errors(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("number", (3, 5, 7))
def test_as_many_boxes_for_each_image(number: int) -> None:
    layer = layers.MaxNumBoundingBoxes(number, fill_value=-7, bounding_box_format="xyxy")
    layer = saving.deserialize_keras_object(saving.serialize_keras_object(layer))
    labels = np.arange(10).reshape(2, 5)
    images = np.zeros((2, 4, 4, 3), "float32")
    data = {"images": images, "bounding_boxes": {"boxes": BOXES, "labels": labels}}
    found = layer(data)["bounding_boxes"]
    kept = min(number, 5)
    np.testing.assert_array_equal(found["boxes"][:, :kept], BOXES[:, :kept])
    np.testing.assert_array_equal(found["labels"][:, :kept], labels[:, :kept])
    for key in ("boxes", "labels"):
        assert found[key].shape[:2] == (2, number)
        assert (np.asarray(found[key])[:, kept:] == -7).all()


def test_cut_parts_show_what_their_boxes_say() -> None:
    images = np.zeros((1, 9, 10, 1), "float32")
    images[0, 2:5, 3:8] = 1.0  # rows, columns
    boxes = {"boxes": np.array([[[0.3, 2 / 9, 0.8, 5 / 9]]]), "labels": np.array([[4]])}
    for seed in range(4):
        layer = layers.RandomCrop(6, 7, seed=seed, bounding_box_format="rel_xyxy")
        found = layer({"images": images, "bounding_boxes": boxes}, training=True)
        rows, columns = np.nonzero(np.asarray(found["images"])[0, :, :, 0])
        want = [columns.min() / 7, rows.min() / 6, (columns.max() + 1) / 7, (rows.max() + 1) / 6]
        np.testing.assert_allclose(found["bounding_boxes"]["boxes"][0, 0], want, atol=1e-6)
        assert found["bounding_boxes"]["labels"][0, 0] == 4


def test_boxes_in_parts_that_are_resized() -> None:
    image = np.zeros((8, 10, 3), "float32")
    boxes = {"boxes": np.array([[3.0, 2.0, 8.0, 5.0], [9, 0, 10, 1]]), "labels": np.array([4, 5])}
    for size, training, want, labels in (
        ((12, 6), True, [[0, 3, 5, 7.5], [6, 0, 6, 1.5]], [4, -1]),  # columns 3 to 9, all rows
        ((4, 5), False, [[1.5, 1, 4, 2.5], [4.5, 0, 5, 0.5]], [4, 5]),  # all of it
    ):
        layer = layers.RandomCrop(*size, bounding_box_format="xyxy")
        given = layer.get_random_transformation(image, training=training)
        found = layer.transform_bounding_boxes(boxes, given, training=training)
        np.testing.assert_allclose(found["boxes"], want, atol=1e-6)
        np.testing.assert_array_equal(found["labels"], labels)
    found = layer.transform_bounding_boxes(boxes, (np.int32(1), np.int32(2)))  # what Keras draws
    np.testing.assert_array_equal(found["boxes"], [[1, 1, 5, 4], [5, 0, 5, 0]])
    with pytest.raises(ValueError, match="get_random_transformation"):
        layer.transform_bounding_boxes(boxes, (0, 0))


def test_boxes_in_perspective() -> None:
    layer = layers.RandomPerspective(scale=0.4, seed=1, bounding_box_format="xyxy")
    images = np.zeros((2, 18, 20, 1), "float32")
    given = dict(layer.get_random_transformation(images))
    given["apply_perspective"] = np.array([True, False])
    boxes = {"boxes": BOXES, "labels": np.ones((2, 5), "int32")}
    found = layer.transform_bounding_boxes(boxes, given)
    np.testing.assert_allclose(found["boxes"][1], np.minimum(BOXES[1], 18), atol=1e-5)
    rows, wanted = [], []
    for (x, y), (u, v) in zip(given["start_points"][0], given["end_points"][0], strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    matrix = np.append(np.linalg.solve(np.array(rows, float), wanted), 1).reshape(3, 3)
    corners = BOXES[0][:, [[0, 1], [0, 3], [2, 1], [2, 3]]]
    moved = np.concatenate([corners, np.ones((5, 4, 1))], axis=-1) @ matrix.T
    moved = moved[..., :2] / moved[..., 2:]
    want = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=-1)
    np.testing.assert_allclose(found["boxes"][0], np.clip(want, 0, [20, 18] * 2), atol=1e-3)


@pytest.mark.peers
@pytest.mark.slow
def test_numbers_are_keras_own(keras) -> None:
    theirs, ours = keras.utils.bounding_boxes, utils.bounding_boxes
    other = BOXES + RNG.uniform(-0.5, 0.5, BOXES.shape).astype("float32")
    numbers = [
        np.array(x, "float32") for x in ([9, 70], [0.1, 0], [0, 0.2], [2, 1], [5, 0], [0, 9])
    ]
    data = {"boxes": BOXES, "labels": np.ones((2, 5), "int32")}
    calls = (
        ("affine_transform", (BOXES, *numbers, 15, 20), {"center_x": 0.2, "center_y": 0.9}),
        ("crop", (BOXES, 1, 2, 5, 6), {}),
        ("pad", (BOXES, 1, 2), {}),
        ("compute_iou", (BOXES, other, "yxyx"), {"use_masking": True}),
        ("compute_iou", (BOXES, other, "rel_xywh"), {"image_shape": (20, 30, 3)}),
        ("compute_ciou", (BOXES, other, "xyxy"), {}),
        ("compute_ciou", (BOXES, other[0], "center_yxhw"), {}),
        ("encode_box_to_deltas", (BOXES[0], other, "xyxy", "yxyx", "center_xywh"), {}),
        (
            "decode_deltas_to_boxes",
            (BOXES[0], other / 9, "xyxy", "xywh"),
            {"variance": [1, 2, 3, 4]},
        ),
        *(("convert_format", (BOXES, a, b, 20, 30), {}) for a in FORMATS for b in FORMATS),
    )
    for name, given, options in calls:
        want = np.asarray(getattr(theirs, name)(*given, **options))
        found = np.asarray(getattr(ours, name)(*given, **options))
        assert found.dtype == want.dtype
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5, err_msg=name)
    for kind in ("xyxy", "rel_xyxy"):
        want, found = (
            lib.clip_to_image_size(dict(data), 9, 7, bounding_box_format=kind)
            for lib in (theirs, ours)
        )
        for key, value in want.items():
            np.testing.assert_array_equal(found[key], np.asarray(value))
