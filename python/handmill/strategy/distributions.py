"""Normal and Student's t distributions, by series and continued fractions; no SciPy needed."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Returns the regularized incomplete beta function I_x(a, b), to about 1e-13.

    By its continued fraction, evaluated from the front (DLMF 8.17.22; Lentz, 1976), on the side
    of the mean where it converges fast.

    Args:
        a: first shape, above 0.
        b: second shape, above 0.
        x: from 0 to 1.

    Raises:
        ValueError: for shapes that are not positive, or ``x`` outside 0 to 1.

    Example:
        >>> from handmill.strategy.distributions import incomplete_beta
        >>> round(incomplete_beta(2.0, 3.0, 0.5), 4)  # 11 / 16
        0.6875
    """
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise ValueError(f"a and b must be above 0, x from 0 to 1. Received: {a}, {b}, {x}")
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / (1 + numerator * d or tiny)
            c = 1 + numerator / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def student_cdf(t: float, degrees: float) -> float:
    """Returns the probability that Student's t is at most ``t``.

    Args:
        t: where; may be infinite.
        degrees: degrees of freedom, above 0.

    Example:
        >>> from handmill.strategy.distributions import student_cdf
        >>> round(student_cdf(2.262, 9), 3)
        0.975
    """
    if math.isinf(t):
        return float(t > 0)
    # From the side of the smaller argument: near 0 and far out, no digits cancel.
    if t * t < degrees:
        half = incomplete_beta(0.5, degrees / 2, t * t / (degrees + t * t)) / 2
        return 0.5 + math.copysign(half, t)
    tail = incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=256)
def student_quantile(probability: float, degrees: float) -> float:
    """Returns the value that Student's t stays below with this probability, by bisection.

    Args:
        probability: between 0 and 1, both excluded.
        degrees: degrees of freedom, above 0.

    Raises:
        ValueError: for a probability outside, or no degrees of freedom.

    Example:
        >>> from handmill.strategy.distributions import student_quantile
        >>> round(student_quantile(0.975, 9), 3)
        2.262
    """
    if not (0 < probability < 1 and degrees > 0):
        raise ValueError(
            "Expected a probability between 0 and 1, and degrees of freedom above 0. "
            f"Received: {probability}, {degrees}"
        )
    if probability > 0.5:
        return -student_quantile(1 - probability, degrees)
    low = -1.0
    while student_cdf(low, degrees) > probability:
        low *= 2
    high = 0.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if student_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle


def normal_quantile(probability: float) -> float:
    """Returns the value that a standard normal number stays below with this probability.

    Args:
        probability: between 0 and 1, both excluded.

    Example:
        >>> from handmill.strategy.distributions import normal_quantile
        >>> round(normal_quantile(0.975), 3)
        1.96
    """
    return _NORMAL.inv_cdf(probability)
