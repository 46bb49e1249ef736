"""Samples of a table for local models: each feature as the training rows are spread."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.data.keyed_random import make_key, uniform, words
from handmill.ir.op import Array

_CELLS_BITS = 10
_CELLS = 1 << _CELLS_BITS
_REST = 32 - _CELLS_BITS


class BinnedSamples:
    """Numbers in bins by quartiles (or whole categories): a sample has the row's bin, or not.

    Args:
        training: rows (rows, features).
        categorical: numbers of columns whose values are names: each value is a bin.
        names: what the features are called.

    A bin is drawn by its share of the training rows, and a number in it from the normal
    distribution of its mean and spread there, cut at its ends. Both are read from one table a
    feature, of 1,024 quantiles and straight lines between.
    """

    def __init__(self, training: Array, categorical: Sequence[int], names: Sequence[str]) -> None:
        self._names = names
        self._categorical = set(categorical)
        self._edges: list[Array] = []
        quantiles = np.empty((training.shape[1], _CELLS + 1))
        flat = np.zeros(training.shape[1], bool)
        quarters = np.percentile(training, [25, 50, 75], axis=0)
        for j, column in enumerate(np.ascontiguousarray(training.T, np.float64)):
            if j in self._categorical:
                values, counts = np.unique(column, return_counts=True)
                share = np.cumsum(counts) / len(column)
                places = (np.arange(_CELLS + 1) + 0.5) / (_CELLS + 1)
                quantiles[j] = values[np.minimum(np.searchsorted(share, places), len(values) - 1)]
                self._edges.append(values)
                flat[j] = True
            else:
                edges = np.unique(quarters[:, j])
                quantiles[j] = _of_bins(column, edges)
                self._edges.append(edges)
        steps = np.diff(quantiles, axis=1)
        steps[flat] = 0
        self._start, self._step = quantiles[:, :-1].reshape(-1), (steps * 2.0**-_REST).reshape(-1)
        self.features = training.shape[1]
        self._drawn: tuple[Any, Array] = (None, np.zeros(0))

    def draw(self, samples: int, seed: int, dtype: np.dtype[np.generic]) -> Array:
        """Samples (samples, features) under a seed; the last ones are kept."""
        if self._drawn[0] != (samples, seed, dtype):
            self._drawn = (samples, seed, dtype), self._draw(samples, seed, dtype)
        return self._drawn[1]

    def _draw(self, samples: int, seed: int, dtype: np.dtype[np.generic]) -> Array:
        count = samples * self.features
        found = words(make_key(seed, 1), np.arange((count + 1) // 2)).view(np.uint32)[:count]
        drawn = found.reshape(samples, self.features)
        cell = (drawn >> np.uint32(_REST)).astype(np.intp)
        cell += np.arange(self.features) * _CELLS
        rest = drawn & np.uint32((1 << _REST) - 1)
        values = self._step[cell]
        values *= rest
        values += self._start[cell]
        return np.asarray(values, dtype)

    def design(self, values: Array, row: Array) -> Array:
        """1 where a sample lies in the row's bin, float64 (samples, features)."""
        low, high = self._bin_of(row)
        return np.asarray((values > low) & (values <= high), np.float64)

    def weights(self, design: Array, width: float) -> Array:
        """exp(-d^2 / (2 width^2)) by the number d^2 of features in another bin."""
        features = design.shape[1]
        table = np.exp(-np.arange(features + 1.0) / (2 * width**2))
        return np.asarray(table[features - design.sum(1).astype(np.intp)])

    def conditions(self, row: Array) -> list[str]:
        """What the row's bins are called: ``"4.4 < age <= 7"``."""
        low, high = (ends.tolist() for ends in self._bin_of(row))
        found = []
        for j, name in enumerate(self._names):
            if j in self._categorical:
                found.append(f"{name} = {float(row[j]):.6g}")
            elif low[j] == -math.inf and high[j] == math.inf:
                found.append(name)
            elif low[j] == -math.inf:
                found.append(f"{name} <= {high[j]:.2f}")
            elif high[j] == math.inf:
                found.append(f"{name} > {low[j]:.2f}")
            else:
                found.append(f"{low[j]:.2f} < {name} <= {high[j]:.2f}")
        return found

    def _bin_of(self, row: Array) -> tuple[Array, Array]:
        low, high = np.empty(len(row)), np.empty(len(row))
        for j, (edges, value) in enumerate(zip(self._edges, row, strict=True)):
            if j in self._categorical:
                low[j], high[j] = np.nextafter(float(value), -np.inf), value
                continue
            place = int(np.searchsorted(edges, value))
            low[j] = edges[place - 1] if place else -np.inf
            high[j] = edges[place] if place < len(edges) else np.inf
        return low, high


