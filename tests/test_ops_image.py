"""Images: against Keras on JAX where it is installed, and by what each function means."""

import numpy as np
import pytest

import handmill as hm
from handmill import config, ops
from handmill.ir import bfloat16
from handmill.ir.gradient import gradients
from handmill.ir.graph import current_graph
from handmill.ir.shapes import numpy_dtype
from handmill.runtime.function import TracedFunction

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
        ("resize", {"size": (3, 11), "interpolation": how, "antialias": antialias})
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
        for x, order in ((IMAGE[0], 0), ((IMAGE[0] * 255).astype(np.uint8), 1))
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
        for how, a in (("linear", True), ("cubic", False), ("lanczos3", True), ("lanczos5", False))
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
    import jax

    inputs = [(IMAGE, "channels_last"), (first(IMAGE[0]), "channels_first")]
    calls = list(MORE)
    for i, (name, options) in enumerate(CALLS):
        x, layout = inputs[i % 2]
        calls.append((name, (x,), {**options, "data_format": layout}))

    # One program of all calls: each by itself would be compiled anew, operator by operator.
    def run():
        return [getattr(theirs, name)(*args, **options) for name, args, options in calls]

    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    for (name, args, options), want in zip(
        calls, jax.jit(run, compiler_options=quick)(), strict=True
    ):
        got = getattr(ops.image, name)(*args, **options)
        assert got.dtype == want.dtype
        tolerance = 1e-4 if name == "perspective_transform" else 2e-5
        message = f"{name} {args[1:]} {options}"
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


# By NumPy: how an array goes on beyond its borders, under NumPy's names.
BEYOND = {"nearest": "edge", "wrap": "wrap", "mirror": "reflect", "reflect": "symmetric"}


@pytest.mark.parametrize("mode", MODES)
def test_map_coordinates_is_interpolation_in_a_padded_array(mode):
    around = 20
    kind = {"mode": BEYOND[mode]} if mode != "constant" else {"constant_values": 0.25}
    whole = np.pad(IMAGE[0].astype(np.float64), around, **kind)
    at = COORDINATES.astype(np.float64) + around
    low = np.floor(at).astype(int)
    want = 0.0
    for corner in np.ndindex(2, 2, 2):
        offset = np.reshape(corner, (3, 1, 1))
        share = np.where(offset == 1, at - low, 1 - (at - low)).prod(axis=0)
        want = want + share * whole[tuple(low + offset)]
    got = ops.image.map_coordinates(IMAGE[0], COORDINATES, 1, mode, 0.25)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)
    near = np.trunc(at + 0.5).astype(int)
    got = ops.image.map_coordinates(IMAGE[0], COORDINATES, 0, mode, 0.25)
    np.testing.assert_allclose(got, whole[tuple(near)], rtol=1e-6)


def test_map_coordinates_rounds_integers_away_from_zero():
    x = np.int32([-3, -2, 2, 3])
    assert ops.image.map_coordinates(x, [[0.5, 2.5, 1.5]], 1).tolist() == [-3, 3, 0]
    halves = ops.image.map_coordinates(x, [[0.5, -0.5, 1.4999999]], 0, "constant", 9)
    assert halves.tolist() == [-2, 9, -2]
    one = ops.image.map_coordinates([5.0], [[-3.0, 0.4, 7.0]], 1, "mirror")
    assert one.tolist() == [5, 5, 5]


def test_patches_are_windows():
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (3, 2), axis=(1, 2))
    want = np.moveaxis(windows[:, ::2, ::3], 3, -1).reshape(2, 2, 3, 18)
    got = ops.image.extract_patches(IMAGE, (3, 2), strides=(2, 3))
    np.testing.assert_array_equal(got, want)
    whole = ops.image.extract_patches((IMAGE * 255).astype(np.uint8), (1, 2))
    np.testing.assert_array_equal(whole, (IMAGE * 255).astype(np.uint8).reshape(2, 5, 4, 6))
    assert whole.dtype == np.uint8


def test_blur_and_edges_of_a_ramp_stay_inside():
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None, None], (9, 8, 2))
    blur = ops.image.gaussian_blur(ramp, (5, 3), (1.0, 0.8))
    np.testing.assert_allclose(blur[1:-1, 2:-2], ramp[1:-1, 2:-2], rtol=1e-6)
    edges = ops.image.sobel_edges(ramp[None])[0, 1:-1, 1:-1]
    np.testing.assert_array_equal(edges, np.broadcast_to([8.0, 0.0], edges.shape))
    assert ops.image.sobel_edges(ramp[None].astype(np.int32)).dtype == np.int32


