"""How units go through operators (``Op.channels``): rules that records have in common.

Each is called as ``rule(units, operands, inputs, outputs, **attrs)`` with the numbers of the
operands' axes and the specs of both sides (:mod:`handmill.ir.units`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.ir.shapes import Spec
from handmill.ir.units import FIXED, Axes, Units, elementwise

Specs = Sequence[Spec]
Operands = Sequence[Axes]

_GIVEN = "it reads what has a given length"


def product(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, transpose_a: bool,
    transpose_b: bool, **attrs: Any,
) -> list[Axes]:  # fmt: skip
    """Of a matrix product: what it sums over are the same units in both operands."""
    a, b = operands
    (m, k), (k_b, n) = (
        (axes[-1], axes[-2]) if turned else (axes[-2], axes[-1])
        for axes, turned in ((a, transpose_a), (b, transpose_b))
    )
    units.join(k, k_b, _GIVEN)
    stacks = [Spec(spec.shape[:-2], spec.dtype) for spec in (*inputs, outputs[0])]
    lead = elementwise(units, [a[:-2], b[:-2]], stacks[:2], stacks[2])
    return [(*lead, m, n)]


def convolution(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, groups: int, **attrs: Any
) -> list[Axes]:
    """Of a convolution: channels in are the kernel's, channels out are those of its last axis."""
    x, kernel = operands
    _no_positions(units, x, kernel)
    channels, filters = inputs[0].shape[-1], inputs[1].shape[-1]
    if groups == 1:
        units.join(x[-1], kernel[-2], _GIVEN)
    elif inputs[1].shape[-2] == 1:
        units.fix(kernel[-2], "one channel of a group")
        spread = None if x[-1] is None else np.repeat(x[-1], filters // channels)
        units.join(spread, kernel[-1], _GIVEN)
    else:
        units.fix_all([x, kernel], "groups of a convolution have a given length")
    return [(x[0], *(None,) * (len(x) - 2), kernel[-1])]


def convolution_turned(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, groups: int, **attrs: Any
) -> list[Axes]:
    """Of a transposed convolution: the two last axes of the kernel change places."""
    y, kernel = operands
    _no_positions(units, y, kernel)
    if groups == 1:
        units.join(y[-1], kernel[-1], _GIVEN)
        return [(y[0], *(None,) * (len(y) - 2), kernel[-2])]
    units.fix_all([y, kernel], "groups of a convolution have a given length")
    return [(None,) * len(y)]


def _no_positions(units: Units, x: Axes, kernel: Axes) -> None:
    for numbers in (*x[1:-1], *kernel[:-2]):
        units.fix(numbers, "positions under a window")


def pooled(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, **attrs: Any
) -> list[Axes]:
    """Of pooling: channels stay."""
    x = operands[0]
    for numbers in x[1:-1]:
        units.fix(numbers, "positions under a window")
    return [(x[0], *(None,) * (len(x) - 2), x[-1])]


def reduced(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, axis: Sequence[int],
    keepdims: bool, **attrs: Any,
) -> list[Axes]:  # fmt: skip
    """Of sums and the like: what they go over must stay."""
    x = operands[0]
    over = {a % len(x) for a in axis}
    for a in over:
        units.fix(x[a], "a mean or sum over them: fewer would change it")
    return [tuple(None if a in over else x[a] for a in range(len(x)) if keepdims or a not in over)]


def along(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, axis: int, **attrs: Any
) -> list[Axes]:
    """Of a softmax, and what else goes along one axis."""
    x = list(operands[0])
    units.fix(x[axis], "each depends on all others along the axis")
    x[axis] = None
    return [tuple(x)] * len(outputs)


def permuted(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, perm: Sequence[int]
) -> list[Axes]:
    """Of a transposition."""
    return [tuple(operands[0][a] for a in perm)]


def same_axes(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, **attrs: Any
) -> list[Axes]:
    """Of what hands on its first operand."""
    return [operands[0]]


def broadcast(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, shape: Any
) -> list[Axes]:
    """Of broadcasting: entries that are all alike are units of their own."""
    x, out = operands[0], outputs[0]
    lead = out.rank - len(x)
    found: list[Array | None] = []
    for axis, size in enumerate(out.shape):
        if axis >= lead and inputs[0].shape[axis - lead] == size:
            found.append(x[axis - lead])
        else:
            found.append(units.fresh(size))  # type: ignore[arg-type]
    return [tuple(found)]


def concatenated(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, axis: int
) -> list[Axes]:
    """Of concatenation: units stand one behind the other."""
    found: list[Array | None] = []
    for a in range(len(operands[0])):
        here = [axes[a] for axes in operands]
        if a != axis % len(operands[0]):
            first = next((numbers for numbers in here if numbers is not None), None)
            for numbers in here:
                if first is not None:
                    units.join(first, numbers, _GIVEN)
            found.append(first)
        elif all(numbers is None for numbers in here):
            found.append(None)
        else:
            sizes = [spec.shape[a] for spec in inputs]
            parts = [
                np.full(size, FIXED) if numbers is None else numbers
                for numbers, size in zip(here, sizes, strict=True)
            ]
            found.append(np.concatenate(parts))
    return [tuple(found)]


def sliced(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, start: Any, stop: Any,
    step: Any,
) -> list[Axes]:  # fmt: skip
    """Of slices with given bounds."""
    return [
        tuple(
            None if numbers is None else numbers[first:last:by]
            for numbers, first, last, by in zip(operands[0], start, stop, step, strict=True)
        )
    ]


def padded(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, paddings: Any, value: Any
) -> list[Axes]:
    """Of padding: positions may be padded, units not."""
    found: list[Array | None] = []
    for a, numbers in enumerate(operands[0]):
        grows = paddings[2 * a] or paddings[2 * a + 1]
        if grows:
            units.fix(numbers, "the axis is padded")
        found.append(None if grows else numbers)
    return [tuple(found)]


def taken(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, axis: int, **attrs: Any
) -> list[Axes]:
    """Of a look-up: what data choose must stay."""
    table, places = operands
    axis %= len(table)
    units.fix(table[axis], "data choose among them")
    return [(*table[:axis], *places, *table[axis + 1 :])]


def reshaped(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, *, shape: Any
) -> list[Axes]:
    """Of a reshape: axes that are joined or cut stay units by their first labelled axis."""
    x, old, new = operands[0], list(inputs[0].shape), list(outputs[0].shape)
    found: list[Array | None] = [None] * len(new)
    for left, right in _parts(old, new):
        left = [a for a in left if old[a] != 1]
        right = [a for a in right if new[a] != 1]
        labelled = [a for a in left if x[a] is not None]
        if not labelled:
            continue
        for other in labelled[1:]:
            units.fix(x[other], "an axis inside of what is reshaped")
        if len(right) == 1:
            sizes = [int(old[a]) for a in left]
            place = left.index(labelled[0])
            lead = [1] * place + [sizes[place]] + [1] * (len(sizes) - place - 1)
            wide = np.broadcast_to(np.reshape(x[labelled[0]], lead), sizes)  # type: ignore[arg-type]
            found[right[0]] = wide.reshape(-1)
        elif len(left) == 1:
            numbers = x[left[0]]
            assert numbers is not None  # noqa: S101
            rows = numbers.reshape(int(new[right[0]]), -1)
            units.join(rows, np.broadcast_to(rows[:, :1], rows.shape), "")
            found[right[0]] = rows[:, 0]
        else:
            units.fix(x[labelled[0]], "a reshape mixes it with other axes")
    return [tuple(found)]


def _parts(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
    """Pairs of axes before and after that hold the same elements, as few as there can be."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        a, b = old[i] if left else 1, new[j] if right else 1
        i, j = i + bool(left), j + bool(right)
        while a != b:
            if (a < b and i < len(old)) or j == len(new):
                a, left, i = a * old[i], [*left, i], i + 1
            else:
                b, right, j = b * new[j], [*right, j], j + 1
        found.append((left, right))
    return found


def attended(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, **attrs: Any
) -> list[Axes]:
    """Of attention: whole heads; a head of keys and values goes with the queries that read it."""
    q, k, v = operands[:3]
    for axes in (q, k, v):
        for place in (0, 1, 3):
            units.fix(axes[place], "rows, positions and the width of a head must stay")
    heads = q[2]
    repeats = inputs[0].shape[2] // inputs[1].shape[2]
    for axes in (k, v):
        spread = None if axes[2] is None else np.repeat(axes[2], repeats)
        units.join(heads, spread, _GIVEN)
    units.fix_all(operands[3:], "it decides who attends to whom")
    return [(None, None, heads, None)] * len(outputs)


def stepped(
    units: Units, operands: Operands, inputs: Specs, outputs: Specs, **attrs: Any
) -> list[Axes]:
    """Of recurrent layers: unit j is column j of every gate and row j of the recurrent kernel."""
    gates, recurrent = operands[:2]
    count = inputs[1].shape[0]
    own = recurrent[0] if recurrent[0] is not None else np.full(count, FIXED)
    wide = np.tile(own, inputs[1].shape[1] // count)
    units.join(wide, recurrent[1], _GIVEN)
    units.join(wide, gates[-1], _GIVEN)
    for axes, spec in zip(operands[2:], inputs[2:], strict=True):
        if spec.shape[-1] == count and spec.is_float:
            units.join(own, axes[-1], "the state has a given length")
        else:
            units.fix_all([axes], "it decides which steps count")
    return [(*(None,) * (spec.rank - 1), own) for spec in outputs]
