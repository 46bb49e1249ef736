"""Windows, features, random masks taken away: exact on linear models, pointing at the planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation
from handmill.ir.op import Array


def planted(seed: int, size: int = 21) -> tuple[Array, Array, slice, slice]:
    """Images with a bright square, and where it is."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, size - 5, 2)
    image = rng.random((1, size, size)) * 0.2
    rows, columns = slice(int(y), int(y) + 5), slice(int(x), int(x) + 5)
    image[0, rows, columns] += 1
    return image, np.array([y, x]), rows, columns


def test_window_of_one_pixel_of_a_linear_model() -> None:
    rng = np.random.default_rng(0)
    weights, images = rng.normal(size=(4, 6, 2)), rng.normal(size=(3, 4, 6, 2))
    found = explanation.occlusion(
        lambda x: (x * weights).sum((1, 2, 3)), images, window=1, baseline=0.5
    )
    np.testing.assert_allclose(found.values, (weights * (images - 0.5)).sum(-1), atol=1e-12)


def test_windows_are_averaged_where_they_overlap() -> None:
    """Against a loop over windows, at an edge that they do not meet, on models and functions."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 9, 8, 1)).astype("float32")
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((9, 8, 1)), handmill.layers.Flatten(), handmill.layers.Dense(3)]
    )
    found = explanation.occlusion(model, images, 1, window=(4, 3), strides=(3, 2), baseline="black")
    whole = model.predict(images, verbose=0)[:, 1]
    sums, counts = np.zeros((2, 9, 8)), np.zeros((9, 8))
    for y in range(0, 9 - 4 + 3, 3):
        for x in range(0, 8 - 3 + 2, 2):
            hidden = images.copy()
            hidden[:, y : y + 4, x : x + 3] = 0
            lost = whole - model.predict(hidden, verbose=0)[:, 1]
            sums[:, y : y + 4, x : x + 3] += lost[:, None, None]
            counts[y : y + 4, x : x + 3] += 1
    np.testing.assert_allclose(found.values, sums / counts, atol=1e-6)


def test_as_captum_computes_it() -> None:
    torch, attr = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    rng = np.random.default_rng(6)
    images = rng.normal(size=(2, 7, 9)).astype("float32")
    weights = rng.normal(size=(63, 3)).astype("float32")

    def theirs(x: Any) -> Any:
        return torch.tanh(x.reshape(len(x), -1) @ torch.tensor(weights))

    def ours(x: Array) -> Array:
        return np.asarray(np.tanh(x.reshape(len(x), -1) @ weights))

    want = attr.Occlusion(theirs).attribute(
        torch.tensor(images), (3, 4), strides=(2, 3), target=1, baselines=0.25
    )
    found = explanation.occlusion(ours, images, 1, window=(3, 4), strides=(2, 3), baseline=0.25)
    np.testing.assert_allclose(found.values, want.numpy(), atol=1e-5)
    labels = np.arange(63).reshape(7, 9) // 7
    mask = torch.tensor(labels)[None]
    want = attr.FeatureAblation(theirs).attribute(torch.tensor(images), target=1, feature_mask=mask)
    found = explanation.feature_ablation(ours, images, 0.0, 1, segments=labels)
    np.testing.assert_allclose(found.values, want.numpy(), atol=1e-5)


@pytest.mark.slow
def test_planted_squares_are_found() -> None:
    hits = 0
    for seed in range(50):
        image, _, rows, columns = planted(seed)

        def model(x: Array) -> Array:
            return np.asarray(np.maximum(x - 0.7, 0).sum((1, 2)))

        for found in (
            explanation.occlusion(model, image, window=3),
            explanation.rise(model, image, num_masks=600),
        ):
            y, x = np.unravel_index(found.values[0].argmax(), (21, 21))
            hits += (rows.start <= y < rows.stop) and (columns.start <= x < columns.stop)
    assert hits >= 99


def test_rise_of_a_linear_model() -> None:
    """The mean of sum(w x m) m(p) / E m, from the masks' own moments; and its standard errors."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(8, 8))
    image = rng.random((1, 8, 8))

    def model(x: Array) -> Array:
        return np.asarray((x * weights).sum((1, 2)))

    many = explanation.rise(model, image, num_masks=20_000, cells=2, seed=1)
    inside = 0.0
    for seed in range(2, 12):
        few = explanation.rise(model, image, num_masks=300, cells=2, seed=seed)
        inside += (np.abs(few.values - many.values) <= 1.96 * few.error).mean() / 10
    assert 0.85 < inside <= 1
    constant = explanation.rise(lambda x: np.ones(len(x)), image, num_masks=4000)
    assert np.abs(constant.values - 1).max() < 0.06  # mean of masks / probability


def test_rise_stops_when_it_knows_enough() -> None:
    image, _, _, _ = planted(3)
    found = explanation.rise(
        lambda x: x.sum((1, 2)), np.repeat(image, 2, 0), num_masks=100_000, until=0.1
    )
    assert found.details["masks"] < 100_000
    reach = found.values.max((1, 2)) - found.values.min((1, 2))
    assert (found.error.max((1, 2)) <= 0.1 * reach).all()


