"""What the score loses when a part of the row is taken away: windows of an image, or features."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.explanation.black_box import BlackBox
from handmill.explanation.explanation import Explanation
from handmill.explanation.players import players_for
from handmill.explanation.rows import alike, background_rows, checked_seed, for_model, rows_of
from handmill.explanation.segments import absent_images, places_of
from handmill.ir.op import Array

_MASK_BYTES = 1 << 21  # of the coalitions that are told at once


def occlusion(
    model: Any,
    x: Any,
    target: Any = None,
    *,
    window: Any = 5,
    strides: Any = 1,
    baseline: Any = "mean",
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """Slides a window over each image: what the score loses without it (Zeiler, Fergus, 2014).

    A pixel's value is the mean over the windows that cover it. Windows at the lower and right edge
    reach as far as the image does.

    Args:
        model: a handmill model, an estimator, or a function of images.
        x: images (images, height, width) or with channels.
        target: what is explained; None: the predicted class, or the only output.
        window: height and width of the window, or one number for both.
        strides: steps from window to window, or one number for both.
        baseline: what a window shows: ``"mean"`` (the image's mean colour), ``"black"``, a number,
            an image, or one for each; in the model's own range of inputs.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation` whose values are maps (images, height, width).

    Raises:
        ValueError: for windows that do not fit the images, and scores that are not finite.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> image = np.zeros((1, 6, 6)); image[0, 2, 3] = 1
        >>> bright = lambda images: images.max((1, 2))
        >>> explanation.occlusion(bright, image, window=1, baseline="black").values[0].argmax()
        np.int64(15)
    """
    began = time.perf_counter()
    made, arrays, _ = rows_of(x)
    arrays = for_model(model, arrays)
    if len(arrays) != 1 or arrays[0].ndim not in (3, 4):
        raise ValueError(
            "occlusion() slides a window over images (images, height, width) or with channels. "
            f"Received {len(arrays)} inputs, the first of the shape {arrays[0].shape}; of other "
            "rows use feature_ablation()"
        )
    places = places_of(arrays[0].shape[1:])
    sides = _pair("window", window)
    steps = _pair("strides", strides)
    for side, step, place in zip(sides, steps, places, strict=True):
        if side > place:
            raise ValueError(f"a window of {sides} does not fit into images of {places}")
        if step > side:
            raise ValueError(
                f"strides {steps} leave gaps between windows of {sides}: pixels that no window "
                "covers would have no value"
            )
    absent = absent_images(arrays[0], baseline, players_for(arrays))
    [images], [absent] = alike(arrays, [absent])
    box = BlackBox(model, made)
    targets, scores, _ = box.explain([images], target, class_names)
    ys, xs = (_starts(*one) for one in zip(places, sides, steps, strict=True))
    pixels = np.arange(math.prod(places))
    players = players_for([images], segments=pixels.reshape(places))
    beside = ~_covers(xs, places[1], sides[1])[:, None]
    lines = max(1, _MASK_BYTES // (len(xs) * len(pixels)))
    lost = np.empty((len(scores), len(ys), len(xs)))
    for start in range(0, len(ys), lines):
        at = slice(start, start + lines)
        shown = np.ones((len(ys[at]), len(xs), *places), bool)
        for line, y in zip(shown, ys[at].tolist(), strict=True):
            line[:, y : y + sides[0]] = beside
        there = shown.reshape(-1, len(pixels))
        for row in range(len(scores)):
            composer = box.composer(players, [absent[row][None]])
            given = composer.means([images[row]], pixels, there, box.scoring(targets, row))
            lost[row, at] = scores[row] - given.reshape(-1, len(xs))
    values = np.zeros((len(scores), *places))
    for row, numbers in enumerate(lost):
        values[row] = _mean_over_windows(numbers, places, sides, steps)
    return Explanation(
        values=values,
        data=images,
        method="occlusion",
        scores=scores,
        targets=targets.names,
        classes=targets.classes,
        details={
            "window": list(sides),
            "evaluations": box.evaluations,
            "seconds": time.perf_counter() - began,
        },
    )


def feature_ablation(
    model: Any,
    x: Any,
    baseline: Any = None,
    target: Any = None,
    *,
    groups: Any = None,
    segments: Any = None,
    seed: int = 0,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """What the score loses when each feature, group or segment alone is taken away.

    Args:
        model: a handmill model, an estimator, or a function of rows.
        x: rows, images, or a nesting of inputs as the model takes it.
        baseline: what stands in its place: a number, a row, or rows (over which the loss is a
            mean; 100 at most, drawn with the seed).
        target: what is explained; None: the predicted class, or the only output.
        groups: lists of columns that go together, or a dict of them by name.
        segments: of images, (height, width) numbers of segments, or the side of squares.
        seed: of the choice among many rows.
        feature_names: names of columns.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation`; of segments, each pixel has its segment's value.

    Raises:
        ValueError: for a missing baseline and arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> product = lambda rows: rows[:, 0] * rows[:, 1]
        >>> explanation.feature_ablation(product, np.array([[2.0, 3.0]]), 0.0).values
        array([[6., 6.]])
    """
    began = time.perf_counter()
    made, arrays, names = rows_of(x)
    arrays = for_model(model, arrays)
    rows, notes = background_rows(baseline, arrays, checked_seed(seed), "baseline")
    arrays, rows = alike(arrays, for_model(model, rows, "baseline"))
    players = players_for(arrays, groups, segments, feature_names or names)
    box = BlackBox(model, made)
    targets, scores, _ = box.explain(arrays, target, class_names)
    composer = box.composer(players, rows)
    values = np.zeros((len(scores), players.count))
    for row in range(len(scores)):
        parts = [a[row] for a in arrays]
        varying = players.varying(parts, rows)
        score = box.scoring(targets, row)
        at_once = max(1, _MASK_BYTES // max(1, len(varying)))
        for start in range(0, len(varying), at_once):
            one = varying[start : start + at_once]
            there = varying != one[:, None]
            values[row, one] = scores[row] - composer.means(parts, varying, there, score)
    shown = players.shown(values)
    return Explanation(
        values=tree.pack_sequence_as(made, shown) if tree.is_nested(made) else shown[0],
        data=players.data(made, arrays),
        method="feature ablation",
        scores=scores,
        targets=targets.names,
        classes=targets.classes,
        feature_names=players.names,
        notes=notes,
        details={"evaluations": box.evaluations, "seconds": time.perf_counter() - began},
    )


def _pair(name: str, value: Any) -> tuple[int, int]:
    if isinstance(value, int | np.integer):
        value = (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"`{name}` must be a whole number or two of them. Received: {value!r}")
    return whole_number(name, value[0], 1), whole_number(name, value[1], 1)


def _starts(place: int, side: int, step: int) -> Array:
    """Where windows begin: the last reaches the edge, or beyond it."""
    return np.arange(0, place - side + step, step)


def _covers(starts: Array, place: int, side: int) -> Array:
    """Which places windows cover, bool (windows, places)."""
    places = np.arange(place)
    return np.asarray((places >= starts[:, None]) & (places < starts[:, None] + side))


def _mean_over_windows(
    numbers: Array, places: tuple[int, int], sides: tuple[int, int], steps: tuple[int, int]
) -> Array:
    """The mean of the numbers of the windows that cover each place."""
    for axis, (place, side, step) in enumerate(zip(places, sides, steps, strict=True)):
        numbers = _mean_along(np.moveaxis(numbers, axis, 0), place, side, step)
        numbers = np.moveaxis(numbers, 0, axis)
    return numbers


def _mean_along(numbers: Array, place: int, side: int, step: int) -> Array:
    """For each place of the first axis, the mean of the numbers of the windows that cover it."""
    last = (len(numbers) - 1) * step
    reach = max(place, last + side)
    sums, counts = np.zeros((reach, *numbers.shape[1:])), np.zeros(reach)
    for shift in range(side):
        at = slice(shift, shift + last + 1, step)
        sums[at] += numbers
        counts[at] += 1
    return np.asarray((sums / counts[:, None])[:place])
