"""Layers of the folders convolutional and pooling, and those that pad, crop and enlarge images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.errors import ShapeError
from layer_parity import (
    check_config,
    check_layer,
    check_policy,
    errors_of,
    normal,
    plain,
    same_weights,
)

IMAGES = (2, 7, 6, 4)
FIRST = (2, 4, 7, 6)
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv1d_causal": (
        lambda k: k.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="relu"),
        (2, 9, 3),
    ),
    "conv1d_first": (
        lambda k: k.Conv1D(6, 2, padding="causal", data_format="channels_first", groups=2),
        (2, 4, 9),
    ),
    "conv2d": (lambda k: k.Conv2D(5, (3, 2), (2, 1), "same"), IMAGES),
    "conv2d_plain": (
        lambda k: k.Conv2D(6, 3, groups=2, use_bias=False, kernel_regularizer="l2"),
        IMAGES,
    ),
    "conv2d_first": (
        lambda k: k.Conv2D(3, 2, padding="SAME", data_format="channels_first", activation="tanh"),
        FIRST,
    ),
    "conv3d": (lambda k: k.Conv3D(3, (2, 1, 2), dilation_rate=(1, 2, 1)), (2, 4, 3, 4, 2)),
    "transpose1d": (lambda k: k.Conv1DTranspose(3, 3, 2, "same"), (2, 5, 4)),
    "transpose2d": (
        lambda k: k.Conv2DTranspose(3, 3, 2, "same", output_padding=1, activation="relu"),
        (2, 4, 3, 2),
    ),
    "transpose2d_first": (
        lambda k: k.Conv2DTranspose(3, (2, 3), data_format="channels_first"),
        (2, 2, 4, 3),
    ),
    "transpose3d": (lambda k: k.Conv3DTranspose(2, 2, (1, 2, 1)), (2, 2, 3, 2, 2)),
    "depthwise1d": (lambda k: k.DepthwiseConv1D(3, depth_multiplier=2), (2, 6, 3)),
    "depthwise2d": (lambda k: k.DepthwiseConv2D(3, 2, "same", activation="relu"), IMAGES),
    "depthwise2d_first": (
        lambda k: k.DepthwiseConv2D(2, depth_multiplier=2, data_format="channels_first"),
        FIRST,
    ),
    "separable1d": (lambda k: k.SeparableConv1D(5, 3, padding="same"), (2, 6, 3)),
    "separable2d": (
        lambda k: k.SeparableConv2D(5, (2, 3), depth_multiplier=2, dilation_rate=2),
        IMAGES,
    ),
    "max1d": (lambda k: k.MaxPooling1D(3, 2, "same"), (2, 8, 3)),
    "max2d": (lambda k: k.MaxPooling2D(), IMAGES),
    "max2d_first": (lambda k: k.MaxPool2D((3, 2), 1, data_format="channels_first"), FIRST),
    "max3d": (lambda k: k.MaxPooling3D((2, 1, 2), padding="same"), (2, 3, 2, 3, 2)),
    "average1d": (lambda k: k.AveragePooling1D(3, 2, "same"), (2, 8, 3)),
    "average2d": (lambda k: k.AvgPool2D((2, 3), padding="same"), IMAGES),
    "average2d_first": (
        lambda k: k.AveragePooling2D(2, data_format="channels_first"),
        FIRST,
    ),
    "average3d": (lambda k: k.AveragePooling3D(2), (2, 3, 2, 5, 2)),
    "global_max": (lambda k: k.GlobalMaxPooling2D(), IMAGES),
    "global_max_first": (
        lambda k: k.GlobalMaxPool1D("channels_first", keepdims=True),
        (2, 4, 7),
    ),
    "global_average": (lambda k: k.GlobalAveragePooling2D(keepdims=True), IMAGES),
    "global_average_first": (lambda k: k.GlobalAvgPool3D("channels_first"), (2, 3, 2, 3, 2)),
    "adaptive_max1d": (lambda k: k.AdaptiveMaxPooling1D(3), (2, 7, 3)),
    "adaptive_max2d": (lambda k: k.AdaptiveMaxPooling2D((3, 2)), IMAGES),
    "adaptive_average2d": (
        lambda k: k.AdaptiveAveragePooling2D(4, "channels_first"),
        FIRST,
    ),
    "adaptive_average3d": (lambda k: k.AdaptiveAveragePooling3D(2), (2, 3, 4, 5, 2)),
    "normalized": (lambda k: k.BatchNormalization(), IMAGES),
    "normalized_first": (lambda k: k.BatchNormalization(axis=1), FIRST),
    "up1d": (lambda k: k.UpSampling1D(3), (2, 4, 3)),
    "up2d": (lambda k: k.UpSampling2D((2, 3)), IMAGES),
    "up2d_bilinear": (
        lambda k: k.UpSampling2D(2, "channels_first", interpolation="bilinear"),
        FIRST,
    ),
    "up3d": (lambda k: k.UpSampling3D((1, 2, 2)), (2, 2, 3, 2, 2)),
    "zeros1d": (lambda k: k.ZeroPadding1D((2, 1)), (2, 4, 3)),
    "zeros2d": (lambda k: k.ZeroPadding2D(((1, 0), (2, 3)), "channels_first"), FIRST),
    "zeros3d": (lambda k: k.ZeroPadding3D((1, 0, 2)), (2, 2, 3, 2, 2)),
    "crop1d": (lambda k: k.Cropping1D((2, 1)), (2, 6, 3)),
    "crop2d": (lambda k: k.Cropping2D(((1, 0), (2, 3))), IMAGES),
    "crop2d_first": (lambda k: k.Cropping2D((1, 2), "channels_first"), FIRST),
    "crop3d": (lambda k: k.Cropping3D(), (2, 4, 3, 5, 2)),
}
TRAINED = (
    "conv1d_causal",
    "conv2d",
    "transpose2d_first",
    "depthwise2d",
    "separable2d",
    "max2d",
    "normalized",
    "normalized_first",
)
HOST = ("conv3d", "transpose3d", "max3d", "average3d", "adaptive_average3d", "adaptive_max3d")
"""Layers over three spatial axes, whose operators have no kernels."""


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_layers_are_those_of_keras(keras: Any, name: str, tmp_path: Any) -> None:
    """Weights, config, numbers, both executors, a file; of some, three steps of training.

    JAX compiles for seconds what it trains: gradients are held to Keras's by test_ops_convolution.
    """
    make, shape = CASES[name]
    trains = name in TRAINED
    check_layer(
        keras,
        lambda k: make(k.layers),
        normal(*shape),
        before=trains,
        trains=trains,
        saved=tmp_path / "model.hmill",
        host=name.startswith(HOST),
        rtol=1e-4,
        atol=1e-5,
    )


def test_initial_values_have_the_spread_of_their_fans() -> None:
    for name, kernel, fans in (
        ("conv2d", 0, (3 * 2 * 4, 3 * 2 * 5)),
        ("transpose3d", 0, (2 * 2 * 2 * 2, 2 * 2 * 2 * 2)),
        ("depthwise1d", 0, (3 * 3, 3 * 2)),
        ("separable2d", 0, (2 * 3 * 4, 2 * 3 * 2)),
        ("separable2d", 1, (8, 5)),
    ):
        make, shape = CASES[name]
        layer = make(layers)
        layer.build(shape)
        limit = np.sqrt(6 / sum(fans))
        assert 0.7 * limit < np.abs(layer.get_weights()[kernel]).max() <= limit, name


@pytest.mark.peers
def test_mixed_precision_is_that_of_keras(keras: Any) -> None:
    for make in (
        lambda k, dtype: k.layers.Conv2D(5, 3, 2, "same", dtype=dtype),
        lambda k, dtype: k.layers.Conv2DTranspose(3, 3, 2, dtype=dtype),
        lambda k, dtype: k.layers.SeparableConv2D(5, 3, dtype=dtype),
    ):
        check_policy(keras, make, normal(*IMAGES), rtol=0.03)


@pytest.mark.peers
def test_mean_of_steps_that_count_is_that_of_keras(keras: Any) -> None:
    x = normal(3, 5, 2)
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    for keepdims in (False, True):
        theirs = keras.layers.GlobalAveragePooling1D(keepdims=keepdims)(x, mask=mask)
        ours = layers.GlobalAveragePooling1D(keepdims=keepdims)(x, mask=mask)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        turned = np.swapaxes(x, 1, 2).copy()
        found = layers.GlobalAveragePooling1D("channels_first", keepdims)(turned, mask=mask)
        want = keras.layers.GlobalAveragePooling1D("channels_first", keepdims)(turned, mask=mask)
        np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7)


def test_masks_end_in_the_mean() -> None:
    """Embedding's mask reaches the layer, and none leaves it."""
    inputs = handmill.Input((5,), dtype="int32")
    embedded = layers.Embedding(7, 3, mask_zero=True)(inputs)
    outputs = layers.GlobalAveragePooling1D()(embedded)
    model = handmill.Model(inputs, outputs)
    x = np.array([[1, 2, 0, 0, 0], [3, 0, 4, 0, 6]], "int32")
    rows = model.get_weights()[0][x]
    want = np.stack([rows[0, :2].mean(0), rows[1, [0, 2, 4]].mean(0)])
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-6)
    assert getattr(outputs, "_keras_mask", None) is None


