"""Which layers compute what operators of ONNX do: products, convolutions, pools and what is around.

A rule makes the layer, calls it, and gives it the weights of the file. It raises
:class:`Unreadable` where no layer does the same; the operator is then computed as a part of a graph
(:mod:`handmill.exchange.from_onnx.layered`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from handmill import layers
from handmill.exchange.from_onnx.execution import Call, Unreadable
from handmill.exchange.from_onnx.products import windows
from handmill.exchange.from_onnx.resizing import repeats
from handmill.ir.op import Array

LayerRule: TypeAlias = "Callable[..., Held]"
LAYER_RULES: dict[str, LayerRule] = {}
"""How an operator is a layer: ``rule(call, name, *operands)`` -> a :class:`Held`."""
HOLDS_WEIGHTS = {
    "BatchNormalization": (1, 2, 3, 4), "Conv": (1, 2),
    "ConvTranspose": (1, 2), "GRU": (1, 2, 3), "Gemm": (1, 2),
    "LSTM": (1, 2, 3), "LayerNormalization": (1, 2), "MatMul": (1,), "RNN": (1, 2, 3),
}  # fmt: skip
"""Operators that become layers with weights, and which operands these are."""


class Held:
    """A tensor of a functional model.

    Attributes:
        tensor: the tensor.
        turned: whether it is (N, *S, C) where the file says (N, C, *S).
        steps: whether it is (N, T, *S) where the file says (T, N, *S), as recurrent operators do.
    """

    def __init__(self, tensor: Any, turned: bool = False, steps: bool = False) -> None:
        self.tensor = tensor
        self.turned = turned
        self.steps = steps
        self._other: Any = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.tensor.shape)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes in the order that the file says; None for those that a call decides."""
        given = tuple(self.tensor.shape)
        if self.steps:
            return (given[1], given[0], *given[2:])
        return (given[0], given[-1], *given[1:-1]) if self.turned else given

    def first(self) -> Any:
        """The tensor in the order that the file says."""
        return self._permuted(False)

    def last(self) -> Any:
        """The tensor with its channels last."""
        return self._permuted(True)

    def _permuted(self, last: bool) -> Any:
        if self.steps:
            raise Unreadable("the batch is no first axis")
        if self.turned == last:
            return self.tensor
        if self._other is None:
            axes = range(1, self.ndim)
            order = (*axes[1:], 1) if last else (axes[-1], *axes[:-1])
            self._other = layers.Permute(order)(self.tensor)
        return self._other


def layer_rule(*names: str) -> Callable[[LayerRule], LayerRule]:
    """Registers a rule."""

    def register(function: LayerRule) -> LayerRule:
        LAYER_RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _floats(*arrays: Any) -> None:
    for array in arrays:
        if array is not None and not (isinstance(array, np.ndarray) and array.dtype == np.float32):
            raise Unreadable("weights that are computed, or of another dtype than float32")


def _given(layer: Any, x: Any, *arrays: Array) -> Any:
    """Calls a layer and gives it weights."""
    found = layer(x)
    layer.set_weights([np.ascontiguousarray(a) for a in arrays])
    return found


def _features_last(x: Held) -> Any:
    """A tensor for what goes along the last axis alone: the order of those before it may stay."""
    return x.tensor if x.steps and x.ndim > 2 else x.first()


def _vector(array: Any, size: int) -> Array:
    """What is added to each of so many entries."""
    if array.size not in (1, size) or any(n != 1 for n in array.shape[:-1]):
        raise Unreadable(f"what is added has the shape {array.shape}")
    return np.broadcast_to(array.reshape(-1), (size,))


# --- products ------------------------------------------------------------------------------------


