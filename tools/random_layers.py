#!/usr/bin/env python3
"""Random layers and functions of images: the same values and gradients as Keras on JAX.

What convolves, pools, pads, crops, enlarges, normalizes and transforms images is called with drawn
arguments, sizes (0, 1 and those that nothing fits into among them) and dtypes. Both libraries must
give the same shapes, dtypes, values, states and gradients by inputs and weights, or refuse both.
Without --keras kernels and the NumPy executor are compared, and models whose lengths are open.

    PYTHONPATH=python python tools/random_layers.py --calls 2000 --keras jax [--seed 0]
        [--only NAME]

--keras torch compares with Keras on torch, which compiles nothing, so it takes a tenth of the time,
but knows less of images.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import handmill as hm

LAST, FIRST = "channels_last", "channels_first"
Rng = np.random.Generator
BARE = (ZeroDivisionError, IndexError, KeyError, AttributeError, AssertionError, RecursionError)
TOLERANCE = {"float32": 5e-5, "float64": 1e-11, "bfloat16": 0.04, "float16": 6e-3}
NARROW = ("BatchNormalization", "image.rgb_to_grayscale")  # Keras computes float64 in float32
TOGETHER = 12
"""Calls that JAX compiles as one program."""


@dataclass
class Call:
    """A layer ("Conv2D") called on inputs, or a function ("image.resize") of them.

    Attributes:
        name: of the layer, or the function of ``ops``.
        inputs: arrays; gradients are taken by those of floats.
        kwargs: arguments of the layer's class, or of the function.
        call: arguments of the layer's call.
        smooth: whether gradients are compared.
        rough: how much further than others results may be apart.
        names: of the inputs after the first, where they are passed by name.
    """

    name: str
    inputs: list[np.ndarray]
    kwargs: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True
    rough: float = 1.0
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.kwargs.items())
        given = [f"{hm.backend.standardize_dtype(x.dtype)}{x.shape}" for x in self.inputs]
        more = "".join(
            f", {k}={'an array' if isinstance(v, np.ndarray) else v}" for k, v in self.call.items()
        )
        return f"{self.name}({shown})({', '.join(given)}{more})"


Maker = Callable[[Rng], Call]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    MAKERS[function.__name__] = function
    return function


# --- drawing --------------------------------------------------------------------------------------


def pick(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def normal(rng: Rng, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Numbers that hardly ever are equal: libraries differ in which of two maxima counts."""
    x = rng.normal(size=shape)
    if dtype == "bfloat16":
        import ml_dtypes

        return np.asarray(x).astype(ml_dtypes.bfloat16)
    return np.asarray(x).astype(dtype)


def sizes_of(rng: Rng, rank: int) -> tuple[int, ...]:
    most = {1: 17, 2: 10, 3: 5}[rank]
    return tuple(pick(rng, 1, 2, int(rng.integers(1, most)), most, most - 1) for _ in range(rank))


def whole(rng: Rng, rank: int, *choices: int) -> Any:
    """An argument for each axis, or one for all."""
    return (
        pick(rng, *choices)
        if rng.random() < 0.5
        else tuple(pick(rng, *choices) for _ in "abc"[:rank])
    )


def images(rng: Rng, rank: int, channels: int, layout: str, dtype: str = "float32") -> np.ndarray:
    batch = pick(rng, 1, 2, 2, 3, 0)
    sizes = sizes_of(rng, rank)
    shape = (batch, channels, *sizes) if layout == FIRST else (batch, *sizes, channels)
    return normal(rng, shape, dtype)


def layout_of(rng: Rng) -> str:
    return pick(rng, LAST, LAST, FIRST)


def dtype_of(rng: Rng) -> str:
    return pick(rng, *["float32"] * 6, "float64", "bfloat16")


def windows(rng: Rng, rank: int, both: bool = False) -> dict[str, Any]:
    steps = whole(rng, rank, 1, 1, 2, 3, 5)
    apart = whole(rng, rank, 1, 1, 1, 2, 3)
    if not both and max(np.ravel(steps)) > 1 < max(np.ravel(apart)):
        steps, apart = pick(rng, (steps, 1), (1, apart))
    return {
        "kernel_size": whole(rng, rank, 1, 2, 3, 3, 4, 6),
        "strides": steps,
        "dilation_rate": apart,
        "padding": pick(rng, "valid", "same", "same"),
    }


