"""Intervals and tests for scores of models: how sure, by formulas and permutations.

Everything here works on numbers alone and draws with seeds of its own. What the tables of
handmill print is made of these; :mod:`handmill.strategy.comparison` puts it together.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array
from handmill.strategy.distributions import normal_quantile, student_cdf, student_quantile

EXACT_FLIPS = 13
"""Up to so many pairs all patterns of signs are tried, 4,096 of them; above, some are drawn."""

DRAWN_FLIPS = 4_999
"""Patterns drawn where there are more; with the one observed, p-values are multiples of 1/5,000."""


class Interval(NamedTuple):
    """A range that holds the true value with the confidence asked for.

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: float
    high: float


class CorrectedT(NamedTuple):
    """What :func:`corrected_t_test` finds.

    Attributes:
        mean: of the differences.
        interval: of the mean.
        t: the statistic.
        p: two-sided.
    """

    mean: float
    interval: Interval
    t: float
    p: float


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Returns the interval of a rate, such as an accuracy, from ``trials`` independent rows.

    Wilson's score interval: it stays inside 0 to 1 and covers what it says near the ends too,
    where ``rate +- 1.96 sqrt(rate (1 - rate) / n)`` does not.

    E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.

    Args:
        successes: how many rows were right, from 0 to ``trials``; a mean over seeds may be
            fractional.
        trials: how many rows there are.
        confidence: between 0 and 1.

    Raises:
        ValueError: for no rows, or more successes than rows.

    Example:
        >>> from handmill.strategy.statistics import wilson_interval
        >>> low, high = wilson_interval(348, 359)
        >>> print(f"{348 / 359:.3f} [{low:.3f}, {high:.3f}]")
        0.969 [0.946, 0.983]
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise ValueError(
            "Expected from 0 to `trials` successes of at least one trial. "
            f"Received: {successes} of {trials}"
        )
    z = normal_quantile((1 + _confidence(confidence)) / 2)
    rate, extra = successes / trials, z * z / trials
    middle = (rate + extra / 2) / (1 + extra)
    half = z * math.sqrt(rate * (1 - rate) / trials + extra / trials / 4) / (1 + extra)
    # At the ends the formula gives 0 and 1, but for its roundings.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if successes == trials else min(1.0, middle + half))


def mean_interval(values: Any, confidence: float = 0.95) -> Interval:
    """Returns the interval of the mean of independent values, such as the scores of seeds.

    Student's t: ``mean +- t(R - 1) s / sqrt(R)``. One value alone has no interval: infinite.

    Student (1908), The probable error of a mean.

    Args:
        values: one for each seed, shape (R,).
        confidence: between 0 and 1.

    Raises:
        ValueError: for no values, or values that are not finite.

    Example:
        >>> from handmill.strategy.statistics import mean_interval
        >>> low, high = mean_interval([0.96, 0.97, 0.98])
        >>> print(f"{low:.3f} to {high:.3f}")
        0.945 to 0.995
    """
    numbers = _numbers("values", values)
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Interval(-math.inf, math.inf)
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    half = error * student_quantile((1 + _confidence(confidence)) / 2, len(numbers) - 1)
    return Interval(mean - half, mean + half)


def sign_flip_test(differences: Any, seed: int = 0) -> float:
    """Returns the two-sided p-value of paired differences with a mean of 0.

    If nothing differs, each difference could as well have had the other sign: p is the share of
    patterns of signs under which the mean is as far from 0 as the one observed. No distribution
    is assumed but that of a pair being symmetric. Up to 13 pairs all patterns are tried, so p is
    at least 2 / 2^R: three seeds never decide, five do not reach 0.05, six do.

    R. A. Fisher (1935), The design of experiments, section 21.

    Args:
        differences: score of the one minus score of the other, one for each seed, shape (R,).
        seed: of the patterns, where there are too many to try all.

    Raises:
        ValueError: for no differences, or some that are not finite.

    Example:
        >>> from handmill.strategy.statistics import sign_flip_test
        >>> sign_flip_test([0.01, 0.02, 0.01, 0.03, 0.02, 0.01])  # 2 / 2**6
        0.03125
    """
    numbers = _numbers("differences", differences)
    found = np.abs(sign_patterns(len(numbers), seed) @ numbers)
    return float(np.mean(found >= found[0] * (1 - 1e-9)))