@layer_rule("MatMul")
def dense(call: Call, name: str, x: Any, w: Any, bias: Any = None) -> Held:
    """A product with a matrix of the file, and what is added to it."""
    _floats(w, bias)
    if not isinstance(x, Held) or w.ndim != 2 or x.ndim < 2 or x.shape[-1] != w.shape[0]:
        raise Unreadable("no product of rows and a matrix")
    arrays = [w] if bias is None else [w, _vector(bias, w.shape[1])]
    layer = layers.Dense(w.shape[1], use_bias=bias is not None, name=name)
    return Held(_given(layer, _features_last(x), *arrays), steps=x.steps)


@layer_rule("Gemm")
def gemm(call: Call, name: str, x: Any, w: Any, bias: Any = None) -> Held:
    """A product of a matrix with one of the file."""
    _floats(w, bias)
    if call.attr("transA", 0) or w.ndim != 2 or not isinstance(x, Held) or x.ndim != 2:
        raise Unreadable("no product of rows and a matrix")
    w = (w.T if call.attr("transB", 0) else w) * np.float32(call.attr("alpha", 1.0))
    beta = np.float32(call.attr("beta", 1.0))
    return dense(call, name, x, w, None if bias is None else bias * beta)


# --- windows -------------------------------------------------------------------------------------


def _named(kind: str, rank: int) -> Any:
    found = getattr(layers, f"{kind}{rank}D", None)
    if found is None:
        raise Unreadable(f"no {kind} of {rank} axes")
    return found