def test_causal_outputs_see_no_later_step() -> None:
    layer = layers.Conv1D(2, 3, padding="causal", dilation_rate=2)
    x = normal(1, 10, 3)
    before = layer(x)
    x[:, 6:] += 1
    after = layer(x)
    np.testing.assert_array_equal(after[:, :6], before[:, :6])
    assert not np.array_equal(after[:, 6], before[:, 6])


def test_layouts_compute_the_same() -> None:
    """One layer for either layout, with the same weights."""
    x = normal(*IMAGES)
    for make in (
        lambda f: layers.Conv2D(6, 3, groups=2, data_format=f),
        lambda f: layers.Conv2DTranspose(3, 3, 2, data_format=f),
        lambda f: layers.SeparableConv2D(3, 3, data_format=f),
        lambda f: layers.AveragePooling2D(2, data_format=f),
        lambda f: layers.AdaptiveMaxPooling2D(3, data_format=f),
        lambda f: layers.GlobalMaxPooling2D(data_format=f, keepdims=True),
        lambda f: layers.UpSampling2D(2, data_format=f, interpolation="bicubic"),
        lambda f: layers.ZeroPadding2D(((1, 2), (0, 3)), data_format=f),
        lambda f: layers.Cropping2D(((1, 2), (0, 3)), data_format=f),
    ):
        last, first = make("channels_last"), make("channels_first")
        want = last(x)
        turned = np.moveaxis(x, -1, 1)
        first.build(turned.shape)
        first.set_weights(last.get_weights())
        np.testing.assert_allclose(np.moveaxis(first(turned), 1, -1), want, rtol=1e-5, atol=1e-6)