@lru_cache(maxsize=32)
def sign_patterns(pairs: int, seed: int = 0) -> Array:
    """Returns patterns of signs for two-sided tests, the one observed (all plus) first.

    A pattern and its opposite tell the same, so the first sign is always plus.

    Args:
        pairs: how many signs a pattern has, at least 1.
        seed: of those drawn, where there are more than 13 pairs.

    Returns:
        +1 and -1, shape (patterns, pairs); read-only.

    Example:
        >>> from handmill.strategy.statistics import sign_patterns
        >>> sign_patterns(3).astype(int).tolist()
        [[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]]
    """
    if pairs <= EXACT_FLIPS:
        signs = np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=pairs - 1)])
    else:
        generator = np.random.Generator(np.random.Philox(seed))
        signs = generator.integers(0, 2, (DRAWN_FLIPS + 1, pairs)) * 2.0 - 1.0
        signs[0] = 1.0
    signs.setflags(write=False)
    return signs


def holm(p_values: Any) -> Array:
    """Returns p-values corrected for their number, by Holm's step-down rule.

    If all that are at most 0.05 afterwards are called true, the chance that any of them is not is
    at most 5 %, however they depend on each other. The tests must have been chosen before their
    results were seen: for comparisons with the best of a table see :func:`compare_with_best`.

    S. Holm (1979), A simple sequentially rejective multiple test procedure.

    Args:
        p_values: of the single tests, shape (tests,).

    Returns:
        Corrected p-values, shape (tests,).

    Raises:
        ValueError: for values that are no probabilities.

    Example:
        >>> from handmill.strategy.statistics import holm
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values must be probabilities, shape (tests,). Received: {p_values}")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1.0)


def compare_with_best(
    scores: Any,
    alpha: float = 0.05,
    split_rows: tuple[int, int] | None = None,
    seed: int = 0,
) -> Array:
    """Returns for each configuration the p-value of being worse than the best of the table.

    The best is known only from the same scores, so a difference to it is one chosen among those of
    all pairs. Holm's correction for K - 1 tests does not see that: of tables of 25 equal
    configurations with 10 seeds it calls some different in 20 % of the cases, and with 8 seeds
    it can never decide anything. Here the largest difference of all pairs is compared with
    the largest under flipped signs: seeds are pairs, the sign of a seed is flipped for all
    configurations at once, which keeps whatever they have in common. Then configurations that
    are different leave the table, and the rest is tested again (step-down). The chance of
    calling any two equal ones different is at most ``alpha``, for any number of
    configurations, and six seeds can decide. The difference of a pair is divided by the root of
    the pair's mean square plus the median one, so that one unsteady configuration neither hides
    the others nor is called different for its noise; signs do not change that divisor.

    What is assumed: that differences of equal configurations are symmetric. Two that are equal in
    the mean, but of which one collapses under some seeds, are called different more often.

    Where the columns are repeated random splits of the same rows, signs say too little: then it is
    :func:`corrected_t_test`, times the number of pairs in the table (Bonferroni), step-down too.

    P. H. Westfall and S. S. Young (1993), Resampling-based multiple testing.

    Args:
        scores: larger is better, finite, the columns are seeds that all share: shape (K, R).
        alpha: the level at which configurations leave the table.
        split_rows: for repeated splits, the rows that each trains on and judges on.
        seed: of the patterns of signs, above 13 seeds.

    Returns:
        p-values, shape (K,); 1 for the best itself.

    Raises:
        ValueError: for scores of another shape, or not finite.

    Example:
        >>> import numpy as np
        >>> from handmill.strategy.statistics import compare_with_best
        >>> noise = np.random.default_rng(1).normal(0, 0.01, (3, 8))
        >>> p = compare_with_best(np.array([[0.9], [0.9], [0.8]]) + noise)
        >>> (p < 0.05).tolist()
        [False, False, True]
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or not table.size or not np.all(np.isfinite(table)):
        raise ValueError(
            "scores must be finite numbers, shape (configurations, seeds). "
            f"Received: shape {table.shape}"
        )
    best = int(np.argmax(table.mean(axis=1)))
    table = table - table.mean(axis=0)  # what a seed does to all does not matter
    p = np.ones(len(table))
    left = np.arange(len(table))
    floor = 0.0
    while len(left) > 1:
        place = int(np.flatnonzero(left == best)[0])
        now = table[left]
        single = _flipped(now, place, seed) if not split_rows else _split(now, place, *split_rows)
        found = np.maximum(single, floor)
        found[place] = 1.0
        p[left] = found
        worse = found <= alpha
        if not worse.any():
            break
        floor = float(found[worse].max())  # what leaves later has no smaller p-value
        left = left[~worse]
    return p


