"""ImageDataGenerator against Keras's own, and its deliberate differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import handmill as hm
from handmill import use_backend
from handmill.errors import KerasDifferenceWarning
from handmill.preprocessing.image import ImageDataGenerator, NumpyArrayIterator

pytestmark = pytest.mark.filterwarnings("ignore::handmill.errors.KerasDifferenceWarning")

TUTORIAL = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 0.2,
    "zoom_range": 0.2,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}

# Everything that moves pixels or colours, alone and together.
SETTINGS = {
    "tutorial": TUTORIAL,
    "wrap": {**TUTORIAL, "fill_mode": "wrap", "vertical_flip": True},
    "reflect": {**TUTORIAL, "fill_mode": "reflect", "shear_range": 30},
    "constant": {**TUTORIAL, "fill_mode": "constant", "cval": 13.0, "rescale": 1 / 255},
    "order 0": {**TUTORIAL, "interpolation_order": 0},
    "order 3": {**TUTORIAL, "interpolation_order": 3, "rescale": 1 / 255},
    "order 2": {**TUTORIAL, "interpolation_order": 2, "fill_mode": "reflect"},
    "pixels": {"height_shift_range": 3, "width_shift_range": [1, 2, 5]},
    "fractions": {"height_shift_range": [0.1, 0.3], "width_shift_range": 4.0},
    "colours": {"channel_shift_range": 40.0, "brightness_range": (0.5, 1.5), "rotation_range": 9},
    "sample": {
        "samplewise_center": True,
        "samplewise_std_normalization": True,
        "zoom_range": (0.7, 1.6),
        "rescale": 1 / 255,
    },
    "function": {
        "preprocessing_function": lambda x: x * 2 - 1,
        "rescale": 0.5,
        "rotation_range": 5,
    },
}


@pytest.fixture(scope="module")
def keras_image():
    pytest.importorskip("scipy", reason="Keras warps with scipy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "keras.src.legacy.preprocessing.image", reason="Keras is the oracle of the generator"
        )


@pytest.fixture(params=("native", "numpy"))
def backend(request):
    try:
        chosen = use_backend(request.param)
    except RuntimeError:
        pytest.skip("this installation has no kernels")
    with chosen:
        yield request.param


def images(n=12, height=20, width=20, channels=3, dtype=np.uint8):
    x = np.random.default_rng(5).integers(0, 256, (n, height, width, channels))
    return x.astype(dtype)


def close(got, expected):
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    scale = max(1.0, float(np.abs(expected).max()) / 255)
    np.testing.assert_allclose(got, expected, atol=0.05 * scale, rtol=0)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_keras3_mode_gives_the_batches_of_keras(keras_image, backend, name):
    settings = SETTINGS[name]
    x, y = images(), np.arange(12)
    ours = ImageDataGenerator(**settings, compat="keras3").flow(x, y, batch_size=5, seed=3)
    theirs = keras_image.ImageDataGenerator(**settings).flow(x, y, batch_size=5, seed=3)
    for _ in range(7):
        (got_x, got_y), (expected_x, expected_y) = next(ours), next(theirs)
        np.testing.assert_array_equal(got_y, expected_y)
        close(got_x, expected_x)
    ours.close()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_keras3_mode_follows_numpys_global_generator(keras_image):
    x, y = images(), np.arange(12)
    results = []
    for generator in (
        ImageDataGenerator(**TUTORIAL, compat="keras3"),
        keras_image.ImageDataGenerator(**TUTORIAL),
    ):
        np.random.seed(11)  # noqa: NPY002  (what a user of Keras does)
        batches = generator.flow(x, y, batch_size=5)
        results.append([next(batches) for _ in range(6)] + [generator.random_transform(x[0])])
    for got, expected in zip(results[0][:-1], results[1][:-1], strict=True):
        np.testing.assert_array_equal(got[1], expected[1])
        close(got[0], expected[0])
    np.testing.assert_allclose(results[0][-1], results[1][-1], atol=1)  # Keras keeps uint8


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_keras3_mode_by_position(keras_image):
    x, y = images(), np.arange(12)
    ours = ImageDataGenerator(**TUTORIAL, compat="keras3").flow(x, y, batch_size=5, seed=3)
    theirs = keras_image.ImageDataGenerator(**TUTORIAL).flow(x, y, batch_size=5, seed=3)
    for _ in range(2):
        for i in range(3):
            (got_x, got_y), (expected_x, expected_y) = ours[i], theirs[i]
            np.testing.assert_array_equal(got_y, expected_y)
            close(got_x, expected_x)
        ours.on_epoch_end()
        theirs.on_epoch_end()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
@pytest.mark.parametrize("shape", ((20, 31, 3), (31, 20, 1), (9, 9, 4)))
def test_keras3_mode_of_single_images(keras_image, shape, data_format):
    settings = {**TUTORIAL, "channel_shift_range": 20.0, "data_format": data_format}
    ours = ImageDataGenerator(**settings, compat="keras3")
    theirs = keras_image.ImageDataGenerator(**settings)
    x = images(1, *shape)[0].astype(np.float32)
    if data_format == "channels_first":
        x = x.transpose(2, 0, 1)
    for seed in range(10):
        parameters = ours.get_random_transform(x.shape, seed=seed)
        assert parameters == theirs.get_random_transform(x.shape, seed=seed)
        close(ours.apply_transform(x, parameters), theirs.apply_transform(x, parameters))
        close(ours.random_transform(x, seed=seed), theirs.random_transform(x, seed=seed))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_square_images_without_shifts_are_keras_in_the_default_mode_too(keras_image):
    settings = {**TUTORIAL, "height_shift_range": 0.0, "width_shift_range": 0.0, "shear_range": 20}
    ours, theirs = ImageDataGenerator(**settings), keras_image.ImageDataGenerator(**settings)
    x = images(1)[0].astype(np.float32)
    for seed in range(10):
        parameters = ours.get_random_transform(x.shape, seed=seed)
        assert parameters == theirs.get_random_transform(x.shape, seed=seed)
        close(ours.apply_transform(x, parameters), theirs.apply_transform(x, parameters))


def test_the_other_axes_are_told_once_where_they_show(monkeypatch):
    monkeypatch.setattr("handmill.data.images.augmenter._told_of_axes", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageDataGenerator(**TUTORIAL)
        ImageDataGenerator(height_shift_range=0.1, compat="keras3")
        with pytest.raises(KerasDifferenceWarning, match="moves rows"):
            ImageDataGenerator(height_shift_range=0.1)
        ImageDataGenerator(height_shift_range=0.1)


def _moved(settings):
    """The row and column at which a bright pixel from the middle of 21x21 ends."""
    x = np.zeros((1, 21, 21, 1), np.float32)
    x[0, 10, 10, 0] = 255
    batches = ImageDataGenerator(fill_mode="constant", **settings).flow(x, seed=0)
    return {tuple(int(i) for i in np.argwhere(next(batches)[0, :, :, 0])[0]) for _ in range(20)}


def test_height_shift_moves_rows_and_width_shift_columns():
    assert _moved({"height_shift_range": [4]}) == {(6, 10), (14, 10)}
    assert _moved({"width_shift_range": [4]}) == {(10, 6), (10, 14)}
    assert _moved({"height_shift_range": [4], "compat": "keras3"}) == {(10, 6), (10, 14)}
    assert _moved({"width_shift_range": 3}) <= {(10, c) for c in range(8, 13)}


def test_the_centre_of_an_image_that_is_not_square_stays():
    x = np.zeros((9, 31, 1), np.float32)
    x[4, 15] = 255
    generator = ImageDataGenerator(fill_mode="constant")
    y = generator.apply_transform(x, {"theta": 90})
    assert y[4, 15, 0] == pytest.approx(255)
    y = ImageDataGenerator(fill_mode="constant", compat="keras3").apply_transform(x, {"theta": 90})
    assert y[4, 15, 0] == 0


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    (
        {"featurewise_center": True, "featurewise_std_normalization": True, "rescale": 1 / 255},
        {"zca_whitening": True},
        {"featurewise_std_normalization": True, "data_format": "channels_first"},
    ),
)
def test_fit_is_that_of_keras(keras_image, settings):
    x = images(30, 6, 6).astype(np.float32)
    if settings.get("data_format") == "channels_first":
        x = x.transpose(0, 3, 1, 2)
    ours = ImageDataGenerator(**settings, compat="keras3")
    theirs = keras_image.ImageDataGenerator(**settings)
    ours.fit(x)
    theirs.fit(x)
    for name in ("mean", "std", "zca_whitening_matrix"):
        got, expected = getattr(ours, name), getattr(theirs, name)
        assert (got is None) == (expected is None)
        if got is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    got = next(ours.flow(x, batch_size=7, shuffle=False))
    expected = next(theirs.flow(x, batch_size=7, shuffle=False))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(
        ours.standardize(x[:4].copy()), theirs.standardize(x[:4].copy()), rtol=1e-3, atol=2e-3
    )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_fit_on_augmented_copies_is_that_of_keras(keras_image):
    settings = {**TUTORIAL, "featurewise_center": True}
    x = images(10, 8, 8).astype(np.float32)
    ours = ImageDataGenerator(**settings, compat="keras3")
    theirs = keras_image.ImageDataGenerator(**settings)
    ours.fit(x, augment=True, rounds=2, seed=4)
    theirs.fit(x, augment=True, rounds=2, seed=4)
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=0.05)
    ours = ImageDataGenerator(**settings)
    ours.fit(x, augment=True, rounds=2, seed=4)
    first = ours.mean
    ours.fit(x, augment=True, rounds=2, seed=4)
    np.testing.assert_array_equal(ours.mean, first)


def test_numpys_global_generator_is_left_alone():
    x = images()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for compat in (None, "keras3"):
        batches = ImageDataGenerator(**TUTORIAL, compat=compat).flow(x, seed=1, batch_size=5)
        for _ in range(4):
            next(batches)
    ImageDataGenerator(**TUTORIAL).random_transform(x[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_random_parameters_are_uniform_and_keyed_by_image():
    generator = ImageDataGenerator(**{**TUTORIAL, "brightness_range": (0.5, 2.0)})
    draws = generator._draw(99, np.arange(20_000), 10, 50)
    assert abs(draws.theta.mean()) < 0.3
    assert draws.theta.min() < -19.9
    assert draws.theta.max() > 19.9
    assert np.abs(draws.tx).max() <= 2.0  # a fifth of the height
    assert 9.9 < np.abs(draws.ty).max() <= 10.0
    assert 0.49 < draws.flip_horizontal.mean() < 0.51
    assert not draws.flip_vertical.any()
    assert 1.24 < draws.brightness.mean() < 1.26
    assert abs(np.corrcoef(draws.zx, draws.zy)[0, 1]) < 0.03
    few = generator._draw(99, np.array([19_999, 3]), 10, 50)
    np.testing.assert_array_equal(few.theta, draws.theta[[19_999, 3]])


def test_brightness_keeps_alpha_and_stretches_what_is_out_of_range():
    pytest.importorskip("PIL", reason="Pillow is the oracle of brightness")
    generator = ImageDataGenerator(brightness_range=(0.2, 0.2))
    x = images(1, channels=4).astype(np.float32)[0]
    y = generator.random_transform(x)
    np.testing.assert_array_equal(y[..., 3], x[..., 3])
    assert y[..., :3].max() <= 51
    wide = np.linspace(-100, 300, 27, dtype=np.float32).reshape(3, 3, 3)
    np.testing.assert_allclose(generator.random_transform(wide).max(), -20, atol=2)


@pytest.mark.parametrize(
    "dtype", ("float32", "float64", "uint8", "int64", "bool", ">f4", "float16")
)
def test_any_numeric_dtype_and_layout(dtype):
    x = (np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3) % 2).astype(dtype)
    batches = ImageDataGenerator(rescale=2.0)
    expected = x.astype(np.float32) * 2
    for array in (x, np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, axis=2)[:, :, ::2]):
        got = next(batches.flow(array, shuffle=False))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    x.flags.writeable = False
    np.testing.assert_array_equal(next(batches.flow(x, shuffle=False)), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"interpolation_order": 6}, "interpolation_order: expected 0"),
        ({"fill_mode": "mirror"}, "'nearest', 'constant', 'reflect', 'wrap', got 'mirror'"),
        ({"compat": "keras2"}, "compat: expected"),
        ({"data_format": "last"}, "`data_format` .* 'channels_first', 'channels_last'"),
        ({"validation_split": 1.5}, "between 0 and 1"),
        ({"zoom_range": (1, 2, 3)}, "zoom_range"),
        ({"brightness_range": 2}, "brightness_range"),
    ),
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageDataGenerator(**settings)


def test_settings_that_imply_others_warn():
    with pytest.warns(UserWarning, match="overrides setting of `featurewise_center`"):
        generator = ImageDataGenerator(featurewise_std_normalization=True)
    assert generator.featurewise_center
    with pytest.warns(UserWarning, match="hasn't been fit"):
        generator.standardize(np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("taker", ("next", "fit"))
def test_what_threads_warn_of_reaches_the_caller_once(taker):
    """Batches are made on threads, under whose stack there is no line of the user's."""
    x = np.zeros((40, 4, 4, 3), np.float32)
    model = hm.Sequential([hm.Input((4, 4, 3)), hm.layers.Flatten(), hm.layers.Dense(1)])
    model.compile("sgd", "mse")

    def take():
        generator = ImageDataGenerator(featurewise_center=True)
        batches = generator.flow(x, np.zeros(40), batch_size=4)
        if taker == "fit":
            model.fit(batches, epochs=2, verbose=0)
        for _ in range(12 * (taker == "next")):
            next(batches)

    with pytest.warns(UserWarning, match="hasn't been fit") as seen:
        take()
    texts = [w for w in seen if "`featurewise_center`, but it hasn't been fit" in str(w.message)]
    assert [w.filename for w in texts] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="hasn't been fit"):
            take()


