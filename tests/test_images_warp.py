"""The warp: the kernel at every level against its NumPy twin and against scipy."""

from __future__ import annotations

import numpy as np
import pytest

from handmill import config
from handmill.data.images.warp_reference import FILL_MODES, warp_batch

SHAPES = (
    (17, 23, 3),
    (8, 8, 1),
    (5, 31, 4),
    (1, 9, 3),
    (9, 1, 3),
    (1, 1, 3),
    (6, 4, 2),
    (2, 300, 3),
)
EXTREME = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e18)


@pytest.fixture(params=config.available_isas() or ("none",))
def kernel(request):
    if request.param == "none":
        pytest.skip("this installation has no kernels")
    from handmill import _core

    before = config.isa()
    config.set_isa(request.param)
    yield _core.warp_batch
    config.set_isa(before)


def random_matrices(rng, n, height, width):
    """Rotations, zooms and large shifts, with some exact cases where samples meet the edges."""
    matrices = np.empty((n, 6))
    centre = np.array([height / 2 - 0.5, width / 2 - 0.5])
    for matrix in matrices:
        angle = rng.uniform(-np.pi, np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) * rng.uniform(0.4, 1.8, 2)
        offset = centre + rng.uniform(-3, 3, 2) * (height, width) - linear @ centre
        matrix[:] = [*linear[0], offset[0], *linear[1], offset[1]]
    exact = [(1, 0, 0, 0, 1, 0), (1, 0, 2, 0, 1, -3), (0, 1, 0, 1, 0, 0), (0.5, 0, 0, 0, 0.5, 0)]
    matrices[: len(exact)] = exact
    return matrices


def run(
    warp, x, matrices, flips, fill_mode, order, *, scale=1.0, offset=0.0, index=None, threads=1
):
    batch = len(matrices)
    out = np.full((batch, *x.shape[1:]), np.nan, np.float32)
    warp(x, index, matrices, flips, fill_mode, 7.5, order, scale, offset, out, threads)
    return out


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("dtype", (np.uint8, np.float32))
def test_kernel_gives_the_bits_of_its_twin(kernel, dtype, fill_mode, order):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.integers(0, 256, (12, *shape)).astype(dtype)
        matrices = random_matrices(rng, 12, *shape[:2])
        flips = rng.integers(0, 4, 12).astype(np.uint8)
        arguments = (x, matrices, flips, fill_mode, order)
        expected = run(warp_batch, *arguments, scale=1 / 255, offset=-0.5)
        for threads in (1, 2, 5):
            got = run(kernel, *arguments, scale=1 / 255, offset=-0.5, threads=threads)
            np.testing.assert_array_equal(got, expected)


@pytest.mark.peers
@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_twin_agrees_with_scipy(fill_mode, order):
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is the oracle of the warp")
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        x = rng.integers(0, 256, (12, *shape)).astype(np.float32)
        matrices = random_matrices(rng, 12, *shape[:2])
        got = run(warp_batch, x, matrices, np.zeros(12, np.uint8), fill_mode, order)
        for image, matrix, result in zip(x, matrices.reshape(-1, 2, 3), got, strict=True):
            for channel in range(shape[2]):
                expected = ndimage.affine_transform(
                    image[:, :, channel], matrix[:, :2], matrix[:, 2],
                    order=order, mode=fill_mode, cval=7.5,
                )  # fmt: skip
                np.testing.assert_allclose(result[:, :, channel], expected, atol=1e-3)


@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("order", (0, 1))
def test_any_matrix_stays_inside_the_image(kernel, order, fill_mode):
    x = np.random.default_rng(2).integers(0, 256, (1, 7, 9, 3)).astype(np.float32)
    for position in range(6):
        for value in EXTREME:
            matrix = np.array([[1.0, 0, 0.5, 0, 1, 0.25]])
            matrix[0, position] = value
            y = run(kernel, x, matrix, np.zeros(1, np.uint8), fill_mode, order)
            assert np.isfinite(y).all()
            assert y.min() >= 0
            assert y.max() <= 255


def test_a_large_image_is_cut_into_bands(kernel):
    x = np.random.default_rng(3).integers(0, 256, (1, 500, 333, 3), dtype=np.uint8)
    matrix = np.array([[0.9, 0.2, 3.0, -0.2, 0.95, 40.0]])
    flips = np.array([3], np.uint8)
    expected = run(warp_batch, x, matrix, flips, "reflect", 1)
    for threads in (1, 3):
        got = run(kernel, x, matrix, flips, "reflect", 1, threads=threads)
        np.testing.assert_array_equal(got, expected)


def test_index_and_list_name_the_same_images(kernel):
    x = np.random.default_rng(4).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    index = np.array([4, 0, 0, 2])
    matrices = np.tile([0.9, 0.1, 0.2, -0.1, 1.1, 0.3], (4, 1))
    flips = np.zeros(4, np.uint8)
    by_index = run(kernel, x, matrices, flips, "nearest", 1, index=index)
    by_list = np.empty_like(by_index)
    images = [x[i].copy() for i in index]
    kernel(images, None, matrices, flips, "nearest", 0.0, 1, 1.0, 0.0, by_list, 2)
    np.testing.assert_array_equal(by_index, by_list)


def test_the_kernel_refuses_what_it_cannot_read(kernel):
    x = np.zeros((2, 4, 5, 3), np.uint8)
    matrices = np.tile([1.0, 0, 0, 0, 1, 0], (2, 1))
    flips = np.zeros(2, np.uint8)
    out = np.zeros((2, 4, 5, 3), np.float32)
    good = {
        "source": x, "index": None, "matrices": matrices, "flips": flips, "fill_mode": "nearest",
        "cval": 0.0, "order": 1, "scale": 1.0, "offset": 0.0, "out": out, "threads": 1,
    }  # fmt: skip
    kernel(**good)
    read_only = out.copy()
    read_only.flags.writeable = False
    bad = [
        ("source", x.astype(np.float64), "uint8 or float32"),
        ("source", x[:, ::-1], "C-contiguous"),
        ("source", x[:, :3].copy(), "different heights"),
        ("source", x[:1], "1 images for 2 results"),
        ("source", [x[0], x[1].astype(np.float32)], "one dtype"),
        ("source", out, "overlap"),
        ("index", np.array([0, 2]), "index 2 is outside of 2 images"),
        ("index", np.array([0, -1]), "index -1"),
        ("index", np.array([0, 1], np.int32), "int64"),
        ("matrices", matrices.astype(np.float32), "float64"),
        ("matrices", matrices[:, :5].copy(), r"shape \(2, 6\)"),
        ("flips", flips[:1], "flips"),
        ("fill_mode", "mirror", "known: nearest, constant, reflect, wrap"),
        ("order", 3, "order must be 0 or 1"),
        ("out", read_only, "writeable"),
        ("out", out[:, :, ::-1], "contiguous"),
        ("threads", 0, "threads must be positive"),
    ]
    for name, value, message in bad:
        with pytest.raises(ValueError, match=message):
            kernel(**{**good, name: value})


def test_no_images_and_no_pixels(kernel):
    for shape in ((0, 4, 5, 3), (2, 0, 5, 3), (2, 4, 5, 0)):
        x = np.zeros(shape, np.uint8)
        matrices = np.zeros((shape[0], 6))
        y = run(kernel, x, matrices, np.zeros(shape[0], np.uint8), "nearest", 1)
        assert y.shape == shape
