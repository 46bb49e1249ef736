"""Which axes of a program's inputs are symbols, and which are traced with their sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from handmill.ir.dims import BATCH, symbol
from handmill.ir.op import Array
from handmill.ir.shapes import Spec, name_of_dtype

Place: TypeAlias = "tuple[int, int]"
"""The number of an input, and of its axis."""


class _Seen:
    """What was called with inputs of certain ranks and dtypes."""

    def __init__(self, symbolic: Iterable[Place]) -> None:
        self.symbolic = set(symbolic)
        self.refused: set[Place] = set()
        self.shapes: list[tuple[int, ...]] | None = None  # of the last call


class SymbolicAxes:
    """Decides, from the shapes that a function is called with, which axes a trace leaves open.

    Axis 0 is the batch; axes that the model declared (``None`` in an Input) are open from the
    start. Another axis is traced with its size at first: when a second size is seen, it becomes a
    symbol, so that not every length needs a trace. Where a trace refuses a symbol, its axis stays
    fixed.

    Args:
        batched: whether axis 0 of every input of rank 1 and more is the batch, and axes may become
            symbols at all.
        declared: gives the axes that are open for inputs of these shapes.
    """

    def __init__(
        self,
        batched: bool,
        declared: Callable[[Sequence[tuple[int, ...]]], Iterable[Place]] | None = None,
    ) -> None:
        self._batched = batched
        self._declared = declared
        self._seen: dict[Any, _Seen] = {}

    def specs_of(self, arrays: Sequence[Array]) -> tuple[Spec, ...]:
        """The specs under which ``arrays`` are traced."""
        shapes = [tuple(a.shape) for a in arrays]
        dtypes = [name_of_dtype(a.dtype) for a in arrays]
        if not self._batched:
            return tuple(map(Spec, shapes, dtypes))
        seen = self._seen_with(shapes, dtypes)
        if seen.shapes is not None and seen.shapes != shapes:
            seen.symbolic |= _differing(seen.shapes, shapes) - seen.refused
        seen.shapes = shapes
        return _specs(tuple(shapes), tuple(dtypes), frozenset(seen.symbolic))

    def fixed(self, arrays: Sequence[Array], batch: bool) -> tuple[Spec, ...]:
        """The specs of ``arrays`` with every size fixed but that of the batch, or that too."""
        return tuple(
            Spec(
                (BATCH, *a.shape[1:]) if batch and self._batched and a.ndim else tuple(a.shape),
                name_of_dtype(a.dtype),
            )
            for a in arrays
        )

    def refuse(self, arrays: Sequence[Array], specs: Sequence[Spec]) -> None:
        """Keeps the axes fixed that ``specs`` leave open, but for the batch."""
        shapes = [tuple(a.shape) for a in arrays]
        seen = self._seen_with(shapes, [name_of_dtype(a.dtype) for a in arrays])
        seen.refused |= {
            (i, axis)
            for i, spec in enumerate(specs)
            for axis, dim in enumerate(spec.shape)
            if axis and not isinstance(dim, int)
        }
        seen.symbolic -= seen.refused

    def _seen_with(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> _Seen:
        key = tuple((len(shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
        seen = self._seen.get(key)
        if seen is None:
            declared = self._declared(shapes) if self._declared is not None else ()
            seen = self._seen[key] = _Seen(declared)
        return seen


@functools.lru_cache(1024)  # models of one structure ask for the same
def _specs(
    shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...], symbolic: frozenset[Place]
) -> tuple[Spec, ...]:
    return tuple(
        Spec(_open(i, shape, symbolic), dtype)
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    )


def _open(number: int, shape: tuple[int, ...], symbolic: frozenset[Place]) -> tuple[Any, ...]:
    return tuple(
        BATCH
        if axis == 0
        else symbol(f"input_{number}[{axis}]")
        if (number, axis) in symbolic
        else size
        for axis, size in enumerate(shape)
    )


def _differing(before: list[tuple[int, ...]], now: list[tuple[int, ...]]) -> set[Place]:
    return {
        (i, axis)
        for i, (a, b) in enumerate(zip(before, now, strict=True))
        for axis in range(1, len(a))
        if a[axis] != b[axis]
    }