def test_ablation() -> None:
    x = np.array([[2.0, 3.0, 1.0], [0.0, 1.0, 1.0]])
    found = explanation.feature_ablation(lambda r: r[:, 0] * r[:, 1] + r[:, 2], x, 0.0)
    assert found.values.tolist() == [[6, 6, 1], [0, 0, 1]]
    rows = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mean = explanation.feature_ablation(lambda r: r[:, 0] * r[:, 1] + r[:, 2], x, rows)
    assert mean.values.tolist() == [[4.5, 5, 0.5], [-0.5, 0, 0.5]]
    together = explanation.feature_ablation(lambda r: r.prod(1), x, 0.0, groups=[[0, 2], [1]])
    assert together.values.tolist() == [[6, 6], [0, 0]]
    maps = explanation.feature_ablation(
        lambda r: r.sum((1, 2)), np.ones((1, 4, 4)), 0.0, segments=2
    )
    assert (maps.values == 4).all()


def test_channels_first() -> None:
    images = np.random.default_rng(4).normal(size=(2, 5, 5, 3))
    weights = np.random.default_rng(5).normal(size=(5, 5, 3))
    last = explanation.occlusion(lambda x: (x * weights).sum((1, 2, 3)), images, window=2)
    masks = explanation.rise(lambda x: (x * weights).sum((1, 2, 3)), images, num_masks=50)
    before = handmill.config.image_data_format()
    handmill.config.set_image_data_format("channels_first")
    try:
        moved = np.moveaxis(images, -1, 1)

        def model(x: Array) -> Array:
            return np.asarray((np.moveaxis(x, 1, -1) * weights).sum((1, 2, 3)))

        first = explanation.occlusion(model, moved, window=2)
        masks_first = explanation.rise(model, moved, num_masks=50)
    finally:
        handmill.config.set_image_data_format(before)
    np.testing.assert_allclose(first.values, last.values, atol=1e-12)
    np.testing.assert_allclose(masks_first.values, masks.values, atol=1e-12)


def test_whole_numbers_of_pixels() -> None:
    images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    seen: list[np.dtype[Any]] = []

    def model(x: Array) -> Array:
        seen.append(x.dtype)
        return np.asarray(x.sum((1, 2), dtype=np.float64))

    found = explanation.occlusion(model, images, window=1, baseline="black")
    np.testing.assert_allclose(found.values[0], np.arange(16).reshape(4, 4))
    assert set(seen) == {np.dtype("uint8")}
    mean = explanation.occlusion(model, images, window=1)
    np.testing.assert_allclose(mean.values[0], np.arange(16).reshape(4, 4) - 7.5)


def test_constant_models_no_images_and_weights_as_they_were() -> None:
    for method in (explanation.occlusion, explanation.rise):
        assert len(method(lambda x: x.sum((1, 2)), np.zeros((0, 7, 7)))) == 0
    assert not explanation.occlusion(lambda x: np.ones(len(x)), np.ones((1, 7, 7))).values.any()
    model = handmill.Sequential(
        [
            handmill.Input((8, 8, 1)),
            handmill.layers.BatchNormalization(),
            handmill.layers.Dropout(0.5),
            handmill.layers.Flatten(),
            handmill.layers.Dense(2, activation="softmax"),
        ]
    )
    before = [v.numpy().tobytes() for v in model.variables]
    images = np.random.default_rng(0).random((1, 8, 8, 1))
    first = explanation.occlusion(model, images)
    assert first.values.tobytes() == explanation.occlusion(model, images).values.tobytes()
    assert before == [v.numpy().tobytes() for v in model.variables]


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    (
        ("occlusion", {"window": 9}, r"window of \(9, 9\) does not fit"),
        ("occlusion", {"window": 2, "strides": 3}, "leave gaps"),
        ("occlusion", {"window": "a"}, "`window` must be a whole number or two"),
        ("occlusion", {"x": np.zeros((2, 3))}, "slides a window over images"),
        ("occlusion", {"baseline": "grey"}, "`baseline` must be 'mean'"),
        ("occlusion", {"baseline": np.zeros((3, 8, 8))}, "one image, or one for each of 1"),
        ("rise", {"probability": 1.0}, "between 0 and 1"),
        ("rise", {"num_masks": 0}, "num_masks must be"),
        ("rise", {"x": np.zeros((2, 3))}, "explains images"),
        ("feature_ablation", {}, "`baseline` is missing"),
    ),
)
def test_refusals(method: str, arguments: dict[str, Any], message: str) -> None:
    given = {"x": np.zeros((1, 8, 8))} | arguments
    with pytest.raises(ValueError, match=message):
        getattr(explanation, method)(lambda x: x.reshape(len(x), -1).sum(1), **given)