def rank_of(rng: Rng) -> int:
    return pick(rng, 1, 1, 2, 2, 2, 3)


def ending(rng: Rng) -> dict[str, Any]:
    return {
        "use_bias": bool(rng.random() < 0.7),
        "activation": pick(rng, None, None, "relu", "tanh"),
    }


@maker
def conv(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    groups = pick(rng, 1, 1, 2, 3)
    channels, filters = groups * pick(rng, 1, 1, 2, 3, 8, 17), groups * pick(rng, 1, 2, 5, 16)
    if rng.random() < 0.15:
        groups = channels  # one filter or more for each channel
        filters = channels * pick(rng, 1, 2)
    kwargs = {**windows(rng, rank), **ending(rng), "filters": filters, "groups": groups}
    if rank == 1 and rng.random() < 0.4:
        kwargs["padding"] = "causal"
    kwargs |= {"data_format": layout, "dtype": dtype}
    return Call(f"Conv{rank}D", [images(rng, rank, channels, layout, dtype)], kwargs)


@maker
def depthwise(rng: Rng) -> Call:
    rank, layout, dtype = pick(rng, 1, 2, 2), layout_of(rng), dtype_of(rng)
    kwargs = {**windows(rng, rank), **ending(rng), "depth_multiplier": pick(rng, 1, 1, 2, 3)}
    if rank == 2:
        kwargs["strides"] = pick(rng, 1, 2, 3, (2, 2), (1, 1))  # JAX has equal ones alone
        if kwargs["strides"] not in (1, (1, 1)):
            kwargs["dilation_rate"] = 1
    kwargs |= {"data_format": layout, "dtype": dtype}
    x = images(rng, rank, pick(rng, 1, 2, 3, 8, 17, 32), layout, dtype)
    return Call(f"DepthwiseConv{rank}D", [x], kwargs)


@maker
def separable(rng: Rng) -> Call:
    rank, layout, dtype = pick(rng, 1, 2, 2), layout_of(rng), dtype_of(rng)
    kwargs = {**windows(rng, rank), **ending(rng), "depth_multiplier": pick(rng, 1, 1, 2)}
    kwargs |= {"filters": pick(rng, 1, 3, 16), "data_format": layout, "dtype": dtype}
    x = images(rng, rank, pick(rng, 1, 2, 3, 17), layout, dtype)
    return Call(f"SeparableConv{rank}D", [x], kwargs)


@maker
def transposed(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = {**windows(rng, rank, both=rng.random() < 0.1), **ending(rng)}
    kwargs |= {"filters": pick(rng, 1, 2, 5, 16), "data_format": layout, "dtype": dtype}
    if rng.random() < 0.4:
        kwargs["output_padding"] = whole(rng, rank, 0, 0, 1, 2)
    x = images(rng, rank, pick(rng, 1, 2, 3, 17), layout, dtype)
    return Call(f"Conv{rank}DTranspose", [x], kwargs)


@maker
def pooling(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs: dict[str, Any] = {"pool_size": whole(rng, rank, 1, 2, 3, 4, 6)}
    if rng.random() < 0.6:
        kwargs["strides"] = whole(rng, rank, 1, 2, 3, 5)
    kwargs |= {"padding": pick(rng, "valid", "same"), "data_format": layout, "dtype": dtype}
    x = images(rng, rank, pick(rng, 1, 3, 8, 17), layout, dtype)
    return Call(f"{pick(rng, 'Max', 'Average')}Pooling{rank}D", [x], kwargs)


@maker
def pooling_all(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    x = images(rng, rank, pick(rng, 1, 3, 17), layout, dtype)
    kwargs = {"data_format": layout, "dtype": dtype, "keepdims": bool(rng.random() < 0.5)}
    kind, call = pick(rng, "Max", "Average"), {}
    if kind == "Average" and rank == 1 and rng.random() < 0.5:
        steps = x.shape[2 if layout == FIRST else 1]
        call["mask"] = rng.random((x.shape[0], steps)) < 0.6
        call["mask"][:, :1] = True
    return Call(f"Global{kind}Pooling{rank}D", [x], kwargs, call)


@maker
def pooling_to_sizes(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = {"output_size": whole(rng, rank, 1, 2, 3, 4, 7), "data_format": layout, "dtype": dtype}
    x = images(rng, rank, pick(rng, 1, 3), layout, dtype)
    return Call(f"Adaptive{pick(rng, 'Max', 'Average')}Pooling{rank}D", [x], kwargs)


@maker
def batch_normalization(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    x = images(rng, rank, pick(rng, 1, 3, 17), layout, dtype)
    axis = pick(rng, -1, 1, 2 if rank > 1 else -1, x.ndim - 1)
    kwargs = {"axis": axis, "momentum": pick(rng, 0.99, 0.5, 0.0, 1.0), "dtype": dtype}
    kwargs |= {"epsilon": pick(rng, 1e-3, 1e-2), "center": bool(rng.random() < 0.7)}
    kwargs |= {"scale": bool(rng.random() < 0.7), "trainable": bool(rng.random() < 0.8)}
    call: dict[str, Any] = {"training": bool(rng.random() < 0.7)}
    if rng.random() < 0.4 and axis % x.ndim == x.ndim - 1:
        call["mask"] = rng.random(x.shape[:-1]) < 0.6
    return Call("BatchNormalization", [x], kwargs, call, rough=20.0)


@maker
def enlarging(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs: dict[str, Any] = {
        "size": whole(rng, rank, 1, 2, 3, 4) if rank > 1 else pick(rng, 1, 2, 3)
    }
    if rank > 1:
        kwargs["data_format"] = layout
    if rank == 2:
        how = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        kwargs["interpolation"] = pick(rng, *how)
    x = images(rng, rank, pick(rng, 1, 3), layout, dtype)
    return Call(f"UpSampling{rank}D", [x], kwargs | {"dtype": dtype}, rough=2.0)


def borders(rng: Rng, rank: int, *choices: int) -> Any:
    def pair() -> Any:
        return (pick(rng, *choices), pick(rng, *choices))

    if rank == 1:
        return pick(rng, pick(rng, *choices), pair())
    each = tuple(pick(rng, *choices) for _ in range(rank))
    return pick(rng, pick(rng, *choices), each, tuple(pair() for _ in range(rank)))


@maker
def padding(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = {"padding": borders(rng, rank, 0, 1, 2, 5), "data_format": layout, "dtype": dtype}
    return Call(f"ZeroPadding{rank}D", [images(rng, rank, pick(rng, 1, 3), layout, dtype)], kwargs)


@maker
def cropping(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = {"cropping": borders(rng, rank, 0, 0, 1, 2), "dtype": dtype}
    if rank > 1:
        kwargs["data_format"] = layout
    return Call(f"Cropping{rank}D", [images(rng, rank, pick(rng, 1, 3), layout, dtype)], kwargs)


@maker
def dropping(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = {"rate": pick(rng, 0.0, 0.3), "dtype": dtype}
    if rank > 1:
        kwargs["data_format"] = layout
    x = images(rng, rank, 3, layout, dtype)
    return Call(f"SpatialDropout{rank}D", [x], kwargs, {"training": kwargs["rate"] == 0.0})


# --- functions of ops -----------------------------------------------------------------------------


def kernel_of(rng: Rng, kwargs: dict[str, Any], rank: int, *last: int, dtype: str) -> np.ndarray:
    size = kwargs.pop("kernel_size")
    window = (size,) * rank if isinstance(size, int) else size
    return normal(rng, (*window, *last), dtype)


@maker
def nn_conv(rng: Rng) -> Call:
    rank, layout, dtype = rank_of(rng), layout_of(rng), dtype_of(rng)
    kwargs = windows(rng, rank)
    name = pick(rng, "conv", "conv", "depthwise_conv", "separable_conv", "conv_transpose")
    channels, filters, groups = pick(rng, 1, 2, 4, 17), pick(rng, 1, 2, 4, 16), pick(rng, 1, 1, 2)
    kwargs["data_format"] = layout
    more: list[np.ndarray] = []
    if name == "conv":
        channels, filters = channels * groups, filters * groups
        last = (channels // groups, filters)
    elif name == "conv_transpose":
        last = (filters, channels)
    else:
        rank = min(rank, 2)
        kwargs["strides"], kwargs["dilation_rate"] = pick(rng, (1, 2), (1, 1), (2, 1), (3, 1))
        size = kwargs["kernel_size"]
        kwargs["kernel_size"] = size if isinstance(size, int) else size[:rank]
        last = (channels, pick(rng, 1, 2))
        if name == "separable_conv":
            more = [normal(rng, (*(1,) * rank, channels * last[1], filters), dtype)]
    w = kernel_of(rng, kwargs, rank, *last, dtype=dtype)
    return Call(f"nn.{name}", [images(rng, rank, channels, layout, dtype), w, *more], kwargs)


def pictures(rng: Rng, layout: str, channels: int = 3, dtype: str = "float32") -> np.ndarray:
    x = np.abs(images(rng, 2, channels, layout)) / 3
    if rng.random() < 0.4 and x.shape[0]:
        x = x[0]
    if dtype == "uint8":
        return (np.clip(x, 0, 1) * 255).astype("uint8")
    return x.astype(dtype)


def float_or_byte(rng: Rng) -> str:
    return pick(rng, "float32", "float32", "float32", "float64", "uint8")


@maker
def resize(rng: Rng) -> Call:
    layout, dtype = layout_of(rng), float_or_byte(rng)
    how = pick(rng, "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
    kwargs = {
        "size": tuple(pick(rng, 1, 2, 3, 5, 8, 13) for _ in "hw"),
        "interpolation": how,
        "antialias": bool(rng.random() < 0.5),
        "data_format": layout,
    }
    fit = pick(rng, None, None, "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    if fit:
        kwargs[fit] = True
        if fit.startswith("pad"):
            kwargs["fill_value"] = pick(rng, 0.0, 1.0)
    x = pictures(rng, layout, pick(rng, 1, 3), dtype)
    return Call("image.resize", [x], kwargs, rough=4.0)


FILLS = ("constant", "nearest", "wrap", "mirror", "reflect")


@maker
def affine(rng: Rng) -> Call:
    layout, dtype = layout_of(rng), float_or_byte(rng)
    x = pictures(rng, layout, pick(rng, 1, 3), dtype)
    turn = np.float32([1, 0, 0, 0, 1, 0, 0, 0]) + 0.3 * rng.normal(size=8).astype("float32")
    turn[[2, 5]] *= 8
    turn[6:] = 0 if rng.random() < 0.5 else turn[6:] * 0.05
    if x.ndim == 4:
        turn = turn * (1 + 0.01 * np.arange(x.shape[0], dtype="float32"))[:, None]
    kwargs = {
        "interpolation": pick(rng, "bilinear", "nearest"),
        "fill_mode": pick(rng, *FILLS),
        "fill_value": pick(rng, 0, 1.5),
        "data_format": layout,
    }
    smooth = dtype == "float32" and kwargs["interpolation"] == "bilinear"
    return Call("image.affine_transform", [x, turn], kwargs, smooth=smooth, rough=40.0)


@maker
def perspective(rng: Rng) -> Call:
    layout, dtype = layout_of(rng), float_or_byte(rng)
    x = pictures(rng, layout, pick(rng, 1, 3), dtype)
    h, w = x.shape[-2:] if layout == FIRST else x.shape[-3:-1]
    corners = np.float32([[0, 0], [w, 0], [0, h], [w, h]])
    batch = x.shape[:1] if x.ndim == 4 else ()
    ends = [corners + 0.3 * rng.normal(size=(*batch, 4, 2)).astype("float32") for _ in "se"]
    kwargs = {
        "interpolation": pick(rng, "bilinear", "nearest"),
        "fill_value": pick(rng, 0, 1.5),
        "data_format": layout,
    }
    return Call("image.perspective_transform", [x, *ends], kwargs, smooth=False, rough=400.0)


@maker
def coordinates(rng: Rng) -> Call:
    rank = pick(rng, 1, 2, 2, 3)
    x = normal(rng, sizes_of(rng, rank), pick(rng, "float32", "float32", "float64"))
    at = normal(rng, (rank, *sizes_of(rng, pick(rng, 1, 2)))) * 4 + np.float32(0.013)
    kwargs = {
        "order": pick(rng, 0, 1),
        "fill_mode": pick(rng, *FILLS),
        "fill_value": pick(rng, 0, 2),
    }
    smooth = kwargs["order"] == 1
    return Call("image.map_coordinates", [x, at], kwargs, smooth=smooth, rough=10.0)


@maker
def patches(rng: Rng) -> Call:
    layout, dtype = layout_of(rng), dtype_of(rng)
    rank = pick(rng, 2, 2, 3)
    kwargs = {"size": whole(rng, rank, 1, 2, 3), "padding": pick(rng, "valid", "same")}
    if rng.random() < 0.6:
        kwargs["strides"] = whole(rng, rank, 1, 2, 3)
    if rng.random() < 0.3:
        kwargs["dilation_rate"] = pick(rng, 1, 2)
        kwargs["strides"] = 1
    x = images(rng, rank, pick(rng, 1, 3), layout, dtype)
    if rng.random() < 0.3 and x.shape[0]:
        x = x[0]
    name = "extract_patches" if rank == 2 else "extract_patches_3d"
    return Call(f"image.{name}", [x], kwargs | {"data_format": layout})


@maker
def colours(rng: Rng) -> Call:
    layout = layout_of(rng)
    name = pick(rng, "rgb_to_grayscale", "rgb_to_hsv", "hsv_to_rgb")
    dtype = float_or_byte(rng) if name == "rgb_to_grayscale" else pick(rng, "float32", "float64")
    x = pictures(rng, layout, 3, dtype)
    return Call(f"image.{name}", [x], {"data_format": layout}, smooth=False, rough=3.0)


@maker
def blurred(rng: Rng) -> Call:
    layout = layout_of(rng)
    kwargs = {
        "kernel_size": tuple(pick(rng, 1, 3, 4, 5, 7) for _ in "hw"),
        "sigma": tuple(pick(rng, 0.5, 1.0, 2.5) for _ in "hw"),
        "data_format": layout,
    }
    return Call("image.gaussian_blur", [pictures(rng, layout, pick(rng, 1, 3))], kwargs)


@maker
def edges(rng: Rng) -> Call:
    layout = layout_of(rng)
    return Call("image.sobel_edges", [images(rng, 2, 3, layout)], {"data_format": layout})


@maker
def framed(rng: Rng) -> Call:
    layout, word = layout_of(rng), pick(rng, "padding", "cropping")
    kwargs: dict[str, Any] = {"data_format": layout}
    for axis in (("top", "bottom", "height"), ("left", "right", "width")):
        chosen = rng.permutation(axis)[: pick(rng, 2, 2, 3)]
        for name in chosen:
            length = name in ("height", "width")
            kwargs[f"target_{name}" if length else f"{name}_{word}"] = pick(
                rng, *((3, 6, 12) if length else (0, 1, 2))
            )
    x = pictures(rng, layout, pick(rng, 1, 3), float_or_byte(rng))
    return Call(f"image.{'pad' if word == 'padding' else 'crop'}_images", [x], kwargs)


@maker
def scaled(rng: Rng) -> Call:
    x = images(rng, 2, 2, LAST)
    out = (x.shape[0], pick(rng, 1, 3, 7), pick(rng, 2, 5, 9), 2)
    method = pick(rng, "linear", "cubic", "lanczos3", "lanczos5")
    arrays = [x, *(np.float32(rng.uniform(*r, 2)) for r in ((0.4, 2.0), (-2.0, 2.0)))]
    kwargs = {"method": method, "antialias": bool(rng.random() < 0.5)}
    kwargs |= {"output_shape": out, "spatial_dims": (1, 2)}
    names = ("scale", "translation")
    return Call("image.scale_and_translate", arrays, kwargs, smooth=False, rough=20.0, names=names)


@maker
def likeness(rng: Rng) -> Call:
    layout = layout_of(rng)
    x = pictures(rng, layout, 3)
    kwargs = {"max_val": 1.0, "filter_size": pick(rng, 3, 5, 11), "data_format": layout}
    return Call("image.ssim", [x, np.float32(x * 0.9 + 0.05)], kwargs, smooth=False, rough=20.0)


# --- outcomes -------------------------------------------------------------------------------------


def weights_for(shapes: Any, dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [np.asarray(rng.uniform(0.3, 1.2, tuple(s))).astype(dtype) for s in shapes]


def factors(shape: Any, dtype: Any) -> np.ndarray:
    """What the elements of a result are worth, whose sum is differentiated."""
    return np.asarray(np.random.default_rng(7).normal(size=tuple(shape))).astype(dtype)


def is_float(x: Any) -> bool:
    return "float" in hm.backend.standardize_dtype(x.dtype)


def function_of(library: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), library.ops)


def prepared(call: Call, library: Any) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
    """A function of inputs and trained weights -> (result, states); its arguments; the states."""
    if "." in call.name:
        function = function_of(library, call.name)

        def result(*x: Any) -> Any:
            count = len(x) - len(call.names)
            named = dict(zip(call.names, x[count:], strict=True))
            return function(*x[:count], **named, **call.kwargs), []

        return result, call.inputs, []
    layer = getattr(library.layers, call.name)(**call.kwargs)
    layer.build(call.inputs[0].shape)
    layer.set_weights(weights_for([w.shape for w in layer.weights], "float64"))
    trained = [np.asarray(w.numpy()) for w in layer.trainable_variables]
    others = [np.asarray(w.numpy()) for w in layer.non_trainable_variables]
    if call.name.startswith("SpatialDropout"):
        return lambda x: (layer(x, **call.call), []), call.inputs, []

    def run(x: Any, *values: Any) -> Any:
        return layer.stateless_call(list(values), others, x, **call.call)

    return run, [*call.inputs, *trained], others


def ours(call: Call) -> dict[str, np.ndarray] | Exception:
    """Values, states and gradients of handmill."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run, args, _ = prepared(call, hm)
            y, states = run(*args)
            found = {"value": np.asarray(y)}
            found |= {f"state {i}": np.asarray(s) for i, s in enumerate(states)}
            by = [i for i, a in enumerate(args) if is_float(a)]
            if not call.smooth or not is_float(found["value"]):
                return found
            weights = factors(found["value"].shape, found["value"].dtype)
            loss = hm.grad(lambda *a: hm.ops.sum(run(*a)[0] * weights), tuple(by))
            slopes = loss(*args)
            return found | {f"by {i}": np.asarray(g) for i, g in zip(by, slopes, strict=True)}
    except Exception as error:  # whatever it is, it is what is compared
        return error


def theirs(calls: list[Call]) -> list[dict[str, np.ndarray] | Exception]:
    """The same of Keras: on JAX in one program, on torch one by one."""
    import keras

    if keras.backend.backend() == "torch":
        return [_on_torch(call) for call in calls]
    import jax

    found: list[Any] = [None] * len(calls)
    traced: dict[int, Any] = {}
    for i, call in enumerate(calls):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run, args, _ = prepared(call, keras)
                traced[i] = functools.partial(_in_jax, call, run), args
                jax.eval_shape(*[traced[i][0], *args])
        except Exception as error:
            traced.pop(i, None)
            found[i] = error
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    keys = list(traced)
    functions = [traced[i][0] for i in keys]

    def both(*arguments: Any) -> Any:
        return [f(*a) for f, a in zip(functions, arguments, strict=True)]

    if keys:
        results = jax.jit(both, compiler_options=quick)(*(traced[i][1] for i in keys))
        for i, result in zip(keys, results, strict=True):
            found[i] = {k: np.asarray(v) for k, v in result.items()}
    return found


def _on_torch(call: Call) -> dict[str, np.ndarray] | Exception:
    import keras
    import torch

    def plain(x: Any) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(x))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run, args, _ = prepared(call, keras)
            tensors = [keras.ops.convert_to_tensor(a) for a in args]
            by = [i for i, a in enumerate(args) if is_float(a)] if call.smooth else []
            for i in by:
                tensors[i] = tensors[i].detach().requires_grad_()
            y, states = run(*tensors)
            found = {"value": plain(y)} | {f"state {i}": plain(s) for i, s in enumerate(states)}
            if not y.dtype.is_floating_point or not by:
                return found
            weights = keras.ops.convert_to_tensor(factors(y.shape, found["value"].dtype))
            chosen = [tensors[i] for i in by]
            slopes = torch.autograd.grad((y * weights).sum(), chosen, allow_unused=True)
            for i, slope in zip(by, slopes, strict=True):
                found[f"by {i}"] = np.zeros_like(args[i]) if slope is None else plain(slope)
            return found
    except Exception as error:
        return error


def _in_jax(call: Call, run: Any, *args: Any) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    by = [i for i, a in enumerate(args) if is_float(a)]

    def loss(*chosen: Any) -> Any:
        given = list(args)
        for i, a in zip(by, chosen, strict=True):
            given[i] = a
        y, states = run(*given)
        weights = factors(y.shape, y.dtype)
        # The product in the result's dtype, the sum as handmill's.
        total = jnp.sum(y * weights) if jnp.issubdtype(y.dtype, jnp.floating) else 0.0
        return total, (y, states)

    chosen = [args[i] for i in by]
    if not call.smooth:
        _, (y, states) = loss(*chosen)
        slopes: Any = ()
    else:
        aux = jax.eval_shape(loss, *chosen)[1][0]
        if not jnp.issubdtype(aux.dtype, jnp.floating):
            _, (y, states) = loss(*chosen)
            slopes = ()
        else:
            numbers = tuple(range(len(by)))
            (_, (y, states)), slopes = jax.value_and_grad(loss, numbers, has_aux=True)(*chosen)
    found = {"value": y} | {f"state {i}": s for i, s in enumerate(states)}
    return found | {f"by {i}": g for i, g in zip(by, slopes, strict=False)}


def difference(call: Call, got: Any, want: Any) -> str:
    """What two outcomes differ in; "" if in nothing that counts."""
    for one in (got, want):
        if one is got and (
            isinstance(one, BARE) or (isinstance(one, Exception) and not str(one).strip())
        ):
            return f"a bare {type(one).__name__}: {one}"
    if isinstance(got, Exception) or isinstance(want, Exception):
        if isinstance(got, Exception) and isinstance(want, Exception):
            return ""
        shown = [repr(o)[:300] if isinstance(o, Exception) else "a result" for o in (got, want)]
        return f"{shown[0]} / {shown[1]}"
    if set(got) != set(want):
        return f"{sorted(got)} / {sorted(want)}"
    for key in got:
        a, b = got[key], want[key]
        dtypes = [hm.backend.standardize_dtype(x.dtype) for x in (a, b)]
        if a.shape != b.shape or dtypes[0] != dtypes[1]:
            return f"{key}: {dtypes[0]}{a.shape} / {dtypes[1]}{b.shape}"
        names = {hm.backend.standardize_dtype(x.dtype) for x in call.inputs} | {dtypes[0]}
        x, y = a.astype(np.float64), b.astype(np.float64)
        if "float" not in dtypes[0]:
            off = np.abs(x - y) > (1 if dtypes[0] == "uint8" else 0)
        else:
            size = np.max(np.abs(y[np.isfinite(y)]), initial=0.0)
            worst = max(TOLERANCE.get(n, 0.0) for n in names)
            off = ~(np.abs(x - y) <= call.rough * worst * max(size, 1e-2))
            off &= ~((x == y) | (np.isnan(x) & np.isnan(y)))
        if np.any(off):
            at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(off)))
            values = [np.atleast_1d(v)[at] for v in (x, y)]
            return f"{key}: {values[0]!r} / {values[1]!r} at {at}, {np.mean(off):.0%} of them"
    return ""


def open_difference(call: Call) -> str:
    """A model of a layer whose lengths are open, beside a call."""
    x, layout = call.inputs[0], call.kwargs.get("data_format", LAST)
    # As in Keras, what `predict` is given becomes float32.
    if "." in call.name or call.call or x.dtype == np.float64 or not x.size:
        return ""
    channel = 1 if layout == FIRST else x.ndim - 1
    shape = [n if i == channel else None for i, n in enumerate(x.shape)]
    try:
        layer = getattr(hm.layers, call.name)(**call.kwargs)
        want = layer(x)
        inputs = hm.Input(shape[1:], dtype=call.kwargs.get("dtype", "float32"))
        model = hm.Model(inputs, layer(inputs))
    except Exception:  # sizes that must be fixed, and what fits nowhere
        return ""
    spec = layer.compute_output_shape(tuple(shape))
    if any(s is not None and s != n for s, n in zip(spec, want.shape, strict=True)):
        return f"open lengths: {spec} / {want.shape}"
    return difference(
        call, {"open": np.asarray(model.predict(x, verbose=0))}, {"open": np.asarray(want)}
    )


# --- the driver -----------------------------------------------------------------------------------


def calls(count: int, seed: int, only: str | None = None) -> Iterator[tuple[int, Call]]:
    """Call ``i`` depends on the seed and on i alone."""
    names = [only] if only else sorted(MAKERS)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield i, MAKERS[names[int(rng.integers(len(names)))]](rng)


def known(call: Call, backend: str) -> bool:
    """Whether Keras on this backend is known to give something else (docs/differences.md)."""
    if backend == "jax":  # where c0 and c1 shift channels
        return call.name == "image.affine_transform" and bool(call.inputs[1][..., 6:].any())
    how = call.kwargs.get("interpolation", "")
    return backend == "torch" and (call.name.startswith("image.") or how[:3] in ("bic", "lan"))


def explained(got: Any, want: Any) -> bool:
    """Whether Keras falls over, or one of both refuses what gives nothing (no rows, no windows)."""
    sizes = [found["value"].size for found in (got, want) if isinstance(found, dict)]
    return isinstance(want, BARE) or (len(sizes) == 1 and not sizes[0])


def disagreements(
    count: int, seed: int = 0, only: str | None = None, backend: str = ""
) -> Iterator[str]:
    """What is wrong with each of the calls with which something is wrong."""
    group: list[tuple[int, Call]] = []
    for i, call in calls(count, seed, only):
        if known(call, backend):
            continue
        if backend:
            group.append((i, call))
            if len(group) == TOGETHER:
                yield from _beside_keras(group, seed)
                group = []
            continue
        with hm.use_backend("numpy"):
            want = ours(call)
        found = difference(call, ours(call), want) or open_difference(call)
        if found:
            yield f"call {i} of seed {seed}: {call}\n    {found}"
    if group:
        yield from _beside_keras(group, seed)


def _beside_keras(group: list[tuple[int, Call]], seed: int) -> Iterator[str]:
    for (i, call), want in zip(group, theirs([call for _, call in group]), strict=True):
        if call.name in NARROW and call.inputs[0].dtype == np.float64:
            call.rough = 1e6
        got = ours(call)
        if call.name == "image.affine_transform" and isinstance(want, dict) and "by 1" in want:
            want["by 1"] = want["by 1"] * (np.arange(8) < 6)  # c0 and c1 count as 0 here
        found = difference(call, got, want)
        if found and not explained(got, want):
            yield f"call {i} of seed {seed}: {call}\n    {found}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(MAKERS), help="one kind of call alone")
    parser.add_argument("--most", type=int, default=20, help="disagreements to show")
    parser.add_argument("--keras", choices=("jax", "torch"), help="Keras's backend to compare with")
    arguments = parser.parse_args(argv)
    if arguments.keras:
        os.environ["KERAS_BACKEND"] = arguments.keras
    if arguments.keras == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    begin, shown = time.perf_counter(), 0
    for text in disagreements(
        arguments.calls, arguments.seed, arguments.only, arguments.keras or ""
    ):
        print(text, flush=True)
        shown += 1
        if shown == arguments.most:
            print("... and perhaps more")
            break
    seconds = time.perf_counter() - begin
    print(f"{shown} disagreements, {arguments.calls} calls of {len(MAKERS)} kinds, {seconds:.0f} s")
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
