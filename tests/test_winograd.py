"""Convolutions of 3x3 taps by Winograd's filtering: what the registry's samples do not show."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from handmill import config
from handmill.primitives import convolution
from handmill.runtime.eager import run_eagerly
from levels import levels

pytestmark = pytest.mark.skipif(not config.has_kernels(), reason="compares kernels")

ATTRS = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


@contextmanager
def at_level(isa):
    before = config.isa()
    config.set_isa(isa)
    try:
        yield
    finally:
        config.set_isa(before)


def conv(x, w):
    return np.asarray(run_eagerly(convolution.CONV, (x, w), ATTRS))


def input_grad(dy, w):
    attrs = {**ATTRS, "sizes": dy.shape[1:3]}
    return np.asarray(run_eagerly(convolution.CONV_INPUT_GRAD, (dy, w), attrs))


def kernel_grad(x, dy):
    attrs = {**ATTRS, "kernel_size": (3, 3)}
    return np.asarray(run_eagerly(convolution.CONV_KERNEL_GRAD, (x, dy), attrs))


def operands(rng, images=2, height=7, width=6, channels=25, filters=40):
    x = rng.standard_normal((images, height, width, channels)).astype("float32")
    w = rng.standard_normal((3, 3, channels, filters)).astype("float32")
    dy = rng.standard_normal((images, height, width, filters)).astype("float32")
    return x, w, dy


def same_specials(got, want):
    """Infinities, with their signs, and NaN in the same places; numbers close to each other."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    np.testing.assert_array_equal(np.sign(got[np.isinf(got)]), np.sign(want[np.isinf(want)]))
    numbers = np.isfinite(want)
    np.testing.assert_allclose(got[numbers], want[numbers], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("isa", levels())
def test_what_is_not_finite_stays_in_its_windows(isa):
    rng = np.random.default_rng(0)
    x, w, dy = operands(rng)
    with at_level(isa), np.errstate(all="ignore"):
        for value in (np.inf, -np.inf, np.nan):
            x2, dy2, w2 = x.copy(), dy.copy(), w.copy()
            x2[0, 2, 3, 4] = x2[1, 6, 5, 24] = value
            dy2[1, 0, 0, 1] = value
            w2[1, 2, 3, 39] = value
            reference = convolution.CONV.reference
            same_specials(conv(x2, w), reference(x2, w, **ATTRS))
            same_specials(conv(x, w2), reference(x, w2, **ATTRS))
            back = {**ATTRS, "sizes": (7, 6)}
            reference = convolution.CONV_INPUT_GRAD.reference
            same_specials(input_grad(dy2, w), reference(dy2, w, **back))
            grad = {**ATTRS, "kernel_size": (3, 3)}
            reference = convolution.CONV_KERNEL_GRAD.reference
            same_specials(kernel_grad(x2, dy), reference(x2, dy, **grad))


@pytest.mark.parametrize("isa", levels())
def test_an_image_has_the_same_numbers_in_any_batch(isa):
    rng = np.random.default_rng(1)
    x, w, dy = operands(rng, images=9)
    with at_level(isa):
        together, back = conv(x, w), input_grad(dy, w)
        for i in (0, 4, 8):
            np.testing.assert_array_equal(conv(x[i : i + 1], w)[0], together[i])
            np.testing.assert_array_equal(input_grad(dy[i : i + 1], w)[0], back[i])


def test_transforms_that_overflow_are_done_without():
    """Sums of four elements near the largest float32, times small weights."""
    rng = np.random.default_rng(4)
    x, w, _ = operands(rng)
    x = np.sign(x) * np.float32(2e38)
    w *= np.float32(1e-9)
    want = convolution.CONV.reference(x.astype("float64"), w.astype("float64"), **ATTRS)
    got = conv(x, w)
    assert np.isfinite(got).all()
    assert np.abs(got - want).max() < 1e-6 * np.abs(want).max()


def test_threads_do_not_change_bits():
    rng = np.random.default_rng(2)
    x, w, dy = operands(rng, images=8, height=20, width=19, channels=70, filters=130)
    found = []
    before = config.num_threads()
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            found.append((conv(x, w), input_grad(dy, w), kernel_grad(x, dy)))
    finally:
        config.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_errors_are_small_beside_the_largest_result():
    """Winograd's sums lose some of the last bits: less than 1e-6 of the largest."""
    rng = np.random.default_rng(3)
    x, w, dy = operands(rng, images=3, height=13, width=14, channels=64, filters=64)
    wide = [a.astype("float64") for a in (x, w, dy)]
    grad = {**ATTRS, "kernel_size": (3, 3)}
    for got, want in (
        (conv(x, w), convolution.CONV.reference(wide[0], wide[1], **ATTRS)),
        (kernel_grad(x, dy), convolution.CONV_KERNEL_GRAD.reference(wide[0], wide[2], **grad)),
    ):
        assert np.abs(got - want).max() < 1e-6 * np.abs(want).max()