def network(rows: int | None = 8) -> Any:
    return handmill.Sequential(
        [
            layers.Input((rows, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.SpatialDropout2D(0.1, seed=1),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def bars(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of bars: 0 lies, 1 stands."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, count)
    x = rng.normal(scale=0.2, size=(count, 8, 8, 1)).astype("float32")
    for image, kind, at in zip(x, y, rng.integers(0, 8, count), strict=True):
        image[(slice(None), at) if kind else at] += 1
    return x, y


def test_a_network_learns_and_both_executors_agree() -> None:
    x, y = bars(192)
    losses = []
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            handmill.utils.set_random_seed(0)
            model = network()
            model.compile(
                handmill.optimizers.Adam(0.02),
                handmill.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            history = model.fit(x, y, batch_size=32, epochs=4, verbose=0).history
            losses.append(history["loss"])
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)
    assert history["accuracy"][-1] > 0.9


def test_open_heights_share_one_program() -> None:
    model = network(None)
    for rows in (8, 9, 12):
        x = normal(2, rows, 8, 1, seed=rows)
        np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=1e-5, atol=1e-6)
    assert model.output_shape == (None, 2)
    assert len(model._predictors) == 1


@pytest.mark.peers
def test_files_go_to_keras_and_back(keras: Any, tmp_path: Any) -> None:
    x = normal(2, 8, 8, 1)
    ours = network()
    ours.save(tmp_path / "ours.keras")
    theirs = keras.models.load_model(tmp_path / "ours.keras")
    want = np.asarray(theirs.predict(x, verbose=0))
    np.testing.assert_allclose(ours.predict(x, verbose=0), want, rtol=1e-4, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras reads its own variables in an old way
        theirs.save_weights(tmp_path / "theirs.weights.h5")
    again = network()
    again.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(again.predict(x, verbose=0), want, rtol=1e-4, atol=1e-5)


def all_kinds(library: Any) -> Any:
    """Layers with one kernel, two, and those that lie turned."""
    k = library.layers
    image = library.Input((8, 6, 4))
    x = k.Conv2D(4, (2, 3), groups=2, dilation_rate=(1, 2), padding="same", name="groups")(image)
    x = k.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, name="deep")(x)
    x = k.SeparableConv2D(6, 4, padding="same", depth_multiplier=2, name="separable")(x)
    x = k.Conv2DTranspose(5, 3, 2, "same", output_padding=1, name="back")(x)
    x = k.Reshape((-1, 5))(x)
    x = k.Conv1D(4, 4, padding="causal", dilation_rate=2, name="causal")(x)
    x = k.DepthwiseConv1D(3, 2, depth_multiplier=2, name="deep1d")(x)
    x = k.SeparableConv1D(7, 3, use_bias=False, name="separable1d")(x)
    x = k.Conv1DTranspose(3, 5, 3, name="back1d")(x)
    return library.Model(image, x)


@pytest.mark.slow
@pytest.mark.peers
def test_h5_of_keras_holds_all_kinds(keras: Any, tmp_path: Any) -> None:
    x = normal(2, 8, 6, 4)
    theirs, ours = all_kinds(keras), all_kinds(handmill)
    same_weights(theirs, ours)
    want = np.asarray(theirs.predict(x, verbose=0))
    assert np.abs(want).max() > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras reads its own variables in an old way
        theirs.save_weights(tmp_path / "theirs.weights.h5")
        theirs.save(tmp_path / "theirs.h5")
    for name in ("theirs.weights.h5", "theirs.h5"):
        read = all_kinds(handmill)
        read.load_weights(tmp_path / name)
        np.testing.assert_array_equal(read.predict(x, verbose=0), ours.predict(x, verbose=0))
    whole = handmill.models.load_model(tmp_path / "theirs.h5")
    np.testing.assert_allclose(
        whole.predict(x, verbose=0), want, rtol=1e-4, atol=1e-5 * np.abs(want).max()
    )


def test_kernels_of_subclasses() -> None:
    """``convolution_op`` may use another kernel than the weight."""

    class Standardized(layers.Conv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, kernel - ops.mean(kernel, (0, 1, 2)))

    x = np.ones((1, 4, 4, 2), "float32")
    np.testing.assert_allclose(Standardized(3, 3)(x), 0, atol=1e-6)


def test_the_first_argument_may_be_named() -> None:
    x = normal(2, 6, 3)
    layer = layers.Conv1D(2, 3)
    np.testing.assert_array_equal(layer(inputs=x), layer(x))
    assert layer(inputs=layers.Input((6, 3))).shape == (None, 4, 2)
    dense = layers.Dense(2)
    np.testing.assert_array_equal(dense(inputs=x), dense(x))


X = np.zeros((1, 4, 5, 3), "float32")


def opened(layer: Any) -> Any:
    """A model of a layer on images of any height and width."""
    inputs = handmill.Input((None, None, 3))
    return handmill.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda: layers.Conv2D(2, 5)(X), "output size would be zero or negative: windows that"),
        (lambda: layers.Conv2D(2, 3, dilation_rate=3)(X), r"span \(7, 7\) do not fit"),
        (lambda: layers.DepthwiseConv2D(5)(X), "output size would be zero or negative"),
        (lambda: layers.SeparableConv2D(2, 5)(X), "output size would be zero or negative"),
        (lambda: layers.Conv2D(4, 2, groups=2)(X), "divisible by the number of groups"),
        (lambda: layers.Conv2D(2, 3)(X[0]), "expected min_ndim=4, found ndim=3"),
        (lambda: layers.Conv2D(2, 3)(X[None]), "an input of 4 axes"),
        (lambda: layers.Conv2D(2, 3)(layers.Input((4, 5, None))), "fixed number of channels"),
        (lambda: layers.MaxPooling2D(5)(X), "spans 5 does not fit into 4 elements"),
        (lambda: layers.Cropping2D(2)(X), "should be smaller than the corresponding"),
        (lambda: layers.AdaptiveMaxPooling2D(2)(layers.Input((None, 5, 3))), "fixed sizes"),
        (lambda: layers.MaxPooling1D()(X), "expected ndim=3, found ndim=4"),
        # Kernels larger than the input, along each number of axes.
        (lambda: layers.Conv1D(2, 6)(X[0]), r"windows that span \(6,\) do not fit"),
        (lambda: layers.Conv3D(2, (1, 5, 1))(X[None]), r"windows that span \(1, 5, 1\) do not fit"),
        (lambda: layers.DepthwiseConv1D(6)(X[0]), r"windows that span \(6,\) do not fit"),
        (lambda: layers.SeparableConv1D(2, 6)(X[0]), r"windows that span \(6,\) do not fit"),
        (lambda: layers.AveragePooling1D(6)(X[0]), "spans 6 does not fit into 5 elements"),
        (lambda: layers.MaxPooling3D((1, 1, 6))(X[None]), "spans 6 does not fit into 5 elements"),
        # Outputs of no element.
        (lambda: layers.Conv2D(2, 3, padding="same")(X[:, :0]), "the output would be empty"),
        (lambda: layers.Conv2D(2, 1)(X[:, :0]), r"windows that span \(1, 1\) do not fit"),
        (lambda: layers.DepthwiseConv2D(3, 2, "same")(X[:, :0]), "the output would be empty"),
        (lambda: layers.Conv2DTranspose(2, 3, 2)(X[:, :0]), "the output would be empty"),
        (lambda: layers.MaxPooling2D(2, padding="same")(X[:, :0]), "the output would be empty"),
        (lambda: layers.AveragePooling2D(2)(X[:, :, :1]), "spans 2 does not fit into 1 elements"),
        (lambda: layers.GlobalMaxPooling2D()(X[:, :0]), "no elements along axis"),
        (lambda: layers.Cropping1D((2, 3))(X[0]), "must be smaller than the input length"),
        (lambda: layers.Cropping3D(((0, 0), (2, 2), (0, 0)))(X[None]), "should be smaller than"),
        # Lengths that are open until a call.
        (lambda: opened(layers.Conv2D(2, 5)).predict(X, verbose=0), "spans 5 does not fit into 4"),
        (lambda: opened(layers.MaxPooling2D(5))(X), "spans 5 does not fit into 4"),
        (lambda: opened(layers.Cropping2D(2))(X), "should be smaller than the corresponding"),
        # Groups.
        (lambda: layers.Conv1D(4, 2, groups=2)(X[0]), "divisible by the number of groups"),
        (lambda: layers.Conv3D(4, 1, groups=2)(X[None]), "divisible by the number of groups"),
        (
            lambda: layers.Conv2D(6, 2, groups=3, data_format="channels_first")(X.swapaxes(1, 2)),
            "Received groups=3, but the input has 5 channels",
        ),
        # Windows that memory does not hold.
        (
            lambda: layers.Conv2D(2, 2, dilation_rate=2**32, padding="same")(X),
            "an image padded to .* places is too large",
        ),
        (lambda: layers.MaxPooling2D(10**9, padding="same")(X), "places is too large"),
    ),
)
def test_inputs_that_do_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_sizes_may_be_numbers_of_numpy() -> None:
    layer = layers.Conv2D(np.int64(4), np.array([1, 3]), strides=np.int64(2), groups=np.int64(1))
    assert layer(X).shape == (1, 2, 2, 4)
    assert plain(layer.get_config())["kernel_size"] == [1, 3]


def test_a_refused_input_leaves_no_weights() -> None:
    layer = layers.Conv2D(2, 5)
    with pytest.raises(ShapeError):
        layer(X)
    assert not layer.built
    assert layer.weights == []
    assert layer(np.zeros((1, 6, 6, 1), "float32")).shape == (1, 2, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda k: k.Conv2D(0, 3), "strictly positive"),
        (lambda k: k.Conv2D(2, 0), "kernel_size"),
        (lambda k: k.Conv2D(2, (3, 3, 3)), "tuple of 2 integers"),
        (lambda k: k.Conv2D(2, 3, strides=(1, 0)), "strides"),
        (lambda k: k.Conv2D(2, 3, strides=2, dilation_rate=2), "strides > 1"),
        (lambda k: k.Conv2D(2, 3, padding="causal"), "padding"),
        (lambda k: k.Conv2D(3, 3, groups=2), "evenly divisible"),
        (lambda k: k.Conv2D(2, 3, groups=0), "groups"),
        (lambda k: k.Conv2D(2, 3, data_format="last"), "data_format"),
        (lambda k: k.Conv2DTranspose(2, 3, 2, output_padding=2), "output_padding"),
        (lambda k: k.DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier"),
        (lambda k: k.MaxPooling2D(0), "pool_size"),
        (lambda k: k.ZeroPadding2D(-1), r"padding=-1, including values \{-1\}"),
        (
            lambda k: k.ZeroPadding2D(((1, -2), (0, 0))),
            r"padding\[0\]=\(1, -2\), including .* \{-2\}",
        ),
        (lambda k: k.ZeroPadding1D((0, -1)), r"padding=\(0, -1\), including values \{-1\}"),
        (lambda k: k.ZeroPadding3D((1, 1, -1)), r"padding\[2\]=-1, including values \{-1\}"),
        (lambda k: k.Cropping1D((0, -1)), r"cropping=\(0, -1\), including values \{-1\}"),
        (lambda k: k.Cropping2D(-1), r"cropping=-1, including values \{-1\}"),
        (lambda k: k.Conv2DTranspose(2, 3, 2, output_padding=-1), r"including values \{-1\}"),
        (lambda k: k.Conv1D(2, 3, -1), r"strides=-1, including values \{-1\}"),
        (
            lambda k: k.DepthwiseConv2D(3, dilation_rate=0),
            r"dilation_rate=0, including values \{0\}",
        ),
        (lambda k: k.Conv3D(5, 3, groups=2), "evenly divisible by the number of groups"),
        (lambda k: k.ZeroPadding2D((1, 2, 3)), "padding"),
        (lambda k: k.Cropping3D((1, 2)), "cropping"),
        (lambda k: k.UpSampling1D(0), "size"),
        (lambda k: k.UpSampling1D(1.5), "size"),
        (lambda k: k.AdaptiveMaxPooling2D("3"), "output_size"),
    ),
)
def test_arguments_that_mean_nothing(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(layers)


@pytest.mark.peers
def test_configs_without_weights_are_those_of_keras(keras: Any) -> None:
    for make in (
        lambda k: k.Conv2D(3, 3, kernel_constraint="non_neg", bias_regularizer="l1"),
        lambda k: k.SeparableConv2D(3, 3, pointwise_regularizer="l2", depthwise_initializer="ones"),
        lambda k: k.DepthwiseConv1D(3, activity_regularizer="l2"),
        lambda k: k.Conv3DTranspose(3, 2, (1, 1, 1), "valid", "channels_first", (0, 0, 0)),
        lambda k: k.MaxPooling3D(2, 1, "same", name="pool"),
    ):
        check_config(keras, make(keras.layers), make(layers))
    assert plain(layers.Conv2D(3, 3).get_config())["kernel_size"] == [3, 3]
    theirs, ours = errors_of(keras, lambda k: k.layers.Conv2D(3, 3, groups=2))
    assert "groups=2" in theirs
    assert "groups=2" in ours
