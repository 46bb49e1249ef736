"""Images: against Keras on JAX where it is installed, and by what each function means."""

import numpy as np
import pytest

import handmill as hm
from handmill import ops

IMAGE = np.random.default_rng(0).uniform(0, 1, (2, 5, 8, 3)).astype(np.float32)


def first(x):
    return np.moveaxis(x, -1, -3)


@pytest.fixture(scope="module")
def theirs():
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras runs on another backend here")
    return keras.ops.image


CALLS = [
    ("rgb_to_grayscale", {}),
    ("rgb_to_hsv", {}),
    ("hsv_to_rgb", {}),
    ("pad_images", {"top_padding": 1, "target_height": 9, "left_padding": 0, "right_padding": 2}),
    (
        "crop_images",
        {"top_cropping": 1, "target_height": 3, "left_cropping": 0, "right_cropping": 2},
    ),
    *[
        ("resize", {"size": size, "interpolation": how, "antialias": antialias})
        for size in ((3, 11), (10, 4))
        for how in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        for antialias in (False, True)
    ],
    ("resize", {"size": (4, 4), "crop_to_aspect_ratio": True}),
    ("resize", {"size": (4, 4), "pad_to_aspect_ratio": True, "fill_value": 0.5}),
    ("resize", {"size": (3, 9), "pad_to_aspect_ratio": True}),
    ("gaussian_blur", {"kernel_size": (4, 3), "sigma": (0.7, 2.0)}),
    ("gaussian_blur", {"kernel_size": (3, 9), "sigma": (1.0, 1.5)}),
    ("extract_patches", {"size": (2, 3)}),
    ("extract_patches", {"size": 2, "strides": (1, 2), "padding": "same"}),
    ("extract_patches", {"size": (3, 2), "strides": 1, "dilation_rate": 2, "padding": "same"}),
]
TURN = np.float32([0.9, -0.3, 1.2, 0.25, 1.1, -1.7, 0, 0])
POINTS = np.float32([[[0, 0], [7, 0], [0, 4], [7, 4]], [[1, 0], [6, 1], [0, 3], [7, 4]]])
COORDINATES = np.random.default_rng(3).uniform(-9, 14, (3, 4, 25)).astype(np.float32)
MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
BATCH = IMAGE[:, :, :, ::-1] + 0.5
# Of arrays without a format, or of a batch only: name, arguments, options.
MORE = [
    *[
        ("map_coordinates", (x, COORDINATES, order, mode, 3), {})
        for x in (IMAGE[0], (IMAGE[0] * 255).astype(np.uint8))
        for order in (0, 1)
        for mode in MODES
    ],
    ("affine_transform", (IMAGE, np.stack([TURN, -TURN]), "nearest"), {}),
    *[("affine_transform", (IMAGE[0], TURN, "bilinear", mode, 2.0), {}) for mode in MODES],
    (
        "affine_transform",
        (first(IMAGE), np.stack([TURN, TURN + 0.1]) * np.float32([1] * 6 + [0, 0])),
        {"data_format": "channels_first"},
    ),
    ("perspective_transform", (IMAGE, POINTS, POINTS[::-1] + 0.3, "bilinear", 0.5), {}),
    ("perspective_transform", (IMAGE[0], POINTS[0], POINTS[1] - 0.3, "nearest"), {}),
    (
        "perspective_transform",
        (first(IMAGE), POINTS, POINTS[::-1]),
        {"data_format": "channels_first"},
    ),
    *[
        (
            "scale_and_translate",
            (IMAGE, (2, 7, 5, 3), np.float32([1.7, 0.6]), np.float32([-1.2, 0.4]), (1, 2), how, a),
            {},
        )
        for how in ("linear", "cubic", "lanczos3", "lanczos5")
        for a in (True, False)
    ],
    ("sobel_edges", (IMAGE,), {}),
    ("sobel_edges", (first(IMAGE),), {"data_format": "channels_first"}),
    ("ssim", (IMAGE, BATCH, 1.0, 5), {}),
    ("ssim", (first(IMAGE[0]), first(BATCH[0]), 2.0, 3, 0.8, 0.1, 0.2, "channels_first"), {}),
    ("extract_patches_3d", (IMAGE[..., None], (1, 2, 3), (1, 1, 2)), {}),
    ("extract_patches_3d", (IMAGE, 2), {"data_format": "channels_first", "padding": "same"}),
]


@pytest.mark.slow
def test_numbers_are_those_of_keras(theirs):
    inputs = [(IMAGE, "channels_last"), (first(IMAGE[0]), "channels_first")]
    for i, (name, options) in enumerate(CALLS):
        x, layout = inputs[i % 2]  # each call compiles anew there
        kwargs = {**options, "data_format": layout}
        want = np.asarray(getattr(theirs, name)(x, **kwargs))
        got = getattr(ops.image, name)(x, **kwargs)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5, err_msg=f"{name} {kwargs}")


