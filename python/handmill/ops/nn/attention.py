"""Attention: averages of values, weighted by how well keys fit a query."""

from __future__ import annotations

import math
from typing import Any

from handmill.errors import ShapeError
from handmill.ir.dims import as_none, same
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.core.indexing import scatter
from handmill.ops.numpy.create import arange, ones_like
from handmill.ops.numpy.elementwise import (
    add,
    divide,
    exp,
    maximum,
    minimum,
    multiply,
    subtract,
    tanh,
)
from handmill.ops.numpy.logic import greater, less, logical_and, where
from handmill.ops.numpy.movement import concatenate, expand_dims, reshape, transpose
from handmill.ops.numpy.products import matmul
from handmill.ops.numpy.reductions import any as any_of
from handmill.ops.numpy.reductions import max as max_of
from handmill.ops.numpy.reductions import sum as sum_of
from handmill.ops.numpy.sorting import take
from handmill.primitives.attention import ATTENTION, OPTIONS
from handmill.primitives.operands import Tensor, common_dtype, dtype_of, shape_of, tensor
from handmill.primitives.softmax import SOFTMAX

__all__ = ["dot_product_attention"]


def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Any:
    """Returns ``softmax(query @ key * scale + bias) @ value`` for each head.

    A query that may see no key gives zeros, and its gradient is zero. Heads of keys may be fewer
    than those of queries: each then serves ``N // K`` of them in a row (grouped queries).

    Args:
        query: ``(B, T, N, H)``.
        key: ``(B, S, K, H)``; K divides N.
        value: ``(B, S, K, V)``, mostly of the shape of ``key``.
        bias: added to the scaled scores; broadcasts to ``(B, N, T, S)``.
        mask: bool, True where a query sees a key; broadcasts to ``(B, N, T, S)``.
        scale: the factor of the scores. Default: ``1 / sqrt(H)``.
        is_causal: query i sees the keys 0 to i only, also where T differs from S.
        flash_attention: Keras's choice of how to compute; results do not depend on it.
        attn_logits_soft_cap: a limit c of the scaled scores: ``c * tanh(score / c)``, before bias
            and mask. Keras has it on TPUs only.

    Returns:
        ``(B, T, N, V)``, in the dtype that the three have in common.

    Raises:
        ValueError: if shapes do not fit, or ``mask`` is not bool.

    Example:
        >>> from handmill import ops
        >>> x = ops.ones((2, 4, 8, 16))
        >>> ops.nn.dot_product_attention(x, x, x, is_causal=True).shape
        (2, 4, 8, 16)

    Source:
        Vaswani et al., "Attention is all you need", 2017.
    """
    return attend(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        causal=is_causal,
        scale=scale,
        soft_cap=attn_logits_soft_cap,
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    start: Tensor | None = None,
    rows: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    dropout: float = 0.0,
    seed: Any = None,
    training: bool | None = None,
) -> Any:
    """Attention with all that layers and generation need; see :func:`dot_product_attention`.

    Query i of row b stands at ``p = start[b] + i``. It sees key j where ``j < lengths[b]``,
    ``j <= p`` if ``causal``, ``|p - j| < window``, and where ``mask`` is True. NaN where no query
    may see it reaches nothing.

    Args:
        query: ``(B, T, N, H)``.
        key: ``(B, S, K, H)``; K divides N.
        value: ``(B, S, K, V)``.
        mask: bool, broadcasts to ``(B, N, T, S)``.
        bias: added to the scores, broadcasts to ``(B, N, T, S)``.
        lengths: int32 ``(B,)``, the number of keys that are there. Default: S.
        start: int32 ``(B,)``, the place of the first query. Default: 0.
        rows: int32 ``(B, S)``, the row of ``key`` and ``value`` in which each key of a row lies;
            what lies beyond is the nearest row. Default: in the same row.
        causal: whether keys behind a query are hidden.
        window: how far a key may be off, counted with the query's own place.
        scale: the factor of the scores. Default: ``1 / sqrt(H)``.
        soft_cap: the limit of the scaled scores.
        dropout: the fraction of weights left out while training.
        seed: of the dropout.
        training: whether weights are left out.
    """
    query, key, value = tensor(query), tensor(key), tensor(value)
    _check_shapes(query, key, value)
    mask = None if mask is None else _checked_mask(mask)
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"`window` must be a positive integer or None. Received: window={window}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"`scale` must be a finite number. Received: scale={scale}")
    if soft_cap is not None and not 0 < soft_cap < math.inf:
        raise ValueError(
            "`attn_logits_soft_cap` must be a finite number above 0. Received: "
            f"attn_logits_soft_cap={soft_cap}"
        )
    dtype = common_dtype((dtype_of(query), dtype_of(key), dtype_of(value)))
    factor = 1.0 / math.sqrt(shape_of(key)[3]) if scale is None else float(scale)
    operands = tuple(cast(x, dtype) for x in (query, key, value))
    rate = float(dropout) if training else 0.0
    places = {"lengths": lengths, "start": start, "rows": rows}
    given = {name: cast(tensor(x), "int32") for name, x in places.items() if x is not None}
    if mask is not None:
        given["mask"] = mask
    if bias is None and soft_cap is None and dtype != "float64" and rate < 1.0:
        return cast(_fused(operands, given, causal, window, factor, rate, seed), dtype)
    return _composed(operands, given, bias, causal, window, factor, soft_cap, rate, seed)


