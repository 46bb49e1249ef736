"""Pictures of images and of what a network makes of them; public as ``handmill.plot``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.inspection.plots import finished, new_figure
from handmill.ir.op import Array

_COLUMNS = 8
_MOST_PLANES = 16  # of a kernel with many channels


def images(
    x: Any,
    titles: Sequence[str] | None = None,
    columns: int = _COLUMNS,
    title: str = "",
    to_file: Any = None,
) -> Any:
    """Draws images side by side.

    Whole numbers are levels from 0 to 255. Floats are taken from 0 to 1 or from 0 to 255 if all of
    them lie there; else the least of all is black and the largest white.

    Args:
        x: images (n, height, width, channels) of 1, 3 or 4 channels, or (n, height, width).
        titles: stand above each.
        columns: images in a row.
        title: stands above all.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: for another shape, no image, or another number of titles.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np, handmill
        >>> figure = handmill.plot.images(np.zeros((3, 8, 8, 1)), titles=["a", "b", "c"])
        >>> [axes.get_title() for axes in figure.axes]
        ['a', 'b', 'c']
    """
    shown = _levels("images", x)
    if titles is not None and len(titles) != len(shown):
        raise ValueError(f"images: {len(shown)} images, but {len(titles)} titles")
    columns = whole_number("images: `columns`", columns, 1)
    return finished(_grid(list(shown), titles, min(columns, len(shown))), title, to_file)


def augmentations(
    augment: Any, x: Any, views: int = 6, title: str = "", to_file: Any = None
) -> Any:
    """Draws images, and beside each what an augmentation makes of it: look before you train.

    Args:
        augment: a layer or a model of layers, called with ``training=True``; an
            ``ImageDataGenerator``; or a function of a batch of images.
        x: images (n, height, width, channels); each has a row.
        views: how often each is augmented.
        title: stands above.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure. The generators of random numbers have gone on, as in training.

    Raises:
        ValueError: for another shape, or no image.
        TypeError: if ``augment`` is none of these.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> x = np.random.default_rng(0).random((2, 8, 8, 1))
        >>> figure = handmill.plot.augmentations(layers.GaussianNoise(0.1), x, views=3)
        >>> len(figure.axes)
        8
    """
    originals = np.asarray(x)
    _levels("augmentations", originals)
    views = whole_number("augmentations: `views`", views, 1)
    function = _augmentation(augment)
    made = [np.asarray(function(originals)) for _ in range(views)]
    # In one range with the originals, so that a change of brightness is seen.
    tiles: list[Array] = []
    for row, original in enumerate(originals):
        same_size = all(view.shape[1:3] == original.shape[:2] for view in made)
        group = [original, *(view[row] for view in made)]
        tiles += list(_levels("augmentations", group)) if same_size else _each(group)
    titles = ["original", *[""] * views] + [""] * (len(tiles) - views - 1)
    return finished(_grid(tiles, titles, views + 1), title, to_file)


def filters(layer: Any, count: int = 64, title: str = "", to_file: Any = None) -> Any:
    """Draws the filters of a convolution: what each of them looks for.

    Filters over 1 or 3 channels are images. Of others each row is a filter, and each image what it
    does to one channel (16 at most). Grey is 0 where a filter has one channel an image.

    Args:
        layer: a layer with a ``kernel`` of shape (height, width, channels, filters), or the kernel.
        count: how many filters at most.
        title: stands above.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no such kernel (is the layer built?), or it holds NaN or infinity.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np, handmill
        >>> figure = handmill.plot.filters(np.zeros((3, 3, 3, 10)))
        >>> len(figure.axes)
        10
    """
    from handmill.layers.convolutional.conv_transpose import Conv2DTranspose

    kernel = np.asarray(getattr(layer, "kernel", layer) if _has_kernel(layer) else layer)
    if kernel.ndim != 4:
        name = getattr(layer, "name", None)
        what = f"layer {name!r}" if name else f"an array of shape {kernel.shape}"
        raise ValueError(
            "filters: expected a built layer with a kernel of shape (height, width, channels, "
            f"filters), such as Conv2D, got {what}"
        )
    if isinstance(layer, Conv2DTranspose):  # whose kernels have the filters before the channels
        kernel = kernel.swapaxes(2, 3)
    count = whole_number("filters: `count`", count, 1)
    found = np.moveaxis(kernel[..., :count], -1, 0).astype(np.float32)
    _check_finite("filters: the kernel holds", found)
    numbers = [f"{i}" for i in range(len(found))]
    channels = kernel.shape[2]
    if channels == 3:
        tiles = _each(list(found))
        return finished(_grid(tiles, numbers, min(len(tiles), _COLUMNS)), title, to_file)
    planes = min(channels, _MOST_PLANES)
    tiles, titles = [], []
    for number, one in zip(numbers, found, strict=True):
        most = max(float(np.abs(one).max()), 1e-30)
        tiles += [one[:, :, c] / (2 * most) + 0.5 for c in range(planes)]
        titles += [number, *[""] * (planes - 1)]
    columns = planes if planes > 1 else min(len(tiles), _COLUMNS)
    return finished(_grid(tiles, titles, columns), title, to_file)


def misclassified(
    model: Any,
    x: Any,
    y: Any,
    labels: Sequence[str] | None = None,
    count: int = 24,
    title: str = "",
    to_file: Any = None,
) -> Any:
    """Draws the images that a classifier gets wrong, those first of which it is most certain.

    Args:
        model: gives a row of scores for each image, or one probability (or logit) of class 1.
            Scores that are no probabilities are taken for logits.
        x: images (n, height, width, channels).
        y: class numbers, or one-hot rows.
        labels: names of the classes.
        count: how many images at most.
        title: stands above; default: how many of how many are wrong.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure; its titles say what the image is, what it was taken for, and how certainly.

    Raises:
        ValueError: if images and classes do not fit.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> model = handmill.Sequential([layers.Flatten(), layers.Dense(2, "softmax")])
        >>> x = np.random.default_rng(0).random((20, 4, 4, 1), np.float32)
        >>> figure = handmill.plot.misclassified(model, x, model.predict(x, verbose=0).argmin(1))
        >>> figure.get_suptitle()
        '20 of 20 are wrong'
    """
    pictures = np.asarray(x)
    probabilities = _probabilities(np.asarray(model.predict(pictures, verbose=0), np.float64))
    true = np.asarray(y)
    if true.ndim == 2:
        true = true.argmax(1) if true.shape[1] > 1 else true[:, 0]
    true = true.astype(np.int64)
    if true.shape != (len(pictures),):
        raise ValueError(f"misclassified: {len(pictures)} images, but classes of {true.shape}")
    classes = probabilities.shape[1]
    unknown = true[(true < 0) | (true >= classes)]
    if unknown.size:
        raise ValueError(
            f"misclassified: class {int(unknown[0])} of y, but the model has {classes} classes, "
            f"from 0 to {classes - 1}"
        )
    count = whole_number("misclassified: `count`", count, 1)
    names = (
        [str(label) for label in labels] if labels is not None else list(map(str, range(classes)))
    )
    if len(names) < classes:
        raise ValueError(f"misclassified: {classes} classes, but {len(names)} labels")
    taken = probabilities.argmax(1)
    certainty = probabilities.max(1)
    wrong = np.flatnonzero(taken != true)
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    title = title or f"{len(wrong)} of {len(true)} are wrong"
    shown = wrong[:count]
    tiles = list(_levels("misclassified", pictures)[shown])
    titles = [f"{names[true[i]]} → {names[taken[i]]}, {100 * certainty[i]:.0f} %" for i in shown]
    return finished(_grid(tiles, titles, min(len(tiles), _COLUMNS)), title, to_file)


def activation_maps(
    model: Any, x: Any, layer: Any, count: int = 32, title: str = "", to_file: Any = None
) -> Any:
    """Draws what a layer gives for one image: one map for each channel, first the image itself.

    Black is the least and white the largest value of all maps; a map that is black throughout is a
    channel that found nothing here.

    Args:
        model: a built model.
        x: one image (height, width, channels), or a batch of one.
        layer: a layer of the model with outputs (height, width, channels), or its name; a path such
            as ``"encoder/conv"`` for a layer of a model within the model.
        count: how many channels at most.
        title: stands above; default: the layer's name.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        KeyError: if there is no layer of that name.
        ValueError: for outputs that are no maps, or hold NaN or infinity, and for several images.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> first = layers.Conv2D(4, 3, name="first")
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), first, layers.Flatten()])
        >>> figure = handmill.plot.activation_maps(model, np.zeros((8, 8, 1)), "first")
        >>> len(figure.axes)
        5
    """
    from handmill.inspection.values import inspect

    image = np.asarray(x)
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1:
        raise ValueError(
            f"activation_maps: expected one image (height, width, channels), got {image.shape}"
        )
    name = layer if isinstance(layer, str) else layer.name
    values = inspect(model, batch)[name].value
    if values.ndim != 4:
        raise ValueError(
            f"activation_maps: layer {name!r} has outputs of shape {values.shape}, no maps of "
            "shape (1, height, width, channels)"
        )
    count = whole_number("activation_maps: `count`", count, 1)
    maps = np.moveaxis(values[0, :, :, :count], -1, 0)
    _check_finite(f"activation_maps: the outputs of layer {name!r} hold", maps)
    tiles = [*_levels("activation_maps", batch), *_stretched(maps)]
    titles = ["image", *(str(i) for i in range(len(maps)))]
    return finished(_grid(tiles, titles, min(len(tiles), _COLUMNS)), title or name, to_file)


def _has_kernel(layer: Any) -> bool:
    return getattr(layer, "kernel", None) is not None


def _augmentation(augment: Any) -> Callable[[Array], Any]:
    from handmill.layers.layer import Layer

    if isinstance(augment, Layer):
        return lambda x: augment(x, training=True)
    if hasattr(augment, "random_transform"):
        return lambda x: np.stack(
            [augment.standardize(augment.random_transform(one.astype(np.float32))) for one in x]
        )
    if callable(augment):
        function: Callable[[Array], Any] = augment
        return function
    raise TypeError(
        "augmentations: expected a layer, a model, an ImageDataGenerator or a function of a batch "
        f"of images, got {type(augment).__name__}"
    )


def _probabilities(scores: Array) -> Array:
    """Rows of probabilities of all classes, from those or from logits."""
    if scores.ndim != 2:
        raise ValueError(f"misclassified: expected rows of scores, got the shape {scores.shape}")
    in_range = bool(((scores >= 0) & (scores <= 1)).all())
    if scores.shape[1] == 1:
        one = scores if in_range else 1 / (1 + np.exp(-scores))
        both: Array = np.concatenate([1 - one, one], axis=1)
        return both
    if in_range and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(1, keepdims=True))
    result: Array = powers / powers.sum(1, keepdims=True)
    return result


def _levels(function: str, x: Any) -> Array:
    """Images as float32 from 0 to 1, (n, height, width) or with 3 or 4 channels."""
    images = np.asarray(x)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (3, 4)):
        raise ValueError(
            f"{function}: expected images (n, height, width, channels) with 1, 3 or 4 channels, "
            f"got the shape {np.shape(x)}"
        )
    if not images.size:
        raise ValueError(f"{function}: there is no image in the shape {np.shape(x)}")
    levels: Array = images.astype(np.float32)
    if images.dtype == bool:
        return levels
    if images.dtype.kind in "ui":
        levels /= np.float32(255)
        return levels.clip(0, 1)
    _check_finite(f"{function}: the images hold", levels)
    low, high = float(levels.min()), float(levels.max())
    if low >= 0 and high <= 1:
        return levels
    if low >= 0 and high <= 255:
        levels /= np.float32(255)
        return levels
    return _stretched(levels)


def _check_finite(holder: str, x: Array) -> None:
    if not np.isfinite(x).all():
        raise ValueError(f"{holder} NaN or infinity")


def _stretched(x: Array) -> Array:
    low, high = float(x.min()), float(x.max())
    result: Array = (x - low) / max(high - low, 1e-30)
    return result


def _each(images: list[Array]) -> list[Array]:
    """Images with one range each."""
    return [_stretched(one[..., 0] if one.shape[-1] == 1 else one) for one in images]


def _grid(tiles: list[Array], titles: Sequence[str] | None, columns: int) -> Any:
    """A figure of images whose levels are from 0 to 1."""
    columns = max(columns, 1)
    rows = max(1, -(-len(tiles) // columns))
    lines = any(titles or ())
    figure = new_figure((1.25 * columns, (1.45 if lines else 1.25) * rows + 0.3))
    for i, tile in enumerate(tiles):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(tile, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        if titles is not None and titles[i]:
            axes.set_title(titles[i], fontsize=8)
    return figure
