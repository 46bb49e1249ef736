"""The discrete Fourier transform of pairs of real arrays, and that of windows of real numbers.

The first runs in NumPy, in float64. The second has kernels for powers of two: 16 windows at a time
in the lanes of a vector, by steps of four (Stockham's order), in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, at_least
from handmill.ir.op import REGISTRY, Accumulate, Array, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import apply
from handmill.primitives.emit import reduce, reshape, transpose
from handmill.primitives.samples import name_of, uniform
from handmill.primitives.sizes import steps_to


def _infer(real: Spec, imag: Spec, *, axes: tuple[int, ...], inverse: bool) -> tuple[Spec, Spec]:
    operands = {"real": real, "imag": imag}
    if not real.same(imag) or not real.is_float:
        raise shape_error("fft", "two float tensors of one shape were expected", operands)
    if not all(0 <= a < real.rank for a in axes):
        raise shape_error("fft", f"axes {axes} do not exist", operands)
    return real, imag


def _reference(
    real: Array, imag: Array, *, axes: tuple[int, ...], inverse: bool
) -> tuple[Array, Array]:
    # Neither direction divides by the number of elements.
    if not real.size:
        return real, imag
    z = real.astype(np.float64) + 1j * imag.astype(np.float64)
    y = np.fft.ifftn(z, axes=axes, norm="forward") if inverse else np.fft.fftn(z, axes=axes)
    return y.real.astype(real.dtype), y.imag.astype(imag.dtype)


def _vjp(inputs: Any, outputs: Any, dys: Any, *, axes: tuple[int, ...], inverse: bool) -> Any:
    # The adjoint of the transform is the one the other way.
    parts = [outputs[i] * 0 if dy is None else dy for i, dy in enumerate(dys)]
    return apply(FFT, *parts, axes=axes, inverse=not inverse)


def _samples() -> Iterable[Sample]:
    yield Sample("17", uniform((17,), (17,)), {"axes": (0,), "inverse": False})
    yield Sample("3x4x5", uniform((3, 4, 5), (3, 4, 5)), {"axes": (1, 2), "inverse": True})
    none = {"axes": (1,), "inverse": False}
    yield Sample("none", uniform((0, 4), (0, 4)), none, smooth=False)


FFT: Op = register(
    Op(
        "fft",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        # Computed in float64 and rounded once, by reference and kernel alike.
        bound=(Ulp(0.5), Ulp(0.5)),
        vjp=_vjp,
        attribution="midpoint",
        native=never_native,
    )
)


_LONGEST = 1 << 16


def _windows(x: Array, size: int, stride: int) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=-1)[..., ::stride, :]


def _rfft_infer(x: Spec, factors: Spec, *, stride: int) -> tuple[Spec, Spec]:
    operands = {"x": x, "factors": factors}
    if not x.is_float or x.dtype != factors.dtype or not x.rank or factors.rank != 1:
        raise shape_error("rfft", "float samples and as many factors as a window has", operands)
    (size,) = factors.shape
    if not isinstance(size, int) or size < 1 or stride < 1:
        raise shape_error("rfft", f"windows of {size}, {stride} apart", operands)
    length = x.shape[-1]
    if not at_least(length, size):
        raise shape_error("rfft", f"windows of {size} do not fit into {length}", operands)
    number = 1 + (length - size) // stride
    spec = Spec((*x.shape[:-1], number, size // 2 + 1), x.dtype)
    return spec, spec


def _rfft_reference(x: Array, factors: Array, *, stride: int) -> tuple[Array, Array]:
    windows = _windows(x, len(factors), stride).astype(np.float64) * factors.astype(np.float64)
    if not windows.size:
        empty = np.zeros((*windows.shape[:-1], len(factors) // 2 + 1), x.dtype)
        return empty, empty.copy()
    found = np.fft.rfft(windows)
    return found.real.astype(x.dtype), found.imag.astype(x.dtype)


def _rfft_vjp(inputs: Any, outputs: Any, dys: Any, *, stride: int) -> Any:
    x, factors = inputs
    (size,) = factors.shape
    parts = [outputs[i] * 0 if dy is None else dy for i, dy in enumerate(dys)]
    spread = apply(RFFT_ADJOINT, *parts, size=size)
    number, length = spread.shape[-2], x.shape[-1]
    places = _places(number, size, stride, x)
    # Windows overlap: each sample gets what all windows that hold it give.
    rank = len(x.shape) - 1
    rows = transpose(spread * factors, (rank, rank + 1, *range(rank)))
    dx = apply(REGISTRY["scatter_add_rows"], rows, places, rows=length)
    windows = apply(REGISTRY["take"], x, places, axis=rank)
    return (
        transpose(dx, (*range(1, rank + 1), 0)),
        reduce("sum", spread * windows, tuple(range(rank + 1))),
    )


def _places(number: Dim, size: int, stride: int, like: Any) -> Any:
    """The place of each sample of each window."""
    inside = np.arange(size, dtype=np.int32)
    if isinstance(number, int):
        return np.arange(number, dtype=np.int32)[:, None] * np.int32(stride) + inside
    return reshape(steps_to(number, stride, like), (number, 1)) + inside


def _rfft_samples() -> Iterable[Sample]:
    for name, shape, size, stride in (
        ("8", (8,), 8, 1),
        ("3x37_16", (3, 37), 16, 5),
        ("2x2x70_32", (2, 2, 70), 32, 9),
        ("300_64", (300,), 64, 3),
        ("2x140_128", (2, 140), 128, 1),
        ("window_12", (2, 30), 12, 6),
        ("window_1", (2, 3), 1, 2),
    ):
        yield Sample(name, uniform(shape, (size,)), {"stride": stride})
    yield Sample("none", uniform((0, 20), (8,)), {"stride": 4}, smooth=False)
    bench = uniform((32, 8000), (256,))
    yield Sample("bench_256", bench, {"stride": 80}, smooth=False, bench=True)


def _power_of_two(size: Any) -> bool:
    return isinstance(size, int) and 8 <= size <= _LONGEST and not size & (size - 1)


# Each sample reaches each result by one path of log2(N) steps, three roundings each.
def _roundings(size: int) -> int:
    return 3 * max(size, 2).bit_length() + 2


def _magnitude(x: Array, factors: Array, *, stride: int) -> Array:
    sums = np.abs(_windows(x, len(factors), stride) * factors).sum(axis=-1, keepdims=True)
    return np.repeat(sums, len(factors) // 2 + 1, axis=-1)


_RFFT_BOUND = Accumulate(
    lambda inputs, attrs: _roundings(len(inputs[1])),
    lambda inputs, attrs: _magnitude(*inputs, **attrs),
)

# (x, factors; stride) -> real and imaginary parts: of windows of the last axis, each sample times
# its factor, all frequencies up to half the number of samples.
RFFT: Op = register(
    Op(
        "rfft",
        infer=_rfft_infer,
        reference=_rfft_reference,
        samples=_rfft_samples,
        bound=(_RFFT_BOUND, _RFFT_BOUND),
        vjp=_rfft_vjp,
        attribution="midpoint",
        kernel="rfft",
        native=lambda specs, attrs: (
            specs[0].dtype == "float32" and _power_of_two(specs[1].shape[0])
        ),
    )
)


def _adjoint_infer(real: Spec, imag: Spec, *, size: int) -> Spec:
    operands = {"real": real, "imag": imag}
    if not real.same(imag) or not real.is_float or not real.rank:
        raise shape_error("rfft_adjoint", "two float tensors of one shape", operands)
    if real.shape[-1] != size // 2 + 1:
        raise shape_error(
            "rfft_adjoint", f"{size} samples have {size // 2 + 1} frequencies", operands
        )
    return Spec((*real.shape[:-1], size), real.dtype)


def _adjoint_reference(real: Array, imag: Array, *, size: int) -> Array:
    z = real.astype(np.float64) + 1j * imag.astype(np.float64)
    z[..., 1 : (size + 1) // 2] *= 0.5  # irfft counts the conjugates too
    if not z.size:
        return np.zeros((*z.shape[:-1], size), real.dtype)
    return np.fft.irfft(z, size, norm="forward").astype(real.dtype)


def _adjoint_vjp(inputs: Any, outputs: Any, dys: Any, *, size: int) -> Any:
    dtype = dys[0].dtype
    real, imag = apply(RFFT, dys[0], np.ones(size, numpy_dtype(dtype)), stride=size)
    shape = inputs[0].shape
    return reshape(real, shape), reshape(imag, shape)


def _adjoint_samples() -> Iterable[Sample]:
    for shape, size in (((5,), 8), ((3, 9), 16), ((2, 3, 17), 32), ((4, 33), 64)):
        yield Sample(name_of(shape), uniform(shape, shape), {"size": size})
    yield Sample("window_12", uniform((2, 7), (2, 7)), {"size": 12})
    yield Sample("window_7", uniform((2, 4), (2, 4)), {"size": 7})
    yield Sample("none", uniform((0, 5), (0, 5)), {"size": 8}, smooth=False)


# (real, imag; size) -> y_n = sum over the frequencies of real cos - imag sin of 2 pi k n / size:
# the adjoint of a window's transform, of which irfft is the sum with inner frequencies twice.
RFFT_ADJOINT: Op = register(
    Op(
        "rfft_adjoint",
        infer=_adjoint_infer,
        reference=_adjoint_reference,
        samples=_adjoint_samples,
        bound=Accumulate(
            lambda inputs, attrs: _roundings(attrs["size"]),
            lambda inputs, attrs: np.repeat(
                (np.abs(inputs[0]) + np.abs(inputs[1])).sum(axis=-1, keepdims=True),
                attrs["size"],
                axis=-1,
            ),
        ),
        vjp=_adjoint_vjp,
        attribution="midpoint",
        kernel="rfft_adjoint",
        native=lambda specs, attrs: specs[0].dtype == "float32" and _power_of_two(attrs["size"]),
    )
)