def test_a_function_that_changes_the_shape_is_named():
    batches = ImageDataGenerator(preprocessing_function=lambda x: x[1:]).flow(images(2))
    with pytest.raises(ValueError, match=r"preprocessing_function: expected .*\(20, 20, 3\)"):
        next(batches)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    (
        (np.zeros((3, 4, 4)), None, "rank 4"),
        ([[1, 2], [3]], None, "one shape"),
        (np.array([["a"]]), None, "array of numbers"),
        (np.zeros((3, 4, 4, 1)), np.zeros(2), "same length"),
    ),
)
def test_bad_arrays(x, y, message):
    with pytest.raises(ValueError, match=message):
        ImageDataGenerator().flow(x, y)


def test_labels_weights_and_other_inputs_pass_through():
    x, other = images(7), np.arange(14).reshape(7, 2)
    y, weights = np.arange(7, dtype=np.int16), np.linspace(0, 1, 7)
    batches = ImageDataGenerator().flow((x, [other]), y, 4, shuffle=False, sample_weight=weights)
    assert isinstance(batches, NumpyArrayIterator)
    (images_4, other_4), y_4, weights_4 = next(batches)
    np.testing.assert_array_equal(images_4, x[:4])
    np.testing.assert_array_equal(other_4, other[:4])
    assert y_4.dtype == np.int16
    np.testing.assert_array_equal(weights_4, weights[:4])


def test_subsets_of_arrays():
    x = images(10)
    generator = ImageDataGenerator(validation_split=0.3)
    assert generator.flow(x, subset="validation").n == 3
    assert generator.flow(x, np.arange(10) % 2, subset="training").n == 7
    np.testing.assert_array_equal(next(generator.flow(x, subset="training", shuffle=False)), x[3:])
    with pytest.raises(ValueError, match="different number of classes"):
        generator.flow(x, np.arange(10), subset="training")
    assert generator.flow(x, np.arange(10), subset="training", ignore_class_split=True).n == 7
    with pytest.raises(ValueError, match="Invalid subset name"):
        generator.flow(x, subset="test")
