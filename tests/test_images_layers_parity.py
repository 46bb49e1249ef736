"""Layers that vary images, beside those of Keras: what they do with the transformation it drew."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from handmill import layers, saving
from layer_parity import plain

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning"),
]

RNG = np.random.default_rng(0)
BOXES = np.array([[[0, 0, 3, 4], [1, 2, 5, 7], [2.0, 1, 4, 3]]] * 4, "float32")
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("RandomFlip", {}),
    ("RandomFlip", {"mode": "horizontal"}),
    ("RandomFlip", {"mode": "vertical"}),
    ("RandomRotation", {"factor": 0.2}),
    ("RandomRotation", {"factor": (-0.1, 0.3), "fill_mode": "constant", "fill_value": 3.0}),
    ("RandomRotation", {"factor": 0.2, "fill_mode": "wrap", "interpolation": "nearest"}),
    ("RandomRotation", {"factor": 0.4, "fill_mode": "nearest"}),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": (0.1, 0.4)}),
    (
        "RandomTranslation",
        {
            "height_factor": 0.3,
            "width_factor": 0.2,
            "fill_mode": "constant",
            "interpolation": "nearest",
        },
    ),
    ("RandomZoom", {"height_factor": 0.4}),
    ("RandomZoom", {"height_factor": (-0.5, 0.2), "width_factor": 0.3, "fill_mode": "constant"}),
    ("RandomShear", {"x_factor": 0.2, "y_factor": 0.3}),
    ("RandomShear", {"x_factor": (0.1, 0.5), "fill_mode": "constant"}),
    ("RandomPerspective", {"scale": 0.5}),
    ("RandomPerspective", {"factor": (0.4, 0.6), "interpolation": "nearest", "fill_value": 9.0}),
    ("RandomContrast", {"factor": 0.5}),
    ("RandomContrast", {"factor": (0.2, 0.8), "value_range": (0, 1)}),
    ("RandomBrightness", {"factor": 0.5}),
    ("RandomBrightness", {"factor": (0.1, 0.2), "value_range": (0, 1)}),
    ("RandomHue", {"factor": 0.5}),
    ("RandomHue", {"factor": (0.2, 1.0), "value_range": (0, 1)}),
    ("RandomSaturation", {"factor": 0.5}),
    ("RandomSaturation", {"factor": (0.2, 0.9), "value_range": (0, 1)}),
    ("RandomColorDegeneration", {"factor": 0.5}),
    ("RandomGrayscale", {"factor": 0.5}),
    ("RandomGaussianBlur", {}),
    ("RandomGaussianBlur", {"kernel_size": (3, 5), "sigma": (0.3, 0.9), "factor": (0.7, 0.9)}),
    ("RandomPosterization", {"factor": 5}),
    ("RandomPosterization", {"factor": (2, 7), "value_range": (0, 1)}),
    ("RandomPosterization", {"factor": (3, 3)}),
    ("RandomInvert", {"factor": (0.4, 0.6)}),
    ("RandomSharpness", {"factor": 0.8}),
    ("RandomSharpness", {"factor": (0.1, 0.3), "value_range": (0, 1)}),
    ("Solarization", {"addition_factor": 0.3, "threshold_factor": 0.7}),
    ("Solarization", {"threshold_factor": (0.2, 0.5), "value_range": (0, 1)}),
    ("AutoContrast", {}),
    ("AutoContrast", {"value_range": (0, 1)}),
    ("Equalization", {}),
    ("ContrastLimitedAdaptiveHistogramEqualization", {}),
    ("ContrastLimitedAdaptiveHistogramEqualization", {"clip_limit": 1.5, "tile_grid_size": (2, 4)}),
    ("RandomCrop", {"height": 4, "width": 5}),
    ("RandomCrop", {"height": 12, "width": 6}),
    ("RandomCrop", {"height": 8, "width": 5}),
    ("CenterCrop", {"height": 4, "width": 5}),
    ("CenterCrop", {"height": 12, "width": 6}),
    ("Resizing", {"height": 5, "width": 9}),
    ("Resizing", {"height": 4, "width": 3, "interpolation": "bicubic", "antialias": True}),
    ("Resizing", {"height": 12, "width": 5, "crop_to_aspect_ratio": True}),
    ("Resizing", {"height": 12, "width": 5, "pad_to_aspect_ratio": True, "fill_value": 3.0}),
    ("MixUp", {"alpha": 0.7}),
    ("CutMix", {"factor": (0.3, 0.6)}),
    ("RandomErasing", {}),
    ("RandomErasing", {"fill_value": 7, "factor": (0.5, 0.6), "scale": (0.2, 0.5)}),
    ("AugMix", {"num_chains": 2, "chain_depth": 2, "factor": 0.6}),
    ("RandAugment", {"num_ops": 3, "factor": (0.2, 0.8)}),
)
UNSEEDED = (
    "AutoContrast",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Equalization",
    "CenterCrop",
    "Resizing",
)
FIRST = ("AutoContrast", "RandAugment", "AugMix")
"""Whose channels Keras's AutoContrast takes for rows, where they come first."""
IMAGES_ONLY = ("ContrastLimitedAdaptiveHistogramEqualization",)
"""Whose other methods raise NotImplementedError in Keras."""
NO_BOXES = ("CutMix", "MixUp", "RandAugment", "AugMix", "RandomCrop")


