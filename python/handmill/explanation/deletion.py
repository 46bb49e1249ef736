"""Deletion and insertion: does the score go where an explanation says that it comes from?"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, permutation
from handmill.explanation.black_box import BlackBox
from handmill.explanation.explanation import Check, Explanation
from handmill.explanation.players import Players, players_for
from handmill.explanation.rows import alike, background_rows, checked_seed, for_model
from handmill.explanation.segments import absent_images, places_of
from handmill.ir.op import Array


def deletion_insertion(
    explanation: Explanation,
    model: Any,
    *,
    baseline: Any = "mean",
    steps: int = 32,
    orders: int = 20,
    seed: int = 0,
) -> list[Check]:
    """Takes the places away that count most, one after another, and brings them in on their own.

    Where an explanation is right, the score falls faster than when places go in a random order
    (deletion), and rises faster when they come (insertion). (Petsiuk, Das, Saenko, 2018, without
    the comparison.) Places are ordered by their signed values: what speaks against the target goes
    last.

    Args:
        explanation: of a table, of images or of sequences; of one input.
        model: what was explained, or any function of the same rows.
        baseline: what stands in the place of what is away: of images ``"mean"`` (their mean
            colour), else a number or a row, in the model's own range of inputs.
        steps: how many times a part goes.
        orders: random orders to compare with.
        seed: of these.

    Returns:
        Two checks, ``"deletion"`` and ``"insertion"``. Their number is by how much the mean score
        over the steps (the area under the curve) is better than that of random orders, in the
        middle of all rows; passed, if it is better than 95 % of single random orders.

    Raises:
        ValueError: for several inputs, and values that are not of the data's places.

    Example:
        >>> import numpy as np
        >>> from handmill.explanation import deletion_insertion, feature_ablation
        >>> first = lambda rows: rows[:, 0]
        >>> found = feature_ablation(first, np.ones((1, 30)), 0.0)
        >>> [check.passed for check in deletion_insertion(found, first, baseline=0.0)]
        [True, True]
    """
    whole_number("steps", steps, 1)
    whole_number("orders", orders, 2)
    seed = checked_seed(seed)
    if tree.is_nested(explanation.data):
        raise ValueError("deletion_insertion() takes explanations of one input")
    arrays = for_model(model, [np.asarray(explanation.data)])
    values = np.asarray(explanation.values)
    players = _places(arrays, values)
    arrays, [absent] = alike(arrays, [_absent(arrays[0], baseline)])
    box = BlackBox(model, arrays[0])
    classes = explanation.classes
    target = None if classes is None else classes if classes.ndim == 1 else tuple(classes.T)
    targets, scores, _ = box.explain(arrays, target, None)
    flat = values.reshape(len(values), -1)
    cuts = np.round(np.linspace(0, players.count, min(steps, players.count) + 1)).astype(np.intp)
    everybody = np.arange(players.count)
    found = np.empty((2, len(scores), 1 + orders))  # by what, row, own order and random ones
    for row in range(len(scores)):
        composer = box.composer(players, [absent[row][None]])
        tried = [np.argsort(-flat[row], kind="stable")]
        tried += [permutation(make_key(seed, 6, row, i), players.count) for i in range(orders)]
        score = box.scoring(targets, row)
        for number, order in enumerate(tried):
            rank = np.empty(players.count, np.intp)
            rank[order] = np.arange(players.count)
            masks = np.concatenate([rank >= cuts[:, None], rank < cuts[:, None]])
            curve = composer.means([arrays[0][row]], everybody, masks, score)
            curve = curve.reshape(2, len(cuts))
            found[:, row, number] = ((curve[:, 1:] + curve[:, :-1]) / 2).mean(1)
    return [
        _check("deletion", found[0, :, 1:] - found[0, :, :1], "falls"),
        _check("insertion", found[1, :, :1] - found[1, :, 1:], "rises"),
    ]


def _check(name: str, better: Array, verb: str) -> Check:
    """A check from what the own order is better by (rows, random orders)."""
    if not len(better):
        return Check(name, True, 0.0, "there are no rows")
    share = float(np.mean(better > 0))
    number = float(np.median(better.mean(1)))
    percent = f"{100 * share:.0f} % of random orders"
    return Check(
        name,
        share >= 0.95,
        number,
        f"the score {verb} faster than in {percent}, by {number:.3g} in the mean over the steps",
    )


def _places(arrays: list[Array], values: Array) -> Players:
    shape = arrays[0].shape
    if values.shape == shape:
        return players_for(arrays)
    if len(shape) in (3, 4) and values.shape == (shape[0], *places_of(shape[1:])):
        count = int(np.prod(values.shape[1:]))
        return players_for(arrays, segments=np.arange(count).reshape(values.shape[1:]))
    raise ValueError(
        f"the values have the shape {values.shape}, which are no places of the data {shape}"
    )


def _absent(rows: Array, baseline: Any) -> Array:
    if rows.ndim in (3, 4):
        return absent_images(rows, baseline, players_for([rows]))
    if isinstance(baseline, str):
        raise ValueError("of rows that are no images, `baseline` must be a number or a row")
    found, _ = background_rows(baseline, [rows], 0, "baseline")
    return np.broadcast_to(found[0][:1], rows.shape)
