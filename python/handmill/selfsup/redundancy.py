"""Losses without negatives: partners agree, and something keeps them from being all the same."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import finite_number
from handmill.primitives.operands import shape_of
from handmill.selfsup.embeddings import unit, views_of


def negative_cosine(p: Any, z: Any) -> Any:
    """The mean of ``-cos(p, z)``; ``z`` is a target and gets no gradient.

    SimSiam's loss is the mean of ``negative_cosine(p1, z2)`` and ``negative_cosine(p2, z1)``,
    BYOL's ``2 + 2 *`` that, with a predictor's outputs p (Chen and He, 2020; Grill et al., 2020).

    Args:
        p: predictions (B, D).
        z: targets (B, D).

    Returns:
        A number from -1, where all agree, to 1. A row of zeros counts 0.

    Raises:
        ValueError: for other shapes.

    Example:
        >>> from handmill import selfsup
        >>> print(selfsup.negative_cosine([[2.0, 0.0]], [[3.0, 0.0]]))
        -1.0
    """
    p, z = views_of("negative_cosine", p, z)
    products = ops.multiply(unit(p), ops.stop_gradient(unit(z)))
    return ops.negative(ops.mean(ops.sum(products, axis=-1)))


def barlow_twins(za: Any, zb: Any, lambda_param: float = 5e-3) -> Any:
    """Barlow Twins: the correlations of dimensions of one view with the other are an identity.

    ``sum_i (1 - C_ii)^2 + lambda sum_(i != j) C_ij^2`` for the correlation matrix C of standardised
    dimensions, over the batch (Zbontar et al., 2021).

    Args:
        za: embeddings of one view, (B, D); B >= 2.
        zb: those of the other view.
        lambda_param: the factor of what dimensions have in common.

    Returns:
        A number.

    Raises:
        ValueError: for other shapes, a single row.

    Example:
        >>> from handmill import selfsup
        >>> z = [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
        >>> print(f"{selfsup.barlow_twins(z, z):.4f}")
        0.0000
    """
    factor = _weight("barlow_twins", "lambda_param", lambda_param)
    za, zb = views_of("barlow_twins", za, zb, 2)
    rows, width = shape_of(za)
    cross = ops.matmul(ops.transpose(_standardized(za)), _standardized(zb))
    cross = ops.divide(cross, ops.cast(rows, "float32"))
    identity = ops.eye(width)
    weights = ops.add(identity, ops.multiply(ops.subtract(1.0, identity), factor))
    return ops.sum(ops.multiply(ops.square(ops.subtract(cross, identity)), weights))


def _standardized(z: Any) -> Any:
    """Dimensions of mean 0 and variance 1 over the batch, as BatchNorm without weights."""
    mean, variance = ops.moments(z, axes=[0], keepdims=True)
    return ops.multiply(ops.subtract(z, mean), ops.rsqrt(ops.add(variance, 1e-5)))


def vicreg(
    za: Any,
    zb: Any,
    lambda_param: float = 25.0,
    mu_param: float = 25.0,
    nu_param: float = 1.0,
    eps: float = 1e-4,
) -> Any:
    """VICReg: views agree, each dimension varies, no two dimensions vary together.

    ``lambda mean (za - zb)^2 + mu mean relu(1 - sqrt(var + eps)) + nu sum_(i != j) cov_ij^2 / D``,
    the second a mean and the third a sum over both views (Bardes et al., 2021).

    Args:
        za: embeddings of one view, (B, D); B >= 2.
        zb: those of the other view.
        lambda_param: the factor of what differs between the views.
        mu_param: of variances below 1.
        nu_param: of covariances.
        eps: keeps the root of a variance of 0 from an infinite slope.

    Returns:
        A number.

    Raises:
        ValueError: for other shapes, a single row.

    Example:
        >>> from handmill import selfsup
        >>> z = [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
        >>> print(f"{selfsup.vicreg(z, z):.4f}")
        0.0000
    """
    names = (("lambda_param", lambda_param), ("mu_param", mu_param), ("nu_param", nu_param))
    agree, vary, apart = (_weight("vicreg", name, value) for name, value in names)
    za, zb = views_of("vicreg", za, zb, 2)
    loss = ops.multiply(ops.mean(ops.square(ops.subtract(za, zb))), agree)
    for z in (za, zb):
        rows, width = shape_of(z)
        z = ops.subtract(z, ops.mean(z, axis=0, keepdims=True))
        degrees = ops.cast(rows - 1, "float32")
        variance = ops.divide(ops.sum(ops.square(z), axis=0), degrees)
        short = ops.relu(ops.subtract(1.0, ops.sqrt(ops.add(variance, eps))))
        covariance = ops.divide(ops.matmul(ops.transpose(z), z), degrees)
        off = ops.multiply(ops.square(covariance), ops.subtract(1.0, ops.eye(width)))
        loss = ops.add(loss, ops.multiply(ops.mean(short), 0.5 * vary))
        loss = ops.add(loss, ops.multiply(ops.sum(off), apart / width))
    return loss


def _weight(loss: str, name: str, value: Any) -> float:
    number = finite_number(f"{loss}: `{name}`", value)
    if number < 0:
        raise ValueError(f"{loss}: `{name}` must not be negative. Received: {value!r}")
    return number
