"""Fourier transforms. Complex numbers are pairs of real tensors, as in Keras.

Transforms of real float32 numbers whose count is a power of two have kernels; all others run in
NumPy, on the host, in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import ShapeError
from handmill.ir.dims import Dim, at_least, is_fixed, same_shape
from handmill.ir.shapes import FLOATS, numpy_dtype
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import flip, pad
from handmill.ops.numpy.elementwise import add, divide, multiply, square
from handmill.ops.numpy.logic import greater, where
from handmill.ops.numpy.movement import broadcast_to, concatenate, expand_dims, reshape, transpose
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.fourier import FFT, RFFT, RFFT_ADJOINT
from handmill.primitives.gather import SCATTER_ADD_ROWS
from handmill.primitives.operands import Tensor, dtype_of, promote_float, shape_of, tensor, widened
from handmill.primitives.sizes import steps_to


def _pair(x: Any, rank: int) -> tuple[Any, Any, str]:
    """The two parts in float32 at least, and their dtype."""
    if not isinstance(x, tuple | list) or len(x) != 2:
        raise ValueError(
            "Input `x` should be a tuple of two tensors - real and imaginary. "
            f"Received: {type(x).__name__}"
        )
    real, imag = (tensor(part) for part in x)
    if not same_shape(shape_of(real), shape_of(imag)):
        raise ShapeError(
            "Input `x` should be a tuple of two tensors - real and imaginary. Both the real and "
            f"imaginary parts should have the same shape. Received: {shape_of(real)} and "
            f"{shape_of(imag)}"
        )
    if len(shape_of(real)) < rank:
        raise ShapeError(f"Input should have rank >= {rank}. Received: shape {shape_of(real)}")
    if not {dtype_of(real), dtype_of(imag)} <= FLOATS:
        raise ValueError(
            "At least one tensor in input `x` is not of type float. Received: "
            f"{dtype_of(real)} and {dtype_of(imag)}"
        )
    real, imag = promote_float(real, imag)
    return widened(real), widened(imag), dtype_of(real)


def _transformed(x: Any, axes: int, inverse: bool) -> tuple[Any, Any]:
    """Transforms the last axes, of known sizes; the inverse is divided by their product."""
    real, imag, dtype = _pair(x, axes)
    shape = shape_of(real)
    last = tuple(range(len(shape) - axes, len(shape)))
    if not is_fixed(shape[-axes:]):
        which = "last dimension" if axes == 1 else f"last {axes} axes"
        raise ShapeError(f"Input should have its {which} fully-defined. Received: {shape}")
    found = apply(FFT, real, imag, axes=last, inverse=inverse)
    if inverse:
        count = np.prod([int(n) for n in shape[-axes:]])
        found = tuple(multiply(part, float(1 / count)) for part in found)
    return cast(found[0], dtype), cast(found[1], dtype)


def fft(x: Any) -> tuple[Any, Any]:
    """Returns the discrete Fourier transform along the last axis.

    Args:
        x: the real and the imaginary part, float tensors of one shape.

    Returns:
        The real and the imaginary part.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> real, imag = ops.fft((np.float32([1, 0, 0]), np.float32([0, 0, 0])))
        >>> real
        array([1., 1., 1.], dtype=float32)
    """
    return _transformed(x, 1, False)


def fft2(x: Any) -> tuple[Any, Any]:
    """Returns the discrete Fourier transform along the last two axes.

    Args:
        x: the real and the imaginary part, float tensors of one shape.

    Returns:
        The real and the imaginary part.

    Example:
        >>> from handmill import ops
        >>> real, imag = ops.fft2((ops.ones((2, 2)), ops.zeros((2, 2))))
        >>> real
        array([[4., 0.],
               [0., 0.]], dtype=float32)
    """
    return _transformed(x, 2, False)


def ifft2(x: Any) -> tuple[Any, Any]:
    """Returns the inverse of :func:`fft2`.

    Args:
        x: the real and the imaginary part, float tensors of one shape.

    Returns:
        The real and the imaginary part.

    Example:
        >>> from handmill import ops
        >>> real, imag = ops.ifft2((ops.ones((2, 2)), ops.zeros((2, 2))))
        >>> real
        array([[1., 0.],
               [0., 0.]], dtype=float32)
    """
    return _transformed(x, 2, True)


def _of_length(x: Any, length: Dim) -> Any:
    """Cuts the last axis, or fills it up with zeros."""
    axis = len(shape_of(x)) - 1
    own = shape_of(x)[axis]
    if own == length:
        return x
    if not isinstance(own, int) or not isinstance(length, int):
        raise ShapeError(
            f"a length of {length} was asked for along an axis of {own} elements, whose number is "
            "not known before the program runs; leave `fft_length` out"
        )
    if own > length:
        return slice_axis(x, axis, 0, length)
    return pad(x, [(0, 0)] * axis + [(0, length - own)])


def rfft(x: Tensor, fft_length: int | None = None) -> tuple[Any, Any]:
    """Returns the first half of the Fourier transform of real numbers along the last axis.

    Args:
        x: real numbers.
        fft_length: their number; the axis is cut or filled up with zeros. Default: its length.

    Returns:
        The real and the imaginary part of ``fft_length // 2 + 1`` numbers.

    Example:
        >>> from handmill import ops
        >>> real, imag = ops.rfft([1.0, 2.0, 3.0, 2.0])
        >>> real
        array([ 8., -2.,  0.], dtype=float32)
    """
    (x,) = promote_float(x)
    dtype, axis = dtype_of(x), len(shape_of(x)) - 1
    if axis < 0:
        raise ShapeError("Input should have rank >= 1. Received: a scalar")
    x = widened(x)
    if fft_length is not None:
        x = _of_length(x, int(fft_length))
    *stack, own = shape_of(x)
    half = own // 2 + 1
    if isinstance(own, int) and own:
        found = apply(RFFT, x, np.ones(own, numpy_dtype(dtype_of(x))), stride=own)
        found = tuple(reshape(part, (*stack, half)) for part in found)
    else:
        found = apply(FFT, x, multiply(x, 0.0), axes=(axis,), inverse=False)
        found = tuple(slice_axis(part, axis, 0, half) for part in found)
    return cast(found[0], dtype), cast(found[1], dtype)


def irfft(x: Any, fft_length: int | None = None) -> Any:
    """Returns the real numbers of which :func:`rfft` gives the transform.

    Args:
        x: the real and the imaginary part.
        fft_length: how many real numbers there are. Default: ``2 * (N - 1)`` for N numbers.

    Example:
        >>> from handmill import ops
        >>> ops.irfft(ops.rfft([1.0, 2.0, 3.0, 2.0]))
        array([1., 2., 3., 2.], dtype=float32)
    """
    real, imag, dtype = _pair(x, 1)
    own = shape_of(real)[-1]
    if not isinstance(own, int):
        raise ShapeError(
            f"Input should have its last dimension fully-defined. Received: {shape_of(real)}"
        )
    length = 2 * (own - 1) if fft_length is None else int(fft_length)
    if length < 1:
        raise ValueError(f"irfft: `fft_length` must be positive, got {length}")
    half = length // 2 + 1
    # The other half holds conjugates: each number counts twice but the first, and the middle one.
    factors = np.full(half, 2.0 / length, numpy_dtype(dtype_of(real)))
    factors[0] /= 2
    if length % 2 == 0:
        factors[-1] /= 2
    parts = [multiply(_of_length(p, half), factors) for p in (real, imag)]
    return cast(apply(RFFT_ADJOINT, *parts, size=length), dtype)


def extract_sequences(x: Tensor, sequence_length: int, sequence_stride: int) -> Any:
    """Returns windows of the last axis.

    Args:
        x: the input.
        sequence_length: the length of a window.
        sequence_stride: how far one begins after the other.

    Returns:
        Windows of shape ``(..., number, sequence_length)``.

    Example:
        >>> from handmill import ops
        >>> ops.extract_sequences([1, 2, 3, 4, 5], 3, 2)
        array([[1, 2, 3],
               [3, 4, 5]], dtype=int32)
    """
    _check_stride(sequence_stride)
    whole_number("`sequence_length`", sequence_length, 1)
    x = tensor(x)
    if not shape_of(x):
        raise ShapeError("Input should have rank >= 1. Received: a scalar")
    own = shape_of(x)[-1]
    if not at_least(own, sequence_length):
        raise ShapeError(
            f"extract_sequences: windows of {sequence_length} do not fit into {own} elements"
        )
    number = 1 + (own - sequence_length) // sequence_stride
    return take(x, _places(number, sequence_length, sequence_stride, x), axis=-1)


def _check_stride(sequence_stride: Any) -> None:
    whole = isinstance(sequence_stride, int | np.integer)
    if not whole or sequence_stride <= 0:
        raise ValueError(
            "`sequence_stride` must be a positive integer. Received: "
            f"sequence_stride={sequence_stride}"
        )


def _places(number: Dim, length: Any, stride: int, like: Any) -> Any:
    """The place of each element of each window."""
    return add(expand_dims(steps_to(number, stride, like), 1), steps_to(length, like=like))


def _window(window: Any, length: int, fft_length: int, dtype: str) -> Any:
    """The factors of a window, with zeros around it."""
    if window is None:
        return np.ones(fft_length, numpy_dtype(dtype))
    if isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ValueError(
                "If a string is passed to `window`, it must be one of `hann`, `hamming`. "
                f"Received: window={window}"
            )
        alpha = 0.5 if window == "hann" else 0.54
        window = alpha - (1 - alpha) * np.cos(2 * np.pi * np.arange(length) / length)
    factors = cast(window, dtype)
    if shape_of(factors) != (length,):
        raise ShapeError(
            "The shape of `window` must be equal to [sequence_length]. "
            f"Received: window shape={shape_of(factors)}"
        )
    before = (fft_length - length) // 2
    return pad(factors, [(before, fft_length - length - before)])


def stft(
    x: Tensor,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any = "hann",
    center: bool = True,
) -> tuple[Any, Any]:
    """Returns the Fourier transforms of windows of the last axis.

    Args:
        x: float32 or float64 numbers.
        sequence_length: the length of a window.
        sequence_stride: how far one begins after the other.
        fft_length: the length of a transform; the window lies in its middle.
        window: "hann", "hamming", a tensor of factors, or None for ones.
        center: whether the first window is centered on the first element; the input is then
            reflected at its ends.

    Returns:
        The real and the imaginary part, ``(..., number, fft_length // 2 + 1)``.

    Example:
        >>> from handmill import ops
        >>> real, imag = ops.stft(ops.ones(8), 4, 2, 4)
        >>> real.shape
        (5, 3)
    """
    x = tensor(x)
    dtype = dtype_of(x)
    if dtype not in ("float32", "float64"):
        raise TypeError(
            f"Invalid input type. Expected `float32` or `float64`. Received: input type={dtype}"
        )
    _check_lengths(sequence_length, sequence_stride, fft_length)
    factors = _window(window, sequence_length, fft_length, dtype)
    if center:
        x = _reflected(x, fft_length // 2)
    own = shape_of(x)[-1]
    if not at_least(own, fft_length):
        raise ShapeError(
            f"stft: windows of fft_length={fft_length} do not fit into {own} elements; give a "
            "shorter `fft_length`, or pad the input"
        )
    found: tuple[Any, Any] = apply(RFFT, x, factors, stride=int(sequence_stride))
    return found


def _reflected(x: Any, around: int) -> Any:
    """Puts what lies next to each end of the last axis beyond it, in reverse."""
    axis = len(shape_of(x)) - 1
    own = shape_of(x)[axis]
    if not around:
        return x
    if not at_least(own, around + 1):
        raise ShapeError(
            f"stft: {own} elements are too few to be reflected by fft_length // 2 = {around}; give "
            "a shorter `fft_length`, or center=False"
        )
    before = flip(slice_axis(x, axis, 1, around + 1), axis)
    after = flip(slice_axis(x, axis, own - around - 1, own - 1), axis)
    return concatenate([before, x, after], axis)


def _check_lengths(sequence_length: int, sequence_stride: Any, fft_length: int) -> None:
    _check_stride(sequence_stride)
    whole_number("`sequence_length`", sequence_length, 1)
    whole_number("`fft_length`", fft_length, 1)
    if fft_length < sequence_length:
        raise ValueError(
            "`fft_length` must equal or larger than `sequence_length`. Received: "
            f"sequence_length={sequence_length}, fft_length={fft_length}"
        )


def istft(
    x: Any,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Any:
    """Returns the signal of which :func:`stft` gives the transforms.

    Args:
        x: the real and the imaginary part, ``(..., number, fft_length // 2 + 1)``.
        sequence_length: as for :func:`stft`.
        sequence_stride: as for :func:`stft`.
        fft_length: as for :func:`stft`.
        length: how many elements to return. Default: all that windows cover.
        window: as for :func:`stft`.
        center: as for :func:`stft`.

    Example:
        >>> from handmill import ops
        >>> signal = ops.arange(8.0)
        >>> ops.istft(ops.stft(signal, 4, 2, 4), 4, 2, 4).round(3) + 0
        array([0., 1., 2., 3., 4., 5., 6., 7.], dtype=float32)
    """
    real, _, dtype = _pair(x, 2)
    _check_lengths(sequence_length, sequence_stride, fft_length)
    factors = _window(window, sequence_length, fft_length, dtype_of(real))
    frames = multiply(irfft((real, x[1]), fft_length), factors)
    number = shape_of(frames)[-2]
    if not isinstance(number, int) and not at_least(number, 1):
        raise ShapeError("istft: no windows")
    y = _overlapped(frames, sequence_stride)
    weight = broadcast_to(square(factors), (number, fft_length))
    total = _overlapped(weight, sequence_stride)
    y = divide(y, where(greater(total, 1e-10), total, 1.0))
    if window is None:
        y = multiply(y, float(fft_length / sequence_stride))
    start = fft_length // 2 if center else 0
    whole = shape_of(y)[-1]
    end: Dim = whole - (fft_length // 2 if center else 0)
    if length is not None:
        end = start + length
        if isinstance(whole, int):
            end = min(end, whole)
    return cast(slice_axis(y, len(shape_of(y)) - 1, start, end), dtype)


def _overlapped(frames: Any, stride: int) -> Any:
    """Adds windows up where they lie."""
    *stack, number, size = shape_of(frames)
    rank = len(stack)
    moved = transpose(frames, (rank, rank + 1, *range(rank)))
    rows = size + stride * (number - 1)
    places = _places(number, size, stride, frames)
    y = apply(SCATTER_ADD_ROWS, moved, places, rows=rows)
    return transpose(reshape(y, (rows, *stack)), (*range(1, rank + 1), 0))
