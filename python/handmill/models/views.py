"""Predictions as means over several views of the same inputs: test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import finite_number
from handmill.data.images.crops import mirrored, shifted
from handmill.ir.op import Array
from handmill.models.data_adapters import is_arrays
from handmill.naming import known_names

View = Callable[[Array], Array]


# A view: pixels down and to the right, whether the result is mirrored, and how much it counts.
_KNOWN: dict[str, tuple[tuple[int, bool, float], ...]] = {
    "mirror": ((0, False, 0.5), (0, True, 0.5)),
    "mirror_and_shift": (
        (0, False, 0.25),
        (0, True, 0.25),
        *((by, mirror, 0.125) for mirror in (False, True) for by in (1, -1)),
    ),
}


def _seen(images: Array, by: int, mirror: bool, data_format: str | None) -> Array:
    if by:
        images = shifted(images, by, by, data_format=data_format)
    return mirrored(images, data_format) if mirror else images


def predict_views(
    model: Any,
    x: Any,
    views: str | Sequence[View] = "mirror",
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
    verbose: Any = 0,
    data_format: str | None = None,
) -> Any:
    """Returns the mean of what a model predicts for several views of the same inputs.

    What speaks for a class in an image speaks for it in the mirror image too; the mean of both is
    right more often, at twice the time. Means of logits and means of probabilities differ: it is
    the outputs of the model, as they are, that are averaged.

    Args:
        model: a model with ``predict``.
        x: an array; for the named views images ``(batch, height, width, channels)``, or the
            channels after the batch.
        views: ``"mirror"`` for images and their mirror images; ``"mirror_and_shift"`` for these,
            of weight 1/4 each, and both moved by one pixel down to the right, and up to the left,
            of weight 1/8 each; or functions that make of ``x`` an array of as many rows.
        weights: how much each view counts, to be divided by their sum; default: all alike.
        batch_size: see ``predict``.
        verbose: see ``predict``.
        data_format: where the images of the named views have their channels, "channels_last" or
            "channels_first"; default: ``image_data_format()``.

    Returns:
        An array, or what is nested as the model's outputs are.

    Raises:
        ValueError: for unknown views, none, weights that do not fit, and views that change the
            number of rows.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill.models import predict_views
        >>> flat = handmill.layers.Flatten()
        >>> model = handmill.Sequential([handmill.Input((1, 3, 1)), flat])
        >>> x = np.array([0.0, 1.0, 4.0], "float32").reshape(1, 1, 3, 1)
        >>> predict_views(model, x, "mirror").tolist()
        [[2.0, 1.0, 2.0]]
    """
    if isinstance(x, dict) or not is_arrays(x):
        raise ValueError(
            "predict_views takes the inputs as one array, which it shows in several ways. "
            f"Received: x of type {type(x).__name__}"
        )
    x = np.asarray(x)
    if isinstance(views, str):
        if views not in _KNOWN:
            raise ValueError(known_names("views", views, _KNOWN))
        known = _KNOWN[views]
        functions = tuple(
            partial(_seen, by=by, mirror=mirror, data_format=data_format) for by, mirror, _ in known
        )
        shares = tuple(share for *_, share in known)
    elif isinstance(views, list | tuple) and all(callable(view) for view in views):
        functions, shares = tuple(views), tuple(1.0 for _ in views)
    else:
        raise ValueError(
            f"`views` must be one of {', '.join(map(repr, _KNOWN))}, or a list of functions. "
            f"Received: {views!r}"
        )
    if weights is not None:
        shares = tuple(finite_number("each of `weights`", weight) for weight in weights)
    if not functions or len(shares) != len(functions) or not sum(shares) > 0 or min(shares) < 0:
        raise ValueError(
            "predict_views needs at least one view, and one weight for each, none negative and not "
            f"all 0. Received: {len(functions)} views, weights={shares}"
        )
    total: Any = None
    for function, share in zip(functions, shares, strict=True):
        seen = np.asarray(function(x))
        if seen.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"a view must have as many rows as x, {x.shape[:1]}. It has the shape {seen.shape}"
            )
        found = model.predict(seen, batch_size=batch_size, verbose=verbose)
        factor = np.float32(share / sum(shares))
        found = tree.map_structure(lambda one, by=factor: np.multiply(one, by), found)
        total = found if total is None else tree.map_structure(np.add, total, found)
    return total
