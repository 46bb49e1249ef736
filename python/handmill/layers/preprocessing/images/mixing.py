"""Images made of two, and images with a part missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops, random
from handmill.layers.preprocessing.images.arguments import (
    checked_range,
    factor_range,
    is_number,
)
from handmill.layers.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    ColorLayer,
    Extent,
    column,
)
from handmill.layers.preprocessing.images.draws import Draws


def _order(draws: Draws, batch: Any) -> Any:
    """The rows of a batch in a random order."""
    # Counted along a draw, so that it can be traced: the batch has no fixed size.
    places = ops.cumsum(ops.ones_like(draws.uniform((batch,)), dtype="int32")) - 1
    return random.shuffle(places, seed=draws.next())


def _boxed(draws: Draws, extent: Extent, across: Any, down: Any) -> tuple[Any, ...]:
    """A box in each image, of these shares of its width and height: ``x0, x1, y0, y1``."""
    ends: list[Any] = []
    for share, size in ((across, extent.width), (down, extent.height)):
        length = ops.multiply(share, ops.cast(size, "float32"))
        start = draws.uniform((extent.batch,)) * (ops.cast(size, "float32") - length)
        ends += [start, ops.add(start, length)]
    return tuple(ends)


class _Masked(BaseImagePreprocessingLayer):
    """Chooses a box of each image."""

    def _inside(self, extent: Extent, box: tuple[Any, ...]) -> Any:
        """Where pixels lie in the box of their image."""
        first = self.data_format == "channels_first"
        rows, columns = (ops.arange(n, dtype="float32") for n in (extent.height, extent.width))
        rows = ops.reshape(rows, (1, 1, -1, 1) if first else (1, -1, 1, 1))
        columns = ops.reshape(columns, (1, 1, 1, -1) if first else (1, 1, -1, 1))
        x0, x1, y0, y1 = (column(end) for end in box)
        across = ops.logical_and(ops.greater_equal(columns, x0), ops.less(columns, x1))
        down = ops.logical_and(ops.greater_equal(rows, y0), ops.less(rows, y1))
        return ops.logical_and(across, down)


class MixUp(BaseImagePreprocessingLayer):
    """Blends each image, and its label, with another of the batch, while training.

    Args:
        alpha: of the distribution Beta(alpha, alpha) of the share of an image itself.
        data_format: "channels_last" or "channels_first".
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``alpha`` is not above 0.

    Example:
        >>> from handmill import layers, ops
        >>> data = {"images": ops.ones((4, 8, 8, 3)), "labels": ops.eye(4)}
        >>> layers.MixUp()(data)["labels"].sum(axis=1)
        array([1., 1., 1., 1.], dtype=float32)

    References:
        - [Zhang et al., 2017](https://arxiv.org/abs/1710.09412)
    """

    def __init__(
        self,
        alpha: float = 0.2,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        if not is_number(alpha) or not alpha > 0:
            raise ValueError(f"`alpha` must be a number above 0. Received: alpha={alpha}")
        self.alpha = alpha
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws shares and partners."""
        if not training:
            return None
        batch, draws = self._extent(data).batch, self._draws(seed)
        order = _order(draws, batch)
        share = random.beta((batch,), self.alpha, self.alpha, "float32", draws.next())
        return {"mix_weight": share, "permutation_order": order}

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Blends images."""
        images = ops.cast(images, self.compute_dtype)
        return self._blended(images, transformation, 4) if training else images

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        """Blends labels, which are shares of classes; a class number for each image is refused.

        Raises:
            ValueError: for class numbers.
        """
        if not training:
            return labels
        labels = _shares("MixUp", labels, self.compute_dtype)
        return self._blended(labels, transformation, 2)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Blends masks."""
        if not training:
            return segmentation_masks
        masks = ops.cast(segmentation_masks, self.compute_dtype)
        return self._blended(masks, transformation, 4)

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Puts the boxes of both images side by side."""
        if not training:
            return bounding_boxes
        order = transformation["permutation_order"]
        return {
            **bounding_boxes,
            **{
                key: ops.concatenate(
                    [bounding_boxes[key], ops.take(bounding_boxes[key], order, axis=0)], axis=1
                )
                for key in ("boxes", "labels")
            },
        }

    def _blended(self, x: Any, transformation: Any, rank: int) -> Any:
        share = column(ops.cast(transformation["mix_weight"], self.compute_dtype), rank)
        other = ops.take(x, transformation["permutation_order"], axis=0)
        return ops.add(ops.multiply(share, x), ops.multiply(ops.subtract(1.0, share), other))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "alpha": self.alpha, "seed": self.seed}


def _shares(name: str, labels: Any, dtype: str) -> Any:
    """Labels as shares of classes."""
    if len(labels.shape) != 2:
        raise ValueError(
            f"{name} blends labels, so it needs a row of shares of classes for each image "
            "(`ops.one_hot` makes them of class numbers). Received: labels.shape="
            f"{tuple(labels.shape)}"
        )
    return ops.cast(labels, dtype)


class CutMix(_Masked):
    """Replaces a box of each image by that of another of the batch while training; mixes labels so.

    Args:
        factor: of the distribution Beta(factor, factor) of what stays of an image: the largest, or
            the least and the largest of a uniform draw.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if the factor is outside [0, 1].

    Example:
        >>> from handmill import layers, ops
        >>> data = {"images": ops.ones((4, 8, 8, 3)), "labels": ops.eye(4)}
        >>> layers.CutMix()(data)["images"].min()
        np.float32(1.0)

    References:
        - [Yun et al., 2019](https://arxiv.org/abs/1905.04899)
    """

    _FACTOR_BOUNDS = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws boxes and partners; None for one image alone."""
        extent = self._extent(data)
        if not training or extent.single:
            return None
        draws = self._draws(seed)
        alpha = ops.add(draws.uniform((), *self.factor), 1e-6)
        share = random.beta((extent.batch,), alpha, alpha, "float32", draws.next())
        side = ops.sqrt(ops.subtract(1.0, share))
        x0, x1, y0, y1 = box = _boxed(draws, extent, side, side)
        area = ops.cast(extent.width * extent.height, "float32")
        return {
            "permutation_order": _order(draws, extent.batch),
            "batch_masks": self._inside(extent, box),
            "mix_weight": 1.0 - (x1 - x0) * (y1 - y0) / area,
        }

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Replaces boxes."""
        images = ops.cast(images, self.compute_dtype)
        if not training or transformation is None:
            return images
        other = ops.take(images, transformation["permutation_order"], axis=0)
        return ops.where(transformation["batch_masks"], other, images)

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        """Mixes labels, which are shares of classes; a class number for each image is refused.

        Raises:
            ValueError: for class numbers.
        """
        if not training or transformation is None:
            return labels
        labels = _shares("CutMix", labels, self.compute_dtype)
        share = column(ops.cast(transformation["mix_weight"], self.compute_dtype), 2)
        other = ops.take(labels, transformation["permutation_order"], axis=0)
        return ops.add(ops.multiply(share, labels), ops.multiply(ops.subtract(1.0, share), other))

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        """Replaces the boxes in masks."""
        return self.transform_images(segmentation_masks, transformation, training=training)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "factor": self.factor, "seed": self.seed}


class RandomErasing(_Masked, ColorLayer):
    """Overwrites a box of some images while training.

    Args:
        factor: the largest probability with which an image changes, or the least and the largest.
        scale: the least and the largest share of the image that a box takes, from 0 to 1.
        fill_value: what is written: a number, or one for each of three channels; None for normal
            numbers times the largest value of a pixel.
        value_range: the least and the largest value of a pixel; what is written is cut off there.
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        data_format: "channels_last" or "channels_first".
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if a factor is outside [0, 1], or ``fill_value`` is none of these.

    Example:
        >>> from handmill import layers, ops
        >>> layers.RandomErasing((1, 1), scale=(1, 1), fill_value=7)(ops.ones((1, 2, 1, 1))).ravel()
        array([7., 7.], dtype=float32)

    References:
        - [Zhong et al., 2017](https://arxiv.org/abs/1708.04896)
    """

    _FACTOR_BOUNDS = (0, 1)
    _MOVES_PIXELS = False

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = (0.02, 0.33),
        fill_value: Any = None,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._set_factor(factor)
        self.scale = factor_range("scale", scale, (0, 1))
        listed = isinstance(fill_value, list | tuple) and len(fill_value) == 3
        if not (
            fill_value is None
            or is_number(fill_value)
            or (listed and all(is_number(x) for x in fill_value))
        ):
            raise ValueError(
                "The `fill_value` argument should be a number (or a list of three numbers), or "
                f"None. Received: fill_value={fill_value}"
            )
        self.fill_value = fill_value
        self.value_range = checked_range(value_range)
        self._set_seed(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Draws boxes, which images change, and what is written."""
        if not training:
            return None
        extent, draws = self._extent(data), self._draws(seed)
        shares = ops.sqrt(draws.uniform((extent.batch, 2), *self.scale))
        across, down = (ops.reshape(x, (-1,)) for x in ops.split(shares, 2, axis=1))
        box = _boxed(draws, extent, across, down)
        apply = draws.chance(extent.batch, self.factor)
        low, high = sorted(self.value_range)
        fill: Any
        if self.fill_value is None:
            drawn = draws.normal(extent.shape)
            fill = ops.clip(ops.multiply(drawn, float(self.value_range[1])), low, high)
        else:
            fill = np.clip(np.asarray(self.fill_value, np.float32), low, high)
            if fill.ndim:
                fill = fill.reshape((3, 1, 1) if self.data_format == "channels_first" else (3,))
        return {
            "apply_erasing": apply,
            "batch_masks": self._inside(extent, box),
            "fill_value": fill,
        }

    def _colored(self, images: Any, transformation: Any) -> Any:
        fill = ops.cast(transformation["fill_value"], self.compute_dtype)
        erased = ops.logical_and(
            column(transformation["apply_erasing"]), transformation["batch_masks"]
        )
        return ops.where(erased, fill, images)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "scale": self.scale,
            "fill_value": self.fill_value,
            "value_range": self.value_range,
            "seed": self.seed,
        }
