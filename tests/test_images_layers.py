"""Layers that vary images: values by formulas, draws, replay, threads, models, files, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, layers, models, ops, saving
from handmill import random as hm_random
from handmill.errors import ShapeError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 8, 10, 3)).astype("float32")

MAKERS: dict[str, Any] = {
    "RandomFlip": layers.RandomFlip,
    "RandomRotation": lambda **k: layers.RandomRotation(0.2, **k),
    "RandomTranslation": lambda **k: layers.RandomTranslation(0.3, 0.2, **k),
    "RandomZoom": lambda **k: layers.RandomZoom(0.3, **k),
    "RandomShear": lambda **k: layers.RandomShear(0.3, 0.2, **k),
    "RandomElasticTransform": lambda **k: layers.RandomElasticTransform(scale=(0.5, 1.0), **k),
    "RandomPerspective": lambda **k: layers.RandomPerspective(scale=0.4, **k),
    "RandomContrast": lambda **k: layers.RandomContrast(0.5, **k),
    "RandomBrightness": lambda **k: layers.RandomBrightness(0.5, **k),
    "RandomHue": lambda **k: layers.RandomHue(0.5, **k),
    "RandomSaturation": lambda **k: layers.RandomSaturation((0.2, 0.8), **k),
    "RandomColorJitter": lambda **k: layers.RandomColorJitter((0, 255), 0.2, 0.2, 0.4, 0.1, **k),
    "RandomColorDegeneration": lambda **k: layers.RandomColorDegeneration(0.5, **k),
    "RandomGrayscale": lambda **k: layers.RandomGrayscale(0.5, **k),
    "RandomGaussianBlur": layers.RandomGaussianBlur,
    "RandomPosterization": lambda **k: layers.RandomPosterization(6, **k),
    "RandomInvert": layers.RandomInvert,
    "RandomSharpness": lambda **k: layers.RandomSharpness(0.9, **k),
    "Solarization": lambda **k: layers.Solarization(0.2, 0.8, **k),
    "RandomCrop": lambda **k: layers.RandomCrop(6, 7, **k),
    "MixUp": layers.MixUp,
    "CutMix": layers.CutMix,
    "RandomErasing": layers.RandomErasing,
    "RandAugment": layers.RandAugment,
    "AugMix": lambda **k: layers.AugMix(num_chains=2, chain_depth=1, **k),
}
SAME = ("AutoContrast", "CenterCrop", "Equalization", "Resizing")


def first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_one_seed_gives_the_same_images_in_both_formats(name: str) -> None:
    last = MAKERS[name](seed=5)
    found = last(X)
    assert not np.array_equal(found, X)
    again = layers.deserialize(saving.serialize_keras_object(MAKERS[name](seed=5)))
    np.testing.assert_array_equal(again(X), found)
    assert {**again.get_config(), "name": last.name} == last.get_config()
    if name not in ("RandomErasing", "RandAugment", "AugMix"):  # those draw for each element
        channels = MAKERS[name](seed=5, data_format="channels_first")
        np.testing.assert_allclose(channels(first(X)), first(found), atol=2e-4)
    if name != "RandomCrop":
        np.testing.assert_array_equal(last(X, training=False), X)
    assert last(X[0]).shape == found.shape[1:]
    whole = last(X.astype("uint8"))
    assert whole.dtype == ("uint8" if name == "RandomGrayscale" else "float32")


@pytest.mark.parametrize("name", ("RandomFlip", "RandomRotation", "RandomColorJitter", "CutMix"))
def test_training_is_replayed_by_any_number_of_threads(name: str, tmp_path: Any) -> None:
    y = np.eye(6, 3, dtype="float32")

    def trained(threads: int) -> tuple[list[float], Any]:
        handmill.utils.set_random_seed(7)
        inputs = handmill.Input((8, 10, 3))
        x = layers.Rescaling(1 / 255)(MAKERS[name](seed=5)(inputs))
        outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(x))
        model = handmill.Model(inputs, outputs)
        model.compile("adam", "categorical_crossentropy")
        before = config.num_threads()
        config.set_num_threads(threads)
        try:
            return model.fit(X, y, batch_size=4, epochs=3, verbose=0).history["loss"], model
        finally:
            config.set_num_threads(before)

    losses, model = trained(1)
    assert trained(2)[0] == losses
    want = model.predict(X, verbose=0)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), want)
    # The loaded model draws what the saved one would draw next.
    np.testing.assert_array_equal(loaded(X, training=True), model(X, training=True))


def test_rows_of_a_batch_draw_alone() -> None:
    for name in ("RandomFlip", "RandomRotation", "RandomBrightness", "RandomHue", "RandomInvert"):
        many, few = MAKERS[name](seed=5)(X), MAKERS[name](seed=5)(X[:2])
        np.testing.assert_array_equal(few, many[:2])


def test_an_integer_seed_gives_the_same_transformation_each_time() -> None:
    layer = layers.RandomHue(0.5)
    drawn = [layer.get_random_transformation(X, seed=3)["factor"] for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert np.unique(np.abs(drawn[0])).size == 6
    jitter = layers.RandomColorJitter((0, 255), 0.2, 0.2, 0.4, 0.1)
    once, twice = (
        jitter.transform_images(X, jitter.get_random_transformation(X, seed=3)) for _ in range(2)
    )
    np.testing.assert_array_equal(once, twice)


def test_draws_have_their_distribution() -> None:
    many = np.zeros((4000, 2, 2, 3), "float32")

    def drawn(layer: Any) -> Any:
        return layer.get_random_transformation(many, seed=1)

    assert abs(drawn(layers.RandomFlip())["flips"].mean() - 0.5) < 0.03
    angle = drawn(layers.RandomRotation((-0.1, 0.3)))["angle"]
    assert angle.min() >= -36
    assert angle.max() <= 108
    assert abs(angle.mean() - 36) < 3
    zoom = drawn(layers.RandomZoom((0.2, 0.3)))
    assert zoom["height_zoom"].min() >= 1.2
    assert zoom["height_zoom"] is zoom["width_zoom"]
    assert abs(drawn(layers.RandomInvert((0.2, 0.2)))["apply_inversion"].mean() - 0.2) < 0.03
    assert set(drawn(layers.RandomPosterization((2, 5)))["shift_factor"]) == {4, 5, 6}
    mixed = drawn(layers.MixUp(alpha=1.0))
    assert abs(mixed["mix_weight"].mean() - 0.5) < 0.02
    np.testing.assert_array_equal(np.sort(mixed["permutation_order"]), np.arange(4000))
    cut = layers.CutMix((1.0, 1.0)).get_random_transformation(np.zeros((500, 20, 20, 1)), seed=1)
    inside = cut["batch_masks"].mean((1, 2, 3))
    np.testing.assert_allclose(1 - inside, cut["mix_weight"], atol=0.11)  # whole pixels


def test_values() -> None:
    flips = np.array([True, False, True]).reshape(3, 1, 1, 1)
    both = layers.RandomFlip().transform_images(X[:3], {"flips": flips})
    np.testing.assert_array_equal(both, np.where(flips, X[:3, ::-1, ::-1], X[:3]))
    moved = {"translations": np.array([[2.0, -1.0]] * 6, "float32")}
    layer = layers.RandomTranslation(0.5, 0.5, fill_mode="constant", fill_value=9.0)
    want = np.full_like(X, 9.0)
    want[:, :-1, 2:] = X[:, 1:, :-2]
    np.testing.assert_array_equal(layer.transform_images(X, moved), want)
    turned = layers.RandomRotation((0.25, 0.25))(X[:, :, :8])  # a quarter, counted clockwise
    np.testing.assert_allclose(turned, np.rot90(X[:, :, :8], 1, (1, 2)), atol=1e-2)
    half = {"mix_weight": np.full(6, 0.25, "float32"), "permutation_order": np.arange(6)[::-1]}
    mixed = layers.MixUp().transform_images(X, half)
    np.testing.assert_allclose(mixed, 0.25 * X + 0.75 * X[::-1], rtol=1e-6)
    found = layers.RandomPosterization((3, 3))(X)
    np.testing.assert_array_equal(found, X.astype("uint8") & 0b11100000)
    crop = layers.CenterCrop(4, 4)
    np.testing.assert_array_equal(crop(X), X[:, 2:6, 3:7])
    np.testing.assert_array_equal(crop(X, training=False), X[:, 2:6, 3:7])
    smaller = layers.RandomCrop(4, 5)(X, training=False)  # the largest window of 4:5, 8 by 10
    np.testing.assert_allclose(smaller, layers.Resizing(4, 5)(X), rtol=1e-6)
    same = layers.Equalization()(np.full((2, 4, 4, 1), 7.0, "float32"))
    np.testing.assert_array_equal(same, np.full((2, 4, 4, 1), 7.0))


@pytest.mark.slow
def test_all_that_belongs_to_an_image_changes_with_it() -> None:
    masks = (X[..., :1] > 128).astype("int32")
    boxes = {"boxes": np.array([[[0, 0, 4, 2]]] * 6, "float32"), "labels": np.ones((6, 1), "int32")}
    data = {"images": X, "segmentation_masks": masks, "bounding_boxes": boxes, "labels": np.eye(6)}
    layer = layers.RandomFlip("horizontal", seed=4, bounding_box_format="xyxy")
    found = layer(data)
    assert data["images"] is X
    assert boxes["boxes"][0, 0, 2] == 4
    flipped = ~(found["images"] == X).all((1, 2, 3))
    assert 0 < flipped.sum() < 6
    want = np.where(flipped[:, None, None, None], masks[:, :, ::-1], masks)
    np.testing.assert_array_equal(found["segmentation_masks"], want)
    mirrored = np.where(flipped[:, None], [[6, 0, 10, 2]], [[0, 0, 4, 2]])
    np.testing.assert_allclose(found["bounding_boxes"]["boxes"][:, 0], mirrored, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], np.eye(6))
    one = {key: value[0] for key, value in data.items() if key != "bounding_boxes"}
    assert layer(one)["segmentation_masks"].shape == (8, 10, 1)
    mixed = layers.MixUp(seed=1)({"images": X, "labels": np.eye(6)})
    np.testing.assert_allclose(mixed["labels"].sum(1), np.ones(6), rtol=1e-6)


def test_a_pipeline_and_a_dataset() -> None:
    prepare = layers.Pipeline([layers.RandomFlip(seed=1), layers.RandomContrast(0.2, seed=2)])
    assert prepare(X).shape == X.shape
    rows = handmill.data.Dataset.from_tensor_slices((X, np.arange(6))).batch(3)
    flip = layers.RandomFlip("horizontal", seed=1)
    batches = list(rows.map(lambda x, y: (flip(x), y)))
    found = np.concatenate([x for x, _ in batches])
    same = (found == X).all((1, 2, 3))
    mirrored = (found == X[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()


def test_draws_of_a_step_are_those_of_numpy() -> None:
    for name in ("RandomRotation", "RandomErasing", "RandomColorJitter"):
        found = MAKERS[name](seed=5)(X)
        with handmill.use_backend("numpy"):
            np.testing.assert_allclose(MAKERS[name](seed=5)(X), found, atol=0.02)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    (
        (lambda: layers.RandomFlip("diagonal"), ValueError, "mode=diagonal"),
        (lambda: layers.RandomRotation(2.0), ValueError, r"factor=2\.0"),
        (lambda: layers.RandomRotation(0.1, fill_mode="x"), NotImplementedError, "Unknown `fill_"),
        (lambda: layers.RandomZoom(-1.0), ValueError, r"\(-1\.0, 1\.0\]"),
        (lambda: layers.RandomTranslation(0.1, (0.1,)), ValueError, "width_factor"),
        (lambda: layers.RandomShear(-0.1), ValueError, "x_factor"),
        (lambda: layers.RandomContrast(1.5), ValueError, "factor=1.5"),
        (lambda: layers.RandomHue("much"), ValueError, "factor=much"),
        (lambda: layers.RandomBrightness(0.1, value_range=3), ValueError, "value_range=3"),
        (lambda: layers.RandomGaussianBlur(kernel_size=4), ValueError, "odd"),
        (lambda: layers.RandomErasing(fill_value="x"), ValueError, "fill_value=x"),
        (lambda: layers.RandomCrop(0, 3), ValueError, "height"),
        (lambda: layers.MixUp(alpha=0), ValueError, "alpha=0"),
        (lambda: layers.RandomFlip()(np.zeros((3, 4))), ShapeError, "rank"),
        (lambda: layers.MixUp()({"images": X, "labels": np.arange(6)}), ValueError, "one_hot"),
        (
            lambda: layers.RandomFlip()({"images": X, "bounding_boxes": {}}),
            ValueError,
            "bounding_box_format",
        ),
        (
            lambda: layers.CutMix(bounding_box_format="xyxy")(
                {
                    "images": X,
                    "bounding_boxes": {"boxes": np.zeros((6, 1, 4)), "labels": np.zeros((6, 1))},
                }
            ),
            NotImplementedError,
            "does not transform bounding boxes",
        ),
    ),
)
def test_refusals(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_limited_equalization_of_one_tile() -> None:
    x = np.random.default_rng(1).integers(0, 256, (2, 6, 5, 2)).astype("float32")
    layer = layers.ContrastLimitedAdaptiveHistogramEqualization(
        clip_limit=20.0, tile_grid_size=(1, 1)
    )
    for image, found in zip(x, np.asarray(layer(x)), strict=True):
        for c in range(2):
            counts = np.bincount(image[..., c].astype(int).ravel(), minlength=256).astype(float)
            limit = 20 * 30 / 256
            counts = np.minimum(counts, limit) + np.maximum(counts - limit, 0).sum() / 256
            below = counts.cumsum()
            table = (below - below[0]) * 255 / (30 - below[0])
            np.testing.assert_allclose(
                found[..., c], table[image[..., c].astype(int)], rtol=1e-5, atol=1e-3
            )


@pytest.mark.parametrize("first", (True, False))
def test_limited_equalization_in_a_model(first: bool) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, 9, 7, 2)).astype("float32")
    whole = layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(3, 2))
    want = np.asarray(whole(x))
    kind = "channels_first" if first else "channels_last"
    layer = layers.ContrastLimitedAdaptiveHistogramEqualization(
        tile_grid_size=(3, 2), data_format=kind
    )
    given = x.transpose(0, 3, 1, 2) if first else x
    i = layers.Input(given.shape[1:])
    found = models.Model(i, layer(i)).predict(given, verbose=0)
    found = found.transpose(0, 2, 3, 1) if first else found
    np.testing.assert_allclose(found, want, atol=1e-3)
    np.testing.assert_array_equal(whole(x.astype("int32")), want.astype("int32"))
    np.testing.assert_allclose(whole(x[1]), want[1], atol=1e-3)


def test_elastic_distances_are_blurred_numbers() -> None:
    h, w, strength, state = 12, 16, 0.9, np.array([5, 0])
    sigma, alpha = strength * 0.05 * h, strength * 0.1 * w
    drawn = np.asarray(hm_random.normal((2, 1, h, w), dtype="float32", seed=state)) * sigma
    reach = int(6 * sigma) // 2
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    window /= window.sum()
    for axis in (2, 3):
        drawn = np.apply_along_axis(np.convolve, axis, drawn, window, "same")
    rows, columns = np.mgrid[:h, :w]
    image = np.random.default_rng(0).uniform(0, 255, (1, h, w, 1)).astype("float32")
    at = (rows + alpha * drawn[1, 0], columns + alpha * drawn[0, 0])
    want = np.asarray(ops.image.map_coordinates(image[0, ..., 0], at, 1, fill_mode="reflect"))
    drawn_as = {"apply_transform": np.array([True]), "distortion_factor": strength, "seed": state}
    layer = layers.RandomElasticTransform()
    found = np.asarray(layer.transform_images(image, drawn_as))[0, ..., 0]
    np.testing.assert_allclose(found, want, atol=1e-2)


def test_elastic_masks_move_with_images() -> None:
    x = np.random.default_rng(0).integers(0, 5, (4, 24, 24, 1)).astype("float32")
    layer = layers.RandomElasticTransform((1, 1), (0.9, 1), "nearest", seed=3)
    layer = saving.deserialize_keras_object(saving.serialize_keras_object(layer))
    found = layer({"images": x, "segmentation_masks": x}, training=True)
    np.testing.assert_array_equal(found["images"], found["segmentation_masks"])
    assert np.abs(np.asarray(found["images"]) - x).max() > 0
    np.testing.assert_array_equal(layer(x, training=False), x)
    np.testing.assert_array_equal(layers.RandomElasticTransform(scale=0)(x, training=True), x)


def test_images_whose_sizes_a_call_decides() -> None:
    rng = np.random.default_rng(0)
    small, wide = (rng.random(shape).astype("float32") for shape in ((2, 9, 4, 3), (2, 3, 12, 3)))
    for make, arrays in (
        (lambda: layers.Resizing(5, 7, "bicubic", antialias=True), (small, wide)),
        (lambda: layers.Resizing(5, 7, "nearest"), (small, wide)),
        (lambda: layers.RandomRotation((0.1, 0.1), seed=1), (small, wide)),
        (lambda: layers.RandomErasing(scale=(0.5, 0.5), seed=1), (small,)),
        (lambda: layers.CutMix(seed=1), (small,)),
    ):
        inputs = handmill.Input((None, None, 3))
        model = handmill.Model(inputs, make()(inputs, training=True))
        for x in arrays:
            given = handmill.Input(x.shape[1:])
            fixed = handmill.Model(given, make()(given, training=True))
            want = fixed.predict(x, verbose=0)
            np.testing.assert_array_equal(model.predict(x, verbose=0), want, fixed.layers[1].name)
            assert want.shape != x.shape or (want != x).any()
    cropped = layers.Resizing(5, 7, crop_to_aspect_ratio=True)
    with pytest.raises(ShapeError, match="fixed height and width"):
        cropped(handmill.Input((None, None, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ((1, 1, 3), (1, 5, 3), (5, 1, 3)))
def test_perspectives_of_images_one_pixel_wide_or_high_are_numbers(shape) -> None:
    layer = layers.RandomPerspective(1.0, 1.0, fill_value=7.0, seed=1)
    assert (np.asarray(layer(np.full((8, *shape), 7.0, "float32"), training=True)) == 7).all()


def test_pipeline_names_what_is_no_list():
    with pytest.raises(ValueError, match=r"`layers` must be a list of layers\. Received: 3"):
        layers.Pipeline(3)
