"""Losses that tell rows from all others of their batch.

Products of all pairs are added up block by block (``primitives/contrast.py``) and not kept; of
labels (:func:`sup_con`) and distances (:func:`triplet`) there is a matrix.
"""

from __future__ import annotations

import math
from typing import Any

from handmill import ops
from handmill.arguments import finite_number
from handmill.ir.dims import same
from handmill.primitives.contrast import product_logsumexp
from handmill.primitives.operands import shape_of
from handmill.selfsup.embeddings import positive, rows_of, unit, views_of


def _scaled_views(loss: str, za: Any, zb: Any, temperature: float, least: int) -> tuple[Any, Any]:
    """Unit rows whose products are cosines divided by the temperature."""
    scale = 1 / math.sqrt(positive(loss, "temperature", temperature))
    za, zb = views_of(loss, za, zb, least)
    return ops.multiply(unit(za), scale), ops.multiply(unit(zb), scale)


def nt_xent(za: Any, zb: Any, temperature: float = 0.5) -> Any:
    """NT-Xent, SimCLR's loss: each of 2B views finds its partner among the 2B - 1 others.

    ``mean_i -log(exp(s_ip) / sum_(k != i) exp(s_ik))`` with cosines s over the temperature (Chen et
    al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020). Random
    embeddings give about ``log(2B - 1)``, so losses of different batch sizes cannot be compared.
    Time grows with the square of B, memory with B.

    Args:
        za: embeddings of one view, (B, D), of any length; B >= 2.
        zb: those of the other view of the same rows.
        temperature: above 0; small ones look at the nearest rows.

    Returns:
        A number.

    Raises:
        ValueError: for other shapes, a single row, a temperature that is not above 0.

    Example:
        >>> from handmill import selfsup
        >>> za = [[1.0, 0.0], [0.0, 1.0]]
        >>> print(f"{selfsup.nt_xent(za, za):.4f}")
        0.2395
    """
    za, zb = _scaled_views("nt_xent", za, zb, temperature, 2)
    z = ops.concatenate([za, zb], axis=0)
    near = ops.mean(ops.sum(ops.multiply(za, zb), axis=-1))
    return ops.subtract(ops.mean(product_logsumexp(z, z, skip_diagonal=True)), near)


def info_nce(za: Any, zb: Any, temperature: float = 0.1, negatives: Any = None) -> Any:
    """InfoNCE: each row finds its partner among all rows of the other view.

    Without ``negatives`` both ways are averaged: the loss of two towers, and of Keras's example
    of SimCLR. With them it is MoCo's: row i of ``za`` finds row i of ``zb`` among the negatives.

    Args:
        za: embeddings of one view, (B, D); B >= 2, or any with ``negatives``.
        zb: those of the other view.
        temperature: above 0.
        negatives: embeddings (K, D) of other samples, such as a queue; they get a gradient unless
            ``ops.stop_gradient`` is put around them.

    Returns:
        A number.

    Raises:
        ValueError: as for :func:`nt_xent`.

    Example:
        >>> from handmill import selfsup
        >>> za = [[1.0, 0.0], [0.0, 1.0]]
        >>> print(f"{selfsup.info_nce(za, za, temperature=1.0):.4f}")
        0.3133
        >>> print(f"{selfsup.info_nce(za, za, 1.0, negatives=[[-1.0, 0.0]]):.4f}")
        0.2201
    """
    za, zb = _scaled_views("info_nce", za, zb, temperature, 2 if negatives is None else 1)
    near = ops.sum(ops.multiply(za, zb), axis=-1)
    if negatives is None:
        both = ops.add(product_logsumexp(za, zb), product_logsumexp(zb, za))
        return ops.subtract(ops.multiply(ops.mean(both), 0.5), ops.mean(near))
    others = rows_of("info_nce", "negatives", negatives)
    if not same(shape_of(others)[1], shape_of(za)[1]):
        raise ValueError(
            f"info_nce: `negatives` have {shape_of(others)[1]} dimensions, the views "
            f"{shape_of(za)[1]}"
        )
    others = ops.multiply(unit(others), 1 / math.sqrt(temperature))
    all_of_them = ops.logaddexp(near, product_logsumexp(za, others))
    return ops.mean(ops.subtract(all_of_them, near))