def _bordered(x: Any, window: list[int], attrs: dict[str, Any], zeros: bool) -> tuple[Any, str]:
    """The tensor and the padding that a layer has for what the file says."""
    pairs, sizes = attrs["padding"], x.shape[1:-1]
    if not any(n for pair in pairs for n in pair):
        return x, "valid"
    same = []
    for size, k, step, apart in zip(
        sizes, window, attrs["strides"], attrs["dilation"], strict=True
    ):
        reach = (k - 1) * apart + 1
        if size is None and step != 1:
            break
        total = reach - 1 if step == 1 else max((-(-size // step) - 1) * step + reach - size, 0)
        same.append((total // 2, total - total // 2))
    if same == list(pairs):
        return x, "same"
    if not zeros or any(n < 0 for pair in pairs for n in pair):
        raise Unreadable(f"padding {pairs}")
    padding = pairs[0] if len(pairs) == 1 else tuple(pairs)
    return _named("ZeroPadding", len(pairs))(padding)(x), "valid"


@layer_rule("Conv")
def conv(call: Call, name: str, x: Any, w: Any, bias: Any = None) -> Held:
    """A convolution, of each channel by itself where groups say so."""
    _floats(w, bias)
    rank, window, groups = w.ndim - 2, list(w.shape[2:]), call.attr("group", 1)
    if not isinstance(x, Held) or x.ndim != w.ndim or x.shape[1] != w.shape[1] * groups:
        raise Unreadable("images of other channels")
    if call.attr("kernel_shape", window) != window or None in x.shape[1:2]:
        raise Unreadable("a kernel of another shape")
    if bias is not None and bias.shape != w.shape[:1]:
        raise Unreadable(f"what is added has the shape {bias.shape}")
    images = x.last()
    attrs = windows(call, images.shape[1:-1], window)
    if max(attrs["dilation"]) > 1 and max(attrs["strides"]) > 1:
        raise Unreadable("strides and dilation")
    images, padding = _bordered(images, window, attrs, zeros=True)
    given = {
        "strides": attrs["strides"], "padding": padding, "dilation_rate": attrs["dilation"],
        "use_bias": bias is not None, "name": name, "data_format": "channels_last",
    }  # fmt: skip
    if groups == x.shape[1] and groups > 1 and rank < 3:
        if len(set(attrs["strides"])) > 1:
            raise Unreadable("strides that differ")
        kernel = w.reshape(groups, -1, *window).transpose(*range(2, rank + 2), 0, 1)
        layer = _named("DepthwiseConv", rank)(window, depth_multiplier=kernel.shape[-1], **given)
    else:
        kernel = w.transpose(*range(2, rank + 2), 1, 0)
        layer = _named("Conv", rank)(w.shape[0], window, groups=groups, **given)
    return Held(_given(layer, images, kernel, *([] if bias is None else [bias])), True)


@layer_rule("ConvTranspose")
def conv_transpose(call: Call, name: str, x: Any, w: Any, bias: Any = None) -> Held:
    """A transposed convolution, and what is cut off of it."""
    _floats(w, bias)
    rank, window = w.ndim - 2, list(w.shape[2:])
    if not isinstance(x, Held) or x.ndim != w.ndim or x.shape[1] != w.shape[0]:
        raise Unreadable("images of other channels")
    if call.attr("kernel_shape", window) != window or call.attr("group", 1) != 1:
        raise Unreadable("a kernel of another shape, or groups")
    if bias is not None and bias.shape != w.shape[1:2]:
        raise Unreadable(f"what is added has the shape {bias.shape}")
    attrs = windows(call, x.shape[2:], window)
    beyond = call.attr("output_padding", [0] * rank)
    if call.attr("auto_pad", "NOTSET") != "NOTSET" or call.attr("output_shape") is not None:
        raise Unreadable("sizes that it says in another way")
    strides, few = (
        attrs["strides"],
        any(k < s for k, s in zip(window, attrs["strides"], strict=True)),
    )
    if max(attrs["dilation"]) > 1 or few or len(beyond) != rank:
        raise Unreadable("windows with holes, or apart")
    pairs = [(a, b - n) for (a, b), n in zip(attrs["padding"], beyond, strict=True)]
    if min(n for pair in pairs for n in pair) < 0:
        raise Unreadable(f"padding {pairs}")
    found = getattr(layers, f"Conv{rank}DTranspose", None)
    if found is None:
        raise Unreadable(f"no transposed convolution of {rank} axes")
    layer = found(
        w.shape[1], window, strides=strides, use_bias=bias is not None, name=name,
        data_format="channels_last",
    )  # fmt: skip
    kernel = w.transpose(*range(2, rank + 2), 1, 0)
    images = _given(layer, x.last(), kernel, *([] if bias is None else [bias]))
    if any(n for pair in pairs for n in pair):
        images = _named("Cropping", rank)(pairs[0] if rank == 1 else tuple(pairs))(images)
    return Held(images, True)


@layer_rule("Resize", "Upsample")
def upsampling(
    call: Call, name: str, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None
) -> Held:
    """Images a whole number of times as large: entries repeated, or in a line between two."""
    if call.step.op == "Upsample":
        scales = call.attr("scales") if roi is None else roi
    if (
        call.attr("axes") is not None
        or call.attr("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise Unreadable("some axes")
    if scales is not None and np.size(scales):
        factors = np.asarray(scales if isinstance(scales, list) else call.known(scales, "scales"))
    else:
        wanted = call.known(sizes, "sizes")
        if None in x.shape[1:] or wanted.shape != (x.ndim,) or 0 in x.shape[1:]:
            raise Unreadable("sizes that a call decides")
        factors = wanted[1:] / np.array(x.shape[1:])
        factors = np.concatenate([[1.0], factors])
    times = [int(n) for n in factors[2:]] if factors.shape == (x.ndim,) else []
    if not 3 <= x.ndim <= 5 or [1, 1, *times] != factors.tolist() or min(times, default=0) < 1:
        raise Unreadable(f"the factors {factors}")
    kind = call.attr("mode", "nearest")
    given: dict[str, Any] = {"size": times[0] if x.ndim == 3 else tuple(times), "name": name}
    if kind == "nearest":
        if not all(repeats(call, n) for n in times):
            raise Unreadable("other entries than the nearest")
    elif kind == "linear" and x.ndim == 4:
        mode = call.attr("coordinate_transformation_mode", "half_pixel")
        if mode not in ("half_pixel", "pytorch_half_pixel") or call.opset < 11:
            raise Unreadable(f"coordinate_transformation_mode {mode!r}")
        if call.attr("antialias", 0) or call.attr("exclude_outside", 0):
            raise Unreadable("antialias or exclude_outside")
        given["interpolation"] = "bilinear"
    else:
        raise Unreadable(f"the mode {kind!r}")
    call.attr("antialias", 0)
    if x.ndim > 3:
        given["data_format"] = "channels_last"
    return Held(_named("UpSampling", x.ndim - 2)(**given)(x.last()), True)


@layer_rule("MaxPool", "AveragePool")
def pool(call: Call, name: str, x: Any) -> Held:
    """The largest entry or the mean of each window."""
    average = call.step.op == "AveragePool"
    window = call.attr("kernel_shape", [])
    if not isinstance(x, Held) or x.ndim != len(window) + 2 or len(call.step.outputs) > 1:
        raise Unreadable("places of maxima")
    images = x.last()
    attrs = windows(call, images.shape[1:-1], window)
    if call.attr("ceil_mode", 0) or max(attrs["dilation"]) > 1:
        raise Unreadable("windows that reach beyond the image, or with holes")
    counted = average and bool(call.attr("count_include_pad", 0))
    images, padding = _bordered(images, window, attrs, zeros=counted)
    if counted and padding == "same":
        raise Unreadable("padding that counts")
    layer = _named("AveragePooling" if average else "MaxPooling", len(window))
    made = layer(window, attrs["strides"], padding, data_format="channels_last", name=name)
    return Held(made(images), True)


@layer_rule("GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
def global_pool(call: Call, name: str, x: Any, axes: Any = None) -> Held:
    """One number for each channel."""
    if not isinstance(x, Held) or x.ndim not in (3, 4, 5):
        raise Unreadable("no images")
    keep = True
    if call.step.op == "ReduceMean":
        if x.ndim == 3 and not x.turned:
            raise Unreadable("a mean over features")
        given = call.ints("axes", axes, [])
        if sorted(call.axes(given, x.ndim)) != list(range(2, x.ndim)):
            raise Unreadable(f"a mean over the axes {given}")
        keep = bool(call.attr("keepdims", 1))
    kind = "GlobalMaxPooling" if call.step.op == "GlobalMaxPool" else "GlobalAveragePooling"
    layer = _named(kind, x.ndim - 2)
    found = layer(keepdims=keep, data_format="channels_last", name=name)(x.last())
    return Held(found, keep)


# --- normalizations ------------------------------------------------------------------------------


@layer_rule("BatchNormalization")
def batch_normalization(
    call: Call, name: str, x: Any, scale: Any, bias: Any, mean: Any, var: Any
) -> Held:
    """By what training found; training on goes on with it."""
    _floats(scale, bias, mean, var)
    if call.attr("training_mode", 0) or not isinstance(x, Held) or x.ndim < 2:
        raise Unreadable("it is in training mode")
    if any(array.shape != (x.shape[1],) for array in (scale, bias, mean, var)):
        raise Unreadable("numbers that are not one for each channel")
    given = {"momentum": call.attr("momentum", 0.9), "epsilon": call.attr("epsilon", 1e-5)}
    layer = layers.BatchNormalization(axis=-1, name=name, **given)
    turned = x.ndim > 2
    images = x.last() if turned else x.tensor
    return Held(_given(layer, images, scale, bias, mean, var), turned)


@layer_rule("LayerNormalization")
def layer_normalization(call: Call, name: str, x: Any, scale: Any, bias: Any = None) -> Held:
    """Over the last axis."""
    _floats(scale, bias)
    axis = call.attr("axis", -1)
    if not isinstance(x, Held) or axis not in (-1, x.ndim - 1) or scale.ndim != 1:
        raise Unreadable("it goes over several axes")
    if any(v is not None and v.shape != (x.shape[-1],) for v in (scale, bias)):
        raise Unreadable("numbers that are not one for each entry")
    if any(call.step.outputs[1:]):
        raise Unreadable("its mean is asked for")
    epsilon = call.attr("epsilon", 1e-5)
    layer = layers.LayerNormalization(epsilon=epsilon, center=bias is not None, name=name)
    arrays = [scale] if bias is None else [scale, bias]
    return Held(_given(layer, _features_last(x), *arrays), steps=x.steps)


# --- element by element --------------------------------------------------------------------------

_ACTIVATIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus",
    "Softsign": "softsign", "HardSwish": "hard_silu", "Exp": "exponential",
}  # fmt: skip


@layer_rule(*_ACTIVATIONS)
def activation(call: Call, name: str, x: Any) -> Held:
    """A function of each entry."""
    return _same(x, layers.Activation(_ACTIVATIONS[call.step.op], name=name))


def _same(x: Any, layer: Any) -> Held:
    return Held(layer(x.tensor), x.turned, x.steps)


@layer_rule("LeakyRelu")
def leaky_relu(call: Call, name: str, x: Any) -> Held:
    """With a slope below 0."""
    return _same(x, layers.LeakyReLU(negative_slope=call.attr("alpha", 0.01), name=name))


@layer_rule("Elu")
def elu(call: Call, name: str, x: Any) -> Held:
    """An exponential below 0."""
    return _same(x, layers.ELU(alpha=call.attr("alpha", 1.0), name=name))


@layer_rule("Clip")
def clip(call: Call, name: str, x: Any, low: Any = None, high: Any = None) -> Held:
    """relu6 and its kind: from 0 to a number."""
    low = call.attr("min", 1.0) if low is None else low
    high = call.attr("max", 0.0) if high is None else high
    ends = [
        np.asarray(call.known(e, "end") if not isinstance(e, float) else e) for e in (low, high)
    ]
    if any(end.size != 1 for end in ends) or ends[0].item() != 0 or not ends[1].item() > 0:
        raise Unreadable("other ends")
    return _same(x, layers.ReLU(max_value=float(ends[1].item()), name=name))


@layer_rule("Softmax")
def softmax(call: Call, name: str, x: Any) -> Held:
    """Along the last axis."""
    axis = call.attr("axis", -1 if call.opset >= 13 else 1)
    if axis not in (-1, x.ndim - 1):  # before version 13 all axes from this one on
        raise Unreadable("along another axis")
    return Held(layers.Softmax(name=name)(_features_last(x)), steps=x.steps)


@layer_rule("Add", "Sub", "Mul", "Max", "Min")
def merged(call: Call, name: str, *xs: Any) -> Held:
    """Tensors of one shape, entry by entry."""
    kinds = {"Add": "Add", "Sub": "Subtract", "Mul": "Multiply", "Max": "Maximum", "Min": "Minimum"}
    shapes = {x.shape for x in xs if isinstance(x, Held)}
    if len(xs) < 2 or len(shapes) != 1 or not all(isinstance(x, Held) for x in xs):
        raise Unreadable("numbers of the file, or other shapes")
    turned = any(x.turned for x in xs)
    if any(x.steps for x in xs):
        raise Unreadable("the batch is no first axis")
    layer = getattr(layers, kinds[call.step.op])(name=name)
    return Held(layer([x.last() if turned else x.tensor for x in xs]), turned)


# --- shapes --------------------------------------------------------------------------------------


@layer_rule("Concat")
def concat(call: Call, name: str, *xs: Any) -> Held:
    """One behind the other."""
    if len(xs) < 2 or not all(isinstance(x, Held) for x in xs):
        raise Unreadable("numbers of the file")
    rank = xs[0].ndim
    axis = call.axis(call.attr("axis", 1), rank)
    turned = any(x.turned for x in xs)
    if any(x.steps for x in xs):
        raise Unreadable("the batch is no first axis")
    if axis == 0:
        raise Unreadable("of batches")
    at = axis if not turned else rank - 1 if axis == 1 else axis - 1
    given = [x.last() if turned else x.tensor for x in xs]
    return Held(layers.Concatenate(axis=at, name=name)(given), turned)


def _rows(x: Any) -> Any:
    """A tensor whose axes may be put together in the order that the file says."""
    alone = math.prod(n for n in x.tensor.shape[1:-1] if n is not None) == 1
    return x.tensor if x.turned and alone and None not in x.tensor.shape[1:] else x.first()


@layer_rule("Flatten")
def flatten(call: Call, name: str, x: Any) -> Held:
    """All axes but that of the batch as one."""
    if call.attr("axis", 1) not in (1, 1 - x.ndim) or None in x.shape[1:]:
        raise Unreadable("other axes, or sizes that a call decides")
    return Held(layers.Flatten(data_format="channels_last", name=name)(_rows(x)))


@layer_rule("Reshape")
def reshape(call: Call, name: str, x: Any, shape: Any = None) -> Held:
    """Other axes behind that of the batch."""
    sizes = call.ints("shape", shape)
    if not sizes or (call.attr("allowzero", 0) and 0 in sizes) or None in x.shape[1:]:
        raise Unreadable("sizes that a call decides")
    sizes = [x.shape[i] if n == 0 and 0 < i < x.ndim else n for i, n in enumerate(sizes)]
    inner, entries = sizes[1:], math.prod(x.shape[1:])
    known = math.prod(n for n in inner if n != -1)
    if sizes[0] not in (0, -1, x.shape[0]) or inner.count(-1) > (sizes[0] != -1) or not known:
        raise Unreadable("the batch is cut")
    if known != entries if -1 not in inner else entries % known:
        raise Unreadable("the batch is cut")
    if len(inner) == 1:
        return Held(layers.Flatten(data_format="channels_last", name=name)(_rows(x)))
    return Held(layers.Reshape(inner, name=name)(_rows(x)))


@layer_rule("Squeeze")
def squeeze(call: Call, name: str, x: Any, axes: Any = None) -> Held:
    """Channels of images of one place."""
    given = call.ints("axes", axes, [])
    if sorted(call.axes(given, x.ndim)) != list(range(2, x.ndim)) or x.ndim < 3:
        raise Unreadable("other axes")
    if x.shape[2:] != (1,) * (x.ndim - 2) or x.shape[1] is None:
        raise Unreadable("axes of more than one entry")
    return Held(layers.Flatten(data_format="channels_last", name=name)(_rows(x)))


@layer_rule("Transpose")
def transpose(call: Call, name: str, x: Any) -> Held:
    """Another order of axes; of channels, that is no more than a word."""
    rank = x.ndim
    perm = call.attr("perm", list(range(rank))[::-1])
    if sorted(perm) == list(range(rank)) and perm == [1, 0, *range(2, rank)] and not x.turned:
        return Held(x.tensor, steps=not x.steps)
    if sorted(perm) != list(range(rank)) or perm[0] != 0:
        raise Unreadable("the batch moves")
    if x.turned and perm == [0, *range(2, rank), 1]:
        return Held(x.tensor)
    if rank >= 3 and not x.turned and perm == [0, rank - 1, *range(1, rank - 1)]:
        return Held(x.tensor, True)
    return Held(layers.Permute(perm[1:], name=name)(x.first()))


@layer_rule("Identity", "Dropout")
def identity(call: Call, name: str, x: Any, *others: Any) -> Held:
    """What is there."""
    if any(call.step.outputs[1:]):
        raise Unreadable("the places that stay")
    if call.step.op == "Dropout":
        call.attr("ratio", 0.5)
        if any(x is not None and np.any(call.known(x, "training_mode")) for x in others[1:]):
            raise Unreadable("it is in training mode")
    return Held(x.tensor, x.turned, x.steps)