def _fused(
    operands: tuple[Any, ...],
    given: dict[str, Any],
    causal: bool,
    window: int | None,
    scale: float,
    rate: float,
    seed: Any,
) -> Any:
    """The operator, which computes in float32."""
    more = [given[name] for name in OPTIONS if name in given]
    if rate:
        from handmill.random import draw_state

        more.append(draw_state(seed))
    return apply(
        ATTENTION,
        *(cast(x, "float32") for x in operands),
        *more,
        causal=bool(causal),
        window=window or 0,
        scale=scale,
        rate=rate,
        **{name: name in given for name in OPTIONS},
    )[0]


def _composed(
    operands: tuple[Any, ...],
    given: dict[str, Any],
    bias: Any,
    causal: bool,
    window: int | None,
    scale: float,
    soft_cap: float | None,
    rate: float,
    seed: Any,
) -> Any:
    """The same of operators, with all scores in memory."""
    operands = _read(operands, given)
    allowed = _allowed(operands[0], operands[1], given, causal, window)
    dtype = dtype_of(operands[0])
    wide = common_dtype((dtype, "float32"))
    q, k, v = (transpose(x, (0, 2, 1, 3)) for x in operands)
    if allowed is not None:
        q = where(_seen(allowed, 3), q, 0.0)
        k, v = (where(_seen(allowed, 2), x, 0.0) for x in (k, v))
    scores = multiply(cast(_product(q, transpose(k, (0, 1, 3, 2))), wide), scale)
    if soft_cap is not None:
        scores = multiply(tanh(multiply(scores, 1.0 / soft_cap)), soft_cap)
    if bias is not None:
        scores = add(scores, cast(tensor(bias), wide))
    weights = cast(masked_softmax(scores, allowed), dtype)
    if rate:
        weights = _dropped(weights, rate, seed)
    return transpose(_product(weights, v), (0, 2, 1, 3))


def outcome(
    operands: tuple[Any, ...], more: tuple[Any, ...], attrs: dict[str, Any]
) -> tuple[Any, Any]:
    """What the operator ``attention`` computes, in simpler ones: averages, and what it keeps."""
    names = [name for name in OPTIONS if attrs[name]]
    given = dict(zip(names, more, strict=False))
    operands = _read(operands, given)
    allowed = _allowed(operands[0], operands[1], given, attrs["causal"], attrs["window"] or None)
    q, k, v = (transpose(x, (0, 2, 1, 3)) for x in operands)
    if allowed is not None:
        q = where(_seen(allowed, 3), q, 0.0)
        k, v = (where(_seen(allowed, 2), x, 0.0) for x in (k, v))
    scores = _product(multiply(q, attrs["scale"]), transpose(k, (0, 1, 3, 2)))
    weights = masked_softmax(scores, allowed)
    if allowed is not None:
        scores = where(allowed, scores, -math.inf)
    top = max_of(scores, -1, keepdims=True, initial=-math.inf)
    some = greater(top, -math.inf)
    top = where(some, top, 0.0)
    total = sum_of(exp(subtract(scores, top)), -1, keepdims=True)
    inverse = where(some, divide(1.0, where(some, total, 1.0)), 0.0)
    if attrs["rate"]:
        weights = _dropped(weights, attrs["rate"], more[-1])
    y, stats = _product(weights, v), concatenate([top, inverse], -1)
    return transpose(y, (0, 2, 1, 3)), transpose(stats, (0, 2, 1, 3))


