#!/usr/bin/env python3
"""Random calls of the functions of handmill.ops: kernels at every level, the NumPy executor, NumPy.

Dtypes, shapes, memory layouts and values (infinities, NaN, the ends of every integer dtype among
them) are drawn; a call must give the same dtype, shape and numbers everywhere, or an error of the
same type, with words, everywhere. Integers and booleans must be equal bit by bit; floats within
some roundings of the magnitudes that a function adds up.

    PYTHONPATH=python python tools/random_calls.py --calls 100000 [--seed 0] [--only NAME] [--keras]

--keras compares dtypes with those that Keras gives (KERAS_BACKEND=jax), for what JAX can hold.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import handmill as hm
from handmill import _core, ops

FLOAT_ONLY = {
    *("sqrt", "exp", "exp2", "expm1", "log", "log1p", "floor", "ceil", "tanh", "reciprocal"),
    *("sin", "cos", "divide", "mean", "var", "std", "median", "nanmedian", "nanmean", "nanvar"),
    *("sinh", "cosh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "arctan2"),
    *("nanstd", "deg2rad", "rad2deg", "sinc", "cbrt", "fabs", "hypot", "heaviside", "logaddexp2"),
}
DTYPES = ("float32", "float64", "int8", "uint8", "int32", "int64", "bool")
RARE = ("float16", "int16", "uint16", "uint32", "longdouble")
SIZES = (0, 1, 1, 2, 3, 5, 16, 17, 33)
SPECIAL = {
    "f": (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3e38, -3e38, 0.5, 2.5, 1.0, -1.0),
    "i": (0, 1, -1, 2, 7),
    "u": (0, 1, 2, 7),
    "b": (True, False),
}
NUMBERS = (0, 1, 2, -1, 3, 300, -129, 2**31, 2**40, True, False, 0.5, -1.5, 0.0, np.inf, np.nan)
BARE = (ZeroDivisionError, IndexError, KeyError, AttributeError, AssertionError, RecursionError)
# Longest reductions here have 33 * 17 terms or so; each adds a rounding of what it adds up.
ROUNDINGS = 64


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, tame: bool = False) -> Any:
    """An array of any layout; tame: no special values."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        x = rng.normal(size=shape) * rng.choice([0.1, 1.0, 10.0])
    elif kind == "b":
        x = rng.random(shape) < 0.5
    else:
        x = rng.integers(0 if kind == "u" else -9, 10, shape)
    x = np.asarray(x).astype(dtype)
    if not tame and rng.random() < 0.4:
        special = list(SPECIAL[kind])
        if kind in "iu":
            special += [np.iinfo(dtype).min, np.iinfo(dtype).max]
        with np.errstate(over="ignore"):
            values = rng.choice(np.array(special), shape).astype(dtype)
        x = np.where(rng.random(shape) < 0.4, values, x)
    return relaid(rng, np.asarray(x))


def relaid(rng: np.random.Generator, x: Any) -> Any:
    """The same array in another memory layout, sometimes."""
    how = rng.random()
    if how < 0.6 or x.ndim == 0:
        return x
    if how < 0.7:
        return np.asfortranarray(x)
    if how < 0.8:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    if how < 0.9:
        return np.flip(np.flip(x, 0).copy(), 0)
    if how < 0.95 and x.dtype.itemsize > 1 and x.dtype.kind in "iuf" and x.dtype != np.longdouble:
        return x.astype(x.dtype.newbyteorder(">"))
    return x


def a_shape(rng: np.random.Generator, least: int = 0, most: int = 3) -> tuple[int, ...]:
    return tuple(int(d) for d in rng.choice(SIZES, int(rng.integers(least, most + 1))))


def a_dtype(rng: np.random.Generator) -> str:
    return str(rng.choice(RARE if rng.random() < 0.05 else DTYPES))


