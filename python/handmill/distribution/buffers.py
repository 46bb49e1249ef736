"""What a shard gives, as two flat buffers: float32, and float64 for sums that have to be exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handmill.ir.op import Array

_ALIGNED = 16
"""Elements at whose multiples arrays begin: a cache line of float32."""


class Sums(NamedTuple):
    """The buffers of one shard, or of several that were added up.

    Attributes:
        narrow: float32.
        wide: float64.
    """

    narrow: Array
    wide: Array

    def add(self, other: Sums, start: int = 0) -> Sums:
        """Adds another to this one; of float32, from an element on."""
        np.add(self.narrow[start:], other.narrow[start:], out=self.narrow[start:])
        np.add(self.wide, other.wide, out=self.wide)
        return self


class Packing:
    """Where in the buffers the arrays lie that a shard gives.

    Arrays of float32, and what is converted to it (bfloat16, float16), lie in the narrow buffer.
    float64 and whole numbers, exact below 2**53, lie in the wide one.

    Args:
        kinds: shape and dtype of each array.
    """

    def __init__(self, kinds: Sequence[tuple[tuple[int, ...], str]]) -> None:
        self._kinds = list(kinds)
        self._places: list[tuple[bool, int, int]] = []
        ends = [0, 0]
        for shape, dtype in kinds:
            wide = dtype not in ("float32", "float16", "bfloat16")
            size = math.prod(shape)
            self._places.append((wide, ends[wide], size))
            ends[wide] += -(-size // _ALIGNED) * _ALIGNED
        self._sizes = ends
        self._scratch: dict[int, Array] = {}

    def new(self) -> Sums:
        """New buffers; gaps between arrays are 0."""
        return Sums(np.zeros(self._sizes[0], np.float32), np.zeros(self._sizes[1], np.float64))

    def start(self, place: int) -> int:
        """Where an array begins in its buffer."""
        return self._places[place][1]

    def stop(self, place: int) -> int:
        """Where what follows an array begins."""
        _, start, size = self._places[place]
        return start + -(-size // _ALIGNED) * _ALIGNED

    def views(self, sums: Sums) -> list[Array]:
        """The arrays in the buffers: of float32 or float64, whatever their dtype is."""
        return [
            sums[wide][start : start + size].reshape(shape)
            for (wide, start, size), (shape, _) in zip(self._places, self._kinds, strict=True)
        ]

    def targets(self, sums: Sums) -> list[Array]:
        """Arrays of their dtypes to write into; :meth:`put` then takes over what has another."""
        found = self.views(sums)
        for i, (shape, dtype) in enumerate(self._kinds):
            if found[i].dtype != dtype:
                if i not in self._scratch:
                    self._scratch[i] = np.empty(shape, _numpy_dtype(dtype))
                found[i] = self._scratch[i]
        return found

    def put(self, sums: Sums) -> None:
        """Converts what a program wrote into arrays beside the buffers."""
        if self._scratch:
            views = self.views(sums)
            for i, array in self._scratch.items():
                views[i][...] = array


def _numpy_dtype(name: str) -> np.dtype[np.generic]:
    from handmill.ir.shapes import numpy_dtype

    return numpy_dtype(name)
