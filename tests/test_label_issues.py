"""Confident learning: equal to cleanlab's, over folds and seeds, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.strategy import label_issues, label_issues_from
from handmill.strategy.confident_learning import METHODS, confident_joint, flagged

# What cleanlab 2.9 gives for these weights, divided by the sums of their rows.
TWO = (
    [[19, 54], [48, 5], [61, 22], [41, 4], [54, 12], [26, 55], [13, 53], [20, 58], [46, 22],
     [62, 28], [63, 9], [50, 19]],
    [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    [[7, 2], [1, 2]],
    [10, 6, 7],
    [10, 6, 7],
)  # fmt: skip
FIVE = (  # class 2 is absent
    [[58, 2, 26, 25, 25], [41, 29, 29, 17, 24], [63, 23, 5, 2, 8], [7, 56, 25, 22, 13],
     [16, 19, 23, 4, 63], [6, 57, 15, 25, 23], [5, 16, 2, 44, 14], [26, 47, 5, 28, 13],
     [44, 18, 10, 10, 13], [13, 24, 26, 8, 54], [60, 16, 17, 29, 7], [9, 23, 26, 52, 11],
     [63, 10, 14, 26, 12], [2, 16, 26, 65, 25], [23, 26, 9, 42, 21], [7, 61, 23, 14, 13],
     [16, 1, 26, 61, 1], [24, 26, 29, 55, 5], [52, 8, 28, 25, 14], [43, 6, 8, 22, 14]],
    [0, 0, 1, 3, 0, 1, 3, 3, 0, 4, 1, 3, 0, 3, 3, 1, 3, 3, 0, 0],
    [[6, 0, 0, 0, 1], [2, 2, 0, 0, 0], [0, 0, 0, 0, 0], [0, 3, 0, 5, 0], [0, 0, 0, 0, 1]],
    [10, 4, 3, 2, 7],
    [2, 4, 10, 3, 7],
)  # fmt: skip


def probabilities(weights: Any) -> np.ndarray[Any, Any]:
    w = np.asarray(weights, np.float64)
    return w / w.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("case", (TWO, FIVE))
def test_counts_flags_and_ranks_are_those_of_cleanlab(case: Any) -> None:
    weights, y, joint, by_confidence, by_margin = case
    p = probabilities(weights)
    issues = label_issues_from(p, y)
    assert issues.joint.tolist() == joint
    assert issues.rows.tolist() == by_confidence
    assert label_issues_from(p, y, rank_by="normalized_margin").rows.tolist() == by_margin
    for method in METHODS:
        found = label_issues_from(p, y, method=method).rows
        assert sorted(found.tolist()) == sorted(by_confidence)
    assert np.flatnonzero(~issues.keep).tolist() == sorted(by_confidence)


@pytest.mark.filterwarnings("ignore:May not flag all label issues")
def test_flags_equal_cleanlab_on_random_cases() -> None:
    cleanlab = pytest.importorskip("cleanlab", reason="no cleanlab")
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    assert cleanlab.__version__
    for case in range(20):
        rng = np.random.default_rng(case)
        classes = (2, 3, 4, 5, 7, 10, 12, 15, 17, 20)[case % 10]
        rows = 300
        true = rng.integers(0, classes, rows)
        logits = rng.normal(size=(rows, classes))
        logits[np.arange(rows), true] += rng.uniform(0.5, 4)
        p = probabilities(np.exp(logits))
        y = np.where(rng.random(rows) < 0.15, rng.integers(0, classes, rows), true)
        if case % 3 == 1 and classes > 2:
            y[y == 1] = 0
        assert np.array_equal(confident_joint(y, p)[0], compute_confident_joint(y, p)), case
        for method in METHODS:
            theirs = find_label_issues(y, p, filter_by=method, n_jobs=1)
            assert np.array_equal(flagged(y, p, method), theirs), (case, method)


def build(units: int = 64) -> Any:
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(units, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile(handmill.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model


@pytest.mark.slow
def test_flipped_digits_are_found() -> None:
    (x, y), _ = handmill.datasets.digits.load_data()
    x = x.reshape(-1, 64).astype("float32") / 16
    rng = np.random.default_rng(0)
    flipped = rng.choice(len(y), len(y) // 20, replace=False)
    y = y.astype(np.int64)
    y[flipped] = (y[flipped] + rng.integers(1, 10, len(flipped))) % 10
    issues = label_issues(build, x, y)
    hits = np.isin(issues.rows, flipped).sum()
    assert hits >= 0.8 * len(issues.rows)
    assert hits >= 0.8 * len(flipped)


def pair(rows: int = 40) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    x = rng.normal(size=(rows, 2)) + 6 * y[:, None]
    return x.astype("float32"), y


def build_pair(units: int = 1, activation: str = "sigmoid", rate: float = 0.1) -> Any:
    model = handmill.Sequential([handmill.Input((2,)), layers.Dense(units, activation)])
    loss = "binary_crossentropy" if units == 1 else "categorical_crossentropy"
    model.compile(handmill.optimizers.Adam(rate), loss)
    return model


def test_texts_one_hot_and_sigmoid_find_the_same() -> None:
    x, y = pair()
    y[[5, 20]] = 1 - y[[5, 20]]
    few = {"folds": 2, "seeds": 2, "epochs": 30, "batch_size": 4}
    by_number = label_issues(build_pair, x, y, **few)
    assert sorted(by_number.rows.tolist()) == [5, 20]
    by_text = label_issues(build_pair, x, np.array(["cat", "dog"])[y], **few)
    assert by_text.classes == ("cat", "dog")
    assert by_text.rows.tolist() == by_number.rows.tolist()
    assert np.array_equal(by_text.probabilities, by_number.probabilities)
    softmax = label_issues(lambda: build_pair(2, "softmax"), x, np.eye(2)[y], **few)
    assert sorted(softmax.rows.tolist()) == [5, 20]
    report = by_text.report()
    assert report["labels.issues"].rows == tuple(by_text.rows.tolist())
    assert report["labels.pair"].text() == "1 rows labelled 'cat' look like 'dog'"
    assert str(by_text.report("zh")).startswith("警告 labels.issues：5.0% 的标签很可能有误")


def refused(error: type[Exception], text: str, function: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(error, match=re.escape(text)):
        function(*args, **kwargs)


def test_bad_probabilities_are_refused() -> None:
    p = probabilities(TWO[0])
    y = TWO[1]
    many = np.full((12, 2), 0.5)
    many[3] = 0.7, 0.7
    refused(
        ValueError, "expected rows that sum to 1, but row 3 sums to 1.4", label_issues_from, many, y
    )
    logits = p.copy()
    logits[2, 1] = 3.5
    refused(
        ValueError,
        "probabilities: expected numbers from 0 to 1, got 3.5 in row 2, column 1; logits become "
        "probabilities with handmill.ops.softmax",
        label_issues_from, logits, y,
    )  # fmt: skip
    refused(ValueError, "expected shape (12, classes), got (11, 2)", label_issues_from, p[:11], y)
    refused(ValueError, "got 2 in row 0", label_issues_from, p, [2, *y[1:]])
    refused(ValueError, "row 1 has none (1 in all)", label_issues_from, p, [0.0, np.nan, *y[2:]])
    refused(
        ValueError,
        "y has 3 classes, the probabilities have 2",
        label_issues_from,
        p,
        list("abc") * 4,
    )
    refused(
        ValueError, "Did you mean 'prune_by_class'?", label_issues_from, p, y, method="by_class"
    )
    refused(ValueError, "Unknown rank_by: 'margin'", label_issues_from, p, y, rank_by="margin")


def test_bad_data_are_refused_before_training() -> None:
    def never() -> Any:
        raise AssertionError

    x, y = pair()
    refused(ValueError, "all 40 rows are of class 1", label_issues, never, x, np.ones(40, int))
    few = np.zeros(40, int)
    few[:3] = 1
    refused(
        ValueError,
        "label_issues: folds=5 need 5 rows of each class or more, but class 1 has 3; leave it out, "
        "or pass folds=3",
        label_issues, never, x, few,
    )  # fmt: skip
    refused(ValueError, "x has 39 rows, y has 40: expected as many", label_issues, never, x[1:], y)
    refused(
        ValueError, "folds must be a whole number of 2 or more", label_issues, never, x, y, folds=1
    )
    refused(
        ValueError, "agree: expected at most the 2 seeds, got 3",
        label_issues, never, x, y, seeds=2, agree=3,
    )  # fmt: skip
    refused(
        ValueError, "expected whole numbers, texts or one-hot rows", label_issues, never, x, x[:, 0]
    )


def test_models_without_probabilities_are_refused() -> None:
    x, y = pair()
    refused(
        ValueError, "the output of build(): expected numbers from 0 to 1",
        label_issues, lambda: build_pair(1, "linear"), x, y, folds=2, seeds=1, epochs=1,
    )  # fmt: skip


def test_the_same_call_gives_the_same_bits() -> None:
    x, y = pair()
    one = label_issues(build_pair, x, y, folds=2, seeds=2, epochs=2)
    two = label_issues(build_pair, x, y, folds=2, seeds=2, epochs=2)
    assert np.array_equal(one.probabilities, two.probabilities)
