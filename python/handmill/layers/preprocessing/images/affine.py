"""Images turned, moved, zoomed and sheared by affine functions of places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from handmill import ops
from handmill.layers.preprocessing.images.arguments import (
    FILL_MODES,
    INTERPOLATIONS,
    check_choice,
    each_within,
)
from handmill.layers.preprocessing.images.base import GeometricLayer
from handmill.layers.preprocessing.images.boxes import clip_to_image_size, convert_format


class AffineLayer(GeometricLayer):
    """Pulls images through an affine function of places.

    Args:
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant" or
            "nearest".
        interpolation: "nearest" or "bilinear".
        seed: an integer, or None.
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.
    """

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        check_choice("fill_mode", fill_mode, FILL_MODES)
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.fill_mode = fill_mode
        self.fill_value = fill_value
        self.interpolation = interpolation
        self._set_seed(seed)

    def _matrix(self, transformation: Any, height: Any, width: Any) -> Any:
        """Eight numbers for each image, as :func:`handmill.ops.image.affine_transform` takes."""
        return rows_of(self._numbers(transformation, height, width))

    def _numbers(self, transformation: Any, height: Any, width: Any) -> tuple[Any, ...]:
        """The first six of :meth:`_matrix`, columns ``(B, 1)`` or floats that all images share."""
        raise NotImplementedError(f"{type(self).__name__} defines no _numbers")

    def _moved(self, images: Any, transformation: Any, interpolation: str) -> Any:
        extent = self._extent(images)
        matrix = self._matrix(transformation, extent.height, extent.width)
        return self._sampled(images, matrix, interpolation)

    def _sampled(self, images: Any, matrix: Any, interpolation: str) -> Any:
        """Images at eight numbers for each of them."""
        return ops.image.affine_transform(
            images,
            matrix,
            interpolation=interpolation,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )

    def _size(self, transformation: Mapping[str, Any]) -> tuple[Any, Any]:
        """Height and width of the images that a transformation was drawn for."""
        height, width, _ = self._axes
        return transformation["input_shape"][height], transformation["input_shape"][width]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "fill_mode": self.fill_mode,
            "interpolation": self.interpolation,
            "seed": self.seed,
            "fill_value": self.fill_value,
        }


def rows_of(numbers: Sequence[Any]) -> Any:
    """Eight numbers for each image, of six columns ``(B, 1)`` or floats and two zeros."""
    batch = next(x for x in numbers if not isinstance(x, float))
    flat = ops.multiply(batch, 0.0)
    columns = [flat + x if isinstance(x, float) else x for x in (*numbers, 0.0, 0.0)]
    return ops.concatenate(columns, axis=1)


def _columns(x: Any) -> list[Any]:
    """Two numbers for each image, as two columns ``(B, 1)`` in float32."""
    found: list[Any] = ops.split(ops.cast(x, "float32"), 2, axis=1)
    return found


class RandomRotation(AffineLayer):
    """Turns images around their middle by random angles while training.

    Args:
        factor: a part of a full turn: 0.2 turns by up to 72 degrees either way, ``(-0.2, 0.3)``
            from 72 degrees clockwise to 108 the other way.
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant" or
            "nearest".
        interpolation: "nearest" or "bilinear".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a factor is outside [-1, 1].
        NotImplementedError: for another mode or interpolation.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomRotation(0.25, seed=1)(ops.ones((2, 4, 4, 3))).min().round(3)
        np.float32(1.0)
    """

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self._set_factor(factor)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws angles, in degrees."""
        if not training:
            return None
        extent = self._extent(data)
        low, high = self.factor
        angle = self._draws(seed).uniform((extent.batch,), low * 360.0, high * 360.0)
        matrix = _rotation(angle, extent.height, extent.width)
        return {
            "angle": angle,
            "rotation_matrix": ops.squeeze(matrix, 0) if extent.single else matrix,
            "image_height": extent.height,
            "image_width": extent.width,
            "batch_size": extent.batch,
        }

    def _matrix(self, transformation: Any, height: Any, width: Any) -> Any:
        return transformation["rotation_matrix"]

    def _numbers(self, transformation: Any, height: Any, width: Any) -> tuple[Any, ...]:
        matrix = ops.reshape(self._matrix(transformation, height, width), (-1, 8))
        return tuple(ops.split(matrix, 8, axis=1)[:6])

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Turns boxes: each becomes the box around its turned corners."""
        if not training or transformation is None:
            return bounding_boxes
        height, width = transformation["image_height"], transformation["image_width"]
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=height, width=width
        )
        angle = ops.reshape(ops.multiply(transformation["angle"], -math.pi / 180.0), (-1, 1, 1))
        cos, sin = ops.cos(angle), ops.sin(angle)
        x0, y0 = ((ops.cast(size, "float32") - 1.0) * 0.5 for size in (width, height))
        left, top, right, bottom = ops.split(found["boxes"], 4, axis=-1)
        corners = [(x - x0, y - y0) for x in (left, right) for y in (top, bottom)]
        xs = ops.concatenate([cos * x - sin * y + x0 for x, y in corners], axis=-1)
        ys = ops.concatenate([sin * x + cos * y + y0 for x, y in corners], axis=-1)
        ends = [f(v, axis=-1, keepdims=True) for f in (ops.min, ops.max) for v in (xs, ys)]
        found["boxes"] = ops.concatenate(ends, axis=-1)
        found = clip_to_image_size(found, height, width)
        return convert_format(found, "xyxy", self.bounding_box_format, height=height, width=width)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "factor": self.factor}


def _rotation(angle: Any, height: Any, width: Any) -> Any:
    """Rotations around the middle of images, by degrees ``(B,)``."""
    angle = ops.reshape(ops.multiply(angle, math.pi / 180.0), (-1, 1))
    cos, sin = ops.cos(angle), ops.sin(angle)
    x0, y0 = ((ops.cast(size, "float32") - 1.0) * 0.5 for size in (width, height))
    across = x0 - x0 * cos + y0 * sin
    down = y0 - x0 * sin - y0 * cos
    return rows_of((cos, -sin, across, sin, cos, down))


class RandomTranslation(AffineLayer):
    """Moves images by random distances while training.

    Args:
        height_factor: a part of the height: 0.2 moves by up to a fifth up or down, ``(-0.2, 0.3)``
            from a fifth upwards to three tenths downwards.
        width_factor: the same, of the width; positive is to the right.
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant" or
            "nearest".
        interpolation: "nearest" or "bilinear".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a factor is outside [-1, 1].
        NotImplementedError: for another mode or interpolation.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomTranslation(0.1, (0.0, 0.2))(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = height_factor
        self.height_lower, self.height_upper = each_within(
            "height_factor", height_factor, -1.0, 1.0
        )
        self.width_factor = width_factor
        self.width_lower, self.width_upper = each_within("width_factor", width_factor, -1.0, 1.0)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws distances in pixels, to the right and downwards."""
        if not training:
            return None
        extent = self._extent(data)
        draws, shape = self._draws(seed), (extent.batch, 1)
        down = draws.uniform(shape, self.height_lower, self.height_upper)
        right = draws.uniform(shape, self.width_lower, self.width_upper)
        down = ops.multiply(down, ops.cast(extent.height, "float32"))
        right = ops.multiply(right, ops.cast(extent.width, "float32"))
        translations = ops.concatenate([right, down], axis=1)
        return {"translations": translations, "input_shape": extent.shape}

    def _numbers(self, transformation: Any, height: Any, width: Any) -> tuple[Any, ...]:
        right, down = _columns(transformation["translations"])
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Moves boxes."""
        if not training or transformation is None:
            return bounding_boxes
        height, width = self._size(transformation)
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=height, width=width
        )
        right, down = _columns(transformation["translations"])
        moved = ops.expand_dims(ops.concatenate([right, down, right, down], axis=1), 1)
        found["boxes"] = ops.add(found["boxes"], moved)
        found = clip_to_image_size(found, height, width)
        return convert_format(found, "xyxy", self.bounding_box_format, height=height, width=width)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "height_factor": self.height_factor,
            "width_factor": self.width_factor,
        }


