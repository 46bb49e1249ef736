"""Labels that are probably wrong: confident learning over the folds of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.data.keyed_random import make_key, permutation
from handmill.ir.op import Array
from handmill.naming import known_names
from handmill.strategy.confident_learning import (
    METHODS,
    checked_probabilities,
    confident_joint,
    flagged,
)
from handmill.strategy.findings import Finding, Report, Wording
from handmill.strategy.inputs import inputs_of, taken
from handmill.strategy.many import train_many
from handmill.strategy.targets import Targets, targets_of

RANKS = ("self_confidence", "normalized_margin")
"""By what the flagged rows are ranked: the probability of the given label, or how far it is below
the most probable other class."""

WORDINGS = {
    "labels.issues": Wording(
        "{value:.1%} of the labels are probably wrong: {count} of {total} rows ({rows})",
        "{value:.1%} 的标签很可能有误：共 {total} 行中的 {count} 行（{rows}）",
        "look at issues.rows, then x[issues.keep], y[issues.keep]",
        "查看 issues.rows，再用 x[issues.keep], y[issues.keep]",
    ),
    "labels.pair": Wording(
        "{value:.0f} rows labelled {given} look like {other}",
        "标为 {given} 的 {value:.0f} 行看起来像 {other}",
    ),
}


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Rows whose labels are probably wrong.

    Attributes:
        rows: the flagged rows, worst first (int64).
        scores: for each row of the data, how well its label fits it, from 0 to 1; low is bad.
        votes: for each row, in how many seeds it was flagged.
        needed: how many votes flag a row.
        probabilities: of each row and class, from models that had not seen the row; the mean over
            seeds, float64 of shape ``(rows, classes)``.
        joint: how many rows carry label i and are probably of class j, the mean over seeds, shape
            ``(classes, classes)``.
        classes: the class of each column.
        given: the label of each row, as a column.
        suggested: the most probable class of each row, as a column.
    """

    rows: Array
    scores: Array
    votes: Array
    needed: int
    probabilities: Array
    joint: Array
    classes: tuple[Any, ...]
    given: Array
    suggested: Array

    @property
    def keep(self) -> Array:
        """Which rows were not flagged (bool), to train on them alone."""
        kept = np.ones(len(self.given), bool)
        kept[self.rows] = False
        return kept

    def report(self, language: str = "en") -> Report:
        """The number of flagged rows, and which classes are confused, as findings.

        Args:
            language: ``"en"`` or ``"zh"``.
        """
        share = len(self.rows) / len(self.given)
        level = "warning" if len(self.rows) else "ok"
        total = len(self.given)
        findings = [
            Finding.of(WORDINGS, "labels.issues", level, share, rows=self.rows, total=total)
        ]
        pairs = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(pairs, (self.given[self.rows], self.suggested[self.rows]), 1)
        for place in np.argsort(-pairs, axis=None, kind="stable")[:3]:
            i, j = np.unravel_index(place, pairs.shape)
            if pairs[i, j]:
                chosen = self.rows[(self.given[self.rows] == i) & (self.suggested[self.rows] == j)]
                pair = Finding.of(
                    WORDINGS,
                    "labels.pair",
                    "note",
                    float(pairs[i, j]),
                    rows=chosen,
                    given=repr(self.classes[i]),
                    other=repr(self.classes[j]),
                )
                findings.append(pair)
        return Report(tuple(findings), language)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return str(self.report())


