"""Images of other sizes: a product with a small constant matrix along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.arguments import pair_of, whole_number
from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.ops import numpy as functions
from handmill.ops.core.conversion import cast, saturate_cast
from handmill.ops.image.layout import images_of
from handmill.ops.image.matrices import Kernel, along, fixed, keys_cubic, lanczos, triangle, weights
from handmill.ops.numpy.arrange import pad
from handmill.ops.numpy.elementwise import round
from handmill.ops.numpy.sorting import take
from handmill.primitives.emit import slice_axis
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    is_symbolic,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
)

_KERNELS: dict[str, Kernel | None] = {
    "bilinear": triangle,
    "nearest": None,
    "lanczos3": lanczos(3.0),
    "lanczos5": lanczos(5.0),
    "bicubic": keys_cubic,
}
_METHODS = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), triangle),
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), keys_cubic),
    "lanczos3": lanczos(3.0),
    "lanczos5": lanczos(5.0),
}


def _nearest(f: Any, size: Any, target: int) -> Any:
    # Products and quotients in float32, one rounding each, as Keras on JAX picks its pixels.
    at = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * cast(size, "float32")
    return cast(f.floor(at / np.float32(target)), "int32")


def _to_aspect(x: Any, axes: tuple[int, int], size: Sequence[int], crop: bool, fill: float) -> Any:
    height, width = (int(shape_of(x)[a]) for a in axes)
    like = (int(float(width * size[0]) / size[1]), int(float(height * size[1]) / size[0]))
    if crop:
        for axis, have, want in zip(axes, (height, width), like, strict=True):
            kept = max(min(have, want), 1)
            start = int(float(have - kept) / 2)
            x = slice_axis(x, axis, start, start + kept)
        return x
    rows, columns = (
        int(float(max(have, want) - have) / 2)
        for have, want in zip((height, width), like, strict=True)
    )
    around: list[Any] = [[0, 0] for _ in shape_of(x)]
    if rows:
        around[axes[0]] = [rows, rows]
    else:
        around[axes[1]] = [columns, columns]
    return pad(x, around, constant_values=fill) if rows or columns else x


def resize(
    images: Tensor,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Any:
    """Makes images larger or smaller.

    Args:
        images: one image or a batch; integers are rounded to the nearest at the end.
        size: height and width of the result.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        antialias: whether each pixel of a smaller image is made of all that it covers.
        crop_to_aspect_ratio: whether the largest window of the new proportions is taken, instead
            of pulling the image to them.
        pad_to_aspect_ratio: whether the image is padded evenly to the new proportions.
        fill_mode: only "constant".
        fill_value: what is padded.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: if a setting is none of those above.
        ShapeError: if the proportions of the images count, and a call decides them.

    Example:
        >>> from handmill import ops
        >>> ops.image.resize([[[0.0], [2.0]]], (1, 4)).ravel()
        array([0. , 0.5, 1.5, 2. ], dtype=float32)
    """
    size = pair_of("`size`", size, whole_number, "integers")
    if size[0] <= 0 or size[1] <= 0:
        raise ValueError(f"`size` must have positive height and width. Received: size={size}")
    if interpolation not in _KERNELS:
        raise ValueError(
            "Invalid value for argument `interpolation`. Expected of one "
            f"{tuple(_KERNELS)}. Received: interpolation={interpolation}"
        )
    if fill_mode != "constant":
        raise ValueError(
            "Invalid value for argument `fill_mode`. Only `'constant'` is supported. "
            f"Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError(
            "Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`."
        )
    found = images_of(images, data_format)
    x, axes = found.x, (found.height, found.width)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        fixed("resize", x, *axes)
        x = _to_aspect(x, axes, size, crop_to_aspect_ratio, fill_value)
    dtype, kernel = dtype_of(x), _KERNELS[interpolation]
    computed = dtype if dtype in FLOATS else "float32"
    for axis, target in zip(axes, size, strict=True):
        have = shape_of(x)[axis]
        if have == target:
            continue
        f: Any = np if isinstance(have, int) else functions
        if kernel is None:
            x = take(x, _nearest(f, have, int(target)), axis=axis)
            continue
        step = cast(have, "float64") / np.float64(target)
        matrix = weights(f, have, int(target), step, 0.0, kernel, antialias)
        x = along(cast(x, computed), axis, cast(matrix, computed))
    if dtype_of(x) == dtype:
        return x
    return saturate_cast(round(x), dtype)


def scale_and_translate(
    images: Tensor,
    output_shape: Sequence[int | None],
    scale: Tensor,
    translation: Tensor,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Any:
    """Scales images about their corner and moves them; what comes from outside is 0.

    Args:
        images: an array of any number of axes.
        output_shape: the shape of the result; along other axes than those of ``spatial_dims`` that
            of the images, or None.
        scale: a factor for each of ``spatial_dims``.
        translation: how far each is moved, in pixels of the result.
        spatial_dims: the axes.
        method: "linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic", "lanczos3" or
            "lanczos5".
        antialias: whether each pixel of a smaller image is made of all that it covers.

    Returns:
        The images; integers become float32.

    Raises:
        ValueError: if there is no such method, or the numbers of axes differ.
        ShapeError: if an axis has no fixed size.

    Example:
        >>> from handmill import ops
        >>> x = ops.arange(3.0)
        >>> ops.image.scale_and_translate(x, (5,), [2.0], [-0.5], (0,), "linear")
        array([0. , 0.5, 1. , 1.5, 2. ], dtype=float32)
    """
    if method not in _METHODS:
        raise ValueError(
            "Invalid value for argument `method`. Expected of one "
            f"{tuple(_METHODS)}. Received: method={method}"
        )
    (x,) = promote_float(images)
    own, wanted = shape_of(x), list(output_shape)
    axes = [normal_axis("scale_and_translate", axis, len(own)) for axis in spatial_dims]
    scale, translation = tensor(scale), tensor(translation)
    for name, given in (("scale", scale), ("translation", translation)):
        if shape_of(given) != (len(axes),):
            raise ShapeError(
                f"`{name}` must hold one number for each of spatial_dims={tuple(spatial_dims)}. "
                f"Received: {name}.shape={shape_of(given)}"
            )
    if len(set(axes)) != len(axes):
        raise ShapeError(f"`spatial_dims` must differ. Received: spatial_dims={spatial_dims}")
    others = [a for a in range(len(own)) if a not in axes]
    if len(wanted) != len(own) or any(wanted[a] not in (None, own[a]) for a in others):
        raise ShapeError(
            "`output_shape` must be the shape of the images but for `spatial_dims`. Received: "
            f"output_shape={tuple(wanted)}, images.shape={own}, spatial_dims={tuple(spatial_dims)}"
        )
    sizes = fixed("scale_and_translate", x, *axes)
    f = functions if is_symbolic(scale) or is_symbolic(translation) else np
    exact = "float64" if "float64" in (dtype_of(scale), dtype_of(translation)) else "float32"
    steps = 1.0 / converted(scale, exact)
    shifts = converted(translation, exact) * steps
    for i, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        target = wanted[axis]
        if target is None:
            raise ShapeError(f"`output_shape` must say the size along axis {axis}, got None")
        found = weights(f, size, int(target), steps[i], shifts[i], _METHODS[method], antialias)
        x = along(x, axis, converted(found, dtype_of(x)))
    return x
