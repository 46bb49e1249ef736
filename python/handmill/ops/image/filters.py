"""Windows that slide over images: blur, edges, likeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.arguments import pair_of, real_number, whole_number
from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.ops.core.conversion import cast
from handmill.ops.image.layout import images_of
from handmill.ops.image.matrices import filtered, fixed, gaussian
from handmill.ops.numpy.arrange import pad, stack
from handmill.ops.numpy.reductions import mean
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import Tensor, dtype_of, shape_of


def _size(name: str, value: Any) -> int:
    return whole_number(name, value, least=1)


def gaussian_blur(
    images: Tensor,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Any:
    """Blurs images; there are zeros around them.

    Args:
        images: one image or a batch, of floats.
        kernel_size: how wide and how high the window is.
        sigma: the standard deviation along the width and along the height.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if the images are no floats, or a size or deviation is not above 0.

    Example:
        >>> from handmill import ops
        >>> ops.image.gaussian_blur(ops.ones((3, 3, 1)))[1, :, 0].round(3)
        array([0.726, 1.   , 0.726], dtype=float32)
    """
    found = images_of(images, data_format)
    if dtype_of(found.x) not in FLOATS:
        raise ValueError(
            "Invalid images dtype: expected float dtype. "
            f"Received: images.dtype={dtype_of(found.x)}"
        )
    across, down = pair_of("`kernel_size`", kernel_size, _size, "integers")
    wide, high = pair_of("`sigma`", sigma, real_number, "floats")
    if not (wide > 0 and high > 0):
        raise ValueError(f"`sigma` must be above 0. Received: sigma={tuple(sigma)}")
    windows = (gaussian(down, high), gaussian(across, wide))
    return filtered("gaussian_blur", found.x, (found.height, found.width), windows, padded=True)


def sobel_edges(images: Tensor, data_format: str | None = None) -> Any:
    """Returns how brightness changes downwards and to the right, by Sobel's windows.

    Args:
        images: a batch of images. There are zeros around them.
        data_format: "channels_last" or "channels_first".

    Returns:
        A tensor with one more axis, which holds the two changes.

    Raises:
        ShapeError: if it is no batch of images.
        ValueError: if the dtype has no negative numbers.

    Example:
        >>> from handmill import ops
        >>> step = ops.reshape([0.0, 0.0, 1.0, 1.0] * 3, (1, 3, 4, 1))
        >>> ops.image.sobel_edges(step)[0, 1, :, 0, 1]
        array([ 0.,  4.,  4., -4.], dtype=float32)
    """
    found = images_of(images, data_format)
    x, dtype = found.x, dtype_of(found.x)
    if found.rank != 4:
        raise ShapeError(
            "Invalid images rank: expected rank 4 (batch of images). "
            f"Received: images.shape={shape_of(x)}"
        )
    if dtype in ("bool", "uint8"):
        raise ValueError(
            "Invalid images dtype: expected one that holds negative numbers. "
            f"Received: images.dtype={dtype}"
        )
    axes = (found.height, found.width)
    padded = pad(x, [[1, 1] if a in axes else [0, 0] for a in range(4)])
    edges = []
    for axis, other in (axes, axes[::-1]):
        before, _, after = _thirds(padded, axis)
        left, middle, right = _thirds(after - before, other)
        edges.append(left + middle + middle + right)
    return stack(edges, axis=-1)


def _thirds(x: Any, axis: int) -> list[Any]:
    """The neighbours before, the elements, the neighbours after; the ends are left out."""
    inner = shape_of(x)[axis] - 2
    return [slice_axis(x, axis, start, start + inner) for start in range(3)]


def ssim(
    image1: Tensor,
    image2: Tensor,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Any:
    """Returns the structural similarity of images: 1 for equal ones.

    Args:
        image1: one image or a batch.
        image2: images of the same shape.
        max_val: the largest value that a pixel can have.
        filter_size: how wide the Gaussian window is.
        filter_sigma: its standard deviation.
        k1: the first constant, which keeps quotients of means finite.
        k2: the second one, for quotients of variances.
        data_format: "channels_last" or "channels_first".

    Returns:
        One number for each pair of images, in the dtype of ``image1``.

    Raises:
        ShapeError: if the shapes differ, or the window is larger than the images.

    Example:
        >>> from handmill import ops
        >>> x = ops.reshape(ops.arange(256.0) / 256.0, (16, 16, 1))
        >>> float(ops.image.ssim(x, x).round(4))
        1.0

    References:
        - [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861)
    """
    first, second = images_of(image1, data_format), images_of(image2, data_format)
    if shape_of(first.x) != shape_of(second.x):
        raise ShapeError(
            "`image1` and `image2` must have the same shape. "
            f"Received: image1.shape={shape_of(first.x)}, image2.shape={shape_of(second.x)}"
        )
    axes = (first.height, first.width)
    width = _size("`filter_size`", filter_size)
    if min(fixed("ssim", first.x, *axes)) < width:
        raise ShapeError(
            f"`filter_size` must be at most the height and width of the images. Received: "
            f"filter_size={filter_size}, image1.shape={shape_of(first.x)}"
        )
    dtype = dtype_of(first.x)
    computed = "float64" if dtype == "float64" else "float32"
    x, y = cast(first.x, computed), cast(second.x, computed)
    window = gaussian(width, filter_sigma)

    def local(z: Any) -> Any:
        return filtered("ssim", z, axes, (window, window), padded=False)

    mean1, mean2 = local(x), local(y)
    var1, var2 = local(x * x) - mean1 * mean1, local(y * y) - mean2 * mean2
    covariance = local(x * y) - mean1 * mean2
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    top = (2.0 * mean1 * mean2 + c1) * (2.0 * covariance + c2)
    bottom = (mean1 * mean1 + mean2 * mean2 + c1) * (var1 + var2 + c2)
    inner = (first.height, first.width, first.channels)
    return cast(mean(top / bottom, axis=inner), dtype)
