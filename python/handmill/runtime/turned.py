"""Functions that read matrices as they lie in memory, along their rows or along their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.primitives.emit import transpose
from handmill.runtime.function import TracedFunction


class TurnedFunction(TracedFunction):
    """A program for matrices, and others for those operands that are views such as ``x.T``.

    Such a view would have to be copied, which takes as long as the product of 1,000 rows. The other
    programs get what it is a view of, and transpose it: a product does that while it reads.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turned: dict[tuple[bool, ...], TracedFunction] = {}  # by which operands are views

    def _fallback(self, *arrays: Any) -> Any:
        which = tuple(_is_turned(x) for x in arrays)
        if not any(which):
            return super()._fallback(*arrays)
        if which not in self._turned:
            self._turned[which] = TracedFunction(
                lambda *values: self._fn(*_turn(values, which)), self.name, batched=False
            )
        return self._turned[which].native(*_turn(arrays, which))


def _is_turned(x: Any) -> bool:
    return (
        type(x) is np.ndarray
        and x.ndim >= 2
        and not x.flags.c_contiguous
        and x.swapaxes(-1, -2).flags.c_contiguous
    )


def _turn(operands: Sequence[Any], which: Sequence[bool]) -> list[Any]:
    """Swaps the last two axes of the operands that are chosen, arrays or symbolic ones."""
    found = []
    for x, is_turned in zip(operands, which, strict=True):
        if not is_turned:
            found.append(x)
        elif isinstance(x, np.ndarray):
            found.append(x.swapaxes(-1, -2))
        else:
            rank = len(x.shape)
            found.append(transpose(x, (*range(rank - 2), rank - 1, rank - 2)))
    return found
