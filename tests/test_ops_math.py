"""Fourier transforms, segments, and functions that NumPy lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest

import handmill
from handmill import ops
from handmill.errors import ShapeError
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(0)
REAL, IMAG = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
SIGNAL = RNG.normal(size=(2, 64)).astype(np.float32)


def close(found, wanted, **tolerance):
    np.testing.assert_allclose(found, wanted, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


@pytest.mark.parametrize("name", ("fft", "fft2", "ifft2"))
def test_transforms(name):
    wanted = getattr(np.fft, name)(REAL + 1j * IMAG)
    function = getattr(ops, name)
    for real, imag in (
        function((REAL, IMAG)),
        TracedFunction(lambda a, b: function((a, b)), batched=False)(REAL, IMAG),
    ):
        close(real, wanted.real)
        close(imag, wanted.imag)


@pytest.mark.parametrize("length", (None, 1, 4, 5, 12))
def test_transforms_of_real_numbers(length):
    real, imag = ops.rfft(REAL, length)
    wanted = np.fft.rfft(REAL, length)
    close(real, wanted.real)
    close(imag, wanted.imag)
    close(ops.irfft((REAL, IMAG), length), np.fft.irfft(REAL + 1j * IMAG, length))


@pytest.mark.parametrize("window", ("hann", "hamming", None, np.linspace(0.5, 1.0, 16)))
@pytest.mark.parametrize("center", (True, False))
def test_a_signal_comes_back_from_its_windows(window, center):
    real, imag = ops.stft(SIGNAL, 16, 4, 20, window, center)
    assert real.shape == (2, 17 if center else 12, 11)
    factors = np.ones(20)
    if window is not None:
        at = 2 * np.pi * np.arange(16) / 16
        known = {"hann": 0.5 - 0.5 * np.cos(at), "hamming": 0.54 - 0.46 * np.cos(at)}
        factors = np.zeros(20)
        factors[2:18] = known[window] if isinstance(window, str) else window
    padded = np.pad(SIGNAL, [(0, 0), (10, 10)], mode="reflect") if center else SIGNAL
    frames = np.lib.stride_tricks.sliding_window_view(padded, 20, axis=1)[:, ::4]
    wanted = np.fft.rfft(frames * factors)
    close(real, wanted.real, atol=1e-4)
    close(imag, wanted.imag, atol=1e-4)
    again = ops.istft((real, imag), 16, 4, 20, window=window, center=center)
    inside = slice(16, 48)
    if window is None:  # each element counts as often as windows cover it
        again = again / (20 / 4)
    close(again[:, inside], SIGNAL[:, inside], atol=1e-4)
    assert ops.istft((real, imag), 16, 4, 20, 30, window, center).shape == (2, 30)


def test_windows_of_a_length_that_a_call_decides():
    model = handmill.Sequential(
        [handmill.Input((None,)), handmill.layers.Lambda(lambda x: ops.stft(x, 8, 4, 8)[0])]
    )
    for length in (32, 64):
        close(model(SIGNAL[:, :length]), ops.stft(SIGNAL[:, :length], 8, 4, 8)[0])


def test_a_transform_has_a_gradient():
    def energy(x):
        real, imag = ops.stft(x, 8, 4, 8)
        return ops.sum(real * real + imag * imag)

    x = SIGNAL[0].astype(np.float64)
    direction, step = RNG.normal(size=x.shape), 1e-4
    difference = (energy(x + step * direction) - energy(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(handmill.grad(energy)(x) * direction), difference, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    (
        ("segment_sum", [5.0, 2.0, 0.0]),
        ("segment_max", [4.0, 2.0, -np.inf]),
        ("segment_min", [1.0, 2.0, np.inf]),
        ("segment_prod", [4.0, 2.0, 1.0]),
    ),
)
def test_segments(name, wanted):
    data, ids = np.array([1.0, 2.0, 4.0, 9.0, 9.0], np.float32), np.array([0, 1, 0, -1, 3])
    function = getattr(ops, name)
    np.testing.assert_array_equal(function(data, ids, 3), wanted)
    np.testing.assert_array_equal(function(data[:3], ids[:3]), wanted[:2])
    traced = TracedFunction(lambda x, i: function(x, i, 3), batched=False)
    np.testing.assert_array_equal(traced(data, ids), wanted)
    slope = handmill.grad(lambda x: function(x, ids, 3)[0])(data)
    assert (
        slope.tolist()
        == {
            "segment_sum": [1, 0, 1, 0, 0],
            "segment_max": [0, 0, 1, 0, 0],
            "segment_min": [1, 0, 0, 0, 0],
            "segment_prod": [4, 0, 1, 0, 0],
        }[name]
    )
    with pytest.raises(ValueError, match="`num_segments` must be set in a program"):
        TracedFunction(function, batched=False)(data, ids)
    with pytest.raises(ShapeError, match="should be an 1-D vector"):
        function(data, ids[None])
    with pytest.raises(ShapeError, match="should have same leading dimension"):
        function(data, ids[:2])


def test_the_complement_and_the_inverse_of_the_error_function():
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(ops.erfc(x), [math.erfc(v) for v in x], rtol=1e-15)
    y = np.linspace(-0.999, 0.999, 201)
    np.testing.assert_allclose([math.erf(v) for v in ops.erfinv(y)], y, rtol=1e-14)
    assert ops.erfinv([1.0, -1.0, 1.5, 0.0]).tolist()[:2] == [np.inf, -np.inf]
    near = 1 - 2.0**-53 * np.array([1.0, 7.0])  # erfc sees what erf does not
    np.testing.assert_allclose([math.erfc(v) for v in ops.erfinv(near)], 1 - near, rtol=1e-13)


def test_distances_and_windows():
    x, y = RNG.random((2, 3, 5)), RNG.random((2, 4, 5))
    close(ops.cdist(x, y), np.linalg.norm(x[:, :, None] - y[:, None], axis=-1))
    windows = np.lib.stride_tricks.sliding_window_view(SIGNAL, 5, axis=1)[:, ::3]
    np.testing.assert_array_equal(ops.extract_sequences(SIGNAL, 5, 3), windows)
    assert ops.in_top_k([1, 0], [[0.1, np.nan, 0.5], [0.3, 0.2, 0.5]], k=2).tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: ops.fft(REAL), ValueError, "a tuple of two tensors"),
        (lambda: ops.fft((REAL, IMAG[0])), ShapeError, "should have the same shape"),
        (lambda: ops.fft2((REAL[0, 0], IMAG[0, 0])), ShapeError, "rank >= 2"),
        (lambda: ops.fft((np.arange(3), np.arange(3))), ValueError, "not of type float"),
        (lambda: ops.stft(np.arange(9), 4, 2, 4), TypeError, "`float32` or `float64`"),
        (lambda: ops.stft(SIGNAL, 8, 2, 4), ValueError, "`fft_length` must equal or larger"),
        (lambda: ops.stft(SIGNAL, 4.5, 2, 8), ValueError, "`sequence_length` must be a whole"),
        (lambda: ops.stft(SIGNAL, 4, 2, 8.5), ValueError, "`fft_length` must be a whole"),
        (lambda: ops.extract_sequences(SIGNAL, 0, 1), ValueError, "must be a whole number of 1"),
        (lambda: ops.stft(SIGNAL, 4, 0, 4), ValueError, "must be a positive integer"),
        (lambda: ops.stft(SIGNAL, 4, 2, 4, "kaiser"), ValueError, "If a string is passed to"),
        (lambda: ops.stft(SIGNAL, 4, 2, 4, np.ones(3)), ValueError, "The shape of `window` must"),
        (lambda: ops.extract_sequences(SIGNAL, 65, 1), ShapeError, "do not fit into 64"),
        (lambda: ops.cdist(SIGNAL, SIGNAL[:, :3]), ShapeError, "must match"),
    ),
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
