"""A linear model of few features, fitted to weighted samples around a row (LIME's).

All fits come from one matrix of products (features squared), not from the samples: selecting six of
twenty features takes no pass over them. The samples lie in sixteen parts, each with a matrix of its
own, whose sum is the whole: sixteen smaller fits tell how sure the large one is. (Ribeiro, Singh,
Guestrin, 2016, is the method; the parts are ours.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handmill.ir.op import Array

PARTS = 16
FORWARD_UP_TO = 6
SELECTIONS = ("auto", "forward_selection", "highest_weights", "none")


@dataclass(frozen=True, slots=True, eq=False)
class LocalFit:
    """A local linear model.

    Attributes:
        coefficients: float64 (features,), 0 for those not chosen.
        error: their standard errors, from sixteen parts of the samples.
        stability: the share of the parts in which a feature is chosen. Both are NaN for samples too
            few to be parted.
        intercept: what the model adds to.
        r2: the part of the weighted variance that it explains.
        prediction: what it gives for the first sample, the row itself.
        alike: pairs of columns that no sample tells apart.
    """

    coefficients: Array
    error: Array
    stability: Array
    intercept: float
    r2: float
    prediction: float
    alike: list[tuple[int, int]]


def fit_local(
    design: Array,
    scores: Array,
    weights: Array,
    num_features: int,
    selection: str = "auto",
    alpha: float = 1.0,
) -> LocalFit:
    """Fits a ridge regression with an intercept to the best features.

    Args:
        design: (samples, features), the first row that of the row explained.
        scores: (samples,).
        weights: (samples,), positive.
        num_features: features at most.
        selection: how they are chosen: ``"forward_selection"``, ``"highest_weights"``, ``"none"``
            (all), or ``"auto"``: forward up to six.
        alpha: penalty of squared coefficients.

    Raises:
        ValueError: for fewer samples than the features need.
    """
    samples, features = design.shape
    if samples < features + 1:
        raise ValueError(
            f"{samples} samples cannot tell {features} features apart: `num_samples` must be at "
            f"least {features + 1}; some thousands are usual"
        )
    means = np.append(weights @ design, weights @ scores) / weights.sum()
    products = _products(design, scores, weights, means)
    whole = products.sum(0, keepdims=True)
    centred, shifts = _without_intercept(np.concatenate([whole, products]))
    chosen = _selected(centred, design[0], num_features, selection)
    picked = chosen[0]
    penalty = np.full(len(centred), alpha / len(products))
    penalty[0] = alpha
    coefficients = np.zeros((len(centred), features))
    coefficients[:, picked] = _ridge(centred, picked, penalty)
    own, parts = coefficients[0], coefficients[1:]
    matrix = centred[0]
    total = matrix[-1, -1]
    missed = total - 2 * own @ matrix[:-1, -1] + own @ matrix[:-1, :-1] @ own
    constant = total <= 1e-24 * weights.sum() * max(1.0, means[-1] ** 2)
    if constant:  # what is left of the products is rounding
        coefficients[:] = 0.0
    error, stability = np.full(features, np.nan), np.full(features, np.nan)
    if len(parts) > 1:
        error = parts.std(0, ddof=1) / np.sqrt(len(parts))
        every = np.concatenate(chosen[1:])
        stability = np.bincount(every, minlength=features) / len(parts)
    intercept = float(means[-1] + shifts[0, -1] - own @ (means[:-1] + shifts[0, :-1]))
    return LocalFit(
        own,
        error,
        stability,
        intercept,
        1.0 if constant else float(1 - missed / total),
        intercept + float(own @ design[0]),
        _alike(matrix),
    )


def _products(design: Array, scores: Array, weights: Array, means: Array) -> Array:
    """Of each part of the samples, the weighted products of (1, features, score), centred."""
    samples, features = design.shape
    parts = PARTS if samples >= PARTS * (features + 2) else 1
    size = -(-samples // parts)
    rows = np.zeros((size, parts, features + 2))  # in turns: no part is much smaller than others
    flat = rows.reshape(-1, features + 2)[:samples]
    root = np.sqrt(weights)
    flat[:, 0] = root
    np.subtract(design, means[:-1], out=flat[:, 1:-1])
    np.subtract(scores, means[-1], out=flat[:, -1])
    flat[:, 1:] *= root[:, None]
    return np.asarray(np.matmul(rows.transpose(1, 2, 0), rows.transpose(1, 0, 2)))


def _without_intercept(products: Array) -> tuple[Array, Array]:
    """Products about each part's own means, and these means."""
    first = products[:, :1, 1:]
    shifts = first / products[:, :1, :1]
    return products[:, 1:, 1:] - first.transpose(0, 2, 1) * shifts, shifts[:, 0]


def _selected(centred: Array, first: Array, most: int, selection: str) -> list[Array]:
    """The features that each matrix chooses."""
    features = centred.shape[1] - 1
    if selection == "auto":
        selection = "forward_selection" if most <= FORWARD_UP_TO else "highest_weights"
    if selection == "none" or most >= features:
        return [np.arange(features)] * len(centred)
    if selection == "forward_selection":
        return list(_forward(centred, most))
    sizes = np.abs(_ridge(centred, np.arange(features), np.full(len(centred), 0.01)) * first)
    return list(np.argsort(-sizes, axis=1, kind="stable")[:, :most])


def _forward(centred: Array, most: int) -> Array:
    """Adds the feature that explains most of what is left, in all matrices at once."""
    left = centred.copy()
    number = np.arange(len(left))
    diagonal = np.diagonal(left, axis1=1, axis2=2)[:, :-1]
    least = 1e-12 * diagonal.copy()
    used = np.zeros(diagonal.shape, bool)
    found = np.empty((len(left), most), np.intp)
    for step in range(most):
        free = np.diagonal(left, axis1=1, axis2=2)[:, :-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(free > least, left[:, :-1, -1] ** 2 / free, 0.0)
        best = np.where(used, -1.0, gain).argmax(1)
        found[:, step] = best
        used[number, best] = True
        column = left[number, :, best]
        pivot = left[number, best, best]
        safe = np.where(pivot > least[number, best], pivot, np.inf)
        left -= column[:, :, None] * (column / safe[:, None])[:, None, :]
    return found


def _ridge(centred: Array, chosen: Array, alpha: Array) -> Array:
    """The coefficients (matrices, chosen) of the same features by each matrix."""
    square = centred[:, chosen[:, None], chosen] + alpha[:, None, None] * np.eye(len(chosen))
    right = centred[:, chosen, -1]
    try:
        return np.asarray(np.linalg.solve(square, right[..., None])[..., 0])
    except np.linalg.LinAlgError:  # columns that are alike or constant, without a penalty
        return np.asarray((np.linalg.pinv(square, hermitian=True) @ right[..., None])[..., 0])


def _alike(matrix: Array) -> list[tuple[int, int]]:
    square, diagonal = matrix[:-1, :-1], np.diagonal(matrix)[:-1]
    sizes = np.outer(diagonal, diagonal)
    same = (square**2 >= (1 - 1e-9) * sizes) & (sizes > 0)
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(same, 1))]