def gradients(
    operands: tuple[Any, ...], dy: Any, more: tuple[Any, ...], attrs: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """What the operator ``attention_grad`` computes, in operators that can be differentiated."""
    names = [name for name in OPTIONS if attrs[name]]
    given = dict(zip(names, more, strict=False))
    allowed = _allowed(operands[0], operands[1], given, attrs["causal"], attrs["window"] or None)
    q, k, v, dy = (transpose(x, (0, 2, 1, 3)) for x in (*operands, dy))
    if allowed is not None:
        q, dy = (where(_seen(allowed, 3), x, 0.0) for x in (q, dy))
        k, v = (where(_seen(allowed, 2), x, 0.0) for x in (k, v))
    q = multiply(q, attrs["scale"])
    weights = masked_softmax(_product(q, transpose(k, (0, 1, 3, 2))), allowed)
    dweights, kept = _product(dy, transpose(v, (0, 1, 3, 2))), weights
    if attrs["rate"]:
        factor = _dropped(ones_like(weights), attrs["rate"], more[-1])
        dweights, kept = multiply(dweights, factor), multiply(weights, factor)
    own = sum_of(multiply(weights, dweights), -1, keepdims=True)
    dscores = multiply(weights, subtract(dweights, own))
    found = (
        multiply(_product(dscores, k), attrs["scale"]),
        _product_of_rows(dscores, q, k),
        _product_of_rows(kept, dy, v),
    )
    dq, dk, dv = (transpose(x, (0, 2, 1, 3)) for x in found)
    return dq, dk, dv


def _read(operands: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...]:
    """Queries, keys and values, each key and value in the row that reads it."""
    if "rows" not in given:
        return operands
    q, k, v = operands
    return q, rows_taken(k, given["rows"]), rows_taken(v, given["rows"])


def rows_taken(x: Any, rows: Any) -> Any:
    """Keys or values (B, S, K, H), each of the row that ``rows`` (B, S) names for it."""
    b, s, *rest = shape_of(x)
    return take(reshape(x, (b * s, *rest)), _lines(rows, b, s), axis=0)


def rows_added(x: Any, rows: Any) -> Any:
    """The gradient of :func:`rows_taken`: what each key and value got from those who read it."""
    b, s, *rest = shape_of(x)
    lines = expand_dims(_lines(rows, b, s), 2)
    return reshape(scatter(lines, x, (b * s, *rest)), (b, s, *rest))


def _lines(rows: Any, b: Any, s: Any) -> Any:
    row = cast(maximum(minimum(rows, subtract(b, 1)), 0), "int32")
    return add(multiply(row, s), arange(s, dtype="int32"))


def _dropped(x: Any, rate: float, seed: Any) -> Any:
    from handmill.random import dropout

    return dropout(x, rate, seed=seed)


def _product_of_rows(x: Any, y: Any, like: Any) -> Any:
    """The product over all queries of the heads that share a head of ``like``."""
    b, _, s, width = shape_of(like)
    groups = shape_of(like)[1]

    def joined(z: Any, last: Any) -> Any:
        _, n, t, _ = shape_of(z)
        return z if n == groups else reshape(z, (b, groups, n // groups * t, last))

    return matmul(transpose(joined(x, s), (0, 1, 3, 2)), joined(y, width))


def masked_softmax(scores: Any, allowed: Any) -> Any:
    """Softmax along the last axis over what is allowed; all 0, as its gradient, where nothing is.

    Args:
        scores: floats.
        allowed: bool, broadcasts to them; None for all.
    """
    if allowed is None:
        return _softmax(scores)
    lowest = -3e38 if dtype_of(scores) == "float32" else -1e300
    return where(allowed, _softmax(where(allowed, scores, lowest)), 0.0)


def _softmax(scores: Any) -> Any:
    # Not ops.softmax, which warns where there is one key.
    return apply(SOFTMAX, scores, axis=len(shape_of(scores)) - 1)


def _allowed(query: Any, key: Any, given: dict[str, Any], causal: bool, window: int | None) -> Any:
    """Which query sees which key, broadcasting to (B, N, T, S); None where each sees all."""
    found = given.get("mask")
    s = shape_of(key)[1]

    def both(one: Any, other: Any) -> Any:
        return other if one is None else logical_and(one, other)

    if "lengths" in given:
        found = both(found, less(arange(s), reshape(given["lengths"], (-1, 1, 1, 1))))
    if causal or window is not None:
        places = reshape(arange(shape_of(query)[1]), (1, 1, -1, 1))
        if "start" in given:
            places = add(places, reshape(given["start"], (-1, 1, 1, 1)))
        ahead = subtract(arange(s), places)
        if causal:
            found = both(found, less(ahead, 1))
        if window is not None:
            found = both(found, greater(ahead, -window))
            if not causal:
                found = both(found, less(ahead, window))
    return found


def _seen(allowed: Any, axis: int) -> Any:
    """Whether a query sees any key (axis 3), a key is seen by any query of any head (axis 2)."""
    if axis == 3:
        return any_of(allowed, 3, keepdims=True)
    return transpose(any_of(allowed, (1, 2), keepdims=True), (0, 1, 3, 2))


def _product(x: Any, y: Any) -> Any:
    """The matrix product of (B, N, T, .) with (B, K, ., .), each of K serving N // K heads."""
    b, n, t, width = shape_of(x)
    groups = shape_of(y)[1]
    if n == groups:
        return matmul(x, y)
    found = matmul(reshape(x, (b, groups, n // groups * t, width)), y)
    return reshape(found, (b, n, t, shape_of(y)[3]))


def _checked_mask(mask: Any) -> Any:
    mask = tensor(mask)
    if dtype_of(mask) != "bool":
        if dtype_of(mask).startswith("float"):
            raise ValueError(
                "`mask` must be bool, True where a query sees a key. Numbers that are added to the "
                f"scores, such as 0 and -1e9, go to `bias`. Received: dtype {dtype_of(mask)}"
            )
        mask = cast(mask, "bool")
    if len(shape_of(mask)) > 4:
        raise ShapeError(f"`mask` must broadcast to (B, N, T, S). Received: {shape_of(mask)}")
    return reshape(mask, (*[1] * (4 - len(shape_of(mask))), *shape_of(mask)))


def _check_shapes(query: Any, key: Any, value: Any) -> None:
    shapes = {"query": shape_of(query), "key": shape_of(key), "value": shape_of(value)}
    received = ", ".join(f"{name}.shape={as_none(shape)}" for name, shape in shapes.items())
    if any(len(shape) != 4 for shape in shapes.values()):
        raise ShapeError(f"`dot_product_attention` only supports 4D inputs. Received: {received}")
    q, k, v = shapes.values()
    if not (same(q[3], k[3]) and all(same(k[a], v[a]) for a in (1, 2))):
        raise ShapeError(
            "attention: query and key must agree in their last dimension, key and value in their "
            f"second and third one. Received: {received}"
        )
    if not all(same(q[0], x[0]) for x in (k, v)):
        raise ShapeError(f"attention: batch sizes differ. Received: {received}")
    heads, shared = q[2], k[2]
    if isinstance(heads, int) and isinstance(shared, int) and (not shared or heads % shared):
        raise ShapeError(
            f"attention: the number of heads of queries ({heads}) must be a multiple of that of "
            f"keys ({shared}). Received: {received}"
        )
