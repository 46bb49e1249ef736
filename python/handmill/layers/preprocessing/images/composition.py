"""Neighbouring layers that move pixels by affine functions of places, as one sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.images.affine import (
    AffineLayer,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
    rows_of,
)
from handmill.layers.preprocessing.images.flip import RandomFlip

# No subclasses: what one of them overrides would be passed over.
_AFFINE: tuple[type[Layer], ...] = (RandomRotation, RandomShear, RandomTranslation, RandomZoom)


class AffineRun:
    """Layers that follow one another, of which images are sampled once.

    What comes to a place lies where the last layer says, seen by the one before, and so on to the
    first: the functions are composed, and their result is a function of that kind again. It is
    drawn as by the layers one by one.

    Args:
        layers: at least two, one of which is an ``AffineLayer``; all sample alike.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = list(layers)

    def __call__(self, images: Any, training: bool) -> Any:
        """Images, or one image, as all layers leave them."""
        first = self.layers[0]
        images = ops.cast(ops.convert_to_tensor(images), first.compute_dtype)
        if not training:
            return images
        extent = first._extent(images)
        found: tuple[Any, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        for layer in self.layers:
            drawn = layer.get_random_transformation(images, training=True)
            sizes = extent.height, extent.width
            is_flip = isinstance(layer, RandomFlip)
            numbers = _flip(layer, drawn, *sizes) if is_flip else layer._numbers(drawn, *sizes)
            found = _composed(found, numbers)
        sampler = next(layer for layer in self.layers if isinstance(layer, AffineLayer))
        return sampler._of_batch(sampler._sampled, images, rows_of(found), sampler.interpolation)


def with_runs(layers: Sequence[Any]) -> list[Any]:
    """Layers in their order, those that can be sampled at once as an :class:`AffineRun`."""
    found: list[Any] = []
    run: list[Any] = []

    def close() -> None:
        together = len(run) > 1 and any(type(layer) in _AFFINE for layer in run)
        found.extend([AffineRun(run)] if together else run)
        run.clear()

    for layer in layers:
        if type(layer) not in (*_AFFINE, RandomFlip):
            close()
            found.append(layer)
            continue
        if not all(_alike(layer, other) for other in run):
            close()
        run.append(layer)
    close()
    return found


def _alike(a: Any, b: Any) -> bool:
    """Whether two layers take images of one form, and sample them in one way."""
    if (a.data_format, a.compute_dtype) != (b.data_format, b.compute_dtype):
        return False
    names = ("fill_mode", "fill_value", "interpolation")
    return any(isinstance(layer, RandomFlip) for layer in (a, b)) or all(
        getattr(a, name) == getattr(b, name) for name in names
    )


def _flip(layer: RandomFlip, drawn: Any, height: Any, width: Any) -> tuple[Any, ...]:
    """Mirror images as :meth:`AffineLayer._numbers` of them."""
    flips = ops.reshape(drawn["flips"], (-1, 1))
    found: list[Any] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, scale, shift, size in (("horizontal", 0, 2, width), ("vertical", 4, 5, height)):
        if name in layer.mode:
            found[scale] = ops.where(flips, -1.0, 1.0)
            found[shift] = ops.where(flips, ops.cast(size, "float32") - 1.0, 0.0)
    return tuple(found)


def _composed(outer: Sequence[Any], inner: Sequence[Any]) -> tuple[Any, ...]:
    """The numbers of ``outer(inner(place))``."""
    found = []
    for across, down, shift in (outer[:3], outer[3:]):
        parts = [_plus(_times(across, inner[i]), _times(down, inner[i + 3])) for i in range(3)]
        found += [*parts[:2], _plus(parts[2], shift)]
    return tuple(found)


def _is(x: Any, value: float) -> bool:
    return isinstance(x, float) and x == value


def _times(x: Any, y: Any) -> Any:
    if _is(x, 0.0) or _is(y, 0.0):
        return 0.0
    if _is(x, 1.0):
        return y
    return x if _is(y, 1.0) else x * y


def _plus(x: Any, y: Any) -> Any:
    if _is(x, 0.0):
        return y
    return x if _is(y, 0.0) else x + y