def shrunk(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to another one, nearly always."""
    cut = shape[int(rng.integers(0, len(shape) + 1)) :] if rng.random() < 0.3 else shape
    return tuple(1 if rng.random() < 0.2 else d for d in cut)


@dataclass
class Call:
    """One call: of the function of this name of an ops module."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    oracle: Callable[..., Any] | None = None
    magnitude: Any = 0.0  # of what a float result was added up from; of each element or of all
    roundings: Any = ROUNDINGS  # of that magnitude, by which two results may differ

    by: int | None = None  # the gradient by this operand, of the result times the last one

    def run(self, module: Any) -> Any:
        if self.by is None:
            return getattr(module, self.name)(*self.args, **self.kwargs)
        *operands, weights = self.args
        function = functools.partial(getattr(module, self.name), **self.kwargs)
        return hm.grad(lambda *x: module.sum(function(*x) * weights), self.by)(*operands)

    def __str__(self) -> str:
        def show(x: Any) -> str:
            if isinstance(x, np.ndarray):
                layout = "" if x.flags.c_contiguous else f", strides {x.strides}"
                text = np.array2string(x, threshold=40, separator=",").replace("\n", "")
                return f"array({text}, {x.dtype.str!r}{layout})"
            return repr(x)

        named = [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        text = f"{self.name}({', '.join([show(x) for x in self.args] + named)})"
        return text if self.by is None else f"gradient by operand {self.by} of {text}"


ORACLES = {"argsort": lambda x, axis: np.argsort(x, axis=axis, kind="stable")}
Maker = Callable[[np.random.Generator], Call]
MAKERS: dict[str, Maker] = {}


def sized(*arrays: Any) -> float:
    """The largest finite magnitude."""
    found = 0.0
    for x in arrays:
        with np.errstate(all="ignore"):
            size = np.abs(np.asarray(x, np.float64))
        found = max(found, float(np.max(size[np.isfinite(size)], initial=0.0)))
    return found


def product(name: str, *args: Any, oracle: Any = None, **kwargs: Any) -> Call:
    """A call that adds up products, with the bound of each of its elements.

    A sum of k products in any order is within (k + 1) / 2 eps * sum |a_i b_i| of the exact one,
    so two of them lie (k + 1) eps apart at most; integers converted to floats add a rounding for
    each operand. The function itself counts the terms and adds up their magnitudes.
    """

    def adding(one: Callable[[Any], Any]) -> Any:
        taken = [x if isinstance(x, str) else one(np.asarray(x).astype(np.float64)) for x in args]
        return np.asarray(getattr(np, name)(*taken, **kwargs))

    def finite(x: Any) -> Any:
        return np.where(np.isfinite(x), np.abs(x), 0.0)

    try:
        with np.errstate(all="ignore"):
            terms, size = adding(np.ones_like), adding(finite)
    except Exception:  # shapes that do not fit
        return Call(name, args, kwargs, oracle)
    return Call(name, args, kwargs, oracle, size, terms + 1 + len(args))


def unary(names: str, of: Any = None, tame: bool = False, **options: Any) -> None:
    for name in names.split():

        def make(rng: np.random.Generator, name: str = name) -> Call:
            x = draw(rng, a_shape(rng), a_dtype(rng), tame)
            kwargs = {k: v(rng) for k, v in options.items() if rng.random() < 0.7}
            oracle = getattr(np, of or name, None) if not kwargs else None
            return Call(name, (x,), kwargs, oracle, 1.0)

        MAKERS[name] = make


def meeting(function: Any, pair: tuple[Any, ...]) -> Any:
    """NumPy's function of operands that meet as handmill's do: integers beside floats are rounded.

    A remainder of 2^31 - 1 is not one of the float32 next to it.
    """
    given = [x.dtype.name if isinstance(x, np.ndarray) else type(x) for x in pair]
    if function is None or not all(isinstance(x, type) or x in DTYPES for x in given):
        return function
    dtype = hm.backend.result_type(*given)
    if not dtype.startswith("float"):
        return function

    def met(x: Any) -> Any:
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind in "iu" else x

    return lambda *operands: function(*map(met, operands))


def binary(names: str, like_numpy: bool = True, tame: bool = False) -> None:
    for name in names.split():

        def make(rng: np.random.Generator, name: str = name) -> Call:
            shape = a_shape(rng)
            x = draw(rng, shrunk(rng, shape), a_dtype(rng), tame)
            if rng.random() < 0.25:
                y = NUMBERS[int(rng.integers(len(NUMBERS)))]
            else:
                same = rng.random() < 0.5
                y = draw(rng, shrunk(rng, shape), x.dtype.name if same else a_dtype(rng), tame)
            pair = (y, x) if rng.random() < 0.3 else (x, y)
            # The larger operand and the logarithm of a number from 1 to 2 may cancel.
            size = max(1.0, sized(*pair)) if name == "logaddexp2" else 0.0
            function = getattr(np, name, None) if like_numpy else None
            return Call(name, pair, {}, meeting(function, pair), size)

        MAKERS[name] = make


def an_axis(rng: np.random.Generator, rank: int) -> Any:
    if rng.random() < 0.3:
        return None
    if rank > 1 and rng.random() < 0.2:
        return tuple(int(a) for a in rng.permutation(rank)[:2])
    return int(
        rng.integers(-rank - (rng.random() < 0.05), rank + (rng.random() < 0.05) + (rank == 0))
    )


def reduction(names: str, one: bool = False, keepdims: bool = True) -> None:
    for name in names.split():

        def make(rng: np.random.Generator, name: str = name) -> Call:
            tame = name in ("prod", "var", "std", "nanprod", "nanvar", "nanstd")
            x = draw(rng, a_shape(rng), a_dtype(rng), tame)
            axis = an_axis(rng, x.ndim)
            axis = axis[0] if one and isinstance(axis, tuple) else axis
            kwargs: dict[str, Any] = {"axis": axis}
            if keepdims and rng.random() < 0.3:
                kwargs["keepdims"] = bool(rng.integers(2))
            size = sized(x)
            # sums of squares for var and std, products grow
            grown = {"var": size**2, "std": size, "prod": 0.0}
            magnitude = grown.get(name.removeprefix("nan"), x.size * size)
            oracle = ORACLES.get(name, getattr(np, name, None))
            return Call(name, (x,), kwargs, oracle, magnitude)

        MAKERS[name] = make


def case(make: Maker) -> Maker:
    MAKERS[make.__name__] = make
    return make


unary("absolute negative sign square sqrt exp exp2 expm1 log log1p floor ceil tanh logical_not")
unary("isnan isinf isfinite reciprocal relu relu6 sigmoid silu softplus softsign hard_sigmoid")
unary("hard_silu selu mish log_sigmoid rsqrt erf gelu")
unary("sin cos", tame=True)
unary("round", decimals=lambda rng: int(rng.integers(-2, 3)))
unary("leaky_relu", negative_slope=lambda rng: float(rng.choice([0.1, 0.0, 2.0])))
unary("elu celu", tame=True, alpha=lambda rng: float(rng.choice([1.0, 0.5, 0.0])))
unary("ravel zeros_like ones_like transpose tril triu diag")
unary("flip", axis=lambda rng: int(rng.integers(-1, 2)))
binary("add subtract multiply divide maximum minimum power divide_no_nan")
binary("equal not_equal less less_equal greater greater_equal")
binary("logical_and logical_or logical_xor")
reduction("sum mean max min prod any all var std")
reduction("count_nonzero", keepdims=False)
reduction("argmax argmin", one=True)
reduction("cumsum", one=True, keepdims=False)
reduction("sort argsort", one=True, keepdims=False)
reduction("logsumexp")
unary("sinh cosh arcsin arccos arctan arcsinh arccosh arctanh cbrt fabs deg2rad rad2deg")
unary("sinc", tame=True)
unary("signbit isposinf isneginf fliplr flipud rot90 diagonal", of="none")
unary("nan_to_num", of="none", nan=lambda rng: NUMBERS[int(rng.integers(len(NUMBERS)))])
binary("arctan2 hypot fmax fmin fmod heaviside logaddexp2")
binary("isclose gcd lcm left_shift right_shift nextafter ldexp append isin", like_numpy=False)
reduction("nansum nanmean nanprod nanvar nanstd")
reduction("nanmax nanmin nanmedian median ptp")
reduction("nanargmax nanargmin", one=True)
reduction("nancumsum", one=True, keepdims=False)


@case
def inner(rng: np.random.Generator) -> Call:
    shape = a_shape(rng)
    x, y = (draw(rng, shrunk(rng, shape), a_dtype(rng), tame=True) for _ in range(2))
    other = NUMBERS[int(rng.integers(12))] if rng.random() < 0.25 else y
    return product(str(rng.choice(["inner", "kron"])), x, other)


@case
def diagflat(rng: np.random.Generator) -> Call:
    """Of few numbers: its result has as many rows and columns."""
    return Call("diagflat", (draw(rng, a_shape(rng, 0, 1), a_dtype(rng)),), {})


@case
def clip(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    low, high = (NUMBERS[int(rng.integers(len(NUMBERS)))] for _ in range(2))
    return Call("clip", (x, low, high), {})


@case
def where(rng: np.random.Generator) -> Call:
    shape = a_shape(rng)
    c = draw(rng, shrunk(rng, shape), "bool" if rng.random() < 0.7 else a_dtype(rng))
    x = draw(rng, shrunk(rng, shape), a_dtype(rng))
    y: Any = draw(rng, shrunk(rng, shape), a_dtype(rng))
    if rng.random() < 0.2:
        y = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return Call("where", (c, x, y), {})


@case
def cast(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    return Call("cast", (x, str(rng.choice(DTYPES))), {})


@case
def take(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    axis = int(rng.integers(-x.ndim, x.ndim)) if rng.random() < 0.7 else None
    rows = x.size if axis is None else x.shape[axis]
    at: Any = rng.integers(-rows - 2, rows + 3, a_shape(rng, 0, 2))
    at = at.astype(rng.choice(["int32", "int64", "int8", "float32", "float64", "uint8", "int16"]))
    if at.dtype.kind == "f" and rng.random() < 0.3:
        at = at + 0.5
    return Call("take", (x, relaid(rng, at)), {"axis": axis})


@case
def take_along_axis(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    axis = int(rng.integers(x.ndim))
    shape = list(x.shape)
    shape[axis] = int(rng.choice(SIZES))
    n = max(x.shape[axis], 1)
    out = rng.random() < 0.1
    at = rng.integers(-n - 2 * out, n + 2 * out, shape).astype(rng.choice(["int32", "int64"]))
    return Call("take_along_axis", (x, at), {"axis": axis})


@case
def one_hot(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 0, 2), a_dtype(rng))
    kwargs = {"axis": int(rng.integers(-1, 2))} if rng.random() < 0.3 else {}
    if rng.random() < 0.3:
        kwargs["dtype"] = str(rng.choice(DTYPES))
    return Call("one_hot", (x, int(rng.integers(-1, 9))), kwargs)


@case
def segment_sum(rng: np.random.Generator) -> Call:
    rows = int(rng.choice(SIZES))
    data = draw(rng, (rows, *a_shape(rng, 0, 1)), a_dtype(rng))
    ids = rng.integers(-2, 6, rows).astype(rng.choice(["int32", "int64", "int8"]))
    return Call("segment_sum", (data, ids, int(rng.integers(0, 5))), {}, None, rows * sized(data))


@case
def repeat(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    axis = int(rng.integers(max(x.ndim, 1))) if rng.random() < 0.7 else None
    return Call("repeat", (x, int(rng.integers(-1, 4))), {"axis": axis})


@case
def tile(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    counts: Any = tuple(int(n) for n in rng.integers(-1, 4, int(rng.integers(1, 4))))
    return Call("tile", (x, counts if rng.random() < 0.7 else counts[0]), {})


@case
def reshape(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    shape = [int(d) for d in rng.permutation(x.shape)] if rng.random() < 0.5 else [x.size]
    if shape and rng.random() < 0.5:
        shape[int(rng.integers(len(shape)))] = int(rng.choice([-1, -1, -2, 0]))
    return Call("reshape", (x, tuple(shape)), {})


@case
def broadcast_to(rng: np.random.Generator) -> Call:
    shape = a_shape(rng)
    x = draw(rng, shrunk(rng, shape), a_dtype(rng))
    wide = tuple(d if rng.random() < 0.97 else -d for d in shape)
    return Call("broadcast_to", (x, wide), {})


@case
def concatenate(rng: np.random.Generator) -> Call:
    shape = a_shape(rng, 1)
    axis = int(rng.integers(-len(shape), len(shape)))
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        own = list(shape)
        own[axis] = int(rng.choice(SIZES))
        parts.append(draw(rng, tuple(own), a_dtype(rng)))
    return Call("concatenate", (parts,), {"axis": axis})


@case
def stack(rng: np.random.Generator) -> Call:
    shape = a_shape(rng, 0, 2)
    parts = [draw(rng, shape, a_dtype(rng)) for _ in range(int(rng.integers(1, 4)))]
    return Call("stack", (parts,), {"axis": int(rng.integers(-len(shape) - 1, len(shape) + 1))})


@case
def split(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    axis = int(rng.integers(x.ndim))
    parts: Any = int(rng.integers(-1, 4))
    if rng.random() < 0.5:
        parts = [int(i) for i in np.sort(rng.integers(-3, 9, 2))]
    return Call("split", (x, parts), {"axis": axis})


@case
def pad(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    low = -1 if rng.random() < 0.1 else 0
    width = [[int(n) for n in rng.integers(low, 3, 2)] for _ in range(x.ndim)]
    return Call("pad", (x, width if width and rng.random() < 0.7 else 1), {})


@case
def roll(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    axis = int(rng.integers(max(x.ndim, 1))) if rng.random() < 0.7 else None
    return Call("roll", (x, int(rng.integers(-9, 9))), {"axis": axis})


@case
def moveaxis(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    return Call("moveaxis", (x, int(rng.integers(x.ndim)), int(rng.integers(-x.ndim, x.ndim))), {})


@case
def matmul(rng: np.random.Generator) -> Call:
    m, k, n = (int(d) for d in rng.choice(SIZES, 3))
    stack = a_shape(rng, 0, 1)
    x = draw(rng, ((*stack, m, k), (k,))[int(rng.random() < 0.2)], a_dtype(rng), tame=True)
    y = draw(rng, ((*stack, k, n), (k, n), (k,))[int(rng.integers(3))], a_dtype(rng), tame=True)
    return product("matmul", x, y)


@case
def trace(rng: np.random.Generator) -> Call:
    return product("trace", draw(rng, a_shape(rng, 2), a_dtype(rng)))


@case
def tensordot(rng: np.random.Generator) -> Call:
    x, y = (draw(rng, a_shape(rng, 1), a_dtype(rng), tame=True) for _ in range(2))
    return product("tensordot", x, y, axes=int(rng.integers(0, 3)))


@case
def einsum(rng: np.random.Generator) -> Call:
    text = str(rng.choice(["ij,jk->ik", "...i->...", "ii->i", "ii", "i,i", "...ij,...jk->...ik"]))
    n = int(rng.choice(SIZES))
    shapes = [(n,) * len(t.replace("...", "")) for t in text.split("->", maxsplit=1)[0].split(",")]
    shapes = [((2,) if "..." in text and rng.random() < 0.5 else ()) + s for s in shapes]
    operands = [draw(rng, s, a_dtype(rng), tame=True) for s in shapes]
    return product("einsum", text, *operands, oracle=np.einsum)


@case
def norm(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng), tame=True)
    order = [None, 1, 2, np.inf, -np.inf, "fro", 0, 3][int(rng.integers(8))]
    kwargs = {"ord": order, "axis": an_axis(rng, x.ndim), "keepdims": bool(rng.integers(2))}
    return Call("norm", (x,), kwargs, None, x.size * sized(x))


@case
def softmax(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng), tame=True)
    name = str(rng.choice(["softmax", "log_softmax"]))
    return Call(name, (x,), {"axis": int(rng.integers(-x.ndim, x.ndim))}, None, 1 + sized(x))


@case
def crossentropy(rng: np.random.Generator) -> Call:
    rows, classes = int(rng.choice(SIZES)), int(rng.choice(SIZES))
    x = draw(rng, (rows, classes), a_dtype(rng), tame=True)
    kwargs = {"from_logits": True}
    if rng.random() < 0.5:
        t = draw(rng, (rows, classes), a_dtype(rng), tame=True)
        size = max(classes, 1) * sized(t) * (9 + sized(x))
        return Call("categorical_crossentropy", (t, x), kwargs, None, size)
    labels = rng.integers(-1, classes + 1, rows).astype(rng.choice(["int32", "int64", "uint8"]))
    return Call("sparse_categorical_crossentropy", (labels, x), kwargs, None, 9 + sized(x))


@case
def arange(rng: np.random.Generator) -> Call:
    limits = [rng.choice([0, 1, -3, 7, 2.5, 2**31 - 1]).item() for _ in range(3)]
    limits = [int(v) if v == int(v) and rng.random() < 0.8 else v for v in limits]
    step = limits[2] if abs(limits[2]) < 9 else 2**30
    start, stop = sorted(limits[:2])
    start = stop - 9 if stop - start > 99 else start
    return Call("arange", (start, stop, step), {})


@case
def full(rng: np.random.Generator) -> Call:
    kwargs = {"dtype": str(rng.choice(DTYPES))} if rng.random() < 0.6 else {}
    shape = tuple(d if rng.random() < 0.97 else -1 for d in a_shape(rng))
    return Call("full", (shape, NUMBERS[int(rng.integers(len(NUMBERS)))]), kwargs)


@case
def top_k(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    return Call("top_k", (x, int(rng.integers(-1, 5))), {})


@case
def squeeze(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng))
    axis = int(rng.integers(-x.ndim - 1, x.ndim + 1)) if rng.random() < 0.6 else None
    return Call(str(rng.choice(["squeeze", "expand_dims"])), (x, 0 if axis is None else axis), {})


@case
def cumprod(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng), a_dtype(rng), tame=True)
    axis = int(rng.integers(x.ndim)) if x.ndim and rng.random() < 0.7 else None
    return Call(str(rng.choice(["cumprod", "nancumprod"])), (x,), {"axis": axis})


@case
def diff(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng))
    kwargs = {"n": int(rng.integers(0, 3)), "axis": int(rng.integers(-x.ndim, x.ndim))}
    return Call("diff", (x,), kwargs, np.diff if x.dtype.kind == "f" else None, 4 * sized(x))


@case
def quantile(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1), a_dtype(rng), tame=True)
    q: Any = 0.25 if rng.random() < 0.5 else [0.0, 0.4, 1.0]
    kwargs: dict[str, Any] = {"axis": an_axis(rng, x.ndim), "keepdims": bool(rng.integers(2))}
    kwargs["method"] = str(rng.choice(["linear", "lower", "higher", "midpoint", "nearest"]))
    return Call(str(rng.choice(["quantile", "nanquantile"])), (x, q), kwargs, None, sized(x))


@case
def histogram(rng: np.random.Generator) -> Call:
    x = draw(rng, a_shape(rng, 1, 1), a_dtype(rng), tame=True)
    kwargs = {"range": (-2, 3)} if rng.random() < 0.3 else {}
    return Call("histogram", (x, int(rng.integers(0, 9))), kwargs)


@case
def bincount(rng: np.random.Generator) -> Call:
    x = rng.integers(-(rng.random() < 0.1), 9, a_shape(rng, 0, 2)).astype(rng.choice(DTYPES))
    weights = draw(rng, x.shape, a_dtype(rng), tame=True) if rng.random() < 0.5 else None
    size = x.size * sized(weights) if weights is not None else 0.0
    return Call("bincount", (x, weights, int(rng.integers(0, 12))), {}, None, size)


@case
def searchsorted(rng: np.random.Generator) -> Call:
    row = np.sort(draw(rng, a_shape(rng, 1, 1), a_dtype(rng)))
    kwargs = {"side": str(rng.choice(["left", "right"]))} if rng.random() < 0.7 else {}
    return Call("searchsorted", (row, draw(rng, a_shape(rng), row.dtype.name)), kwargs)


@case
def digitize(rng: np.random.Generator) -> Call:
    bins = np.sort(draw(rng, a_shape(rng, 1, 1), a_dtype(rng), tame=True))
    bins = bins[::-1] if rng.random() < 0.5 else bins
    return Call("digitize", (draw(rng, a_shape(rng), bins.dtype.name), bins), {}, np.digitize)


@case
def outer(rng: np.random.Generator) -> Call:
    x, y = (draw(rng, a_shape(rng, 0, 2), a_dtype(rng)) for _ in range(2))
    return product(str(rng.choice(["outer", "vdot", "dot"])), x, y)


def windowed(rng: np.random.Generator, name: str, kwargs: dict[str, Any], *args: Any) -> Call:
    """A call, or a gradient of one, with the bound of each of its elements (see product)."""
    call = Call(name, args, kwargs)
    with hm.use_backend("numpy"):
        if isinstance(found := outcome(call), Exception):
            return call
        if rng.random() < 0.6:
            weights = rng.normal(size=found[0].shape).astype("float32")
            call = replace(call, args=(*args, weights), by=int(rng.integers(len(args))))
        keep = int(name == "max_pool")  # which element is the maximum must stay

        def adding(one: Callable[[Any], Any]) -> Any:
            wide = [x.astype(np.float64) for x in call.args]
            return outcome(replace(call, args=(*wide[:keep], *map(one, wide[keep:]))))[0]

        terms = math.prod(kwargs.get("pool_size", ())) if "pool" in name else adding(np.ones_like)
        return replace(call, magnitude=np.abs(adding(np.abs)), roundings=terms + 1 + len(call.args))


def over_windows(rng: np.random.Generator) -> tuple[Any, Any, dict[str, Any]]:
    """Images and sizes of windows, which exceed those of images and strides or not."""
    table = rng.choice((1, 1, 2, 3, 5, 9), (3, int(rng.integers(1, 3)))).tolist()
    steps, window, sizes = map(tuple, table)
    padding = str(rng.choice(["same", "same", "valid"]))
    return (int(rng.integers(0, 4)), *sizes), window, {"strides": steps, "padding": padding}


@case
def convolution(rng: np.random.Generator) -> Call:
    images, window, kwargs = over_windows(rng)
    name = str(rng.choice(["conv", "conv", "depthwise_conv", "conv_transpose"]))
    if rng.random() < 0.3:
        kwargs["dilation_rate"] = kwargs.pop("strides")
    groups = int(rng.choice((1, 1, 2, 3))) if name == "conv" else 1
    channels, filters = (groups * int(d) for d in rng.choice((1, 2, 3, 8, 17), 2))
    last = {"conv": (channels // groups, filters), "conv_transpose": (filters, channels)}
    shapes = (*images, channels), (*window, *last.get(name, (channels, 1 + filters % 2)))
    return windowed(rng, name, kwargs, *(draw(rng, shape, "float32", True) for shape in shapes))


@case
def pooling(rng: np.random.Generator) -> Call:
    images, window, kwargs = over_windows(rng)
    x = draw(rng, (*images, int(rng.choice((1, 2, 3, 8, 17, 65)))), "float32", tame=True)
    name = str(rng.choice(["max_pool", "average_pool"]))
    return windowed(rng, name, kwargs | {"pool_size": window}, x)


# --- comparison -----------------------------------------------------------------------------------


def outcome(call: Call, module: Any = ops) -> Any:
    """A list of arrays, or the exception."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = call.run(module)
    except Exception as error:  # whatever it is, it is what is compared
        return error
    return [np.asarray(a) for a in (y if isinstance(y, list | tuple) else [y])]


def difference(call: Call, got: Any, want: Any, dtypes: bool = True) -> str:
    """What two outcomes differ in; "" if in nothing that counts."""
    for one in (got, want):
        if isinstance(one, BARE) or (isinstance(one, Exception) and not str(one).strip()):
            return f"a bare {type(one).__name__}: {one}"
    if isinstance(got, Exception) or isinstance(want, Exception):
        if type(got) is type(want):
            return ""
        shown = [repr(o)[:200] if isinstance(o, Exception) else "a result" for o in (got, want)]
        return f"{shown[0]} / {shown[1]}"
    for a, b in zip(got, want, strict=True):
        if a.shape != b.shape or (dtypes and a.dtype != b.dtype):
            return f"{a.dtype}{a.shape} / {b.dtype}{b.shape}"
        if a.dtype.kind == "f":
            with np.errstate(all="ignore"):
                eps = 2.0**-23 if a.dtype.itemsize == 4 or b.dtype.itemsize == 4 else 2.0**-52
                x, y = a.astype(np.float64), b.astype(np.float64)
                size = np.maximum(np.abs(x), np.abs(y))
                bound = call.roundings * eps * np.maximum(size, call.magnitude) + 1e-37
                near = np.abs(x - y) <= bound
                # What leaves float32 on the way is infinite or NaN, depending on the order.
                near |= (call.magnitude > 3.4e38) & ~(np.isfinite(x) & np.isfinite(y))
                # At the end of float32 a rounding decides between the largest number and infinity.
                near |= (size > 3.4e38) & (np.abs(x) > 3.3e38) & (np.abs(y) > 3.3e38) & (x * y > 0)
            bad = ~(near | (x == y) | (np.isnan(x) & np.isnan(y)))
        else:
            bad = a != b
        if np.any(bad):
            at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(bad)))
            return f"{np.atleast_1d(a)[at]!r} / {np.atleast_1d(b)[at]!r} at {at}"
    return ""


def numpy_difference(call: Call, want: Any) -> str:
    """NumPy's own result, where the function has the same name and meaning there."""
    if call.oracle is None or isinstance(want, Exception):
        return ""
    arrays = [a for a in call.args if isinstance(a, np.ndarray)]
    if any(a.dtype.name in RARE for a in arrays):
        return ""
    floats = "fiub" if call.name in FLOAT_ONLY else "f"
    args = [
        a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind in floats else a
        for a in call.args
    ]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = call.oracle(*args, **call.kwargs)
            found = [np.asarray(y).astype(want[0].dtype)]
    except Exception:  # NumPy refuses more, in other words
        return ""
    kinds = {a.dtype.kind for a in arrays}
    if kinds != {"b"} and any(a.dtype.itemsize < 4 for a in arrays):
        return ""  # sums and products of small integers have other dtypes in NumPy
    if kinds == {"b"} and call.name == "einsum":
        return ""  # handmill counts
    return difference(call, want, found, dtypes=False)


def levels() -> tuple[str, ...]:
    return tuple(i for i in _core.available_isas() if i != "avx512_bf16")


def check(call: Call, isas: tuple[str, ...]) -> str:
    with hm.use_backend("numpy"):
        want = outcome(call)
    for isa in isas:
        _core.set_isa(isa)
        found = difference(call, outcome(call), want)
        if found:
            return f"{isa} / NumPy executor: {found}"
    found = numpy_difference(call, want)
    return f"NumPy executor / NumPy: {found}" if found else ""


def keras_difference(call: Call, module: Any) -> str:
    items = [x for a in call.args for x in (a if isinstance(a, list) else [a])]
    arrays = [a for a in items if isinstance(a, np.ndarray)]
    names = {a.dtype.name for a in arrays}
    if any(a.dtype.itemsize > 4 or a.dtype.name in RARE or not a.dtype.isnative for a in arrays):
        return ""
    if {"uint8", "int8"} <= names or "64" in f"{call.args} {call.kwargs}":
        return ""  # int16 there, which handmill does not have; no 64 bits in JAX by default
    if call.name == "einsum":
        return ""  # sums of one operand stay uint8 there and wrap around
    ours, theirs = outcome(call), outcome(call, module)
    if isinstance(ours, Exception) or isinstance(theirs, Exception):
        return ""
    found = [[a.dtype.name.replace("uint32", "int32") for a in o] for o in (ours, theirs)]
    return "" if found[0] == found[1] else f"dtype {found[0]} / Keras {found[1]}"


def calls(count: int, seed: int, only: str | None = None) -> Iterator[Call]:
    """Call ``i`` depends on the seed and on i alone."""
    names = [only] if only else sorted(MAKERS)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield MAKERS[names[int(rng.integers(len(names)))]](rng)


def disagreements(
    count: int, seed: int = 0, only: str | None = None, keras: Any = None
) -> Iterator[str]:
    """What is wrong with each of the calls with which something is wrong."""
    before, isas = _core.isa(), levels()
    try:
        for i, call in enumerate(calls(count, seed, only)):
            found = keras_difference(call, keras) if keras else check(call, isas)
            if found:
                yield f"call {i} of seed {seed}: {call}\n    {found}"
    finally:
        _core.set_isa(before)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(MAKERS), help="one kind of call alone")
    parser.add_argument("--most", type=int, default=20, help="disagreements to show")
    parser.add_argument("--keras", action="store_true", help="compare dtypes with Keras on JAX")
    arguments = parser.parse_args(argv)
    keras = None
    if arguments.keras:
        os.environ["KERAS_BACKEND"] = "jax"
        from keras import ops as keras
    begin, shown = time.perf_counter(), 0
    for text in disagreements(arguments.calls, arguments.seed, arguments.only, keras):
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
