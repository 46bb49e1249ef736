"""Convolutions by the names of ``keras.ops``."""

from __future__ import annotations

from typing import Any

from handmill.errors import ShapeError, shape_error
from handmill.ir.dims import Dim, exact_quotient, same
from handmill.ir.trace import apply
from handmill.ops.nn.spatial import Sizes, channels_last, each, padding_mode, padding_pairs
from handmill.ops.numpy.arrange import pad
from handmill.ops.numpy.movement import reshape
from handmill.ops.numpy.products import matmul
from handmill.primitives.convolution import CONV, CONV_INPUT_GRAD
from handmill.primitives.operands import Tensor, dtype_of, promote, shape_of
from handmill.primitives.windows import MOST_AXES, reach


def _check_ranks(op: str, x: Any, kernel: Any) -> None:
    if len(shape_of(x)) != len(shape_of(kernel)):
        raise shape_error(
            op,
            "Kernel shape must have the same length as input",
            {"inputs": shape_of(x), "kernel": shape_of(kernel)},
        )


def _check_channels(channels: Dim, expected: Dim) -> None:
    if not same(channels, expected):
        raise ShapeError(
            "The number of input channels must match the kernel's input channels. Received: input "
            f"channels={channels}, kernel input channels={expected}"
        )


def _is_product(x: Any, kernel: Any, strides: Sizes, padding: Any) -> bool:
    """Whether a convolution of one group mixes channels, one place at a time: a matrix product."""
    sizes, window = shape_of(x)[1:-1], shape_of(kernel)[:-2]
    return (
        {*window, *strides} == {1}  # type: ignore[misc]
        and not any(n for pair in padding for n in pair)
        and 0 not in sizes
        and len(sizes) <= MOST_AXES
        and "float" in dtype_of(x)
        and same(shape_of(x)[-1], shape_of(kernel)[-2])
    )


def _convolve(
    x: Any, kernel: Any, strides: Sizes, padding: str, dilation_rate: Sizes, groups: Dim
) -> Any:
    """Convolves what has its channels last."""
    sizes, window = shape_of(x)[1:-1], shape_of(kernel)[:-2]
    steps = each("strides", strides, len(sizes))
    dilation = each("dilation_rate", dilation_rate, len(sizes))
    pairs = padding_pairs(padding, sizes, window, steps, dilation)  # type: ignore[arg-type]
    if groups == 1 and _is_product(x, kernel, steps, pairs):
        return matmul(x, reshape(kernel, shape_of(kernel)[-2:]))
    return apply(CONV, x, kernel, strides=steps, padding=pairs, dilation=dilation, groups=groups)


