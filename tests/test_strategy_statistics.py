"""Intervals and tests: values from formulas and SciPy, and how often they err on equal models."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from handmill.strategy import statistics as st
from handmill.strategy.distributions import incomplete_beta, student_cdf, student_quantile


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Distributions.


def test_incomplete_beta_has_its_closed_forms() -> None:
    for x in np.linspace(0, 1, 41):
        assert incomplete_beta(1, 1, x) == pytest.approx(x, abs=1e-14)
        assert incomplete_beta(3, 1, x) == pytest.approx(x**3, abs=1e-14)
        assert incomplete_beta(1, 4, x) == pytest.approx(1 - (1 - x) ** 4, abs=1e-14)
        arcsine = 2 / math.pi * math.asin(math.sqrt(x))
        assert incomplete_beta(0.5, 0.5, x) == pytest.approx(arcsine, abs=1e-13)
    for given in ((0, 1, 0.5), (1, -1, 0.5), (1, 1, 1.5), (1, 1, math.nan)):
        with pytest.raises(ValueError, match="above 0, x from 0 to 1"):
            incomplete_beta(*given)


def test_student_has_its_closed_forms() -> None:
    for t in (-1e8, -40.0, -2.0, -1e-9, 0.0, 0.3, 7.0, math.inf):
        cauchy = 0.5 + math.atan(t) / math.pi
        assert student_cdf(t, 1) == pytest.approx(cauchy, rel=1e-7)
        if math.isfinite(t):
            two = 0.5 + t / (2 * math.sqrt(2 + t * t))
            assert student_cdf(t, 2) == pytest.approx(two, abs=1e-14)
    # Tables: Student's t for 95 % on both sides.
    for degrees, t in ((1, 12.706), (4, 2.776), (7, 2.365), (9, 2.262), (29, 2.045), (1e6, 1.960)):
        assert student_quantile(0.975, degrees) == pytest.approx(t, abs=5e-4)
        assert student_quantile(0.025, degrees) == pytest.approx(-t, abs=5e-4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        student_quantile(1.0, 3)


def test_distributions_are_those_of_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
    draws = generator()
    for a, b, x in zip(
        10 ** draws.uniform(-1, 3, 300), 10 ** draws.uniform(-1, 3, 300), draws.random(300),
        strict=True,
    ):  # fmt: skip
        assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-12)
    for t, degrees in zip(draws.normal(0, 5, 300), 10 ** draws.uniform(0, 4, 300), strict=True):
        assert student_cdf(t, degrees) == pytest.approx(
            stats.t.cdf(t, degrees), rel=1e-9, abs=1e-13
        )
    for p, degrees in product((1e-6, 0.01, 0.3, 0.5, 0.8, 0.999), (1, 3, 9, 200)):
        assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-8)


# Values.


def test_intervals_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for right, rows in ((0, 5), (5, 5), (348, 359), (1, 1000), (17, 40)):
        theirs = stats.binomtest(right, rows).proportion_ci(method="wilson")
        assert st.wilson_interval(right, rows) == pytest.approx(tuple(theirs), abs=1e-12)
    values = generator().normal(size=12)
    theirs = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
    assert st.mean_interval(values, 0.9) == pytest.approx(theirs, rel=1e-9)


def test_tests_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    draws = generator()
    for pairs in (2, 5, 9):
        d = draws.normal(0.5, 1, pairs)
        theirs = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert st.sign_flip_test(d) == pytest.approx(theirs.pvalue, abs=1e-12)
    for _ in range(20):
        a, b = draws.random(60) < 0.8, draws.random(60) < 0.7
        only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
        assert st.mcnemar_test(a, b) == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    # Without overlap between splits the correction is that of 1/R alone: the plain t-test.
    d = draws.normal(0.1, 1, 8)
    found = st.corrected_t_test(d, 10**12, 1)
    assert (found.t, found.p) == pytest.approx(tuple(stats.ttest_1samp(d, 0)), rel=1e-6)


def test_values_by_hand() -> None:
    assert st.sign_flip_test([1, 1, 1]) == 0.25  # three seeds never decide
    assert st.sign_flip_test([1] * 5) == 2 / 2**5 > 0.05  # nor do five
    assert st.sign_flip_test([1, -1]) == 1.0
    assert st.sign_flip_test([0.0, 0.0]) == 1.0
    assert st.holm([0.01, 0.01, 0.9, 0.02]).tolist() == [0.04, 0.04, 0.9, 0.04]
    assert st.holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    d = np.array([0.02, 0.01, 0.03, 0.02, 0.02])
    found = st.corrected_t_test(d, 90, 10)
    assert found.t == pytest.approx(0.02 / math.sqrt((1 / 5 + 10 / 90) * d.var(ddof=1)))
    assert found.interval.low == pytest.approx(0.02 - 0.02 / found.t * student_quantile(0.975, 4))
    assert st.corrected_t_test([0.1, 0.1], 9, 1).p == 0.0
    assert st.corrected_t_test([0.0, 0.0], 9, 1).p == 1.0
    assert st.mcnemar_test([True] * 6 + [False], [False] * 7) == 2 / 2**6
    assert st.mcnemar_test([True, False], [True, False]) == 1.0
    assert st.mcnemar_test(np.ones(5000), np.zeros(5000)) == 0.0  # no overflow
    assert st.seeds_needed([1.0, 1.0, 1.0]) == 6
    assert st.seeds_needed([1.0, -1.0]) == math.inf
    assert st.seeds_needed([0.0, 0.2]) == math.ceil(7.9 * 2 + 2)
    assert st.probability_better([1, 2, 3, 4], [0, 2, 4, 1])[0] == 2.5 / 4
    assert st.wilson_interval(0, 10).low == 0.0
    assert st.wilson_interval(10, 10).high == 1.0
    assert st.mean_interval([0.5]) == (-math.inf, math.inf)
    assert [round(st.winners_curse(k), 2) for k in (2, 3)] == [0.56, 0.85]  # 1/sqrt(pi), 1.5 of it


def test_many_pairs_are_drawn_with_a_seed_of_their_own() -> None:
    d = generator().normal(0.5, 1, 30)
    before = repr(np.random.get_state())  # noqa: NPY002
    p = st.sign_flip_test(d)
    assert p == st.sign_flip_test(d)
    assert p == pytest.approx(st.sign_flip_test(d, seed=1), abs=0.02)
    assert (st.sign_patterns(30) != st.sign_patterns(30, seed=1)).any()
    assert repr(np.random.get_state()) == before  # noqa: NPY002
    assert st.sign_flip_test(np.ones(30)) == 1 / 5000


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda: st.wilson_interval(3, 2), "3 of 2"),
        (lambda: st.wilson_interval(0, 0), "at least one trial"),
        (lambda: st.wilson_interval(1, 2, 95), "confidence must be between 0 and 1. Received: 95"),
        (lambda: st.mean_interval([]), "R >= 1"),
        (lambda: st.mean_interval([1.0, math.nan]), "finite"),
        (lambda: st.sign_flip_test([[1.0]]), "shape"),
        (lambda: st.holm([0.5, 1.5]), "probabilities"),
        (lambda: st.corrected_t_test([1.0], 9, 1), "at least two differences"),
        (lambda: st.corrected_t_test([1.0, 2.0], 0, 1), "at least one row"),
        (lambda: st.mcnemar_test([1, 0], [1]), r"shapes \(2,\) and \(1,\)"),
        (lambda: st.mcnemar_test([0.5], [1]), "whether the model was right"),
        (lambda: st.seeds_needed([1.0]), "at least two"),
        (lambda: st.probability_better([1.0], [1.0, 2.0]), "1 and 2 scores"),
        (lambda: st.winners_curse(0), "at least 1"),
        (lambda: st.compare_with_best([0.5, 0.6]), r"shape \(2,\)"),
        (lambda: st.compare_with_best([[0.5, math.inf]]), "finite"),
    ),
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# The best of a table.


def best_by_enumeration(scores: np.ndarray[Any, Any]) -> list[float]:
    """One step of the rule, pattern by pattern, for tables where nobody leaves."""
    count, seeds = scores.shape
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    squares = {ij: sum((scores[ij[0]] - scores[ij[1]]) ** 2) for ij in pairs}
    median = np.median(list(squares.values()))

    def size(i: int, j: int, signs: Any) -> float:
        total = sum(s * (a - b) for s, a, b in zip(signs, scores[i], scores[j], strict=True))
        return abs(total) / math.sqrt(squares[min(i, j), max(i, j)] + median)

    patterns = list(product((1, -1), repeat=seeds))
    largest = [max(size(i, j, signs) for i, j in pairs) for signs in patterns]
    best = int(scores.mean(axis=1).argmax())
    seen = [size(best, k, [1] * seeds) if k != best else 0.0 for k in range(count)]
    return [sum(v >= s - 1e-9 for v in largest) / len(patterns) for s in seen]


def test_comparison_with_the_best_is_what_it_says() -> None:
    for seed in range(5):
        scores = generator(seed).normal(size=(4, 6))
        found = st.compare_with_best(scores, alpha=0.0)  # nobody leaves
        assert found == pytest.approx(best_by_enumeration(scores))


def test_comparison_with_the_best_does_not_depend_on_order_or_scale() -> None:
    scores = generator(3).normal(size=(9, 8)) + np.repeat([0.0, 3.0, 3.1], 3)[:, None]
    p = st.compare_with_best(scores)
    order = generator(4).permutation(9)
    assert st.compare_with_best(scores[order]).tolist() == p[order].tolist()
    assert st.compare_with_best(scores[:, ::-1]) == pytest.approx(p)
    shared = scores * 7 + generator(5).normal(0, 50, 8)  # what a seed does to all of them
    assert st.compare_with_best(shared) == pytest.approx(p)
    assert (p[:3] <= 0.05).all()
    assert p.max() == 1.0


def test_comparison_with_the_best_of_few() -> None:
    assert st.compare_with_best([[0.5, 0.6]]).tolist() == [1.0]
    assert st.compare_with_best(np.full((3, 8), 0.9)).tolist() == [1.0] * 3
    two = np.array([np.arange(8.0), np.arange(8.0) + np.array([1, 1, 2, 1, 1, 1, 2, 1])])
    assert st.compare_with_best(two).tolist() == [2 / 2**8, 1.0]  # the sign-flip test itself
    # 8 seeds decide among 25, where 24 tests by themselves cannot: 24 x 2 / 2^8 > 0.05.
    many = generator().normal(0, 0.01, (25, 8))
    many[7] += 1
    p = st.compare_with_best(many)
    assert (np.delete(p, 7) < 0.05).all()


# How often they err: equal configurations, 1,000 tables.


def called_different(make: Any, tables: int = 1000, **settings: Any) -> float:
    return float(
        np.mean([(st.compare_with_best(make(), **settings) <= 0.05).any() for _ in range(tables)])
    )


@pytest.mark.slow
def test_equal_configurations_are_called_different_in_six_percent_at_most() -> None:
    draws = generator(1)
    rates = {
        "2 configurations, 8 seeds": called_different(lambda: draws.normal(size=(2, 8))),
        "25, 10 seeds": called_different(lambda: draws.normal(size=(25, 10))),
        "25, 8 seeds, skewed": called_different(lambda: -draws.exponential(size=(25, 8))),
        "25, accuracies on 359 rows": called_different(
            lambda: draws.binomial(359, 0.97, size=(25, 10)) / 359
        ),
        "25, 20 seeds, patterns drawn": called_different(lambda: draws.normal(size=(25, 20)), 200),
        "25, five of them unsteady": called_different(
            lambda: draws.normal(size=(25, 10)) * np.repeat([10, 1], [5, 20])[:, None]
        ),
    }
    assert max(rates.values()) <= 0.06, rates
    flips = np.mean([st.sign_flip_test(draws.normal(size=9)) <= 0.05 for _ in range(1000)])
    assert flips <= 0.06


@pytest.mark.slow
def test_equal_ones_stay_equal_beside_worse_ones() -> None:
    draws = generator(2)
    wrong = 0
    for _ in range(1000):
        scores = draws.normal(size=(16, 8)) - np.repeat([0.0, 8.0, 200.0], [8, 4, 4])[:, None]
        p = st.compare_with_best(scores)
        wrong += bool((p[:8] <= 0.05).any())
        assert (p[8:] <= 0.05).all()
    assert wrong / 1000 <= 0.06


def test_holm_against_a_chosen_best_errs_too_often() -> None:
    """Why the tables do not use it: the best was found in the same numbers."""
    draws = generator(3)
    wrong = 0
    for _ in range(200):
        scores = draws.normal(size=(25, 10))
        best = int(scores.mean(axis=1).argmax())
        single = [st.sign_flip_test(scores[best] - row) for row in np.delete(scores, best, 0)]
        wrong += bool((st.holm(single) <= 0.05).any())
    assert wrong / 200 > 0.1


@pytest.mark.slow
def test_splits_that_overlap_are_judged_by_the_corrected_test() -> None:
    """Two equal learners on 100 rows, 20 random splits: each looks at one of two equal columns."""
    draws = generator(4)
    corrected = plain = 0
    for _ in range(1000):
        y = draws.integers(0, 2, 100)
        x = y[:, None] * 0.8 + draws.normal(size=(100, 2))
        d = np.empty(20)
        for i in range(20):
            order = draws.permutation(100)
            train, test = order[:80], order[80:]
            means = [x[train][y[train] == c].mean(axis=0) for c in (0, 1)]
            right = (np.abs(x[test] - means[1]) < np.abs(x[test] - means[0])) == y[test, None]
            d[i] = right[:, 0].mean() - right[:, 1].mean()
        corrected += st.corrected_t_test(d, 80, 20).p <= 0.05
        plain += st.corrected_t_test(d, 10**9, 1).p <= 0.05
    assert corrected / 1000 <= 0.06
    assert plain / 1000 > 0.2  # what the correction is for


def test_intervals_cover_what_they_say() -> None:
    """Wilson's by summing the binomial distribution; that of means by 1,000 simulations."""
    logs = [0.0, *np.cumsum(np.log(np.arange(1, 360)))]
    for rows in (50, 359):
        covered = []
        ends = [st.wilson_interval(k, rows) for k in range(rows + 1)]
        for rate in np.linspace(0.5, 0.98, 25):
            k = np.arange(rows + 1)
            log = np.array([logs[rows] - logs[i] - logs[rows - i] for i in k])
            mass = np.exp(log + k * math.log(rate) + (rows - k) * math.log1p(-rate))
            inside = [low <= rate <= high for low, high in ends]
            covered.append(float(mass[inside].sum()))
        assert 0.93 <= np.mean(covered) <= 0.97, rows
    draws = generator(5)
    for make in (lambda: draws.normal(size=8), lambda: draws.binomial(359, 0.97, 10) / 359 - 0.97):
        inside = [low <= 0 <= high for low, high in (st.mean_interval(make()) for _ in range(1000))]
        assert 0.93 <= np.mean(inside) <= 0.97