def _flipped(table: Array, best: int, seed: int) -> Array:
    """p-values of all rows against one, corrected for all pairs of rows."""
    signs = sign_patterns(table.shape[1], seed)
    squares = np.einsum("kr,kr->k", table, table)
    pairs = squares[:, None] + squares - 2 * table @ table.T
    # Rounding of the squares, which a difference of two equal rows must not be divided by.
    pairs[pairs < 1e-12 * squares.max()] = 0.0
    upper = np.triu_indices(len(table), 1)
    divisor = np.sqrt(pairs + np.median(pairs[upper]))
    divisor[divisor == 0] = 1.0
    largest = np.zeros(len(signs))
    flipped = table @ signs.T  # (K, patterns): sums of the flipped scores
    for k in range(len(table) - 1):
        apart = np.abs(flipped[k + 1 :] - flipped[k])
        apart /= divisor[k, k + 1 :, None]
        np.maximum(largest, apart.max(axis=0), out=largest)
    observed = np.abs(flipped[:, 0] - flipped[best, 0]) / divisor[best]
    ordered = np.sort(largest)
    at_least = len(ordered) - np.searchsorted(ordered, observed * (1 - 1e-9), side="left")
    return np.asarray(at_least / len(ordered), np.float64)


def _split(table: Array, best: int, train_rows: int, test_rows: int) -> Array:
    """The same for repeated splits."""
    pairs = len(table) * (len(table) - 1) / 2
    tests = [corrected_t_test(table[best] - row, train_rows, test_rows).p for row in table]
    return np.minimum(np.array(tests) * pairs, 1.0)


def corrected_t_test(
    differences: Any, train_rows: int, test_rows: int, confidence: float = 0.95
) -> CorrectedT:
    """Tests differences that come from repeated random splits of the same rows.

    Splits share most of their training rows, so their results are not independent, and the plain
    paired t-test calls equal models different far too often. Nadeau and Bengio's correction:
    ``t = mean(d) / sqrt((1/R + test_rows / train_rows) var(d))``, with R - 1 degrees of freedom.

    C. Nadeau and Y. Bengio (2003), Inference for the generalization error.

    Args:
        differences: score of the one minus score of the other, one for each split, shape (R,).
        train_rows: rows that a split trains on.
        test_rows: rows that it judges on.
        confidence: of the interval.

    Raises:
        ValueError: for fewer than two differences, some that are not finite, or no rows.

    Example:
        >>> from handmill.strategy.statistics import corrected_t_test
        >>> found = corrected_t_test([0.02, 0.01, 0.03, 0.02, 0.02], 90, 10)
        >>> print(f"t = {found.t:.2f}, p = {found.p:.4f}")
        t = 5.07, p = 0.0071
    """
    numbers = _numbers("differences", differences)
    if len(numbers) < 2 or train_rows < 1 or test_rows < 1:
        raise ValueError(
            "Expected at least two differences, and at least one row to train and to test on. "
            f"Received: {len(numbers)} differences, {train_rows} and {test_rows} rows"
        )
    mean, degrees = float(numbers.mean()), len(numbers) - 1
    error = math.sqrt((1 / len(numbers) + test_rows / train_rows) * numbers.var(ddof=1))
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    half = error * student_quantile((1 + _confidence(confidence)) / 2, degrees)
    p = min(1.0, 2 * student_cdf(-abs(t), degrees))
    return CorrectedT(mean, Interval(mean - half, mean + half), t, p)


