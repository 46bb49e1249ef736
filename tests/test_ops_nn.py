"""Blocks of images, normalization by given moments, activations that give exact zeros."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import activations, layers, ops
from handmill.errors import ShapeError

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_depth_becomes_space_and_back(data_format):
    first = data_format == "channels_first"
    x = IMAGES.transpose(0, 3, 1, 2) if first else IMAGES
    y = ops.depth_to_space(x, 2, data_format)
    assert y.shape == ((2, 2, 8, 12) if first else (2, 8, 12, 2))
    np.testing.assert_array_equal(ops.space_to_depth(y, 2, data_format), x)
    pixel = y[0, 1, 3, 4] if first else y[0, 3, 4, 1]  # row 3 of blocks is row 1 of block 1
    depth = 1 * 4 + 1 * 2 + 0 if first else (1 * 2 + 0) * 2 + 1
    assert pixel == IMAGES[0, 1, 2, depth]


def test_patches_and_what_they_add_up_to():
    x = IMAGES.transpose(0, 3, 1, 2)
    patches = ops.unfold(x, (2, 3), dilation=(1, 2), padding=(1, 0), stride=2)
    assert patches.shape == (2, 8 * 6, 3 * 1)
    np.testing.assert_array_equal(patches[:, :6, 1].reshape(2, 2, 3), x[:, 0, 1:3, 0:5:2])
    np.testing.assert_array_equal(patches[:, 0:3, 0], 0)
    back = ops.fold(patches, (4, 6), (2, 3), dilation=(1, 2), padding=(1, 0), stride=2)
    counted = ops.fold(patches * 0 + 1, (4, 6), (2, 3), (1, 2), (1, 0), 2)
    np.testing.assert_allclose(back, x * counted, rtol=1e-6)
    slope = handmill.grad(lambda x: ops.sum(ops.unfold(x, (2, 3), (1, 2), (1, 0), 2)))(x)
    np.testing.assert_array_equal(slope, counted)


def test_rearrange():
    x = IMAGES
    joined = ops.rearrange(x, "b h w c -> b (h w) c")
    np.testing.assert_array_equal(joined, x.reshape(2, 24, 8))
    split = ops.rearrange(x, "b (h r) (w s) c -> b h w (r s c)", r=2, s=3)
    np.testing.assert_array_equal(split[0, 1, 1].reshape(2, 3, 8), x[0, 2:, 3:])
    inputs = layers.Input((4, 6))
    assert ops.rearrange(inputs, "b h w -> b w h").shape == (None, 6, 4)


def test_batch_normalization_by_given_moments():
    mean, variance, offset, scale = RNG.random((4, 6)).astype(np.float32)
    y = ops.batch_normalization(IMAGES, mean, variance, 2, offset, scale, 0.01)
    at = [v[:, None] for v in (mean, variance, offset, scale)]
    wanted = (IMAGES - at[0]) / np.sqrt(at[1] + 0.01) * at[3] + at[2]
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_sparsemax_is_the_nearest_distribution():
    x = RNG.normal(size=(50, 7)) * 2
    y = ops.sparsemax(x)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-6)
    assert (y >= 0).all()
    assert (y == 0).any()
    # Where it is positive it is x minus a threshold, which the others do not exceed.
    threshold = np.where(y > 0, x - y, -np.inf).max(-1)
    assert (np.where(y > 0, np.abs(x - y - threshold[:, None]), 0) < 1e-6).all()
    assert (x[y == 0] <= np.broadcast_to(threshold[:, None], x.shape)[y == 0] + 1e-6).all()
    np.testing.assert_allclose(ops.sparsemax(x.T, axis=0), y.T, atol=1e-14)
    slope = handmill.jacobian(ops.sparsemax)(np.array([1.0, 0.5, -1.0]))
    np.testing.assert_allclose(slope, [[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]], atol=1e-12)


NEW = (
    *("celu", "glu", "hard_shrink", "hard_tanh", "log_sigmoid", "soft_shrink", "sparse_plus"),
    *("sparse_sigmoid", "sparsemax", "squareplus", "tanh_shrink"),
)


@pytest.mark.parametrize("name", NEW)
def test_activations_work_by_name(name):
    layer = layers.Dense(4, name)
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), getattr(ops, name)(x @ layer.kernel.numpy()))
    again = layers.Dense.from_config(layer.get_config())
    assert again.activation is getattr(activations, name)
    assert activations.get(name) is again.activation


def test_threshold_is_an_activation():
    found = activations.threshold(np.array([0.5, 2.0], np.float32), 1.0, 9.0)
    assert found.tolist() == [9.0, 2.0]


def test_multi_hot_joins_the_places_of_its_second_axis():
    y = ops.multi_hot(np.array([[[0], [2], [0]], [[1], [1], [1]]]), 3)
    assert y.tolist() == [[[1, 0, 1]], [[0, 1, 0]]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: ops.depth_to_space(IMAGES, 3), ShapeError, "number of channels .8. must be"),
        (lambda: ops.space_to_depth(IMAGES, 4), ShapeError, "Width .6. must be divisible"),
        (lambda: ops.space_to_depth(IMAGES, 1), ValueError, "must be at least 2"),
        (lambda: ops.depth_to_space(IMAGES, 2, "last"), ValueError, "`data_format` argument"),
        (lambda: ops.unfold(IMAGES, 9), ShapeError, "do not fit into images"),
        (lambda: ops.fold(IMAGES[0], 4, 3), ShapeError, "must be divisible by the size of a patch"),
        (lambda: ops.rearrange(IMAGES, "a b -> b a"), ValueError, "does not describe a tensor"),
        (lambda: ops.rearrange(IMAGES, "(a b) c d e -> a b c d e"), ValueError, "are not known"),
        (lambda: ops.rearrange(IMAGES, "a b c d -> a b c"), ValueError, "once on both sides"),
        (lambda: ops.batch_normalization(IMAGES, [1.0], [1.0], 1), ShapeError, "`mean` must be"),
        (lambda: ops.psnr([1.0], [1.0, 2.0], 1.0), ShapeError, "must match"),
        (lambda: ops.normalize([1.0], order=0), ValueError, "must be an int >= 1"),
    ),
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("columns", (2, 3, 4))
def test_softmax_of_few_columns_has_the_bits_of_wider_rows(columns):
    """Columns of -inf add zeros to the sums; rows of few columns have a loop of their own."""
    for rows in (1, 3, 63, 64, 65, 150):
        x = (RNG.normal(size=(rows, columns)) * 30).astype(np.float32)
        x[::7, 0] = -np.inf
        x[1::9, 1] = 200.0
        wide = np.full((rows, 7), -np.inf, np.float32)
        wide[:, :columns] = x
        found = ops.softmax(x)
        np.testing.assert_array_equal(found, ops.softmax(wide)[:, :columns])
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
        labels = RNG.integers(0, columns, rows)
        np.testing.assert_array_equal(
            ops.sparse_categorical_crossentropy(labels, x, from_logits=True),
            ops.sparse_categorical_crossentropy(labels, wide, from_logits=True),
        )
    x = np.array([[np.nan, 1, 2, 3], [1, np.nan, 2, 3], [np.inf, 1, 1, 1], [-np.inf] * 4], "f4")
    with np.errstate(invalid="ignore"):
        assert np.isnan(ops.softmax(x[:2, :columns])).all()
        assert np.isnan(ops.softmax(x[2:, :columns])[:, 0]).all()
