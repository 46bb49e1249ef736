"""Low rank: a matrix as a product of two thin ones, where that is less work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill.arguments import finite_number, whole_number
from handmill.compress.pruning import finite_arrays, kernels_of
from handmill.compress.quantization_aware import refuse_adapted
from handmill.compress.rebuilding import cloned
from handmill.compress.shrinking import Shrinking
from handmill.ir.op import Array
from handmill.layers.layer import Layer, all_layers
from handmill.models.sequential import Sequential
from handmill.optimizers.narrowing import exempt
from handmill.runtime.variable import Variable
from handmill.runtime.watch import is_ours

PAYS = 0.6
"""Of the rank at which two thin products are as many operations as one: where they are faster."""


def factorize(model: Any, rank: int | None = None, energy: float | None = None) -> Any:
    """Returns a model whose dense layers are two thin ones each, where that pays.

    The best approximation of a kernel (K, N) by rank r (Eckart and Young, 1936) is the product of
    the first singular vectors; both factors have the square root of the singular values. Two
    products with r <= 0.6 K N / (K + N) are less work than one; other layers stay as they are.
    The state of the optimizer begins anew, without masks of pruned weights. Train the result for
    some epochs.

    Args:
        model: a built functional or sequential model; it stays as it is.
        rank: of each kernel, at least 1.
        energy: instead of it: the part of the sum of squares of a kernel that its factors hold,
            more than 0, at most 1; each kernel gets the least rank that does.

    Returns:
        The new model. :func:`factorize_report` gives it with a table.

    Raises:
        ValueError: for arguments out of range, or a model that cannot be made anew.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> model = handmill.Sequential([
        ...     handmill.Input((64,)), layers.Dense(64, "relu"), layers.Dense(3)])
        >>> [w.shape for w in handmill.compress.factorize(model, rank=8).weights]
        [(64, 8), (8, 64), (64,), (64, 3), (3,)]
    """
    return factorize_report(model, rank, energy).model


def factorize_report(model: Any, rank: int | None = None, energy: float | None = None) -> Shrinking:
    """As :func:`factorize`, with the rank of each kernel before and after.

    Args:
        model: see :func:`factorize`, as all that follow.
        rank: of each kernel.
        energy: the part of the squares that is held.

    Example:
        >>> import handmill
        >>> model = handmill.Sequential([handmill.Input((64,)), handmill.layers.Dense(64)])
        >>> handmill.compress.factorize_report(model, rank=40).rows[0][3]
        'kept: no gain above rank 19'
    """
    if (rank is None) == (energy is None):
        raise ValueError(
            f"give either `rank` or `energy`. Received: rank={rank!r}, energy={energy!r}"
        )
    refuse_adapted(model, "factorize")
    finite_arrays(kernels_of(model))
    dense: list[Any] = [
        layer
        for layer in all_layers(model)
        if is_ours(type(layer)) and type(layer).__name__ == "Dense" and layer.built
    ]
    largest = max((min(layer.kernel.shape) for layer in dense), default=0)
    if rank is not None:
        rank = whole_number("`rank`", rank, 1)
        if rank > largest:
            raise ValueError(
                f"`rank` must be from 1 to {largest}, the smaller side of the largest kernel of a "
                f"dense layer. Received: {rank}"
            )
    else:
        energy = finite_number("`energy`", energy)
        if not 0 < energy <= 1:
            raise ValueError(f"`energy` must be more than 0, at most 1. Received: {energy}")
    factors: dict[int, tuple[Array, Array]] = {}
    rows = []
    for layer in dense:
        kernel = layer.kernel.numpy()
        full, limit = min(kernel.shape), int(PAYS * kernel.size / sum(kernel.shape))
        u, s, v = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
        kept = rank if energy is None else _rank_for(s, energy)
        assert kept is not None  # noqa: S101
        if kept > min(limit, full):
            rows.append((layer.kernel.path, full, full, f"kept: no gain above rank {limit}"))
            continue
        root = np.sqrt(s[:kept])
        factors[id(layer)] = u[:, :kept] * root, root[:, None] * v[:kept]
        rows.append((layer.kernel.path, full, kept, ""))
    made, pairs = _made(model, factors)
    for old, new in pairs:
        given = [w.numpy() for w in old.weights]
        if id(old) in factors:
            given = [*factors[id(old)], *given[1:]]
        for weight, array in zip(new.weights, given, strict=True):
            weight.assign(array)
    if made.compiled and model.optimizer is not None and model.optimizer.built:
        exempt(made.optimizer, model.optimizer, _successors(pairs, factors))
    sizes = tuple(sum(int(np.prod(w.shape)) for w in m.weights) for m in (model, made))
    return Shrinking(made, tuple(rows), sizes)  # type: ignore[arg-type]


def _successors(
    pairs: Sequence[tuple[Any, Any]], factors: Mapping[int, Any]
) -> dict[int, list[Variable]]:
    """The id of each weight -> what stands in its place: of a kernel both factors."""
    found: dict[int, list[Variable]] = {}
    for old, new in pairs:
        kernels = 2 if id(old) in factors else 1
        parts = [new.weights[:kernels], *([w] for w in new.weights[kernels:])]
        found.update({id(w): part for w, part in zip(old.weights, parts, strict=bool(parts[0]))})
    return found


def _rank_for(singular: Array, energy: float) -> int:
    held = np.cumsum(np.square(singular))
    if not held[-1]:
        return 1
    return int(np.searchsorted(held, energy * held[-1] * (1 - 1e-12)) + 1)


def _made(model: Any, factors: dict[int, tuple[Array, Array]]) -> tuple[Any, list[tuple[Any, Any]]]:
    pairs: list[tuple[Layer, Any]] = []

    def anew(layer: Any) -> Any:
        config = json.loads(json.dumps(layer.get_config()))
        if id(layer) not in factors:
            made = type(layer).from_config(config)
            if hasattr(layer, "get_vocabulary"):
                made.build_from_config(json.loads(json.dumps(layer.get_build_config())) or {})
        else:
            rank = factors[id(layer)][0].shape[1]
            thin = {"units": rank, "use_bias": False, "activation": None, "name": "into"}
            first = type(layer).from_config({**config, **thin, "bias_regularizer": None})
            second = type(layer).from_config({**config, "name": "out_of"})
            made = Sequential([first, second], name=layer.name)
        pairs.append((layer, made))
        return made

    return cloned(model, anew), pairs
