"""Which labels are probably wrong, from probabilities that a model gave rows it had not seen.

Confident learning (Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset
labels", JAIR 2021), with the choices of the library cleanlab 2.9, so that the counts and the flags
are the same on the same probabilities. Among equal numbers NumPy's sort chooses, there as here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array

METHODS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning")
"""How rows are chosen from the counts; the first is the default."""

_SLACK = 1e-6
"""Probabilities that are closer than this are equal."""
_LEAST_THRESHOLD = 2e-6
_NEVER = 2.0
"""The threshold of a class without rows: no probability reaches it."""


def checked_probabilities(probabilities: Any, rows: int, name: str = "probabilities") -> Array:
    """Returns probabilities as float64 of shape ``(rows, classes)``.

    One column is that of the second of two classes.

    Raises:
        ValueError: if they do not lie in [0, 1] or do not sum to 1; the message names the row.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim == 1:
        p = p[:, None]
    if p.ndim != 2 or len(p) != rows:
        raise ValueError(f"{name}: expected shape ({rows}, classes), got {p.shape}")
    outside = ~np.isfinite(p) | (p < -1e-6) | (p > 1 + 1e-6)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(
            f"{name}: expected numbers from 0 to 1, got {p[row, column]:.6g} in row {row}, column "
            f"{column}; logits become probabilities with handmill.ops.softmax"
        )
    if p.shape[1] == 1:
        return np.concatenate([1 - p, p], axis=1)
    sums = p.sum(axis=1)
    # float32 softmax over K classes is off by some K units in the last place.
    wrong = np.abs(sums - 1) > 1e-3
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: expected rows that sum to 1, but row {row} sums to {sums[row]:.6g}; several "
            "labels for a row have no confident joint, and logits become probabilities with "
            "handmill.ops.softmax"
        )
    return p


def confident_joint(codes: Array, p: Array) -> tuple[Array, Array]:
    """Counts rows by given and probable class.

    A row counts for the classes whose probability reaches the mean probability of that class over
    the rows that carry its label: for the one there is, or the most probable of all if there are
    several.

    Args:
        codes: the given class of each row.
        p: probabilities, float64 of shape ``(rows, classes)``.

    Returns:
        Counts (int64, given by probable), scaled to the counts of the labels, rounded so that rows
        keep their sums; and the rows that counted for another class than their own.
    """
    rows, classes = p.shape
    counts = np.bincount(codes, minlength=classes)
    thresholds = np.full(classes, _NEVER)
    for k in np.flatnonzero(counts):
        thresholds[k] = max(_LEAST_THRESHOLD, np.mean(p[:, k][codes == k]))
    reached = p >= thresholds - _SLACK
    number = reached.sum(axis=1)
    probable = np.where(number > 1, p.argmax(axis=1), reached.argmax(axis=1))
    sure = np.flatnonzero(number > 0)
    joint = np.zeros((classes, classes), np.int64, order="F")  # as cleanlab adds it up, in bits
    np.add.at(joint, (codes[sure], probable[sure]), 1)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    scaled = (joint.T / np.maximum(joint.sum(axis=1), 1e-100) * counts).T
    scaled = scaled / max(scaled.sum(), 1e-100) * rows
    return _rounded_rows(scaled), sure[probable[sure] != codes[sure]]


def flagged(codes: Array, p: Array, method: str = METHODS[0]) -> Array:
    """Says which rows probably carry a wrong label (bool).

    Args:
        codes: the given class of each row.
        p: probabilities, float64 of shape ``(rows, classes)``.
        method: one of :data:`METHODS`. ``"prune_by_noise_rate"`` takes of each label i, for each
            class j, as many rows as the joint counts, those of largest ``p_j - p_i``;
            ``"prune_by_class"`` as many of the least ``p_i`` as the joint counts outside of i;
            ``"both"`` what both take; ``"confident_learning"`` the rows that were counted outside.
    """
    joint, outside = confident_joint(codes, p)
    flags = np.zeros(len(codes), bool)
    if method == "confident_learning":
        flags[outside] = True
    else:
        counts = _with_diagonal(joint)
        flags = {
            "prune_by_noise_rate": _by_noise_rate,
            "prune_by_class": _by_class,
            "both": lambda *given: _by_noise_rate(*given) & _by_class(*given),
        }[method](codes, p, counts)
    own = p.copy()
    own[np.arange(len(codes)), codes] += _SLACK
    kept: Array = flags & (own.argmax(axis=1) != codes)
    return kept


def _by_noise_rate(codes: Array, p: Array, counts: Array) -> Array:
    flags = np.zeros(len(codes), bool)
    for i in range(p.shape[1]):
        rows = np.flatnonzero(codes == i)
        if len(rows) <= 1:  # a class keeps a row
            continue
        for j in np.flatnonzero(counts[i]):
            if i != j:
                order = np.argsort(p[rows, i] - p[rows, j])
                flags[rows[order[: counts[i, j]]]] = True
    return flags


def _by_class(codes: Array, p: Array, counts: Array) -> Array:
    flags = np.zeros(len(codes), bool)
    for i in range(p.shape[1]):
        rows = np.flatnonzero(codes == i)
        number = len(rows) - counts[i, i]
        if len(rows) > 1 and number >= 1:
            order = np.argsort(p[rows, i])
            flags[rows[order[:number]]] = True
    return flags


def _with_diagonal(joint: Array) -> Array:
    """Counts whose diagonal is at least 1, so that no class loses all its rows."""
    diagonal = np.maximum(joint.diagonal(), 1)
    lacking = diagonal - joint.diagonal()
    others = np.maximum(np.count_nonzero(joint, axis=1) - 1.0, 1.0)
    counts: Array = np.maximum(joint - (lacking / others)[:, None], 0)
    np.fill_diagonal(counts, diagonal)
    whole: Array = counts.astype(np.int64)
    return whole


def _rounded_rows(table: Array) -> Array:
    """Whole numbers near those of a table, with its sums of rows: largest remainders first."""
    rounded = np.round(table)
    for row, whole in zip(table, rounded, strict=True):
        lacking = int(np.round(row.sum()) - whole.sum())
        order = np.argsort(row - whole)
        chosen = order[::-1][:lacking] if lacking > 0 else order[: max(0, -lacking)]
        whole[chosen] += np.sign(lacking)
    result: Array = rounded.astype(np.int64)
    return result
