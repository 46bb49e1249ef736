"""Data sets that take each element from one of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as counted
from itertools import islice
from typing import Any

import numpy as np

from handmill.data.keyed_random import make_key, uniform
from handmill.data.pipeline.dataset import INFINITE, UNKNOWN, Dataset

_BLOCK = 4096  # draws made at a time
_NOTHING = object()


class _Mixture(Dataset):
    """Elements of several data sets, in an order of them."""

    def __init__(self, verb: str, datasets: Sequence[Dataset], stops: bool) -> None:
        found = list(datasets)
        if not found or not all(isinstance(one, Dataset) for one in found):
            raise TypeError(f"{verb}: expected a list of Datasets, got {datasets!r}")
        super().__init__(found[0])
        self._all = found
        self._stops = stops

    def _spec(self) -> Any:
        return self._all[0].element_spec

    def _opened(self, pass_: int) -> list[Iterator[Any]]:
        return [one._open(pass_, 0) for one in self._all]

    def _open(self, pass_: int, start: int) -> Iterator[Any]:
        return islice(self._elements(pass_), start, None)


class Sampled(_Mixture):
    """Elements of data sets that are drawn at random."""

    def __init__(
        self, datasets: Sequence[Dataset], weights: Any, seed: int, stops: bool, rerandomizes: bool
    ) -> None:
        super().__init__("sample_from_datasets", datasets, stops)
        given = np.ones(len(self._all)) if weights is None else np.asarray(weights, np.float64)
        if given.shape != (len(self._all),) or not (
            np.all(given >= 0) and 0 < given.sum() < np.inf
        ):
            raise ValueError(
                f"sample_from_datasets: expected {len(self._all)} weights, not negative and not "
                f"all 0, one a data set. Received: weights={weights!r}"
            )
        self._weights = given
        self._seed = seed
        self._rerandomizes = rerandomizes

    def cardinality(self) -> int:
        counts = [
            one.cardinality() for one, w in zip(self._all, self._weights, strict=True) if w > 0
        ]
        if all(n == INFINITE for n in counts) or (INFINITE in counts and not self._stops):
            return INFINITE
        return UNKNOWN if self._stops or UNKNOWN in counts else sum(counts)

    def _elements(self, pass_: int) -> Iterator[Any]:
        key = make_key(self._seed, pass_ if self._rerandomizes else 0, 5)
        iterators = self._opened(pass_)
        weights = self._weights.copy()
        for number in counted():
            if number % _BLOCK == 0:
                drawn = uniform(key, np.arange(number, number + _BLOCK))
            element = _NOTHING
            while element is _NOTHING:
                bounds = np.cumsum(weights)
                chosen = int(np.searchsorted(bounds, drawn[number % _BLOCK] * bounds[-1], "right"))
                element = next(iterators[chosen], _NOTHING)
                if element is _NOTHING:
                    weights[chosen] = 0.0
                    if self._stops or not weights.any():
                        return
            yield element


class Chosen(_Mixture):
    """Elements of data sets whose numbers another one gives."""

    def __init__(self, datasets: Sequence[Dataset], choices: Dataset, stops: bool) -> None:
        super().__init__("choose_from_datasets", datasets, stops)
        if not isinstance(choices, Dataset):
            raise TypeError(
                f"choose_from_datasets: expected a Dataset of numbers, got {type(choices).__name__}"
            )
        self._choices = choices

    def _elements(self, pass_: int) -> Iterator[Any]:
        iterators = self._opened(pass_)
        for number, choice in enumerate(self._choices._open(pass_, 0)):
            place = np.asarray(choice)
            if place.shape or place.dtype.kind not in "iu" or not 0 <= place < len(iterators):
                raise ValueError(
                    f"choose_from_datasets: choice {number} must be a whole number from 0 to "
                    f"{len(iterators) - 1}, got {choice!r}"
                )
            element = next(iterators[int(place)], _NOTHING)
            if element is not _NOTHING:
                yield element
            elif self._stops:
                return
