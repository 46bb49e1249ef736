"""The loss of a language model's head, without the logits."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.errors import shape_error
from handmill.ir.dims import same_shape
from handmill.primitives.contrast import product_logsumexp
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import shape_of, tensor


def linear_cross_entropy(
    targets: Any, hidden: Any, embeddings: Any, ignore_class: int | None = None
) -> Any:
    """The cross-entropy of tokens from vectors and a table, a part of the vocabulary at a time.

    What ``sparse_categorical_crossentropy(targets, hidden @ transpose(embeddings),
    from_logits=True)`` gives, and gradients of both factors, but logits (tokens x vocabulary) are
    nowhere in memory: each part of them is multiplied again on the way back, which costs two
    products of the head more. It pays where logits do not fit, not where they are a few dozen
    megabytes. Computed in float32.

    Args:
        targets: the token to be found at each place, whole numbers of any shape.
        hidden: a vector for each place, of the shape of ``targets`` and the width C.
        embeddings: a vector for each token (V, C), such as the table of a ``ReversibleEmbedding``.
        ignore_class: a target, such as -100, whose places have a loss of 0 and no gradient.

    Returns:
        The losses, of the shape of ``targets``.

    Raises:
        ShapeError: if shapes do not fit.
        ValueError: for a target that is no token.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> table = np.eye(3, dtype="float32")
        >>> hub.linear_cross_entropy([2, 0], [[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]], table).round(4)
        array([2.0000e-04, 1.0986e+00], dtype=float32)
    """
    targets, hidden, embeddings = tensor(targets), tensor(hidden), tensor(embeddings)
    shape, width = shape_of(hidden)[:-1], shape_of(hidden)[-1:]
    given = {"targets": targets, "hidden": hidden, "embeddings": embeddings}
    tokens = shape_of(embeddings)[0] if len(shape_of(embeddings)) == 2 else None
    if not isinstance(tokens, int) or not same_shape(shape_of(targets), shape):
        problem = "targets (...), hidden (..., C) and embeddings (V, C) were expected"
        raise shape_error("linear_cross_entropy", problem, given)
    rows = ops.cast(ops.reshape(hidden, (-1, *width)), "float32")
    table = ops.cast(embeddings, "float32")
    ids, counts = ops.reshape(targets, (-1,)), None
    if ignore_class is not None:
        counts = ops.not_equal(ids, ignore_class)
        ids = ops.where(counts, ids, ops.zeros_like(ids))
    ids = check_labels(ids, tokens, "token")
    own = ops.sum(ops.multiply(rows, ops.take(table, ids, axis=0)), axis=-1)
    losses = ops.subtract(product_logsumexp(rows, table), own)
    if counts is not None:
        losses = ops.where(counts, losses, ops.zeros_like(losses))
    return ops.reshape(losses, shape)
