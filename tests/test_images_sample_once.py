"""Layers that move pixels, one after the other, as one sampling."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as hm
from handmill import layers, ops
from handmill.layers.preprocessing.images.composition import AffineRun, with_runs

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(5, 9, 12, 2)).astype("float32")


def moving(**options):
    given = {"fill_mode": "constant", **options}
    return [
        layers.RandomShear(0.2, 0.1, seed=1, **given),
        layers.RandomRotation(0.1, seed=2, **given),
        layers.RandomFlip("horizontal_and_vertical", seed=3),
        layers.RandomZoom((-0.2, 0.2), (-0.1, 0.3), seed=4, **given),
        layers.RandomTranslation(0.15, 0.2, seed=5, **given),
    ]


def both(make, images, **call):
    return [layers.Pipeline(make(), sample_once=once)(images, **call) for once in (False, True)]


def matrices(chain, images):
    """What the layers draw, as 3 x 3 matrices of (column, row, 1) in float64."""
    height, width = images.shape[1:3]
    found = []
    for layer in chain:
        drawn = layer.get_random_transformation(images)
        m = np.tile(np.eye(3), (len(images), 1, 1))
        if isinstance(layer, layers.RandomFlip):
            flips = np.ravel(drawn["flips"])
            m[flips] = [[-1, 0, width - 1], [0, -1, height - 1], [0, 0, 1]]
        else:
            m[:, :2] = np.reshape(layer._matrix(drawn, height, width), (-1, 8))[:, :6].reshape(
                -1, 2, 3
            )
        found.append(m)
    return found


def test_the_function_of_places_is_that_of_all_layers():
    whole = np.eye(3)
    for m in matrices(moving(), IMAGES):
        whole = whole @ m
    eight = np.concatenate([whole[:, :2].reshape(-1, 6), np.zeros((5, 2))], axis=1)
    want = ops.image.affine_transform(IMAGES, eight.astype("float32"))
    found = layers.Pipeline(moving(), sample_once=True)(IMAGES)
    np.testing.assert_allclose(found, want, atol=2e-5)
    assert np.abs(found - both(moving, IMAGES)[0]).max() > 0.05  # blended once, not five times


def test_planes_become_what_the_layers_make_of_them_one_by_one():
    """Blending does not bend a plane: inside, only roundings differ."""
    row, column = np.mgrid[:31, :33].astype("float32")
    plane = np.tile((0.3 * row - 0.2 * column + 1)[None, ..., None], (8, 1, 1, 1))
    one_by_one, once = both(moving, plane)
    inside = (slice(None), slice(12, 19), slice(13, 20))
    np.testing.assert_allclose(once[inside], one_by_one[inside], atol=1e-4)
    assert np.abs(once[inside] - plane[inside]).max() > 1


@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_whole_pixels_move_exactly(data_format):
    def make():
        options = {"fill_mode": "wrap", "data_format": data_format}
        return [
            layers.RandomTranslation((1 / 3, 1 / 3), (0.25, 0.25), seed=1, **options),
            layers.RandomFlip(seed=2, data_format=data_format),
            layers.RandomTranslation((-2 / 3, -2 / 3), (0.5, 0.5), seed=3, **options),
        ]

    images = np.round(IMAGES * 64)
    if data_format == "channels_first":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    one_by_one, once = both(make, images)
    np.testing.assert_allclose(once, one_by_one, atol=1e-3)
    assert not np.array_equal(once, images)
    np.testing.assert_array_equal(*both(make, images, training=False))
    single = [layers.Pipeline(make(), sample_once=once)(images[0]) for once in (False, True)]
    np.testing.assert_allclose(*single, atol=1e-3)


def test_only_what_samples_alike_is_one():
    class Mine(layers.RandomRotation):
        """Not looked into: it may do anything."""

    flip, turn = layers.RandomFlip(), layers.RandomRotation(0.1)
    zoom, other = layers.RandomZoom(0.1), layers.RandomZoom(0.1, fill_mode="wrap")
    light, mine = layers.RandomBrightness(0.1), Mine(0.1)
    found = with_runs([flip, turn, zoom, light, zoom, other, mine, flip, flip])
    assert isinstance(found[0], AffineRun)
    assert found[0].layers == [flip, turn, zoom]
    assert found[1:] == [light, zoom, other, mine, flip, flip]
    assert with_runs([flip, light, turn]) == [flip, light, turn]


def test_dictionaries_are_changed_layer_by_layer():
    masks = (IMAGES[..., :1] > 0.5).astype("float32")
    for a, b in zip(
        *(d.values() for d in both(moving, {"images": IMAGES, "segmentation_masks": masks})),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_saved_and_used_in_a_model():
    pipeline = layers.Pipeline(moving(), sample_once=True)
    again = layers.Pipeline.from_config(pipeline.get_config())
    assert again.sample_once
    assert "sample_once" not in layers.Pipeline(moving()).get_config()
    np.testing.assert_array_equal(
        again(IMAGES), layers.Pipeline(moving(), sample_once=True)(IMAGES)
    )
    inputs = hm.Input((9, 12, 2))
    model = hm.Model(inputs, layers.Flatten()(layers.Pipeline(moving(), sample_once=True)(inputs)))
    assert model(IMAGES).shape == (5, 216)


def test_what_a_row_becomes_follows_from_the_row():
    """Keyed by row and epoch, for any batches."""
    sums = []
    for size in (2, 5):
        model = hm.Sequential(
            [
                layers.Pipeline(moving(), sample_once=True),
                layers.Flatten(),
                layers.Dense(1, kernel_initializer="ones", trainable=False),
            ]
        )
        model.compile("sgd", "mse")
        rows = model.fit(IMAGES, np.zeros((5, 1)), batch_size=size, shuffle=False, verbose=0)
        sums.append(rows.history["loss"][0])
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    still = model.evaluate(IMAGES, np.zeros((5, 1)), verbose=0)
    assert abs(still - sums[0]) > 1e-3 * still