class NormalSamples:
    """Numbers as they are, from the normal distribution of the training rows.

    Args:
        training: rows (rows, features).
        names: what the features are called.
    """

    def __init__(self, training: Array, names: Sequence[str]) -> None:
        wide = training.astype(np.float64)
        self._names = list(names)
        self._mean, spread = wide.mean(0), wide.std(0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._varies = spread > 0
        self.features = training.shape[1]

    def draw(self, samples: int, seed: int, dtype: np.dtype[np.generic]) -> Array:
        """Samples (samples, features) under a seed."""
        position = np.arange(samples * self.features).reshape(samples, self.features)
        values = normal_quantile(uniform(make_key(seed, 1), position)) * self._varies
        return np.asarray(values * self._spread + self._mean, dtype)

    def design(self, values: Array, row: Array) -> Array:
        """The samples in units of the training rows' spread."""
        return np.asarray((values - self._mean) / self._spread)

    def weights(self, design: Array, width: float) -> Array:
        """exp(-d^2 / (2 width^2)) by the distance d from the first sample, the row."""
        return np.asarray(np.exp(-((design - design[0]) ** 2).sum(1) / (2 * width**2)))

    def conditions(self, row: Array) -> list[str]:
        """The names of the features."""
        return self._names


def _of_bins(column: Array, edges: Array) -> Array:
    """Quantiles of the mixture of the bins' cut normal distributions."""
    number = np.searchsorted(edges, column)
    ends = np.concatenate([[column.min()], edges, [column.max()]])
    count = np.bincount(number, minlength=len(edges) + 1)
    some = np.maximum(count, 1)
    mean = np.bincount(number, column, len(count)) / some
    away = column - mean[number]
    spread = np.sqrt(np.bincount(number, away * away, len(count)) / some)
    upto = np.cumsum(count / len(column))
    places = np.linspace(0.0, 1.0, _CELLS + 1)
    bins = np.minimum(np.searchsorted(upto, places), len(edges))
    start = np.concatenate([[0.0], upto[:-1]])
    at = np.clip((places - start[bins]) * (len(column) / some)[bins], 0.0, 1.0)
    unit = np.where(spread > 0, spread, 1.0)
    low = np.array([normal_share(z) for z in (ends[:-1] - mean) / unit])
    high = np.array([normal_share(z) for z in (ends[1:] - mean) / unit])
    drawn = mean[bins] + spread[bins] * normal_quantile(low[bins] + at * (high - low)[bins])
    return np.asarray(np.clip(drawn, ends[bins], ends[bins + 1]))


def normal_share(x: float) -> float:
    """The share of a standard normal distribution below ``x``."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


@functools.lru_cache(maxsize=1)
def _quantile_table() -> tuple[Array, Array]:
    grid = np.linspace(-8.0, 8.0, 8193)
    return np.array([normal_share(x) for x in grid]), grid


def normal_quantile(share: Array) -> Array:
    """Where a standard normal distribution has this share below: a table with straight lines."""
    shares, grid = _quantile_table()
    return np.asarray(np.interp(share, shares, grid))
