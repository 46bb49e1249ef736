"""What happens to an image in augmentation: the random parameters, their matrices, the pixels.

The parameters are Keras's, drawn in Keras's order. They come from one of two sources: numbers
addressed by (seed, pass, image), so that a batch does not depend on who computes it when; or, for
``compat="keras3"`` and for an explicit ``seed=``, the stream of a NumPy RandomState, number for
number as Keras draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.keyed_random import uniform

if TYPE_CHECKING:
    from handmill.ir.op import Array

# Keyed draws of an image: at most two for each shift, two for the zoom, one for all others.
SLOTS = 16


@dataclass(frozen=True)
class Ranges:
    """The random part of an ImageDataGenerator's arguments."""

    rotation: float
    height_shift: Any
    width_shift: Any
    shear: float
    zoom: tuple[float, float]
    horizontal_flip: bool
    vertical_flip: bool
    channel_shift: float
    brightness: tuple[float, float] | None

    @property
    def moves(self) -> bool:
        """Whether pixels change their place other than by a flip."""
        return bool(
            self.rotation
            or self.shear
            or np.any(self.height_shift)
            or np.any(self.width_shift)
            or self.zoom != (1, 1)
        )

    @property
    def changes(self) -> bool:
        """Whether anything random happens at all."""
        colours = self.channel_shift != 0 or self.brightness is not None
        return self.moves or self.horizontal_flip or self.vertical_flip or colours


@dataclass
class Transforms:
    """The parameters of a batch: arrays of B numbers, or None where that transform is absent."""

    theta: Array
    tx: Array
    ty: Array
    shear: Array
    zx: Array
    zy: Array
    flip_horizontal: Array
    flip_vertical: Array
    channel_shift_intensity: Array | None
    brightness: Array | None

    def one(self, b: int) -> dict[str, Any]:
        """The parameters of image ``b`` as Keras's dictionary."""
        return {
            field.name: None if value is None else value[b].item()
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }


_NEUTRAL = {"zx": 1, "zy": 1, "channel_shift_intensity": None, "brightness": None}


def stack(parameters: Sequence[dict[str, Any]]) -> Transforms:
    """Dictionaries of Keras, one for each image, as one record; absent keys are neutral.

    The two colour transforms must be given for all images or for none.
    """
    columns: dict[str, Any] = {}
    for field in fields(Transforms):
        values = [p.get(field.name, _NEUTRAL.get(field.name, 0)) for p in parameters]
        absent = any(value is None for value in values)
        columns[field.name] = None if absent else np.asarray(values, np.float64)
    return Transforms(**columns)


# --- Draws ---------------------------------------------------------------------------------------


def _choices(shift: Any) -> Array | None:
    """What NumPy's choice() picks from, None where the range is that of a uniform number."""
    values = np.asarray(shift)
    if values.ndim == 1:
        return values
    if values.ndim == 0 and values.dtype.kind in "iu" and values > 0:
        return np.arange(int(values))
    return None


def _unit(shift: Any, length: int) -> int:
    """Shifts below 1 are fractions of the image's length, others are pixels."""
    return length if np.max(shift) < 1 else 1


class _KeyedDraws:
    """Columns of numbers in [0, 1), one row an image, taken in Keras's order."""

    def __init__(self, key: int, indices: Array) -> None:
        positions = indices[None, :] * SLOTS + np.arange(SLOTS)[:, None]
        self._columns = iter(uniform(key, positions))
        self.zero = np.zeros(len(indices))

    def uniform(self, low: float, high: float) -> Array:
        return low + (high - low) * next(self._columns)  # type: ignore[no-any-return]

    def shift(self, shift: Any, length: int) -> Array:
        if not np.any(shift):
            return self.zero
        choices = _choices(shift)
        if choices is None:
            drawn = self.uniform(-shift, shift)
        else:
            drawn = choices[(next(self._columns) * len(choices)).astype(np.int64)]
            drawn = drawn * np.where(next(self._columns) < 0.5, -1, 1)
        return drawn * _unit(shift, length)

    def flip(self, wanted: bool) -> Array:
        return (next(self._columns) < 0.5) & wanted  # type: ignore[no-any-return]


def draw(ranges: Ranges, key: int, indices: Array, height: int, width: int) -> Transforms:
    """Draws the parameters of the images ``indices`` from the numbers under ``key``."""
    d = _KeyedDraws(key, indices)
    theta = d.uniform(-ranges.rotation, ranges.rotation) if ranges.rotation else d.zero
    tx = d.shift(ranges.height_shift, height)
    ty = d.shift(ranges.width_shift, width)
    shear = d.uniform(-ranges.shear, ranges.shear) if ranges.shear else d.zero
    zx = zy = d.zero + 1
    if ranges.zoom != (1, 1):
        zx = d.uniform(*ranges.zoom)
        zy = d.uniform(*ranges.zoom)
    flip_horizontal = d.flip(ranges.horizontal_flip)
    flip_vertical = d.flip(ranges.vertical_flip)
    shift = ranges.channel_shift
    intensity = d.uniform(-shift, shift) if shift != 0 else None
    brightness = d.uniform(*ranges.brightness) if ranges.brightness is not None else None
    return Transforms(
        theta, tx, ty, shear, zx, zy, flip_horizontal, flip_vertical, intensity, brightness
    )


