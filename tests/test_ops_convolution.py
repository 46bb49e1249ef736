"""Convolution and pooling: right numbers by definition, Keras's numbers, errors, open sizes."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import _core, ops
from handmill.errors import ShapeError
from handmill.ir.trace import apply
from handmill.primitives.convolution import CONV, CONV_INPUT_GRAD, CONV_KERNEL_GRAD
from handmill.runtime.function import TracedFunction


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def by_definition(x, w, strides, lows, sizes, dilation, groups):
    """The sum over a window, one output after the other."""
    y = np.zeros((x.shape[0], *sizes, w.shape[-1]))
    each, filters = w.shape[-2], w.shape[-1] // groups
    for place in np.ndindex(*sizes):
        for tap in np.ndindex(*w.shape[:-2]):
            along = zip(place, strides, lows, tap, strict=True)
            at = [p * s - low + t * dilation for p, s, low, t in along]
            if any(not 0 <= i < n for i, n in zip(at, x.shape[1:-1], strict=True)):
                continue
            for o in range(w.shape[-1]):
                g = o // filters
                seen = x[(slice(None), *at)][:, g * each : (g + 1) * each]
                y[(slice(None), *place, o)] += seen @ w[(*tap, slice(None), o)].astype(float)
    return y


@pytest.mark.parametrize("rank", (1, 2, 3))
def test_convolutions_by_definition(rank):
    shape = (2, 5, 6, 4)[: rank + 1]
    x = normal(*shape, 4)
    for padding, stride, dilation, groups in itertools.product(
        ("valid", "same"), (1, 2, 3), (1, 2), (1, 2)
    ):
        window = (2, 3, 1)[:rank]
        w = normal(*window, 4 // groups, 6, seed=1)
        spans = [(k - 1) * dilation + 1 for k in window]
        lows, sizes = [0] * rank, []
        for axis, (n, span) in enumerate(zip(shape[1:], spans, strict=True)):
            if padding == "same":
                sizes.append(-(-n // stride))
                lows[axis] = max((sizes[-1] - 1) * stride + span - n, 0) // 2
            else:
                sizes.append((n - span) // stride + 1)
        want = by_definition(x, w, [stride] * rank, lows, sizes, dilation, groups)
        found = ops.conv(x, w, stride, padding, dilation_rate=dilation)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        first = ops.conv(
            np.moveaxis(x, -1, 1), w, stride, padding.upper(), "channels_first", dilation
        )
        np.testing.assert_array_equal(np.moveaxis(first, 1, -1), found)


@pytest.mark.parametrize("groups", (1, 17))
@pytest.mark.parametrize("strides", (1, 2))
def test_zeros_beyond_images_are_multiplied(groups, strides):
    """0 * inf is NaN, at the borders that the infinite element of the kernel, or of dy, passes."""
    x, w = abs(normal(1, 6, 6, 17)), normal(3, 3, 17 // groups, 17, seed=1)
    attrs = {
        "strides": (strides,) * 2, "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": groups,
    }  # fmt: skip
    dy = np.ones(CONV.reference(x, w, **attrs).shape, np.float32)
    w[0, 0], dy[0, 0, 0] = np.inf, np.inf
    calls = {
        CONV: ((x, w), {}),
        CONV_INPUT_GRAD: ((np.ones_like(dy), w), {"sizes": (6, 6)}),
        CONV_KERNEL_GRAD: ((x, dy), {"kernel_size": (3, 3)}),
    }
    for op, (operands, more) in calls.items():
        run = TracedFunction(partial(apply, op, **attrs, **more), op.name, batched=False)
        with np.errstate(invalid="ignore"):
            want = op.reference(*operands, **attrs, **more)
        found = run(*operands)
        assert np.array_equal(np.isnan(found), np.isnan(want))
        assert np.isnan(want).any()
        assert not np.isnan(want).all()
    y = TracedFunction(partial(apply, CONV, **attrs), "conv", batched=False)(x, w)
    assert np.isnan(y[:, 0]).all()
    assert np.isnan(y[:, :, 0]).all()
    assert np.isposinf(y[:, 1:, 1:]).all()


@pytest.mark.parametrize("sizes", ((5,), (4, 3), (2, 3, 2)))
def test_windows_of_one_place_are_matrix_products(sizes):
    x, w = normal(2, *sizes, 3), normal(*(1 for _ in sizes), 3, 4, seed=1)
    want = x.astype(float) @ w.reshape(3, 4)
    for padding in ("valid", "same"):
        np.testing.assert_allclose(ops.conv(x, w, 1, padding), want, rtol=1e-5, atol=1e-5)
        strided = ops.conv(x, w, 2, padding)  # is none
        every = (slice(None), *(slice(None, None, 2) for _ in sizes))
        np.testing.assert_allclose(strided, want[every], rtol=1e-5, atol=1e-5)
    found = handmill.grad(lambda w: ops.sum(ops.conv(x, w)))(w)
    np.testing.assert_allclose(found[..., 0].ravel(), x.reshape(-1, 3).sum(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="number of input channels"):
        ops.conv(x[..., :2], w)
    with pytest.raises(ShapeError, match="does not fit into 0 elements"):
        ops.conv(x[:, :0], w)


def test_depthwise_and_separable_are_convolutions_of_channels():
    x, w = normal(2, 5, 5, 3), normal(3, 2, 3, 2, seed=1)
    found = ops.depthwise_conv(x, w, 1, "same")
    for c in range(3):
        want = ops.conv(x[..., c : c + 1], w[:, :, c : c + 1], 1, "same")
        np.testing.assert_allclose(found[..., 2 * c : 2 * c + 2], want, rtol=1e-5, atol=1e-6)
    mixed = normal(1, 1, 6, 4, seed=2)
    np.testing.assert_allclose(
        ops.separable_conv(x, w, mixed, 1, "same"), found @ mixed[0, 0], rtol=1e-5, atol=1e-5
    )


def test_transposed_convolution_is_the_adjoint():
    """<conv(x), y> = <x, conv_transpose(y)> where the shapes are those of a convolution."""
    for padding, stride, dilation in itertools.product(("valid", "same"), (1, 2), (1, 2)):
        if padding == "same" and stride > 1 and dilation > 1:
            continue
        w = normal(3, 3, 2, 4, seed=1)
        y = normal(2, 4, 5, 4, seed=2)
        spread = ops.conv_transpose(y, w, stride, padding, dilation_rate=dilation)
        x = normal(*spread.shape, seed=3)
        seen = ops.conv(x, w, stride, padding, dilation_rate=dilation)
        assert seen.shape == y.shape
        left, right = np.sum(seen * y, dtype=float), np.sum(x * spread, dtype=float)
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize("shape", ((5, 6, 6), (1, 17, 20)))
def test_shares_of_classes_change_no_bit(shape):
    """Images, and rows of one image, in blocks that threads share: targets of four classes."""
    y, w = normal(*shape, 70), normal(3, 3, 24, 70, seed=1)
    before, found = _core.num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            _core.set_num_threads(threads)
            found.append(ops.conv_transpose(y, w, 2, "same"))
    finally:
        _core.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(
            found[0], ops.conv_transpose(y, w, 2, "same"), rtol=1e-4, atol=1e-4
        )


def test_transposed_convolution_by_hand():
    x = np.array([[[1.0], [2.0], [3.0]]], "float32")
    w = np.array([[[1.0]], [[10.0]], [[100.0]]], "float32")
    call = lambda *a, **k: ops.conv_transpose(x, w, *a, **k).ravel().tolist()  # noqa: E731
    assert call(1) == [1, 12, 123, 230, 300]
    assert call(2) == [1, 10, 102, 20, 203, 30, 300]
    assert call(2, "same") == [1, 10, 102, 20, 203, 30]
    assert call(2, "same", output_padding=0) == [10, 102, 20, 203, 30]
    assert call(4) == [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]
    assert call(1, "valid", 2) == [1, 12, 123, 230, 300, 0, 0]
    assert call(1, dilation_rate=2) == [1, 2, 13, 20, 130, 200, 300]


def test_pools_by_hand():
    x = np.array([1, 5, 2, 7, 3], "float32").reshape(1, 5, 1)
    assert ops.max_pool(x, 2).ravel().tolist() == [5, 7]
    assert ops.max_pool(x, 2, padding="same").ravel().tolist() == [5, 7, 3]
    assert ops.max_pool(x, 3, 1, "same").ravel().tolist() == [5, 5, 7, 7, 7]
    assert ops.max_pool(-x, 3, 1, "same").ravel().tolist() == [-1, -1, -2, -2, -3]
    assert ops.max_pool(x.astype("int32"), 2, padding="same").ravel().tolist() == [5, 7, 3]
    assert ops.max_pool(x, 10**6, padding="same").ravel().tolist() == [7]
    assert ops.average_pool(x, 2).ravel().tolist() == [3, 4.5]
    assert ops.average_pool(x, 2, padding="same").ravel().tolist() == [3, 4.5, 3]
    assert ops.average_pool(x, 10**6, padding="same").ravel() == pytest.approx([3.6])
    assert ops.average_pool(x, 3, 2, "same").ravel() == pytest.approx([3, 14 / 3, 5])
    assert ops.adaptive_max_pool(x, 2).ravel().tolist() == [5, 7]
    assert ops.adaptive_average_pool(x, 3).ravel() == pytest.approx([3, 14 / 3, 5])
    assert ops.adaptive_average_pool(x, 5).ravel().tolist() == [1, 5, 2, 7, 3]
    assert ops.adaptive_max_pool(x, 7).ravel().tolist() == [1, 5, 5, 2, 7, 7, 3]


def taken(row, size, strides, padding="valid"):
    """What each element gets where output i is worth i + 1."""
    x = np.array(row, "float32").reshape(1, -1, 1)
    weights = np.arange(1, ops.max_pool(x, size, strides, padding).size + 1, dtype="float32")
    slope = handmill.grad(
        lambda x: ops.sum(ops.reshape(ops.max_pool(x, size, strides, padding), (-1,)) * weights)
    )
    return slope(x).ravel().tolist()


def test_first_maximum_takes_the_gradient():
    nan, inf = np.nan, np.inf
    assert taken([1, 1, 0, 2, 2, 1], 3, 3) == [1, 0, 0, 2, 0, 0]
    assert taken([1, 1, 0, 2, 2, 1], 3, 1) == [1, 0, 0, 9, 0, 0]
    assert taken([-inf, -inf, 0.0, -0.0], 2, 2) == [1, 0, 2, 0]
    # A NaN is never greater or equal, nothing is greater or equal to it: the next element wins.
    assert taken([nan, 1, 2, 5, nan, nan], 3, 3) == [0, 0, 1, 0, 0, 2]
    # Padding takes nothing.
    assert taken([-inf, -inf, nan], 3, 2, "same") == [1, 0, 2]
    square = np.array([[0, 1], [1, 0]], "float32").reshape(1, 2, 2, 1)
    slope = handmill.grad(lambda x: ops.sum(ops.max_pool(x, 2)))(square)
    assert slope.ravel().tolist() == [0, 1, 0, 0]


# --- Keras ---------------------------------------------------------------------------------------


def same_as_keras(keras: Any, name: str, arrays: list[np.ndarray], **arguments: Any) -> None:
    """Values and gradients of a function of both libraries."""
    import jax

    call = getattr(keras.ops, name)
    want, back = jax.vjp(lambda *a: call(*a, **arguments), *arrays)
    weights = normal(*want.shape, seed=7)
    found = getattr(ops, name)(*arrays, **arguments)
    assert found.shape == want.shape, (name, arguments)
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5, err_msg=f"{name} {arguments}")

    def loss(*values: Any) -> Any:
        return ops.sum(getattr(ops, name)(*values, **arguments) * weights)

    for i, slope in enumerate(back(weights)):
        ours = handmill.grad(loss, argnums=i)(*arrays)
        np.testing.assert_allclose(
            ours, slope, rtol=1e-4, atol=1e-4, err_msg=f"{name} {i} {arguments}"
        )


def grid(**choices: Any) -> list[dict[str, Any]]:
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


@pytest.mark.peers
def test_convolutions_are_those_of_keras(keras):
    x, first = normal(2, 7, 6, 4), normal(2, 4, 7, 6)
    w, grouped = normal(3, 2, 4, 5, seed=1), normal(2, 3, 2, 6, seed=1)
    for case in grid(strides=(1, 2), padding=("valid", "same")):
        same_as_keras(keras, "conv", [x, w], **case)
    same_as_keras(keras, "conv", [x, grouped], padding="same", dilation_rate=(2, 1))
    same_as_keras(keras, "conv", [first, grouped], strides=(3, 1), data_format="channels_first")
    w = normal(3, 3, 4, 2, seed=1)
    same_as_keras(keras, "depthwise_conv", [x, w], strides=2, padding="same")
    kernels = [normal(3, 2, 4, 2, seed=1), normal(1, 1, 8, 3, seed=2)]
    same_as_keras(keras, "separable_conv", [x, *kernels], padding="same", dilation_rate=2)


@pytest.mark.peers
def test_transposed_convolutions_are_those_of_keras(keras):
    x = normal(2, 3, 4, 3)
    cases = grid(padding=("valid", "same"), strides=(1, 2, 3), output_padding=(None, 0, 1, 2))
    for case in cases:
        if (case["output_padding"] or 0) >= case["strides"]:
            continue
        # XLA aborts the process where a window of 2 at stride 2 cuts off more than it has.
        window = (3, 5) if case["strides"] == 2 else (1, 4)
        w = normal(*window, 2, 3, seed=1)
        want = keras.ops.conv_transpose(x, w, **case)
        found = ops.conv_transpose(x, w, **case)
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5, err_msg=str(case))
    w = normal(3, 2, 2, 3, seed=1)
    for padding in ("valid", "same"):
        same_as_keras(keras, "conv_transpose", [x, w], padding=padding, dilation_rate=(2, 3))
    same_as_keras(keras, "conv_transpose", [x, w], padding="same", strides=2)


@pytest.mark.peers
def test_pools_are_those_of_keras(keras):
    x = normal(2, 7, 6, 3)
    for name in ("max_pool", "average_pool"):
        for case in grid(padding=("valid", "same"), strides=((1, 1), (2, 2), (3, 2))):
            same_as_keras(keras, name, [x], pool_size=(2, 3), **case)
        same_as_keras(keras, name, [normal(2, 9, 3)], pool_size=(4,), strides=(4,), padding="same")
    # Equal elements, as after a ReLU, share nothing.
    ties = np.round(normal(2, 7, 6, 3))
    same_as_keras(keras, "max_pool", [ties], pool_size=(3, 2), strides=(1, 2))
    same_as_keras(keras, "max_pool", [ties], pool_size=(3, 2), strides=(2, 2), padding="same")


@pytest.mark.peers
def test_adaptive_pools_are_those_of_keras(keras):
    x, ties = normal(2, 7, 6, 3), np.round(normal(1, 3, 6, 7))
    last, first = "channels_last", "channels_first"
    same_as_keras(keras, "adaptive_max_pool", [x], output_size=(3, 9), data_format=last)
    same_as_keras(keras, "adaptive_max_pool", [ties], output_size=(2, 3), data_format=first)
    same_as_keras(keras, "adaptive_average_pool", [x], output_size=(5, 2), data_format=last)


@pytest.mark.peers
def test_windows_with_nan_are_those_of_keras(keras):
    nan = np.nan
    x = np.array([1, nan, 0, 5, nan, nan, 5, nan, nan, 3, 3, 2], "float32").reshape(1, 12, 1)
    for strides in (1, 3):
        same_as_keras(keras, "max_pool", [x], pool_size=(3,), strides=(strides,))


# --- open sizes ----------------------------------------------------------------------------------


def test_one_program_serves_all_sizes():
    """Batch and both sizes are open: strides and "same" give quotients of them."""
    w = normal(3, 3, 2, 4, seed=1)
    v = normal(2, 2, 3, 4, seed=2)

    def run(x):
        def loss(x):
            y = ops.conv(x, w, 2, "same")
            y = ops.max_pool(y, 2, padding="same")
            y = ops.conv_transpose(y, v, 2, "same")
            return ops.sum(ops.square(ops.average_pool(y, 3, 1, "same")))

        return handmill.grad(loss)(x)

    inputs = handmill.Input((None, None, 2))
    scaled = handmill.layers.Dense(2)
    y = ops.conv_transpose(ops.max_pool(ops.conv(scaled(inputs), w, 2, "same"), 2), v, 2, "same")
    model = handmill.Model(inputs, y)
    assert model.output_shape == (None, None, None, 3)
    model.compile(handmill.optimizers.SGD(0.1), "mse")
    for height, width in ((8, 8), (9, 11), (12, 5)):
        x = normal(3, height, width, 2, seed=height)
        found = model.predict(x, verbose=0)
        want = ops.conv(scaled(x), w, 2, "same")
        want = ops.conv_transpose(ops.max_pool(want, 2), v, 2, "same")
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        before = model.get_weights()
        loss = model.train_on_batch(x, np.zeros_like(found))
        np.testing.assert_allclose(loss, np.mean(np.square(found)), rtol=1e-4)
        assert not np.array_equal(model.get_weights()[0], before[0])
        function = TracedFunction(run, batched=False)
        with handmill.use_backend("numpy"):
            np.testing.assert_allclose(function(x), run(x), rtol=1e-4, atol=1e-5)
    assert len(model._steps) == 1


def test_windows_below_the_stride_at_open_sizes():
    """Whether "same" pads there depends on the size."""
    for window, stride in ((1, 2), (2, 3), (3, 5), (4, 7), (5, 5)):
        inputs = handmill.Input((None, 1))
        model = handmill.Model(inputs, ops.max_pool(inputs, window, stride, "same"))
        for size in range(1, 12):
            x = normal(2, size, 1)
            count = -(-size // stride)
            low = max((count - 1) * stride + window - size, 0) // 2
            starts = [max(i * stride - low, 0) for i in range(count)]
            stops = [i * stride - low + window for i in range(count)]
            want = [x[:, a:b].max(1) for a, b in zip(starts, stops, strict=True)]
            np.testing.assert_array_equal(model.predict(x, verbose=0), np.stack(want, 1))


def test_float64_and_bfloat16():
    x, w = normal(2, 6, 3).astype("float64"), normal(3, 3, 4, seed=1).astype("float64")
    wide = ops.conv(x, w)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, by_definition(x, w, [1], [0], [4], 1, 1), rtol=1e-12)
    pytest.importorskip("ml_dtypes")
    narrow = ops.conv(ops.cast(x, "bfloat16"), ops.cast(w, "bfloat16"))
    assert ops.dtype(narrow) == "bfloat16"
    np.testing.assert_allclose(ops.cast(narrow, "float32"), wide, rtol=0.05, atol=0.05)
    pooled = ops.average_pool(ops.cast(x, "bfloat16"), 2)
    assert ops.dtype(pooled) == "bfloat16"


# --- errors --------------------------------------------------------------------------------------

X = np.zeros((1, 4, 5, 3), "float32")
W = np.zeros((3, 3, 3, 2), "float32")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    (
        (lambda: ops.conv(X[:, :2], W), ShapeError, "window that spans 3 does not fit into 2"),
        (lambda: ops.conv(X, W, dilation_rate=2), ShapeError, "spans 5 does not fit into 4"),
        (lambda: ops.max_pool(X, 5), ShapeError, "spans 5 does not fit into 4 elements along"),
        (lambda: ops.conv(X, W[:, :, :2]), ShapeError, r"channels=3, kernel input channels=2"),
        (lambda: ops.conv(X, W[:, :, :1]), ShapeError, "2 filters cannot be divided into 3 groups"),
        (lambda: ops.conv(X, W[0]), ShapeError, "Kernel shape must have the same length"),
        (lambda: ops.conv(X[0, 0], W[0, 0]), ShapeError, "got rank 2"),
        (lambda: ops.depthwise_conv(X, W[:, :, :2]), ShapeError, "must match the kernel's input"),
        (lambda: ops.conv_transpose(X, W), ShapeError, "channels=3, kernel input channels=2"),
        (lambda: ops.conv(X, W, 0), ValueError, r"including values \{0\} that do not"),
        (lambda: ops.conv(X, W, (1, 1, 1)), ValueError, "tuple of 2 integers"),
        (lambda: ops.conv(X, W, 1.5), ValueError, "strides=1.5"),
        (lambda: ops.conv(X, W, 1, "causal"), ValueError, "one of 'valid', 'same'"),
        (lambda: ops.conv(X, W, 1, [(0, 0)]), ValueError, "one of 'valid', 'same'"),
        (lambda: ops.conv(X, W, data_format="nchw"), ValueError, "data_format"),
        (lambda: ops.average_pool(X, -1), ValueError, "values {-1} that"),
        (
            lambda: ops.conv_transpose(X[..., :2], W, output_padding=-1),
            ValueError,
            "values {-1} that",
        ),
        (lambda: ops.adaptive_max_pool(X, 0), ValueError, "`output_size`"),
        (lambda: ops.adaptive_max_pool(handmill.Input((None, 3)), 2), ShapeError, "fixed"),
    ),
)
def test_messages(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_records_refuse_negative_padding():
    from handmill.ir.trace import apply
    from handmill.primitives.convolution import CONV

    attrs = {"strides": (1, 1), "dilation": (1, 1), "groups": 1}
    with pytest.raises(ShapeError, match="padding must not be negative"):
        apply(CONV, X, W, padding=((0, 0), (-1, 0)), **attrs)
    with pytest.raises(ShapeError, match="an entry for each of 2 axes"):
        apply(CONV, X, W, padding=((0, 0),), **attrs)
