"""ONNX's products, convolutions, pools and normalizations: of images whose channels are last."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.elementwise import like
from handmill.exchange.from_onnx.execution import Call, Last, Unreadable, last, rule
from handmill.ir.dims import is_symbolic_dim
from handmill.ir.trace import apply
from handmill.primitives.convolution import CONV, CONV_INPUT_GRAD
from handmill.primitives.pooling import AVERAGE_POOL, MAX_POOL
from handmill.primitives.windows import parts, window_counts


@rule("MatMul")
def matmul(call: Call, a: Any, b: Any) -> Any:
    """Matrix products."""
    return ops.matmul(a, b)


@rule("Gemm")
def gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    """A product of two matrices, with factors and what is added."""
    a = ops.transpose(a) if call.attr("transA", 0) else a
    b = ops.transpose(b) if call.attr("transB", 0) else b
    found = ops.matmul(a, b)
    if (alpha := call.attr("alpha", 1.0)) != 1.0:
        found = found * like(a, alpha)
    if c is None:
        return found
    beta = call.attr("beta", 1.0)
    return found + (c if beta == 1.0 else c * like(c, beta))


@rule("MatMulInteger")
def matmul_integer(call: Call, a: Any, b: Any, za: Any = None, zb: Any = None) -> Any:
    """A product of bytes, as int32."""
    x, y = ops.cast(a, "int32"), ops.cast(b, "int32")
    if za is not None:
        za = ops.cast(za, "int32")
        x = x - (ops.expand_dims(za, -1) if len(za.shape) else za)
    if zb is not None:
        y = y - ops.cast(zb, "int32")
    return ops.matmul(x, y)


_MOST_PARTS = 1024

# --- windows -------------------------------------------------------------------------------------


def windows(call: Call, sizes: Any, window: list[int]) -> dict[str, Any]:
    """Strides, dilation and padding, as the operators here take them."""
    rank = len(window)
    strides = call.attr("strides", [1] * rank)
    dilation = call.attr("dilations", [1] * rank)
    if len(strides) != rank or len(dilation) != rank or min(*strides, *dilation, *window) < 1:
        raise Unreadable(f"strides {strides}, dilations {dilation} for a window of {window}")
    auto = call.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, step, k, d in zip(sizes, strides, window, dilation, strict=True):
            reach = (k - 1) * d + 1
            if is_symbolic_dim(size):
                if step != 1:
                    raise Unreadable(f"auto_pad={auto!r} where a call decides sizes")
                total = reach - 1
            else:
                total = max((-(-int(size) // step) - 1) * step + reach - int(size), 0)
            half = total // 2
            pairs.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    elif auto == "VALID":
        pairs = [(0, 0)] * rank
    else:
        pads = call.attr("pads", [0] * (2 * rank))
        if len(pads) != 2 * rank:
            raise Unreadable(f"{len(pads)} pads for a window of {window}")
        pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    return {"strides": tuple(strides), "dilation": tuple(dilation), "padding": tuple(pairs)}


def _kernel(w: Any) -> Any:
    """(O, C, *K) -> (*K, C, O)."""
    rank = len(w.shape)
    return ops.transpose(w, (*range(2, rank), 1, 0))


def _padded(x: Any, attrs: dict[str, Any]) -> Any:
    """Cuts what negative padding cuts away."""
    pairs = attrs["padding"]
    if all(n >= 0 for pair in pairs for n in pair):
        return x
    raise Unreadable(f"negative padding: {pairs}")


@rule("Conv", keeps_order=True)
def conv(call: Call, x: Any, w: Any, b: Any = None) -> Any:
    """Convolutions of one to three axes, in groups or not."""
    images = last(x)
    window = [int(n) for n in w.shape[2:]]
    given = call.attr("kernel_shape", window)
    groups = call.attr("group", 1)
    if given != window or len(images.shape) != len(w.shape) or groups < 1:
        raise Unreadable(f"kernel_shape {given}, group {groups}, weights of shape {w.shape}")
    attrs = windows(call, images.shape[1:-1], window)
    y = apply(CONV, _padded(images, attrs), _kernel(w), groups=groups, **attrs)
    return Last(y if b is None else ops.add(y, b))


@rule("ConvTranspose", keeps_order=True)
def conv_transpose(call: Call, x: Any, w: Any, b: Any = None) -> Any:
    """Transposed convolutions, whose size is said in one of three ways."""
    images = last(x)
    window = [int(n) for n in w.shape[2:]]
    rank = len(window)
    groups = call.attr("group", 1)
    strides, dilation = call.attr("strides", [1] * rank), call.attr("dilations", [1] * rank)
    beyond = call.attr("output_padding", [0] * rank)
    pads = call.attr("pads", [0] * (2 * rank))
    wanted = call.attr("output_shape")
    auto = call.attr("auto_pad", "NOTSET")
    if any(len(v) != rank for v in (strides, dilation, beyond)) or len(pads) != 2 * rank:
        raise Unreadable("attributes of another number of axes than the weights")
    if min(*strides, *dilation, groups) < 1:
        raise Unreadable("strides, dilations and group are at least 1")
    sizes, pairs = [], []
    for i, (n, k) in enumerate(zip(images.shape[1:-1], window, strict=True)):
        full = strides[i] * (n - 1) + beyond[i] + (k - 1) * dilation[i] + 1
        low, high = pads[i], pads[i + rank]
        if wanted is not None or auto.startswith("SAME"):
            size = wanted[-rank:][i] if wanted is not None else n * strides[i]
            total = full - size
            half = total // 2
            low, high = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        else:
            size = full - low - high
        sizes.append(size)
        pairs.append((low, high - beyond[i]))
    # What lies beyond what windows reach is zero: computed wider there, then cut or padded.
    grown = [max(-min(pair), 0) for pair in pairs]
    if any(is_symbolic_dim(n) for pair in pairs for n in pair):
        raise Unreadable("padding where a call decides sizes")
    call.room([*sizes])
    lows = [max(low, 0) for low, _ in pairs]
    highs = [max(high, 0) for _, high in pairs]
    inner = [
        strides[i] * (n - 1) + (window[i] - 1) * dilation[i] + 1 - lows[i] - highs[i]
        for i, n in enumerate(images.shape[1:-1])
    ]
    y = apply(
        CONV_INPUT_GRAD, images, _kernel(w), sizes=tuple(inner), strides=tuple(strides),
        padding=tuple(zip(lows, highs, strict=True)), dilation=tuple(dilation), groups=groups,
    )  # fmt: skip
    if any(grown):
        more = [(max(-low, 0), max(-high, 0)) for low, high in pairs]
        y = ops.pad(y, [(0, 0), *more, (0, 0)])
    return Last(y if b is None else ops.add(y, b))


def _ceiling(call: Call, x: Any, attrs: dict[str, Any], window: list[int]) -> dict[str, Any]:
    """Padding behind, so that windows that only begin within the image count, too."""
    if not call.attr("ceil_mode", 0):
        return attrs
    pairs = []
    for i, (low, high) in enumerate(attrs["padding"]):
        step, reach = attrs["strides"][i], (window[i] - 1) * attrs["dilation"][i] + 1
        size = x.shape[i + 1]
        if is_symbolic_dim(size):
            raise Unreadable("ceil_mode where a call decides sizes")
        rest = (int(size) + low + high - reach) % step
        more = (step - rest) % step
        count = (int(size) + low + high - reach + more) // step + 1
        if (count - 1) * step >= int(size) + low:  # the last one would begin in the padding
            more = 0
        pairs.append((low, high + more))
    return {**attrs, "padding": tuple(pairs)}


@rule("MaxPool", keeps_order=True)
def max_pool(call: Call, x: Any) -> Any:
    """The largest entry of each window."""
    if len(call.step.outputs) > 1 and call.step.outputs[1]:
        raise Unreadable("the places of maxima are not read")
    images, window = last(x), call.attr("kernel_shape", [])
    attrs = _ceiling(call, images, windows(call, images.shape[1:-1], window), window)
    if any(n != 1 for n in attrs["dilation"]) or any(
        n >= k for pair, k in zip(attrs["padding"], window, strict=True) for n in pair
    ):
        return Last(_max_of_parts(images, attrs, window))
    del attrs["dilation"]
    return Last(apply(MAX_POOL, images, window=tuple(window), **attrs))


def _max_of_parts(x: Any, attrs: dict[str, Any], window: list[int]) -> Any:
    """Windows with holes: the maximum of strided parts."""
    if math.prod(window) > _MOST_PARTS:
        raise Unreadable(f"a window of {window} places with holes or wide padding")
    low = -math.inf if np.dtype(x.dtype).kind == "f" else np.iinfo(x.dtype).min
    wide = ops.pad(x, [(0, 0), *attrs["padding"], (0, 0)], constant_values=low)
    ones = attrs["dilation"]
    counts: Any = window_counts(
        "max_pool", x.shape[1:-1], tuple(window), attrs["strides"], attrs["padding"], ones, {}
    )
    found = None
    for where in parts(counts, window, attrs["strides"], ones):
        part = ops.get_item(wide, where)
        found = part if found is None else ops.maximum(found, part)
    return found


@rule("AveragePool", "LpPool", keeps_order=True)
def average_pool(call: Call, x: Any) -> Any:
    """The mean of each window, over what is there or over all places; or its length."""
    images, window = last(x), call.attr("kernel_shape", [])
    attrs = windows(call, images.shape[1:-1], window)
    before = attrs["padding"]
    attrs = _ceiling(call, images, attrs, window)
    p = call.attr("p", 2)
    if call.step.op == "LpPool":
        images = ops.power(ops.absolute(images), like(images, p)) if p != 1 else ops.abs(images)
    channels = images.shape[-1]
    call.room([*window, channels])
    ones = np.ones((*window, 1, 1), np.float32)
    kernel = np.broadcast_to(ones, (*window, 1, int(channels)))
    total = apply(CONV, images, _floats(kernel, images), groups=int(channels), **attrs)
    if call.step.op == "LpPool":
        return Last(ops.power(total, like(total, 1 / p)) if p != 1 else total)
    if not any(n for pair in attrs["padding"] for n in pair):
        return Last(total / like(total, math.prod(window)))
    sizes = images.shape[1:-1]
    if any(map(is_symbolic_dim, sizes)):
        del attrs["dilation"]
        return Last(apply(AVERAGE_POOL, images, window=tuple(window), **attrs))
    padded = before if call.attr("count_include_pad", 0) else [(0, 0)] * len(window)
    counts = np.ones((), np.float32)
    for i, k in enumerate(window):
        low, high = padded[i]
        count, step, apart = int(total.shape[i + 1]), attrs["strides"][i], attrs["dilation"][i]
        call.room([count, k])
        places = np.arange(count)[:, None] * step - attrs["padding"][i][0] + np.arange(k) * apart
        inside = ((places >= -low) & (places < int(sizes[i]) + high)).sum(1)
        counts = counts[..., None] * np.maximum(inside, 1).astype(np.float32)
    call.room(counts.shape)
    return Last(total / _floats(counts[..., None], total))


def _floats(array: Any, like_this: Any) -> Any:
    return np.ascontiguousarray(array, str(like_this.dtype))


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", keeps_order=True)
def global_pool(call: Call, x: Any) -> Any:
    """One number for each channel."""
    images = last(x)
    axes = tuple(range(1, len(images.shape) - 1))
    if call.step.op == "GlobalLpPool":
        raise Unreadable("it is not read")
    function = ops.mean if call.step.op == "GlobalAveragePool" else ops.max
    return Last(function(images, axis=axes, keepdims=True))


# --- normalizations ------------------------------------------------------------------------------


@rule("BatchNormalization", keeps_order=True)
def batch_normalization(call: Call, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    """By what training found."""
    if call.attr("training_mode", 0):
        raise Unreadable("it is in training mode")
    turned = isinstance(x, Last) or len(x.shape) > 2
    images = last(x) if turned else x
    factor = scale * ops.rsqrt(var + like(var, call.attr("epsilon", 1e-5)))
    found = images * factor + (bias - mean * factor)
    return Last(found) if turned else found


@rule("InstanceNormalization", keeps_order=True)
def instance_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    """Each channel of each image by itself."""
    images = last(x)
    axes = tuple(range(1, len(images.shape) - 1))
    return Last(_normalized(images, axes, call.attr("epsilon", 1e-5)) * scale + bias)


def _normalized(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    apart = x - ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(apart), axis=axes, keepdims=True)
    return apart * ops.rsqrt(variance + like(x, epsilon))


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(call: Call, x: Any, scale: Any, bias: Any = None) -> Any:
    """All axes from one on."""
    rank = len(x.shape)
    axes = tuple(range(call.axis(call.attr("axis", -1), rank), rank))
    epsilon = call.attr("epsilon", 1e-5)
    if call.step.op == "RMSNormalization":
        square = ops.mean(ops.square(x), axis=axes, keepdims=True)
        return x * ops.rsqrt(square + like(x, epsilon)) * scale
    mean = ops.mean(x, axis=axes, keepdims=True)
    apart = x - mean
    inverse = ops.rsqrt(ops.mean(ops.square(apart), axis=axes, keepdims=True) + like(x, epsilon))
    found = apart * inverse * scale
    return (found if bias is None else found + bias), mean, inverse


@rule("GroupNormalization")
def group_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    """Groups of channels; before version 21 one factor for a group."""
    n, c, *sizes = x.shape
    groups = call.attr("num_groups", 1)
    if groups < 1 or c % groups:
        raise Unreadable(f"{c} channels in {groups} groups")
    apart = ops.reshape(x, (n, groups, c // groups, *sizes))
    found = _normalized(apart, tuple(range(2, len(apart.shape))), call.attr("epsilon", 1e-5))
    by_group = int(scale.shape[0]) == groups and call.opset < 21
    wide = (groups, 1) if by_group else (groups, c // groups)
    ones = [1] * len(sizes)
    found = found * ops.reshape(scale, (*wide, *ones)) + ops.reshape(bias, (*wide, *ones))
    return ops.reshape(found, (n, c, *sizes))


@rule("MeanVarianceNormalization")
def mean_variance(call: Call, x: Any) -> Any:
    """Without mean and with variance 1 along axes."""
    axes = tuple(call.axes(call.attr("axes", [0, 2, 3]), len(x.shape)))
    apart = x - ops.mean(x, axis=axes, keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.square(apart), axis=axes, keepdims=True))
    return apart / (deviation + like(x, 1e-9))


@rule("LRN", keeps_order=True)
def lrn(call: Call, x: Any) -> Any:
    """By the squares of neighbouring channels."""
    images = last(x)
    size = call.attr("size", 1)
    low = (size - 1) // 2
    pairs = [(0, 0)] * (len(images.shape) - 1) + [(low, size - 1 - low)]
    wide = ops.pad(ops.square(images), pairs)
    channels = int(images.shape[-1])
    total: Any = 0.0
    if not 1 <= size <= 64:
        raise Unreadable(f"size {size}")
    for i in range(size):
        total = total + ops.get_item(wide, (..., slice(i, i + channels)))
    alpha, beta, bias = call.attr("alpha", 1e-4), call.attr("beta", 0.75), call.attr("bias", 1.0)
    base = total * like(images, alpha / size) + like(images, bias)
    return Last(images / ops.power(base, like(images, beta)))


# --- quantization --------------------------------------------------------------------------------


def _along(call: Call, scale: Any, x: Any) -> Any:
    """One number, or one for each entry of an axis."""
    if len(scale.shape) == 0 or scale.shape == (1,):
        return ops.reshape(scale, ())
    if len(scale.shape) != 1 or call.attr("block_size", 0):
        raise Unreadable("scales of blocks are not read")
    rank = len(x.shape)
    axis = call.axis(call.attr("axis", 1), rank)
    return ops.reshape(scale, (*[1] * axis, -1, *[1] * (rank - axis - 1)))


@rule("QuantizeLinear")
def quantize(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """Rounded half to even, cut to the dtype of the zero point."""
    dtype = "uint8" if zero is None else str(np.dtype(zero.dtype))
    if dtype not in ("uint8", "int8"):
        raise Unreadable(f"{dtype} is not read")
    info = np.iinfo(dtype)
    found = ops.round(x / _along(call, scale, x))
    if zero is not None:
        found = found + ops.cast(_along(call, zero, x), "float32")
    return ops.cast(ops.clip(found, float(info.min), float(info.max)), dtype)


@rule("DequantizeLinear")
def dequantize(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """(x - zero) * scale."""
    found = ops.cast(x, "float32")
    if zero is not None:
        found = found - ops.cast(_along(call, zero, x), "float32")
    return found * _along(call, scale, x)


@rule("DynamicQuantizeLinear")
def dynamic_quantize(call: Call, x: Any) -> Any:
    """One scale for a tensor, from its own range."""
    low, high = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
    scale = (high - low) / 255.0
    zero = ops.clip(ops.round(-low / scale), 0.0, 255.0)
    found = ops.clip(ops.round(x / scale) + zero, 0.0, 255.0)
    return ops.cast(found, "uint8"), scale, ops.cast(zero, "uint8")


@rule("QLinearMatMul")
def qlinear_matmul(call: Call, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, s: Any, z: Any
                   ) -> Any:  # fmt: skip
    """A product of bytes as bytes."""
    wide = matmul_integer(call, a, b, _row(za), zb)
    scale = (_column(sa) * sb) / s
    found = ops.round(ops.cast(wide, "float32") * ops.cast(scale, "float32"))
    return _as_bytes(found, z)


def _row(x: Any) -> Any:
    return ops.reshape(x, ()) if x.shape == (1,) else x


def _column(x: Any) -> Any:
    return ops.expand_dims(x, -1) if len(x.shape) and x.shape != (1,) else ops.reshape(x, ())


def _as_bytes(x: Any, zero: Any) -> Any:
    dtype = str(np.dtype(zero.dtype))
    info = np.iinfo(dtype)
    moved = x + ops.cast(zero, "float32")
    return ops.cast(ops.clip(moved, float(info.min), float(info.max)), dtype)


@rule("ConvInteger", keeps_order=True)
def conv_integer(call: Call, x: Any, w: Any, zx: Any = None, zw: Any = None) -> Any:
    """A convolution of bytes, as int32."""
    images, kernel = ops.cast(last(x), "float64"), ops.cast(w, "float64")
    if zx is not None:
        images = images - ops.cast(_row(zx), "float64")
    if zw is not None:
        zw = ops.cast(zw, "float64")
        kernel = kernel - (ops.reshape(zw, (-1, *[1] * (len(w.shape) - 1))) if zw.shape else zw)
    found = conv(call, Last(images), kernel)
    return Last(ops.cast(found.tensor, "int32"))


@rule("QLinearConv", keeps_order=True)
def qlinear_conv(
    call: Call, x: Any, sx: Any, zx: Any, w: Any, sw: Any, zw: Any, s: Any, z: Any, b: Any = None
) -> Any:
    """A convolution of bytes as bytes."""
    wide = ops.cast(conv_integer(call, x, w, zx, zw).tensor, "float32")
    if b is not None:
        wide = wide + ops.cast(b, "float32")
    return Last(_as_bytes(ops.round(wide * (_row(sx) * _row(sw) / _row(s))), _row(z)))
