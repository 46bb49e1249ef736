"""Images pulled into other forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from handmill.arguments import real_number
from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.ops.image.displacement import displaced, grid, order_of
from handmill.ops.image.interpolation import (
    check_mode,
    gathered,
    sampled_by_gathering,
)
from handmill.ops.image.layout import Images, images_of
from handmill.ops.image.matrices import filtered, fixed, gaussian, homography
from handmill.ops.numpy.arrange import moveaxis, pad
from handmill.ops.numpy.movement import reshape
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import Tensor, converted, dtype_of, shape_of, tensor
from handmill.primitives.sampling import SAMPLE_IMAGES

if TYPE_CHECKING:
    from handmill.random import SeedGenerator


def _projected(
    name: str, images: Images, matrix: Any, interpolation: str, fill_mode: str, fill_value: float
) -> Any:
    """Images of what lies at a projective function of places; see ``sampled_by_gathering``."""
    order = order_of(interpolation)
    pixels = moveaxis(images.x, images.channels, -1)
    shape = shape_of(pixels)
    batch = pixels if images.rank == 4 else reshape(pixels, (1, *shape))
    if dtype_of(batch) == dtype_of(matrix) == "float32":
        options = {"order": order, "fill_mode": fill_mode, "fill_value": float(fill_value)}
        found = apply(SAMPLE_IMAGES, batch, matrix, **options)
    else:
        fixed(name, images.x, images.height, images.width)
        found = sampled_by_gathering(batch, matrix, order, fill_mode, fill_value)
    found = found if images.rank == 4 else reshape(found, shape)
    return moveaxis(found, -1, images.channels)


def _of_each(name: str, images: Images, x: Any, shape: tuple[int, ...]) -> Any:
    """What is given once or for each image, as a batch of it."""
    own = shape_of(x)
    if len(own) not in (len(shape), len(shape) + 1) or own[-len(shape) :] != shape:
        raise ShapeError(
            f"Invalid {name} shape: expected {shape} for a single image or (N, "
            f"{str(shape)[1:].rstrip(',)')}) for a batch. Received shape: {own}"
        )
    x = reshape(x, (-1, *shape))
    count = shape_of(x)[0]
    batch = shape_of(images.x)[0] if images.rank == 4 else 1
    if count != 1 and isinstance(count, int) and isinstance(batch, int) and count != batch:
        raise ShapeError(f"`{name}` holds {count} transforms, but there are {batch} images")
    return x


def map_coordinates(
    inputs: Tensor,
    coordinates: Tensor,
    order: int,
    fill_mode: str = "constant",
    fill_value: float = 0,
) -> Any:
    """Returns the values of an array at coordinates between its elements.

    Args:
        inputs: an array of fixed shape.
        coordinates: along the first axis one coordinate for each axis of ``inputs``; the other
            axes are those of the result.
        order: 0 for the nearest element, 1 for linear interpolation.
        fill_mode: how the array goes on beyond its borders: "constant", "nearest", "wrap",
            "mirror" (the ends count once) or "reflect" (twice).
        fill_value: what is there for "constant".

    Returns:
        The values, in the dtype of ``inputs``; integers are rounded, halves away from zero.

    Raises:
        ValueError: if the shapes do not fit, or there is no such order or mode.

    Example:
        >>> from handmill import ops
        >>> ops.image.map_coordinates([0.0, 10.0, 20.0], [[0.5, 1.9, 3.0]], order=1)
        array([ 5., 19.,  0.], dtype=float32)
    """
    x, at = tensor(inputs), tensor(coordinates)
    rank, shape = len(shape_of(x)), shape_of(at)
    if not shape or shape[0] != rank:
        raise ShapeError(
            "First dim of `coordinates` must be the same as the rank of `inputs`. "
            f"Received inputs with shape: {shape_of(x)} and coordinates with shape: {shape}"
        )
    if len(shape) < 2:
        raise ShapeError(
            "Invalid coordinates rank: expected at least rank 2. "
            f"Received input with shape: {shape}"
        )
    check_mode(fill_mode)
    if order not in (0, 1):
        raise ValueError(
            f"Invalid value for argument `order`. Expected of one [0, 1]. Received: order={order}"
        )
    sizes = fixed("map_coordinates", x, *range(rank))
    parts = [reshape(slice_axis(at, 0, i, i + 1), shape[1:]) for i in range(rank)]
    found = gathered(reshape(x, (-1, 1)), sizes, parts, order, fill_mode, fill_value)
    return reshape(found, shape[1:])


def affine_transform(
    images: Tensor,
    transform: Tensor,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Any:
    """Moves, turns, shears and scales images.

    Args:
        images: one image or a batch, of fixed height and width.
        transform: ``(a0, a1, a2, b0, b1, b2, c0, c1)``, once or for each image: what comes to
            column x and row y lies at column ``a0 x + a1 y + a2`` and row ``b0 x + b1 y + b2``.
            As Keras documents for all backends but TensorFlow, ``c0`` and ``c1`` count as 0.
        interpolation: "bilinear" or "nearest".
        fill_mode: how images go on beyond their borders: "constant", "nearest", "wrap", "mirror"
            (the pixels at the borders count once) or "reflect" (twice).
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if the shapes do not fit, or there is no such interpolation or mode.

    Example:
        >>> from handmill import ops
        >>> row = ops.reshape([1.0, 2.0, 3.0], (1, 3, 1))
        >>> ops.image.affine_transform(row, [1, 0, 1, 0, 1, 0, 0, 0]).ravel()
        array([2., 3., 0.], dtype=float32)
    """
    order_of(interpolation)
    check_mode(fill_mode)
    found = images_of(images, data_format)
    transform = tensor(transform)
    rank = len(shape_of(transform))
    if rank not in (1, 2):
        raise ShapeError(
            "Invalid transform rank: expected rank 1 (single transform) or rank 2 (batch of "
            f"transforms). Received input with shape: transform.shape={shape_of(transform)}"
        )
    if dtype_of(transform) != "float64":
        transform = converted(transform, "float32")
    transform = _of_each("transform", found, transform, (8,))
    matrix = pad(slice_axis(transform, 1, 0, 6), [[0, 0], [0, 2]])
    return _projected("affine_transform", found, matrix, interpolation, fill_mode, fill_value)


def perspective_transform(
    images: Tensor,
    start_points: Tensor,
    end_points: Tensor,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Any:
    """Shows images as seen from elsewhere: four points come to four others.

    The equations are solved on the host.

    Args:
        images: one image or a batch, of fixed height and width.
        start_points: ``(4, 2)`` or ``(N, 4, 2)``: columns and rows of points in the images.
        end_points: where these come to.
        interpolation: "bilinear" or "nearest".
        fill_value: what is beyond the borders.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if the shapes do not fit, or there is no such interpolation.

    Example:
        >>> from handmill import ops
        >>> x = ops.reshape(ops.arange(4.0), (2, 2, 1))
        >>> corners = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
        >>> swapped = [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
        >>> ops.image.perspective_transform(x, corners, swapped).ravel()
        array([1., 0., 3., 2.], dtype=float32)
    """
    order_of(interpolation)
    found = images_of(images, data_format)
    start, end = tensor(start_points), tensor(end_points)
    start, end = converted(start, "float32"), converted(end, "float32")
    for name, points in (("start_points", start), ("end_points", end)):
        _of_each(name, found, points, (4, 2))
    if shape_of(start) != shape_of(end):
        raise ShapeError(
            "start_points and end_points must have the same shape. Received "
            f"start_points.shape={shape_of(start)}, end_points.shape={shape_of(end)}"
        )
    matrix = homography(reshape(start, (-1, 4, 2)), reshape(end, (-1, 4, 2)))
    name = "perspective_transform"
    return _projected(name, found, matrix, interpolation, "constant", fill_value)


def elastic_transform(
    images: Tensor,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: int | SeedGenerator | None = None,
    data_format: str | None = None,
) -> Any:
    """Moves each pixel by random distances that change smoothly over the image.

    Args:
        images: one image or a batch, of fixed height and width.
        alpha: what the blurred distances are multiplied with.
        sigma: the standard deviation of the distances, and of the Gaussian that blurs them.
        interpolation: "bilinear" or "nearest".
        fill_mode: see :func:`affine_transform`.
        fill_value: what is beyond the borders for "constant".
        seed: see :func:`handmill.random.normal`.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if there is no such interpolation or mode, or ``sigma`` is not above 0.

    Example:
        >>> from handmill import ops
        >>> float(ops.image.elastic_transform(ops.ones((8, 8, 1)), seed=0).mean())
        1.0

    References:
        - [Simard et al., 2003](https://doi.org/10.1109/ICDAR.2003.1227801)
    """
    from handmill import random

    order_of(interpolation)
    check_mode(fill_mode)
    found = images_of(images, data_format)
    alpha, sigma = real_number("`alpha`", alpha), real_number("`sigma`", sigma)
    if not sigma > 0:
        raise ValueError(f"`sigma` must be above 0. Received: sigma={sigma}")
    if hasattr(type(found.x), "record_function"):  # numbers are drawn when a model runs
        options = (alpha, sigma, interpolation, fill_mode, fill_value, seed, data_format)
        recorded = type(found.x).record_function
        return recorded("elastic_transform", lambda x: elastic_transform(x, *options), (found.x,))
    y, x = grid("elastic_transform", found)
    batch = shape_of(found.x)[0] if found.rank == 4 else 1
    shape: Sequence[Any] = (batch, *y.shape[1:])
    own = dtype_of(found.x)
    dtype = own if own in FLOATS and own != "bfloat16" else "float32"
    window = gaussian(int(6 * sigma) | 1, sigma)
    # One seed would give both the same numbers: they are drawn together.
    drawn = random.normal((2, *shape), 0.0, sigma, dtype, seed)
    moved = filtered("elastic_transform", drawn, (2, 3), (window, window), padded=True)
    right, down = (reshape(slice_axis(moved, 0, i, i + 1), shape) for i in range(2))
    down, right = y + alpha * down, x + alpha * right
    return displaced(found, down, right, interpolation, fill_mode, fill_value)