def sup_con(z: Any, labels: Any, temperature: float = 0.1) -> Any:
    """SupCon: each row is near all others of its class (Khosla et al., 2020).

    ``-mean_(p in P(i)) log(exp(s_ip) / sum_(a != i) exp(s_ia))``, averaged over the rows that have
    a partner: rows without a second one of their class are left out (they remain negatives).

    Args:
        z: embeddings (B, D); or (B, V, D), V views of each row.
        labels: the class of each row, (B,): whole numbers.
        temperature: above 0.

    Returns:
        A number; 0 where no row has a partner.

    Raises:
        ValueError: for other shapes, a single embedding, a temperature that is not above 0.

    Example:
        >>> from handmill import selfsup
        >>> z = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
        >>> print(f"{selfsup.sup_con(z, [0, 1, 0], temperature=1.0):.4f}")
        0.3133
    """
    scale = 1 / math.sqrt(positive("sup_con", "temperature", temperature))
    labels = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    if len(shape_of(z)) == 3:
        views, width = shape_of(z)[1:]
        z = ops.reshape(z, (-1, width))
        labels = ops.repeat(labels, views)
    z = ops.multiply(unit(rows_of("sup_con", "z", z, 2)), scale)
    count: Any = shape_of(z)[0]
    if not same(shape_of(labels)[0], count):
        raise ValueError(
            f"sup_con: a label for each row was expected. Received {shape_of(labels)[0]} labels "
            f"for {count} embeddings"
        )
    # A class is called by its first row, so that its sums need no number of classes.
    alike = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
    first = ops.argmax(ops.cast(alike, "float32"), axis=1)
    if str(labels.dtype).startswith("float"):  # NaN is alone: not even equal to itself
        first = ops.where(ops.equal(labels, labels), first, ops.arange(count, dtype=first.dtype))
    of_class = ops.take(ops.segment_sum(z, first, num_segments=count), first, axis=0)
    members = ops.segment_sum(ops.ones_like(z[:, 0]), first, num_segments=count)
    partners = ops.subtract(ops.take(members, first, axis=0), 1.0)
    near = ops.sum(ops.multiply(z, ops.subtract(of_class, z)), axis=-1)
    has_partner = ops.greater(partners, 0.5)
    each = ops.subtract(
        product_logsumexp(z, z, skip_diagonal=True),
        ops.divide(near, ops.maximum(partners, 1.0)),
    )
    counted = ops.sum(ops.cast(has_partner, z.dtype))
    total = ops.sum(ops.where(has_partner, each, 0.0))
    return ops.divide(total, ops.maximum(counted, 1.0))


def triplet(
    anchor: Any, positive: Any, negative: Any = None, margin: float = 1.0, labels: Any = None
) -> Any:
    """Triplet loss: an anchor is nearer to its positive than to its negative, by a margin.

    ``mean relu(|a - p| - |a - n| + margin)``. Without negatives each anchor takes the row of
    ``positive`` that is the nearest of those further away than its own (semi-hard, Schroff et al.,
    "FaceNet", 2015), or the furthest where there is none.

    Args:
        anchor: embeddings (B, D); they are compared as they are, not made unit rows.
        positive: embeddings of the same rows, (B, D).
        negative: embeddings of other rows, (B, D).
        margin: not negative.
        labels: where negatives are looked for: classes (B,), rows of the same class are none.
            Default: each row is a class of its own. Anchors for which there is none count 0.

    Returns:
        A number.

    Raises:
        ValueError: for other shapes; for a single row without a negative.

    Example:
        >>> from handmill import selfsup
        >>> print(f"{selfsup.triplet([[0.0]], [[1.0]], [[1.5]]):.2f}")
        0.50
    """
    margin = finite_number("triplet: `margin`", margin)
    if margin < 0:
        raise ValueError(f"triplet: `margin` must not be negative. Received: {margin!r}")
    anchor, positive = views_of("triplet", anchor, positive, 2 if negative is None else 1)
    near = _distance(anchor, positive)
    if negative is not None:
        _, negative = views_of("triplet", anchor, negative)
        gap = ops.subtract(near, _distance(anchor, negative))
        return ops.mean(ops.relu(ops.add(gap, margin)))
    count = shape_of(anchor)[0]
    labels = ops.arange(count) if labels is None else ops.reshape(labels, (-1,))
    squares = ops.add(
        ops.sum(ops.square(anchor), axis=1, keepdims=True), ops.sum(ops.square(positive), axis=1)
    )
    cross = ops.matmul(anchor, ops.transpose(positive))
    apart = _root(ops.subtract(squares, ops.multiply(cross, 2.0)))
    other = ops.not_equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
    further = ops.logical_and(other, ops.greater(apart, ops.expand_dims(near, 1)))
    furthest = ops.max(ops.where(other, apart, 0.0), axis=1)
    nearest = ops.min(ops.where(further, apart, math.inf), axis=1)
    far = ops.where(ops.any(further, axis=1), nearest, furthest)
    each = ops.relu(ops.add(ops.subtract(near, far), margin))
    return ops.mean(ops.where(ops.any(other, axis=1), each, 0.0))


def _root(squares: Any) -> Any:
    # Not 0, where the slope of the root is infinite.
    return ops.sqrt(ops.maximum(squares, 1e-12))


def _distance(x: Any, y: Any) -> Any:
    return _root(ops.sum(ops.square(ops.subtract(x, y)), axis=-1))