def as_numpy(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: as_numpy(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(map(as_numpy, x))
    return np.asarray(x) if hasattr(x, "dtype") else x


def made(name: str, options: dict[str, Any], keras: Any, data_format: str) -> tuple[Any, Any]:
    """Keras's layer, and ours from Keras's config."""
    seed = {} if name in UNSEEDED else {"seed": 3}
    given = {**options, **seed, "data_format": data_format, "bounding_box_format": "xyxy"}
    theirs = getattr(keras.layers, name)(**given)
    data = keras.saving.serialize_keras_object(theirs)
    ours = saving.deserialize_keras_object(data)
    assert isinstance(ours, getattr(layers, name))
    left_out = ("dtype", "name", "seed" if name == "RandomGrayscale" else "name")
    want, found = (
        {k: v for k, v in plain(layer.get_config()).items() if k not in left_out}
        for layer in (theirs, ours)
    )
    assert found == want
    return theirs, ours


@pytest.mark.parametrize(
    ("name", "options", "data_format"),
    [(*c, "channels_last") for c in CASES]
    + [(*c, "channels_first") for c in CASES if c[0] not in FIRST],
)
def test_values(keras: Any, name: str, options: dict[str, Any], data_format: str) -> None:
    high = options.get("value_range", (0, 255))[1]
    rng = np.random.default_rng(0)
    random.seed(0)  # by which Keras's AugMix chooses layers
    x = rng.integers(1, 256, (4, 8, 6, 3)).astype("float32") * np.float32(high / 255)
    # One 0 of 192 values: no quotient of Equalization is a half, which Keras on JAX rounds up.
    x[0, 0, 0] = 0
    masks = rng.integers(0, 5, (4, 8, 6, 1)).astype("float32")
    if data_format == "channels_first":
        x, masks = (a.transpose(0, 3, 1, 2).copy() for a in (x, masks))
    theirs, ours = made(name, options, keras, data_format)
    drawn = theirs.get_random_transformation(x)
    given = as_numpy(drawn)
    want, found = (
        np.asarray(layer.transform_images(x, t)) for layer, t in ((theirs, drawn), (ours, given))
    )
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, atol=4e-6 * high, rtol=4e-6)
    if name in IMAGES_ONLY:
        return
    if name not in ("MixUp",):  # whose masks Keras takes one number from
        want, found = (
            np.asarray(layer.transform_segmentation_masks(masks, t))
            for layer, t in ((theirs, drawn), (ours, given))
        )
        np.testing.assert_allclose(found, want, atol=1e-5)
    labels = np.eye(4, dtype="float32")
    want, found = (
        np.asarray(layer.transform_labels(labels, t))
        for layer, t in ((theirs, drawn), (ours, given))
    )
    np.testing.assert_allclose(found, want, atol=1e-6)
    if name not in NO_BOXES and name != "RandomGrayscale":
        box = {"boxes": BOXES, "labels": np.array([[0, 1, 2]] * 4)}
        want, found = (
            as_numpy(layer.transform_bounding_boxes(dict(box), t))
            for layer, t in ((theirs, drawn), (ours, given))
        )
        for key in ("boxes", "labels"):
            np.testing.assert_allclose(found[key], want[key], atol=1e-4)


def test_equalized_values_are_keras_own(keras: Any) -> None:
    # 511 pixels after the first value: no quotient is a half, which Keras on JAX rounds up.
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype("float32")
    want = np.asarray(keras.layers.Equalization()(x))
    np.testing.assert_array_equal(layers.Equalization()(x), want)


@pytest.mark.parametrize("augmented", (True, False))
def test_keras_files_load(keras: Any, augmented: bool, tmp_path: Any) -> None:
    from handmill import models

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.RandomFlip(seed=1)(inputs)
    x = keras.layers.RandomRotation(0.1, seed=2)(x)
    x = keras.layers.RandomShear(0.2, 0.1, seed=4)(x)
    x = keras.layers.RandomColorJitter(brightness_factor=0.2, hue_factor=0.1, seed=5)(x)
    x = keras.layers.RandAugment(seed=6)(x) if augmented else x
    x = keras.layers.CenterCrop(6, 6)(x)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    theirs = keras.Model(inputs, outputs)
    theirs.save(tmp_path / "m.keras")  # which says training=True for each call
    ours = models.load_model(tmp_path / "m.keras")
    data = RNG.uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    want = theirs.predict(data, verbose=0)
    np.testing.assert_allclose(ours.predict(data, verbose=0), want, rtol=1e-4, atol=1e-3)
    assert np.abs(ours(data, training=True) - want).max() > 1