def test_the_best_of_equals_is_too_good_by_the_winners_curse() -> None:
    draws = generator(6)
    for count in (5, 25):
        best = draws.normal(size=(4000, count)).max(axis=1)
        assert np.mean(best) == pytest.approx(st.winners_curse(count), abs=0.05)


# Paired rows.


def test_paired_intervals_cover_what_they_say() -> None:
    a, b = [1, 1, 0, 0, 1], [1, 0, 1, 1, 1]
    more, less = (2 + 1) / 7, (1 + 1) / 7
    half = 1.959964 * math.sqrt((more + less - (more - less) ** 2) / 7)
    found = st.paired_rate_interval(a, b)
    assert found == pytest.approx((more - less - half, more - less + half), abs=1e-6)
    low, high = st.paired_rate_interval([True] * 200, [True] * 200)
    assert low < 0 < high < 0.02  # no disagreement among 200 rows proves no equality
    draws, truth = generator(1), 0.03
    inside = inside_ratio = 0
    for _ in range(400):
        u = draws.random(300)
        first, second = u < 0.80, (u < 0.78) | (u > 0.95)
        low, high = st.paired_rate_interval(first, second)
        inside += low <= truth <= high
        errors = draws.exponential(1.0, 300)
        low, high = st.ratio_interval(errors, errors * draws.uniform(0.8, 1.6, 300))
        inside_ratio += low <= 1.2 <= high
    assert 0.92 <= inside / 400 <= 0.98
    assert 0.92 <= inside_ratio / 400 <= 0.98
    assert st.ratio_interval([2.0, 4.0], [1.0, 2.0]) == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError, match="same rows for both"):
        st.paired_rate_interval([1, 0], [1])
    with pytest.raises(ValueError, match="at least one row"):
        st.paired_rate_interval([], [])
    with pytest.raises(ValueError, match="a mean above 0"):
        st.ratio_interval([0.0, 0.0], [1.0, 1.0])