def label_issues_from(
    probabilities: Any,
    y: Any,
    *,
    method: str = METHODS[0],
    rank_by: str = RANKS[0],
) -> LabelIssues:
    """Finds labels that are probably wrong from probabilities that are there already.

    Args:
        probabilities: of each row and class, from a model that had *not* been trained on the row,
            such as ``predict`` on the held-out part of each fold; shape ``(rows, classes)``, or
            ``(rows,)`` and ``(rows, 1)`` for the second of two classes.
        y: labels: columns of ``probabilities`` by number, one-hot rows, or texts, which stand for
            the columns in alphabetical order.
        method: how rows are chosen from the counts: ``"prune_by_noise_rate"``,
            ``"prune_by_class"``, ``"both"`` or ``"confident_learning"``.
        rank_by: ``"self_confidence"`` or ``"normalized_margin"``.

    Raises:
        ValueError: for probabilities that do not sum to 1, labels that are missing or no columns.

    Example:
        >>> import handmill
        >>> p = [[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]
        >>> handmill.strategy.label_issues_from(p, [0, 0, 1, 1, 1]).rows.tolist()
        [2]

    Source: Northcutt, Jiang, Chuang, "Confident learning", JAIR 2021; the flags equal cleanlab's.
    """
    _check_choices(method, rank_by)
    targets = _labels(y)
    p = checked_probabilities(probabilities, len(targets.values))
    codes, classes = _columns(targets, p.shape[1])
    return _issues([p], codes, classes, method, rank_by, 1)


def label_issues(
    build: Callable[[], Any],
    x: Any,
    y: Any,
    *,
    folds: int = 5,
    seeds: int = 5,
    epochs: int = 20,
    batch_size: int | None = None,
    agree: int | None = None,
    method: str = METHODS[0],
    rank_by: str = RANKS[0],
) -> LabelIssues:
    """Finds labels that are probably wrong.

    The rows are cut into folds, anew for each seed; a model trained on all other folds says how
    probable each class is for the rows of one. A row is flagged if confident learning flags it
    under at least ``agree`` of the seeds, so that no single training decides.

    Args:
        build: gives a new compiled model whose output are probabilities, shape ``(rows, classes)``
            or ``(rows, 1)``.
        x: inputs, as for ``fit``.
        y: labels: class numbers, one-hot rows, or texts, which are numbered in alphabetical order.
        folds: parts of the rows, each with every class.
        seeds: how many cuts and trainings of each fold.
        epochs: epochs of each training.
        batch_size: rows of a batch; default 32.
        agree: votes that flag a row; default: more than half of the seeds.
        method: how rows are chosen from the counts, see :func:`label_issues_from`.
        rank_by: ``"self_confidence"`` or ``"normalized_margin"``.

    Returns:
        A :class:`LabelIssues`; its rows are worst first.

    Raises:
        ValueError: if a class has fewer rows than folds, a label is missing, ``build`` gives no
            probabilities, or a training diverges. Nothing was trained where the data are refused.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> def build():
        ...     model = handmill.Sequential([
        ...         handmill.Input((2,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax")])
        ...     model.compile(handmill.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
        ...     return model
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(60) % 2
        >>> x = (rng.normal(size=(60, 2)) + 6 * y[:, None]).astype("float32")
        >>> y[[7, 30]] = 1 - y[[7, 30]]
        >>> sorted(handmill.strategy.label_issues(build, x, y, seeds=2).rows.tolist())
        [7, 30]

    Source: Northcutt, Jiang, Chuang, "Confident learning", JAIR 2021.
    """
    _check_choices(method, rank_by)
    folds, seeds = whole_number("folds", folds, 2), whole_number("seeds", seeds, 1)
    needed = seeds // 2 + 1 if agree is None else whole_number("agree", agree, 1)
    if needed > seeds:
        raise ValueError(f"agree: expected at most the {seeds} seeds, got {needed}")
    targets = _labels(y)
    rows = inputs_of(x, "x").rows
    if rows != len(targets.values):
        raise ValueError(f"x has {rows} rows, y has {len(targets.values)}: expected as many")
    codes = targets.labels
    _check_folds(targets, folds)
    cuts = [_folds(codes, folds, seed) for seed in range(seeds)]
    splits = [(np.flatnonzero(c != f), np.flatnonzero(c == f)) for c in cuts for f in range(folds)]
    runs = train_many(
        build,
        [{}],
        x,
        targets.values if targets.one_hot else codes,
        seeds=folds * seeds,
        splits=splits,
        epochs=epochs,
        batch_size=batch_size,
    )
    found: list[Array | None] = [None] * seeds
    for lane, (_, held_out) in zip(runs.lanes, splits, strict=True):
        if lane.failure is not None:
            raise ValueError(
                f"label_issues: a training did not stay finite: {lane.failure.reason}; a smaller "
                "learning rate or scaled inputs help, handmill.check_data(x, y) looks at them"
            )
        model = runs.model(0, lane.seed)
        raw = model.predict(taken(x, held_out), batch_size=batch_size, verbose=0)
        part = checked_probabilities(raw, len(held_out), "the output of build()")
        seed = lane.seed // folds
        whole = found[seed]
        if whole is None:
            whole = found[seed] = np.empty((rows, part.shape[1]))
        whole[held_out] = part
    each = [p for p in found if p is not None]
    codes, classes = _columns(targets, each[0].shape[1])
    return _issues(each, codes, classes, method, rank_by, needed)