def draw_keras(ranges: Ranges, source: Any, height: int, width: int) -> dict[str, Any]:
    """Draws the parameters of one image exactly as Keras does.

    Args:
        ranges: what to draw.
        source: a RandomState, or the module numpy.random for NumPy's global generator.
        height: of the image.
        width: of the image.
    """

    def shift(wanted: Any, length: int) -> Any:
        if not np.any(wanted):
            return 0
        if _choices(wanted) is None:
            drawn = source.uniform(-wanted, wanted)
        else:
            drawn = source.choice(wanted)
            drawn = drawn * source.choice([-1, 1])
        return drawn * _unit(wanted, length)

    theta = source.uniform(-ranges.rotation, ranges.rotation) if ranges.rotation else 0
    tx = shift(ranges.height_shift, height)
    ty = shift(ranges.width_shift, width)
    shear = source.uniform(-ranges.shear, ranges.shear) if ranges.shear else 0
    zx, zy = (1, 1) if ranges.zoom == (1, 1) else source.uniform(*ranges.zoom, 2)
    flip_horizontal = (source.random() < 0.5) * ranges.horizontal_flip
    flip_vertical = (source.random() < 0.5) * ranges.vertical_flip
    intensity = brightness = None
    if ranges.channel_shift != 0:
        intensity = source.uniform(-ranges.channel_shift, ranges.channel_shift)
    if ranges.brightness is not None:
        brightness = source.uniform(*ranges.brightness)
    return {
        "theta": theta,
        "tx": tx,
        "ty": ty,
        "shear": shear,
        "zx": zx,
        "zy": zy,
        "flip_horizontal": flip_horizontal,
        "flip_vertical": flip_vertical,
        "channel_shift_intensity": intensity,
        "brightness": brightness,
    }


# --- Matrices ------------------------------------------------------------------------------------


def matrices(t: Transforms, height: int, width: int, *, keras_axes: bool) -> Array:
    """Where in the source the pixels of the results come from, (B, 6) for the warp.

    Keras composes rotation, shift, shear and zoom in coordinates (x, y), M = R T Sh Z about the
    centre, and then exchanges the axes to get (row, column). Two slips of its are mended unless
    ``keras_axes``: its shift along x is the one drawn from ``height_shift_range``, and its centre
    has height and width exchanged, which shows in images that are not square.
    """
    if keras_axes:
        shift_x, shift_y, size_x, size_y = t.tx, t.ty, height, width
    else:
        shift_x, shift_y, size_x, size_y = t.ty, t.tx, width, height
    theta = np.deg2rad(t.theta)
    shear = np.deg2rad(t.shear)
    cos, sin = np.cos(theta), np.sin(theta)
    shear_cos, shear_sin = np.cos(shear), np.sin(shear)
    xx = cos * t.zx
    xy = (-cos * shear_sin - sin * shear_cos) * t.zy
    yx = sin * t.zx
    yy = (-sin * shear_sin + cos * shear_cos) * t.zy
    centre_x, centre_y = size_x / 2 - 0.5, size_y / 2 - 0.5
    # In Keras's order of operations: at the edges of "constant" and "wrap" the last bit counts.
    offset_x = (xx * -centre_x - xy * centre_y) + (cos * shift_x - sin * shift_y + centre_x)
    offset_y = (yx * -centre_x - yy * centre_y) + (sin * shift_x + cos * shift_y + centre_y)
    result = np.empty((len(theta), 6))
    for k, column in enumerate((yy, yx, offset_y, xy, xx, offset_x)):
        result[:, k] = column
    return result


def flip_bits(t: Transforms) -> Array:
    """The flips as the warp wants them: bit 0 mirrors columns, bit 1 rows."""
    horizontal = t.flip_horizontal.astype(np.uint8)
    vertical = t.flip_vertical.astype(np.uint8)
    result: Array = horizontal | vertical << np.uint8(1)
    return result


# --- Pixels --------------------------------------------------------------------------------------


def warp_function() -> Callable[..., None]:
    """The warp of the executor in use: the kernel, or its twin in NumPy."""
    if config.backend() == "native":
        from handmill import _core

        warp: Callable[..., None] = _core.warp_batch
        return warp
    from handmill.data.images.warp_reference import warp_batch

    return warp_batch


def shift_channels(x: Array, intensity: Array) -> Array:
    """Adds a number to each image (B, H, W, C), within the image's own least and largest value."""
    axes = (1, 2, 3)
    low, high = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    result: Array = np.clip(x + intensity.astype(x.dtype)[:, None, None, None], low, high)
    return result


def shift_brightness(x: Array, factor: Array) -> Array:
    """Multiplies images (B, H, W, C) as Pillow's ImageEnhance.Brightness does on 8-bit images.

    An image with values outside of 0..255 is first stretched to that range and then back. The
    alpha channel of four is kept.
    """
    axes = (1, 2, 3)
    low, high = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    beyond = (low < 0) | (high > 255)
    span = high - low
    with np.errstate(invalid="ignore"):
        stretched = (x - low) / np.where(span == 0, 1, span) * 255
        pixels = np.where(beyond, stretched, x).astype(np.uint8)
    blend = factor.astype(np.float32)[:, None, None, None]
    bright = np.clip(pixels * blend, 0, 255).astype(np.uint8).astype(x.dtype)
    if x.shape[3] == 4:
        bright[..., 3] = pixels[..., 3]
    result: Array = np.where(beyond, bright / x.dtype.type(255) * span + low, bright)
    return result