class RandomZoom(AffineLayer):
    """Zooms images by random factors while training.

    Args:
        height_factor: 0.2 zooms by up to a fifth out or in, ``(0.2, 0.3)`` out by 20 to 30 %;
            negative numbers zoom in.
        width_factor: the same for the width; default: as drawn for the height, so that images
            keep their proportions.
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant" or
            "nearest".
        interpolation: "nearest" or "bilinear".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a factor is outside (-1, 1].
        NotImplementedError: for another mode or interpolation.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomZoom(0.3)(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = height_factor
        self.height_lower, self.height_upper = each_within(
            "height_factor", height_factor, -1.0, 1.0, open_=True
        )
        self.width_factor = width_factor
        if width_factor is not None:
            self.width_lower, self.width_upper = each_within(
                "width_factor", width_factor, -1.0, 1.0, open_=True
            )

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws factors: above 1 more of the image, and what lies around it, is seen."""
        if not training:
            return None
        extent = self._extent(data)
        draws, shape = self._draws(seed), (extent.batch, 1)
        high = draws.uniform(shape, 1.0 + self.height_lower, 1.0 + self.height_upper)
        wide = high
        if self.width_factor is not None:
            wide = draws.uniform(shape, 1.0 + self.width_lower, 1.0 + self.width_upper)
        return {"height_zoom": high, "width_zoom": wide, "input_shape": extent.shape}

    def _numbers(self, transformation: Any, height: Any, width: Any) -> tuple[Any, ...]:
        high, wide = _zooms(transformation)
        x, y = ((ops.cast(size, "float32") - 1.0) / 2.0 for size in (width, height))
        return wide, 0.0, x * (1.0 - wide), 0.0, high, y * (1.0 - high)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Zooms boxes."""
        if not training or transformation is None:
            return bounding_boxes
        height, width = self._size(transformation)
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "xyxy", height=height, width=width
        )
        high, wide = (ops.expand_dims(x, 1) for x in _zooms(transformation))
        parts = []
        for corner, size, zoom in zip(
            ops.split(found["boxes"], 4, axis=-1),
            (width, height, width, height),
            (wide, high, wide, high),
            strict=True,
        ):
            size = ops.cast(size, "float32")
            start = (size - 1.0) / 2.0 * (1.0 - zoom)
            inside = ops.minimum(ops.maximum(corner, start), start + zoom * size)
            parts.append((inside - start) / zoom)
        found["boxes"] = ops.concatenate(parts, axis=-1)
        found = clip_to_image_size(found, height, width)
        return convert_format(found, "xyxy", self.bounding_box_format, height=height, width=width)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "height_factor": self.height_factor,
            "width_factor": self.width_factor,
        }


def _zooms(transformation: Any) -> list[Any]:
    return [
        ops.reshape(ops.cast(transformation[name], "float32"), (-1, 1))
        for name in ("height_zoom", "width_zoom")
    ]


class RandomShear(AffineLayer):
    """Shears images by random amounts while training.

    Args:
        x_factor: how far a row moves to the side for each pixel below the first: 0.2 for up to
            a fifth either way, ``(0.1, 0.3)`` for 10 to 30 %, in a direction that is drawn.
        y_factor: the same, of columns.
        interpolation: "nearest" or "bilinear".
        fill_mode: how images go on beyond their borders: "reflect", "wrap", "constant" or
            "nearest".
        fill_value: what is there for "constant".
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name``, ``bounding_box_format`` and the like.

    Raises:
        ValueError: if a factor is outside [0, 1].
        NotImplementedError: for another mode or interpolation.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomShear(0.2, 0.1)(ops.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self,
        x_factor: Any = 0.0,
        y_factor: Any = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor = each_within("x_factor", x_factor, 0.0, 1.0)
        self.y_factor = each_within("y_factor", y_factor, 0.0, 1.0)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws amounts, of rows and of columns."""
        if not training:
            return None
        extent = self._extent(data)
        draws, shape = self._draws(seed), (extent.batch, 1)
        sign = ops.where(ops.greater(draws.uniform(shape), 0.5), -1.0, 1.0)
        y = draws.uniform(shape, *self.y_factor)
        x = draws.uniform(shape, *self.x_factor)
        amounts = ops.multiply(ops.concatenate([x, y], axis=1), sign)
        return {"shear_factor": amounts, "input_shape": extent.shape}

    def _numbers(self, transformation: Any, height: Any, width: Any) -> tuple[Any, ...]:
        x, y = _columns(transformation["shear_factor"])
        return 1.0, x, 0.0, y, 1.0, 0.0

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Shears boxes, along x and then along y: each becomes the box around the result."""
        if not training or transformation is None:
            return bounding_boxes
        height, width = self._size(transformation)
        found = convert_format(
            bounding_boxes, self.bounding_box_format, "rel_xyxy", height=height, width=width
        )
        x, y = (ops.expand_dims(part, 1) for part in _columns(transformation["shear_factor"]))
        left, top, right, bottom = ops.split(found["boxes"], 4, axis=-1)
        upwards = ops.less(x, 0.0)
        left, right = (
            ops.where(upwards, left - x * top, left - x * bottom),
            ops.where(upwards, right - x * bottom, right - x * top),
        )
        rightwards = ops.greater(y, 0.0)
        top, bottom = (
            ops.where(rightwards, top - y * right, top - y * left),
            ops.where(rightwards, bottom - y * left, bottom - y * right),
        )
        found["boxes"] = ops.concatenate([left, top, right, bottom], axis=-1)
        found = clip_to_image_size(found, 1.0, 1.0)
        return convert_format(
            found, "rel_xyxy", self.bounding_box_format, height=height, width=width
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "x_factor": self.x_factor, "y_factor": self.y_factor}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer from its config.

        Keras writes the factor 0.2 as ``(-0.2, 0.2)``, which its own argument would refuse.
        """
        given = dict(config)
        for name in ("x_factor", "y_factor"):
            value = given.get(name)
            if isinstance(value, list | tuple) and len(value) == 2 and value[0] == -value[1]:
                given[name] = value[1]
        return super().from_config(given)