def _issues(
    each: Sequence[Array],
    codes: Array,
    classes: tuple[Any, ...],
    method: str,
    rank_by: str,
    needed: int,
) -> LabelIssues:
    votes = np.sum([flagged(codes, p, method) for p in each], axis=0)
    p = np.mean(each, axis=0)
    rows = np.arange(len(codes))
    scores = p[rows, codes]
    if rank_by == "normalized_margin":
        others = p.copy()
        others[rows, codes] = -np.inf
        scores = (scores - others.max(axis=1) + 1) / 2
    chosen = np.flatnonzero(votes >= needed)
    return LabelIssues(
        rows=chosen[np.argsort(scores[chosen], kind="stable")],
        scores=scores,
        votes=votes,
        needed=needed,
        probabilities=p,
        joint=np.mean([confident_joint(codes, p)[0] for p in each], axis=0),
        classes=classes,
        given=codes,
        suggested=p.argmax(axis=1),
    )


def _labels(y: Any) -> Targets:
    targets = targets_of({"y": y}, "classification")["y"]
    missing = np.flatnonzero(targets.labels < 0)
    if len(missing):
        raise ValueError(
            f"y: expected a label for each row, but row {missing[0]} has none "
            f"({len(missing)} in all)"
        )
    return targets


def _columns(targets: Targets, classes: int) -> tuple[Array, tuple[Any, ...]]:
    """The labels as columns of the probabilities, and what each column is called."""
    codes, names = targets.labels, targets.names
    if targets.one_hot or isinstance(names[0], str):
        if len(names) != classes:
            raise ValueError(f"y has {len(names)} classes, the probabilities have {classes}")
        return codes, names
    labels = np.asarray(targets.values, np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f"y: expected class numbers from 0 to {classes - 1}, the columns of the probabilities, "
            f"got {labels[wrong[0]]} in row {wrong[0]}"
        )
    return labels, tuple(range(classes))


def _check_folds(targets: Targets, folds: int) -> None:
    counts = targets.counts()
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise ValueError(
            f"label_issues: expected two classes or more, but all {counts.sum()} rows are of class "
            f"{targets.names[present[0]]!r}"
        )
    least = present[np.argmin(counts[present])]
    if counts[least] < folds:
        raise ValueError(
            f"label_issues: folds={folds} need {folds} rows of each class or more, but class "
            f"{targets.names[least]!r} has {counts[least]}; leave it out, or pass folds="
            f"{max(2, counts[least])}"
        )


def _folds(codes: Array, folds: int, seed: int) -> Array:
    """The fold of each row: the rows of a class in random order, dealt out one by one."""
    shuffled = permutation(make_key(seed), len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) % folds
    return found


def _check_choices(method: Any, rank_by: Any) -> None:
    if method not in METHODS:
        raise ValueError(known_names("method", method, METHODS))
    if rank_by not in RANKS:
        raise ValueError(known_names("rank_by", rank_by, RANKS))