@pytest.mark.slow
def test_more_numbers_are_those_of_keras(theirs):
    for name, arguments, options in MORE:
        want = np.asarray(getattr(theirs, name)(*arguments, **options))
        got = getattr(ops.image, name)(*arguments, **options)
        assert got.dtype == want.dtype
        tolerance = 1e-4 if name == "perspective_transform" else 2e-5
        message = f"{name} {arguments[1:]} {options}"
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=message)


@pytest.mark.slow
def test_integers_are_rounded_as_keras_rounds_them(theirs):
    x = np.random.default_rng(1).integers(0, 256, (2, 5, 8, 3)).astype(np.uint8)
    for how in ("nearest", "bilinear", "bicubic", "lanczos3"):
        got = ops.image.resize(x, (7, 5), interpolation=how)
        want = np.asarray(theirs.resize(x, (7, 5), interpolation=how))
        assert got.dtype == want.dtype == np.uint8
        assert np.abs(got.astype(int) - want.astype(int)).max() <= (how != "nearest")
    gray = ops.image.rgb_to_grayscale(x)
    assert gray.dtype == np.uint8
    assert np.abs(gray.astype(int) - np.asarray(theirs.rgb_to_grayscale(x)).astype(int)).max() <= 1


def test_a_constant_image_stays_constant_and_a_ramp_a_ramp():
    for how in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        for antialias in (False, True):
            y = ops.image.resize(np.full((4, 7, 2), 3.0, np.float32), (9, 3), how, antialias)
            np.testing.assert_allclose(y, np.full((9, 3, 2), 3.0), rtol=1e-6)
    ramp = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    np.testing.assert_allclose(
        ops.image.resize(ramp, (1, 4)).ravel(), [0.5, 2.5, 4.5, 6.5], rtol=1e-6
    )


def test_colors_there_and_back():
    back = ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(IMAGE))
    np.testing.assert_allclose(back, IMAGE, atol=1e-6)
    gray = ops.image.rgb_to_grayscale(IMAGE)
    np.testing.assert_allclose(gray[..., 0], IMAGE @ [0.2989, 0.5870, 0.1140], rtol=1e-5)


def test_crop_undoes_pad():
    padded = ops.image.pad_images(IMAGE, 1, 2, 3, target_width=14)
    assert padded.shape == (2, 9, 14, 3)
    assert padded[:, 0].sum() == 0
    assert padded[:, :, 10:].sum() == 0
    cut = ops.image.crop_images(padded, 1, 2, target_height=5, target_width=8)
    np.testing.assert_array_equal(cut, IMAGE)


def test_in_a_model_with_its_gradient():
    """The gradient of a resized image's sum is how often each pixel counts."""
    x = hm.Variable(IMAGE)
    with hm.GradientTape() as tape:
        y = ops.sum(ops.image.resize(x, (3, 4)) * 2.0)
    dx = np.asarray(tape.gradient(y, x))
    assert dx.shape == IMAGE.shape
    np.testing.assert_allclose(dx.sum(), 2.0 * 3 * 4 * 2 * 3, rtol=1e-5)
    i = hm.layers.Input((5, 8, 3))
    o = ops.image.resize(ops.image.rgb_to_grayscale(i), (3, 4), "bicubic")
    model = hm.Model(i, ops.image.pad_images(o, 1, 1, 1, 1))
    assert model.output_shape == (None, 5, 6, 1)
    want = ops.image.resize(ops.image.rgb_to_grayscale(IMAGE), (3, 4), "bicubic")
    np.testing.assert_allclose(model.predict(IMAGE, verbose=0)[:, 1:-1, 1:-1], want, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda: ops.image.resize(IMAGE, (3,)), "tuple of 2 integers"),
        (lambda: ops.image.resize(IMAGE, (3, 0)), "positive height and width"),
        (lambda: ops.image.resize(IMAGE, (3, 3), "cubist"), "Invalid value for .*interpolation"),
        (lambda: ops.image.resize(IMAGE, (3, 3), fill_mode="wrap"), "Only `'constant'`"),
        (lambda: ops.image.resize(IMAGE, (3, 3), "nearest", False, True, True), "Only one of"),
        (lambda: ops.image.resize(IMAGE[0, 0], (3, 3)), "Invalid images rank"),
        (lambda: ops.image.resize(hm.layers.Input((None, 4, 3)), (3, 3)), "fixed height and width"),
        (lambda: ops.image.rgb_to_hsv(IMAGE.astype(np.uint8)), "expected float dtype"),
        (lambda: ops.image.hsv_to_rgb(IMAGE[..., :2]), "must have 3 channels"),
        (lambda: ops.image.rgb_to_grayscale(IMAGE[..., :2]), "Invalid channel size"),
        (lambda: ops.image.rgb_to_grayscale(IMAGE, "rows_last"), "data_format"),
        (lambda: ops.image.pad_images(IMAGE, 1, 1, 1), "exactly two of left_padding"),
        (lambda: ops.image.pad_images(IMAGE, -1, 1, 1, 1), "top_padding must be >= 0"),
        (lambda: ops.image.crop_images(IMAGE, 4, 1, 4, 1), "target_height must be >= 0"),
    ),
    ids=range(14),
)
def test_what_cannot_be_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