def test_ssim_by_its_formula():
    def windowed(f, *images):
        views = [np.lib.stride_tricks.sliding_window_view(x, (5, 5), (1, 2)) for x in images]
        return (f(*views) * window).sum(axis=(-1, -2))

    side = np.exp(-0.5 * (np.arange(-2, 3) / 1.5) ** 2)
    window = np.outer(side, side) / side.sum() ** 2
    x, y = IMAGE.astype(np.float64), BATCH.astype(np.float64)
    mx, my = windowed(lambda a: a, x), windowed(lambda a: a, y)
    sx = windowed(lambda a: (a - mx[..., None, None]) ** 2, x)
    sy = windowed(lambda a: (a - my[..., None, None]) ** 2, y)
    sxy = windowed(lambda a, b: (a - mx[..., None, None]) * (b - my[..., None, None]), x, y)
    want = (2 * mx * my + 1e-4) * (2 * sxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (sx + sy + 9e-4))
    got = ops.image.ssim(IMAGE, BATCH, filter_size=5)
    np.testing.assert_allclose(got, want.mean(axis=(1, 2, 3)), rtol=1e-4)


def test_warps_by_whole_pixels_move_pixels():
    step = np.float32([1, 0, 2, 0, 1, -1, 0, 0])
    moved = ops.image.affine_transform(IMAGE, step, "nearest", "wrap")
    np.testing.assert_array_equal(moved, np.roll(IMAGE, (1, -2), axis=(1, 2)))
    pulled = np.asarray(ops.image.perspective_transform(IMAGE, POINTS, POINTS[::-1], "bilinear"))
    for i in range(2):
        for (u, v), (x, y) in zip(POINTS[i].astype(int), POINTS[1 - i].astype(int), strict=True):
            np.testing.assert_allclose(pulled[i, y, x], IMAGE[i, v, u], atol=1e-4)


