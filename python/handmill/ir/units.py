"""Which entries of tensors belong together: a unit is what can be removed only as a whole.

Each axis of a value has the number of a unit for each of its entries, or None where its length is
given from outside (rows, positions). Records say how numbers go through an operator
(``Op.channels``), and which of them must be one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from handmill.ir.op import Array, Op
from handmill.ir.shapes import Spec

Axes: TypeAlias = "tuple[Array | None, ...]"

_GIVEN = "it stands beside what has a given length"
FIXED = 0
"""The number of what cannot be removed."""


class Units:
    """Numbers of units, and which of them are one.

    Attributes:
        reasons: (numbers, why they are fixed), in the order in which that was found.
    """

    def __init__(self) -> None:
        self._count = 1
        self._pairs: list[tuple[Array, Array]] = []
        self.reasons: list[tuple[Array, str]] = []
        self.scope = ""

    def fresh(self, count: int) -> Array:
        """Numbers that nothing has yet."""
        found = np.arange(self._count, self._count + count)
        self._count += count
        return found

    def join(self, a: Array | None, b: Array | None, why: str) -> None:
        """Says that entries of two axes of one length are the same units.

        Args:
            a: the numbers of one; None: its length is given, so the other is fixed.
            b: those of the other.
            why: said of what is fixed so.
        """
        if a is None or b is None:
            for one in (a, b):
                if one is not None:
                    self.fix(one, why)
        elif a is not b:
            self._pairs.append((a, b))

    def fix(self, numbers: Array | None, why: str) -> None:
        """Says that units cannot be removed."""
        if numbers is None or not numbers.size:
            return
        self.reasons.append((numbers, f"{self.scope}: {why}" if self.scope else why))

    def fix_all(self, operands: Sequence[Axes], why: str) -> None:
        """Says that no unit of any operand can be removed."""
        for axes in operands:
            for numbers in axes:
                self.fix(numbers, why)

    def solved(self) -> tuple[Array, dict[int, str]]:
        """For each number the smallest that is the same unit; of units that must stay, why."""
        root = self._roots()
        why = {FIXED: _GIVEN}
        for numbers, reason in self.reasons:
            for one in np.unique(root[numbers]):
                why.setdefault(int(one), reason)
        return root, why

    def _roots(self) -> Array:
        root = np.arange(self._count)
        if not self._pairs:
            return root
        a = np.concatenate([x.reshape(-1) for x, _ in self._pairs])
        b = np.concatenate([y.reshape(-1) for _, y in self._pairs])
        while True:
            left, right = root[a], root[b]
            if np.array_equal(left, right):
                return root
            least = np.minimum(left, right)
            np.minimum.at(root, left, least)
            np.minimum.at(root, right, least)
            while not np.array_equal(root, root[root]):
                root = root[root]


def through(
    units: Units, op: Op, operands: Sequence[Axes], inputs: Sequence[Spec], outputs: Sequence[Spec],
    attrs: dict[str, object],
) -> list[Axes]:  # fmt: skip
    """The numbers of what an operator gives.

    Args:
        units: the units so far.
        op: the operator.
        operands: the numbers of its operands.
        inputs: their specs, of known shapes.
        outputs: the specs of its results.
        attrs: its attributes.
    """
    nothing: list[Axes] = [(None,) * spec.rank for spec in outputs]
    if all(numbers is None for axes in operands for numbers in axes):
        return nothing
    if op.channels is not None:
        return list(op.channels(units, operands, inputs, outputs, **attrs))
    if op.elementwise:
        return [elementwise(units, operands, inputs, outputs[0])]
    units.fix_all(operands, f"there is no rule for what {op.name} does with them")
    return nothing


def elementwise(units: Units, operands: Sequence[Axes], inputs: Sequence[Spec], out: Spec) -> Axes:
    """The numbers of what is computed element by element, under NumPy's broadcasting."""
    found: list[Array | None] = []
    for axis in range(-out.rank, 0):
        here = [
            axes[axis]
            for axes, spec in zip(operands, inputs, strict=True)
            if spec.rank >= -axis and spec.shape[axis] != 1
        ]
        first = next((numbers for numbers in here if numbers is not None), None)
        for numbers in here:
            if first is not None and numbers is not first:
                units.join(first, numbers, "it meets a tensor of a given length")
        found.append(first if all(numbers is not None for numbers in here) else None)
    return tuple(found)