def paired_rate_interval(first: Any, second: Any, confidence: float = 0.95) -> Interval:
    """Returns the interval of how much oftener the second model is right on the same rows.

    Only rows that one of them got right and the other wrong say anything. One such row is added for
    each of the two, so that models without a difference have an interval, too: ``d +- 1.96
    sqrt((a + b - d^2) / (n + 2))`` with ``a = (only second + 1) / (n + 2)``, ``b`` likewise of the
    first, ``d = a - b``.

    D. G. Bonett and R. M. Price (2012), Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data.

    Args:
        first: whether the first model was right, for each row, shape (rows,).
        second: whether the second was, on the same rows.
        confidence: between 0 and 1.

    Raises:
        ValueError: if the two have different lengths, no rows or are no truth values.

    Example:
        >>> from handmill.strategy.statistics import paired_rate_interval
        >>> low, high = paired_rate_interval([1, 1, 0, 0] * 25, [1, 1, 1, 0] * 25)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.157 to 0.333
    """
    only_first, only_second, count = _disagreements(first, second)
    if not count:
        raise ValueError("Expected at least one row of each model. Received: none")
    a, b = (only_second + 1) / (count + 2), (only_first + 1) / (count + 2)
    z = normal_quantile((1 + _confidence(confidence)) / 2)
    half = z * math.sqrt((a + b - (a - b) ** 2) / (count + 2))
    return Interval(max(-1.0, a - b - half), min(1.0, a - b + half))


def ratio_interval(first: Any, second: Any, confidence: float = 0.95) -> Interval:
    """Returns the interval of the mean of the second divided by that of the first, paired.

    Of the squared errors of two models on the same rows, say. The ratio R has the error of the mean
    of ``second - R first``, divided by the mean of the first (linearized), and Student's t. One
    pair alone has no interval: infinite.

    W. G. Cochran (1977), Sampling Techniques, section 6.3.

    Args:
        first: for each row, shape (rows,); their mean is above 0.
        second: on the same rows.
        confidence: between 0 and 1.

    Raises:
        ValueError: if the two have different lengths, are not finite, or the mean is not above 0.

    Example:
        >>> from handmill.strategy.statistics import ratio_interval
        >>> low, high = ratio_interval([1.0, 2.0, 3.0], [1.1, 2.0, 3.3])
        >>> print(f"{low:.2f} to {high:.2f}")
        0.92 to 1.22
    """
    a, b = _numbers("first", first), _numbers("second", second)
    if len(a) != len(b) or not a.mean() > 0:
        raise ValueError(
            "Expected two numbers for each row, the first with a mean above 0. Received: "
            f"{len(a)} and {len(b)} numbers, mean {a.mean():g}"
        )
    ratio, mean = float(b.mean() / a.mean()), float(a.mean())
    low, high = mean_interval(b - ratio * a, confidence)
    return Interval(ratio + low / mean, ratio + high / mean)


def mcnemar_test(first: Any, second: Any) -> float:
    """Returns the two-sided p-value of two models being right equally often on the same rows.

    Exact: only rows that one of them got right and the other wrong say anything; if the models
    are equally good, each of those is a fair coin.

    Q. McNemar (1947), Note on the sampling error of the difference between correlated
    proportions or percentages.

    Args:
        first: whether the first model was right, for each row, shape (rows,).
        second: whether the second was, on the same rows.

    Raises:
        ValueError: if the two have different lengths or are no truth values.

    Example:
        >>> from handmill.strategy.statistics import mcnemar_test
        >>> print(f"{mcnemar_test([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1]):.3f}")
        0.125
    """
    only_first, only_second, _ = _disagreements(first, second)
    decided = only_first + only_second
    tail = sum(math.comb(decided, i) for i in range(min(only_first, only_second) + 1))
    return float(min(1, 2 * tail / 2**decided))  # whole numbers: exact for any number of rows


def seeds_needed(differences: Any) -> float:
    """Returns how many paired seeds would decide a comparison like this one, four times of five.

    ``7.9 (s / d)^2 + 2``, ``d`` being the mean of the differences and ``s`` their deviation:
    power 0.8 at a level of 0.05, 7.9 being (1.96 + 0.84)^2. The true difference is taken to be
    the one observed, so this is an order of magnitude. Never below 6, the fewest that can decide.

    W. G. Cochran and G. M. Cox (1957), Experimental designs, section 2.2.

    Args:
        differences: score of the one minus score of the other, one for each seed, shape (R,).

    Returns:
        A whole number, or infinity if the mean difference is 0.

    Raises:
        ValueError: for fewer than two differences, or some that are not finite.

    Example:
        >>> from handmill.strategy.statistics import seeds_needed
        >>> seeds_needed([0.01, 0.03, -0.01, 0.02])
        17.0
    """
    numbers = _numbers("differences", differences)
    if len(numbers) < 2:
        raise ValueError("seeds_needed needs at least two differences. Received: 1")
    mean = float(numbers.mean())
    if not mean:
        return math.inf
    ratio = float(numbers.std(ddof=1)) / mean
    return float(max(6, math.ceil(7.9 * ratio * ratio + 2)))