def test_elastic_transform_draws_from_its_seed():
    again = [np.asarray(ops.image.elastic_transform(IMAGE, seed=s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert np.abs(again[0] - again[2]).max() > 0.1
    still = ops.image.elastic_transform(IMAGE, alpha=0.0, seed=1)
    np.testing.assert_array_equal(still, IMAGE)
    assert ops.image.elastic_transform((IMAGE[0] * 255).astype(np.uint8)).dtype == np.uint8


SMOOTH = {
    "hsv": lambda x: ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(x) ** 2),
    "resize": lambda x: ops.image.resize(x, (3, 9), "bicubic", antialias=True) ** 2,
    "blur": lambda x: ops.image.gaussian_blur(x, (3, 5)) ** 2,
    "edges": lambda x: ops.image.sobel_edges(x) ** 2,
    "ssim": lambda x: ops.image.ssim(x, BATCH, filter_size=3),
    "patches": lambda x: ops.image.extract_patches(x, 2, 1) ** 2,
    "affine": lambda x: ops.image.affine_transform(x, TURN, fill_mode="reflect") ** 2,
    "perspective": lambda x: ops.image.perspective_transform(x, POINTS[0], POINTS[1]) ** 2,
    "scale": lambda x: ops.image.scale_and_translate(
        x[:, :, :4, :1], (None, 5, 6, None), x[0, 0, :2, 0] + 1.3, x[0, 1, :2, 0], (1, 2), "cubic"
    ),
    "coordinates": lambda x: ops.image.map_coordinates(
        x[1, :, :, 0], ops.transpose(x[0, :, :, :2], (2, 0, 1)) * 3.3, 1
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_programs_and_gradients(name):
    """With kernels and with NumPy a program gives the numbers of the call; so do differences."""
    function = SMOOTH[name]
    want = np.asarray(function(IMAGE))

    def run(x):
        y = function(x)
        return y, gradients(current_graph(), ops.sum(y), [x])[0]

    found = {}
    for backend in ("native", "numpy") if config.has_kernels() else ("numpy",):
        with config.use_backend(backend):
            y, found[backend] = TracedFunction(run, name)(IMAGE)
            np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)
    for dx in found.values():
        np.testing.assert_allclose(dx, found["numpy"], rtol=2e-4, atol=2e-4)
    for place in ((0, 1, 1, 0), (0, 0, 0, 0)):
        step = np.zeros(IMAGE.shape)
        step[place] = 1e-5
        ends = [float(ops.sum(function(IMAGE.astype(np.float64) + s))) for s in (step, -step)]
        np.testing.assert_allclose(dx[place], (ends[0] - ends[1]) / 2e-5, rtol=5e-3, atol=2e-3)


def test_warps_in_a_model_for_any_batch():
    i = hm.layers.Input((5, 8, 3))
    turned = ops.image.affine_transform(i, TURN)
    o = ops.image.perspective_transform(turned, POINTS[0], POINTS[1])
    model = hm.Model(i, [o, ops.image.elastic_transform(i, alpha=1.0)])
    assert [s.shape for s in model.outputs] == [(None, 5, 8, 3)] * 2
    for x in (IMAGE, IMAGE[:1]):
        got, pulled = model.predict(x, verbose=0)
        want = ops.image.affine_transform(x, TURN)
        want = ops.image.perspective_transform(want, POINTS[0], POINTS[1])
        np.testing.assert_allclose(got, want, atol=1e-5)
        assert pulled.shape == x.shape


@pytest.mark.parametrize("name", ("rgb_to_hsv", "gaussian_blur", "sobel_edges", "rgb_to_grayscale"))
def test_dtypes_stay(name):
    for dtype in ("bfloat16", "float64") if bfloat16.is_available() else ("float64",):
        x = IMAGE.astype(numpy_dtype(dtype))
        assert getattr(ops.image, name)(x).dtype == dtype


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda: ops.image.resize(IMAGE, (3,)), "tuple of 2 integers"),
        (lambda: ops.image.resize(IMAGE, (3, 0)), "positive height and width"),
        (lambda: ops.image.resize(IMAGE, (3, 3), "cubist"), "Invalid value for .*interpolation"),
        (lambda: ops.image.resize(IMAGE, (3, 3), fill_mode="wrap"), "Only `'constant'`"),
        (lambda: ops.image.resize(IMAGE, (3, 3), "nearest", False, True, True), "Only one of"),
        (lambda: ops.image.resize(IMAGE[0, 0], (3, 3)), "Invalid images rank"),
        (
            lambda: ops.image.resize(
                hm.layers.Input((None, 4, 3)), (3, 3), pad_to_aspect_ratio=True
            ),
            "fixed height and width",
        ),
        (lambda: ops.image.rgb_to_hsv(IMAGE.astype(np.uint8)), "expected float dtype"),
        (lambda: ops.image.hsv_to_rgb(IMAGE[..., :2]), "must have 3 channels"),
        (lambda: ops.image.rgb_to_grayscale(IMAGE[..., :2]), "Invalid channel size"),
        (lambda: ops.image.rgb_to_grayscale(IMAGE, "rows_last"), "data_format"),
        (lambda: ops.image.pad_images(IMAGE, 1, 1, 1), "exactly two of left_padding"),
        (lambda: ops.image.pad_images(IMAGE, -1, 1, 1, 1), "top_padding must be >= 0"),
        (lambda: ops.image.crop_images(IMAGE, 4, 1, 4, 1), "target_height must be >= 0"),
        (lambda: ops.image.gaussian_blur(IMAGE.astype(np.uint8)), "expected float dtype"),
        (lambda: ops.image.gaussian_blur(IMAGE, (0, 3)), "`kernel_size` must be"),
        (lambda: ops.image.gaussian_blur(IMAGE, (3, 3), (0, 1)), "`sigma` must be above 0"),
        (lambda: ops.image.sobel_edges(IMAGE[0]), "expected rank 4"),
        (lambda: ops.image.sobel_edges(IMAGE.astype(np.uint8)), "negative numbers"),
        (lambda: ops.image.ssim(IMAGE, IMAGE[:1]), "must have the same shape"),
        (lambda: ops.image.ssim(IMAGE, IMAGE), "`filter_size` must be at most"),
        (lambda: ops.image.extract_patches(IMAGE, (1, 2, 3, 4)), "length 2 or 3"),
        (lambda: ops.image.extract_patches(IMAGE, 9), "do not fit"),
        (lambda: ops.image.extract_patches(IMAGE, 2, padding="full"), "`padding` must be"),
        (lambda: ops.image.map_coordinates(IMAGE, COORDINATES, 1), "rank of `inputs`"),
        (lambda: ops.image.map_coordinates(IMAGE[0], COORDINATES, 2), "argument `order`"),
        (lambda: ops.image.map_coordinates(IMAGE[0], COORDINATES, 1, "edge"), "`fill_mode`"),
        (lambda: ops.image.affine_transform(IMAGE, TURN, "cubic"), "`interpolation`"),
        (lambda: ops.image.affine_transform(IMAGE, TURN[:6]), "Invalid transform shape"),
        (lambda: ops.image.affine_transform(IMAGE, [TURN] * 3), "3 transforms"),
        (lambda: ops.image.perspective_transform(IMAGE, POINTS, POINTS[0]), "same shape"),
        (
            lambda: ops.image.scale_and_translate(IMAGE[0], (5, 8, 4), [1.0], [0.0], (0,), "cubic"),
            "shape of the images but for",
        ),
        (lambda: ops.image.elastic_transform(IMAGE, sigma=0), "`sigma` must be above 0"),
    ),
    ids=range(33),
)
def test_what_cannot_be_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("mode", ("constant", "nearest", "wrap", "mirror", "reflect"))
def test_gradients_of_images_and_transforms(mode):
    """Of the kernel in float32, against those of gathering in float64."""
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3))
    turns = np.stack([TURN, TURN * 0.9 + 0.01])
    weights = np.random.default_rng(1).normal(size=x.shape)

    def run(x, t, w):
        loss = ops.sum(ops.image.affine_transform(x, t, fill_mode=mode, fill_value=0.3) * w)
        return tuple(gradients(current_graph(), loss, [x, t]))

    function = TracedFunction(run, "gradients", batched=False)
    found = function(*(a.astype("float32") for a in (x, turns, weights)))
    want = function(*(a.astype("float64") for a in (x, turns, weights)))
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_patches_refuse_strides_of_zero():
    with pytest.raises(ValueError, match=r"`strides` must be 1 or more\. Received: strides=0"):
        ops.image.extract_patches(IMAGE, 2, strides=0)
    with pytest.raises(ValueError, match="Expected an int or 2 of them"):
        ops.image.extract_patches(IMAGE, 2, strides=())
