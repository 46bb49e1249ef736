"""Shapley values of many players, from coalitions drawn at random, with standard errors.

Permutations: players come one by one in a random order and in its reverse; what each adds is its
value in that order. Orders are independent, so their spread gives the standard error. (Castro,
Gomez, Tejada, 2009; in pairs: Mitchell, Cooper, Frank, Holmes, 2022.)

Regression: the values are the least squares fit of an additive game, under the kernel weights
(M - 1) / (C(M, s) s (M - s)) and with the total fixed. (Lundberg, Lee, 2017.) Small and large
coalitions are enumerated while the budget lasts, the others drawn with their complements (Covert,
Lee, 2021); the standard error is that of a weighted fit with sampled rows ("sandwich").
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from handmill.data.keyed_random import make_key, uniform, words
from handmill.ir.op import Array

Values = Callable[[Array], Array]
"""Gives the values (float64) of coalitions, bool (coalitions, players)."""

ROUND = 8
"""Pairs of orders that are asked for together, before the rule of stopping is looked at."""

FEWEST_PAIRS = 16
"""Drawn pairs of coalitions that standard errors need: less is not enumerated in their place."""


def by_permutations(
    value: Values, players: int, empty: float, full: float, pairs: int, until: float, key: int
) -> tuple[Array, Array, int]:
    """Shapley values from random orders of the players.

    Args:
        value: the game.
        players: their number, 2 or more.
        empty: the value of no player.
        full: the value of all.
        pairs: orders at most, each with its reverse.
        until: stops when the largest standard error is below this part of the largest value; 0
            never stops.
        key: of the random numbers.

    Returns:
        The values, their standard errors, the pairs used.
    """
    found: list[Array] = []
    while len(found) < pairs:
        count = min(ROUND, pairs - len(found))
        orders = np.stack([_order(key, len(found) + i, players) for i in range(count)])
        ranks = np.argsort(orders, axis=1)
        prefixes = ranks[:, None, :] < np.arange(1, players)[:, None]  # (pairs, steps, players)
        masks = np.concatenate([prefixes, ~prefixes], 1).reshape(-1, players)
        values = value(masks).reshape(count, 2, players - 1)
        for order, (forward, backward) in zip(orders, values, strict=True):
            # ~prefix of length t: the reverse order after M - t players.
            gains = np.diff(np.concatenate([[empty], forward, [full]]))
            losses = np.diff(np.concatenate([[full], backward, [empty]]))
            one = np.empty(players)
            one[order] = (gains - losses) / 2
            found.append(one)
        if until and len(found) > 1:
            mean, error = _mean_and_error(found)
            if error.max() <= until * np.abs(mean).max():
                break
    mean, error = _mean_and_error(found)
    return mean, error, len(found)


def _order(key: int, number: int, players: int) -> Array:
    return np.argsort(words(make_key(key, number), np.arange(players)), kind="stable")


def _mean_and_error(found: list[Array]) -> tuple[Array, Array]:
    values = np.stack(found)
    mean = values.mean(0)
    if len(values) < 2:
        return mean, np.full(len(mean), np.nan)
    return mean, values.std(0, ddof=1) / math.sqrt(len(values))


def by_regression(
    value: Values, players: int, empty: float, full: float, budget: int, key: int
) -> tuple[Array, Array | None, int]:
    """Shapley values from a weighted least squares fit.

    Args:
        value: the game.
        players: their number, 2 or more.
        empty: the value of no player.
        full: the value of all.
        budget: coalitions at most, without those two.
        key: of the random numbers.

    Returns:
        The values; their standard errors, None if every coalition was asked for; how many
        different coalitions were.
    """
    masks, places, z, weighted, inverse, leverage = _design(players, budget, key)
    drawn = len(leverage)
    found = value(masks)[places] - empty
    total = full - empty
    solved = inverse @ np.stack([weighted.T @ found, np.ones(players)], 1)
    # The total is held by a multiplier.
    scale = solved[:, 1] / solved[:, 1].sum()
    values = solved[:, 0] - scale * (solved[:, 0].sum() - total)
    if not drawn:
        return values, None, len(masks)
    z, weighted = z[-2 * drawn :], weighted[-2 * drawn :]
    # A pair pulls the fit towards itself: its residuals are too small by its leverage.
    residual = (found[-2 * drawn :] - z @ values).reshape(2, drawn) / (1 - leverage)
    pairs = (weighted.reshape(2, drawn, players) * residual[..., None]).sum(0)
    moved = inverse @ (pairs - pairs.mean(0)).T
    moved -= scale[:, None] * moved.sum(0)
    error = np.sqrt((moved**2).sum(1) * drawn / max(drawn - 1, 1))
    return values, error, len(masks)


@functools.lru_cache(maxsize=2)
def _design(players: int, budget: int, key: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """What every row under a key shares.

    Returns:
        The different coalitions, bool; where each of the fit's stands among them, for some are
        drawn twice; these, float64, and times their weights; the inverse of the matrix of the
        normal equations; the leverage of each drawn pair. Drawn pairs stand last: coalitions, then
        complements.
    """
    masks, weights, drawn = _chosen_coalitions(players, budget, key)
    z = masks.astype(np.float64)
    weighted = z * weights[:, None]
    inverse = np.linalg.inv(weighted.T @ z)
    last = slice(len(z) - 2 * drawn, None)
    leverage = ((weighted[last] @ inverse) * z[last]).sum(1).reshape(2, drawn).sum(0)
    different, places = np.unique(masks, axis=0, return_inverse=True)
    return different, places.reshape(-1), z, weighted, inverse, leverage


def _chosen_coalitions(players: int, budget: int, key: int) -> tuple[Array, Array, int]:
    """Coalitions, their weights, and how many pairs were drawn; 0 if all are enumerated."""
    mass = [(players - 1) / (s * (players - s)) for s in range(1, players)]  # of a whole size
    masks: list[Array] = []
    weights: list[Array] = []
    left = budget
    size = 1
    while size <= players // 2:
        both = size != players - size
        count = math.comb(players, size)
        rest = left - count * (1 + both)
        is_last = 2 * size >= players - 1
        if rest < (0 if is_last else 2 * FEWEST_PAIRS):
            break
        chosen = np.zeros((count, players), bool)
        chosen[
            np.repeat(np.arange(count), size),
            list(itertools.chain.from_iterable(itertools.combinations(range(players), size))),
        ] = True
        for part in (chosen, ~chosen)[: 1 + both]:
            masks.append(part)
            weights.append(np.full(count, mass[size - 1] / count))
        left = rest
        size += 1
    sizes = np.arange(size, players - size + 1)
    if not len(sizes):
        return np.concatenate(masks), np.concatenate(weights), 0
    count = max(left // 2, 1)
    drawn = _drawn(players, sizes, np.array([mass[s - 1] for s in sizes]), count, key)
    total = sum(mass[s - 1] for s in sizes)
    masks += [drawn, ~drawn]
    weights.append(np.full(2 * count, total / (2 * count)))
    return np.concatenate(masks), np.concatenate(weights), count


def _drawn(players: int, sizes: Array, mass: Array, count: int, key: int) -> Array:
    """Coalitions with sizes drawn by their mass, in even strata, and members at random."""
    cumulative = np.cumsum(mass) / mass.sum()
    places = (np.arange(count) + uniform(make_key(key, 0), np.arange(count))) / count
    chosen = sizes[np.minimum(np.searchsorted(cumulative, places, side="right"), len(sizes) - 1)]
    position = np.arange(count * players).reshape(count, players)
    ranks = np.argsort(np.argsort(words(make_key(key, 1), position), axis=1, kind="stable"), axis=1)
    return np.asarray(ranks < chosen[:, None])