def probability_better(first: Any, second: Any, confidence: float = 0.95) -> tuple[float, Interval]:
    """Returns the probability that one training of A scores higher than one of B, as paired.

    The share of pairs that A wins, ties counting half, with Wilson's interval. Significance asks
    whether there is any difference; this asks whether it matters beside the noise of a training:
    0.75 is the usual bound for a meaningful one, and some 29 pairs are needed to see that.

    X. Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks.

    Args:
        first: scores of A, larger is better, one for each seed, shape (R,).
        second: scores of B for the same seeds.
        confidence: of the interval.

    Raises:
        ValueError: if the two have different lengths, or values are not finite.

    Example:
        >>> from handmill.strategy.statistics import probability_better
        >>> share, (low, high) = probability_better([0.9, 0.8, 0.9, 0.9], [0.8, 0.8, 0.7, 0.95])
        >>> print(f"{share:.3f} [{low:.2f}, {high:.2f}]")
        0.625 [0.22, 0.91]
    """
    a, b = _numbers("first", first), _numbers("second", second)
    if len(a) != len(b):
        raise ValueError(
            f"A and B must be paired, one score a seed. Received: {len(a)} and {len(b)} scores"
        )
    wins = float(np.sum(a > b) + np.sum(a == b) / 2)
    return wins / len(a), wilson_interval(wins, len(a), confidence)


@lru_cache(maxsize=256)
def winners_curse(count: int) -> float:
    """Returns by how many standard errors the best of equal candidates looks better than it is.

    The expected largest of ``count`` standard normal numbers, by quadrature: what is chosen for a
    high score was, on average, lucky by that much. Multiply by the standard error of a score.

    L. H. C. Tippett (1925), On the extreme individuals and the range of samples taken from a
    normal population.

    Args:
        count: candidates, at least 1.

    Example:
        >>> from handmill.strategy.statistics import winners_curse
        >>> [round(winners_curse(k), 2) for k in (1, 5, 10, 25, 100, 1000)]
        [0.0, 1.16, 1.54, 1.97, 2.51, 3.24]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1. Received: {count}")
    x = np.linspace(-9.0, 9.0, 3601)  # smooth, and 0 at both ends: sums converge exponentially
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return float(np.sum(x * count * density * below ** (count - 1)) * (x[1] - x[0]))


def pooled_deviation(scores: Any) -> float:
    """Returns the standard deviation among seeds, pooled over configurations.

    Args:
        scores: finite, shape (K, R); one seed alone: 0.

    Example:
        >>> from handmill.strategy.statistics import pooled_deviation
        >>> round(pooled_deviation([[0.9, 0.92], [0.8, 0.82]]), 4)
        0.0141
    """
    table = np.atleast_2d(np.asarray(scores, np.float64))
    return float(np.sqrt(table.var(axis=1, ddof=1).mean())) if table.shape[1] > 1 else 0.0


def _disagreements(first: Any, second: Any) -> tuple[int, int, int]:
    """Rows that the first alone got right, that the second alone did, and all of them."""
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not np.all(np.isin([*a, *b], (0, 1))):
        raise ValueError(
            "Expected for each row whether the model was right, the same rows for both. "
            f"Received: shapes {a.shape} and {b.shape}"
        )
    a, b = a.astype(bool), b.astype(bool)
    return int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)


def _numbers(name: str, values: Any) -> Array:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.all(np.isfinite(numbers)):
        raise ValueError(
            f"{name} must be finite numbers, shape (R,) with R >= 1. Received: {_short(values)}"
        )
    return numbers


def _short(values: Any) -> str:
    text = repr(values.tolist() if isinstance(values, np.ndarray) else values)
    return text if len(text) <= 100 else text[:97] + "..."


def _confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1. Received: {confidence}")
    return confidence
