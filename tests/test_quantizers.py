"""Formulas and layers of quantization, beside Keras's own numbers and files."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import quantizers

# Keras 3 on NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`:UserWarning"),
]

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


@pytest.mark.parametrize("axis", (0, -1, (0, 1)))
@pytest.mark.parametrize("to_numpy", (False, True))
def test_largest_magnitudes_fill_the_range(axis, to_numpy):
    x = normal(5, 7) * 3
    q, scale = quantizers.AbsMaxQuantizer(axis=axis)(x, to_numpy=to_numpy)
    largest = np.abs(x).max(axis=axis, keepdims=True)
    np.testing.assert_array_equal(scale, np.float32(127) / (largest + np.float32(1e-7)))
    np.testing.assert_array_equal(q, np.clip(np.round(x * scale), -127, 127))
    assert np.asarray(q).dtype == "int8"
    assert np.abs(np.asarray(q, int)).max() == 127


@pytest.mark.parametrize("size", (1, 2, 7))
@pytest.mark.parametrize("axis", (0, 1, -1))
def test_nibbles_return(size, axis):
    x = RNG.integers(-8, 8, (size, size + 3)).astype("int8")
    packed, shape, length = quantizers.pack_int4(x, axis=axis)
    assert packed.shape == shape
    assert shape[axis] == (x.shape[axis] + 1) // 2
    np.testing.assert_array_equal(quantizers.unpack_int4(packed, length, axis=axis), x)
    unsigned = x.view("uint8") & 15
    packed, _, length = quantizers.pack_int4(unsigned, axis=axis, dtype="uint8")
    back = quantizers.unpack_int4(packed, length, axis=axis, dtype="uint8")
    np.testing.assert_array_equal(back, unsigned)


@pytest.mark.parametrize("rows", (8, 11))
def test_groups_lose_half_a_step(rows):
    x = normal(rows, 5)
    x[:4] = np.abs(x[:4]) + 1  # all of one sign: Keras cuts them off
    q, step, zero = quantizers.abs_max_quantize_grouped_with_zero_point(x, block_size=4)
    group = np.arange(rows) // 4
    back = (q.astype("float32") - zero[group]) * step[group]
    assert (np.abs(back - x) <= 1.001 * step[group]).all()
    assert (np.clip(q, -8, 7) == q).all()


def test_formulas_are_those_of_keras(keras):
    theirs = keras.quantizers
    x = normal(33, 9)
    x[::8], x[1::8] = -np.abs(x[::8]), np.abs(x[1::8])  # else ranges are widened here
    for axis in (0, -1):
        for to_numpy in (False, True):
            ours = quantizers.abs_max_quantize(x, axis, to_numpy=to_numpy)
            for a, b in zip(ours, theirs.abs_max_quantize(x, axis, to_numpy=to_numpy), strict=True):
                np.testing.assert_array_equal(a, np.asarray(b))
    grouped = quantizers.abs_max_quantize_grouped_with_zero_point(x, block_size=8)
    want = theirs.abs_max_quantize_grouped_with_zero_point(x, block_size=8, to_numpy=True)
    full = slice(0, 4)  # the last group is one row
    np.testing.assert_array_equal(grouped[0][:32], np.asarray(want[0])[:32])
    for a, b in zip(grouped[1:], want[1:], strict=True):
        np.testing.assert_array_equal(a[full], np.asarray(b)[full])
    q = grouped[0]
    np.testing.assert_array_equal(quantizers.pack_int4(q)[0], np.asarray(theirs.pack_int4(q)[0]))
    for narrow in (False, True):
        for low, high, bits in ((-1.0, 1.0, 8), (0.0, 2.5, 4), (-0.3, 5.0, 3)):
            bounds = np.float32(low), np.float32(high)
            ours = quantizers.fake_quant_with_min_max_vars(x, *bounds, bits, narrow)
            want = theirs.fake_quant_with_min_max_vars(x, *bounds, bits, narrow)
            np.testing.assert_allclose(ours, np.asarray(want), rtol=1e-6, atol=1e-7)


def test_gradient_of_rounding_to_bounds():
    x = np.array([-2.0, -1.0, 0.0, 0.4, 1.0, 3.0], "float32")
    dy = np.arange(1.0, 7.0, dtype="float32")
    bounds = [handmill.Variable(v, dtype="float32") for v in (-1.0, 1.0)]
    v = handmill.Variable(x)
    with handmill.GradientTape() as tape:
        y = quantizers.fake_quant_with_min_max_vars(v, *bounds, num_bits=1 + 7, narrow_range=True)
        loss = handmill.ops.sum(y * dy)
    dx, low, high = tape.gradient(loss, [v, *bounds])
    np.testing.assert_array_equal(dx, [0, 2, 3, 4, 5, 0])  # the edges count as inside
    np.testing.assert_allclose([low, high], [1 + 2, 5 + 6])


def tied(k):
    inputs = k.Input((4,), dtype="int32")
    layer = k.layers.ReversibleEmbedding(11, 6)
    return k.Model(inputs, layer(layer(inputs), reverse=True))


CASES = {
    "dense": lambda k: k.Sequential([k.Input((20,)), k.layers.Dense(7, "relu"), k.layers.Dense(3)]),
    "einsum": lambda k: k.Sequential(
        [k.Input((4, 6)), k.layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de")]
    ),
    "embedding": lambda k: k.Sequential([k.Input((4,), dtype="int32"), k.layers.Embedding(11, 5)]),
    "reversible": tied,
}


def _data(name):
    if name in ("embedding", "reversible"):
        return RNG.integers(0, 11, (3, 4)).astype("int32")
    return normal(3, 20) if name == "dense" else normal(3, 4, 6)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(
            mode, name, marks=() if mode == "int8" and name == "dense" else pytest.mark.slow
        )
        for mode in ("int8", "int4", "int4/3")
        for name in CASES
    ],
)
def test_quantized_models_are_kerass(name, mode, keras, tmp_path):
    pytest.importorskip("h5py")
    theirs, x = CASES[name](keras), _data(name)
    theirs.save(tmp_path / "float.keras")
    ours = handmill.models.load_model(tmp_path / "float.keras")
    for k, model in ((keras, theirs), (handmill, ours)):
        if mode == "int8":
            model.quantize("int8")
        else:
            block = 3 if "/" in mode else -1
            model.quantize(config=k.quantizers.Int4QuantizationConfig(block_size=block))
    want = np.asarray(theirs(x))
    if "/" not in mode:  # ranges of groups are widened here
        np.testing.assert_allclose(ours(x), want, rtol=2e-5, atol=2e-6)
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            assert (a.shape, a.dtype) == (tuple(b.shape), b.dtype)
            np.testing.assert_array_equal(a, np.asarray(b), err_msg=a.path)
    theirs.save(tmp_path / "theirs.keras")
    loaded = handmill.models.load_model(tmp_path / "theirs.keras")
    np.testing.assert_allclose(loaded(x), want, rtol=2e-5, atol=2e-6)
    ours.save(tmp_path / "ours.keras")
    back = keras.models.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(np.asarray(back(x)), ours(x), rtol=2e-5, atol=2e-6)
    ours.save(tmp_path / "ours.hmill")
    again = handmill.models.load_model(tmp_path / "ours.hmill")
    np.testing.assert_array_equal(again(x), ours(x))


@pytest.mark.parametrize("size", (1.5, "128", True, np.nan))
def test_groups_are_of_whole_numbers(size):
    with pytest.raises(ValueError, match="block_size must be None, -1, or a positive integer"):
        quantizers.Int4QuantizationConfig(block_size=size)
    with pytest.raises(ValueError, match="`block_size` must be a whole number"):
        quantizers.abs_max_quantize_grouped_with_zero_point(np.ones((2, 2)), size)


def test_a_group_of_more_rows_than_there_are_takes_no_memory_for_them():
    x = np.random.default_rng(0).standard_normal((5, 3)).astype("float32")
    whole, huge = (
        quantizers.abs_max_quantize_grouped_with_zero_point(x, size) for size in (5, 10**12)
    )
    for one, other in zip(whole, huge, strict=True):
        np.testing.assert_array_equal(one, other)