def conv(
    inputs: Tensor,
    kernel: Tensor,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Convolves sequences, images or volumes with a kernel.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes.
        kernel: ``(*window, channels, filters)``. With fewer channels than the inputs have, these
            and the filters are split into groups.
        strides: how far one window begins after the other.
        padding: "valid": windows lie inside; "same": zeros around let one begin in each stride.
        data_format: "channels_last", or "channels_first" for ``(batch, channels, *sizes)``.
        dilation_rate: how far the elements of a window lie apart.

    Returns:
        ``(batch, *new sizes, filters)``, or the channels where ``inputs`` has them.

    Raises:
        ShapeError: if shapes do not fit, or no window does.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.conv(ops.ones((1, 5, 5, 3)), ops.ones((3, 3, 3, 8)), strides=2).shape
        (1, 2, 2, 8)
    """
    x, w = promote(inputs, kernel)
    x, restored = channels_last("conv", x, data_format)
    _check_ranks("conv", x, w)
    channels, of_group = shape_of(x)[-1], shape_of(w)[-2]
    groups: Dim | None = (
        1  # where the channels are open, the record assumes them to be the kernel's
    )
    if isinstance(channels, int) and isinstance(of_group, int) and of_group:
        groups = exact_quotient(channels, of_group)
    if not groups:
        raise ShapeError(
            "The number of input channels must match the kernel's input channels, or be evenly "
            f"divisible by them (groups). Received: input channels={channels}, kernel input "
            f"channels={of_group}"
        )
    return restored(_convolve(x, w, strides, padding, dilation_rate, groups))


def depthwise_conv(
    inputs: Tensor,
    kernel: Tensor,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Convolves each channel with kernels of its own.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes.
        kernel: ``(*window, channels, multiplier)``.
        strides: see :func:`conv`.
        padding: see :func:`conv`.
        data_format: see :func:`conv`.
        dilation_rate: see :func:`conv`.

    Returns:
        ``(batch, *new sizes, channels * multiplier)``; those of one channel are neighbours.

    Raises:
        ShapeError: if shapes do not fit, or no window does.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.depthwise_conv(ops.ones((1, 5, 5, 3)), ops.ones((3, 3, 3, 2))).shape
        (1, 3, 3, 6)
    """
    x, w = promote(inputs, kernel)
    x, restored = channels_last("depthwise_conv", x, data_format)
    _check_ranks("depthwise_conv", x, w)
    window, (channels, multiplier) = shape_of(w)[:-2], shape_of(w)[-2:]
    _check_channels(shape_of(x)[-1], channels)
    w = reshape(w, (*window, 1, channels * multiplier))
    return restored(_convolve(x, w, strides, padding, dilation_rate, channels))


def separable_conv(
    inputs: Tensor,
    depthwise_kernel: Tensor,
    pointwise_kernel: Tensor,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Convolves each channel by itself, then mixes the channels of each place.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes.
        depthwise_kernel: see :func:`depthwise_conv`.
        pointwise_kernel: ``(*ones, channels * multiplier, filters)``.
        strides: see :func:`conv`.
        padding: see :func:`conv`.
        data_format: see :func:`conv`.
        dilation_rate: see :func:`conv`.

    Returns:
        ``(batch, *new sizes, filters)``.

    Raises:
        ShapeError: if shapes do not fit, or no window does.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> kernels = ops.ones((3, 3, 3, 2)), ops.ones((1, 1, 6, 8))
        >>> ops.separable_conv(ops.ones((1, 5, 5, 3)), *kernels).shape
        (1, 3, 3, 8)
    """
    options: dict[str, Any] = {"data_format": data_format, "dilation_rate": dilation_rate}
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, **options)
    return conv(x, pointwise_kernel, **options)


def conv_transpose(
    inputs: Tensor,
    kernel: Tensor,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Spreads each element over a window: the gradient of :func:`conv` with respect to its inputs.

    Args:
        inputs: ``(batch, *sizes, channels)`` with 1 to 3 sizes.
        kernel: ``(*window, filters, channels)``.
        strides: how far one window begins after the other, in the output.
        padding: "valid": the output holds all windows; "same": it has ``size * strides`` elements.
        output_padding: elements more at the end of each axis, counted from
            ``(size - 1) * strides`` plus the window ("valid") or plus 1 for an odd window ("same").
        data_format: see :func:`conv`.
        dilation_rate: see :func:`conv`.

    Returns:
        ``(batch, *new sizes, filters)``.

    Raises:
        ShapeError: if shapes do not fit.
        ValueError: if an argument is none of those above.

    Example:
        >>> from handmill import ops
        >>> ops.conv_transpose(ops.ones((1, 4, 4, 3)), ops.ones((3, 3, 8, 3)), 2, "same").shape
        (1, 8, 8, 8)
    """
    x, w = promote(inputs, kernel)
    x, restored = channels_last("conv_transpose", x, data_format)
    _check_ranks("conv_transpose", x, w)
    sizes: Any = shape_of(x)[1:-1]
    window: Any = shape_of(w)[:-2]
    _check_channels(shape_of(x)[-1], shape_of(w)[-1])
    count = len(sizes)
    steps = each("strides", strides, count)
    dilation = each("dilation_rate", dilation_rate, count)
    mode = padding_mode(padding)
    more: Any = (None,) * count
    if output_padding is not None:
        more = each("output_padding", output_padding, count, least=0)
    found: list[Dim] = []
    pairs: list[tuple[int, int]] = []
    behind: list[int] = []
    for size, step, added, *place in zip(sizes, steps, more, window, dilation, strict=True):
        span = reach(*place)
        before, after = _cut_off(mode, span, step, added)
        # What lies behind the last window, up to the next one, the gradient's sizes leave open.
        behind.append(max(-after - (step - 1), 0))
        found.append((size - 1) * step + span - before - after - behind[-1])
        pairs.append((before, max(after, 0)))
    y = apply(
        CONV_INPUT_GRAD, x, w, sizes=tuple(found), strides=steps, padding=tuple(pairs),
        dilation=dilation, groups=1,
    )  # fmt: skip
    if any(behind):
        y = pad(y, [(0, 0), *((0, n) for n in behind), (0, 0)])
    return restored(y)


def _cut_off(mode: str, span: int, step: int, added: int | None) -> tuple[int, int]:
    """Elements that the output lacks at both ends of all windows; negative if there are more.

    Keras's rule: "same" takes as much from both ends, rather less from the first; never does
    the output begin before the first window.
    """
    if mode == "valid":
        return 0, -(max(step - span, 0) if added is None else added)
    kept = step + span - 2 if added is None else span + span % 2 - 2 + added
    first = min(kept - kept // 2, span - 1)
    return span - 1 - first, span - 1 - (kept - first)
