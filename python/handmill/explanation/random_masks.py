"""RISE: the mean score under smooth random masks, over those that show a place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, uniform
from handmill.explanation.black_box import BlackBox
from handmill.explanation.composition import rows_of_block
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import players_for
from handmill.explanation.rows import alike, checked_seed, for_model, rows_of
from handmill.explanation.segments import absent_images, places_of
from handmill.ir.op import Array


def rise(
    model: Any,
    x: Any,
    target: Any = None,
    *,
    num_masks: int = 4000,
    cells: int = 7,
    probability: float = 0.5,
    baseline: Any = "black",
    until: float = 0.0,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """The mean score of an image over random masks that show a pixel (Petsiuk, Das, Saenko, 2018).

    A mask is a coarse grid of ones and zeros, enlarged with straight lines between and shifted at
    random; a pixel's value is the mean of score * mask(pixel) / probability.

    Args:
        model: a handmill model, an estimator, or a function of images.
        x: images (images, height, width) or with channels.
        target: what is explained; None: the predicted class, or the only output.
        num_masks: masks at most.
        cells: cells of the grid across.
        probability: of a cell to be shown.
        baseline: what hidden places show: ``"mean"``, ``"black"``, a number, an image, or one each.
        until: stops when the largest standard error is below this part of the map's range; 0 never
            stops early.
        seed: of the masks.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation` whose values are maps (images, height, width), with standard errors.

    Raises:
        ValueError: for arguments that do not fit, and scores that are not finite.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> image = np.zeros((1, 14, 14)); image[0, 3:5, 9:11] = 1
        >>> found = explanation.rise(lambda images: images.sum((1, 2)), image, num_masks=500)
        >>> [int(i) // 2 for i in np.unravel_index(found.values[0].argmax(), (14, 14))]
        [1, 4]
    """
    began = time.perf_counter()
    whole_number("num_masks", num_masks, 2)
    whole_number("cells", cells, 1)
    seed = checked_seed(seed)
    if not 0 < probability < 1:
        raise ValueError(f"`probability` must lie between 0 and 1. Received: {probability!r}")
    made, arrays, _ = rows_of(x)
    arrays = for_model(model, arrays)
    if len(arrays) != 1 or arrays[0].ndim not in (3, 4):
        raise ValueError(
            "rise() explains images (images, height, width) or with channels. Received "
            f"{len(arrays)} inputs, the first of the shape {arrays[0].shape}"
        )
    if arrays[0].dtype.kind != "f":
        arrays = [arrays[0].astype(np.float32)]  # masks are smooth: pixels are no whole numbers
    shape = arrays[0].shape[1:]
    places = places_of(shape)
    absent = absent_images(arrays[0], baseline, players_for(arrays))
    [images], [absent] = alike(arrays, [absent])
    box = BlackBox(model, made)
    targets, scores, _ = box.explain([images], target, class_names)
    masks = _Masks(places, cells, probability, seed)
    sums, squares = np.zeros((len(scores), *places)), np.zeros((len(scores), *places))
    size = rows_of_block([images], box.is_planned)
    used = 0
    wide = (slice(None), *_channels(shape))
    while used < num_masks and len(scores):
        drawn = masks.draw(used, min(used + size, num_masks))
        spread = drawn.astype(images.dtype)[wide]
        for row in range(len(scores)):
            block = spread * (images[row] - absent[row])
            block += absent[row]
            given = np.asarray(box.scoring(targets, row)([block]), np.float64)
            flat = drawn.reshape(len(drawn), -1)
            sums[row] += (given @ flat).reshape(places)
            squares[row] += (given**2 @ flat**2).reshape(places)
        used += len(drawn)
        values, error = _summed(sums, squares, used, probability)
        reach = values.max((1, 2)) - values.min((1, 2))
        if until and (error.max((1, 2)) <= until * reach).all():
            break
    values, error = _summed(sums, squares, max(used, 1), probability)
    return Explanation(
        values=values,
        data=images,
        method="RISE",
        scores=scores,
        targets=targets.names,
        classes=targets.classes,
        error=error,
        details={
            "masks": used,
            "evaluations": box.evaluations,
            "seconds": time.perf_counter() - began,
        },
    )


def _summed(sums: Array, squares: Array, used: int, probability: float) -> tuple[Array, Array]:
    mean = sums / used
    variance = np.maximum(squares / used - mean**2, 0.0)
    return mean / probability, np.sqrt(variance / used) / probability


class _Masks:
    """Smooth masks by number: number i is the same in whatever order masks are drawn."""

    def __init__(self, places: tuple[int, int], cells: int, probability: float, seed: int) -> None:
        self._cells, self._probability = cells, probability
        self._key = make_key(seed, 4)
        self._size = [-(-place // cells) for place in places]
        self._weights = [
            _enlarging(place, cells, size) for place, size in zip(places, self._size, strict=True)
        ]

    def draw(self, start: int, stop: int) -> Array:
        """Masks (masks, height, width), float64."""
        number = np.arange(start, stop)
        count = self._cells**2
        position = number[:, None] * (count + 2) + np.arange(count + 2)
        drawn = uniform(self._key, position)
        grid = (drawn[:, :count] < self._probability).astype(np.float64)
        shift = [
            (drawn[:, count + axis] * size).astype(np.intp) for axis, size in enumerate(self._size)
        ]
        across = self._weights[1][shift[1]].transpose(0, 2, 1)
        rows = np.matmul(grid.reshape(-1, self._cells, self._cells), across)
        return np.asarray(np.matmul(self._weights[0][shift[0]], rows))


def _enlarging(place: int, cells: int, size: int) -> Array:
    """By shift, the weights (shifts, places, cells) with which cells make an enlarged line."""
    found = np.zeros((size, place, cells))
    for shift in range(size):
        at = (np.arange(place) + shift + 0.5) * cells / ((cells + 1) * size) - 0.5
        at = np.clip(at, 0, cells - 1)
        low = np.minimum(at.astype(np.intp), max(cells - 2, 0))
        rest = at - low
        found[shift, np.arange(place), low] += 1 - rest
        found[shift, np.arange(place), np.minimum(low + 1, cells - 1)] += rest
    return found


def _channels(shape: tuple[int, ...]) -> tuple[Any, ...]:
    from handmill import config

    if len(shape) == 2:
        return (slice(None), slice(None))
    return (None, ...) if config.image_data_format() == "channels_first" else (..., None)
